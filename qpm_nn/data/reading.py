"""Image files, of whatever kind, to pixels of one size."""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qpm_opt import InvalidInputError
from qpm_opt.errors import unknown_name

if TYPE_CHECKING:
    from PIL import Image

RESIZES = ("fill", "squash")
#: Left, upper, right and lower edge in pixels of the file, the last two exclusive.
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Framing:
    """Which part of a photograph a network sees, and how it becomes a square.

    Attributes
    ----------
    resize : {"fill", "squash"}
        Fill: the shorter side is resized, the longer one cropped to its centre. Squash: both sides
        are resized, whatever the aspect ratio.
    crop : bool
        Whether only the box around the object is taken.
    trim_bottom : int
        Rows at the bottom that are cut off first (a banner), in pixels of the file.
    invert : bool
        Whether dark becomes bright: drawings of dark ink.
    """

    resize: str = "fill"
    crop: bool = False
    trim_bottom: int = 0
    # Not in the repr, of which the hashes of older runs on files are made.
    invert: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        if self.resize not in RESIZES:
            raise unknown_name("way to resize", self.resize, RESIZES)


def read_image(
    path: str | os.PathLike[str],
    shape: tuple[int, int, int],
    framing: Framing = Framing(),
    box: Box | None = None,
    *,
    is_mask: bool = False,
) -> NDArray[np.uint8]:
    """An image file as pixels: upright, 8 bits, RGB or grey.

    Parameters
    ----------
    path : path
    shape : tuple of int
        Channels (3: RGB, 1: grey), height and width of the result.
    framing : Framing
    box : tuple of float, optional
        For ``framing.crop``; what sticks out of the image is ignored.
    is_mask : bool
        Whether only which pixels are 0 counts: the result is the share of the others, of 255.

    Returns
    -------
    ndarray of shape ``shape``, uint8

    Raises
    ------
    InvalidInputError
        If the file is missing or damaged, its pixels have no fixed range, other channels are asked
        for, or the box is missing or outside the image; the message names the file.
    """
    from PIL import Image, ImageOps

    channels, height, width = shape
    if channels not in (1, 3):
        raise InvalidInputError(
            f"{path} is asked for with {channels} channels; image files are read with 1 (grey) or "
            "3 (RGB)."
        )
    try:
        with Image.open(path) as image:
            region = _region(image.size, framing, box)
            # Boxes count the pixels of the file, which Exif may say are lying on their side.
            part = image if region == (0, 0, *image.size) else image.crop(region)
            upright = as_rgb(ImageOps.exif_transpose(part), "black" if is_mask else "white")
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        IndexError,
        struct.error,
        Image.DecompressionBombError,
    ) as failure:
        raise InvalidInputError(f"{path} cannot be read as an image: {failure}") from None
    kernel = Image.Resampling.LANCZOS
    if is_mask:
        upright = upright.convert("L").point(lambda value: 255 if value else 0)
        kernel = Image.Resampling.BOX
    if framing.resize == "fill":
        fitted = ImageOps.fit(upright, (width, height), kernel)
    else:
        fitted = upright.resize((width, height), kernel)
    if channels == 1:
        pixels = np.asarray(fitted.convert("L"))[None]
    else:
        pixels = np.asarray(fitted).transpose(2, 0, 1)
    return 255 - pixels if framing.invert else pixels


def _region(size: tuple[int, int], framing: Framing, box: Box | None) -> tuple[int, int, int, int]:
    """The pixels to keep: left, upper, right, lower."""
    right, lower = size[0], size[1] - framing.trim_bottom
    left = upper = 0
    if framing.crop:
        if box is None:
            raise ValueError("it has no bounding box to crop to")
        if not all(map(math.isfinite, box)):
            raise ValueError(f"its box {box} is not finite")
        left, upper = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
        right, lower = min(right, math.ceil(box[2])), min(lower, math.ceil(box[3]))
    if left >= right or upper >= lower:
        what = f"its box {box} is outside" if framing.crop else "nothing is left of"
        raise ValueError(f"{what} the {size[0]} x {size[1]} pixels")
    return left, upper, right, lower


def as_rgb(image: Image.Image, background: str) -> Image.Image:
    """Image in 8-bit RGB: 16 bits scaled down, what is transparent before a background.

    Raises
    ------
    ValueError
        If the range of the values is not known (32 bits, floating point).
    """
    from PIL import Image

    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no fixed range; save it with 8 bits")
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        behind = Image.new("RGBA", opaque.size, background)
        return Image.alpha_composite(behind, opaque).convert("RGB")
    return image.convert("RGB")
