"""Solve a cover problem: greedy start, bound without search, exact search, fewest boundaries."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np

from qpm_opt.cover.greedy import greedy_cover
from qpm_opt.cover.problem import CoverProblem
from qpm_opt.cover.reduction import certainly_lost
from qpm_opt.cover.result import CoverResult
from qpm_opt.cover.stages import SearchStages, SolverStages, Stages
from qpm_opt.cover.tracking import CoverTracker
from qpm_opt.errors import InvalidInputError, SolverNotAvailableError, unknown_name
from qpm_opt.optimize import check_limits
from qpm_opt.result import SolutionStatus, TerminationCondition
from qpm_opt.solvers import get_solver, solver_availability
from qpm_opt.validation import as_count

logger = logging.getLogger(__name__)

COVER_METHODS = ("exact", "milp", "greedy")
BOUND_WITHOUT_SEARCH = "separator sets"


def solve_cover(
    problem: CoverProblem,
    *,
    method: str = "exact",
    solver: str = "highs",
    time_limit: float | None = 10.0,
    fewest: bool = True,
    prune: bool = True,
    threads: int | None = None,
    seed: int = 0,
    node_limit: int | None = None,
) -> CoverResult:
    """Solve a cover problem; whatever stops it, the best region and a valid bound are returned.

    Every method starts from the greedy algorithm of the paper and from an upper bound without
    search (:func:`qpm_opt.cover.reduction.certainly_lost`). Ctrl-C ends the solve and keeps what is
    known.

    Parameters
    ----------
    problem : CoverProblem
    method : {"exact", "milp", "greedy"}
        ``exact`` is our own branch and bound on bit sets, without a solver. ``milp`` gives the
        integer program to a solver, whose bound is its word. ``greedy`` is the heuristic alone.
    solver : {"highs", "cpsat", "gurobi", "scip"}
        Back end of ``milp``.
    time_limit : float, optional
        Seconds for everything; None is no limit. A step that has begun is finished.
    fewest : bool
        Whether to look for the fewest boundaries among the optimal choices, if optimality is proved
        (not by ``greedy``).
    prune : bool
        Whether boundaries that are not needed are removed; the printed algorithm keeps them.
    threads : int, optional
        For ``milp``; all processors by default.
    seed : int
        For ``milp``. The other methods draw nothing.
    node_limit : int, optional
        Most nodes of either search of ``exact``.

    Returns
    -------
    CoverResult
        OPTIMAL only if the region passes our check and the bound meets its objective. INFEASIBLE,
        without boundaries, if ``n_exceptions`` is below what no boundary can exclude.

    Raises
    ------
    InvalidInputError
        For an unknown name or an option out of range.
    SolverNotAvailableError
        If the solver is missing or broken here.
    """
    began = time.perf_counter()
    if not isinstance(problem, CoverProblem):
        raise InvalidInputError(f"problem is {type(problem).__name__}; expected a CoverProblem.")
    if method not in COVER_METHODS:
        raise unknown_name("method", str(method), COVER_METHODS)
    if method == "milp":
        get_solver(solver)
    time_limit, _, threads, seed = check_limits(time_limit, 0.0, threads, seed)
    if node_limit is not None:
        node_limit = as_count(node_limit, "node_limit")
    tracker = CoverTracker(problem, began=began, time_limit=time_limit, prune=prune)
    condition, fewest_condition = TerminationCondition.INFEASIBLE, TerminationCondition.UNKNOWN
    try:
        if problem.is_feasible:
            condition = TerminationCondition.INTERRUPTED  # unless it goes on
            with tracker.building():
                tracker.offer(range(problem.n_boundaries))
                tracker.offer(greedy_cover(problem, prune=prune).tolist())
                lost = certainly_lost(problem)
                tracker.tighten(
                    int(np.count_nonzero(problem.counted & ~lost)), BOUND_WITHOUT_SEARCH
                )
            stages: Stages | None = None
            if method == "exact":
                stages = SearchStages(tracker, lost, node_limit)
            elif method == "milp":
                report = solver_availability(solver)
                if not report.level:
                    raise SolverNotAvailableError(report.reason)
                stages = SolverStages(tracker, lost, solver, threads, seed)
            if stages is None:
                condition = TerminationCondition.COMPLETED
            elif not tracker.closed:
                condition = stages.most_covered()
            if stages is not None and fewest and tracker.closed:
                tracker.tighten_fewest(0, "counting")
                fewest_condition = TerminationCondition.INTERRUPTED
                if not tracker.has_fewest:
                    fewest_condition = stages.fewest_boundaries()
    except KeyboardInterrupt:
        logger.warning("Interrupted; the best region found so far is kept.")
        if not tracker.closed:
            condition = TerminationCondition.INTERRUPTED
    status = SolutionStatus.NO_SOLUTION
    if tracker.boundaries is not None:
        status = SolutionStatus.FEASIBLE
    if tracker.closed:
        status, condition = SolutionStatus.OPTIMAL, TerminationCondition.OPTIMAL
    elif condition is TerminationCondition.OPTIMAL:
        condition = TerminationCondition.COMPLETED  # a solver is content with less than we are
    if tracker.has_fewest:
        fewest_condition = TerminationCondition.OPTIMAL
    elif fewest_condition is TerminationCondition.OPTIMAL:
        fewest_condition = TerminationCondition.COMPLETED
    return _result(
        tracker,
        termination_condition=condition,
        solution_status=status,
        fewest_condition=fewest_condition,
        method=method,
        solver=solver if method == "milp" else None,
        options={
            "method": method,
            "solver": solver if method == "milp" else None,
            "time_limit": time_limit,
            "fewest": fewest,
            "prune": prune,
            "threads": threads,
            "seed": seed,
            "node_limit": node_limit,
        },
    )


def _result(tracker: CoverTracker, **fields: Any) -> CoverResult:
    if tracker.boundaries is not None:
        same, other = tracker.problem.counts(tracker.boundaries)
        fields |= {
            "boundaries": np.array(tracker.boundaries, dtype=np.intp),
            "n_covered_same": same,
            "n_covered_other": other,
            "n_boundaries": len(tracker.boundaries),
        }
    return CoverResult(
        objective=tracker.objective,
        bound=tracker.bound,
        bound_kind=tracker.bound_kind,
        n_boundaries_bound=tracker.fewest_bound if tracker.closed else None,
        solver_version=tracker.solver_version,
        raw_status=tracker.raw_status or tracker.problem.infeasibility or None,
        node_count=tracker.node_count,
        build_time=tracker.build_time,
        solve_time=tracker.solve_time,
        wall_time=time.perf_counter() - tracker.began,
        **fields,
    )
