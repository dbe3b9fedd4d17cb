"""What compiled code does for the semidefinite bound, where Numba is installed.

The costly parts that are not linear algebra: the multipliers, several times as far in an iteration
as :mod:`qpm_opt.bounds.terms` and :mod:`qpm_opt.bounds.rows` take them, and the search for broken
rows and useful splits. Import it by :func:`qpm_opt.bounds.acceleration.compiled_loops`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qpm_opt.bounds import block_descent, separation_loops
from qpm_opt.bounds.block_descent import Classes, Model, Rows, Terms
from qpm_opt.bounds.separation_loops import COVER, INCLUSION, TRIANGLE, Found
from qpm_opt.validation import BoolArray, FloatArray, IntArray

LEAST_CURVATURE = 1e-3
"""Of a row, where X does not matter to it."""


def class_table(similarity: FloatArray, order: IntArray) -> Classes:
    """Classes over features whose order by descending similarity is known."""
    ranked = np.take_along_axis(similarity, order, axis=1)
    return Classes(np.ascontiguousarray(similarity), ranked, order.astype(np.uint32))


def row_table(start: IntArray, member: IntArray, weight: IntArray, level: IntArray) -> Rows:
    """Rows from their sparse weights."""
    return Rows(
        start.astype(np.intp),
        member.astype(np.intp),
        weight.astype(np.float64),
        level.astype(np.float64),
    )


def row_curvature(rows: Rows) -> FloatArray:
    """Curvature of every row's price, times beta."""
    row = np.repeat(np.arange(len(rows.level)), np.diff(rows.start))
    square = rows.weight**2
    single = rows.weight * (rows.weight - 2.0 * rows.level[row] - 1.0) / 2.0

    def of_row(values: FloatArray) -> FloatArray:
        total: FloatArray = np.bincount(row, values, len(rows.level)).astype(np.float64)
        return total

    products = (of_row(square) ** 2 - of_row(square**2)) / 2.0
    curvature: FloatArray = products / 2.0 + of_row(single**2) / 3.0
    return np.maximum(curvature, LEAST_CURVATURE)


def descend(
    classes: Classes,
    terms: Terms,
    rows: Rows,
    price: FloatArray,
    curvature: FloatArray,
    model: Model,
    n_passes: int,
) -> None:
    """Move all multipliers; see :func:`qpm_opt.bounds.block_descent.descend`."""
    most_splits = int(np.diff(terms.split_start).max(initial=0))
    room = np.empty((2, max(classes.ranked.shape[1], most_splits + 1)))
    block_descent.descend(classes, terms, rows, price, curvature, model, room, n_passes)


def add_rows(rows: Rows, price: FloatArray, C: FloatArray) -> None:
    """Add prices times rows to C, in double precision, but for the constant."""
    block_descent.add_rows(rows, price, C)


def row_slack(rows: Rows, X: FloatArray) -> FloatArray:
    """(w's - b) (w's - b - 1) / 2 of every row by X, with s in [0, 1] and products above 0."""
    slack = np.empty(len(rows.level))
    s = np.ascontiguousarray(X[0, 1:], dtype=np.float64)
    block_descent.fill_slack(rows, _at(np.ascontiguousarray(X, dtype=np.float64), s, 0.0), slack)
    return slack


def _at(Y: FloatArray, s: FloatArray, n_per_class: float) -> Model:
    """A model whose maximiser is given."""
    return Model(Y, s, np.zeros(1), 1.0, float(s.sum()), n_per_class)


def narrow_rows(
    X: FloatArray, least: float, likely: float, most_triangles: int, most_covers: int
) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
    """Broken rows of two and three features, the worst of each feature.

    Returns
    -------
    member, weight : ndarray of int, (n_rows, 3)
        Rows of two features have a last weight of 0.
    level : ndarray of int, (n_rows,)
    excess : ndarray, (n_rows,)
    """
    n = len(X) - 1
    most = n * (2 * most_triangles + most_covers)
    found = Found(np.empty((most, 3), np.intp), np.empty(most, np.int8), np.empty(most))
    size = separation_loops.find_narrow(
        np.ascontiguousarray(X, dtype=np.float64), least, likely, most_triangles, most_covers,
        np.empty(n, np.intp), found,
    )  # fmt: skip
    weights: dict[int, list[int]] = {TRIANGLE: [-1, 1, 1], INCLUSION: [-1, 1, 0], COVER: [1, 1, 1]}
    kind = found.kind[:size]
    weight = np.array([weights[i] for i in range(3)], dtype=np.intp)[kind]
    level = (kind == COVER).astype(np.intp)
    return found.member[:size], weight, level, found.excess[:size]


def grown_rows(
    W: FloatArray, s: FloatArray, Y: FloatArray, most_changes: int, least_gain: float
) -> tuple[NDArray[np.int8], FloatArray, FloatArray]:
    """Columns of weights after their local search, with levels and slacks.

    See :func:`qpm_opt.bounds.separation_loops.grow_rows`.
    """
    weights = np.ascontiguousarray(W.T, dtype=np.int8)
    level, slack = np.empty(len(weights)), np.empty(len(weights))
    separation_loops.grow_rows(
        weights, s, Y, most_changes, least_gain, np.empty(len(s)), np.empty(len(s)), level, slack
    )
    return weights.T, level, slack


def split_values(
    classes: Classes, inner: FloatArray, outer: FloatArray, level: FloatArray, k: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Thresholds inside and outside and the value of splits, all (n_classes, n_splits).

    See :func:`qpm_opt.bounds.separation_loops.value_splits`.
    """
    shape = len(classes.ranked), len(level)
    inside, outside, value = np.empty(shape), np.empty(shape), np.empty(shape)
    separation_loops.value_splits(classes, inner, outer, level, k, inside, outside, value)
    return inside, outside, value


def use_once() -> None:
    """Call every compiled function, with the types that they are used with."""
    similarity = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0]])
    classes = class_table(similarity, np.argsort(-similarity, axis=1))
    rows = row_table(np.array([0, 2]), np.array([0, 1]), np.array([-1, 1]), np.zeros(1, np.intp))
    X = np.full((4, 4), 0.5)
    none: BoolArray = np.zeros(1, dtype=np.bool_)
    zero = np.zeros(1)
    terms = Terms(
        np.ones(2), np.array([0, 1, 1]), np.zeros(1, np.intp), np.ones(1), np.ones(1), zero.copy(),
        np.array([[0, 1]]), np.ones((1, 2)), zero.copy(), zero.copy(), none, np.ones(2),
    )  # fmt: skip
    model = Model(X.copy(), X[0, 1:].copy(), zero.copy(), 1.0, 1.0, 1.0)
    descend(classes, terms, rows, zero.copy(), row_curvature(rows), model, 1)
    add_rows(rows, zero, X.copy())
    row_slack(rows, X)
    narrow_rows(X, 1e-3, 0.1, 2, 2)
    grown_rows(np.eye(3), X[0, 1:].copy(), X[1:, 1:].copy(), 2, 1e-4)
    level: NDArray[np.float64] = np.full(1, 0.5)
    split_values(classes, X[1:2, 1:].copy(), X[1:2, 1:].copy(), level, 1.0)
