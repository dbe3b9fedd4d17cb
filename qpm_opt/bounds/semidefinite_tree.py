"""Branch and bound on the selection with the semidefinite bound.

Best-first: the node with the highest bound is next, or the next few on several threads. A node
starts from its parent's multipliers, so its bound is below its parent's soon and takes a fraction
of the root's time; a large one improves them first on the features that have a part in its parent's
solution, its core. With compiled loops the core decides whether it is split, and the features
outside are excluded first where that spares more than it takes. It is split when its turn comes
again: what is open when the time gets short is bounded instead, for a target that this allows. The
feature to branch on is one whose decision changes what is expected of the other features most, on
both sides; the promising ones are tried on a core of the region.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from qpm_opt.assignment import Assignment
from qpm_opt.bounds.acceleration import compiled_loops
from qpm_opt.bounds.base import Bound
from qpm_opt.bounds.best_first import BestFirst
from qpm_opt.bounds.incumbents import offer_selection, rounded
from qpm_opt.bounds.linear import LinearState, linear_bound
from qpm_opt.bounds.proof import Certificate, Proof
from qpm_opt.bounds.pseudocosts import Fall, PseudoCosts
from qpm_opt.bounds.region import Region
from qpm_opt.bounds.semidefinite import (
    CORE_VALUE,
    Effort,
    State,
    bound_of_core,
    semidefinite_bound,
)
from qpm_opt.bounds.shrinking import SURE, UNWANTED, shrink
from qpm_opt.bounds.terms import LEAST_UNDECIDED
from qpm_opt.heuristics import swap_search
from qpm_opt.validation import FloatArray, IntArray

#: A node gives up when so many iterations lower its bound by less than this share of its gap.
NODE_EFFORT = Effort(window=60, share=0.1)
#: Nodes with more features begin with a core, if it is no larger a share of them and the time left.
#: Its bound has to get below the target by so much of the gap, which is lost at first when the rest
#: comes back.
CORE_FROM, MOST_CORE, CORE_TIME, CORE_MARGIN = 250, 0.8, 0.5, 0.05
#: Such a node is bounded longer, on the core and then on all: what it gains, all below it inherit.
CORE_EFFORT = Effort(window=60, share=0.1, most=2e-4)
#: The same where compiled loops do in a few dozen iterations what is worth it.
QUICK_CORE_EFFORT = Effort(window=40, share=0.1)
REST_EFFORT = Effort(window=60, share=0.1, most=1e-3)
#: Linear programs of a node.
LINEAR_ROUNDS = 4
#: Larger nodes are shrunk if such a share of their features is unwanted, with a reward of this
#: multiple of the gap to the target, and of that of a core.
WORTH_SHRINKING, SHRINKABLE, SPARE, CORE_SPARE = 250, 0.4, 1.3, 1.6
#: Before a bound on all features those that a core has closed are shrunk if more are unwanted. The
#: gap of a core counts for at least this multiple of the margin: less leaves no slack.
MOST_OUTSIDE, LEAST_ROOM = 0.5, 5.0
#: A region with fewer selections, times one more than there are classes, is split without a bound:
#: to look at all of them is cheaper, and no bound knows of all that distinctness forbids.
FEW = 2000
#: Every so many nodes the rounded point is searched around.
SEARCH_EVERY = 10
#: Features whose decision is tried before one is branched on: as many as the region's features go
#: into this number, within limits, because the iterations of broad regions are dear.
PROBE_SIZE, LEAST_PROBED, MOST_PROBED = 2000, 4, 8
#: Iterations of a trial, and its penalty: with a low one the bound falls at once, if not far.
PROBE_STEPS, PROBE_PENALTY = 40, 0.4
#: Trials after which the falls of a feature are known, in regions large enough for a core, whose
#: nodes are dear, and in smaller ones.
DEAR_TRIALS, TRIALS = 2, 1
#: Share of the mean that the estimated fall of a side counts for at least.
FLOOR = 0.3
#: A bound takes time in proportion to this power of the number of features; what a new measurement
#: counts for; the part of it that suffices for a near target (a quarter did); and the share of the
#: time left that such bounds of all open nodes may take.
COST_EXPONENT, PACE_SHARE, NEAR_COST, WAITING = 2.5, 0.2, 0.5, 0.8
#: A region is to be shrunk again when its estimate has come so much nearer to the target.
SHRINK_AGAIN = 0.5


@dataclass(order=True)
class _Open:
    """A node to be bounded; ``key`` orders by estimate or value, highest first, then by age."""

    key: tuple[float, int]
    index: int = field(compare=False)
    value: float = field(compare=False)
    """Known bound."""
    estimate: float = field(compare=False)
    """The same, or a bound on the selections of a core."""
    room: float = field(compare=False)
    """Between estimate and target when the region was last to be shrunk."""
    region: Region = field(compare=False)
    state: State | None = field(compare=False)
    linear: LinearState | None = field(compare=False)
    feature: int | None = field(compare=False, default=None)
    """To split it by, if its core is known."""
    n_states: float = field(compare=False, default=0.5)
    """Part of its state that counts for it; the other is a sibling's."""


