"""Pictures of a report: small photographs, and feature maps as intensities."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from qpm_nn.explanations import certainty
from qpm_nn.explanations.maps import as_picture, as_shown

FloatArray = NDArray[np.floating]

#: Photographs up to this size are kept as they are, without loss.
LOSSLESS = 64
#: Sides of photographs, the first that fits into the report; with the bytes that one takes.
THUMBNAILS = {160: 7000, 128: 4800, 96: 3000, 64: 1700}
#: Sides of feature maps, the first that fits.
MAP_SIDES = (14, 10, 7, 5)
#: What both may take in the file, which codes three bytes as four characters.
MAX_THUMBNAIL_BYTES, MAX_MAP_BYTES = 6_500_000, 4_500_000
QUALITY = 82


@dataclass(frozen=True)
class Sizes:
    """How large pictures are.

    Attributes
    ----------
    thumbnail : int
        Longer side in pixels.
    map_shape : tuple of int
        Height and width.
    """

    thumbnail: int
    map_shape: tuple[int, int]

    @classmethod
    def fitting(
        cls,
        image_shape: tuple[int, int, int],
        map_shape: tuple[int, int],
        n_images: int,
        n_maps: int,
    ) -> Sizes:
        """The largest sizes with which so many pictures fit into a report."""
        side = max(image_shape[1:])
        allowed = [s for s, size in THUMBNAILS.items() if n_images * size <= MAX_THUMBNAIL_BYTES]
        thumbnail = min(side, max(allowed, default=min(THUMBNAILS)))
        height, width = map_shape
        for most in MAP_SIDES:
            shape = min(height, most), min(width, most)
            if n_maps * shape[0] * shape[1] <= MAX_MAP_BYTES:
                break
        return cls(thumbnail, shape)


def thumbnail(image: Tensor, side: int) -> str:
    """A photograph (channels, height, width), uint8, as a data URI.

    Bright ink on a dark ground becomes dark ink on paper, as in all figures.
    """
    pixels = as_shown(as_picture(image) / 255)
    picture = Image.fromarray(np.round(255 * pixels).astype(np.uint8))
    stream = io.BytesIO()
    if max(picture.size) <= LOSSLESS:
        picture.save(stream, "PNG", optimize=True)
        kind = "png"
    else:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        picture.save(stream, "WEBP", quality=QUALITY)
        kind = "webp"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def intensities(
    maps: Tensor, features: ArrayLike, means: ArrayLike, shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """Maps as bytes: each from 0 to what its feature is certain, 255 for fully.

    Parameters
    ----------
    maps : Tensor of shape (n_maps, height, width)
    features : array of shape (n_maps,)
        Normalised features.
    means : array of shape (n_maps,)
        Of :func:`~qpm_nn.explanations.active_means`.
    shape : tuple of int
        Height and width to come to; larger maps are averaged.

    Returns
    -------
    ndarray of shape (n_maps, height, width)
    """
    small = torch.nn.functional.adaptive_avg_pool2d(maps[None].double(), shape)[0].numpy()
    low = small.min(axis=(1, 2), keepdims=True)
    span = np.ptp(small, axis=(1, 2), keepdims=True)
    scaled = np.divide(small - low, span, out=np.zeros_like(small), where=span > 0)
    return np.round(255 * certainty(features, means)[:, None, None] * scaled).astype(np.uint8)


def encoded(values: NDArray[np.uint8]) -> str:
    """Bytes as text."""
    return base64.b64encode(values.tobytes()).decode("ascii")
