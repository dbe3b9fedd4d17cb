"""All exchanges of one selected feature for another, evaluated at once.

Only the selection is searched: its value takes every class's ``n_per_class`` largest similarities
(:func:`qpm_opt.assign.top_k_value`), which is the objective without distinctness and side
constraints.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from qpm_opt.pair_sets import best_pair_sets
from qpm_opt.problem import Problem
from qpm_opt.validation import BoolArray, FloatArray, IntArray

RELATIVE_TOLERANCE = 1e-10
"""Smaller changes, relative to the terms of the objective, are rounding."""
N_COLUMNS = 48
"""Incoming features evaluated at once."""
REFRESH_INTERVAL = 1000
"""Swaps after which incremental sums are computed anew, against the build-up of rounding."""
N_CONSTRAINED = 16
"""Exchanges whose collisions of classes, and contrastive pairs, are looked at."""


class Swaps:
    """A selection and the change of the objective under every exchange of one of its features.

    Exchanging o for i changes the sum of class c's k largest values by ``max(A_ci - t_c, 0)`` if
    the class does not use o, and by ``max(A_ci, u_c) - A_co`` if it does, where t_c and u_c are the
    k-th and the (k+1)-th largest value of the class. So the change is a part of i, a part of o and
    a correction over the classes that use o; dropping or overestimating the latter bounds all
    exchanges at once, and only those of promising i are evaluated.

    Parameters
    ----------
    problem : Problem
    selected : array of shape (n_selected,), int
    """

    def __init__(self, problem: Problem, selected: ArrayLike) -> None:
        self.problem = problem
        self.features = np.flatnonzero(problem.candidates)
        if self.features.size == problem.n_features:
            A, R = problem.class_similarity, problem.feature_similarity
        else:
            A = problem.class_similarity[:, self.features]
            R = problem.feature_similarity[np.ix_(self.features, self.features)]
        self._A, self._R, self._b = A, R, problem.bias[self.features]
        self._A_by_feature = np.ascontiguousarray(A.T)
        self._k, self._p = problem.n_per_class, problem.n_selected
        # Sets of features are told apart by the sum of their codes, exact in float64.
        codes = np.random.default_rng(0).integers(2**40, size=self.features.size)
        self._codes = codes.astype(np.float64)
        # Features of each class in order of similarity: only the first ones exceed a threshold.
        self._order = np.argsort(-A, axis=1).astype(np.int32)
        self._sorted = np.take_along_axis(A, self._order, 1)
        self._pairs = problem.pairs.T
        self.reset(np.searchsorted(self.features, np.sort(np.asarray(selected))))

    @property
    def n_out(self) -> int:
        """Number of features that may come in."""
        return self.features.size - self._p

    @property
    def selected(self) -> IntArray:
        """Feature indices of the selection, ascending."""
        return np.sort(self.features[self.slots])

    def reset(self, slots: IntArray) -> None:
        """Take another selection, given as positions within ``features``."""
        self.slots = np.array(slots, dtype=np.intp)
        self.inside = np.zeros(self.features.size, dtype=bool)
        self.inside[self.slots] = True
        n_classes = len(self._A)
        self._mine = self._A[:, self.slots]
        self._similar = self._R[self.slots]
        self._use = np.zeros((n_classes, self._p))
        # Slot and value of the features around the threshold of each class: those in places k - 1,
        # k, k + 1 and k + 2.
        self._edge_slots = np.zeros((4, n_classes), dtype=np.intp)
        self._edge = np.repeat([[np.inf], [0.0], [0.0], [-np.inf]], n_classes, axis=1)
        self._kth, self._next = self._edge[1], self._edge[2]
        self._refresh()

    def _refresh(self) -> None:
        self._rank(np.arange(len(self._A)))
        self._penalty = self._similar.sum(axis=0)
        # Sums over the classes of what i would add: above the k-th and above the next value.
        self._above_kth = np.maximum(self._A - self._kth[:, None], 0.0).sum(axis=0)
        self._above_next = np.maximum(self._A - self._next[:, None], 0.0).sum(axis=0)
        own = self._b[self.slots].sum() - self._penalty[self.slots].sum() / 2
        self.value = float((self._mine * self._use).sum() + own)
        self._age = 0
        scale = np.abs(self._mine * self._use).sum() + np.abs(self._b[self.slots]).sum()
        scale += np.abs(self._penalty[self.slots]).sum()
        self.tolerance = RELATIVE_TOLERANCE * (float(scale) or 1.0)

    def _rank(self, rows: IntArray) -> None:
        """Find the features that the given classes use, and their k-th and next value."""
        if not rows.size:
            return
        k, mine = self._k, self._mine[rows]
        places = range(max(k - 2, 0), min(k + 2, self._p))
        order = np.argpartition(-mine, places, axis=1)
        self._use[rows] = 0.0
        self._use[rows[:, None], order[:, :k]] = 1.0
        if k == self._p:  # below all that could come in
            self._next[rows] = self._sorted[rows, -1]
        for place in places:
            self._edge_slots[place - k + 2, rows] = order[:, place]
            self._edge[place - k + 2, rows] = mine[np.arange(rows.size), order[:, place]]

    def best(
        self, allowed_out: BoolArray | None = None, allowed_in: BoolArray | None = None
    ) -> tuple[float, int, int]:
        """Largest change and its exchange: slot of the outgoing, position of the incoming feature.

        -inf if there is no (allowed) exchange.
        """
        column, rest, gain = self._bounds(allowed_out, allowed_in)
        best = (-np.inf, -1, -1)
        while (columns := _largest(column, N_COLUMNS, best[0])).size:
            column[columns] = -np.inf
            change = self._changes(columns, rest, gain)
            j = int(np.argmax(change))
            if change.flat[j] > best[0]:
                i, slot = divmod(j, self._p)
                best = (float(change.flat[j]), slot, int(columns[i]))
        return best

    def best_constrained(
        self, allowed_out: BoolArray | None = None, allowed_in: BoolArray | None = None
    ) -> tuple[float, int, int]:
        """Change and exchange with the largest change less :meth:`loss` afterwards.

        Only the ``N_CONSTRAINED`` exchanges of largest change are compared, among the most
        promising incoming features.
        """
        column, rest, gain = self._bounds(allowed_out, allowed_in)
        columns = _largest(column, N_COLUMNS, -np.inf)
        change = self._changes(columns, rest, gain).ravel()
        pairs = _largest(change, N_CONSTRAINED, -np.inf)
        if not pairs.size:
            return -np.inf, -1, -1
        i, slots = np.divmod(pairs, self._p)
        loss = self._pair_losses(slots, columns[i])
        if self.problem.distinct:
            loss = np.maximum(loss, self._collision_losses(slots, columns[i]))
        j = int(np.argmax(change[pairs] - loss))
        return float(change[pairs[j]]), int(slots[j]), int(columns[i[j]])

    def loss(self) -> float:
        """Least that distinctness or contrastive pairs cost: ``value`` less this bounds still.

        Of classes whose best sets are equal, all but one have to give up at least the difference
        between their k-th and their next value. Of contrastive pairs without a common class, every
        one costs what its best sets are worth less than the best of either class.
        """
        loss = float(self._matched(self._pair_loss(self._mine[None]))[0])
        if self.problem.distinct:
            codes = self._use @ self._codes[self.slots]
            loss = max(loss, float(_pairwise_loss(codes, self._kth - self._next)))
        return loss

    def _pair_losses(self, slots: IntArray, incoming: IntArray) -> FloatArray:
        """What contrastive pairs cost at least after each of some exchanges, (n_exchanges,)."""
        if not self._pairs.size:
            return np.zeros(len(slots))
        mine = np.repeat(self._mine[None], len(slots), axis=0)
        mine[np.arange(len(slots)), :, slots] = self._A_by_feature[incoming]
        return self._matched(self._pair_loss(mine))

    def _pair_loss(self, mine: FloatArray) -> FloatArray:
        """What each contrastive pair costs alone, (n, n_pairs), of (n, n_classes, p) values."""
        first, second = self._pairs
        if not first.size:
            return np.zeros((len(mine), 0))
        k, shape = self._k, (len(mine) * first.size, self._p)
        best: FloatArray = np.partition(mine, -k, axis=2)[:, :, -k:].sum(axis=2)
        pair = best_pair_sets(mine[:, first].reshape(shape), mine[:, second].reshape(shape), k)
        loss: FloatArray = best[:, first] + best[:, second] - pair.value.reshape(len(mine), -1)
        return loss

    def _matched(self, loss: FloatArray) -> FloatArray:
        """Sum of the losses of pairs without a common class, dear ones first, of each row."""
        total = np.zeros(len(loss))
        pairs = self._pairs.T.tolist()
        for row, (each, order) in enumerate(zip(loss, np.argsort(-loss, axis=1), strict=True)):
            met: set[int] = set()
            for i in order.tolist():
                if met.isdisjoint(pairs[i]):
                    met.update(pairs[i])
                    total[row] += each[i]
        return total

    def _collision_losses(self, slots: IntArray, incoming: IntArray) -> FloatArray:
        """What equal best sets cost at least after each of some exchanges, (n_exchanges,)."""
        codes = self._codes[self.slots]
        before, kth, above, after = self._edge
        code_kth, code_next = codes[self._edge_slots[1]], codes[self._edge_slots[2]]
        classes = np.arange(kth.size)
        # Place of the outgoing feature: before the k-th, the k-th, the next, after it.
        place = 3 * (1 - self._use.T.astype(np.int8))
        place[self._edge_slots[1], classes] = 1
        place[self._edge_slots[2], classes] = 2
        place = place[slots]
        used = place < 2
        # Without it, what stands in places k - 1, k and k + 1; then the incoming feature enters.
        upper = np.where(place == 0, kth, before)
        middle = np.where(used, above, kth)
        lower = np.where(place == 3, above, after)
        new = self._A_by_feature[incoming]
        code = self._use @ codes + used * (code_next - codes[slots, None])
        code += (new > middle) * (self._codes[incoming, None] - np.where(used, code_next, code_kth))
        gap = np.minimum(np.maximum(new, middle), upper)
        gap -= np.minimum(np.maximum(new, lower), middle)
        return _pairwise_loss(code, gap)

    def _bounds(
        self, allowed_out: BoolArray | None, allowed_in: BoolArray | None
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Bound on the change for every incoming feature, and the parts of o and of i."""
        own = (self._mine * self._use).sum(axis=0)
        rest = self._penalty[self.slots] - self._b[self.slots] - own
        if allowed_out is not None:
            rest[~allowed_out] = -np.inf
        gain = self._above_kth + self._b - self._penalty
        closed = self.inside if allowed_in is None else self.inside | ~allowed_in
        slack = self._above_next - self._above_kth
        bound = np.add.outer(rest + self._next @ self._use, slack)
        rest += self._kth @ self._use
        np.minimum(bound, rest[:, None], out=bound)
        bound += self._similar
        column = bound.max(axis=0)
        column += gain
        column[closed] = -np.inf
        return column, rest, gain

    def _changes(self, columns: IntArray, rest: FloatArray, gain: FloatArray) -> FloatArray:
        """Exact changes, shape (n_columns, p)."""
        values = self._A_by_feature[columns]
        correction = np.clip(values, self._next, self._kth) - self._kth
        change: FloatArray = correction @ self._use
        change += rest
        change += self._similar[:, columns].T
        change += gain[columns, None]
        return change

    def apply(self, change: float, slot: int, incoming: int) -> None:
        """Exchange the feature in ``slot`` for the one at position ``incoming``."""
        outgoing = self.slots[slot]
        old, new = self._A_by_feature[outgoing], self._A_by_feature[incoming]
        rows = np.flatnonzero((old >= self._edge[3]) | (new > self._edge[3]))
        self.slots[slot] = incoming
        self.inside[outgoing], self.inside[incoming] = False, True
        self._mine[:, slot] = new
        self._penalty += self._R[incoming] - self._R[outgoing]
        self._similar[slot] = self._R[incoming]
        kth, above = self._kth[rows], self._next[rows]
        self._rank(rows)
        self._raise(rows, kth, above)
        self.value += change
        self._age += 1
        if self._age >= REFRESH_INTERVAL:
            self._refresh()

    def _raise(self, rows: IntArray, old_kth: FloatArray, old_next: FloatArray) -> None:
        """Bring the sums above the thresholds up to date where the thresholds changed."""
        moved = (old_kth != self._kth[rows]) | (old_next != self._next[rows])
        rows, old_kth, old_next = rows[moved], old_kth[moved], old_next[moved]
        if not rows.size:
            return
        new_kth, new_next = self._kth[rows], self._next[rows]
        lowest = np.minimum(old_next, new_next)
        n, n_features = 64, self.features.size
        while n < n_features and (self._sorted[rows, n] > lowest).any():
            n *= 2
        values, features = self._sorted[rows, :n], self._order[rows, :n].ravel()
        for total, old, new in (
            (self._above_kth, old_kth, new_kth),
            (self._above_next, old_next, new_next),
        ):
            change = np.maximum(values, new[:, None]) - new[:, None]
            change -= np.maximum(values, old[:, None]) - old[:, None]
            total += np.bincount(features, change.ravel(), n_features)

    def descend(self, over: Callable[[], bool]) -> None:
        """Apply best exchanges until none improves or it is over."""
        while not over():
            change, slot, incoming = self.best()
            if change > self.tolerance:
                self.apply(change, slot, incoming)
            elif self._age:
                self._refresh()  # make sure that it was not rounding
            else:
                return


def _largest(values: FloatArray, n: int, above: float) -> IntArray:
    """Where the ``n`` largest values stand, of those larger than ``above``; in no order."""
    where = np.flatnonzero(values > above)
    if where.size > n:
        where = where[np.argpartition(-values[where], n)[:n]]
    return where


def _pairwise_loss(code: FloatArray, gap: FloatArray) -> FloatArray:
    """Sum over neighbours with equal codes, in sorted order, of the smaller gap (last axis).

    Not more than the sum of all but the largest gap of each group: leave that one out, and every
    pair of neighbours has its own gap among the rest. Equal for groups of two.
    """
    order = np.argsort(code, axis=-1)
    code = np.take_along_axis(code, order, -1)
    gap = np.take_along_axis(gap, order, -1)
    equal = code[..., 1:] == code[..., :-1]
    loss: FloatArray = np.where(equal, np.minimum(gap[..., 1:], gap[..., :-1]), 0.0).sum(axis=-1)
    return loss
