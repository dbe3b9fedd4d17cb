"""Class names in figures: of any alphabet and length."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

#: Widths in em of the letters of DejaVu Sans and of as wide fonts, bold ones included; East Asian
#: letters are a square, whatever the font.
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
    return size / 72 * sum(map(_em, text))


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
    """A name that takes at most ``most`` em, if need be with dots for its middle.

    Both ends stay: the last letters often tell classes apart, such as ``alphabet/character12``.
    """
    if sum(map(_em, name)) <= most:
        return name
    room = most - WIDE_EM  # for the dots
    head, tail = "", ""
    for c in name:
        if sum(map(_em, head + c)) > 0.6 * room:
            break
        head += c
    for c in reversed(name):
        if sum(map(_em, head + c + tail)) > room:
            break
        tail = c + tail
    return f"{head.rstrip()}…{tail.lstrip()}"


def listed(names: Sequence[str], most: float) -> str:
    """As many names as ``most`` em hold, at least one, and how many more: ``name, name, +3``."""
    for n_shown in range(len(names), 1, -1):
        text = ", ".join(names[:n_shown]) + _rest(len(names) - n_shown)
        if sum(map(_em, text)) <= most:
            return text
    rest = _rest(len(names) - 1)
    return elided(names[0], most - sum(map(_em, rest))) + rest


def _rest(n: int) -> str:
    return f", +{n}" if n else ""


def _running_em(c: str) -> float:
    return min(_em(c), RUNNING_EM) if _em(c) < WIDE_EM else WIDE_EM


def _em(c: str) -> float:
    if unicodedata.combining(c):
        return 0
    return WIDE_EM if unicodedata.east_asian_width(c) in "WF" else EM
