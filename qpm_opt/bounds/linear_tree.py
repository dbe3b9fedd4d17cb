"""Branch and bound on the selection where free features have no similarities (R = 0).

The projected linear bound is then nearly tight, and a tree of features decided in and out proves
what is left. Every node first tries its parent's multipliers, which costs one evaluation, and only
then linear programs, which start from its parent's inequalities and basis; or, in a large tree and
with Numba, it starts from its parent's vertex (:mod:`qpm_opt.bounds.linear_compiled`).
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol

import numpy as np

from qpm_opt.assign import assign_within
from qpm_opt.assignment import Assignment
from qpm_opt.bounds.base import Bound
from qpm_opt.bounds.best_first import BestFirst
from qpm_opt.bounds.incumbents import offer_selection, relaxed_value, rounded
from qpm_opt.bounds.linear import LinearState, has_similarities, linear_bound
from qpm_opt.bounds.linear_warm import WarmBounds
from qpm_opt.bounds.proof import Certificate, Proof
from qpm_opt.bounds.pseudocosts import Fall, PseudoCosts
from qpm_opt.bounds.region import Region
from qpm_opt.validation import FloatArray, IntArray

if TYPE_CHECKING:  # needs Numba
    from qpm_opt.bounds.compilation import Compilation

logger = logging.getLogger(__name__)

N_PROBED, RELIABLE = 16, 4
"""Features looked at before one is branched on, and measurements after which one is known."""
WARM_FROM = 3
"""Leaves split before a process is started that goes on from the basis of a leaf."""
COMPILED_FROM, COMPILATION = 10_000_000, 60.0
"""Leaves split, times the similarities of the root, before compiled code takes over, if Numba is
installed. Where it has not been compiled yet, that is begun if so many seconds are left, and the
tree waits for it as long; after that it goes on."""
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


@dataclass
class _Entered:
    """A new leaf: what bounds it, and what is left of it."""

    value: float = math.inf
    certificates: list[Certificate] = field(default_factory=list)
    left: tuple[Region, Bound] | None = None
    """Region and bound if it stays open."""
    is_stuck: bool = False
    """Whether it can neither be closed nor split."""


@dataclass
class _Split:
    """Both sides of a leaf by a feature, out and in, and what was learned on the way."""

    feature: int
    sides: tuple[_Entered, _Entered]
    falls: list[Fall]


class Program(Protocol):
    """Bounds on the parts of one region after the other, each from what is known of the region."""

    is_final: bool
    """Whether fixing features by a bound makes the next one no lower."""

    def load(self, region: Region, state: LinearState) -> object:
        """Go over to the parts of another region, which is not a single selection.

        ``state`` is ``Bound.state`` of the region, or of one that contains it.
        """

    def bound(
        self, region: Region, state: LinearState, *, target: float, deadline: float
    ) -> Bound | None:
        """Bound on a part that is not empty, as by ``linear_bound``; None if there is none in time.

        ``state`` is that of the region loaded.
        """

    def probe(self, region: Region, features: IntArray, deadline: float) -> FloatArray | None:
        """What deciding each of some features out and in would do, at little cost."""

    def close(self) -> None:
        """End what runs beside."""


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
    threads: int = 1,
) -> float:
    """Grow a proof below a leaf until no selection of its region is better than the cutoff.

    Deterministic for one thread, but for the deadline. An interrupt leaves the proof sound.

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
    threads : int
        Leaves split at a time.

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
    tree = _Tree(proof, region, cutoff, offer, deadline, threads)
    try:
        return tree.grow(index, region, state, on_bound)
    finally:
        tree.close()


class _Pool:
    """Programs that are used by one thread at a time."""

    def __init__(self, new: Callable[[], Program]) -> None:
        self._new = new
        self._made: dict[Program, Callable[[], Program]] = {}
        self._idle: SimpleQueue[Program] = SimpleQueue()

    def take(self) -> Program:
        """One that no other thread has."""
        try:
            return self._idle.get_nowait()
        except Empty:
            new = self._new
            program = new()
            self._made[program] = new
            return program

    def put(self, program: Program) -> None:
        """Give it back."""
        if self._made[program] is self._new:
            self._idle.put(program)
        else:
            program.close()

    def exchange(self, new: Callable[[], Program]) -> None:
        """Make others from now on, and end those there are when nobody uses them."""
        self._new = new
        with contextlib.suppress(Empty):
            while True:
                self._idle.get_nowait().close()

    def close(self) -> None:
        """End them all; one that is in use answers nothing from then on."""
        for program in list(self._made):
            program.close()


