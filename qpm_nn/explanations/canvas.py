"""A figure measured in inches, so that cells keep their size however many there are."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.lines import Line2D

#: Fonts with letters that DejaVu Sans lacks; those that are installed fill in for it.
_MORE_FONTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Source Han Sans",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Hiragino Sans",
    "PingFang SC",
    "Yu Gothic",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "Noto Sans Devanagari",
    "Nirmala UI",
    "Noto Sans Thai",
    "Arial Unicode MS",
    "Unifont",
)
_INSTALLED = {font.name for font in fontManager.ttflist}
#: Settings that all figures are made with: a class may be called "US$", or in any alphabet.
STYLE: Any = {
    "text.parse_math": False,
    "font.family": ["DejaVu Sans", *(name for name in _MORE_FONTS if name in _INSTALLED)],
}
INK, MUTED, RULE = "#1f2937", "#5b6470", "#d9dee5"


@contextlib.contextmanager
def any_letters() -> Iterator[None]:
    """Save figures without a warning for each letter that none of these fonts has.

    Such letters are boxes in a PNG; in an SVG, whoever looks at it has fonts of their own.
    """
    with warnings.catch_warnings():
        # Before 3.11 there is a second one, of scripts that are not set as they are written.
        for message in (r"Glyph .* missing from", r"Matplotlib currently does not support"):
            warnings.filterwarnings("ignore", message)
        yield


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
