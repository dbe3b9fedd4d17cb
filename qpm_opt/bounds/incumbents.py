"""Assignments from what a bound leaves: the only selection of a region, a rounded point."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from qpm_opt.assign import assign, assign_within
from qpm_opt.assignment import Assignment, UndecidedAssignmentError
from qpm_opt.bounds.region import Region
from qpm_opt.problem import Problem
from qpm_opt.validation import FloatArray, IntArray


def rounded(region: Region, s: FloatArray) -> IntArray:
    """The selection of the largest entries of s, ascending."""
    largest = np.argsort(-s, kind="stable")[: region.n_left]
    return np.union1d(region.ones, region.free[largest]).astype(np.intp)


def relaxed_value(problem: Problem, selected: IntArray) -> float:
    """Objective of a selection if classes need neither differ nor meet side constraints.

    But for rounding; in a fraction of the time of an assignment.
    """
    values = problem.class_similarity[:, selected]
    n_less = values.shape[1] - problem.n_per_class
    value = problem.bias[selected].sum() - (
        problem.feature_similarity[np.ix_(selected, selected)].sum() / 2
    )
    if len(values):
        value += np.partition(values, n_less, axis=1)[:, n_less:].sum()
    return float(value)


def offer_selection(
    problem: Problem,
    selected: IntArray,
    offer: Callable[[Assignment], object],
    deadline: float = math.inf,
) -> float:
    """Offer the best assignment of a selection; return its value without side constraints.

    The check of a proof values a selection without side constraints, so a proof may not rest on
    them here. The value is -inf if there is no assignment, and inf if that is not known by the
    deadline.
    """
    if problem.has_side_constraints:
        held = assign_within(problem, selected, seconds_to(deadline))
        if held is not None:
            offer(held)
        problem = problem.without_side_constraints()
        offer = _ignore
    try:
        best = assign(problem, selected, time_limit=seconds_to(deadline))
    except UndecidedAssignmentError as undecided:
        if undecided.assignment is not None:
            offer(undecided.assignment)
        return math.inf
    if best is None:
        return -math.inf
    offer(best)
    return problem.objective(best)


def _ignore(assignment: Assignment) -> None:
    """Meets no side constraints, perhaps."""


def seconds_to(deadline: float) -> float | None:
    """Seconds left to a value of ``time.perf_counter()``; None to infinity."""
    return None if math.isinf(deadline) else max(0.0, deadline - time.perf_counter())
