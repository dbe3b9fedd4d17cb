"""Names that are longer than there is room for."""

from __future__ import annotations

from collections.abc import Callable

from rich.cells import cell_len

#: Columns of a terminal that a name may take.
NAME_COLUMNS = 40
DOTS = "…"


def shortened(
    text: str, most: float = NAME_COLUMNS, width: Callable[[str], float] = cell_len
) -> str:
    """A text that is at most ``most`` wide, if need be with dots for its middle.

    Both ends stay: the last letters often tell names apart, such as ``alphabet/character12``.

    Parameters
    ----------
    text : str
    most : float
    width : callable, optional
        Of a text; by default in columns of a terminal.
    """
    if width(text) <= most:
        return text
    room = most - width(DOTS)
    head, tail = "", ""
    for c in text:
        if width(head + c) > 0.6 * room:
            break
        head += c
    for c in reversed(text):
        if width(head + c + tail) > room:
            break
        tail = c + tail
    return f"{head.rstrip()}{DOTS}{tail.lstrip()}"
