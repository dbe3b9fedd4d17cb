"""Linear models over the integers: float coefficients to integers without losing a valid bound.

All columns are shifted to a lower bound of zero, ``y = x - lower``, so that rounding a coefficient
up can only raise a sum and rounding it down can only lower it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from qpm_opt.errors import UnsupportedFormulationError
from qpm_opt.solvers.base import MatrixModel
from qpm_opt.validation import FloatArray

Int64Array = NDArray[np.int64]

#: Largest sum of ``|coefficient| * range`` of a form that is scaled up: the solver's own default,
#: and exact in float64.
_ACTIVITY = 2.0**53
#: Largest sum allowed at all; int64 sums of two of them do not overflow.
_LARGEST_ACTIVITY = 2.0**61
#: Of the powers of two that scale the objective: beyond it, what is rounded away is nothing.
_LARGEST_EXPONENT = 100
#: Largest common denominator for which a row counts as rational.
_DENOMINATOR = 10**6
#: Relative tolerance of row sides, and absolute below 1.
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class IntegerObjective:
    """Integer form ``coefficients @ y`` that is never below ``scale`` times the true one.

    With g the float objective and y = x - lower:
    ``g(x) <= constant + coefficients @ y / scale + slack``, where ``slack`` covers the rounding of
    float64 arithmetic. The excess is at most ``sum(range) / scale + 2 slack``, and at most
    ``2 slack`` if the coefficients are multiples of a power of ten.
    """

    coefficients: Int64Array
    scale: float
    constant: float
    slack: float


@dataclass(frozen=True)
class IntegerRows:
    """Rows ``lower <= sum values * y <= upper`` in compressed form; free sides are the int64 ends.

    Every integer point of the float rows satisfies them. The converse holds for rows that a common
    factor makes integral; the others are relaxed by the rounding of their coefficients.
    """

    indptr: NDArray[np.intp]
    indices: NDArray[np.intp]
    values: Int64Array
    lower: Int64Array
    upper: Int64Array


def integer_bounds(model: MatrixModel) -> tuple[Int64Array, Int64Array]:
    """Lower and upper bounds of the columns, rounded inwards.

    Raises
    ------
    UnsupportedFormulationError
        If a column is unbounded.
    """
    bounded = (np.abs(model.lower) < 2.0**52) & (np.abs(model.upper) < 2.0**52)
    if not bounded.all():
        raise UnsupportedFormulationError(
            f"Solver 'cpsat' needs a finite range for every variable, and "
            f"{np.count_nonzero(~bounded)} of {model.n_columns} have none; bound them, or use "
            f"solver highs."
        )
    return (
        np.ceil(model.lower - _TOLERANCE).astype(np.int64),
        np.floor(model.upper + _TOLERANCE).astype(np.int64),
    )


def integer_objective(
    cost: FloatArray, offset: float, lower: Int64Array, upper: Int64Array
) -> IntegerObjective:
    """Objective with coefficients rounded up; exact if a power of ten makes them integral."""
    span = (upper - lower).astype(float)
    constant = float(offset + cost @ lower)
    magnitude = abs(offset) + float(np.abs(cost) @ np.maximum(np.abs(lower), np.abs(upper)))
    cost = np.where(span > 0, cost, 0.0)
    activity = float(np.abs(cost) @ span)
    slack = 4.0 * float(np.finfo(float).eps) * magnitude
    for exponent in range(7):
        scale = 10.0**exponent
        rounded = np.rint(cost * scale)
        if scale * activity > _ACTIVITY:
            break
        if _nearly_equal(cost * scale, rounded).all():
            return IntegerObjective(rounded.astype(np.int64), scale, constant, slack)
    exponent = min(math.floor(math.log2(_ACTIVITY) - math.log2(activity)), _LARGEST_EXPONENT)
    coefficients = np.ceil(np.ldexp(cost, exponent))
    return IntegerObjective(coefficients.astype(np.int64), 2.0**exponent, constant, slack)


def integer_rows(model: MatrixModel, lower: Int64Array, upper: Int64Array) -> IntegerRows:
    """Rows of a model over shifted columns, with integer coefficients.

    Raises
    ------
    UnsupportedFormulationError
        If the sums of a row do not fit 64 bits.
    """
    span = (upper - lower).astype(float)
    shift = model.matrix @ lower.astype(float)
    free = np.full(shift.size, np.inf)
    # The shift may cancel a side but for the rounding of both.
    size = abs(model.matrix) @ np.abs(lower.astype(float))
    row_lower = model.row_lower - shift - _rounding(size, model.row_lower)
    row_upper = model.row_upper - shift + _rounding(size, model.row_upper)
    matrix = model.matrix.copy()
    matrix.data[span[matrix.indices] == 0] = 0.0  # fixed columns are in the shift
    activity = abs(matrix) @ span
    factor = _common_factors(matrix)
    exact = factor > 0
    # A row without a common factor is scaled by a power of two and its coefficients are rounded
    # to the side on which it is bounded; bounded on both, it becomes two rows.
    factor[~exact] = np.exp2(np.floor(np.log2(_ACTIVITY / np.maximum(activity[~exact], 1.0))))
    too_large = activity * factor > _LARGEST_ACTIVITY
    if too_large.any():
        raise UnsupportedFormulationError(
            f"Solver 'cpsat' computes in 64-bit integers, which the sum of row "
            f"{int(np.argmax(too_large))} exceeds; scale the model down, or use solver highs."
        )
    scaled = sparse.diags_array(factor) @ matrix
    above = ~exact & np.isfinite(row_upper)
    below = ~exact & np.isfinite(row_lower)
    parts = [
        _rounded(scaled, row_lower * factor, row_upper * factor, exact, np.rint),
        _rounded(scaled, -free, row_upper * factor, above, np.floor),
        _rounded(scaled, row_lower * factor, free, below, np.ceil),
    ]
    rows = sparse.vstack([part[0] for part in parts], format="csr")
    return IntegerRows(
        rows.indptr,
        rows.indices,
        rows.data.astype(np.int64),
        np.concatenate([part[1] for part in parts]),
        np.concatenate([part[2] for part in parts]),
    )


def _rounding(size: FloatArray, sides: FloatArray) -> FloatArray:
    """What float64 may add to sides less sums of that size; 0 where there is no side."""
    finite = np.where(np.isfinite(sides), np.abs(sides), 0.0)
    rounding: FloatArray = 4.0 * np.finfo(float).eps * (size + finite)
    return rounding


def _rounded(
    matrix: sparse.csr_array,
    row_lower: FloatArray,
    row_upper: FloatArray,
    keep: NDArray[np.bool_],
    rounding: np.ufunc,
) -> tuple[sparse.csr_array, Int64Array, Int64Array]:
    """Some of the rows, coefficients rounded and sides relaxed to the next integer outside."""
    rows = sparse.csr_array(matrix[np.flatnonzero(keep)])
    rows.data = rounding(rows.data)
    below, above = row_lower[keep], row_upper[keep]
    below = np.ceil(below - _TOLERANCE * np.maximum(1.0, np.abs(below)))
    above = np.floor(above + _TOLERANCE * np.maximum(1.0, np.abs(above)))
    return rows, _to_integers(below), _to_integers(above)


def _to_integers(sides: FloatArray) -> Int64Array:
    """Sides as int64; those that no sum can reach become the int64 ends, which mean free."""
    integers = np.where(np.abs(sides) < _LARGEST_ACTIVITY, sides, 0.0).astype(np.int64)
    integers[sides >= _LARGEST_ACTIVITY] = np.iinfo(np.int64).max
    integers[sides <= -_LARGEST_ACTIVITY] = np.iinfo(np.int64).min
    return integers


def _common_factors(matrix: sparse.csr_array) -> FloatArray:
    """For every row a factor that makes its coefficients integral, or 0 if none is known."""
    factors = np.ones(matrix.shape[0])
    fractional = ~_nearly_equal(matrix.data, np.rint(matrix.data))
    counts = np.add.reduceat(np.append(fractional, False), matrix.indptr[:-1], dtype=np.intp)
    counts[np.diff(matrix.indptr) == 0] = 0  # reduceat takes one entry even where there is none
    for row in np.flatnonzero(counts):
        factors[row] = _common_denominator(
            np.unique(matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]])
        )
    return factors


def _common_denominator(values: FloatArray) -> int:
    """Smallest common denominator of the values; 0 if it exceeds ``_DENOMINATOR``."""
    denominator = 1
    for value in values.tolist():
        if not _nearly_equal(value * denominator, np.rint(value * denominator)):
            fraction = Fraction(value).limit_denominator(_DENOMINATOR)
            denominator = math.lcm(denominator, fraction.denominator)
            if denominator > _DENOMINATOR or not _nearly_equal(value, float(fraction)):
                return 0
    return denominator


def _nearly_equal(values: FloatArray | float, others: FloatArray | float) -> NDArray[np.bool_]:
    """Equal but for the rounding of one multiplication in float64."""
    return np.abs(values - others) <= 4.0 * np.finfo(float).eps * np.abs(values)
