"""Names that users give, checked against those that there are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from qpm_opt import InvalidInputError

_MOST_LISTED = 20


def check_name(what: str, name: str, known: Iterable[str]) -> None:
    """Raise InvalidInputError, with the names that are near, unless the name is known."""
    names = list(known)
    if name not in names:
        near = difflib.get_close_matches(name, names, cutoff=0.4)
        meant = f"; did you mean {' or '.join(near)}?" if near else "."
        only = f", only {', '.join(names)}" if len(names) <= _MOST_LISTED else ""
        raise InvalidInputError(f"There is no {what} {name!r}{only}{meant}")
