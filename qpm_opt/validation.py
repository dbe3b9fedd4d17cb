"""Arrays and counts as users give them, checked and copied: one sentence for each defect."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qpm_opt.errors import InvalidInputError, InvalidProblemError, InvalidSolutionError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.intp]

#: Magnitudes from here on are refused: sums and squares of smaller ones cannot overflow.
LARGEST = 1e100
#: Below this, the largest coefficient of a problem is too near to where numbers vanish for proofs.
SMALLEST_SCALE = 1e-250


def as_bool(
    values: ArrayLike, what: str, error: type[InvalidInputError] = InvalidSolutionError
) -> BoolArray:
    """Boolean copy that cannot be written to, or the error."""
    try:
        array = np.array(values)
    except ValueError as failure:
        raise error(f"{what} is not an array of booleans: {failure}") from None
    if array.dtype != bool:
        if array.dtype.kind not in "biuf":
            raise error(f"{what} must be boolean (0 or 1 everywhere), not of type {array.dtype}.")
        if array.size and not np.isin(array, (0, 1)).all():
            raise error(f"{what} must be boolean (0 or 1 everywhere).")
        array = array.astype(bool)
    array.setflags(write=False)
    return array


def as_float(values: ArrayLike, what: str, ndim: int) -> FloatArray:
    """Float64 copy of that many dimensions, all below 1e100, or :class:`InvalidProblemError`."""
    try:
        given = np.asarray(values)
    except (TypeError, ValueError) as failure:
        raise InvalidProblemError(f"{what} is not an array of numbers: {failure}") from None
    if given.dtype.kind not in "fiub":
        raise InvalidProblemError(
            f"{what} is not an array of numbers but of {given.dtype}; convert it with "
            "astype(float)."
        )
    array = np.array(given, dtype=np.float64, order="C")
    if array.ndim != ndim:
        raise InvalidProblemError(
            f"{what} has {array.ndim} dimensions (shape {array.shape}); {ndim} were expected."
        )
    bad = np.argwhere(~(np.abs(array) < LARGEST))
    if len(bad):
        where = ", ".join(map(str, bad[0]))
        raise InvalidProblemError(
            f"{what} has {len(bad)} entries that are not finite or not below {LARGEST:g}, "
            f"the first at ({where}): {array[tuple(bad[0])]}."
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


def as_flag(value: Any, what: str) -> bool:
    """Truth value given as a boolean, 0 or 1, or :class:`InvalidProblemError`."""
    if isinstance(value, bool | np.bool_ | int | np.integer) and value in (0, 1):
        return bool(value)
    raise InvalidProblemError(f"{what} is {value!r}; True or False was expected.")


def as_known_value(value: Any, what: str) -> float | None:
    """Number, None if it is not finite, or :class:`InvalidProblemError`."""
    if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool):
        raise InvalidProblemError(f"{what} is {value!r}; a number was expected.")
    try:
        number = float(value)
    except OverflowError:
        raise InvalidProblemError(f"{what} is too large for a float64.") from None
    return number if math.isfinite(number) else None


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
    lowest, highest = int(pairs.min()), int(pairs.max())
    if lowest < 0 or highest >= n_classes:
        raise InvalidProblemError(
            f"contrastive_pairs name class {lowest if lowest < 0 else highest}, but there are "
            f"{n_classes} classes."
        )
    ordered = np.unique(np.sort(pairs.astype(np.intp), axis=1), axis=0)
    if (ordered[:, 0] == ordered[:, 1]).any():
        raise InvalidProblemError("contrastive_pairs pair a class with itself.")
    return ordered
