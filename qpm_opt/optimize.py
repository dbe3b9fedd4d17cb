"""``solve()``: warm start, then one method, then our own word on what came out."""

from __future__ import annotations

import importlib
import logging
import math
import operator
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from qpm_opt.assignment import Assignment
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
from qpm_opt.problem import Problem
from qpm_opt.proof_check import UnfinishedCheckError
from qpm_opt.result import Progress, Result, SolutionStatus, TerminationCondition, meets
from qpm_opt.solvers import get_solver, solver_availability
from qpm_opt.tracking import Tracker
from qpm_opt.warm_start import proved_bound

logger = logging.getLogger(__name__)

METHODS = ("exact", "compact", "paper", "heuristic")
FORMULATIONS = ("compact", "projected")
#: The search that every method starts from: rounds after the first, and its share of the time.
WARM_START_ROUNDS, WARM_START_SHARE = 10, 0.1
MAX_THREADS = 1024
#: The seeds that every solver takes.
MAX_SEED = 2**31 - 1


def solve(
    problem: Problem,
    *,
    method: str = "exact",
    solver: str = "highs",
    formulation: str = "compact",
    time_limit: float | None = None,
    gap: float = 0.0,
    threads: int | None = None,
    seed: int = 0,
    warm_start: Assignment | str | os.PathLike[str] | None = None,
    solver_options: Mapping[str, Any] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Solve a problem and return the best verified assignment with what is known about it.

    Every method starts from a greedy and swap search (or from ``warm_start``, if better), so there
    is an assignment from the first second on. Ctrl-C ends the solve and keeps the incumbent.

    Parameters
    ----------
    problem : Problem
    method : {"exact", "compact", "paper", "heuristic"}
        ``exact`` is our own branch and bound, with a proof of its bound; it needs no solver.
        ``compact`` gives the whole model to a solver and adds distinctness as it is violated: exact
        if it gets to its end. ``paper`` is the relaxed iteration of the QPM paper, a heuristic.
        ``heuristic`` is local search, without any solver.
    solver : {"highs", "cpsat", "gurobi", "scip"}
        Back end of ``compact`` and ``paper``; ``exact`` takes no other than the default.
    formulation : {"compact", "projected"}
        Model of the method ``compact``: with the assignment as binaries, or projected onto the
        selection with threshold cuts.
    time_limit : float, optional
        Seconds for everything from the call on, loading the method's modules included. A step that
        has begun is finished: an iteration of the semidefinite bound (seconds for 2000 features) or
        the making of the model for ``compact`` and ``paper`` (half a minute for 200 classes).
    gap : float
        Relative gap at which to stop; 0 asks for a proof of optimality.
    threads : int, optional
        All processors this process may use by default.
    seed : int
    warm_start : Assignment or path, optional
        A feasible assignment, or a solution file with one; the result is never worse. If the file
        is one of this very problem and its certificate passes our check, the solve also begins with
        its bound, and the proof goes over to the result. The check is part of the time; if it does
        not end in time, the result is the warm start without its bound.
    solver_options : mapping, optional
        Options of the back end, by its own names.
    on_progress : callable, optional
        Called with a :class:`~qpm_opt.result.Progress` when incumbent, bound or the number of free
        features change.

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
    began = time.perf_counter()
    if not isinstance(problem, Problem):
        raise InvalidInputError(
            f"problem is {problem!r}; a Problem was expected (Problem.load reads a file)."
        )
    if formulation not in FORMULATIONS:
        raise unknown_name("formulation", str(formulation), FORMULATIONS)
    check_method(method, solver)
    time_limit, gap, threads, seed = check_limits(time_limit, gap, threads, seed)
    uses_solver = method in ("compact", "paper")
    if not isinstance(warm_start, Assignment | str | os.PathLike | None):
        raise InvalidInputError(
            f"warm_start is {warm_start!r}; an Assignment or the path of a solution was expected."
        )
    if not isinstance(solver_options, Mapping | None):
        raise InvalidInputError(
            f"solver_options is {solver_options!r}; a mapping of names to values was expected."
        )
    if solver_options and not uses_solver:
        raise InvalidInputError(
            f"The solver options {', '.join(map(str, solver_options))} have no use: the method "
            f"{method} runs no solver."
        )
    normal, factor = _normalised(problem)
    tracker = Tracker(
        normal,
        time_limit=time_limit,
        began=began,
        gap=gap,
        on_progress=None
        if on_progress is None
        else lambda progress: on_progress(_unscaled(progress, factor)),
    )
    options = MethodOptions(
        solver=solver,
        threads=threads,
        seed=seed,
        formulation=formulation,
        solver_options=dict(solver_options or {}),
    )
    path: str | os.PathLike[str] | None = None
    if warm_start is not None and not isinstance(warm_start, Assignment):
        path, warm_start = warm_start, Assignment.load(warm_start, problem)
    if warm_start is not None:
        violations = problem.violations(warm_start)
        if violations:
            raise InvalidSolutionError(f"The warm start is infeasible: {violations[0].message}")
        tracker.offer(warm_start, "warm start")
    warm_start_objective = None
    try:
        if path is not None:
            deadline = math.inf if time_limit is None else began + time_limit
            known = proved_bound(problem, path, deadline=deadline)
            if known is not None:
                tracker.tighten(known.value * factor, known.kind, known.proof.scaled(factor))
        search(
            normal,
            time_limit=None if time_limit is None else WARM_START_SHARE * time_limit,
            max_restarts=WARM_START_ROUNDS,
            seed=seed,
            on_assignment=lambda assignment: tracker.offer(assignment, "greedy and swaps"),
            should_stop=lambda: tracker.closed,
        )
        if tracker.assignment is not None:
            warm_start_objective = problem.objective(tracker.assignment)
        if uses_solver:
            _require(solver)
        outcome = MethodOutcome(termination_condition=TerminationCondition.TIME_LIMIT)
        if tracker.closed:
            outcome = MethodOutcome(termination_condition=TerminationCondition.OPTIMAL)
        elif not tracker.expired:
            run = _run(method)
            if not tracker.expired:
                outcome = run(normal, tracker, options)
    except UnfinishedCheckError as failure:
        logger.warning("The time was up before the bound of %s was checked: %s", path, failure)
        outcome = MethodOutcome(termination_condition=TerminationCondition.TIME_LIMIT)
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
    except MemoryError as failure:
        logger.warning("Out of memory: %s The best assignment found so far is kept.", failure)
        outcome = MethodOutcome(termination_condition=TerminationCondition.MEMORY_LIMIT)
    return _judge(
        problem,
        tracker,
        outcome,
        factor=factor,
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
            "solver_options": {
                str(name): value if _is_json(value) else str(value)
                for name, value in options.solver_options.items()
            },
        },
    )


