"""SCIP: linear and quadratic models, without a licence."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from qpm_opt.errors import InvalidInputError
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


class ScipSolver(Solver):
    """SCIP through pyscipopt. It runs in one thread whatever ``options.threads`` says.

    SCIP's objective is linear: products go to a constraint ``z <= sum_t v_t x_i x_j``, and z to
    the objective. ``options.gap`` is its ``limits/gap``, relative to the smaller in absolute value
    of objective and bound.
    """

    name = "scip"
    package = "pyscipopt"
    module = "pyscipopt"
    extra = "scip"
    capabilities = Capability.QUADRATIC_OBJECTIVE | Capability.CONTINUOUS_COLUMNS

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
        pyscipopt = self.load()
        self.require(model)
        scip = pyscipopt.Model()
        scip.hideOutput()
        columns, epigraph = _pass_model(scip, model)
        _set_parameters(scip, options)
        if start is not None:
            _offer(scip, model, columns, epigraph, start)

        def point() -> FloatArray:
            solution = scip.getBestSol()
            return np.array([scip.getSolVal(solution, column) for column in columns])

        def bound() -> float | None:
            value = scip.getDualbound()
            return None if scip.isInfinity(abs(value)) else value

        class Progress(pyscipopt.Eventhdlr):  # type: ignore[misc, name-defined]
            events = (
                pyscipopt.SCIP_EVENTTYPE.BESTSOLFOUND,
                pyscipopt.SCIP_EVENTTYPE.DUALBOUNDIMPROVED,
            )

            def eventinit(self) -> None:
                for event in self.events:
                    self.model.catchEvent(event, self)

            def eventexit(self) -> None:
                for event in self.events:
                    self.model.dropEvent(event, self)

            def eventexec(self, event: Any) -> None:
                if event.getType() == pyscipopt.SCIP_EVENTTYPE.BESTSOLFOUND:
                    report(Event(point=point()))
                else:
                    report(Event(bound=bound()))

        scip.includeEventhdlr(Progress(), "progress", "reports incumbents and bounds")
        time_left = options.time_left(began)
        if time_left is not None:
            scip.setParam("limits/time", time_left)
        scip.optimizeNogil()  # lets the thread run that watches for the parent's end

        status = scip.getStatus()
        found = scip.getNSols() > 0
        objective = scip.getObjVal() if found else None
        return RawSolve(
            _termination_condition(status, objective, bound()),
            status,
            point=point() if found else None,
            reported_objective=objective,
            bound=bound(),
            solve_time=time.perf_counter() - began,
            solver_version=_version(scip),
            node_count=scip.getNTotalNodes(),
        )


def _version(scip: Any) -> str:
    return f"{scip.getMajorVersion()}.{scip.getMinorVersion()}.{scip.getTechVersion()}"


def _pass_model(scip: Any, model: MatrixModel) -> tuple[list[Any], Any]:
    """Columns as variables, and the variable z of the products (None if there are none)."""
    from pyscipopt.scip import Expr, ExprCons, Term

    columns = [
        scip.addVar(
            vtype="I" if integer else "C",
            lb=low if np.isfinite(low) else None,
            ub=high if np.isfinite(high) else None,
            obj=cost,
        )
        for integer, low, high, cost in zip(
            model.integer.tolist(),
            model.lower.tolist(),
            model.upper.tolist(),
            model.cost.tolist(),
            strict=True,
        )
    ]
    # Expressions from dictionaries: operators would copy the sum at every term.
    terms = [Term(column) for column in columns]
    matrix = model.matrix
    indptr, indices, values = (
        matrix.indptr.tolist(),
        matrix.indices.tolist(),
        matrix.data.tolist(),
    )
    sides = zip(model.row_lower.tolist(), model.row_upper.tolist(), strict=True)
    for row, (low, high) in enumerate(sides):
        entries = range(indptr[row], indptr[row + 1])
        left = Expr({terms[indices[entry]]: values[entry] for entry in entries})
        scip.addCons(
            ExprCons(left, low if np.isfinite(low) else None, high if np.isfinite(high) else None)
        )
    epigraph = None
    if model.is_quadratic:
        epigraph = scip.addVar(vtype="C", lb=None, ub=None, obj=1.0)
        products = {
            Term(columns[i], columns[j]): -value
            for i, j, value in zip(*(part.tolist() for part in model.quadratic), strict=True)
        }
        scip.addCons(ExprCons(Expr({Term(epigraph): 1.0, **products}), None, 0.0))
    scip.addObjoffset(model.offset)
    scip.setMaximize()
    return columns, epigraph


def _offer(
    scip: Any, model: MatrixModel, columns: list[Any], epigraph: Any, start: FloatArray
) -> None:
    solution = scip.createSol()
    for column, value in zip(columns, start.tolist(), strict=True):
        if value != 0.0:
            scip.setSolVal(solution, column, value)
    if epigraph is not None:
        i, j, values = model.quadratic
        scip.setSolVal(solution, epigraph, float(values @ (start[i] * start[j])))
    scip.addSol(solution)


def _set_parameters(scip: Any, options: SolveOptions) -> None:
    values = {
        "limits/gap": options.gap,
        "randomization/randomseedshift": options.seed,
        "misc/catchctrlc": False,
        "numerics/feastol": 1e-9,  # no point that is better only for not being quite integral
        **options.solver_options,
    }
    for parameter, value in values.items():
        try:
            scip.setParam(parameter, value)
        except Exception as error:  # of several kinds, by what is wrong
            raise InvalidInputError(
                f"SCIP refuses the parameter {parameter!r} with the value {value!r}: {error}."
            ) from error


def _termination_condition(
    status: str, objective: float | None, bound: float | None
) -> TerminationCondition:
    if status in ("optimal", "gaplimit"):
        return closing_condition(objective, bound)
    return {
        "infeasible": TerminationCondition.INFEASIBLE,
        "inforunbd": TerminationCondition.INFEASIBLE,
        "timelimit": TerminationCondition.TIME_LIMIT,
        "nodelimit": TerminationCondition.NODE_LIMIT,
        "totalnodelimit": TerminationCondition.NODE_LIMIT,
        "sollimit": TerminationCondition.SOLUTION_LIMIT,
        "bestsollimit": TerminationCondition.SOLUTION_LIMIT,
        "memlimit": TerminationCondition.MEMORY_LIMIT,
        "userinterrupt": TerminationCondition.INTERRUPTED,
    }.get(status, TerminationCondition.UNKNOWN)
