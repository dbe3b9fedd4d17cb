"""Rows that hold for products of 0-1 variables: separation, and a pool with prices.

Source: M. Padberg, The Boolean quadric polytope, Mathematical Programming 45 (1989). The price of a
row is improved by gradient steps, scaled row by row (T. Pock, A. Chambolle, Diagonal
preconditioning for first order primal-dual algorithms, ICCV 2011).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from qpm_opt.bounds.proof import RowKind
from qpm_opt.validation import FloatArray, IntArray

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
}  # fmt: skip


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
        self._limit = (self.rows[:, 0] == RowKind.COVER).astype(np.float64)
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

    def refresh(self, X: FloatArray) -> float:
        """Add the rows most broken at X, drop idle ones; return the largest violation."""
        keep = (self.price > LEAST_PRICE) | (self.violation(X) > LEAST_VIOLATION)
        rows, broken = broken_rows(X)
        known = {tuple(row) for row in self.rows[keep].tolist()}
        order = np.argsort(-broken, kind="stable")
        new = [row for row in rows[order].tolist() if tuple(row) not in known][:MOST_NEW]
        self.rows = np.vstack([self.rows[keep], np.array(new, dtype=np.intp).reshape(-1, 4)])
        self.price = np.concatenate([self.price[keep], np.zeros(len(new))])
        self._compile()
        return float(broken.max(initial=0.0))

    def restricted(self, places: IntArray, n: int) -> RowPool:
        """The rows of which all features remain; ``places`` are their new ones, -1 if gone."""
        used = np.array([3, 3, 2])[self.rows[:, 0]]
        moved = self.rows.copy()
        moved[:, 1:] = places[self.rows[:, 1:]]
        gone = (moved[:, 1:] < 0) & (np.arange(3) < used[:, None])
        keep = ~gone.any(axis=1) & (self.price > LEAST_PRICE)
        moved[:, 1:] = np.where(np.arange(3) < used[:, None], moved[:, 1:], 0)
        return RowPool(n, moved[keep], self.price[keep])


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