@dataclass
class _Outcome:
    """What became of a node: it is closed, or stuck at its value, or split by a feature."""

    value: float
    """Bound on what is left of it."""
    estimate: float
    """The same, or a bound on the selections of a core that is lower."""
    room: float
    region: Region
    linear: LinearState | None
    certificates: list[Certificate] = field(default_factory=list)
    closed: bool = False
    pace: float | None = None
    """Seconds that its bound took, by size; of a known core, or a shrunk region, that alone."""
    state: State | None = None
    feature: int | None = None
    waits: bool = False
    """Whether it is to be split later, if at all."""
    trials: list[Fall] = field(default_factory=list)

    def improve(self, bound: float) -> None:
        """Take notice of a bound."""
        self.value = min(self.value, bound)
        self.estimate = min(self.estimate, self.value)


def branch_semidefinite(
    proof: Proof,
    index: int,
    region: Region,
    *,
    target: Callable[[], float],
    offer: Callable[[Assignment], object],
    on_bound: Callable[[float], object],
    state: State | None = None,
    linear: LinearState | None = None,
    value: float = math.inf,
    costs: PseudoCosts | None = None,
    deadline: float = math.inf,
    threads: int = 1,
    most_states: float = math.inf,
    pace: float = 0.0,
    on_late: Callable[[float], object] = lambda target: None,
) -> float:
    """Grow the proof below a leaf until no selection of its region can be better than ``target()``.

    Parameters
    ----------
    proof : Proof
        Grows by nodes and certificates; sound whenever this returns or raises.
    index, region : int, Region
        The leaf, and what its certificates left of it.
    target : callable
        Returns the value to prove; may rise from call to call.
    offer, on_bound : callable
        Called with assignments that may be better, and with the bound on the region as it falls.
    state : State, optional
        Of a bound on a region that contains this one.
    linear : LinearState, optional
        Of a linear bound on such a region: then every node tries a linear bound first.
    value : float
        Known bound on the region.
    costs : PseudoCosts, optional
        Of an earlier tree on the problem; learns more.
    deadline : float
        Value of ``time.perf_counter()`` at which to stop.
    threads : int
        Nodes bounded at a time. Deterministic for 1, but for the deadline.
    most_states : float
        Open nodes with iterates of their own; beyond that they start from ``state`` again.
    pace : float
        Seconds that a bound takes, by number of features to the power of ``COST_EXPONENT``, as far
        as that is known.
    on_late : callable
        Called, once at most, when the time seems enough for a bound of every open node and no more,
        with the highest of their estimates: a target that most of these bounds would reach.

    Returns
    -------
    float
        Bound on the region; the target if the proof is complete.
    """
    costs = costs or PseudoCosts(region.problem.n_features)
    tree = _Tree(
        proof, target, offer, on_bound, on_late, deadline, costs, threads, most_states, state, pace
    )
    tree.by_core = compiled_loops() is not None and len(region.free) > CORE_FROM
    tree.push(_Open((-value, 0), index, value, value, value - target(), region, state, linear))
    return tree.grow()


