"""Whether a saliency map finds the pixels that a feature needs: insertion and deletion curves.

References
----------
Petsiuk, Das, Saenko, RISE: Randomized Input Sampling for Explanation of Black-box Models (BMVC
2018), section 4.2, with a feature in the place of the probability of a class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from qpm_nn.data import ImageSet, Preprocessing
from qpm_nn.explanations.baselines import baseline_images
from qpm_nn.explanations.saliency import (
    METHODS,
    feature_position,
    feature_saliency,
    network_inputs,
)
from qpm_nn.extraction import BATCH_SIZE
from qpm_nn.heads import Classifier
from qpm_nn.metrics.checks import check_finite
from qpm_opt import InvalidInputError
from qpm_opt.errors import unknown_name

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class FeatureCurves:
    """A feature's value as pixels come or go, the mean over images in which it is active.

    Attributes
    ----------
    feature : int
        Counted as in the backbone.
    saliency : str
        Method that ordered the pixels, or ``given``.
    baseline : str
        What the other pixels show, or ``given``.
    n_images : int
        Images in all.
    n_active : int
        Of these, those in which the feature is active; only they count.
    shares : tuple of float
        Parts of the pixels that were inserted or deleted, from 0 to 1.
    insertion, deletion : tuple of float or None
        Mean of the map as a part of that of the full image, for each share; None if the feature is
        active in no image. Insertion ends at 1, where deletion begins.
    """

    feature: int
    saliency: str
    baseline: str
    n_images: int
    n_active: int
    shares: tuple[float, ...]
    insertion: tuple[float, ...] | None
    deletion: tuple[float, ...] | None

    @property
    def insertion_area(self) -> float | None:
        """Area under the insertion curve, by trapezoids; the larger, the better the map."""
        return self._area(self.insertion)

    @property
    def deletion_area(self) -> float | None:
        """Area under the deletion curve, by trapezoids; the smaller, the better the map."""
        return self._area(self.deletion)

    def _area(self, curve: tuple[float, ...] | None) -> float | None:
        return None if curve is None else float(np.trapezoid(curve, self.shares))

    def to_dict(self) -> dict[str, Any]:
        """All of it, areas included, for JSON."""
        return {
            **asdict(self),
            "insertion_area": self.insertion_area,
            "deletion_area": self.deletion_area,
        }


def insertion_deletion(
    classifier: Classifier,
    images: Tensor | ImageSet,
    feature: int,
    saliency: str | ArrayLike = "map",
    *,
    baseline: str | Tensor = "mean",
    n_steps: int = 50,
    preprocessing: Preprocessing | None = None,
    device: torch.device | str = "cpu",
    **options: Any,
) -> FeatureCurves:
    """Insertion and deletion curves of a feature, over images in a stream.

    Pixels are inserted into the baseline, or deleted from the image (put back to the baseline),
    the most salient first, in ``n_steps`` equal shares; of equally salient pixels the first in
    reading order comes first. If there are fewer pixels than steps, one at a time.

    The curves are parts of the value in the full image, so that those of images can be averaged.
    The value is the mean of the feature's map: the head's feature less a constant and over another,
    but, unlike that, with a 0 to compare with. Images in which the feature is not active, that is,
    the head's feature is not above 0 (its mean, if the head normalises), do not count.

    Parameters
    ----------
    classifier : Classifier
    images : Tensor of shape (n_images, channels, height, width), or ImageSet
        A tensor is normalised already; an image set needs ``preprocessing``.
    feature : int
        Counted as in the backbone, and one that the head selects.
    saliency : str or array of shape (n_images, height, width)
        A method of :func:`feature_saliency`, or maps, such as random ones to compare with.
    baseline : {"mean", "black", "blurred"} or Tensor of shape (channels, height, width)
        See :func:`baseline_images`; also that of Integrated Gradients.
    n_steps : int
    preprocessing : Preprocessing, optional
    device : torch.device or str
    **options
        Others of :func:`feature_saliency`, for the method: ``layer``, ``n_points``.

    Raises
    ------
    InvalidInputError
        If maps have another shape, are not finite or come with options, ``n_steps`` is not
        positive, or :func:`feature_saliency` refuses its part.
    """
    if n_steps < 1:
        raise InvalidInputError(f"n_steps is {n_steps}; at least 1 was expected.")
    if isinstance(saliency, str) and saliency not in METHODS:
        raise unknown_name("method", saliency, METHODS)
    j = feature_position(classifier.head, feature)
    classifier = classifier.to(device).eval()
    given = None if isinstance(saliency, str) else _given_maps(saliency, len(images))
    if given is not None and options:
        raise InvalidInputError(
            f"{', '.join(options)} cannot be had: the saliency is given; leave it out, or name a "
            "method."
        )
    options |= {"baseline": baseline, "preprocessing": preprocessing, "device": device}
    seen = n_active = 0
    shares = np.zeros(0)
    total: FloatArray | None = None
    for batch in network_inputs(images, preprocessing, device):
        place = slice(seen, seen + len(batch))
        seen += len(batch)
        n_pixels = batch[0, 0].numel()
        counts = _counts(n_pixels, n_steps)
        shares = counts / n_pixels
        if given is not None and given.shape[1:] != batch.shape[2:]:
            raise InvalidInputError(
                f"saliency has shape {given.shape}; {(len(images), *batch.shape[2:])} was expected."
            )
        full, active = _full_values(classifier, batch, j)
        if not active.any():
            continue
        chosen = batch[active]
        maps = (
            feature_saliency(classifier, chosen, feature, str(saliency), **options)
            if given is None
            else given[place][active.cpu().numpy()]
        )
        start = baseline_images(chosen, baseline, preprocessing)
        rank = _ranks(maps).to(device)
        curves = [
            _curves(classifier, j, rank, counts, *ends) / full[active.cpu().numpy(), None]
            for ends in ((chosen, start), (start, chosen))
        ]
        total = (0 if total is None else total) + np.stack([part.sum(0) for part in curves])
        n_active += len(chosen)
    means = (None, None) if total is None else tuple(map(tuple, (total / n_active).tolist()))
    return FeatureCurves(
        int(feature),
        saliency if isinstance(saliency, str) else "given",
        baseline if isinstance(baseline, str) else "given",
        seen,
        n_active,
        tuple(shares.tolist()),
        *means,
    )


def _given_maps(saliency: ArrayLike, n_images: int) -> FloatArray:
    maps = np.asarray(saliency, np.float64)
    if maps.ndim != 3 or len(maps) != n_images:
        raise InvalidInputError(
            f"saliency has shape {maps.shape}; ({n_images}, height, width) was expected."
        )
    if not np.isfinite(maps).all():
        raise InvalidInputError("saliency holds NaN or infinite values; finite ones were expected.")
    return maps


def _counts(n_pixels: int, n_steps: int) -> NDArray[np.int64]:
    """Pixels after each step, from 0 to all."""
    n_steps = min(n_steps, n_pixels)
    return np.arange(n_steps + 1) * n_pixels // n_steps


def _ranks(maps: NDArray[np.floating]) -> Tensor:
    """Place of each pixel (n_images, height, width) in the order of its map."""
    order = np.argsort(-maps.reshape(len(maps), -1), axis=1, kind="stable")
    # The inverse of a permutation is its sorting order.
    return torch.from_numpy(np.argsort(order, axis=1).reshape(maps.shape))


@torch.no_grad()
def _full_values(classifier: Classifier, images: Tensor, j: int) -> tuple[FloatArray, Tensor]:
    """Mean of a feature's map, and whether the feature is active, (n_images,)."""
    activations = classifier.activations(images)
    value = activations.maps[:, j].double().mean((1, 2))
    check_finite("The feature", value)
    return value.cpu().numpy(), (activations.features[:, j] > 0) & (value > 0)


@torch.no_grad()
def _curves(
    classifier: Classifier,
    j: int,
    rank: Tensor,
    counts: NDArray[np.int64],
    first: Tensor,
    rest: Tensor,
) -> FloatArray:
    """Mean of the feature's map, (n_images, n_steps + 1).

    The first pixels are taken from one image, the others from another.
    """
    values = [
        classifier.activations(mixed).maps[:, j].double().mean((1, 2))
        for mixed in _mixtures(rank, torch.from_numpy(counts).to(rank.device), first, rest)
    ]
    found = torch.cat(values)
    check_finite("The feature", found)
    return found.cpu().numpy().reshape(len(rank), len(counts))


def _mixtures(rank: Tensor, counts: Tensor, first: Tensor, rest: Tensor) -> Iterator[Tensor]:
    """All steps of the first image, then those of the next, in batches."""
    steps = torch.arange(len(rank) * len(counts), device=rank.device)
    for part in steps.split(BATCH_SIZE):
        image, step = part // len(counts), part % len(counts)
        is_first = rank[image] < counts[step, None, None]
        yield torch.where(is_first[:, None], first[image], rest[image])
