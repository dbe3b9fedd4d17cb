"""Arrays and counts as users give them, checked and copied: one sentence for each defect."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qpm_opt.errors import InvalidProblemError, InvalidSolutionError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.intp]


def as_bool(values: ArrayLike, what: str) -> BoolArray:
    """Boolean copy that cannot be written to, or :class:`InvalidSolutionError`."""
    array = np.array(values)
    if array.dtype != bool:
        if array.size and not np.isin(array, (0, 1)).all():
            raise InvalidSolutionError(f"{what} must be boolean (0 or 1 everywhere).")
        array = array.astype(bool)
    array.setflags(write=False)
    return array


def as_float(values: ArrayLike, what: str, ndim: int) -> FloatArray:
    """Finite float64 copy of the given number of dimensions, or :class:`InvalidProblemError`."""
    try:
        array = np.array(values, dtype=np.float64, order="C")
    except (TypeError, ValueError) as failure:
        raise InvalidProblemError(f"{what} is not an array of numbers: {failure}") from None
    if array.ndim != ndim:
        raise InvalidProblemError(
            f"{what} has {array.ndim} dimensions (shape {array.shape}); {ndim} were expected."
        )
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        where = ", ".join(map(str, bad[0]))
        raise InvalidProblemError(
            f"{what} has {len(bad)} entries that are not finite, the first at ({where}): "
            f"{array[tuple(bad[0])]}."
        )
    return array


def check_symmetric(R: FloatArray) -> None:
    """Raise :class:`InvalidProblemError` unless R is symmetric with a zero diagonal."""
    diagonal = np.flatnonzero(np.diagonal(R))
    if diagonal.size:
        d = diagonal[0]
        raise InvalidProblemError(
            f"feature_similarity (R) has {R[d, d]} on its diagonal at feature {d}; it must be 0."
        )
    unequal = np.argwhere(R != R.T)
    if len(unequal):
        d, e = unequal[0]
        raise InvalidProblemError(
            f"feature_similarity (R) is not symmetric: R[{d}, {e}] = {R[d, e]} but "
            f"R[{e}, {d}] = {R[e, d]}; give (R + R.T) / 2."
        )


def as_count(value: Any, what: str) -> int:
    """Whole number, 0 or more, or :class:`InvalidProblemError`."""
    try:
        count = int(value)
        exact = count == value and not isinstance(value, bool | np.bool_)
    except (TypeError, ValueError, OverflowError):
        exact = False
    if not exact:
        raise InvalidProblemError(f"{what} is {value!r}; a whole number was expected.")
    if count < 0:
        raise InvalidProblemError(f"{what} is {count}; it cannot be negative.")
    return count


def as_pairs(values: ArrayLike, n_classes: int) -> IntArray:
    """Pairs of different classes, each once and ascending, or :class:`InvalidProblemError`."""
    pairs = np.asarray(values)
    if pairs.size == 0:
        return np.empty((0, 2), dtype=np.intp)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
        raise InvalidProblemError(
            f"contrastive_pairs is {pairs.dtype} of shape {pairs.shape}; "
            "whole numbers of shape (n_pairs, 2) were expected."
        )
    ordered = np.unique(np.sort(pairs.astype(np.intp), axis=1), axis=0)
    if ordered.min() < 0 or ordered.max() >= n_classes:
        raise InvalidProblemError(
            f"contrastive_pairs name class {ordered.min() if ordered.min() < 0 else ordered.max()}"
            f", but there are {n_classes} classes."
        )
    if (ordered[:, 0] == ordered[:, 1]).any():
        raise InvalidProblemError("contrastive_pairs pair a class with itself.")
    return ordered
