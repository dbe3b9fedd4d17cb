"""HiGHS: linear integer models, without a licence."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from qpm_opt.errors import InvalidInputError, SolverError
from qpm_opt.result import OPTIMALITY_TOLERANCE, TerminationCondition
from qpm_opt.solvers.base import (
    Capability,
    Event,
    MatrixModel,
    RawSolve,
    Separator,
    SolveOptions,
    Solver,
    closing_condition,
)
from qpm_opt.validation import FloatArray


class HighsSolver(Solver):
    """HiGHS through highspy's array interface.

    HiGHS 1.16.0 carries a start over to the presolved model, where it can gain an objective that
    the start does not have, and may then return the start as an optimum. So objectives are compared
    with their points; if one does not fit, the solve ends and begins again without the start.
    """

    name = "highs"
    package = "highspy"
    module = "highspy"
    extra = None
    capabilities = Capability.CONTINUOUS_COLUMNS

    def solve(
        self,
        model: MatrixModel,
        options: SolveOptions,
        *,
        start: FloatArray | None,
        separate: Separator | None,
        report: Callable[[Event], None],
    ) -> RawSolve:
        """See :meth:`qpm_opt.solvers.base.Solver.solve`."""
        began = time.perf_counter()
        highspy = self.load()
        self.require(model)
        highs = highspy.Highs()
        _set_options(highspy, highs, options)
        _pass_model(highspy, highs, model)
        if start is not None:
            solution = highspy.HighsSolution()
            solution.col_value = start.tolist()
            highs.setSolution(solution)

        watch = _Watch(model, report)
        highs.cbMipImprovingSolution.subscribe(watch.progress)
        highs.cbMipLogging.subscribe(watch.progress)
        if start is not None:
            highs.cbMipInterrupt.subscribe(lambda event: event.interrupt(watch.contradicted))
        time_left = options.time_left(began)
        if time_left is not None:
            highs.setOptionValue("time_limit", time_left)
        highs.run()

        status = highs.getModelStatus()
        info = highs.getInfo()
        found = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
        objective = info.objective_function_value if found else None
        point = np.array(highs.getSolution().col_value) if found else None
        watch.compare(point, objective)
        if watch.contradicted and start is not None:
            left = replace(options, time_limit=options.time_left(began))
            raw = self.solve(model, left, start=None, separate=separate, report=report)
            return replace(raw, solve_time=time.perf_counter() - began)
        if model.integer.any():
            usable = status != highspy.HighsModelStatus.kSolveError
            bound = info.mip_dual_bound if usable and math.isfinite(info.mip_dual_bound) else None
            node_count = max(0, info.mip_node_count)
        else:
            bound = objective if status == highspy.HighsModelStatus.kOptimal else None
            node_count = None
        return RawSolve(
            _termination_condition(highspy, status, objective, bound),
            highs.modelStatusToString(status),
            point=point,
            reported_objective=objective,
            bound=bound,
            solve_time=time.perf_counter() - began,
            solver_version=highs.version(),
            node_count=node_count,
        )


class _Watch:
    """Passes progress on, and compares the objectives that HiGHS states with their points."""

    def __init__(self, model: MatrixModel, report: Callable[[Event], None]) -> None:
        self.contradicted = False
        self._model = model
        self._report = report

    def progress(self, event: Any) -> None:
        """Callback of HiGHS; a point comes with every better one, a bound with either event."""
        said = event.data_out
        point = np.array(said.mip_solution) if len(said.mip_solution) else None
        self.compare(point, said.objective_function_value)
        bound = said.mip_dual_bound
        self._report(Event(point, bound if math.isfinite(bound) else None))

    def compare(self, point: FloatArray | None, objective: float | None) -> None:
        """Take note if a point has another objective than the one stated."""
        if point is None or objective is None:
            return
        off = abs(self._model.objective(point) - objective)
        if off > OPTIMALITY_TOLERANCE * max(1.0, abs(objective)):
            self.contradicted = True


def _set_options(highspy: Any, highs: Any, options: SolveOptions) -> None:
    values = {
        "output_flag": False,
        "threads": options.threads,
        "random_seed": options.seed,
        "mip_rel_gap": options.gap,
        "mip_abs_gap": 1e-9,
        # Nothing slower, and no point that is better only because it is not quite integral.
        "mip_feasibility_tolerance": 1e-9,
        **options.solver_options,
    }
    for option, value in values.items():
        if highs.setOptionValue(option, value) == highspy.HighsStatus.kError:
            raise InvalidInputError(
                f"HiGHS refuses the option {option!r} with the value {value!r}; see the list of "
                f"options in its documentation."
            )


def _pass_model(highspy: Any, highs: Any, model: MatrixModel) -> None:
    matrix = model.matrix
    status = highs.passModel(
        model.n_columns,
        matrix.shape[0],
        matrix.nnz,
        int(highspy.MatrixFormat.kRowwise),
        int(highspy.ObjSense.kMaximize),
        model.offset,
        model.cost,
        model.lower,
        model.upper,
        model.row_lower,
        model.row_upper,
        matrix.indptr.astype(np.int32),
        matrix.indices.astype(np.int32),
        matrix.data,
        model.integer.astype(np.int32),
    )
    if status == highspy.HighsStatus.kError:
        raise SolverError("HiGHS refuses the model: a coefficient or bound is not usable.")


def _termination_condition(
    highspy: Any, status: Any, objective: float | None, bound: float | None
) -> TerminationCondition:
    statuses = highspy.HighsModelStatus
    if status in (statuses.kOptimal, statuses.kModelEmpty):
        return closing_condition(objective, bound)
    return {
        statuses.kInfeasible: TerminationCondition.INFEASIBLE,
        statuses.kUnboundedOrInfeasible: TerminationCondition.INFEASIBLE,
        statuses.kTimeLimit: TerminationCondition.TIME_LIMIT,
        statuses.kSolutionLimit: TerminationCondition.SOLUTION_LIMIT,
        statuses.kIterationLimit: TerminationCondition.NODE_LIMIT,
        statuses.kMemoryLimit: TerminationCondition.MEMORY_LIMIT,
        statuses.kInterrupt: TerminationCondition.INTERRUPTED,
        statuses.kSolveError: TerminationCondition.ERROR,
    }.get(status, TerminationCondition.UNKNOWN)