class _Tree:
    """The open nodes; all but :meth:`_bound` runs on the caller's thread.

    That changes nothing here; assignments are handed over.
    """

    def __init__(
        self,
        proof: Proof,
        target: Callable[[], float],
        offer: Callable[[Assignment], object],
        on_bound: Callable[[float], object],
        on_late: Callable[[float], object],
        deadline: float,
        costs: PseudoCosts,
        threads: int,
        most_states: float,
        first_state: State | None,
        pace: float,
    ) -> None:
        self._proof, self._goal, self._deadline = proof, target, deadline
        self._on_bound, self._on_late = on_bound, on_late
        self._age = itertools.count(1)
        self._threads, self._pace = threads, pace
        #: Whether nodes are split by the bound of their core, until bounds of all cannot wait.
        self.by_core, self._is_late = False, False
        self._open = BestFirst(self._bound, self._enter, offer, threads)
        self._stuck = -math.inf
        self._costs = costs
        self._interrupted = threading.Event()
        self._n_states, self._most_states = 0.0, most_states
        self._first_state = first_state

    @property
    def _target(self) -> float:
        return self._goal()

    @property
    def _is_quick(self) -> bool:
        return self.by_core and not self._is_late

    def push(self, node: _Open) -> None:
        """Open a node."""
        self._open.push(node)

    def grow(self) -> float:
        """Bound and split nodes until none is open or the time is up; the bound on the root."""
        self._open.run(self._goes_on, self._interrupted.set)
        return self._report()

    def _goes_on(self) -> bool:
        self._report()
        if time.perf_counter() >= self._deadline:
            return False
        if self._is_quick and not self._can_wait():
            self._is_late = True
            highest = max(node.estimate for node in self._open.unfinished)
            if math.isfinite(highest):
                self._on_late(highest)
            for node in self._open.unfinished:
                node.key = (-node.value, node.key[1])
            self._open.reorder()
        return True

    def _can_wait(self) -> bool:
        """Whether there will be time for a bound of every open node, for a target near it."""
        left = self._deadline - time.perf_counter()
        cost = sum(len(node.region.free) ** COST_EXPONENT for node in self._open.unfinished)
        return bool(NEAR_COST * cost * self._pace < WAITING * self._threads * left)

    def _report(self) -> float:
        """Bound on the root by what is open."""
        if self._is_quick:
            highest = max((node.value for node in self._open.unfinished), default=-math.inf)
        else:  # then they are in this order
            first = self._open.first
            highest = -math.inf if first is None else first.value
        reached = max(self._target, self._stuck, highest)
        self._on_bound(reached)
        return reached

    def _closes(self, value: float) -> bool:
        return self._interrupted.is_set() or value <= self._target

    def _enter(self, node: _Open, outcome: _Outcome) -> None:
        """Take over what became of a node."""
        if node.state is not self._first_state:
            self._n_states -= node.n_states
        self._proof.nodes[node.index].certificates += outcome.certificates
        if outcome.pace is not None:
            share = PACE_SHARE if self._pace else 1.0
            self._pace += share * (outcome.pace - self._pace)
        for trial in outcome.trials:
            self._costs.learn(trial)
        if outcome.closed:
            return
        if outcome.feature is None:
            self._stuck = max(self._stuck, outcome.value)
            return
        region, state = outcome.region, outcome.state
        if self._n_states + 1.0 > self._most_states:
            state = self._first_state
        elif state is not self._first_state:
            self._n_states += 1.0
        height = outcome.estimate if self._is_quick else outcome.value

        def push(index: int, part: Region, **waiting: Any) -> None:
            self.push(
                _Open(
                    (-height, next(self._age)), index, outcome.value, outcome.estimate,
                    outcome.room, part, state, outcome.linear, **waiting,
                )
            )  # fmt: skip

        if outcome.waits:
            push(node.index, region, feature=outcome.feature, n_states=1.0)
            return
        sides = (True, False)
        children = self._proof.branch(node.index, outcome.feature, sides)
        for child, selected in zip(children, sides, strict=True):
            push(child, region.with_feature(outcome.feature, selected))

    def _bound(self, node: _Open) -> _Outcome:
        """Bound a node, fix what the bound decides, and find a feature to branch on."""
        outcome = _Outcome(node.value, node.estimate, node.room, node.region, node.linear)
        region, began = node.region, time.perf_counter()
        if node.value <= self._target:  # which has risen
            outcome.closed = True
            return outcome
        if node.feature is not None and self._is_open(outcome):
            outcome.state, outcome.feature = node.state, node.feature
            return outcome
        if self._settled(outcome):
            return outcome
        if region.n_selections * (1 + region.problem.n_classes) < FEW:
            outcome.feature = int(region.free[0])
            return outcome
        if outcome.linear is not None:
            quick = linear_bound(
                outcome.region, state=outcome.linear, target=self._target,
                max_rounds=LINEAR_ROUNDS, deadline=self._deadline,
            )  # fmt: skip
            if quick is not None:
                outcome.certificates.append(quick.certificate)
                outcome.improve(quick.value)
                outcome.linear = quick.state
                if quick.value <= self._target:
                    outcome.closed = True
                    return outcome
        try:
            state, is_known = node.state, self._knows_core(node)
            if not is_known:
                state = self._with_core(outcome, state)
                is_known = self.by_core and state is not node.state
            if is_known and state is not None:
                s = np.clip(state.X[0, 1:].astype(np.float64), 0.0, 1.0)
                is_open = self._shrink_by_core(outcome, state, s)
                if outcome.region is not region:  # neither that nor its core is of this size
                    began = time.perf_counter()
                if outcome.closed or self._settled(outcome):
                    return outcome
                if is_open:
                    inside = np.isin(state.free, region.free)
                    self._search_now_and_then(node.index, region, s[inside])
                    value = outcome.estimate
                    outcome.feature = self._branching_feature(outcome, state, s, value)
                    outcome.waits = True
                    return outcome
                state = outcome.state
            bound = semidefinite_bound(
                outcome.region, cutoff=self._target, closes=self._closes, state=state,
                effort=REST_EFFORT if is_known or state is not node.state else NODE_EFFORT,
                deadline=self._deadline,
            )  # fmt: skip
        except np.linalg.LinAlgError:
            return outcome  # stuck
        outcome.certificates.append(bound.certificate)
        size = len(outcome.region.free) ** COST_EXPONENT
        outcome.pace = (time.perf_counter() - began) / size
        outcome.improve(bound.value)
        outcome.closed = bound.value <= self._target
        if outcome.closed or self._interrupted.is_set():
            return outcome
        self._search_now_and_then(node.index, outcome.region, bound.s)
        self._fix(outcome, bound)
        if not outcome.closed and not self._settled(outcome):
            outcome.feature = self._branching_feature(outcome, bound.state, bound.s, bound.value)
        return outcome

    def _with_core(self, outcome: _Outcome, first: State | None) -> State | None:
        """The state to begin with, improved on a core where that is worth it."""
        region, began = outcome.region, time.perf_counter()
        if first is None or len(region.free) <= CORE_FROM:
            return first
        s = first.X[0, 1:][np.isin(first.free, region.free)]
        places = np.flatnonzero(s > CORE_VALUE)
        if not region.n_left < len(places) <= MOST_CORE * len(s):
            return first
        margin = self._margin(outcome)
        try:
            value, state = bound_of_core(
                region, first, places, cutoff=self._target - margin,
                closes=lambda value: self._closes(value + margin),
                effort=QUICK_CORE_EFFORT if self.by_core else CORE_EFFORT,
                deadline=began + CORE_TIME * (self._deadline - began),
            )  # fmt: skip
        except np.linalg.LinAlgError:
            return first
        if self._interrupted.is_set():
            return first
        outcome.estimate = min(outcome.estimate, value)
        return state

    def _margin(self, outcome: _Outcome) -> float:
        """What a core has to get below the target to close a node."""
        margin = CORE_MARGIN * (outcome.value - self._target)
        return margin if math.isfinite(margin) else 0.0

    def _is_open(self, outcome: _Outcome) -> bool:
        """Whether the core says that a node is to be split, and that can wait for its bound."""
        return self._is_quick and outcome.estimate - self._target > self._margin(outcome)

    def _knows_core(self, node: _Open) -> bool:
        """Whether a node's state is that of its core, for there was memory to keep it."""
        return node.feature is not None and node.state is not self._first_state

    def _shrink_by_core(self, outcome: _Outcome, state: State, s: FloatArray) -> bool:
        """Shrink a region after its core alone, if that pays; whether the core shows it open."""
        outcome.state = state
        target, margin = self._target, self._margin(outcome)
        if outcome.value <= target:  # which has risen
            outcome.closed = True
            return False
        is_open = self._is_open(outcome)
        room = max(outcome.estimate - target, LEAST_ROOM * margin)
        if room <= SHRINK_AGAIN * outcome.room if is_open else (s < UNWANTED).mean() > MOST_OUTSIDE:
            outcome.room = min(outcome.room, room)
            self._shrink(outcome, s, room, CORE_SPARE)
        return is_open

    def _settled(self, outcome: _Outcome) -> bool:
        """Whether at most one selection is left, and then how good it is."""
        region = outcome.region
        if region.is_empty:
            outcome.closed = True
            return True
        if region.single is None:
            return False
        value = offer_selection(region.problem, region.single, self._open.hand_over, self._deadline)
        outcome.improve(value)
        outcome.closed = value <= self._target
        return True

    def _search_now_and_then(self, index: int, region: Region, s: FloatArray) -> None:
        """Look for assignments near the solution of some nodes."""
        if index % SEARCH_EVERY:
            return
        near = swap_search(
            region.problem,
            rounded(region, s),
            deadline=self._deadline if math.isfinite(self._deadline) else None,
        )
        offer_selection(region.problem, near, self._open.hand_over, self._deadline)

    def _fix(self, outcome: _Outcome, bound: Bound) -> None:
        """Decide features by the bound, and more by another one with a reward."""
        region, room = outcome.region, bound.value - self._target
        zeros = region.free[bound.price_in >= room]
        ones = np.setdiff1d(region.free[bound.price_out >= room], zeros)
        outcome.certificates[-1] = replace(bound.certificate, out=zeros, into=ones)
        state: State = bound.state
        outcome.region, outcome.state = region.fixed(zeros, ones), state
        outcome.room = min(outcome.room, room)
        self._shrink(outcome, bound.s, room, SPARE)

    def _shrink(self, outcome: _Outcome, s: FloatArray, room: float, spare: float) -> None:
        """Decide what a reward lets be decided, where the state's solution s promises much."""
        region, state = outcome.region, outcome.state
        assert state is not None
        if len(region.free) <= WORTH_SHRINKING or region.is_empty:
            return
        s = s[np.isin(state.free, region.free)]
        if (s < UNWANTED).mean() <= SHRINKABLE:
            return
        shrunk = None
        with contextlib.suppress(np.linalg.LinAlgError):
            shrunk = shrink(
                region, state, s < UNWANTED, s > SURE, target=self._target,
                reward=spare * room, deadline=self._deadline,
                is_interrupted=self._interrupted.is_set,
            )  # fmt: skip
        if shrunk is not None:
            decided = shrunk.certificate
            outcome.certificates.append(decided)
            outcome.improve(shrunk.value)
            outcome.closed = outcome.value <= self._target
            outcome.region, outcome.state = region.fixed(decided.out, decided.into), shrunk.state

    def _branching_feature(
        self, outcome: _Outcome, state: State, s: FloatArray, value: float
    ) -> int:
        """The free feature whose two sides promise to lower the bound most."""
        places = np.flatnonzero(np.isin(state.free, outcome.region.free))
        s = s[places]
        products = state.X[1:, 1:][np.ix_(places, places)].astype(np.float64)
        undecided = np.flatnonzero(s * (1.0 - s) > LEAST_UNDECIDED)
        if not len(undecided):
            return int(outcome.region.free[np.argmin(np.abs(s - 0.5))])
        features = outcome.region.free[undecided]
        distance = _expected_change(s, products)[:, undecided]
        distance += FLOOR * distance.mean(axis=1)[:, None]
        room = value - self._target
        costs = self._costs
        n_probed = min(max(PROBE_SIZE // len(s), LEAST_PROBED), MOST_PROBED)
        best = np.argsort(-costs.scores(features, distance, room), kind="stable")[:n_probed]
        features, distance = features[best], distance[:, best]
        unknown = costs.is_unknown(features, DEAR_TRIALS if len(s) > CORE_FROM else TRIALS)
        if unknown.any():
            core = Region(
                outcome.region.problem, outcome.region.ones, outcome.region.free[s > UNWANTED]
            )
            with contextlib.suppress(np.linalg.LinAlgError):
                self._try(core, state, features[unknown], distance[:, unknown], outcome.trials)
            costs = costs.after(outcome.trials)
        return int(features[np.argmax(costs.scores(features, distance, room))])

    def _try(
        self,
        core: Region,
        state: State,
        features: IntArray,
        distance: FloatArray,
        falls: list[Fall],
    ) -> None:
        """A few iterations with each of the features out and in, against as many with neither."""

        def tried(region: Region, state: State) -> Bound:
            return semidefinite_bound(
                region, closes=lambda value: self._interrupted.is_set(),
                state=replace(state, beta=PROBE_PENALTY * state.beta), max_steps=PROBE_STEPS,
                deadline=self._deadline,
            )  # fmt: skip

        if core.is_empty or core.single is not None:
            return
        before = tried(core, state)
        for feature, both in zip(features.tolist(), distance.T.tolist(), strict=True):
            for selected in (False, True):
                part = core.with_feature(feature, selected)
                if not part.is_empty and part.single is None:
                    fall = before.value - tried(part, before.state).value
                    falls.append(Fall(feature, selected, both[int(selected)], fall))


def _expected_change(s: FloatArray, products: FloatArray) -> FloatArray:
    """Squared change of the conditional mean of s by each feature out and in, (2, n_features)."""
    covariance = products - np.outer(s, s)
    np.fill_diagonal(covariance, s * (1.0 - s))
    size = np.einsum("ij,ij->i", covariance, covariance)
    with np.errstate(divide="ignore", invalid="ignore"):
        change: FloatArray = np.nan_to_num(size / np.stack([1.0 - s, s]) ** 2)
    return change