class _Tree:
    """The open leaves; :meth:`_split` may run on several threads.

    What that changes here is queues, and collections that only grow, by single operations.
    """

    def __init__(
        self,
        proof: Proof,
        region: Region,
        cutoff: Callable[[], float],
        offer: Callable[[Assignment], object],
        deadline: float,
        threads: int,
    ) -> None:
        self._proof, self._problem = proof, region.problem
        self._goal, self._deadline = cutoff, deadline
        self._open: BestFirst[_Leaf, _Split, Assignment]
        self._open = BestFirst(self._split, self._take, offer, threads)
        self._stuck = -math.inf  # highest bound of a leaf that can neither be closed nor split
        self._assigned: set[bytes] = set()
        self._costs = PseudoCosts(self._problem.n_features)
        self._n_splits = 0
        self._root: tuple[Region, Bound] | None = None  # until compiled code takes over
        self._compilation: Compilation | None = None
        self._pool = _Pool(WarmBounds)

    def close(self) -> None:
        """End what runs beside."""
        self._pool.close()
        if self._compilation is not None:
            self._compilation.close()

    def grow(
        self,
        index: int,
        region: Region,
        state: LinearState | None,
        on_bound: Callable[[float], object] | None,
    ) -> float:
        """Split the leaf with the highest bound until all are closed or the time is up."""
        try:
            entered = self._enter(region, state, None)
        finally:
            self._open.deliver()
        self._put(index, entered)
        self._root = entered.left
        best = math.inf

        def goes_on() -> bool:
            nonlocal best
            if self._highest() < best:
                best = self._highest()
                if on_bound is not None:
                    on_bound(best)
            return best > self._cutoff() and not self._late()

        self._open.run(goes_on, self._stop)
        return max(min(best, self._highest()), self._goal())

    def _stop(self) -> None:
        self._deadline = -math.inf
        self.close()

    def _highest(self) -> float:
        """Highest bound of an open leaf."""
        first = self._open.first
        return max(self._stuck, -math.inf if first is None else -first.negative_bound)

    def _cutoff(self) -> float:
        """The caller's cutoff less what a check of the proof may round up."""
        goal = self._goal()
        return goal - ROUNDING * abs(goal)

    def _late(self) -> bool:
        return time.perf_counter() >= self._deadline

    def _take(self, leaf: _Leaf, split: _Split) -> None:
        """Take over both sides of a leaf."""
        self._n_splits += 1
        if self._root is not None:
            size = self._problem.n_classes * len(self._root[0].free)
            if self._n_splits * size >= COMPILED_FROM and not self._compile(*self._root):
                self._root = None
        for fall in split.falls:
            self._costs.learn(fall)
        children = self._proof.branch(leaf.index, split.feature, (False, True))
        # Of a node with children only what it fixes is of use.
        node = self._proof.nodes[leaf.index]
        node.certificates = [held for held in node.certificates if held.out.size or held.into.size]
        for child, side in zip(children, split.sides, strict=True):
            self._put(child, side)

    def _put(self, index: int, entered: _Entered) -> None:
        self._proof.nodes[index].certificates += entered.certificates
        if entered.left is not None:
            self._open.push(_Leaf(-entered.value, index, *entered.left))
        if entered.is_stuck:
            self._stuck = max(self._stuck, entered.value)

    def _enter(
        self, region: Region, state: LinearState | None, program: Program | None
    ) -> _Entered:
        """Bound a new leaf and fix what the bound decides."""
        entered = _Entered()
        while not region.is_empty:
            bound = self._bound(region, state, program)
            entered.value, cutoff = min(entered.value, bound.value), self._cutoff()
            if region.single is not None or bound.value <= cutoff:
                entered.certificates.append(bound.certificate)
                if region.single is not None:
                    self._settle(region.single, entered)
                return entered
            self._round(region, bound.s)
            rest, bound = _fixed(region, bound, cutoff)
            entered.certificates.append(bound.certificate)
            if not rest.is_empty and rest.single is None:
                is_final = program is not None and program.is_final
                if is_final or len(rest.free) > SHRUNK * len(region.free):
                    # A new region holds no arrays; thousands of leaves may be open.
                    entered.left = rest, bound
                    return entered
            region, state = rest, bound.state
        entered.value = self._cutoff()
        return entered

    def _bound(self, region: Region, state: LinearState | None, program: Program | None) -> Bound:
        """By the program that is kept alive, or else anew."""
        cutoff = self._cutoff()
        bound = None
        if program is not None and state is not None:
            bound = program.bound(region, state, target=cutoff, deadline=self._deadline)
        if bound is None:
            bound = linear_bound(region, state=state, target=cutoff, deadline=self._deadline)
        assert bound is not None  # there are no similarities
        return bound

    def _settle(self, selected: IntArray, entered: _Entered) -> None:
        """Close a leaf with a single selection by its optimal assignment."""
        found: list[Assignment] = []
        value = offer_selection(self._problem, selected, found.append, self._deadline)
        for assignment in found:
            self._open.hand_over(assignment)
        goal = max([self._goal(), *(self._problem.objective(assignment) for assignment in found)])
        if value <= goal:
            entered.value = self._cutoff()
        else:
            entered.value, entered.is_stuck = min(entered.value, value), True

    def _round(self, region: Region, s: FloatArray) -> None:
        """Find the assignment of the largest entries of s."""
        selected = rounded(region, s)
        if selected.tobytes() in self._assigned:
            return
        self._assigned.add(selected.tobytes())
        # Most points are worth less even without distinctness, which is dear to ensure.
        if relaxed_value(self._problem, selected) <= self._goal():
            return
        left = min(ROUNDING_TIME, self._deadline - time.perf_counter())
        assignment = assign_within(self._problem, selected, left) if left > 0.0 else None
        if assignment is not None:
            self._open.hand_over(assignment)

    def _compile(self, region: Region, bound: Bound) -> bool:
        """Go over to compiled code if it is there; whether it is worth another try later."""
        try:
            from qpm_opt.bounds.compilation import LINEAR, Compilation, is_kept
        except (ImportError, RuntimeError) as missing:  # Numba, or a place for what it compiles
            logger.info("The tree goes on without compiled code: %s", missing)
            return False
        compilation = self._compilation
        if compilation is None and not is_kept(LINEAR):
            if self._deadline - time.perf_counter() < COMPILATION:
                return False
            compilation = self._compilation = Compilation(LINEAR)
            compilation.wait(COMPILATION)  # beside the tree it would take twice as long
        is_over = compilation is None or compilation.is_over  # what it does last is to keep it
        if is_kept(LINEAR):
            from qpm_opt.bounds.linear_compiled import compiled_bounds

            new = compiled_bounds(region, bound.state.multipliers, self._deadline)
            if new is not None:
                self._pool.exchange(new)
                logger.info(
                    "after %d branchings the tree goes over to compiled code", self._n_splits
                )
            return False
        if is_over:
            logger.info("The tree goes on without compiled code, which could not be compiled.")
        return not is_over

    def _split(self, leaf: _Leaf) -> _Split:
        program = self._pool.take() if self._n_splits >= WARM_FROM else None
        try:
            if program is not None:
                program.load(leaf.region, leaf.bound.state)
            place, falls = self._choose(leaf, program)
            feature, s = int(leaf.region.free[place]), float(leaf.bound.s[place])
            sides = []
            for selected in (False, True):
                part = leaf.region.with_feature(feature, selected)
                entered = self._enter(part, leaf.bound.state, program)
                fall = -leaf.negative_bound - entered.value
                falls.append(Fall(feature, selected, 1.0 - s if selected else s, fall))
                sides.append(entered)
        finally:
            if program is not None:
                self._pool.put(program)
        return _Split(feature, (sides[0], sides[1]), falls)

    def _choose(self, leaf: _Leaf, program: Program | None) -> tuple[int, list[Fall]]:
        """Place of the free feature whose sides promise to lower the bound most, and trials."""
        region, s = leaf.region, leaf.bound.s
        places = np.flatnonzero(np.minimum(s, 1.0 - s) > FRACTIONAL)
        if not len(places):
            return int(np.argmax(s)), []
        features, distance = region.free[places], np.stack([s[places], 1.0 - s[places]])
        room = -leaf.negative_bound - self._cutoff()
        costs = self._costs
        promising = np.argsort(-costs.scores(features, distance, room), kind="stable")[:N_PROBED]
        unknown = promising[costs.is_unknown(features[promising], RELIABLE)]
        falls = self._trials(leaf, features[unknown], distance[:, unknown], program)
        if falls:
            costs = costs.after(falls)
        return int(places[np.argmax(costs.scores(features, distance, room))]), falls

    def _trials(
        self, leaf: _Leaf, features: IntArray, distance: FloatArray, program: Program | None
    ) -> list[Fall]:
        """Measure what deciding each of the free features does to the bound."""
        if not len(features) or self._late():
            return []
        values = None if program is None else program.probe(leaf.region, features, self._deadline)
        if values is None:
            values = np.array([self._one_round(leaf, feature) for feature in features.tolist()])
        falls = -leaf.negative_bound - values
        return [
            Fall(feature, selected, float(both[int(selected)]), float(fall[int(selected)]))
            for feature, both, fall in zip(features.tolist(), distance.T, falls, strict=True)
            for selected in (False, True)
        ]

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
