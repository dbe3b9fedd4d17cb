"""Search without a bound: greedy, best-improvement swaps and perturbation until the time is up."""

from __future__ import annotations

from qpm_opt.heuristics import search
from qpm_opt.methods.base import MethodOptions, MethodOutcome
from qpm_opt.problem import Problem
from qpm_opt.result import TerminationCondition
from qpm_opt.tracking import Tracker

#: Without a time limit, stop after so many perturbations.
RESTARTS_WITHOUT_LIMIT = 1000


def run(problem: Problem, tracker: Tracker, options: MethodOptions) -> MethodOutcome:
    """Search from the tracker's incumbent; proves nothing and leaves the bound alone."""
    before = tracker.elapsed
    limit = tracker.remaining
    search(
        problem,
        start=tracker.assignment,
        time_limit=limit,
        max_restarts=RESTARTS_WITHOUT_LIMIT if limit is None else None,
        seed=options.seed,
        on_assignment=lambda assignment: tracker.offer(assignment, "heuristic"),
    )
    ended = TerminationCondition.TIME_LIMIT if tracker.expired else TerminationCondition.COMPLETED
    return MethodOutcome(termination_condition=ended, solve_time=tracker.elapsed - before)
