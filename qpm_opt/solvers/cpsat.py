"""OR-Tools CP-SAT: linear models over bounded integers.

The only bridge from linear models to CP-SAT here: the arithmetic is in
:mod:`qpm_opt.solvers.scaling`. Points are points of the model with integer rows; where a row had to
be relaxed they can break it by the rounding of its coefficients, and the caller checks them.
"""

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
from qpm_opt.solvers.scaling import (
    Int64Array,
    IntegerObjective,
    IntegerRows,
    integer_bounds,
    integer_objective,
    integer_rows,
)
from qpm_opt.validation import FloatArray


class CpSatSolver(Solver):
    """CP-SAT through its model protocol buffer.

    ``options.gap`` is its ``relative_gap_limit``, relative to at least 1.
    """

    name = "cpsat"
    package = "ortools"
    module = "ortools.sat.python.cp_model"
    extra = "cpsat"
    capabilities = Capability.NONE

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
        cp_model = self.load()
        self.require(model)
        lower, upper = integer_bounds(model)
        if (lower > upper).any():
            return self._without_solving("no integer between the bounds of a column")
        objective = integer_objective(model.cost, model.offset, lower, upper)
        rows = integer_rows(model, lower, upper)
        if (rows.lower > rows.upper).any():
            return self._without_solving("no integer between the sides of a row")
        bridge = cp_model.CpModel()
        _write(bridge.proto, objective, rows, upper - lower)
        if start is not None:
            hint = bridge.proto.solution_hint
            hint.vars.extend(range(model.n_columns))
            hint.values.extend((np.rint(start).astype(np.int64) - lower).tolist())

        def point(response: Any) -> FloatArray:
            return np.array(response.solution, dtype=float) + lower

        class Callback(cp_model.CpSolverSolutionCallback):  # type: ignore[misc, name-defined]
            def on_solution_callback(self) -> None:
                report(Event(point=point(self.response_proto)))

        bounds: list[float] = []

        def new_bound(value: float) -> None:
            if math.isfinite(value):
                bounds.append(value + objective.slack)
                report(Event(bound=bounds[-1]))

        solver = cp_model.CpSolver()
        solver.best_bound_callback = new_bound
        _set_parameters(solver.parameters, options, options.time_left(began))
        status = solver.solve(bridge, Callback())
        response = solver.response_proto
        if status == cp_model.MODEL_INVALID:
            reason = bridge.validate() or response.solution_info
            raise SolverError(f"CP-SAT refuses the model: {' '.join(reason.split())}")
        found = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
        if found:  # without a point it says 0, which is no bound
            bounds.append(response.best_objective_bound + objective.slack)
        bound = min(bounds, default=None)
        condition = {
            cp_model.OPTIMAL: closing_condition(response.objective_value, bound),
            cp_model.INFEASIBLE: TerminationCondition.INFEASIBLE,
        }.get(status)
        return RawSolve(
            condition or _limit_reached(options, began),
            solver.status_name(status),
            point=point(response) if found else None,
            reported_objective=response.objective_value if found else None,
            bound=bound,
            solve_time=time.perf_counter() - began,
            solver_version=self.version,
            node_count=response.num_branches,
        )

    def _without_solving(self, reason: str) -> RawSolve:
        """CP-SAT calls invalid what is infeasible at sight."""
        return RawSolve(
            TerminationCondition.INFEASIBLE, f"INFEASIBLE: {reason}", solver_version=self.version
        )


def _limit_reached(options: SolveOptions, began: float) -> TerminationCondition:
    """Which limit stopped it; CP-SAT does not say, and ends a little before its time is up."""
    if options.time_limit is not None and time.perf_counter() - began > 0.9 * options.time_limit:
        return TerminationCondition.TIME_LIMIT
    return TerminationCondition.UNKNOWN


def _write(proto: Any, objective: IntegerObjective, rows: IntegerRows, span: Int64Array) -> None:
    """Fill the protocol buffer; list slices are several times faster than the modelling calls."""
    variables, constraints = proto.variables, proto.constraints
    for top in span.tolist():
        variables.add().domain.extend((0, top))
    indptr, indices, values = rows.indptr.tolist(), rows.indices.tolist(), rows.values.tolist()
    sides = zip(rows.lower.tolist(), rows.upper.tolist(), strict=True)
    for row, domain in enumerate(sides):
        linear = constraints.add().linear
        begin, end = indptr[row], indptr[row + 1]
        linear.vars.extend(indices[begin:end])
        linear.coeffs.extend(values[begin:end])
        linear.domain.extend(domain)
    # CP-SAT minimises scaling_factor * (coefficients @ y + offset), and maximises if it is negative
    used = np.flatnonzero(objective.coefficients)
    proto.objective.vars.extend(used.tolist())
    proto.objective.coeffs.extend((-objective.coefficients[used]).tolist())
    proto.objective.scaling_factor = -1.0 / objective.scale
    proto.objective.offset = -objective.constant * objective.scale


def _set_parameters(parameters: Any, options: SolveOptions, time_left: float | None) -> None:
    values = {
        "num_workers": options.threads,
        "random_seed": options.seed,
        "relative_gap_limit": options.gap,
        "absolute_gap_limit": 0.0,
        "catch_sigint_signal": False,
        # Assignment models need the full linear relaxation: at the default level the bound of a
        # model that takes a second stays where it was after a minute. Portfolios of less than
        # eight workers have no such member.
        "linearization_level": 2,
        **({"extra_subsolvers": ["max_lp"]} if 1 < options.threads < 8 else {}),
        **({} if time_left is None else {"max_time_in_seconds": time_left}),
        **options.solver_options,
    }
    for parameter, value in values.items():
        try:
            field = getattr(parameters, parameter)
            if isinstance(value, list | tuple):
                field.clear()
                field.extend(value)
            else:
                setattr(parameters, parameter, value)
        except (AttributeError, TypeError, ValueError) as error:
            raise InvalidInputError(
                f"CP-SAT refuses the parameter {parameter!r} with the value {value!r}; see "
                f"sat_parameters.proto for the list."
            ) from error
