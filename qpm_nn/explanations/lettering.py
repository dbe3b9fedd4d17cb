"""Class names in figures: of any alphabet and length."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

from qpm_opt.shortening import DOTS, shortened

#: Widths in em of the letters of DejaVu Sans and of as wide fonts, bold ones included; East Asian
#: letters and dots are a square, whatever the font.
EM, WIDE_EM = 0.68, 1.0
#: The same of running text, of mostly small letters, on the average.
RUNNING_EM = 0.61


def printable(name: str) -> str:
    """The name in one line, without characters that neither SVG nor UTF-8 can hold."""
    kept = (" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in name)
    return " ".join("".join(kept).split())


def width(text: str, size: float) -> float:
    """An upper estimate of the inches that a text takes in letters of ``size`` points.

    Estimated, for the fonts of whoever looks at an SVG are unknown.
    """
    return size / 72 * _ems(text)


def wrapped(text: str, size: float, inches: float) -> list[str]:
    """Lines of running text in letters of ``size`` points that fit into a width.

    A word that is longer than a line is broken.
    """
    room = 72 * inches / size + 1e-9
    lines: list[str] = []
    used = math.inf  # of the last line, in em
    for word in text.split():
        taken = sum(map(_running_em, word))
        if used + RUNNING_EM + taken <= room:
            lines[-1] += " " + word
            used += RUNNING_EM + taken
            continue
        used = math.inf
        for c in word:
            if used + _running_em(c) > room:
                lines.append("")
                used = 0.0
            lines[-1] += c
            used += _running_em(c)
    return lines


def elided(name: str, most: float) -> str:
    """A name that takes at most ``most`` em, if need be with dots for its middle."""
    return shortened(name, most, _ems)


def listed(names: Sequence[str], most: float) -> str:
    """As many names as ``most`` em hold, at least one, and how many more: ``name, name, +3``."""
    for n_shown in range(len(names), 1, -1):
        text = ", ".join(names[:n_shown]) + _rest(len(names) - n_shown)
        if _ems(text) <= most:
            return text
    rest = _rest(len(names) - 1)
    return elided(names[0], most - _ems(rest)) + rest


def _rest(n: int) -> str:
    return f", +{n}" if n else ""


def _running_em(c: str) -> float:
    return min(_em(c), RUNNING_EM) if _em(c) < WIDE_EM else WIDE_EM


def _ems(text: str) -> float:
    return sum(map(_em, text))


def _em(c: str) -> float:
    if unicodedata.combining(c):
        return 0
    return WIDE_EM if c == DOTS or unicodedata.east_asian_width(c) in "WF" else EM
