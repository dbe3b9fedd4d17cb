"""Gurobi: linear and quadratic models, rows added on demand in its callback."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from qpm_opt.errors import (
    InvalidInputError,
    SolverError,
    SolverLicenseError,
)
from qpm_opt.result import TerminationCondition
from qpm_opt.solvers.base import (
    Availability,
    AvailabilityReport,
    Capability,
    Event,
    MatrixModel,
    RawSolve,
    Separator,
    SolveOptions,
    Solver,
    closing_condition,
)
from qpm_opt.validation import BoolArray, FloatArray

_LIMITS = "2000 columns and 2000 rows, and 200 columns if there are products of variables"
#: Gurobi's error codes for a missing licence and for a model too large for it.
_NO_LICENSE = 10009
_SIZE_LIMIT_EXCEEDED = 10010


class GurobiSolver(Solver):
    """Gurobi through gurobipy's matrix interface."""

    name = "gurobi"
    package = "gurobipy"
    module = "gurobipy"
    extra = "gurobi"
    capabilities = (
        Capability.QUADRATIC_OBJECTIVE | Capability.LAZY_ROWS | Capability.CONTINUOUS_COLUMNS
    )

    def availability(self) -> AvailabilityReport:
        """Find out the licence by solving a model that the size-limited one refuses."""
        report = super().availability()
        if not report.level:
            return report
        gurobipy = self.load()
        try:
            with _environment(gurobipy) as env, gurobipy.Model(env=env) as probe:
                probe.addMVar(2001)
                probe.optimize()
        except SolverLicenseError as error:
            return AvailabilityReport(Availability.BROKEN, self.version, str(error))
        except gurobipy.GurobiError as error:
            if error.errno != _SIZE_LIMIT_EXCEEDED:
                return AvailabilityReport(Availability.BROKEN, self.version, str(error))
            return AvailabilityReport(
                Availability.SIZE_LIMITED, self.version, f"licence limited to {_LIMITS}"
            )
        return report

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
        gurobipy = self.load()
        self.require(model)
        try:
            with _environment(gurobipy) as env, gurobipy.Model(env=env) as gurobi:
                columns = _pass_model(gurobipy, gurobi, model)
                _set_parameters(gurobipy, gurobi, options, options.time_left(began))
                if start is not None:
                    columns.Start = start
                callback = _Callback(gurobipy, columns, model.integer, separate, report)
                if separate is not None:
                    gurobi.Params.LazyConstraints = 1
                gurobi.optimize(callback)
                if callback.error is not None:
                    raise callback.error
                return _outcome(
                    gurobipy, gurobi, columns, callback.n_lazy_rows, time.perf_counter() - began
                )
        except gurobipy.GurobiError as error:
            if error.errno == _SIZE_LIMIT_EXCEEDED:
                products = (
                    f" and {model.quadratic[2].size} products of variables"
                    if model.is_quadratic
                    else ""
                )
                raise SolverLicenseError(
                    f"The model has {model.n_columns} columns, {model.matrix.shape[0]} rows"
                    f"{products}, but the size-limited Gurobi licence ends at {_LIMITS}; install a "
                    f"full or academic licence, or use solver highs."
                ) from error
            raise SolverError(f"Gurobi failed with error {error.errno}: {error}") from error


class _Callback:
    """Reports progress and adds the rows that an integer point breaks."""

    def __init__(
        self,
        gurobipy: Any,
        columns: Any,
        integer: BoolArray,
        separate: Separator | None,
        report: Callable[[Event], None],
    ) -> None:
        self.n_lazy_rows = 0
        self.error: Exception | None = None
        self._gurobipy = gurobipy
        self._GRB = gurobipy.GRB
        self._columns = columns
        self._variables = columns.tolist()
        self._integer = integer
        self._separate = separate
        self._report = report
        self._bound = math.inf

    def __call__(self, gurobi: Any, where: int) -> None:
        try:
            if where == self._GRB.Callback.MIPSOL:
                self._point(gurobi)
                self._new_bound(gurobi.cbGet(self._GRB.Callback.MIPSOL_OBJBND))
            elif where == self._GRB.Callback.MIP:
                self._new_bound(gurobi.cbGet(self._GRB.Callback.MIP_OBJBND))
        except Exception as error:  # one raised here would be lost in Gurobi
            self.error = error
            gurobi.terminate()

    def _point(self, gurobi: Any) -> None:
        x = gurobi.cbGetSolution(self._columns)
        x[self._integer] = np.rint(x[self._integer])
        rows = self._separate(x) if self._separate is not None else []
        for row in rows:
            left = self._gurobipy.LinExpr(
                row.values.tolist(), [self._variables[j] for j in row.columns.tolist()]
            )
            gurobi.cbLazy(left, self._GRB.LESS_EQUAL, row.upper)
        self.n_lazy_rows += len(rows)
        if not rows:
            self._report(Event(point=x))

    def _new_bound(self, bound: float) -> None:
        if bound < min(self._bound, self._GRB.INFINITY):
            self._bound = bound
            self._report(Event(bound=bound))


