"""The greedy algorithm against the printed one, and pruning."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from qpm_opt import CoverProblem, greedy_cover
from tests.cover_oracle import random_cover, region

seeds = st.integers(0, 2**32 - 1)


def printed_algorithm(problem: CoverProblem) -> list[int]:
    """Algorithm 1 word by word: eq. 4 with images of R in the numerator."""
    separated, same = problem.separated.tolist(), problem.same.tolist()

    def sizes(chosen):
        covered = region(separated, same, chosen)
        return len(covered.same) + len(covered.other), len(covered.other)

    P: list[int] = []
    while sizes(P)[1] > problem.n_exceptions:
        best, best_ratio, best_denominator = None, None, None
        for h in range(problem.n_boundaries):
            if h in P:
                continue
            numerator = sizes(P)[0] - sizes([*P, h])[0]
            denominator = sizes(P)[1] - sizes([*P, h])[1]
            if denominator == 0:
                continue
            ratio = Fraction(numerator, denominator)
            if (
                best is None
                or ratio < best_ratio
                or (ratio == best_ratio and denominator > best_denominator)
            ):
                best, best_ratio, best_denominator = h, ratio, denominator
        P.append(best)
    return P


@given(seeds)
def test_it_is_the_printed_algorithm(seed):
    problem = random_cover(seed)
    assert greedy_cover(problem, prune=False).tolist() == printed_algorithm(problem)


@given(seeds)
def test_pruning_leaves_a_feasible_subset_that_covers_no_less_and_needs_each(seed):
    problem = random_cover(seed)
    printed, pruned = greedy_cover(problem, prune=False), greedy_cover(problem)
    assert set(pruned) <= set(printed)
    assert problem.counts(pruned)[0] >= problem.counts(printed)[0]
    assert problem.counts(pruned)[1] <= problem.n_exceptions
    for h in pruned:
        assert problem.counts([g for g in pruned if g != h])[1] > problem.n_exceptions


def test_ties_go_to_the_larger_denominator_and_then_to_the_lower_index():
    # Boundaries 1 and 2 lose nothing of the class; 2 and 3 exclude two others for nothing.
    separated = [
        [1, 0, 0, 0],
        [0, 1, 1, 1],
        [1, 0, 1, 1],
        [1, 0, 0, 0],
    ]
    problem = CoverProblem(separated, [True, False, False, False])
    assert greedy_cover(problem, prune=False).tolist() == [2, 0]
