"""What a method returns; incumbents and bounds go to the tracker while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qpm_opt.result import TerminationCondition


@dataclass(frozen=True)
class MethodOptions:
    """Options of :func:`qpm_opt.solve` that a method needs beside the problem and the tracker."""

    solver: str = "highs"
    threads: int = 1
    seed: int = 0
    formulation: str = "compact"
    solver_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class MethodOutcome:
    """Effort and end of a method. Times are seconds."""

    termination_condition: TerminationCondition = TerminationCondition.UNKNOWN
    raw_status: str | None = None
    reported_objective: float | None = None
    solver_version: str | None = None
    build_time: float = 0.0
    solve_time: float = 0.0
    n_rounds: int | None = None
    n_cuts: int | None = None
    node_count: int | None = None