def _environment(gurobipy: Any) -> Any:
    env = gurobipy.Env(empty=True)
    env.setParam("OutputFlag", 0)
    try:
        env.start()
    except gurobipy.GurobiError as error:
        env.dispose()
        if error.errno != _NO_LICENSE:
            raise
        raise SolverLicenseError(
            f"Gurobi has no valid licence here ({error}); install one, upgrade gurobipy, whose "
            f"own size-limited licence expires, or use solver highs."
        ) from error
    return env


def _set_parameters(
    gurobipy: Any, gurobi: Any, options: SolveOptions, time_left: float | None
) -> None:
    values = {
        "Threads": options.threads,
        "Seed": options.seed,
        "MIPGap": options.gap,
        # No point that is better only because it is not quite integral.
        "IntFeasTol": 1e-9,
        "FeasibilityTol": 1e-9,
        **({} if time_left is None else {"TimeLimit": time_left}),
        **options.solver_options,
    }
    for parameter, value in values.items():
        try:
            gurobi.setParam(parameter, value)
        except (gurobipy.GurobiError, TypeError) as error:
            raise InvalidInputError(
                f"Gurobi refuses the parameter {parameter!r} with the value {value!r}: {error}."
            ) from error


def _pass_model(gurobipy: Any, gurobi: Any, model: MatrixModel) -> Any:
    """Columns of the model as an MVar, after adding everything."""
    GRB = gurobipy.GRB
    columns = gurobi.addMVar(
        model.n_columns,
        lb=model.lower,
        ub=model.upper,
        vtype=np.where(model.integer, GRB.INTEGER, GRB.CONTINUOUS),
    )
    i, j, values = model.quadratic
    products = sparse.csr_array((values, (i, j)), shape=(model.n_columns, model.n_columns))
    gurobi.setMObjective(
        products if values.size else None,
        model.cost,
        model.offset,
        sense=GRB.MAXIMIZE,
    )
    equal = model.row_lower == model.row_upper
    for keep, sense, side in (
        (equal, GRB.EQUAL, model.row_upper),
        (~equal & np.isfinite(model.row_upper), GRB.LESS_EQUAL, model.row_upper),
        (~equal & np.isfinite(model.row_lower), GRB.GREATER_EQUAL, model.row_lower),
    ):
        if keep.any():
            rows = sparse.csr_array(model.matrix[np.flatnonzero(keep)])
            gurobi.addMConstr(rows, columns, sense, side[keep])
    return columns


def _outcome(
    gurobipy: Any, gurobi: Any, columns: Any, n_lazy_rows: int, solve_time: float
) -> RawSolve:
    objective = float(gurobi.ObjVal) if gurobi.SolCount else None
    bound: float | None
    if gurobi.IsMIP:
        bound = float(gurobi.ObjBound)
    else:
        bound = objective if gurobi.Status == gurobipy.GRB.OPTIMAL else None
    if bound is not None and abs(bound) >= gurobipy.GRB.INFINITY:
        bound = None
    return RawSolve(
        _termination_condition(gurobipy, gurobi.Status, objective, bound),
        _status_name(gurobipy, gurobi.Status),
        point=columns.X if objective is not None else None,
        reported_objective=objective,
        bound=bound,
        solve_time=solve_time,
        solver_version=".".join(map(str, gurobipy.gurobi.version())),
        node_count=int(gurobi.NodeCount),
        n_lazy_rows=n_lazy_rows,
    )


def _status_name(gurobipy: Any, status: int) -> str:
    statuses = gurobipy.GRB.Status
    names = (name for name in dir(statuses) if name.isupper())
    return next((name for name in names if getattr(statuses, name) == status), str(status))


def _termination_condition(
    gurobipy: Any, status: int, objective: float | None, bound: float | None
) -> TerminationCondition:
    statuses = gurobipy.GRB.Status
    if status == statuses.OPTIMAL:
        return closing_condition(objective, bound)
    return {
        statuses.INFEASIBLE: TerminationCondition.INFEASIBLE,
        statuses.INF_OR_UNBD: TerminationCondition.INFEASIBLE,
        statuses.TIME_LIMIT: TerminationCondition.TIME_LIMIT,
        statuses.NODE_LIMIT: TerminationCondition.NODE_LIMIT,
        statuses.SOLUTION_LIMIT: TerminationCondition.SOLUTION_LIMIT,
        statuses.MEM_LIMIT: TerminationCondition.MEMORY_LIMIT,
        statuses.INTERRUPTED: TerminationCondition.INTERRUPTED,
        statuses.NUMERIC: TerminationCondition.ERROR,
    }.get(status, TerminationCondition.UNKNOWN)
