"""Images without content, from which saliency and insertion start and at which deletion ends.

References
----------
Petsiuk, Das, Saenko, RISE (BMVC 2018), section 4.2, for blurred and uniform images. Fong, Vedaldi,
Interpretable Explanations of Black Boxes by Meaningful Perturbation (ICCV 2017), for the blur.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qpm_nn.data import Preprocessing
from qpm_opt import InvalidInputError
from qpm_opt.errors import unknown_name

#: The mean colour of the training images, black, or the image itself, blurred.
BASELINES = ("mean", "black", "blurred")
#: Standard deviation of the blur as a part of the longer side, and at least a pixel: 10 pixels of
#: 224, as published.
BLUR = 10 / 224


def baseline_images(
    images: Tensor, baseline: str | Tensor, preprocessing: Preprocessing | None = None
) -> Tensor:
    """Baselines of the network's input, of its shape (n_images, channels, height, width).

    Parameters
    ----------
    images : Tensor of shape (n_images, channels, height, width)
        Normalised.
    baseline : {"mean", "black", "blurred"} or Tensor of shape (channels, height, width)
        ``mean`` is 0, which is the mean colour of the training images; a tensor is a normalised
        image, for all images.
    preprocessing : Preprocessing, optional
        Needed for ``black``.

    Raises
    ------
    InvalidInputError
        If there is no such baseline, or ``preprocessing`` is missing.
    """
    if isinstance(baseline, Tensor):
        if baseline.shape != images.shape[1:] or not torch.isfinite(baseline).all():
            raise InvalidInputError(
                f"baseline has shape {tuple(baseline.shape)}; a finite image of shape "
                f"{tuple(images.shape[1:])} was expected."
            )
        return baseline.to(images).expand_as(images)
    if baseline not in BASELINES:
        raise unknown_name("baseline", baseline, BASELINES)
    if baseline == "blurred":
        return _blurred(images)
    empty = torch.zeros_like(images)
    if baseline == "mean":
        return empty
    if preprocessing is None:
        raise InvalidInputError(
            "The baseline black needs to know how images were normalised; give preprocessing."
        )
    return preprocessing.normalise(empty)


def _blurred(images: Tensor) -> Tensor:
    """Images after a Gaussian blur whose weights, at the edges too, add up to 1."""
    height, width = images.shape[2:]
    deviation = max(1.0, BLUR * max(height, width))
    rows, columns = (_weights(n, deviation).to(images) for n in (height, width))
    return rows @ images @ columns.T


def _weights(n: int, deviation: float) -> Tensor:
    """Weight (n, n) that each place (row) gives each other one (column)."""
    place = torch.arange(n, dtype=torch.float64)
    weights = torch.exp(-((place[:, None] - place) ** 2) / (2 * deviation**2))
    return weights / weights.sum(1, keepdim=True)
