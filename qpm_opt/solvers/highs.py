"""HiGHS: linear integer models, without a licence."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from qpm_opt.errors import InvalidInputError, SolverError
from qpm_opt.result import TerminationCondition
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
    """HiGHS through highspy's array interface."""

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

        def progress(event: Any) -> None:
            point = event.data_out.mip_solution
            bound = event.data_out.mip_dual_bound
            report(
                Event(
                    np.array(point) if len(point) else None,
                    bound if math.isfinite(bound) else None,
                )
            )

        highs.cbMipImprovingSolution.subscribe(progress)
        highs.cbMipLogging.subscribe(progress)
        time_left = options.time_left(began)
        if time_left is not None:
            highs.setOptionValue("time_limit", time_left)
        highs.run()

        status = highs.getModelStatus()
        info = highs.getInfo()
        found = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
        objective = info.objective_function_value if found else None
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
            point=np.array(highs.getSolution().col_value) if found else None,
            reported_objective=objective,
            bound=bound,
            solve_time=time.perf_counter() - began,
            solver_version=highs.version(),
            node_count=node_count,
        )


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
