"""Branch and bound on the selection where free features have no similarities (R = 0).

The projected linear bound is then nearly tight, and a tree of features decided in and out proves
what is left. Every node first tries its parent's multipliers, which costs one evaluation, and only
then linear programs, which start from its parent's inequalities.

References
----------
Achterberg, Koch, Martin, Branching rules revisited, Operations Research Letters 33 (2005): the
choice of the feature by pseudo-costs that are first measured.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from qpm_opt.assign import assign_within
from qpm_opt.bounds.base import Bound
from qpm_opt.bounds.incumbents import offer_selection, rounded
from qpm_opt.bounds.linear import LinearState, has_similarities, linear_bound
from qpm_opt.bounds.linear_warm import WarmBounds
from qpm_opt.bounds.proof import Proof
from qpm_opt.bounds.region import Region
from qpm_opt.problem import Assignment
from qpm_opt.validation import FloatArray, IntArray

N_PROBED, RELIABLE = 8, 2
"""Features looked at before one is branched on, and measurements after which one is known."""
WARM_FROM = 10
"""Leaves split before a process is started that keeps the linear program of all leaves alive."""
ROUNDING_TIME = 1.0
"""Seconds that the exact assignment of one rounded point may take."""
FRACTIONAL = 1e-6
"""Distance from 0 and 1 from which on a feature counts as undecided."""
ROUNDING = 1e-10
"""Share of the cutoff that is kept for whoever checks the proof and rounds values up once more."""
SHRUNK = 0.8
"""Share of the free features at or below which what is left after fixing is bounded again."""


@dataclass(order=True)
class _Leaf:
    """An open leaf; of several the first is that with the highest bound."""

    negative_bound: float
    index: int
    region: Region = field(compare=False)
    bound: Bound = field(compare=False)


def branch_linear(
    proof: Proof,
    index: int,
    region: Region,
    *,
    cutoff: Callable[[], float],
    offer: Callable[[Assignment], object],
    on_bound: Callable[[float], object] | None = None,
    state: LinearState | None = None,
    deadline: float = math.inf,
) -> float:
    """Grow a proof below a leaf until no selection of its region is better than the cutoff.

    Deterministic but for the deadline. An interrupt leaves the proof sound: every certificate is in
    it as soon as it is found.

    Parameters
    ----------
    proof : Proof
        Gains nodes and certificates.
    index : int
        The leaf.
    region : Region
        What the certificates of the leaf left of its region.
    cutoff : callable
        Returns the value that nothing of interest is above; may rise from call to call. Ties with
        the incumbent are searched one by one unless it lies above by 1e-9 of it or more.
    offer : callable
        Called with the assignments of rounded points, and with the optimal one of every selection
        that is left alone in a leaf, which should raise ``cutoff()`` to its objective or more.
    on_bound : callable, optional
        Called with the highest bound of all open leaves whenever it falls.
    state : LinearState, optional
        ``Bound.state`` of a region that contains this one.
    deadline : float, optional
        Value of ``time.perf_counter()`` at which to stop.

    Returns
    -------
    float
        An upper bound on the region; ``cutoff()`` if the proof is complete.

    Raises
    ------
    ValueError
        If free features have similarities.
    """
    if has_similarities(region):
        raise ValueError("Free features have similarities; this tree is for regions without any.")
    tree = _Tree(proof, region, cutoff, offer, deadline)
    try:
        return tree.grow(index, region, state, on_bound)
    finally:
        tree.close()


class _Tree:
    def __init__(
        self,
        proof: Proof,
        region: Region,
        cutoff: Callable[[], float],
        offer: Callable[[Assignment], object],
        deadline: float,
    ) -> None:
        self._proof, self._problem = proof, region.problem
        self._goal, self._offer, self._deadline = cutoff, offer, deadline
        self._leaves: list[_Leaf] = []
        self._stuck = -math.inf  # highest bound of a leaf that can neither be closed nor split
        self._assigned: set[bytes] = set()
        # Fall of the bound per unit of s, where a feature is decided out (row 0) or in (row 1).
        self._fall = np.zeros((2, self._problem.n_features))
        self._n_falls = np.zeros((2, self._problem.n_features))
        self._n_splits = 0
        self._warm: WarmBounds | None = None

    def close(self) -> None:
        """End what runs beside."""
        if self._warm is not None:
            self._warm.close()

    def grow(
        self,
        index: int,
        region: Region,
        state: LinearState | None,
        on_bound: Callable[[float], object] | None,
    ) -> float:
        """Split the leaf with the highest bound until all are closed or the time is up."""
        self._enter(index, region, state)
        best = math.inf
        while self._leaves and self._highest() > self._cutoff():
            if self._highest() < best:
                best = self._highest()
                if on_bound is not None:
                    on_bound(best)
            if self._late():
                break
            leaf = heapq.heappop(self._leaves)
            if self._n_splits == 0:
                root = leaf
            if self._n_splits == WARM_FROM:
                self._warm = WarmBounds(root.region, root.bound.state)
            self._n_splits += 1
            self._split(leaf)
        return max(min(best, self._highest()), self._goal())

    def _highest(self) -> float:
        """Highest bound of an open leaf."""
        first = -self._leaves[0].negative_bound if self._leaves else -math.inf
        return max(first, self._stuck)

    def _cutoff(self) -> float:
        """The caller's cutoff less what a check of the proof may round up."""
        goal = self._goal()
        return goal - ROUNDING * abs(goal)

    def _late(self) -> bool:
        return time.perf_counter() >= self._deadline

    def _enter(self, index: int, region: Region, state: LinearState | None) -> float:
        """Bound a new leaf, fix what the bound decides, keep it if it stays open; its bound."""
        lowest = math.inf
        while not region.is_empty:
            bound = self._bound(region, state)
            if region.single is None:
                self._round(region, bound.s)
            lowest, cutoff = min(lowest, bound.value), self._cutoff()
            if region.single is not None or bound.value <= cutoff:
                self._proof.nodes[index].certificates.append(bound.certificate)
                return lowest if region.single is None else self._settle(region.single, lowest)
            rest, bound = _fixed(region, bound, cutoff)
            self._proof.nodes[index].certificates.append(bound.certificate)
            if not rest.is_empty and rest.single is None:
                if len(rest.free) > SHRUNK * len(region.free):
                    # A new region holds no arrays; thousands of leaves may be open.
                    heapq.heappush(self._leaves, _Leaf(-lowest, index, rest, bound))
                    return lowest
            region, state = rest, bound.state
        return self._cutoff()

    def _bound(self, region: Region, state: LinearState | None) -> Bound:
        """By the program that is kept alive, or else anew."""
        cutoff = self._cutoff()
        bound = None
        if self._warm is not None and state is not None:
            bound = self._warm.bound(region, state, target=cutoff, deadline=self._deadline)
        if bound is None:
            bound = linear_bound(region, state=state, target=cutoff, deadline=self._deadline)
        assert bound is not None  # there are no similarities
        return bound

    def _settle(self, selected: IntArray, bound: float) -> float:
        """Close a leaf with a single selection by its optimal assignment."""
        value = offer_selection(self._problem, selected, self._offer, self._deadline)
        if value <= self._goal():
            return self._cutoff()
        bound = min(bound, value)
        self._stuck = max(self._stuck, bound)
        return bound

    def _round(self, region: Region, s: FloatArray) -> None:
        """Offer the assignment of the largest entries of s."""
        selected = rounded(region, s)
        if selected.tobytes() in self._assigned:
            return
        self._assigned.add(selected.tobytes())
        assignment = assign_within(self._problem, selected, ROUNDING_TIME)
        if assignment is not None:
            self._offer(assignment)

    def _split(self, leaf: _Leaf) -> None:
        place = self._choose(leaf)
        feature, s = int(leaf.region.free[place]), float(leaf.bound.s[place])
        # Both at once: an interrupt in between would leave a tree with half a branch.
        children = [self._proof.add(leaf.index, feature, side) for side in (False, True)]
        for child, selected in zip(children, (False, True), strict=True):
            part = leaf.region.with_feature(feature, selected)
            value = self._enter(child, part, leaf.bound.state)
            self._learn(feature, selected, s, -leaf.negative_bound - value)

    def _choose(self, leaf: _Leaf) -> int:
        """Place of the free feature whose two sides promise to lower the bound most."""
        region, s = leaf.region, leaf.bound.s
        places = np.flatnonzero(np.minimum(s, 1.0 - s) > FRACTIONAL)
        if not len(places):
            return int(np.argmax(s))
        promising = np.argsort(-self._scores(leaf, places), kind="stable")[:N_PROBED]
        promising = places[promising]
        unknown = self._n_falls[:, region.free[promising]].min(axis=0) < RELIABLE
        self._probe(leaf, promising[unknown])
        return int(places[np.argmax(self._scores(leaf, places))])

    def _probe(self, leaf: _Leaf, places: IntArray) -> None:
        """Measure what deciding each of the free features does to the bound."""
        region, value = leaf.region, -leaf.negative_bound
        features = region.free[places]
        if not len(places) or self._late():
            return
        values = None
        if self._warm is not None:
            values = self._warm.probe(region, features, self._deadline)
        if values is None:
            values = np.array([self._one_round(leaf, feature) for feature in features.tolist()])
        for feature, s, both in zip(features.tolist(), leaf.bound.s[places], values, strict=True):
            for selected in (False, True):
                self._learn(feature, selected, float(s), value - both[int(selected)])

    def _one_round(self, leaf: _Leaf, feature: int) -> list[float]:
        """Bounds without and with a feature, by one linear program each."""
        bounds = [
            linear_bound(
                leaf.region.with_feature(feature, selected),
                state=leaf.bound.state,
                target=self._cutoff(),
                max_rounds=1,
                deadline=self._deadline,
            )
            for selected in (False, True)
        ]
        return [bound.value for bound in bounds if bound is not None]

    def _learn(self, feature: int, selected: bool, s: float, fall: float) -> None:
        distance = 1.0 - s if selected else s
        if distance > FRACTIONAL and math.isfinite(fall):
            self._fall[int(selected), feature] += max(fall, 0.0) / distance
            self._n_falls[int(selected), feature] += 1

    def _scores(self, leaf: _Leaf, places: IntArray) -> FloatArray:
        """Product of the falls to be expected on both sides, none more than closes the leaf."""
        features, s = leaf.region.free[places], leaf.bound.s[places]
        room = -leaf.negative_bound - self._cutoff()
        mean = self._fall.sum(axis=1) / np.maximum(self._n_falls.sum(axis=1), 1)
        n = self._n_falls[:, features]
        rate = np.where(n > 0, self._fall[:, features] / np.maximum(n, 1), mean[:, None])
        fall = np.minimum(rate * np.stack([s, 1.0 - s]), room)
        scores: FloatArray = np.maximum(fall, 1e-6 * room).prod(axis=0)
        return scores


def _fixed(region: Region, bound: Bound, cutoff: float) -> tuple[Region, Bound]:
    """What is left without the features that a bound decides, and the bound that names them."""
    out = bound.value - bound.price_in <= cutoff
    into = (bound.value - bound.price_out <= cutoff) & ~out  # if both, nothing is left either way
    free = ~(out | into)
    rest = region.fixed(region.free[out], region.free[into])
    certificate = replace(bound.certificate, out=region.free[out], into=region.free[into])
    return rest, replace(
        bound,
        certificate=certificate,
        price_in=bound.price_in[free],
        price_out=bound.price_out[free],
        s=bound.s[free],
    )
