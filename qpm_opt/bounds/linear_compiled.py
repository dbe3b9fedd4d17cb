"""The projected linear bound of a leaf and its parts, by compiled code that knows its structure.

What :mod:`qpm_opt.bounds.linear_warm` does with linear programs of inequalities found one by one is
done here with all of them at once, several times faster, where Numba is installed. In exchange a
class has fixed shares in its terms: those of the multipliers with which a tree begins, until two
equal shares collide and become a pair.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qpm_opt.bounds.base import Bound
from qpm_opt.bounds.compilation import entry_point
from qpm_opt.bounds.linear import LinearState
from qpm_opt.bounds.linear_cuts import Cuts
from qpm_opt.bounds.linear_terms import LinearForm, Multipliers, summed
from qpm_opt.bounds.region import Region
from qpm_opt.bounds.threshold_pairs import join
from qpm_opt.bounds.threshold_simplex import FAILED, LIMITED, ON_TARGET, OPTIMAL, descend
from qpm_opt.bounds.threshold_vertex import (
    Terms,
    Vertex,
    fill_gain,
    most_freedoms,
    new_work,
    with_features,
)
from qpm_opt.problem import Problem
from qpm_opt.validation import FloatArray, IntArray

STEPS, MOST_STEPS = 1024, 8192
"""Steps between two looks at the clock, and of one bound."""
PROBE_STEPS = 200
"""Steps of a probe."""
LEAST_SHARE = 0.499
"""Pairs with less than this share of their classes are given up, for shares stay as they are; a
pair whose classes are in no other one gets them whole."""
ROUNDING = 1e-12
"""Shares below this are none."""
NOISE = 1e-10
"""Similarities are raised by up to so much of the largest, lest the method goes round where many
are equal. What holds for higher ones holds for those there are."""
UNKNOWN = np.zeros((0, 0))
"""An inverse that has to be computed."""
EPSILON = 4.0 * float(np.finfo(float).eps)
"""Rounding of a sum of two numbers, and more, as a share of them."""


class Shares:
    """The shares of the classes, and the features of a region and its parts in order of size.

    Attributes
    ----------
    class_of : ndarray of int, (n_shares,); share : ndarray, (n_shares,)
        Those of one class sum to 1.
    pairs : ndarray of int, (n_pairs, 2)
        Shares that are a pair from the beginning, the only ones of their numbers.
    threshold : ndarray, (n_shares,)
        At which the first vertex begins.
    """

    def __init__(self, region: Region, by: Multipliers) -> None:
        problem = region.problem
        kept = np.flatnonzero(by.pair_weight >= LEAST_SHARE)
        pairs, weight = by.pairs[kept], by.pair_weight[kept]
        n_classes = problem.n_classes
        is_only = np.bincount(pairs.ravel(), minlength=n_classes)[pairs].max(axis=1, initial=0) == 1
        weight = np.where(is_only, 1.0, weight)
        alone = 1.0 - np.bincount(pairs.ravel(), np.repeat(weight, 2), n_classes)
        single = np.flatnonzero(alone > ROUNDING)
        self.class_of = np.concatenate([single, pairs.ravel()]).astype(np.intp)
        self.share = np.concatenate([alone[single], np.repeat(weight, 2)])
        self.pairs = len(single) + np.arange(2 * len(kept)).reshape(-1, 2)
        threshold = np.concatenate([by.threshold[single], by.pair_thresholds[kept].ravel()])
        self.threshold = self.share * threshold
        noise = np.random.default_rng(0).random(problem.class_similarity.shape)
        noise *= NOISE * np.abs(problem.class_similarity).max(initial=0.0)
        similarity = (problem.class_similarity + noise)[self.class_of]
        self.similarity = self.share[:, None] * similarity
        order = np.argsort(-self.similarity, axis=1, kind="stable").astype(np.uint32)
        self.rank = np.argsort(order, axis=1, kind="stable").astype(np.int32)
        features = np.concatenate([region.free, region.ones])
        self.order = order[np.isin(order, features)].reshape(len(order), len(features))

    def terms(self, region: Region, columns: IntArray) -> Terms:
        """What they are over some of the features, the free ones of a region among them."""
        place = np.full(self.similarity.shape[1], -1, dtype=np.int32)
        place[columns] = np.arange(len(columns))
        linear = np.zeros(len(columns))
        linear[place[region.free]] = region.linear
        shape, problem = (len(self.order), len(columns)), region.problem
        terms = Terms(
            similarity=np.empty(shape),
            ranked=np.empty(shape),
            order=np.empty(shape, dtype=np.uint32),
            rank=np.empty(shape, dtype=np.int32),
            linear=linear,
            n_per_class=problem.n_per_class,
            n_selected=problem.n_selected,
        )
        kept = np.empty(self.order.shape[1] + 1, dtype=np.int32)
        _select(self.similarity, self.order, columns, place, kept, terms)
        return terms


@entry_point
def _select(
    similarity: FloatArray,
    order: NDArray[np.uint32],
    columns: IntArray,
    place: NDArray[np.int32],
    kept: NDArray[np.int32],
    terms: Terms,
) -> None:
    """Fill :class:`Terms` for some of the features; ``place`` is -1 for the others."""
    values, ranked, new, rank = terms.similarity, terms.ranked, terms.order, terms.rank
    for c in range(len(order)):
        n = 0
        for j in order[c]:  # without a branch, which would be guessed wrong half of the time
            kept[n] = place[j]
            n += place[j] >= 0
        for i in range(len(columns)):
            values[c, i] = similarity[c, columns[i]]
        for i in range(len(columns)):
            column = kept[i]
            new[c, i], rank[c, column], ranked[c, i] = column, i, values[c, column]


@dataclass(frozen=True, eq=False, kw_only=True)
class VertexState(LinearState):
    """Where the bound of a part starts from: a vertex, its features as indices of the problem.

    ``below`` holds, for every share outside pairs, the first feature that does not count as above
    its threshold, to which it may be pinned; -1 if all are above.
    """

    vertex: Vertex
    below: IntArray

    @property
    def features(self) -> IntArray:
        """Features of the kinks."""
        vertex, (n_at_level, n_pairs) = self.vertex, self.vertex.sizes
        pinned = self.below[(vertex.pair_of < 0) & ~vertex.is_free]
        pins = vertex.pin_feature[:n_pairs].ravel()
        return np.concatenate([vertex.at_level[:n_at_level], pins, pinned])


class CompiledBounds:
    """Bounds on the parts of one region without similarities after the other.

    Nothing can be asked before :meth:`load`. Made by :func:`compiled_bounds`.

    Parameters
    ----------
    shares : Shares
        May serve several at a time.
    first : VertexState
        Where regions begin of which no vertex is known.
    """

    is_final = True

    def __init__(self, shares: Shares, first: VertexState | None = None) -> None:
        self._shares, self._first = shares, first
        self._work = new_work(len(shares.order), 0)

    def close(self) -> None:
        """Nothing runs beside."""

    def begin(self, region: Region, deadline: float) -> VertexState | None:
        """The best vertex of a region, from the thresholds of the shares; None if none is found."""
        self._go_to(region, region.free[:0])
        vertex = self._simple_vertex(region)
        for first, second in self._shares.pairs:
            if not join(self._terms, vertex, self._work, first, second):
                return None
        lower, upper = self._limits(region)
        for _ in range(MOST_STEPS // STEPS):
            _, _, how = self._descend(vertex, lower, upper, STEPS, -math.inf, True)
            if how == OPTIMAL:
                return self._state(vertex, self._multipliers(vertex))
            if how == FAILED or time.perf_counter() >= deadline:
                break
        return None

    def load(self, region: Region, state: LinearState) -> None:
        """Go over to another region, which is not a single selection."""
        start = state if isinstance(state, VertexState) else self._first
        assert start is not None
        self._go_to(region, start.features)
        self._vertex = self._placed(start)
        # Every part starts from this vertex.
        lower, upper = self._limits(region)
        _, _, how = self._descend(self._vertex.copy(), lower, upper, 0, -math.inf, False)
        n = self._vertex.sizes[0]
        if how != FAILED:
            self._known = self._work.inverse[:n, :n].copy()

    def _go_to(self, region: Region, features: IntArray) -> None:
        """Gather the terms of a region and of some features more."""
        self._home = region
        self._columns = np.unique(np.concatenate([region.free, region.ones, features]))
        self._terms = self._shares.terms(region, self._columns)
        self._work = with_features(self._work, len(self._columns))
        self._known = UNKNOWN

    def bound(
        self,
        region: Region,
        state: LinearState,
        *,
        target: float = -math.inf,
        deadline: float = math.inf,
    ) -> Bound | None:
        """Bound on a part of the region loaded that is not empty, as by ``linear_bound``.

        None if the vertex that it would start from is of no use.
        """
        vertex, aim, n_steps, known = self._vertex.copy(), target, 0, self._known
        lower, upper = self._limits(region)
        while True:
            value, n, how = self._descend(vertex, lower, upper, STEPS, aim, True, known)
            n_steps, known = n_steps + n, UNKNOWN
            if how == FAILED and n_steps == 0:
                return None
            if not np.isfinite(vertex.threshold).all() or not math.isfinite(vertex.level[0]):
                return None
            np.maximum(vertex.price, 0.0, out=vertex.price)  # but for rounding they are
            form = self._form(region, vertex)
            if n_steps >= MOST_STEPS or time.perf_counter() >= deadline:
                break
            if how == ON_TARGET and form.value > target:  # but for rounding
                excess = max(form.value - target, EPSILON * (abs(value) + abs(region.constant)))
                aim = value - 2.0 * excess
            elif how != LIMITED:
                break
        multipliers = self._multipliers(vertex)
        free = np.searchsorted(self._columns, region.free)
        return Bound(
            value=form.value,
            certificate=multipliers.certificate(region),
            price_in=form.price_in,
            price_out=form.price_out,
            s=np.clip(self._work.s[free], 0.0, 1.0),
            state=LinearState(Cuts(), multipliers)
            if how == FAILED
            else self._state(vertex, multipliers),
        )

    def probe(self, region: Region, features: IntArray, deadline: float) -> FloatArray | None:
        """What a few steps make of the bound with each feature out and in, (n_features, 2).

        Not certified; None if the time is up.
        """
        values = np.empty((len(features), 2))
        lower, upper = self._limits(region)
        for i, column in enumerate(np.searchsorted(self._columns, features).tolist()):
            for side in (0, 1):
                if time.perf_counter() >= deadline:
                    return None
                lower[column] = upper[column] = float(side)
                vertex = self._vertex.copy()
                values[i, side], _, _ = self._descend(
                    vertex, lower, upper, PROBE_STEPS, -math.inf, False, self._known
                )
            lower[column], upper[column] = 0.0, 1.0
        return values

    def _descend(
        self,
        vertex: Vertex,
        lower: FloatArray,
        upper: FloatArray,
        most: int,
        target: float,
        with_pairs: bool,
        known: FloatArray = UNKNOWN,
    ) -> tuple[float, int, int]:
        # Whether classes must differ decides whether they may be pairs.
        with_pairs = with_pairs and self._home.problem.distinct
        aim = target - self._home.constant
        value, n, how = descend(
            self._terms,
            lower,
            upper,
            self._shares.share,
            self._shares.class_of,
            vertex,
            self._work,
            known,
            most,
            aim,
            with_pairs,
        )
        return value + self._home.constant, n, how

    def _limits(self, region: Region) -> tuple[FloatArray, FloatArray]:
        """Whether each column is free, out or in on a part."""
        lower, upper = np.zeros(len(self._columns)), np.zeros(len(self._columns))
        lower[np.searchsorted(self._columns, region.ones)] = 1.0
        upper[np.searchsorted(self._columns, region.free)] = 1.0
        return lower, np.maximum(lower, upper)

    def _simple_vertex(self, region: Region) -> Vertex:
        """A vertex with every threshold pinned and one feature at the level."""
        terms, shares = self._terms, self._shares
        n_shares, _ = terms.similarity.shape
        n_pairs = n_shares // 2

        def whole(*shape: int) -> IntArray:
            return np.zeros(shape, dtype=np.int64)

        n_above = np.abs(terms.ranked - shares.threshold[:, None]).argmin(axis=1)
        threshold = terms.ranked[np.arange(n_shares), n_above]
        gain = terms.linear + np.maximum(terms.similarity - threshold[:, None], 0.0).sum(axis=0)
        free = np.searchsorted(self._columns, region.free)
        at_level = whole(most_freedoms(n_shares))
        at_level[0] = free[np.argsort(-gain[free], kind="stable")[region.n_left - 1]]
        return Vertex(
            level=gain[at_level[:1]],
            threshold=threshold,
            n_above=n_above.astype(np.int64),
            is_free=np.zeros(n_shares, dtype=bool),
            pair_of=whole(n_shares) - 1,
            pairs=whole(n_pairs, 2),
            price=np.zeros(n_pairs),
            is_zero=np.zeros(n_pairs, dtype=bool),
            n_pins=whole(n_pairs),
            pin_feature=whole(n_pairs, 3),
            pin_regions=whole(n_pairs, 3),
            at_level=at_level,
            region_at_level=np.full((n_pairs, len(at_level)), -1, dtype=np.int8),
            sizes=np.array([1, 0], dtype=np.int64),
        )

    def _placed(self, state: VertexState) -> Vertex:
        """A vertex over the columns, from one whose features are indices of the problem."""
        vertex, below = state.vertex, state.below
        n_at_level, n_pairs = vertex.sizes
        regions = np.full((len(vertex.pairs), len(vertex.at_level)), -1, dtype=np.int8)
        regions[:n_pairs, :n_at_level] = vertex.region_at_level
        placed = vertex._replace(region_at_level=regions).copy()
        placed.at_level[:n_at_level] = np.searchsorted(self._columns, vertex.at_level[:n_at_level])
        pins = np.searchsorted(self._columns, vertex.pin_feature[:n_pairs])
        placed.pin_feature[:n_pairs] = pins  # what is not in use may be anything
        rank = self._shares.rank
        pinned = np.flatnonzero((vertex.pair_of < 0) & ~vertex.is_free)
        columns = np.searchsorted(self._columns, below[pinned])
        placed.n_above[pinned] = self._terms.rank[pinned, columns]
        free = np.flatnonzero((vertex.pair_of < 0) & vertex.is_free)
        end = np.where(below[free] >= 0, rank[free, below[free]], rank.shape[1])
        placed.n_above[free] = (rank[np.ix_(free, self._columns)] < end[:, None]).sum(axis=1)
        return placed

    def _form(self, region: Region, vertex: Vertex) -> LinearForm:
        """The bound that the multipliers of a vertex prove, rounded up."""
        gain, k = self._work.q, region.problem.n_per_class
        fill_gain(self._terms, vertex, gain)
        free, ones = (np.searchsorted(self._columns, j) for j in (region.free, region.ones))
        terms = [
            k * vertex.threshold,
            (k - 1) * vertex.price[: vertex.sizes[1]],
            gain[ones],
            np.array([self._home.constant]),
        ]
        most = float(np.max(np.abs(gain) + 2.0 * np.abs(self._terms.linear)))
        return summed(region, gain[free], terms, most, len(gain))

    def _multipliers(self, vertex: Vertex) -> Multipliers:
        shares, n_classes = self._shares, self._home.problem.n_classes
        threshold, weight = np.zeros(n_classes), np.zeros(n_classes)
        of_share = vertex.threshold / shares.share
        alone = np.flatnonzero(vertex.pair_of < 0)
        threshold[shares.class_of[alone]] = of_share[alone]
        weight[shares.class_of[alone]] = shares.share[alone]
        pairs = vertex.pairs[: vertex.sizes[1]]
        pair_weight = shares.share[pairs[:, 0]]
        return Multipliers(
            threshold=threshold,
            threshold_weight=weight,
            pairs=shares.class_of[pairs],
            pair_thresholds=of_share[pairs],
            pair_price=vertex.price[: len(pairs)] / pair_weight,
            pair_weight=pair_weight,
        )

    def _state(self, vertex: Vertex, multipliers: Multipliers) -> VertexState:
        """The vertex for parts of the part."""
        n_at_level, n_pairs = vertex.sizes
        n_columns = len(self._columns)
        place = np.minimum(vertex.n_above, n_columns - 1)
        below = self._columns[self._terms.order[np.arange(len(place)), place]]
        below[vertex.n_above == n_columns] = -1
        vertex.at_level[:n_at_level] = self._columns[vertex.at_level[:n_at_level]]
        used = np.arange(3) < vertex.n_pins[:n_pairs, None]
        features = vertex.pin_feature[:n_pairs]
        features[used] = self._columns[features[used]]
        features[~used] = vertex.at_level[0]
        # Thousands of leaves may be open: only what is in use of the largest array.
        regions = vertex.region_at_level[:n_pairs, :n_at_level].copy()
        vertex = vertex._replace(region_at_level=regions)
        return VertexState(cuts=Cuts(), multipliers=multipliers, vertex=vertex, below=below)


def compiled_bounds(
    region: Region, by: Multipliers, deadline: float
) -> Callable[[], CompiledBounds] | None:
    """What makes bounds on the parts of a region.

    Parameters
    ----------
    region : Region
    by : Multipliers
        Of a bound on it, or on one that contains it.
    deadline : float
        Value of ``time.perf_counter()``.

    Returns
    -------
    callable or None
        None if no best vertex is found to begin with.
    """
    shares = Shares(region, by)
    first = CompiledBounds(shares).begin(region, deadline)
    return None if first is None else lambda: CompiledBounds(shares, first)


def use_once() -> None:
    """Call every compiled function, on a small problem with two classes that collide."""
    A = np.random.default_rng(0).random((4, 8))
    A[1] = A[0]
    problem = Problem(A, np.zeros((8, 8)), n_selected=4, n_per_class=2)
    whole = Region.whole(problem)
    pair = Multipliers(
        threshold=A.mean(axis=1),
        threshold_weight=np.array([0.0, 0.0, 1.0, 1.0]),
        pairs=np.array([[0, 1]]),
        pair_thresholds=A[:2, :1].copy().T,
        pair_price=np.zeros(1),
        pair_weight=np.ones(1),
    )
    new = compiled_bounds(whole, pair, math.inf)
    assert new is not None
    bounds, state = new(), LinearState(Cuts(), pair)
    bounds.load(whole, state)
    bounds.bound(whole, state)
    bounds.probe(whole, whole.free[:1], math.inf)
