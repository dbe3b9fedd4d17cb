"""Figure of saliency maps of a feature and of how well each of them finds its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from qpm_nn.explanations.canvas import Canvas
from qpm_nn.explanations.insertion import FeatureCurves
from qpm_nn.explanations.lettering import elided, printable, wrapped
from qpm_nn.explanations.maps import CELL, as_shown, bare_axes, draw_faded, fade
from qpm_opt import InvalidInputError

FloatArray = NDArray[np.floating]

TITLE_SIZE, TEXT_SIZE, CAPTION_SIZE = 10.0, 9.0, 7.5  # points
NEGATIVE = "#000000"
MUTED = "#444444"
#: Lines that stay apart for colour-blind eyes (Okabe and Ito, 2008) and in grey.
LINES = (
    {"color": "#000000", "linestyle": "-"},
    {"color": "#d55e00", "linestyle": "--"},
    {"color": "#0072b2", "linestyle": "-."},
    {"color": "#009e73", "linestyle": ":"},
)
#: How dark the image below a map is.
INK = 0.2
# Inches.
GAP, GROUP_GAP, LEFT, RIGHT, TOP, BOTTOM = 0.12, 0.62, 0.25, 0.25, 0.8, 0.12
CURVE_WIDTH, KEY, KEY_LINE, CAPTION_LINE, LABELS = 2.1, 2.1, 0.36, 0.15, 0.48


@rc_context({"text.parse_math": False})  # a map may be called "US$"
def draw_saliency(
    image: FloatArray,
    maps: Mapping[str, ArrayLike],
    curves: Mapping[str, FeatureCurves],
    colour: str,
) -> Figure:
    """An image, saliency maps of a feature over it, and insertion and deletion curves beside.

    Parameters
    ----------
    image : array of shape (height, width) or (height, width, 3)
        In [0, 1].
    maps : mapping of str to array of shape (height, width)
        By name, of :func:`feature_saliency`; each is drawn with the largest magnitude as full
        intensity, negative values in black.
    curves : mapping of str to FeatureCurves
        By name, all of one feature; at least one.
    colour : str
        ``#rrggbb`` of the feature, of :func:`feature_colours`.

    Raises
    ------
    InvalidInputError
        If there are no curves, they are of several features, or a map has another shape than the
        image or is not finite.
    """
    features = {curve.feature for curve in curves.values()}
    if len(features) != 1:
        raise InvalidInputError(
            f"There are curves of {len(features)} features; those of one were expected."
        )
    heats = {name: _scaled(name, values, image.shape[:2]) for name, values in maps.items()}
    pictures = LEFT + CELL + len(heats) * (CELL + GAP)
    width = pictures + 2 * (GROUP_GAP + CURVE_WIDTH) + GAP + KEY + RIGHT
    lines = wrapped(_caption(curves, heats), CAPTION_SIZE, width - LEFT - RIGHT)
    caption = BOTTOM + len(lines) * CAPTION_LINE
    # The key may be longer than the pictures are high.
    y = caption + LABELS + max(0.0, len(curves) * KEY_LINE - CELL)
    canvas = Canvas(width, y + CELL + TOP)
    for i, line in enumerate(lines, 1):
        canvas.text(LEFT, caption - i * CAPTION_LINE, line, fontsize=CAPTION_SIZE, color=MUTED)
    top = y + CELL
    (feature,) = features
    title = {"fontsize": TITLE_SIZE, "fontweight": "bold"}
    canvas.text(LEFT, top + 0.58, f"feature {feature}", **title)
    canvas.rule(LEFT, top + 0.5, pictures - LEFT, color=colour, linewidth=4)

    x = LEFT
    _picture_title(canvas, x, top, "image")
    axes = bare_axes(canvas, x, y)
    axes.imshow(as_shown(image), cmap="gray", vmin=0, vmax=1)
    for name, heat in heats.items():
        x += CELL + GAP
        _picture_title(canvas, x, top, name)
        axes = bare_axes(canvas, x, y)
        draw_faded(axes, image, INK)
        axes.imshow(np.clip(heat, 0, 1), cmap=fade(colour), vmin=0, vmax=1)
        if (heat < 0).any():
            axes.imshow(np.clip(-heat, 0, 1), cmap=fade(NEGATIVE), vmin=0, vmax=1)

    x = pictures + GROUP_GAP
    panels = []
    for kind in ("insertion", "deletion"):
        _picture_title(canvas, x, top, kind, CURVE_WIDTH)
        panels.append(_panel(canvas, x, y, kind))
        x += CURVE_WIDTH + GROUP_GAP
    for i, (name, curve) in enumerate(curves.items()):
        style: dict[str, Any] = {**LINES[i % len(LINES)], "linewidth": 1.6}
        if curve.insertion is not None and curve.deletion is not None:
            for axes, values in zip(panels, (curve.insertion, curve.deletion), strict=True):
                axes.plot(curve.shares, values, **style)
            areas = f"{curve.insertion_area:.2f} in, {curve.deletion_area:.2f} out"
        else:
            areas = "active in no image"
        _key(canvas, x - GROUP_GAP + GAP, top - i * KEY_LINE, name, areas, style)
    low, high = zip(*(axes.get_ylim() for axes in panels), strict=True)
    for axes in panels:  # one scale, with 0
        axes.set_ylim(min(0, *low), max(high))
    return canvas.figure


def _scaled(name: str, values: ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """A map in units of its largest magnitude."""
    heat = np.asarray(values, np.float64)
    if heat.shape != shape or not np.isfinite(heat).all():
        raise InvalidInputError(
            f"Map {name!r} has shape {heat.shape}; {shape} with finite values was expected."
        )
    return heat / (np.abs(heat).max() or 1)


def _picture_title(canvas: Canvas, x: float, top: float, name: str, width: float = CELL) -> None:
    lines = wrapped(printable(name), TEXT_SIZE, width)
    if len(lines) > 2:
        lines = [lines[0], elided(" ".join(lines[1:]), width * 72 / TEXT_SIZE)]
    canvas.text(x + width / 2, top + 0.08, "\n".join(lines), ha="center", fontsize=TEXT_SIZE)


def _panel(canvas: Canvas, x: float, y: float, kind: str) -> Axes:
    axes = canvas.axes(x, y, CURVE_WIDTH, CELL)
    axes.axhline(1, color="#c8ccd2", linewidth=0.8)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    axes.tick_params(labelsize=CAPTION_SIZE)
    pixels = "inserted" if kind == "insertion" else "deleted"
    axes.set_xlabel(f"pixels {pixels}", fontsize=CAPTION_SIZE, labelpad=2)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _key(
    canvas: Canvas, x: float, top: float, name: str, areas: str, style: Mapping[str, Any]
) -> None:
    text = elided(printable(name), (KEY - 0.35) * 72 / CAPTION_SIZE)
    canvas.rule(x, top - 0.06, 0.28, **style)
    canvas.text(x + 0.35, top - 0.1, text, fontsize=CAPTION_SIZE)
    canvas.text(x + 0.35, top - 0.24, areas, fontsize=CAPTION_SIZE, color=MUTED)


def _caption(curves: Mapping[str, FeatureCurves], heats: Mapping[str, FloatArray]) -> str:
    counts = sorted({curve.n_active for curve in curves.values()})
    n_images = " or ".join(map(str, counts)) + (" image" if counts == [1] else " images")
    baselines = " or ".join(sorted({curve.baseline for curve in curves.values()}))
    text = (
        f"Curves: the feature as a part of its value in the full image, the most salient pixels "
        f"first; mean of {n_images} in which it is active; baseline: {baselines}. Numbers: areas "
        "under insertion (large is good) and deletion (small is good)."
    )
    if heats:
        text += " Intensity: saliency, the largest of each map full"
        text += "; black: negative." if any((heat < 0).any() for heat in heats.values()) else "."
    return text
