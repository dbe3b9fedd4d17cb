"""How well interpretations serve unseen images: agreement, Average Drop, Average Increase.

References
----------
Lam et al., Finding representative interpretations on convolutional neural networks, ICCV 2021,
section 6, eqs. 7 and 8; the measures are those of Chattopadhyay et al., Grad-CAM++, WACV 2018. What
the article leaves open is fixed here: a prediction score is the probability of the class that is
predicted for the whole image, and black is 0 before normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from qpm_nn.explanations.representative.channels import channel_map
from qpm_nn.explanations.representative.images import BATCH_SIZE, MappedImages
from qpm_nn.explanations.representative.inputs import Served
from qpm_nn.explanations.representative.interpretation import Interpretation
from qpm_opt import InvalidInputError

FloatArray = NDArray[np.float64]

#: Part of the pixels that is kept.
SHARE = 0.2


@dataclass(frozen=True)
class Agreement:
    """What the region of an interpretation holds of unseen images.

    Attributes
    ----------
    n_covered : int
        Images in the region.
    n_agreeing : int
        Those of them that are predicted as the region's class.
    n_class : int
        Images predicted as that class, in the region or not.
    """

    n_covered: int
    n_agreeing: int
    n_class: int

    def to_dict(self) -> dict[str, int]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class HeatMapScores:
    """Average Drop (low is good) and Average Increase (high is good), both from 0 to 1."""

    average_drop: float
    average_increase: float

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def agreement(interpretation: Interpretation, unseen: MappedImages) -> Agreement:
    """Coverage and agreement of an interpretation on images that did not shape it."""
    inside = np.concatenate([interpretation.contains(maps) for maps in unseen.batches()])
    is_own = unseen.predicted == interpretation.c
    return Agreement(int(inside.sum()), int((inside & is_own).sum()), int(is_own.sum()))


def most_important(heat: ArrayLike, rng: np.random.Generator, share: float = SHARE) -> NDArray[Any]:
    """Masks of the pixels with the largest values, the same number in each heat map.

    Ties, which are many where rectified maps are 0, are broken at random: reading order would keep
    the upper edge of the image.

    Parameters
    ----------
    heat : array of shape (n_images, height, width)
    rng : numpy.random.Generator
    share : float
        Part of the pixels to keep, in (0, 1].

    Returns
    -------
    ndarray of shape (n_images, height, width), bool

    Raises
    ------
    InvalidInputError
        If the shape is another one, a value is NaN, or the share keeps nothing.
    """
    heat = np.asarray(heat, np.float64)
    if heat.ndim != 3:
        raise InvalidInputError(
            f"heat has shape {heat.shape}; (n_images, height, width) was expected."
        )
    n_images, height, width = heat.shape
    n_kept = round(share * height * width) if 0 < share <= 1 else 0
    if not n_kept:
        raise InvalidInputError(
            f"share is {share} of {height * width} pixels; a part that keeps one or more was "
            "expected."
        )
    if np.isnan(heat).any():
        raise InvalidInputError("heat holds NaN; finite numbers were expected.")
    flat = heat.reshape(n_images, -1)
    order = np.lexsort((rng.random(flat.shape), -flat), axis=1)
    mask = np.zeros(flat.shape, bool)
    np.put_along_axis(mask, order[:, :n_kept], True, axis=1)
    return mask.reshape(heat.shape)


def average_drop(before: ArrayLike, after: ArrayLike) -> float:
    """Mean of max(0, Y(e) - Y(e')) / Y(e) for positive scores of images and masked images (eq. 7).

    Raises
    ------
    InvalidInputError
        If there are no scores, or those before are not positive, or some are not finite.
    """
    before, after = _paired(before, after)
    return float(np.mean(np.maximum(0, before - after) / before))


def average_increase(before: ArrayLike, after: ArrayLike) -> float:
    """Part of the images whose masked image has the higher score (eq. 8)."""
    before, after = _paired(before, after)
    return float(np.mean(before < after))


def _paired(before: ArrayLike, after: ArrayLike) -> tuple[FloatArray, FloatArray]:
    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    are_pairs = first.shape == second.shape and first.ndim == 1 and first.size
    if not are_pairs or not (first > 0).all() or not np.isfinite([first, second]).all():
        raise InvalidInputError(
            f"The scores have shapes {first.shape} and {second.shape}; one or more finite pairs "
            "with positive scores before masking were expected."
        )
    return first, second


@torch.no_grad()
def score_heat_maps(
    images: MappedImages, heat: FloatArray, rng: np.random.Generator, share: float = SHARE
) -> HeatMapScores:
    """Average Drop and Increase when only the most important pixels are kept, the rest black.

    Parameters
    ----------
    images : MappedImages
    heat : ndarray of shape (n_images, height, width)
        Of the images' size.
    rng : numpy.random.Generator
        For ties.
    share : float

    Raises
    ------
    InvalidInputError
        If the heat maps are not those of the images.
    """
    expected = (len(images), *image_size(images))
    if np.shape(heat) != expected:
        raise InvalidInputError(f"heat has shape {np.shape(heat)}; {expected} was expected.")
    masks = torch.from_numpy(most_important(heat, rng, share)).to(images.device)
    classes = images.predicted
    before = _probabilities(torch.from_numpy(images.scores), classes)
    after = []
    for start in range(0, len(images), BATCH_SIZE):
        part = range(start, min(start + BATCH_SIZE, len(images)))
        masked = images.pixels(part) * masks[start : part.stop, None]
        scores = images.split.scores(images.split.maps(images.normalise(masked)))
        after.append(_probabilities(scores.cpu(), classes[start : part.stop]))
    together = np.concatenate(after)
    return HeatMapScores(average_drop(before, together), average_increase(before, together))


def _probabilities(scores: Tensor, classes: NDArray[np.intp]) -> FloatArray:
    return scores.softmax(1).numpy()[np.arange(len(classes)), classes]


def served_heat_maps(
    interpretations: Sequence[Interpretation], served: Served, unseen: MappedImages
) -> FloatArray:
    """Heat maps of unseen images, each by the interpretation that serves it, (n, height, width)."""
    size = image_size(unseen)
    heat = np.zeros((len(unseen), *size))
    for which in np.unique(served.interpretation):
        rows = np.flatnonzero(served.interpretation == which)
        heat[rows] = interpretations[which].heat_maps(unseen.maps(rows), size)
    return heat


def reused_heat_maps(
    weights: Tensor, nearest: NDArray[np.intp], unseen: MappedImages
) -> FloatArray:
    """Heat maps of unseen images by the channel weights of the nearest input, (n, height, width).

    Parameters
    ----------
    weights : Tensor of shape (n_inputs, n_channels)
    nearest : array of shape (n_images,), int
        Input whose weights to take.
    unseen : MappedImages

    Raises
    ------
    InvalidInputError
        If there is not one input for every image, or no such input.
    """
    if nearest.shape != (len(unseen),) or not 0 <= nearest.min() <= nearest.max() < len(weights):
        raise InvalidInputError(
            f"nearest has shape {nearest.shape} and goes up to {nearest.max(initial=-1)}; one of "
            f"{len(weights)} inputs for each of {len(unseen)} images was expected."
        )
    size = image_size(unseen)
    chosen = weights[torch.from_numpy(nearest).to(weights.device)]
    parts, start = [], 0
    for maps in unseen.batches():
        parts.append(channel_map(chosen[start : start + len(maps)], maps, size))
        start += len(maps)
    return np.concatenate(parts)


def image_size(images: MappedImages) -> tuple[int, int]:
    """Height and width of the images."""
    height, width = images.pixels([0]).shape[2:]
    return height, width
