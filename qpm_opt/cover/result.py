"""What a solve of a cover problem returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qpm_opt.result import SolutionStatus, TerminationCondition, absolute_gap, relative_gap
from qpm_opt.validation import IntArray


@dataclass(frozen=True, kw_only=True)
class CoverResult:
    """Outcome of :func:`qpm_opt.solve_cover`. Times are seconds; what is not known is None.

    Attributes
    ----------
    termination_condition : TerminationCondition
        Why the search for the largest region stopped.
    solution_status : SolutionStatus
        What our own check of the boundaries says. OPTIMAL is about the objective alone.
    boundaries : ndarray of shape (n_boundaries,) or None
        Indices of the boundaries chosen, ascending.
    n_covered_same, n_covered_other : int or None
        Covered images of the input's class, and of other classes.
    objective : int or None
        Covered images that count, recomputed from the matrix.
    bound : int or None
        Upper bound on the objective of every feasible choice.
    bound_kind : str or None
        Where the bound comes from.
    n_boundaries : int or None
        Number of boundaries chosen.
    n_boundaries_bound : int or None
        Lower bound on their number among the optimal choices; None if optimality is not proved or
        nobody asked for it.
    fewest_condition : TerminationCondition
        Why the search for the fewest boundaries stopped; UNKNOWN if there was none.
    raw_status : str or None
        The solver's words, or why the problem is infeasible.
    node_count : int or None
        Nodes of the search trees of both stages.
    build_time, solve_time, wall_time : float
        Greedy, reductions and models; searches; the whole call.
    """

    termination_condition: TerminationCondition = TerminationCondition.UNKNOWN
    solution_status: SolutionStatus = SolutionStatus.NO_SOLUTION
    boundaries: IntArray | None = None
    n_covered_same: int | None = None
    n_covered_other: int | None = None
    objective: int | None = None
    bound: int | None = None
    bound_kind: str | None = None
    n_boundaries: int | None = None
    n_boundaries_bound: int | None = None
    fewest_condition: TerminationCondition = TerminationCondition.UNKNOWN
    method: str
    solver: str | None = None
    solver_version: str | None = None
    raw_status: str | None = None
    node_count: int | None = None
    build_time: float = 0.0
    solve_time: float = 0.0
    wall_time: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def absolute_gap(self) -> float | None:
        """Distance of bound and objective."""
        return absolute_gap(self.objective, self.bound)

    @property
    def relative_gap(self) -> float | None:
        """Distance of bound and objective, relative to the objective."""
        return relative_gap(self.objective, self.bound)

    @property
    def has_fewest(self) -> bool:
        """Whether no optimal choice has fewer boundaries, proved."""
        return self.n_boundaries is not None and self.n_boundaries == self.n_boundaries_bound
