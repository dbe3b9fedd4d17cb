"""What if: a solved problem again under demands, from its solution, with what they cost.

Demands become coefficients (:mod:`qpm_opt.demand_weights`). That two classes differ in a feature is
two cases, which are solved one after the other.

For any weight at all, the bound of the problem with weights is one under the demands, as solutions
that meet them have the same objective. So is the bound of the problem without demands.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qpm_opt.assign import assign_within
from qpm_opt.assignment import Assignment
from qpm_opt.demand_weights import ObjectiveRange, objective_range, weighted
from qpm_opt.demands import ContradictionError, Demands
from qpm_opt.errors import InvalidInputError, InvalidSolutionError
from qpm_opt.files import read_solution
from qpm_opt.heuristics import search
from qpm_opt.optimize import MAX_SEED, check_limits, check_method, solve
from qpm_opt.problem import Problem
from qpm_opt.result import SolutionStatus, TerminationCondition, meets
from qpm_opt.steering_result import WhatIf
from qpm_opt.swaps import Swaps
from qpm_opt.verification import VALUE_TOLERANCE, certificate_path, finite_number, recheck

#: Room beyond what the objective can differ, relative to the largest coefficient and the objective.
_SPARE, _SPARE_OF_VALUE = 1e-2, 1e-5
#: Rounds of a search after the first: it soon ends in a corner that it does not leave, and another
#: seed finds others. So many seeds there are without a time limit.
ROUNDS, N_SEARCHES = 10, 10
#: Share of the time in which heuristics look at all cases; the best one gets the rest.
SCOUT_SHARE = 0.4
#: Share of the time that the first assignment of a case may take, without and with side
#: constraints, which take seconds to meet.
START_SHARE, SIDE_START_SHARE = 0.1, 0.5


def what_if(
    problem: Problem,
    demands: Demands,
    warm_start: Assignment | str | os.PathLike[str],
    *,
    method: str = "heuristic",
    time_limit: float | None = 7.0,
    threads: int | None = None,
    seed: int = 0,
    class_name: Callable[[int], str] = "class {}".format,
) -> WhatIf:
    """Solve a problem again under demands, from the solution that is there.

    Parameters
    ----------
    problem : Problem
    demands : Demands
    warm_start : Assignment or path
        A feasible assignment, or a solution file with one. The bound of the file is taken over on
        its word; ``qpm verify`` checks it.
    method : {"heuristic", "exact", "compact", "paper"}
        As for :func:`qpm_opt.solve`. ``exact`` bounds what is possible under the demands.
    time_limit : float, optional
        Seconds for everything from the call on.
    threads, seed : int, optional
    class_name : callable, optional
        What a class is called in sentences.

    Returns
    -------
    WhatIf
        Its solution is checked by code that shares nothing with what solves.

    Raises
    ------
    InvalidInputError
        If there are no demands, or they name what is not there, or for an unusable option.
    ContradictionError
        If they contradict each other.
    InvalidSolutionError
        If the warm start breaks a constraint of the problem.
    """
    began = time.perf_counter()
    check_method(method, "highs")
    time_limit, _, threads, seed = check_limits(time_limit, 0.0, threads, seed)
    if not demands:
        raise InvalidInputError("There are no demands; require or forbid something.")
    demands.check(problem, class_name)
    before = _Before.of(problem, warm_start)
    deadline = math.inf if time_limit is None else began + time_limit
    scope = objective_range(problem)
    cases = [_Case(problem, case, scope, before.bound) for case in demands.cases(problem)]
    if not cases:
        raise ContradictionError(
            "In every pair of classes that are to differ in a feature either may have it, but "
            "not in all pairs at once; leave one of these demands out."
        )
    options = {"method": method, "threads": threads, "seed": seed}
    condition = _solve_cases(cases, before.assignment, deadline, options)
    return _judged(
        problem, demands, before, cases, condition, began, class_name,
        options | {"time_limit": time_limit},
    )  # fmt: skip


@dataclass(frozen=True)
class _Before:
    """The solution that is there, with the bound that its file states."""

    assignment: Assignment
    objective: float
    bound: float | None = None
    bound_kind: str | None = None
    certificate: Path | None = None

    @classmethod
    def of(cls, problem: Problem, given: Assignment | str | os.PathLike[str]) -> _Before:
        path = None if isinstance(given, Assignment) else Path(given)
        held = given if isinstance(given, Assignment) else Assignment.load(given, problem)
        violations = problem.violations(held)
        if violations:
            raise InvalidSolutionError(f"The solution is infeasible: {violations[0].message}")
        objective = problem.objective(held)
        record = {} if path is None else read_solution(path)
        bound = finite_number(record.get("bound"))
        if (
            path is None
            or record.get("problem_sha256") != problem.sha256
            or bound is None
            or (not meets(bound, objective, scale=problem.scale) and bound < objective)
        ):
            return cls(held, objective)
        try:
            certificate = certificate_path(record, path.resolve().parent)
        except InvalidSolutionError:
            certificate = None
        return cls(held, objective, bound, str(record.get("bound_kind")), certificate)


class _Case:
    """Demands without alternatives: their problem, and the best that is known about it."""

    def __init__(
        self, problem: Problem, demands: Demands, scope: ObjectiveRange, known: float | None
    ) -> None:
        self.problem, self.demands, self._scope = problem, demands, scope
        self._upper = scope.upper if known is None else min(known, scope.upper)
        # Twice what is needed: whether the bound shows that a demand is broken is then no matter
        # of rounding.
        self._weight = 2 * self._above(scope.upper - scope.lower)
        self._start: Assignment | None = None
        self._n_searches = 0
        self.best: Assignment | None = None
        self.objective = -math.inf
        self.bound: float | None = None
        self.bound_kind: str | None = None
        self.scale = problem.scale  # of the problem that is solved, for tolerances
        self.is_infeasible = False

    def _above(self, difference: float) -> float:
        """A weight that exceeds a difference of objectives."""
        spare = _SPARE * self.problem.scale + _SPARE_OF_VALUE * abs(self._upper)
        return max(0.0, difference) + spare

    def _rounding(self, changed: Problem) -> float:
        """By how much rounded coefficients may let objectives differ from those before."""
        k, n_classes = changed.n_per_class, changed.n_classes
        n_terms = n_classes * k + changed.n_selected
        # A value in the row of a class changes at most k + 1 times.
        return (k + 2) * n_terms * float(np.finfo(np.float64).eps) * changed.scale

    def take(self, assignment: Assignment) -> None:
        """Keep an assignment if it meets the demands and is the best so far."""
        rows = [np.flatnonzero(row).tolist() for row in assignment.matrix]
        objective = self.problem.objective(assignment)
        if objective > self.objective and not self.demands.unmet(assignment.selected, rows):
            self.best, self.objective = assignment, objective

    def begin(self, held: Assignment, deadline: float) -> None:
        """Descend from the selection that is there, with all that is forbidden at a weight."""
        forbidden = list(self.demands.forbidden)
        changed = weighted(self.problem, self.demands, self._weight)
        b = changed.bias.copy()
        b[forbidden] -= self._weight
        soft = replace(changed, feature_bias=b, candidate=self.problem.candidates)
        swaps = Swaps(soft, held.selected)
        swaps.descend(lambda: time.perf_counter() >= deadline)
        selected = swaps.selected
        if changed.candidates[selected].all():
            limit = None if math.isinf(deadline) else max(0.0, deadline - time.perf_counter())
            self._start = assign_within(changed, selected, limit)
        if self._start is not None:
            self.take(self._start)
        self.take(held)

    def search(self, deadline: float, seed: int) -> TerminationCondition:
        """Search from the first assignment, with one seed after another, until a deadline."""
        changed = weighted(self.problem, self.demands, self._weight)
        limited = math.isfinite(deadline)
        try:
            while True:
                left = max(0.0, deadline - time.perf_counter()) if limited else None
                search(
                    changed,
                    start=self._start,
                    time_limit=left,
                    max_restarts=ROUNDS,
                    seed=(seed + self._n_searches) % (MAX_SEED + 1),
                    on_assignment=self.take,
                )
                self._n_searches += 1
                if changed.candidates.sum() == changed.n_selected:  # there is but one selection
                    return TerminationCondition.COMPLETED
                if not limited and self._n_searches >= N_SEARCHES:
                    return TerminationCondition.COMPLETED
                if time.perf_counter() >= deadline:
                    return TerminationCondition.TIME_LIMIT
        except KeyboardInterrupt:
            return TerminationCondition.INTERRUPTED

    def solve(self, deadline: float, options: dict[str, Any]) -> TerminationCondition:
        """Go on until a deadline, and keep what comes out."""
        if options["method"] == "heuristic":
            return self.search(deadline, options["seed"])
        weight = self._weight
        if self.best is not None:
            # Large weights would drown the rest in the matrices of the bounds. This one still
            # keeps all that breaks a demand below the best that does not.
            weight = min(weight, self._above(self._upper - self.objective))
        changed = weighted(self.problem, self.demands, weight)
        self.scale = changed.scale
        result = solve(
            changed,
            warm_start=self._start if self.best is None else self.best,
            time_limit=None if math.isinf(deadline) else max(0.0, deadline - time.perf_counter()),
            **options,
        )
        if result.assignment is not None:
            self.take(result.assignment)
        if result.bound is not None:
            bound = result.bound + self._rounding(changed)
            if self.bound is None or bound < self.bound:
                self.bound, self.bound_kind = bound, result.bound_kind
            room = self._above(0.0)
            self.is_infeasible = self.best is None and bound < self._scope.lower - room
        if result.termination_condition is TerminationCondition.INFEASIBLE:
            self.is_infeasible = self.best is None
        return result.termination_condition


def _solve_cases(
    cases: list[_Case], held: Assignment, deadline: float, options: dict[str, Any]
) -> TerminationCondition:
    """Solve the cases, promising ones first, and say why that stopped."""

    def part(share: float) -> float:
        now = time.perf_counter()
        return now + share * (deadline - now) if math.isfinite(deadline) else deadline

    constrained = cases[0].problem.has_side_constraints
    first = part(SIDE_START_SHARE if constrained else START_SHARE)
    for i, case in enumerate(cases):
        now = time.perf_counter()
        case.begin(held, now + (first - now) / (len(cases) - i) if math.isfinite(first) else first)
    cases.sort(key=lambda case: -case.objective)
    rounds = [(case, 1.0 / (len(cases) - i)) for i, case in enumerate(cases)]
    if options["method"] == "heuristic" and len(cases) > 1 and math.isfinite(deadline):
        scouts, seed = part(SCOUT_SHARE), options["seed"]
        for i, case in enumerate(cases):
            now = time.perf_counter()
            until = now + (scouts - now) / (len(cases) - i)
            if case.search(until, seed) is TerminationCondition.INTERRUPTED:
                return TerminationCondition.INTERRUPTED
        rounds = [(max(cases, key=lambda case: case.objective), 1.0)]
    conditions = []
    for case, share in rounds:
        conditions.append(case.solve(part(share), options))
        if conditions[-1] is TerminationCondition.INTERRUPTED:
            return TerminationCondition.INTERRUPTED
    if all(case.is_infeasible for case in cases):
        return TerminationCondition.INFEASIBLE
    for condition in (TerminationCondition.TIME_LIMIT, TerminationCondition.ERROR):
        if condition in conditions:
            return condition
    return TerminationCondition.COMPLETED


def _judged(
    problem: Problem,
    demands: Demands,
    before: _Before,
    cases: list[_Case],
    condition: TerminationCondition,
    began: float,
    class_name: Callable[[int], str],
    options: dict[str, Any],
) -> WhatIf:
    """Put together the best case and the bound of all, believing only what was checked."""
    best = max(cases, key=lambda case: case.objective)
    after, objective = best.best, None
    rejections: tuple[str, ...] = ()
    status = SolutionStatus.NO_SOLUTION
    bound, kind, own = before.bound, before.bound_kind, False
    if kind is not None:
        kind += ", without the demands"
    open_cases = [case for case in cases if not case.is_infeasible]
    if open_cases and all(case.bound is not None for case in open_cases):
        weakest = max(open_cases, key=lambda case: -math.inf if case.bound is None else case.bound)
        assert weakest.bound is not None
        if bound is None or weakest.bound < bound:
            bound, kind, own = weakest.bound, f"{weakest.bound_kind}, under the demands", True
    if condition is TerminationCondition.INFEASIBLE:
        bound = kind = None
    if after is not None:
        found = recheck(problem, after)
        objective = problem.objective(after)
        rows = [np.flatnonzero(row).tolist() for row in after.matrix]
        chosen = np.flatnonzero(after.selection).tolist()
        rejections = (*found.broken, *demands.unmet(chosen, rows, class_name))
        if abs(objective - found.objective) > VALUE_TOLERANCE * best.scale:
            rejections += (f"objective is {objective:.12g}, recomputed {found.objective:.12g}.",)
        optimal = own and meets(objective, bound, scale=best.scale)
        status = SolutionStatus.OPTIMAL if optimal else SolutionStatus.FEASIBLE
        if rejections:
            status = SolutionStatus.INFEASIBLE
        elif optimal:
            condition = TerminationCondition.OPTIMAL
    known = before.bound
    if objective is not None and known is not None and objective > known:
        if not meets(known, objective, scale=problem.scale):  # refuted
            known = None
            if not own:
                bound = kind = None
    return WhatIf(
        demands=demands,
        before=before.assignment,
        after=after,
        objective_before=before.objective,
        objective_after=objective,
        bound=bound,
        bound_kind=kind,
        termination_condition=condition,
        solution_status=status,
        rejections=rejections,
        bound_before=known,
        bound_kind_before=None if known is None else before.bound_kind,
        certificate=None if known is None else before.certificate,
        method=options["method"],
        options=options,
        wall_time=time.perf_counter() - began,
    )
