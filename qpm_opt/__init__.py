"""Exact feature selection and assignment for globally interpretable image classifiers.

``Problem`` in, verified ``Result`` out::

    from qpm_opt import Problem, solve

    problem = Problem.from_features(features, labels, n_selected=50, n_per_class=5)
    result = solve(problem, solver="highs", time_limit=600)
    result.assignment.matrix, result.objective, result.bound, result.relative_gap
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qpm_opt.assignment import Assignment
    from qpm_opt.cover import (
        COVER_METHODS,
        CoverProblem,
        CoverResult,
        SetCover,
        greedy_cover,
        minimum_set_cover,
        solve_cover,
    )
    from qpm_opt.demands import ContradictionError, Demands
    from qpm_opt.errors import (
        InvalidFeaturesError,
        InvalidInputError,
        InvalidProblemError,
        InvalidSolutionError,
        QPMError,
        SolverError,
        SolverLicenseError,
        SolverNotAvailableError,
        UnsupportedFormulationError,
    )
    from qpm_opt.optimize import FORMULATIONS, METHODS, solve
    from qpm_opt.problem import ObjectiveParts, Problem, Violation
    from qpm_opt.result import (
        Progress,
        Result,
        SolutionStatus,
        TerminationCondition,
        package_versions,
        relative_gap,
    )
    from qpm_opt.solvers import SOLVERS, available_solvers, solver_availability
    from qpm_opt.steering import what_if
    from qpm_opt.steering_result import ClassChange, WhatIf
    from qpm_opt.verification import BoundStatus, Verification, verify

__all__ = [
    "COVER_METHODS",
    "FORMULATIONS",
    "METHODS",
    "SOLVERS",
    "Assignment",
    "BoundStatus",
    "ClassChange",
    "ContradictionError",
    "CoverProblem",
    "CoverResult",
    "Demands",
    "InvalidFeaturesError",
    "InvalidInputError",
    "InvalidProblemError",
    "InvalidSolutionError",
    "ObjectiveParts",
    "Problem",
    "Progress",
    "QPMError",
    "Result",
    "SetCover",
    "SolutionStatus",
    "SolverError",
    "SolverLicenseError",
    "SolverNotAvailableError",
    "TerminationCondition",
    "UnsupportedFormulationError",
    "Verification",
    "Violation",
    "WhatIf",
    "available_solvers",
    "greedy_cover",
    "minimum_set_cover",
    "package_versions",
    "relative_gap",
    "solve",
    "solve_cover",
    "solver_availability",
    "verify",
    "what_if",
]

_MODULES = (
    "errors", "assignment", "problem", "result", "verification", "solvers", "optimize", "cover",
    "demands", "steering_result", "steering",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    """Public name, its module imported at first use: numpy and scipy take half a second."""
    if name in __all__:
        for module in _MODULES:
            namespace = vars(importlib.import_module(f"qpm_opt.{module}"))
            if name in namespace:
                return globals().setdefault(name, namespace[name])
    raise AttributeError(f"module 'qpm_opt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
