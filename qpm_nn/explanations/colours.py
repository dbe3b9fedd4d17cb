"""A colour for every selected feature, the same in all figures of a run."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

#: Colours to choose from, in OKLCH: all stand out from white paper, and none is as dark as text.
LIGHTNESS = np.linspace(0.42, 0.8, 8)
CHROMA = (0.19, 0.15, 0.11, 0.07)
N_HUES = 60
#: Hue of the first feature, in turns: blue.
FIRST_HUE = 0.7
#: Of differences as seen by trichromats, protanopes and deuteranopes. With equal ones most colours
#: would be blue or green; a golden-angle sequence of hues, the usual choice, has colours among the
#: first 50 that are the same to a deuteranope, and some a third as far apart to others.
WEIGHTS = (1, 2, 2)
# Linear sRGB to cone responses, and their cubic roots to OKLab.
_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
# Linear sRGB as seen by trichromats, protanopes and deuteranopes.
_EYES = (
    np.eye(3),
    np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
)


def feature_colours(selected: Iterable[int]) -> dict[int, str]:
    """Colours, ``#rrggbb``, of the selected features by their index in the backbone.

    A colour depends only on the position in ``selected``, so give all features of the head in their
    order. Each is the one that differs the most from all before it, to eyes that are blind to red
    or to green as well.

    References
    ----------
    Ottosson: A perceptual color space for image processing (2020), for OKLab. Machado, Oliveira,
    Fernandes: A physiologically-based model for simulation of color vision deficiency (2009).
    """
    selected = [int(feature) for feature in selected]
    return dict(zip(selected, _sequence(len(selected)), strict=True))


@functools.cache
def _sequence(n_colours: int) -> list[str]:
    """The farthest-point sequence of the candidates; if they do not suffice, it begins again."""
    rgb = _candidates()
    seen = [_lab((rgb @ eyes.T).clip(0, 1)) for eyes in _EYES]
    distance = np.full(len(rgb), np.inf)
    chosen = [0]
    while len(chosen) < min(n_colours, len(rgb)):
        for lab, weight in zip(seen, WEIGHTS, strict=True):
            apart = np.linalg.norm(lab - lab[chosen[-1]], axis=1)
            distance = np.minimum(distance, weight * apart)
        # Rounded, so that no machine's last digit decides.
        chosen.append(int(distance.round(6).argmax()))
    return [_hex(rgb[chosen[i % len(chosen)]]) for i in range(n_colours)]


def _candidates() -> FloatArray:
    """Linear sRGB (n, 3) of the grid's colours that a screen has, the first feature's first."""
    hues = 2 * np.pi * (FIRST_HUE + np.arange(N_HUES) / N_HUES)
    hue, lightness, chroma = (
        part.ravel() for part in np.meshgrid(hues, LIGHTNESS, CHROMA, indexing="ij")
    )
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)
    rgb = (lab @ np.linalg.inv(_LAB).T) ** 3 @ np.linalg.inv(_CONES).T
    return rgb[((rgb >= 0) & (rgb <= 1)).all(axis=1)]


def _lab(rgb: FloatArray) -> FloatArray:
    return np.cbrt(rgb @ _CONES.T) @ _LAB.T


def _hex(rgb: FloatArray) -> str:
    gamma = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in gamma)
