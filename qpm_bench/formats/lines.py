"""Text files read line by line; whatever is wrong is said with file, line and what was expected."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from qpm_opt import InvalidInputError, Problem

#: A problem holds R as a dense matrix, 3.2 GB at this many features; a larger size in a file is
#: refused before memory is asked for.
MOST_FEATURES = 20_000
#: Larger numbers are no data; safely below 1e100, the limit of a problem's arrays.
LARGEST = 1e99
_SHOWN = 60  # characters of a line in a message


class Lines:
    """The lines of a text file that hold something, one after the other, split at white space.

    Parameters
    ----------
    path : path-like
        The file, in UTF-8.
    comments : tuple of str
        Lines that start with one of these are passed over.

    Raises
    ------
    InvalidInputError
        If the file is missing, cannot be read, is no text or holds nothing.
    """

    def __init__(self, path: str | os.PathLike[str], *, comments: tuple[str, ...] = ()) -> None:
        self.path = Path(path)
        self._lines = [
            (number, line.strip())
            for number, line in enumerate(read_text(path).splitlines(), start=1)
            if line.strip() and not line.lstrip().startswith(comments)
        ]
        self._position = 0
        if not self._lines:
            raise InvalidInputError(f"{self.path} holds no data, only white space or comments.")

    def next(self, expected: str) -> list[str]:
        """Words of the next line; ``expected`` says in an error what it should hold."""
        if self._position == len(self._lines):
            raise InvalidInputError(
                f"{self.path} ends after line {self._lines[-1][0]}; {expected} was expected."
            )
        self._position += 1
        return self._lines[self._position - 1][1].split()

    def words(self, count: int, expected: str) -> list[str]:
        """Words of the next line, exactly so many."""
        words = self.next(expected)
        if len(words) != count:
            raise self.error(expected)
        return words

    def remaining(self) -> int:
        """Number of lines to come."""
        return len(self._lines) - self._position

    def error(self, expected: str) -> InvalidInputError:
        """Error about the line that was read last."""
        number, line = self._lines[max(self._position - 1, 0)]
        shown = line if len(line) <= _SHOWN else line[:_SHOWN] + "..."
        return InvalidInputError(
            f"{self.path}, line {number}: {shown!r} found; {expected} was expected."
        )

    def whole(self, word: str, what: str, lowest: int, highest: int) -> int:
        """A word as a whole number in a range."""
        try:
            value = int(_plain(word))
        except ValueError:
            value = lowest - 1
        if not lowest <= value <= highest:
            raise self.error(f"{what}, a whole number from {lowest} to {highest},")
        return value

    def number(self, word: str, what: str, largest: float = LARGEST) -> float:
        """A word as a number of at most ``largest`` in magnitude."""
        try:
            value = float(_plain(word))
        except ValueError:
            value = np.nan
        if not abs(value) <= largest:  # NaN neither
            raise self.error(f"{what}, a number of at most {largest:g} in magnitude,")
        return value

    def end(self, expected: str) -> None:
        """Refuse lines that are left over; ``expected`` says what the file held before them."""
        if self.remaining():
            self.next("")
            raise self.error(f"the end of the file after {expected}")


def read_text(path: str | os.PathLike[str]) -> str:
    """Content of a text file in UTF-8.

    Raises
    ------
    InvalidInputError
        If the file is missing, cannot be read or is no text.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as failure:
        reason = failure.strerror or failure
    except UnicodeDecodeError:
        reason = "it is binary or in another encoding than UTF-8"
    raise InvalidInputError(f"{path} cannot be read: {reason}; give a text file.")


def read_pairs(
    lines: Lines, n: int, count: int, what: str, *, first: int
) -> Iterator[tuple[int, int, float]]:
    """Pairs and values of ``count`` lines ``i j value``, the last of the file; no pair twice.

    Parameters
    ----------
    what : str
        Name of the value, for messages.
    first : int
        Index of the first vertex in the file, 0 or 1; the pairs are 0-based.
    """
    seen = np.eye(n, dtype=bool)
    for t in range(count):
        words = lines.words(3, f"line {t + 1} of {count} with i, j and a {what}")
        i, j = (lines.whole(word, "an index", first, n - 1 + first) - first for word in words[:2])
        if seen[i, j]:
            raise lines.error("a pair of two different vertices that was not there before")
        seen[i, j] = seen[j, i] = True
        yield i, j, lines.number(words[2], f"a {what}")
    lines.end(f"{count} lines with i, j and a {what}")


def selection_problem(
    R: np.ndarray, b: np.ndarray | None, n_selected: int, *, name: str, source: str
) -> Problem:
    """Pure quadratic selection: a problem without classes.

    Parameters
    ----------
    R : ndarray of shape (n_features, n_features)
    b : ndarray of shape (n_features,), optional
        Zeros by default.
    """
    return Problem(
        np.empty((0, len(R))),
        R,
        b,
        n_selected=n_selected,
        n_per_class=0,
        distinct=False,
        name=name,
        source=source,
    )


def _plain(word: str) -> str:
    """The word, unless it is a number only in the eyes of Python (``1_000``)."""
    if "_" in word or not word.isascii():
        raise ValueError
    return word
