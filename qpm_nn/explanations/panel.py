"""A panel with a title above and a caption below, as most diagrams have."""

from __future__ import annotations

from matplotlib.axes import Axes

from qpm_nn.explanations.canvas import INK, MUTED, Canvas
from qpm_nn.explanations.lettering import elided, printable, width, wrapped

TITLE_SIZE, NAME_SIZE, CAPTION_SIZE = 11.0, 9.0, 7.5  # points
# Inches.
EDGE, GAP, TITLE_LINE, CAPTION_LINE = 0.2, 0.12, 0.2, 0.15
#: Lines of a title; what does not fit is left out of its middle.
MOST_LINES = 4


def titled_panel(
    title: str,
    caption: str,
    left: float,
    panel_width: float,
    panel_height: float,
    *,
    right: float = EDGE,
    below: float = 0.0,
    above: float = 0.0,
) -> Axes:
    """Axes of a size in a figure that is as large as they, the title and the caption need.

    Parameters
    ----------
    title, caption : str
    left, panel_width, right : float
        Inches: room for what stands on the left of the axes, the axes, and the rest.
    panel_height : float
        Inches.
    below, above : float
        Inches between the axes and the caption or the title, for labels.
    """
    total = left + panel_width + right
    inner = total - 2 * EDGE
    most = 0.8 * MOST_LINES * inner * 72 / TITLE_SIZE
    titles = wrapped(elided(printable(title), most), TITLE_SIZE, 0.85 * inner)
    captions = wrapped(caption, CAPTION_SIZE, 0.95 * inner)
    bottom = EDGE + len(captions) * CAPTION_LINE + below + (GAP if captions else 0)
    height = bottom + panel_height + above + GAP + len(titles) * TITLE_LINE + EDGE
    canvas = Canvas(total, height)
    for i, line in enumerate(titles, 1):
        y = height - EDGE - (i - 0.2) * TITLE_LINE
        canvas.text(EDGE, y, line, fontsize=TITLE_SIZE, fontweight="bold", color=INK)
    for i, line in enumerate(captions, 1):
        y = EDGE + (len(captions) - i) * CAPTION_LINE
        canvas.text(EDGE, y, line, fontsize=CAPTION_SIZE, color=MUTED)
    return canvas.axes(left, bottom, panel_width, panel_height)


def label_room(labels: list[str], most: float, size: float = NAME_SIZE) -> float:
    """Inches on the left of a panel for its labels, no more than ``most``."""
    return EDGE + GAP + min(max((width(label, size) for label in labels), default=0.0), most)


def fitting(name: str, inches: float, size: float = NAME_SIZE) -> str:
    """A name that fits into a width."""
    return elided(printable(name), inches * 72 / size)


def plain_axes(axes: Axes) -> None:
    """Axes with thin lines at the left and the bottom only."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=MUTED, linewidth=0.8)
    axes.tick_params(labelsize=NAME_SIZE - 1, color=MUTED, labelcolor=INK, length=3)
    axes.xaxis.label.set(fontsize=NAME_SIZE, color=INK)
    axes.yaxis.label.set(fontsize=NAME_SIZE, color=INK)
