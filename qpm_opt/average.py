"""Average instead of equal sparsity: classes of different sizes (QPM paper, appendix G).

The constraint of exactly k features for every class is replaced by one for all:

    maximise   sum_cd A_cd W_cd  -  sum_{d<e} R_de s_d s_e  +  sum_d b_d s_d
    subject to sum_d s_d = p,  sum_cd W_cd = K = k n_classes,  W_cd <= s_d,
               every class has a feature (as in the authors' program),  no two rows of W equal.

A multiplier t on the one constraint makes a selection problem without classes of it: for any t,

    Z  <=  t K  +  max_s [ sum_d (b_d + sum_c max(A_cd - t, 0)) s_d - sum_{d<e} R_de s_d s_e ],

because ``sum_cd A_cd W_cd = t K + sum_cd (A_cd - t) W_cd``. The right side is convex in t. Each of
these problems goes to the method ``exact``; the multiplier moves to where the tangents of two of
them meet. If the selection found there has K similarities above t, the bound is the value of its K
best assignments, hence its optimum. Otherwise, and where classes would be empty or equal, a gap may
remain that the method cannot close; it is small if K is large.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from qpm_opt.assign_program import assign_average
from qpm_opt.assignment import Assignment, UndecidedAssignmentError
from qpm_opt.errors import InvalidProblemError
from qpm_opt.heuristics import search
from qpm_opt.optimize import check_limits, solve
from qpm_opt.problem import Problem, Violation
from qpm_opt.result import (
    Progress,
    Result,
    SolutionStatus,
    TerminationCondition,
    meets,
    relative_gap,
)

BOUND_KIND = "multiplier on the average, ignoring distinct and empty classes"
#: The search for a first selection: rounds after the first, and its share of the time.
START_ROUNDS, START_SHARE = 10, 0.1
#: How often the multiplier follows the selection that local search finds for it, before any bound.
MAX_STEPS = 10
#: Share of the time left that the bound of one multiplier may take.
MULTIPLIER_SHARE = 0.7
#: Share of the time left, or seconds if that is unlimited, for the assignment of one selection.
ASSIGN_SHARE, ASSIGN_TIME = 0.1, 60.0


def solve_average(
    problem: Problem,
    *,
    time_limit: float | None = None,
    gap: float = 0.0,
    threads: int | None = None,
    seed: int = 0,
    on_progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Solve a problem whose ``n_per_class`` holds on average instead of for every class.

    The assignment of the result breaks the problem's own constraint of equal classes: see
    :func:`average_violations`. The bound has no certificate.

    Parameters
    ----------
    problem : Problem
        Without side constraints.
    time_limit, gap, threads, seed, on_progress
        As for :func:`qpm_opt.solve`.

    Raises
    ------
    InvalidProblemError
        If the problem has no classes, or constraints of which this method knows nothing.
    InvalidInputError
        If an option is out of range.
    """
    if not problem.n_classes or problem.has_side_constraints:
        raise InvalidProblemError(
            "Average sparsity needs classes and knows neither contrastive pairs nor "
            "min_classes_per_feature; leave these out."
        )
    time_limit, gap, threads, seed = check_limits(time_limit, gap, threads, seed)
    run = _Run(problem, time_limit, gap, on_progress)
    condition = TerminationCondition.COMPLETED
    try:
        equal = search(
            problem,
            time_limit=None if time_limit is None else START_SHARE * time_limit,
            max_restarts=START_ROUNDS,
            seed=seed,
        )
        if equal is not None:
            run.offer(equal)  # equal sizes are one way to have that average
            run.assign(equal)
        t = _first_multiplier(run, seed)
        condition = _move_multiplier(run, t, threads, seed)
    except KeyboardInterrupt:
        condition = TerminationCondition.INTERRUPTED
    status = SolutionStatus.NO_SOLUTION
    violations: tuple[Violation, ...] = ()
    if run.assignment is not None:
        violations = average_violations(problem, run.assignment)
        status = SolutionStatus.INFEASIBLE if violations else SolutionStatus.FEASIBLE
        if not violations and meets(run.objective, run.bound, scale=problem.scale):
            status, condition = SolutionStatus.OPTIMAL, TerminationCondition.OPTIMAL
    return Result(
        termination_condition=condition,
        solution_status=status,
        assignment=run.assignment,
        violations=violations,
        objective=run.objective,
        bound=run.bound,
        bound_kind=None if run.bound is None else BOUND_KIND,
        method="exact",
        wall_time=run.elapsed,
        n_rounds=run.n_multipliers,
        progress=tuple(run.history),
        options={
            "sparsity": "average",
            "time_limit": time_limit,
            "gap": gap,
            "threads": threads,
            "seed": seed,
        },
    )


def average_violations(problem: Problem, assignment: Assignment) -> tuple[Violation, ...]:
    """Constraints that an assignment breaks if ``n_per_class`` holds on average."""
    found = [v for v in problem.violations(assignment) if v.name != "class_size"]
    sizes = assignment.matrix.sum(axis=1)
    total = problem.n_per_class * problem.n_classes
    if sizes.sum() != total:
        found.append(
            Violation("total_size", f"{sizes.sum()} features in all classes, {total} demanded.")
        )
    found += [
        Violation("empty_class", f"class {c} has no feature.") for c in np.flatnonzero(sizes == 0)
    ]
    return tuple(found)


