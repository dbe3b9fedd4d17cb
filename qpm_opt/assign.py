"""The optimal classes-by-features assignment for features that are already selected.

Without further constraints every class takes its ``n_per_class`` most valuable selected features.
Distinctness turns this into a linear assignment of classes to different sets, solved over short
lists of each class's best sets. Side constraints are met in :mod:`qpm_opt.assign_pairs`.
"""

from __future__ import annotations

import math
import time

import numpy as np
from numpy.typing import ArrayLike

from qpm_opt.assign_distinct import LateError, best_set, distinct_sets, some_distinct_sets
from qpm_opt.assign_pairs import assign_constrained
from qpm_opt.assignment import Assignment, UndecidedAssignmentError, expand
from qpm_opt.errors import InvalidInputError
from qpm_opt.problem import Problem
from qpm_opt.validation import IntArray


def assign(
    problem: Problem, selected: ArrayLike, *, time_limit: float | None = None
) -> Assignment | None:
    """Optimal assignment for a given selection.

    Parameters
    ----------
    problem : Problem
    selected : array of shape (n_selected,), int
        Indices of the selected features, in any order.
    time_limit : float, optional
        Seconds. A step of the linear assignment that has begun is finished: up to half a second
        for a thousand classes that all compete.

    Returns
    -------
    Assignment or None
        None if it is proved that no assignment of these features is feasible.

    Raises
    ------
    InvalidInputError
        If ``selected`` is not ``n_selected`` different candidate features.
    UndecidedAssignmentError
        If the time is up or the integer program fails before there is a proof.
    """
    deadline = math.inf if time_limit is None else time.perf_counter() + time_limit
    chosen = _check_selection(problem, selected)
    values = problem.class_similarity[:, chosen]
    k = problem.n_per_class
    try:
        rows = distinct_sets(values, k, deadline) if problem.distinct else best_set(values, k)
    except LateError:
        some = _expand(problem, chosen, some_distinct_sets(values, k))
        raise UndecidedAssignmentError(
            f"The classes of {problem.n_selected} selected features could not be told apart at the "
            f"least cost within {time_limit} s; raise time_limit.",
            None if problem.violations(some) else some,
        ) from None
    assignment = _expand(problem, chosen, rows)
    # What is optimal without the side constraints and happens to keep them is optimal with them.
    if not problem.has_side_constraints or not problem.violations(assignment):
        return assignment
    return assign_constrained(problem, chosen, deadline)


def assign_within(
    problem: Problem, selected: ArrayLike, time_limit: float | None
) -> Assignment | None:
    """The optimal assignment, or a feasible one met in the time given; None proves nothing.

    For those who only look for good assignments; see :func:`assign` for the parameters.
    """
    try:
        return assign(problem, selected, time_limit=time_limit)
    except UndecidedAssignmentError as undecided:
        return undecided.assignment


def top_k_assignment(problem: Problem, selected: ArrayLike) -> Assignment:
    """For each class its ``n_per_class`` most similar features among those selected.

    Optimal for the selection without distinctness and side constraints, which it may break.
    """
    chosen = _check_selection(problem, selected)
    values = problem.class_similarity[:, chosen]
    return _expand(problem, chosen, best_set(values, problem.n_per_class))


def top_k_value(problem: Problem, selected: ArrayLike) -> float:
    """Sum over the classes of their ``n_per_class`` largest similarities among the selected.

    An upper bound on the assignment part of the objective for this selection, reached by
    :func:`assign` unless distinctness or side constraints bind.
    """
    chosen = _check_selection(problem, selected)
    values = problem.class_similarity[:, chosen]
    return math.fsum(np.take_along_axis(values, best_set(values, problem.n_per_class), 1).flat)


def is_selection(problem: Problem, selected: ArrayLike) -> bool:
    """Whether ``selected`` holds ``n_selected`` different indices of candidate features."""
    chosen = np.unique(np.asarray(selected))
    return bool(
        np.size(selected) == chosen.size == problem.n_selected
        and np.issubdtype(chosen.dtype, np.integer)
        and chosen[0] >= 0
        and chosen[-1] < problem.n_features
        and problem.candidates[chosen].all()
    )


def _check_selection(problem: Problem, selected: ArrayLike) -> IntArray:
    if not is_selection(problem, selected):
        raise InvalidInputError(
            f"selected holds {np.size(selected)} entries, {np.unique(selected).size} of them "
            f"different; {problem.n_selected} different indices of candidate features among the "
            f"{problem.n_features} of the problem were expected."
        )
    return np.sort(np.asarray(selected, dtype=np.intp))


def _expand(problem: Problem, chosen: IntArray, rows: IntArray) -> Assignment:
    """Assignment from positions within ``chosen``, shape (n_classes, n_per_class)."""
    used = np.zeros((problem.n_classes, chosen.size), dtype=bool)
    np.put_along_axis(used, rows, True, axis=1)
    return expand(problem, chosen, used)
