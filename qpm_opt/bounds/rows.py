"""Rows that hold for products of 0-1 variables: separation, and a pool with prices.

Source: M. Padberg, The Boolean quadric polytope, Mathematical Programming 45 (1989). The price of a
row is improved by gradient steps, scaled row by row (T. Pock, A. Chambolle, Diagonal
preconditioning for first order primal-dual algorithms, ICCV 2011).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from qpm_opt.bounds.proof import RowKind
from qpm_opt.validation import BoolArray, FloatArray, IntArray

#: A row enters the pool if it is broken by more, and leaves if its price is lower and it is not.
LEAST_VIOLATION, LEAST_PRICE = 4e-3, 1e-6
MOST_NEW = 1500
#: Share of the longest safe step.
STEP = 0.5
#: Features whose value is smaller are in no cover row that is worth having.
LIKELY = 0.02

# Entries (first, second, coefficient) of each kind; 0 is the border, 1 to 3 are i, j, l.
_ENTRIES = {
    RowKind.TRIANGLE: ((1, 2, 1.0), (1, 3, 1.0), (2, 3, -1.0), (0, 1, -1.0)),
    RowKind.COVER: (
        (0, 1, 1.0), (0, 2, 1.0), (0, 3, 1.0), (1, 2, -1.0), (1, 3, -1.0), (2, 3, -1.0),
    ),
    RowKind.PRODUCT: ((1, 2, 1.0), (0, 1, -1.0)),
    RowKind.PAIR_COVER: ((0, 1, 1.0), (0, 2, 1.0), (1, 2, -1.0)),
}  # fmt: skip
#: Features in a row of each kind.
_N_FEATURES = np.array([3, 3, 2, 2])


class RowPool:
    """Rows with prices, over X = [[1, s'], [s, Y]] of order n + 1.

    Attributes
    ----------
    rows : ndarray, (n_rows, 4)
        Kind and places of the features in the region.
    price : ndarray, (n_rows,)
    """

    def __init__(self, n: int, rows: IntArray | None = None, price: FloatArray | None = None):
        self._n = n
        self.rows = np.zeros((0, 4), dtype=np.intp) if rows is None else rows
        self.price = np.zeros(len(self.rows)) if price is None else price
        self._compile()

    def __len__(self) -> int:
        return len(self.rows)

    def _compile(self) -> None:
        order = self._n + 1
        number, place, coefficient = [], [], []
        for kind, entries in _ENTRIES.items():
            of_kind = np.flatnonzero(self.rows[:, 0] == kind)
            index = np.zeros((len(of_kind), 4), dtype=np.intp)
            index[:, 1:] = self.rows[of_kind, 1:] + 1
            for first, second, value in entries:
                i, j = index[:, first], index[:, second]
                number += [of_kind, of_kind]
                place += [i * order + j, j * order + i]
                coefficient += [np.full(len(of_kind), value / 2)] * 2
        self._matrix = sp.csr_matrix(
            (np.concatenate(coefficient), (np.concatenate(number), np.concatenate(place))),
            shape=(len(self.rows), order * order),
        )
        self._transposed = self._matrix.T.tocsr()
        covers = (RowKind.COVER, RowKind.PAIR_COVER)
        self._limit = np.isin(self.rows[:, 0], covers).astype(np.float64)
        # s_j stands at three places of X that move together.
        weight = np.ones((order, order))
        weight[0] = weight[:, 0] = 3.0
        size = abs(self._matrix)
        crowd = np.asarray(size.sum(axis=0)).ravel() / weight.ravel()
        self._step = STEP / np.maximum(size @ crowd, 0.05)

    def cost(self) -> tuple[float, FloatArray]:
        """Prices times right-hand sides, and times coefficients as a matrix of order n + 1."""
        order = self._n + 1
        return float(self.price @ self._limit), (self._transposed @ self.price).reshape(
            order, order
        )

    def violation(self, X: FloatArray) -> FloatArray:
        """Left-hand side minus right-hand side, (n_rows,)."""
        broken: FloatArray = self._matrix @ X.ravel() - self._limit
        return broken

    def improve(self, X: FloatArray, beta: float) -> None:
        """One gradient step of the prices at the maximiser of a beta-strongly concave model."""
        self.price = np.maximum(self.price + beta * self._step * self.violation(X), 0.0)

    def refresh(self, X: FloatArray) -> None:
        """Add the rows most broken at X, drop idle ones."""
        keep = (self.price > LEAST_PRICE) | (self.violation(X) > LEAST_VIOLATION)
        rows, broken = broken_rows(X)
        known = {tuple(row) for row in self.rows[keep].tolist()}
        order = np.argsort(-broken, kind="stable")
        new = [row for row in rows[order].tolist() if tuple(row) not in known][:MOST_NEW]
        self.rows = np.vstack([self.rows[keep], np.array(new, dtype=np.intp).reshape(-1, 4)])
        self.price = np.concatenate([self.price[keep], np.zeros(len(new))])
        self._compile()

    def restricted(self, places: IntArray, into: BoolArray, n: int) -> RowPool:
        """What the rows say when features are decided.

        Parameters
        ----------
        places : ndarray, (n_features,)
            The new place of each feature, -1 if it is decided.
        into : ndarray of bool, (n_features,)
            Decided in; the other ones without a place are decided out.
        n : int
            Number of new places.
        """
        on = self.price > LEAST_PRICE
        rows, price = self.rows[on], self.price[on]
        for slot in (3, 2, 1, 2):  # a triangle without its second feature has its first there
            of = rows[:, slot]
            decided = (slot <= _N_FEATURES[rows[:, 0]]) & (places[of] < 0)
            rows, kept = _decided(rows, slot, decided, decided & into[of])
            rows, price = rows[kept], price[kept]
        used = np.arange(3) < _N_FEATURES[rows[:, 0]][:, None]
        rows[:, 1:] = np.where(used, places[rows[:, 1:]], 0)
        if not len(rows):
            return RowPool(n)
        rows, same = np.unique(rows, axis=0, return_inverse=True)
        total: FloatArray = np.bincount(same.ravel(), price).astype(np.float64)
        return RowPool(n, rows, total)


def _decided(
    rows: IntArray, slot: int, decided: BoolArray, into: BoolArray
) -> tuple[IntArray, BoolArray]:
    """The rows with the feature at a slot decided; those that are not kept say nothing more.

    What is left of those is nonnegativity of a product or a bound of one s, which any certificate
    knows without a price.
    """
    kind, i, j, last = rows.T
    rows = rows.copy()
    kept = ~decided | (kind == RowKind.TRIANGLE) | (kind == RowKind.COVER)

    def put(where: BoolArray, to: RowKind, first: IntArray, second: IntArray) -> None:
        rows[where] = np.stack(
            [np.full(where.sum(), to), first[where], second[where], 0 * first[where]], axis=1
        )

    triangle, cover = decided & (kind == RowKind.TRIANGLE), decided & (kind == RowKind.COVER)
    if slot == 1:
        put(triangle & into, RowKind.PAIR_COVER, j, last)
        kept &= ~(triangle & ~into)
    else:
        other = last if slot == 2 else j
        put(triangle & into, RowKind.PRODUCT, other, i)
        put(triangle & ~into, RowKind.PRODUCT, i, other)
    first, second = {1: (j, last), 2: (i, last), 3: (i, j)}[slot]
    put(cover & ~into, RowKind.PAIR_COVER, first, second)
    kept &= ~(cover & into)
    return rows, kept


def broken_rows(X: FloatArray) -> tuple[IntArray, FloatArray]:
    """Rows broken by more than ``LEAST_VIOLATION`` and by how much, many of them per feature."""
    s, Y = X[0, 1:], X[1:, 1:]
    found: list[IntArray] = []
    amount: list[FloatArray] = []

    def collect(kind: RowKind, i: int, others: IntArray, excess: FloatArray, most: int) -> None:
        first, second = np.nonzero(excess > LEAST_VIOLATION)
        size = excess[first, second]
        if len(size) > most:
            best = np.argpartition(-size, most)[:most]
            first, second, size = first[best], second[best], size[best]
        rows = np.zeros((len(size), 4), dtype=np.intp)
        rows[:, 0], rows[:, 1] = kind, i
        rows[:, 2] = others[first]
        rows[:, 3] = others[second] if kind != RowKind.PRODUCT else 0
        found.append(rows)
        amount.append(size)

    for i in np.flatnonzero(s > LEAST_VIOLATION).tolist():
        # Both products with i are larger than the violation.
        near = np.flatnonzero(Y[i] > LEAST_VIOLATION)
        near = near[near != i]
        y = Y[i, near]
        triangle = y[:, None] + (y - s[i]) - Y[np.ix_(near, near)]
        collect(RowKind.TRIANGLE, i, near, np.triu(triangle, 1), 200)
        collect(RowKind.PRODUCT, i, near, (y - s[i])[:, None], 50)
    likely = np.flatnonzero(s > LIKELY)
    for place, i in enumerate(likely.tolist()):
        rest = likely[place + 1 :]
        y, t = Y[i, rest], s[rest]
        cover = (s[i] + t - y - 1.0)[:, None] + (t - y) - Y[np.ix_(rest, rest)]
        collect(RowKind.COVER, i, rest, np.triu(cover, 1), 100)
    if not found:
        return np.zeros((0, 4), dtype=np.intp), np.zeros(0)
    return np.concatenate(found), np.concatenate(amount)