def selection_problem(problem: Problem, t: float) -> Problem:
    """The problem without classes to which the multiplier t leads; without the constant t K."""
    worth = np.maximum(problem.class_similarity - t, 0.0).sum(axis=0)
    return replace(
        problem,
        class_similarity=np.empty((0, problem.n_features)),
        feature_bias=problem.bias + worth,
        n_per_class=0,
    )


class _Run:
    """What is held and known, and the clock."""

    def __init__(
        self,
        problem: Problem,
        time_limit: float | None,
        gap: float,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.problem = problem
        self.total = problem.n_per_class * problem.n_classes
        self.assignment: Assignment | None = None
        self.objective: float | None = None
        self.bound: float | None = None
        self.n_multipliers = 0
        self.is_best = True  # the last assignment, of its selection
        self.history: list[Progress] = []
        self._gap, self._on_progress = gap, on_progress
        self._began = time.perf_counter()
        self._time_limit = math.inf if time_limit is None else time_limit

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self._began

    @property
    def left(self) -> float:
        return self._time_limit - self.elapsed

    @property
    def closed(self) -> bool:
        gap = relative_gap(self.objective, self.bound)
        is_met = meets(self.objective, self.bound, scale=self.problem.scale)
        return is_met or (gap is not None and gap <= self._gap)

    def assign(self, found: Assignment, share: float = ASSIGN_SHARE) -> None:
        """Offer the best assignment of a selection, as far as that can be found in time."""
        time_left = ASSIGN_TIME if math.isinf(self.left) else share * self.left
        self.is_best = False
        try:
            assignment, self.is_best = assign_average(
                self.problem, found.selected, deadline=time.perf_counter() + time_left
            )
        except UndecidedAssignmentError:
            return
        self.offer(assignment)

    def offer(self, assignment: Assignment) -> None:
        value = self.problem.objective(assignment)
        if self.objective is None or value > self.objective:
            self.assignment, self.objective = assignment, value
            self._tell()

    def tighten(self, bound: float) -> None:
        if self.bound is None or bound < self.bound:
            self.bound = bound
            self._tell()

    def _tell(self) -> None:
        self.history.append(Progress(self.elapsed, self.objective, self.bound))
        if self._on_progress is not None:
            self._on_progress(self.history[-1])


def _first_multiplier(run: _Run, seed: int) -> float:
    """The multiplier of a selection that local search finds for it."""
    A, total = run.problem.class_similarity, run.total
    if run.assignment is None:  # the time was up before any was found
        return float(np.quantile(A, 1 - run.problem.n_per_class / run.problem.n_features))
    t = _threshold(A[:, run.assignment.selected], total)
    for _ in range(MAX_STEPS):
        left = None if math.isinf(run.left) else max(START_SHARE * run.left, 0.0)
        found = search(
            selection_problem(run.problem, t), time_limit=left, max_restarts=1, seed=seed
        )
        if found is None:
            break
        run.assign(found)
        last, t = t, _threshold(A[:, found.selected], total)
        if t == last:
            break
    return t


def _move_multiplier(run: _Run, t: float, threads: int | None, seed: int) -> TerminationCondition:
    """Solve for one multiplier after the other until bound and assignment meet, or none is new."""
    A, total = run.problem.class_similarity, run.total
    # Multiplier, value and slope of the tangent on either side of the best multiplier.
    sides: dict[bool, tuple[float, float, float]] = {}
    while not run.closed:
        if run.left <= 0:
            return TerminationCondition.TIME_LIMIT
        found = solve(
            selection_problem(run.problem, t),
            time_limit=None if math.isinf(run.left) else MULTIPLIER_SHARE * run.left,
            threads=threads,
            seed=seed,
        )
        run.n_multipliers += 1
        if found.bound is not None:
            run.tighten(t * total + found.bound)
        if found.assignment is None:
            return found.termination_condition
        run.assign(found.assignment)
        if found.termination_condition is TerminationCondition.INTERRUPTED:
            return TerminationCondition.INTERRUPTED
        values = A[:, found.assignment.selected]
        above, at_least = int((values > t).sum()), int((values >= t).sum())
        if above <= total <= at_least:  # no multiplier is better
            if not run.is_best:
                run.assign(found.assignment, share=1.0)
            is_proved = found.solution_status is SolutionStatus.OPTIMAL and run.is_best
            return TerminationCondition.COMPLETED if is_proved else TerminationCondition.TIME_LIMIT
        assert found.objective is not None
        slope = total - (above if above > total else at_least)
        sides[slope > 0] = (t, t * total + found.objective, slope)
        if len(sides) < 2:
            t = _threshold(values, total)
            continue
        t, lowest = _meeting_point(sides[False], sides[True])
        if meets(lowest, run.bound, scale=run.problem.scale):
            return TerminationCondition.COMPLETED  # no multiplier has a lower bound
    return TerminationCondition.GAP_LIMIT


def _threshold(values: np.ndarray, total: int) -> float:
    """The similarity that ``total`` of a selection's reach: its best multiplier."""
    return float(np.partition(values, values.size - total, axis=None)[values.size - total])


def _meeting_point(
    falling: tuple[float, float, float], rising: tuple[float, float, float]
) -> tuple[float, float]:
    """Multiplier at which the tangents on either side meet, and their value there."""
    (t, value, slope), (u, other, steeper) = falling, rising
    meeting = (other - value + slope * t - steeper * u) / (slope - steeper)
    return meeting, value + slope * (meeting - t)
