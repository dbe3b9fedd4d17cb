"""A figure measured in inches, so that cells keep their size however many there are."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D


class Canvas:
    """Figure of a given size; all positions are inches from the lower left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure((width, height), dpi=150)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes in a rectangle."""
        box = (x / self.width, y / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box)

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """Text at a point."""
        self.figure.text(x / self.width, y / self.height, text, **style)

    def rule(self, x: float, y: float, length: float, **style: Any) -> None:
        """Horizontal line."""
        ends = [x / self.width, (x + length) / self.width]
        height = y / self.height
        self.figure.add_artist(Line2D(ends, [height, height], solid_capstyle="butt", **style))
