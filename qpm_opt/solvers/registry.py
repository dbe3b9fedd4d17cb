"""Solvers by name."""

from __future__ import annotations

import importlib

from qpm_opt.errors import InvalidInputError, unknown_name
from qpm_opt.solvers.base import Solver

#: Name users type -> ``module:class``. The modules import their solver's package only when asked.
SOLVERS: dict[str, str] = {
    "highs": "qpm_opt.solvers.highs:HighsSolver",
    "cpsat": "qpm_opt.solvers.cpsat:CpSatSolver",
    "gurobi": "qpm_opt.solvers.gurobi:GurobiSolver",
    "scip": "qpm_opt.solvers.scip:ScipSolver",
}


def get_solver(name: str) -> Solver:
    """Back end of that name; ``"module:class"`` names one outside this package.

    Raises
    ------
    InvalidInputError
        If there is no such solver.
    """
    address = name if ":" in name else SOLVERS.get(name)
    if address is None:
        raise unknown_name("solver", name, SOLVERS)
    module_name, _, class_name = address.partition(":")
    try:
        solver_class = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise InvalidInputError(f"The solver {name!r} cannot be loaded: {error}.") from error
    if not (isinstance(solver_class, type) and issubclass(solver_class, Solver)):
        raise InvalidInputError(f"{name!r} is no subclass of qpm_opt.solvers.base.Solver.")
    return solver_class()
