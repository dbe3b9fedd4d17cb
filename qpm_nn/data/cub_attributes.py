"""Attributes of the classes of CUB-2011, as annotated by people."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qpm_opt import InvalidInputError

#: Where the file is in the folder ``CUB_200_2011``.
CLASS_ATTRIBUTES = Path("attributes", "class_attribute_labels_continuous.txt")


def read_class_attributes(root: str | os.PathLike[str]) -> NDArray[np.float64]:
    """Share of the images of each class in which each attribute was seen.

    Parameters
    ----------
    root : path
        The folder ``CUB_200_2011``, with ``attributes/class_attribute_labels_continuous.txt``: a
        line for each class in the order of ``classes.txt``, with percentages separated by blanks.

    Returns
    -------
    ndarray of shape (n_classes, n_attributes)
        In [0, 1]; 200 x 312 for the whole data set.

    Raises
    ------
    InvalidInputError
        If the file is missing or damaged; the message names the line.
    """
    path = Path(root) / CLASS_ATTRIBUTES
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise InvalidInputError(
            f"{path} cannot be read ({error.strerror}); the folder CUB_200_2011 of CUB-2011 was "
            "expected, with its attributes."
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is no text file; percentages were expected.") from error
    rows = [_row(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    lengths = {len(row) for row in rows}
    if len(lengths) != 1:
        raise InvalidInputError(
            f"{path} has lines of {sorted(lengths)} numbers; equally many, and at least one line, "
            "were expected."
        )
    return np.array(rows) / 100


def _row(path: Path, number: int, line: str) -> list[float]:
    try:
        row = [float(word) for word in line.split()]
    except ValueError as error:
        raise InvalidInputError(
            f"{path}, line {number}: {error}; percentages were expected."
        ) from error
    if not all(0 <= value <= 100 for value in row):
        raise InvalidInputError(f"{path}, line {number}: percentages from 0 to 100 were expected.")
    return row
