"""The smallest set cover with its proof: a cover problem in which nothing can be lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from qpm_opt.cover.problem import CoverProblem
from qpm_opt.cover.solve import solve_cover
from qpm_opt.errors import InvalidProblemError
from qpm_opt.result import SolutionStatus, TerminationCondition, absolute_gap, relative_gap
from qpm_opt.validation import IntArray, as_bool, as_count


@dataclass(frozen=True, kw_only=True)
class SetCover:
    """Outcome of :func:`qpm_opt.minimum_set_cover`.

    Attributes
    ----------
    termination_condition : TerminationCondition
        Why the search stopped.
    solution_status : SolutionStatus
        OPTIMAL if no cover has fewer sets, proved.
    sets : ndarray of shape (n_chosen,) or None
        Indices of the sets chosen, ascending; None if there is no cover.
    bound : int or None
        Lower bound on the number of sets of every cover.
    """

    termination_condition: TerminationCondition
    solution_status: SolutionStatus
    sets: IntArray | None = None
    bound: int | None = None

    @property
    def absolute_gap(self) -> float | None:
        """Distance of bound and number of sets."""
        return absolute_gap(self._size, self.bound)

    @property
    def relative_gap(self) -> float | None:
        """Distance of bound and number of sets, relative to the number of sets."""
        return relative_gap(self._size, self.bound)

    @property
    def _size(self) -> int | None:
        return None if self.sets is None else self.sets.size


def minimum_set_cover(
    covers: ArrayLike,
    *,
    n_uncovered: int = 0,
    time_limit: float | None = 10.0,
    node_limit: int | None = None,
) -> SetCover:
    """Fewest sets that together hold all elements, or all but some.

    Parameters
    ----------
    covers : array_like of shape (n_elements, n_sets), bool
        Whether the set holds the element.
    n_uncovered : int
        Elements that may be left out. INFEASIBLE if more lie in no set.
    time_limit : float, optional
        Seconds; None is no limit.
    node_limit : int, optional
        Most nodes of the search tree.

    Raises
    ------
    InvalidInputError
        If ``covers`` is no boolean matrix, or a number is out of range.
    """
    matrix = as_bool(covers, "covers", InvalidProblemError)
    if matrix.ndim != 2:
        raise InvalidProblemError(
            f"covers has shape {matrix.shape}; (n_elements, n_sets) was expected."
        )
    problem = CoverProblem(
        matrix, np.zeros(len(matrix), dtype=bool), as_count(n_uncovered, "n_uncovered")
    )
    result = solve_cover(problem, time_limit=time_limit, node_limit=node_limit)
    if result.boundaries is None:
        return SetCover(
            termination_condition=result.termination_condition,
            solution_status=result.solution_status,
        )
    return SetCover(
        termination_condition=result.fewest_condition,
        solution_status=SolutionStatus.OPTIMAL if result.has_fewest else SolutionStatus.FEASIBLE,
        sets=result.boundaries,
        bound=result.n_boundaries_bound,
    )
