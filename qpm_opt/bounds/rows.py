"""Rows that every 0-1 point obeys, and their prices.

For whole numbers w_j and a whole level b, w's is a whole number at every selection s, so that

    (w's - b) (w's - b - 1) / 2  >=  0,

which is linear in s and the products Y. Triangle inequalities are the rows with three w_j of 1 or
-1; wider ones say, for instance, that of features that exclude each other at most one comes with a
feature d: sum_K Y_dj <= s_d + sum_(i < j in K) Y_ij.

Source: E. Boros, P. L. Hammer, Cut-polytopes, Boolean quadratic polytopes and nonnegative quadratic
pseudo-Boolean functions, Mathematics of Operations Research 18 (1993) 245-253.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from qpm_opt.bounds.acceleration import compiled_loops
from qpm_opt.validation import BoolArray, FloatArray, IntArray

#: A row enters the pool if it is broken by more, and leaves if its price is lower and it is not.
LEAST_VIOLATION, LEAST_PRICE = 1e-3, 1e-6
MOST_NEW = 1500
#: Multiple of the longest step that is safe for all rows together; few of them act at a time.
STEP = 1.0
#: Features whose value is smaller are in no cover row that is worth having.
LIKELY = 0.02
#: Triangles and covers of one feature at a time.
MOST_TRIANGLES, MOST_COVERS = 200, 100
#: Broken triangles from which wider rows are grown, rows grown at a time by NumPy, and the most
#: changes of a row.
N_SEEDS, CHUNK, MOST_CHANGES = 500, 256, 12
#: More narrow rows for each feature, and no wide ones are looked for; compiled loops bear more.
NARROW_FIRST, QUICK_NARROW_FIRST = 3, 30
#: Less is no gain for a row that grows.
LEAST_GAIN = 1e-4


@dataclass(frozen=True, eq=False)
class Rows:
    """Weights w, (n_rows, n) sparse and whole, and levels b, (n_rows,)."""

    weights: sp.csr_array
    level: IntArray

    @classmethod
    def of_lists(cls, members: IntArray, weights: IntArray, level: int, n: int) -> Rows:
        """Rows of one width: features and weights, both (n_rows, width), and the level of all."""
        n_rows, width = members.shape
        start = np.arange(n_rows + 1) * width
        held = sp.csr_array((weights.ravel(), members.ravel(), start), shape=(n_rows, n))
        return cls(held, np.full(n_rows, level, dtype=np.intp))

    @classmethod
    def none(cls, n: int) -> Rows:
        """No rows."""
        return cls(sp.csr_array((0, n), dtype=np.intp), np.zeros(0, dtype=np.intp))

    def __len__(self) -> int:
        return len(self.level)

    def __getitem__(self, chosen: IntArray | BoolArray) -> Rows:
        return Rows(self.weights[chosen], self.level[chosen])

    def and_also(self, others: Rows) -> Rows:
        """These and more."""
        return Rows(
            sp.vstack([self.weights, others.weights], format="csr"),
            np.concatenate([self.level, others.level]),
        )

    @property
    def width(self) -> IntArray:
        """Features of each row, (n_rows,)."""
        width: IntArray = np.diff(self.weights.indptr)
        return width

    def canonical(self) -> Rows:
        """The same rows with the first weight of each positive: (w, b) says what (-w, -b - 1) says.

        No row may be empty.
        """
        weights = self.weights.copy()
        weights.eliminate_zeros()
        weights.sort_indices()
        sign = np.sign(weights.data[weights.indptr[:-1]])
        weights.data *= np.repeat(sign, np.diff(weights.indptr))
        return Rows(weights, np.where(sign < 0, -self.level - 1, self.level))

    def keys(self) -> list[bytes]:
        """What tells canonical rows apart."""
        ends, weights = self.weights.indptr.tolist(), self.weights
        members = np.stack([weights.indices, weights.data], axis=1).astype(np.int64)
        return [
            members[i:j].tobytes() + level.tobytes()
            for i, j, level in zip(ends, ends[1:], self.level, strict=False)
        ]

    def entries(self) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
        """What (w's - b) (w's - b - 1) / 2 - b (b + 1) / 2 is made of.

        Returns
        -------
        row, first, second : ndarray, (n_entries,)
            A product of two features counts from 1; s_j is that of j with 0.
        coefficient : ndarray, (n_entries,)
        """
        members: IntArray = self.weights.indices.astype(np.intp) + 1
        weights, width = self.weights.data, self.width
        row = np.repeat(np.arange(len(self)), width)
        alone = weights * (weights - 2.0 * self.level[row] - 1.0) / 2.0
        parts = [(row, np.zeros_like(members), members, alone)]
        for size in np.unique(width):
            of_size = np.flatnonzero(width == size)
            place = self.weights.indptr[of_size][:, None] + np.arange(size)
            i, j = np.triu_indices(size, 1)
            first, second = place[:, i].ravel(), place[:, j].ravel()
            product = (weights[first] * weights[second]).astype(np.float64)
            parts.append((np.repeat(of_size, len(i)), members[first], members[second], product))
        return tuple(map(np.concatenate, zip(*parts, strict=True)))  # type: ignore[return-value]


class RowPool:
    """Rows with prices, over X = [[1, s'], [s, Y]] of order n + 1.

    Attributes
    ----------
    rows : Rows
        Over the places of the features in the region.
    price : ndarray, (n_rows,)
    is_for_loops : bool
        Whether compiled loops work on them: then ``table`` and ``curvature`` are what those take.
    """

    def __init__(self, n: int, rows: Rows | None = None, price: FloatArray | None = None) -> None:
        self._n = n
        self.rows = Rows.none(n) if rows is None else rows
        self.price = np.zeros(len(self.rows)) if price is None else price
        self._prepare()

    def __len__(self) -> int:
        return len(self.rows)

    def _prepare(self) -> None:
        """Lay out the rows for what follows: for compiled loops, or as matrices."""
        self._constant = self.rows.level * (self.rows.level + 1.0) / 2.0
        loops = compiled_loops()
        self.is_for_loops = loops is not None
        if loops is None:
            self._make_matrices()
            return
        weights, level = self.rows.weights, self.rows.level
        self.table = loops.row_table(weights.indptr, weights.indices, weights.data, level)
        self.curvature = loops.row_curvature(self.table)

    def _make_matrices(self) -> None:
        order, n_rows = self._n + 1, len(self.rows)
        row, first, second, coefficient = self.rows.entries()
        place = np.concatenate([first * order + second, second * order + first])
        self._places, column = np.unique(place, return_inverse=True)
        self._matrix = sp.csr_matrix(
            (np.tile(coefficient / 2, 2), (np.tile(row, 2), column)),
            shape=(n_rows, len(self._places)),
        )
        self._transposed = self._matrix.T.tocsr()
        # s_j stands at three places of X that move together.
        in_border = (self._places < order) | (self._places % order == 0)
        size = self._matrix.copy()
        size.data = np.abs(size.data)
        crowd: FloatArray = np.asarray(size.sum(axis=0)).ravel() / np.where(in_border, 3.0, 1.0)
        self._step = STEP / np.maximum(np.asarray(size @ crowd), 0.05)

    def add_cost(self, C: FloatArray) -> float:
        """Add prices times rows to a matrix of order n + 1; what they add to the constant."""
        if self.is_for_loops:
            loops = compiled_loops()
            assert loops is not None  # it was when the rows were laid out
            loops.add_rows(self.table, self.price, C)
        else:
            C.reshape(-1)[self._places] += self._transposed @ self.price
        return float(self.price @ self._constant)

    def slack(self, X: FloatArray) -> FloatArray:
        """(w's - b) (w's - b - 1) / 2 by the products of X, (n_rows,)."""
        slack: FloatArray
        if self.is_for_loops:
            loops = compiled_loops()
            assert loops is not None
            slack = loops.row_slack(self.table, X)
        else:
            slack = self._matrix @ X.reshape(-1)[self._places] + self._constant
        return slack

    def improve(self, X: FloatArray, beta: float) -> None:
        """One gradient step of the prices at the maximiser of a beta-strongly concave model.

        Compiled loops do more: :mod:`qpm_opt.bounds.block_descent`.
        """
        self.price = np.maximum(self.price - beta * self._step * self.slack(X), 0.0)

    def refresh(self, X: FloatArray) -> None:
        """Add the rows most broken at X, drop idle ones."""
        keep = (self.price > LEAST_PRICE) | (self.slack(X) < -LEAST_VIOLATION)
        kept = self.rows[keep]
        rows, broken = broken_rows(X)
        keys, seen = rows.keys(), set(kept.keys())
        new: list[int] = []
        for i in np.argsort(-broken, kind="stable").tolist():
            if keys[i] not in seen and len(new) < MOST_NEW:
                seen.add(keys[i])
                new.append(i)
        self.rows = kept.and_also(rows[np.array(new, dtype=np.intp)])
        self.price = np.concatenate([self.price[keep], np.zeros(len(new))])
        self._prepare()

    def restricted(self, places: IntArray, into: BoolArray, n: int) -> RowPool:
        """What the rows say when features are decided.

        Rows of one feature go, and those that say Y_ij >= 0: any certificate knows them without a
        price.

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
        weights, price = self.rows.weights[on], self.price[on]
        level = self.rows.level[on] - (weights @ into.astype(np.intp))
        stays = np.flatnonzero(places >= 0)
        moved = sp.csr_array(
            (np.ones(len(stays), dtype=np.intp), (stays, places[stays])), shape=(len(places), n)
        )
        rows = Rows((weights @ moved).tocsr(), level)
        some = rows.width > 1
        rows, price = rows[some].canonical(), price[some]
        together = np.asarray(rows.weights.sum(axis=1)).ravel()
        rest = (rows.width > 2) | (together != 2) | (rows.level != 0)
        rows, price = rows[rest], price[rest]
        if not len(rows):
            return RowPool(n)
        _, first, same = np.unique(rows.keys(), return_index=True, return_inverse=True)
        total: FloatArray = np.bincount(same.ravel(), price).astype(np.float64)
        return RowPool(n, rows[first], total)


def broken_rows(X: FloatArray) -> tuple[Rows, FloatArray]:
    """Canonical rows broken by more than ``LEAST_VIOLATION`` and by how much, many per feature.

    Wide rows are looked for when narrow ones have become few: they are dearer and, of many, slower.
    """
    rows, amount = _narrow_rows(X)
    narrow_first = NARROW_FIRST if compiled_loops() is None else QUICK_NARROW_FIRST
    if len(rows) > narrow_first * len(X):
        return rows, amount
    wide, more = _wide_rows(X, rows[np.argsort(-amount, kind="stable")[:N_SEEDS]])
    return rows.and_also(wide), np.concatenate([amount, more])


def _narrow_rows(X: FloatArray) -> tuple[Rows, FloatArray]:
    """Rows of two and three features, by enumeration."""
    loops = compiled_loops()
    if loops is not None:
        members, weights, level, excess = loops.narrow_rows(
            X, LEAST_VIOLATION, LIKELY, MOST_TRIANGLES, MOST_COVERS
        )
        start = 3 * np.arange(len(level) + 1)
        held = sp.csr_array(
            (weights.ravel(), members.ravel(), start), shape=(len(level), len(X) - 1)
        )
        return Rows(held, level).canonical(), excess
    s, Y = X[0, 1:], X[1:, 1:]
    rows, amount = [Rows.none(len(s))], [np.zeros(0)]

    def collect(
        i: int, others: list[IntArray], weights: list[int], excess: FloatArray, most: int
    ) -> None:
        level = int(weights[0] > 0)
        broken = np.argwhere(excess > LEAST_VIOLATION)
        size = excess[tuple(broken.T)]
        if len(size) > most:
            best = np.argpartition(-size, most)[:most]
            broken, size = broken[best], size[best]
        named = [np.full(len(size), i)]
        named += [other[place] for other, place in zip(others, broken.T, strict=True)]
        every = np.broadcast_to(weights, (len(size), len(weights)))
        rows.append(Rows.of_lists(np.stack(named, axis=1), every, level, len(s)))
        amount.append(size.astype(np.float64))

    for i in np.flatnonzero(s > LEAST_VIOLATION).tolist():
        # Both products with i are larger than the violation.
        near = np.flatnonzero(Y[i] > LEAST_VIOLATION)
        near = near[near != i]
        y = Y[i, near]
        triangle = y[:, None] + (y - s[i]) - Y[np.ix_(near, near)]
        collect(i, [near, near], [-1, 1, 1], np.triu(triangle, 1), MOST_TRIANGLES)
        collect(i, [near], [-1, 1], y - s[i], MOST_TRIANGLES)
    likely = np.flatnonzero(s > LIKELY)
    for place, i in enumerate(likely.tolist()):
        rest = likely[place + 1 :]
        y, t = Y[i, rest], s[rest]
        cover = (s[i] + t - y - 1.0)[:, None] + (t - y) - Y[np.ix_(rest, rest)]
        collect(i, [rest, rest], [1, 1, 1], np.triu(cover, 1), MOST_COVERS)
    together = Rows(
        sp.vstack([part.weights for part in rows], format="csr"),
        np.concatenate([part.level for part in rows]),
    )
    return together.canonical(), np.concatenate(amount)


def _wide_rows(X: FloatArray, seeds: Rows) -> tuple[Rows, FloatArray]:
    """Rows grown from single features and from seeds, a weight at a time, while that breaks more.

    Weights stay in -1, 0, 1; the level is always the best one.
    """
    n = len(X) - 1
    on = np.flatnonzero(X[0, 1:] > LEAST_VIOLATION / 2.0)
    if len(on) < 2:
        return Rows.none(n), np.zeros(0)
    s = X[0, 1 + on].astype(np.float64)
    Y = X[1:, 1:][np.ix_(on, on)].astype(np.float64)
    np.fill_diagonal(Y, s)
    single = np.eye(len(on))
    starts = np.hstack([single, -single, seeds.weights[:, on].toarray().T])
    loops = compiled_loops()
    if loops is None:
        chunks = [starts[:, i : i + CHUNK] for i in range(0, starts.shape[1], CHUNK)]
        parts = [_grown(chunk, s, Y) for chunk in chunks]
        W, level, slack = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    else:
        W, level, slack = loops.grown_rows(starts, s, Y, MOST_CHANGES, LEAST_GAIN)
    broken = slack < -LEAST_VIOLATION
    W, level, excess = W[:, broken], level[broken].astype(np.intp), -slack[broken]
    weights = np.zeros((W.shape[1], n), dtype=np.intp)
    weights[:, on] = W.T
    rows = Rows(sp.csr_array(weights), level)
    return rows.canonical() if len(rows) else rows, excess


def _grown(
    W: FloatArray, s: FloatArray, Y: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Columns of weights after their local search, with levels and slacks.

    Y has s on its diagonal.
    """
    W = W.copy()
    mean, image = s @ W, Y @ W
    square = np.einsum("ij,ij->j", W, image)

    def slack_of(mean: FloatArray, square: FloatArray) -> FloatArray:
        level = np.floor(mean)
        slack: FloatArray = (square - (2.0 * level + 1.0) * mean + level * (level + 1.0)) / 2.0
        return slack

    slack = slack_of(mean, square)
    alive = np.arange(W.shape[1])
    for _ in range(MOST_CHANGES):
        best = np.full(len(alive), np.inf)
        feature, change = np.zeros(len(alive), dtype=np.intp), np.zeros(len(alive))
        for step in (1.0, -1.0):
            trial = slack_of(
                mean[alive] + step * s[:, None],
                square[alive] + 2.0 * step * image[:, alive] + s[:, None],
            )
            trial[np.abs(W[:, alive] + step) > 1.0] = np.inf
            place = trial.argmin(axis=0)
            value = trial[place, np.arange(len(alive))]
            better = value < best
            best[better], feature[better], change[better] = value[better], place[better], step
        narrow = np.abs(W[:, alive]).sum(axis=0) < 3.0
        goes = narrow | (best < slack[alive] - LEAST_GAIN)
        alive, feature, change, best = alive[goes], feature[goes], change[goes], best[goes]
        if not len(alive):
            break
        square[alive] += 2.0 * change * image[feature, alive] + s[feature]
        mean[alive] += change * s[feature]
        image[:, alive] += change * Y[:, feature]
        W[feature, alive] += change
        slack[alive] = best
    return W, np.floor(mean), slack