def check_method(method: str, solver: str) -> None:
    """Whether method and solver exist and go together.

    Raises
    ------
    InvalidInputError
        If not.
    """
    if method not in METHODS:
        raise unknown_name("method", str(method), METHODS)
    if method == "heuristic":
        return
    get_solver(solver)
    if method == "exact" and solver != "highs":
        raise InvalidInputError(
            f"solver is {solver!r}, but the method exact needs none; give method 'compact' or "
            f"'paper' to use {solver}."
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
    factor: float,
    method: str,
    solver: str | None,
    warm_start_objective: float | None,
    options: Mapping[str, Any],
) -> Result:
    """Put together what is held and why the method stopped, believing only what was checked."""
    held = tracker.assignment
    bound = None if tracker.bound is None else tracker.bound / factor
    objective = None if held is None else problem.objective(held)
    violations = () if held is None else problem.violations(held)
    condition = outcome.termination_condition
    if held is None:
        status = SolutionStatus.NO_SOLUTION
    elif violations:
        status = SolutionStatus.INFEASIBLE
    elif meets(objective, bound, scale=problem.scale):
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
        reported_objective=None
        if outcome.reported_objective is None
        else outcome.reported_objective / factor,
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
        progress=tuple(_unscaled(entry, factor) for entry in tracker.history),
        options=options,
        proof=None if tracker.proof is None else tracker.proof.scaled(1.0 / factor),
    )


def _is_json(value: object) -> bool:
    return isinstance(value, bool | int | str) or (
        isinstance(value, float) and math.isfinite(value)
    )


def _normalised(problem: Problem) -> tuple[Problem, float]:
    """The problem with its largest coefficient in [1, 1024), and the factor that brought it there.

    The tolerances of solvers are absolute, and meaningless for coefficients of 1e-6 or 1e9. The
    factor is a power of two: no coefficient is rounded, and objectives scale exactly.
    """
    if 1.0 <= problem.scale < 1024.0:
        return problem, 1.0
    factor = 2.0 ** min(-math.floor(math.log2(problem.scale)), 1000)
    scaled = replace(
        problem,
        class_similarity=problem.class_similarity * factor,
        feature_similarity=problem.feature_similarity * factor,
        feature_bias=problem.bias * factor,
    )
    return scaled, factor


def _unscaled(progress: Progress, factor: float) -> Progress:
    incumbent, bound = (
        None if value is None else value / factor for value in (progress.incumbent, progress.bound)
    )
    return progress._replace(incumbent=incumbent, bound=bound)


def check_limits(
    time_limit: float | None, gap: float, threads: int | None, seed: int
) -> tuple[float | None, float, int, int]:
    """Options as plain numbers: time limit (None if there is none), gap, threads, seed.

    Raises
    ------
    InvalidInputError
        For one that is out of range.
    """
    limit = math.inf if time_limit is None else _as_number(time_limit, "time_limit")
    if not limit >= 0:
        raise InvalidInputError(f"time_limit is {time_limit}; expected seconds, 0 or more.")
    relative = _as_number(gap, "gap")
    if not (relative >= 0 and math.isfinite(relative)):
        raise InvalidInputError(f"gap is {gap}; expected a finite number, 0 or more.")
    return (
        limit if math.isfinite(limit) else None,
        relative,
        _usable_processors() if threads is None else _as_count(threads, "threads", 1, MAX_THREADS),
        _as_count(seed, "seed", 0, MAX_SEED),
    )


def _as_number(value: float, what: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InvalidInputError(f"{what} is {value!r}; expected a number.") from None


def _as_count(value: int, what: str, least: int, most: int) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        raise InvalidInputError(f"{what} is {value!r}; expected a whole number.") from None
    if not least <= count <= most:
        raise InvalidInputError(f"{what} is {count}; expected a number from {least} to {most}.")
    return count


def _require(solver: str) -> None:
    report = solver_availability(solver)
    if not report.level:
        raise SolverNotAvailableError(report.reason)


def _usable_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
