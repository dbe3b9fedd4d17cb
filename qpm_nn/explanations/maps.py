"""Feature maps over images, as all figures draw them."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from qpm_nn.explanations.canvas import Canvas

FloatArray = NDArray[np.floating]

#: A contour marks, also in grey, where a map exceeds this part of full intensity.
CONTOUR = 0.5
#: Side of an up-sampled map in pixels.
MAP_SIZE = 200
#: Side of a picture in inches.
CELL = 1.5
LUMINANCE = np.array([0.299, 0.587, 0.114])


def bare_axes(canvas: Canvas, x: float, y: float) -> Axes:
    """Axes for a picture, its lower left corner at a point; without ticks."""
    axes = canvas.axes(x, y, CELL, CELL)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(color="#c8ccd2", linewidth=0.8)
    return axes


def as_picture(image: Tensor) -> FloatArray:
    """An image (channels, height, width) as people see it: (height, width), or with 3 for colours.

    Other channels than one or three have no colours; their mean is grey.
    """
    if len(image) not in (1, 3):
        image = image.float().mean(0, keepdim=True)
    return image.permute(1, 2, 0).squeeze(2).cpu().numpy()


def as_shown(image: FloatArray) -> FloatArray:
    """Bright ink on a dark ground becomes dark ink on paper, on which colours stand out."""
    is_bright_ink = image.ndim == 2 and np.median(image) < 0.5
    return 1 - image if is_bright_ink else image


def smooth(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (n_maps, height, width) up-sampled to a size; overshoots a little beside steep edges."""
    return functional.interpolate(maps[:, None], size=size, mode="bicubic", align_corners=False)[
        :, 0
    ]


def up_sampled(feature_map: FloatArray) -> FloatArray:
    """A map (height, width), smoothly up-sampled to a square and cut off below 0 and above 1."""
    square = smooth(torch.from_numpy(feature_map)[None], (MAP_SIZE, MAP_SIZE))[0].numpy()
    return np.clip(square, 0, 1)


def draw_faded(axes: Axes, image: FloatArray, ink: float = 0.5) -> None:
    """An image (height, width[, 3]) in [0, 1] in light grey, for colours to stand out on.

    ``ink`` is how dark its black is, from 0 to 1.
    """
    grey = as_shown(image) if image.ndim == 2 else image @ LUMINANCE
    axes.imshow(1 - ink + ink * grey, cmap="gray", vmin=0, vmax=1)


def fade(colour: str) -> LinearSegmentedColormap:
    """Colour map from nothing to nearly opaque."""
    return LinearSegmentedColormap.from_list("fade", [colour + "00", colour + "f2"])


def draw_map(axes: Axes, image: FloatArray, heat: FloatArray, colour: str) -> None:
    """An up-sampled map with values in [0, 1] over the faded grey image."""
    height, width = image.shape[:2]
    draw_faded(axes, image)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(heat, cmap=fade(colour), vmin=0, vmax=1, extent=extent)
    if heat.max() > CONTOUR:
        centres = (np.arange(MAP_SIZE) + 0.5) / MAP_SIZE
        axes.contour(
            centres * width - 0.5,
            centres * height - 0.5,
            heat,
            levels=[CONTOUR],
            colors="black",
            linewidths=1,
        )
