"""Solvers that say what is not so; the child process finds them by ``module:class``."""

from __future__ import annotations

import numpy as np

from qpm_opt.result import TerminationCondition
from qpm_opt.solvers.base import (
    Availability,
    AvailabilityReport,
    Capability,
    RawSolve,
    Solver,
)


class _Liar(Solver):
    name = "liar"
    package = "none"
    module = "json"
    extra = None
    capabilities = Capability.CONTINUOUS_COLUMNS

    def availability(self):
        return AvailabilityReport(Availability.FULL, "1")


class FalseBound(_Liar):
    """Calls nothing at all optimal, with a bound below every assignment."""

    def solve(self, model, options, *, start, separate, report):
        return RawSolve(TerminationCondition.OPTIMAL, "ok", point=start, bound=-1e6)


class InfeasiblePoint(_Liar):
    """Returns a point that breaks every row, as an optimum."""

    def solve(self, model, options, *, start, separate, report):
        point = np.ones(model.n_columns)
        return RawSolve(
            TerminationCondition.OPTIMAL, "ok", point=point, reported_objective=1e9, bound=1e9
        )


class Infeasible(_Liar):
    """Calls every model infeasible."""

    def solve(self, model, options, *, start, separate, report):
        return RawSolve(TerminationCondition.INFEASIBLE, "infeasible")
