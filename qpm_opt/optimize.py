"""``solve()``: warm start, then one method, then our own word on what came out."""

from __future__ import annotations

import importlib
import logging
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from qpm_opt.errors import (
    InvalidInputError,
    InvalidSolutionError,
    SolverError,
    SolverLicenseError,
    SolverNotAvailableError,
    unknown_name,
)
from qpm_opt.heuristics import search
from qpm_opt.methods.base import MethodOptions, MethodOutcome
from qpm_opt.problem import Assignment, Problem
from qpm_opt.result import Progress, Result, SolutionStatus, TerminationCondition, meets
from qpm_opt.solvers import get_solver, solver_availability
from qpm_opt.tracking import Tracker

logger = logging.getLogger(__name__)

METHODS = ("compact", "paper", "heuristic")
FORMULATIONS = ("compact", "projected")


def solve(
    problem: Problem,
    *,
    method: str = "compact",
    solver: str = "highs",
    formulation: str = "compact",
    time_limit: float | None = None,
    gap: float = 0.0,
    threads: int | None = None,
    seed: int = 0,
    warm_start: Assignment | None = None,
    solver_options: Mapping[str, Any] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Solve a problem and return the best verified assignment with what is known about it.

    Every method starts from a greedy and swap search (or from ``warm_start``, if better), so there
    is an assignment from the first second on. Ctrl-C ends the solve and keeps the incumbent.

    Parameters
    ----------
    problem : Problem
    method : {"compact", "paper", "heuristic"}
        ``compact`` gives the whole model to a solver and adds distinctness as it is violated: exact
        if it gets to its end. ``paper`` is the relaxed iteration of the QPM paper, a heuristic.
        ``heuristic`` is local search, without any solver.
    solver : {"highs", "cpsat", "gurobi", "scip"}
        Back end of ``compact`` and ``paper``.
    formulation : {"compact", "projected"}
        Model of the method ``compact``: with the assignment as binaries, or projected onto the
        selection with threshold cuts.
    time_limit : float, optional
        Seconds for everything.
    gap : float
        Relative gap at which to stop; 0 asks for a proof of optimality.
    threads : int, optional
        All processors this process may use by default.
    seed : int
    warm_start : Assignment, optional
        A feasible assignment; the result is never worse.
    solver_options : mapping, optional
        Options of the back end, by its own names.
    on_progress : callable, optional
        Called with a :class:`~qpm_opt.result.Progress` when incumbent or bound change.

    Returns
    -------
    Result
        OPTIMAL only if the assignment passes our check and the bound meets its objective.

    Raises
    ------
    InvalidInputError
        For an unknown name or an option out of range, or a warm start that breaks a constraint.
    SolverNotAvailableError
        If the solver is missing or broken here; the message says what to install or use instead.
    UnsupportedFormulationError
        If the solver cannot take the model.
    """
    threads = _usable_processors() if threads is None else threads
    _check_options(method, formulation, time_limit, gap, threads)
    uses_solver = method != "heuristic"
    if uses_solver:
        _require(solver)
    tracker = Tracker(problem, time_limit=time_limit, gap=gap, on_progress=on_progress)
    options = MethodOptions(
        solver=solver,
        threads=threads,
        seed=seed,
        formulation=formulation,
        solver_options=dict(solver_options or {}),
    )
    if warm_start is not None:
        violations = problem.violations(warm_start)
        if violations:
            raise InvalidSolutionError(f"The warm start is infeasible: {violations[0].message}")
        tracker.offer(warm_start, "warm start")
    warm_start_objective = None
    try:
        search(
            problem,
            time_limit=tracker.remaining,
            max_restarts=0,
            seed=seed,
            on_assignment=lambda assignment: tracker.offer(assignment, "greedy and swaps"),
        )
        warm_start_objective = tracker.objective
        outcome = _run(method)(problem, tracker, options)
    except KeyboardInterrupt:
        logger.warning("Interrupted; the best assignment found so far is kept.")
        outcome = MethodOutcome(termination_condition=TerminationCondition.INTERRUPTED)
    except SolverLicenseError as failure:
        logger.warning("%s", failure)
        outcome = MethodOutcome(
            termination_condition=TerminationCondition.LICENSE_LIMIT, raw_status=str(failure)
        )
    except SolverError as failure:
        logger.warning("%s", failure)
        outcome = MethodOutcome(
            termination_condition=TerminationCondition.ERROR, raw_status=str(failure)
        )
    return _judge(
        problem,
        tracker,
        outcome,
        method=method,
        solver=solver if uses_solver else None,
        warm_start_objective=warm_start_objective,
        options={
            "method": method,
            "solver": solver if uses_solver else None,
            "formulation": formulation if method == "compact" else None,
            "time_limit": time_limit,
            "gap": gap,
            "threads": threads,
            "seed": seed,
            "warm_start": warm_start is not None,
            "solver_options": options.solver_options,
        },
    )


def _run(method: str) -> Callable[[Problem, Tracker, MethodOptions], MethodOutcome]:
    """Entry point of a method, imported when used: the modelling layer takes a second to load."""
    run: Callable[[Problem, Tracker, MethodOptions], MethodOutcome]
    run = importlib.import_module(f"qpm_opt.methods.{method}").run
    return run


def _judge(
    problem: Problem,
    tracker: Tracker,
    outcome: MethodOutcome,
    *,
    method: str,
    solver: str | None,
    warm_start_objective: float | None,
    options: Mapping[str, Any],
) -> Result:
    """Put together what is held and why the method stopped, believing only what was checked."""
    held, bound = tracker.assignment, tracker.bound
    objective = None if held is None else problem.objective(held)
    violations = () if held is None else problem.violations(held)
    condition = outcome.termination_condition
    if held is None:
        status = SolutionStatus.NO_SOLUTION
    elif violations:
        status = SolutionStatus.INFEASIBLE
    elif meets(objective, bound):
        status, condition = SolutionStatus.OPTIMAL, TerminationCondition.OPTIMAL
    else:
        status = SolutionStatus.FEASIBLE
        if condition is TerminationCondition.INFEASIBLE:
            logger.warning("The solver calls the problem infeasible, but an assignment is held.")
            condition = TerminationCondition.ERROR
        elif tracker.closed:
            condition = TerminationCondition.GAP_LIMIT
        elif condition is TerminationCondition.OPTIMAL:
            # The solver is content with a gap that we are not.
            condition = TerminationCondition.COMPLETED
    return Result(
        termination_condition=condition,
        solution_status=status,
        assignment=held,
        violations=violations,
        objective=objective,
        reported_objective=outcome.reported_objective,
        bound=bound,
        bound_kind=tracker.bound_kind,
        warm_start_objective=warm_start_objective,
        method=method,
        solver=solver,
        solver_version=outcome.solver_version,
        raw_status=outcome.raw_status,
        build_time=outcome.build_time,
        solve_time=outcome.solve_time,
        wall_time=tracker.elapsed,
        n_rounds=outcome.n_rounds,
        n_cuts=outcome.n_cuts,
        node_count=outcome.node_count,
        progress=tuple(tracker.history),
        options=options,
    )


def _check_options(
    method: str, formulation: str, time_limit: float | None, gap: float, threads: int
) -> None:
    for value, known, what in (
        (method, METHODS, "method"),
        (formulation, FORMULATIONS, "formulation"),
    ):
        if value not in known:
            raise unknown_name(what, value, known)
    if time_limit is not None and not time_limit >= 0:
        raise InvalidInputError(f"time_limit is {time_limit}; expected seconds, 0 or more.")
    if not (gap >= 0 and math.isfinite(gap)):
        raise InvalidInputError(f"gap is {gap}; expected a finite number, 0 or more.")
    if threads < 1:
        raise InvalidInputError(f"threads is {threads}; expected at least 1.")


def _require(solver: str) -> None:
    get_solver(solver)
    report = solver_availability(solver)
    if not report.level:
        raise SolverNotAvailableError(report.reason)


def _usable_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
