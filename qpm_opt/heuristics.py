"""Good selections fast: greedy construction, exact 1-swap descent, and a search that goes on.

Only the selection is searched. Its value takes every class's ``n_per_class`` largest similarities
(:func:`qpm_opt.assign.top_k_value`); the search subtracts what classes with equal best sets lose at
least. :func:`qpm_opt.assign.assign` adds distinctness and side constraints exactly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike

from qpm_opt.assign import assign_within, is_selection
from qpm_opt.assignment import Assignment
from qpm_opt.errors import InvalidInputError
from qpm_opt.problem import Problem
from qpm_opt.swaps import Swaps
from qpm_opt.validation import IntArray

PATIENCE = 100
"""Exchanges of one round of tabu search without a better selection (or all there are, if fewer)."""
STALE = 20
"""Rounds in succession without a better selection, after which the search begins anew."""
WIDE_SHAKES = 0.1
"""Share of the rounds that begin anywhere, not near the best selection."""
ASSIGN_SHARE, SIDE_ASSIGN_SHARE, ASSIGN_LEAST = 0.1, 0.3, 1.0
"""Share of the time left that one exact assignment may take, without and with side constraints, and
the seconds it may in any case."""
FREE_SHARE = 0.3
"""Share of the time in which a first selection is searched for without side constraints."""
DOUBT = 0.999
"""What is left, a selection later, of the shortfall that side constraints seem to cost at least."""
N_SPARE = 20
"""Failing exact assignments of a round at selections that are not locally optimal."""


def greedy(problem: Problem) -> IntArray:
    """Selection built feature by feature, each time the one that adds most to the objective.

    While fewer than ``n_per_class`` features are there, every class uses all of them. All gains are
    kept up to date, so no assumption of submodularity is made (R may be negative).

    Returns
    -------
    ndarray of shape (n_selected,), int
        Feature indices, ascending.
    """
    A, k = problem.class_similarity, problem.n_per_class
    threshold = np.full(problem.n_classes, -np.inf)  # k-th largest value of each class so far
    gain = np.where(problem.candidates, problem.bias + A.sum(axis=0), -np.inf)
    selected: list[int] = []
    for _ in range(problem.n_selected):
        best = int(np.argmax(gain))
        selected.append(best)
        gain -= problem.feature_similarity[best]
        gain[best] = -np.inf
        if len(selected) < k or not problem.n_classes:
            continue
        changed = np.flatnonzero(A[:, best] > threshold)
        mine = A[changed[:, None], selected]
        new = np.partition(mine, -k, axis=1)[:, -k]
        rows = A[changed]
        before = np.maximum(rows - threshold[changed, None], 0.0) if len(selected) > k else rows
        gain += (np.maximum(rows - new[:, None], 0.0) - before).sum(axis=0)
        threshold[changed] = new
    return np.sort(np.array(selected, dtype=np.intp))


def swap_search(
    problem: Problem, selected: ArrayLike, *, deadline: float | None = None
) -> IntArray:
    """Best-improvement descent over all exchanges of a selected feature for another.

    Parameters
    ----------
    problem : Problem
    selected : array of shape (n_selected,), int
        Feature indices to start from.
    deadline : float, optional
        Value of ``time.perf_counter()`` at which to stop with the best selection so far.

    Returns
    -------
    ndarray of shape (n_selected,), int
        Feature indices, ascending; no exchange improves them unless the deadline was reached.
    """
    swaps = Swaps(problem, selected)
    swaps.descend(lambda: deadline is not None and time.perf_counter() >= deadline)
    return swaps.selected


class _Incumbent:
    """Best feasible assignment so far; assigns exactly what may beat it."""

    def __init__(
        self,
        problem: Problem,
        start: Assignment | None,
        deadline: float | None,
        on_assignment: Callable[[Assignment], object] | None,
    ) -> None:
        self.problem = problem
        self.assignment: Assignment | None = None
        self.objective = -math.inf
        self._deadline = deadline
        self._on_assignment = on_assignment
        self._assigned: set[bytes] = set()
        # What the exact value has fallen short of the bound by at least, more doubtful with time.
        self._shortfall = math.inf
        if start is not None and not problem.violations(start):
            self.assignment, self.objective = start, problem.objective(start)

    def hopes_for(self, bound: float) -> bool:
        """Whether a selection of this bound may be better, as far as those before it tell.

        Side constraints cost more than the bound knows, and to meet them takes long. With every
        question less is trusted in what they have cost so far.
        """
        if not self.problem.has_side_constraints or math.isinf(self._shortfall):
            return True
        hopeful = bound - self._shortfall > self.objective
        self._shortfall *= DOUBT
        return hopeful

    def consider(self, swaps: Swaps, bound: float = math.inf) -> bool:
        """Assign the selection unless that was done before; return whether it is the new best."""
        selected = swaps.selected
        key = selected.tobytes()
        if key in self._assigned:
            return False
        self._assigned.add(key)
        limit = None
        if self._deadline is not None:
            left = max(0.0, self._deadline - time.perf_counter())
            share = SIDE_ASSIGN_SHARE if self.problem.has_side_constraints else ASSIGN_SHARE
            limit = min(left, max(ASSIGN_LEAST, share * left))
        assignment = assign_within(self.problem, selected, limit)
        if assignment is None:
            return False
        objective = self.problem.objective(assignment)
        self._shortfall = min(self._shortfall, bound - objective)
        if objective <= self.objective:
            return False
        self.assignment, self.objective = assignment, objective
        if self._on_assignment is not None:
            self._on_assignment(assignment)
        return True


def search(
    problem: Problem,
    *,
    start: Assignment | None = None,
    time_limit: float | None = None,
    seed: int = 0,
    max_restarts: int | None = None,
    on_assignment: Callable[[Assignment], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Assignment | None:
    """Iterated tabu search over selections, each promising one assigned exactly.

    From the start's selection, or the greedy one, the search descends to a local optimum and goes
    on from there by tabu search: the best exchange that does not undo a recent one, improving or
    not, and with equal best sets of classes held against it. When that stagnates, random exchanges
    in the best selection begin the next round. After ``STALE`` rounds without a better one, what
    was best is left behind and a random selection begins.

    Parameters
    ----------
    problem : Problem
    start : Assignment, optional
        Where to begin. The result is never worse, if it is feasible.
    time_limit : float, optional
        Seconds.
    seed : int
        With ``max_restarts`` as the only limit the search is deterministic.
    max_restarts : int, optional
        Rounds after the first.
    on_assignment : callable, optional
        Called with every new best assignment; the first is that of the first selection.
    should_stop : callable, optional
        Asked before every exchange.

    Returns
    -------
    Assignment or None
        The best found by ``problem.objective``; None if no feasible one was found.

    Raises
    ------
    InvalidInputError
        If no limit at all is given.

    References
    ----------
    Palubeckis, Iterated tabu search for the maximum diversity problem, Applied Mathematics and
    Computation 189 (2007) 371-383.
    """
    if time_limit is None and max_restarts is None and should_stop is None:
        raise InvalidInputError(
            "The search has no end; give time_limit, max_restarts or should_stop."
        )
    deadline = None if time_limit is None else time.perf_counter() + time_limit

    def over() -> bool:
        late = deadline is not None and time.perf_counter() >= deadline
        return late or (should_stop is not None and should_stop())

    rng = np.random.default_rng(seed)
    incumbent = _Incumbent(problem, start, deadline, on_assignment)
    begun = start is not None and is_selection(problem, start.selected)
    if start is not None and begun:
        swaps = Swaps(problem, start.selected)
    else:
        swaps = Swaps(problem, greedy(problem))
        if problem.has_side_constraints:
            incumbent.consider(swaps)
    # Under pairs the first search has other classes, of which a start says nothing.
    begun = begun and bool(len(problem.pairs))
    if problem.has_side_constraints and not begun and (time_limit, max_restarts) != (None, None):
        # Many times as fast, and mostly near.
        free = search(
            _without_side_constraints(problem),
            start=None if len(problem.pairs) else start,
            time_limit=None if time_limit is None else FREE_SHARE * time_limit,
            seed=seed,
            max_restarts=max_restarts,
            should_stop=should_stop,
        )
        if free is not None:
            swaps = Swaps(problem, free.selected)
    incumbent.consider(swaps)
    best, best_value = swaps.slots.copy(), -math.inf
    restart = stale = 0
    while not over():
        swaps.descend(over)
        slots, value = _tabu_search(swaps, rng, incumbent, over)
        stale = 0 if value > best_value + swaps.tolerance else stale + 1
        if value >= best_value:  # an equally good selection elsewhere is a new chance
            best, best_value = slots, value
        if restart == max_restarts or swaps.n_out == 0:
            break
        restart += 1
        if stale < STALE:
            swaps.reset(_shake(swaps, best, rng))
        else:
            best_value, stale = -math.inf, 0
            swaps.reset(rng.choice(swaps.features.size, best.size, replace=False))
    return incumbent.assignment


def _without_side_constraints(problem: Problem) -> Problem:
    """The problem for a first selection: classes that contrastive pairs connect are one class.

    They share nearly all features, so what counts is how much a feature gives to all of them.
    """
    free = problem.without_side_constraints()
    if not len(problem.pairs):
        return free
    groups = [sorted(group) for group in nx.connected_components(nx.Graph(problem.pairs.tolist()))]
    alone = np.setdiff1d(np.arange(problem.n_classes), problem.pairs)
    A = problem.class_similarity
    merged = [A[alone], *(A[group].sum(axis=0, keepdims=True) for group in groups)]
    return replace(free, class_similarity=np.concatenate(merged), distinct=False)


def _tabu_search(
    swaps: Swaps, rng: np.random.Generator, incumbent: _Incumbent, over: Callable[[], bool]
) -> tuple[IntArray, float]:
    """Best exchange after best exchange until ``PATIENCE`` of them bring nothing.

    Returns
    -------
    slots : ndarray of shape (n_selected,), int
        Best selection visited.
    value : float
    """
    p, n_out = swaps.slots.size, swaps.n_out
    # As many features stay tabu as tenures are long, so one exchange always remains allowed.
    stay = [min(t, p - 1) for t in (max(1, p // 25), max(3, p // 8 + 1))]
    away = [min(t, n_out - 1) for t in (max(6, p // 10 + 1), max(16, p // 3 + 1))]
    stays_until = np.zeros(p, dtype=np.intp)
    away_until = np.zeros(swaps.features.size, dtype=np.intp)
    problem = swaps.problem
    constrained = bool(len(problem.pairs)) or (problem.distinct and problem.n_classes > 1)
    best, best_bound = swaps.slots.copy(), -math.inf
    n_spare, step, last = N_SPARE, 0, 0
    patience = min(PATIENCE, p * n_out)
    while step - last < patience and not over():
        bound = swaps.value - (swaps.loss() if constrained else 0.0)
        if bound > best_bound + swaps.tolerance:
            best, best_bound, last = swaps.slots.copy(), bound, step
        find = swaps.best_constrained if constrained else swaps.best
        change, slot, incoming = find(stays_until <= step, away_until <= step)
        if bound > incumbent.objective + swaps.tolerance:
            # Where the top-k value is locally optimal always; elsewhere while the attempts last.
            if (change <= swaps.tolerance or n_spare > 0) and incumbent.hopes_for(bound):
                n_spare = N_SPARE if incumbent.consider(swaps, bound) else n_spare - 1
        if slot < 0:
            break
        outgoing = swaps.slots[slot]
        swaps.apply(change, slot, incoming)
        step += 1
        stays_until[slot] = step + rng.integers(stay[0], stay[1] + 1)
        away_until[outgoing] = step + rng.integers(away[0], away[1] + 1)
    return best, best_bound


def _shake(swaps: Swaps, slots: IntArray, rng: np.random.Generator) -> IntArray:
    """A fifth to a half of the selected features, now and then any number, exchanged at random."""
    p = slots.size
    share = (0.0, 1.0) if rng.random() < WIDE_SHAKES else (0.2, 0.5)
    n = min(max(2, round(p * rng.uniform(*share))), p, swaps.n_out)
    outside = np.setdiff1d(np.arange(swaps.features.size), slots)
    shaken = slots.copy()
    shaken[rng.choice(p, n, replace=False)] = rng.choice(outside, n, replace=False)
    return shaken
