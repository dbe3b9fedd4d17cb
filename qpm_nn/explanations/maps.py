"""Feature maps over images, as all figures draw them."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray
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


def as_shown(image: FloatArray) -> FloatArray:
    """Bright ink on a dark ground becomes dark ink on paper, on which colours stand out."""
    is_bright_ink = image.ndim == 2 and np.median(image) < 0.5
    return 1 - image if is_bright_ink else image


def up_sampled(feature_map: FloatArray) -> FloatArray:
    """A map (height, width), smoothly up-sampled to a square and cut off below 0 and above 1."""
    smooth = functional.interpolate(
        torch.from_numpy(feature_map)[None, None],
        size=(MAP_SIZE, MAP_SIZE),
        mode="bicubic",
        align_corners=False,
    )[0, 0].numpy()
    return np.clip(smooth, 0, 1)


def draw_map(axes: Axes, image: FloatArray, heat: FloatArray, colour: str) -> None:
    """An up-sampled map with values in [0, 1] over the faded grey image."""
    grey = as_shown(image) if image.ndim == 2 else image @ LUMINANCE
    height, width = grey.shape
    axes.imshow(0.5 + 0.5 * grey, cmap="gray", vmin=0, vmax=1)
    fade = LinearSegmentedColormap.from_list("fade", [colour + "00", colour + "f2"])
    axes.imshow(heat, cmap=fade, vmin=0, vmax=1, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
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
