"""Heat maps from a weight for every channel: the one function behind RI and the CAMs."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from qpm_nn.metrics.checks import check_finite
from qpm_opt import InvalidInputError


def channel_map(weights: Tensor, maps: Tensor, size: tuple[int, int]) -> NDArray[np.float64]:
    """Heat maps in [0, 1]: ReLU of the weighted sum of the channels, normalised, then resized.

    From each map its smallest value is taken out, and its largest is made 1; a constant one is 0.
    The scale of the weights plays no part, then.

    Parameters
    ----------
    weights : Tensor of shape (n_channels,), or (n_images, n_channels)
        The same for all images, or one set for each.
    maps : Tensor of shape (n_images, n_channels, h, w)
    size : tuple of int
        Height and width of the heat maps.

    Returns
    -------
    ndarray of shape (n_images, *size)

    Raises
    ------
    InvalidInputError
        If the weights are of other channels, or something is not finite.

    References
    ----------
    Selvaraju et al., Grad-CAM, ICCV 2017, eq. 2.
    """
    if maps.ndim != 4 or weights.shape not in (maps.shape[1:2], maps.shape[:2]):
        raise InvalidInputError(
            f"weights has shape {tuple(weights.shape)} and maps {tuple(maps.shape)}; a weight for "
            "each channel of maps (n_images, n_channels, h, w) was expected."
        )
    check_finite("weights", weights)
    check_finite("maps", maps)
    raw = (weights.double().expand(maps.shape[:2])[:, :, None, None] * maps.double()).sum(1)
    return resized(normalised(raw.relu()), size).cpu().numpy()


def normalised(maps: Tensor) -> Tensor:
    """Maps (..., h, w) from 0 to 1, each by itself; a constant one is 0."""
    shifted = maps - maps.amin((-2, -1), keepdim=True)
    largest = shifted.amax((-2, -1), keepdim=True)
    return torch.where(largest > 0, shifted / largest.where(largest > 0, 1), 0)


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (n, h, w), resized bilinearly, the centres of the corners not aligned."""
    return functional.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[
        :, 0
    ]
