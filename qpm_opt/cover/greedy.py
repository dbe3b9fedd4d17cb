"""The greedy algorithm of the paper, and the removal of boundaries that turn out superfluous."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from qpm_opt.cover.bitsets import column_bits, union
from qpm_opt.cover.problem import CoverProblem
from qpm_opt.errors import InvalidProblemError
from qpm_opt.validation import IntArray


def greedy_cover(problem: CoverProblem, *, prune: bool = True) -> IntArray:
    """Choose boundaries one by one, each with the least loss per image excluded.

    Algorithm 1 of Lam et al. (ICCV 2021): the next boundary minimises the images lost over the
    images of other classes lost. As the former include the latter, this is the least ratio of
    images of the input's class lost to others lost, and that is what is compared, exactly. Ties go
    to the boundary that loses more others, then to the lower index; one that loses no others is no
    candidate. It is a heuristic without a guarantee.

    Parameters
    ----------
    problem : CoverProblem
    prune : bool
        Whether boundaries without which the region is still feasible are removed at the end
        (:func:`prune_cover`); the printed algorithm does not.

    Returns
    -------
    ndarray of shape (n_chosen,)
        In the order of choice.

    Raises
    ------
    InvalidProblemError
        If the problem is infeasible.
    """
    if not problem.is_feasible:
        raise InvalidProblemError(problem.infeasibility)
    same = column_bits(problem.separated[problem.same])
    other = column_bits(problem.separated[~problem.same])
    to_lose = problem.n_images - int(np.count_nonzero(problem.same)) - problem.n_exceptions
    chosen: list[int] = []
    lost_same = lost_other = 0
    while lost_other.bit_count() < to_lose:
        best: tuple[int, int, int] | None = None
        for h in range(problem.n_boundaries):
            others = (other[h] & ~lost_other).bit_count()
            if not others:
                continue
            cost = (same[h] & ~lost_same).bit_count()
            if best is not None:
                difference = cost * best[1] - best[0] * others
                if difference > 0 or (difference == 0 and others <= best[1]):
                    continue
            best = cost, others, h
        assert best is not None  # delta >= tau
        chosen.append(best[2])
        lost_same |= same[best[2]]
        lost_other |= other[best[2]]
    kept = prune_cover(problem, chosen) if prune else chosen
    return np.array(kept, dtype=np.intp)


def prune_cover(problem: CoverProblem, boundaries: Iterable[int]) -> list[int]:
    """Leave out, in ascending order, every boundary that the others make superfluous.

    What is left is feasible if the boundaries were, and covers no less.
    """
    kept = list(boundaries)
    other = column_bits(problem.separated[~problem.same])
    to_lose = problem.n_images - int(np.count_nonzero(problem.same)) - problem.n_exceptions
    for h in sorted(kept):
        rest = [g for g in kept if g != h]
        if union(other, rest).bit_count() >= to_lose:
            kept = rest
    return kept
