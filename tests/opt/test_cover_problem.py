"""The cover problem: counts, submodularity, sets, and bad input."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpm_opt import (
    CoverProblem,
    InvalidInputError,
    InvalidProblemError,
    SolutionStatus,
    TerminationCondition,
    greedy_cover,
    solve_cover,
)
from tests.cover_oracle import random_cover, region, subsets

seeds = st.integers(0, 2**32 - 1)


@given(seeds)
def test_counts_are_those_of_plain_sets(seed):
    problem = random_cover(seed)
    for chosen in itertools.islice(subsets(problem.n_boundaries), 30):
        plain = region(problem.separated.tolist(), problem.same.tolist(), chosen)
        assert problem.counts(chosen) == (len(plain.same), len(plain.other))
        assert set(np.flatnonzero(problem.covered(chosen))) == plain.same | plain.other


@given(seeds)
def test_cost_and_benefit_are_monotone_and_submodular(seed):
    # Theorem 1 of the paper: images lost, and images of other classes lost.
    problem = random_cover(seed, most_boundaries=5)
    all_same, all_other = problem.counts(())

    def lost(chosen):
        same, other = problem.counts(chosen)
        return np.array([all_same + all_other - same - other, all_other - other])

    for chosen in subsets(problem.n_boundaries):
        outside = [h for h in range(problem.n_boundaries) if h not in chosen]
        for g in outside:
            gain = lost((*chosen, g)) - lost(chosen)
            assert (gain >= 0).all()
            for h in outside:
                if h != g:
                    assert (lost((*chosen, h, g)) - lost((*chosen, h)) <= gain).all()


@given(seeds)
def test_tau_is_what_all_boundaries_leave(seed):
    problem = random_cover(seed)
    plain = region(problem.separated.tolist(), problem.same.tolist(), range(problem.n_boundaries))
    assert problem.least_exceptions == len(plain.other)
    assert CoverProblem(problem.separated, problem.same).n_exceptions == len(plain.other)
    assert problem.spare == problem.n_exceptions - len(plain.other)


@given(seeds)
def test_separator_sets_are_the_different_rows(seed):
    problem = random_cover(seed)
    rows = [tuple(row) for row in problem.separated[problem.same].tolist() if any(row)]
    sets = problem.same_sets
    assert {tuple(s): int(n) for s, n in zip(sets.members.tolist(), sets.counts, strict=True)} == {
        row: rows.count(row) for row in set(rows)
    }


def test_fewer_exceptions_than_no_boundary_can_exclude_are_infeasible():
    problem = CoverProblem([[False], [False], [True]], [True, False, False], 0)
    assert not problem.is_feasible
    for method in ("exact", "greedy", "milp"):
        result = solve_cover(problem, method=method)
        assert result.termination_condition is TerminationCondition.INFEASIBLE
        assert result.solution_status is SolutionStatus.NO_SOLUTION
        assert result.boundaries is None
        assert result.bound is None
        assert result.relative_gap is None
        assert "but 1 are on the input's side" in result.raw_status
    with pytest.raises(InvalidProblemError, match="side of every boundary"):
        greedy_cover(problem)


@pytest.mark.parametrize(
    ("separated", "same", "n_exceptions", "match"),
    [
        ([True, False], [True, False], None, r"\(n_images, n_boundaries\)"),
        ([[True], [False]], [True], None, "one entry for every image"),
        ([[True], [False]], [[True], [False]], None, "one entry for every image"),
        ([[0.5], [1.0]], [True, False], None, "separated must be boolean"),
        ([[np.nan], [1.0]], [True, False], None, "separated must be boolean"),
        ([[True], [False]], ["yes", "no"], None, "same must be boolean"),
        ([[True], [False, True]], [True, False], None, "separated is not an array"),
        ([[True], [False]], [True, False], -1, "n_exceptions is -1"),
        ([[True], [False]], [True, False], 0.5, "n_exceptions is 0.5"),
        ([[True], [False]], [True, False], "many", "n_exceptions is 'many'"),
    ],
)
def test_unusable_arrays_are_refused_in_words(separated, same, n_exceptions, match):
    with pytest.raises(InvalidProblemError, match=match):
        CoverProblem(separated, same, n_exceptions)


def test_unusable_options_are_refused_in_words():
    problem = random_cover(0)
    with pytest.raises(InvalidProblemError, match="count_exceptions is 'yes'"):
        CoverProblem(problem.separated, problem.same, count_exceptions="yes")
    for options, match in (
        ({"method": "exakt"}, "did you mean exact"),
        ({"method": "milp", "solver": "cp-sat"}, "did you mean cpsat"),
        ({"time_limit": -1}, "time_limit is -1"),
        ({"node_limit": -1}, "node_limit is -1"),
        ({"seed": 0.5}, "seed is 0.5"),
    ):
        with pytest.raises(InvalidInputError, match=match):
            solve_cover(problem, **options)
    with pytest.raises(InvalidInputError, match="expected a CoverProblem"):
        solve_cover(problem.separated)
    with pytest.raises(InvalidProblemError, match="expected indices from 0 to"):
        problem.covered([problem.n_boundaries])


def test_the_arrays_are_copies_that_cannot_be_written_to():
    separated = np.array([[True], [False]])
    problem = CoverProblem(separated, [1, 0])
    separated[:] = False
    assert problem.separated.tolist() == [[True], [False]]
    with pytest.raises(ValueError, match="read-only"):
        problem.separated[0, 0] = False


@pytest.mark.parametrize("method", ["exact", "greedy"])
def test_degenerate_sizes(method):
    for separated, same, objective in (
        (np.zeros((0, 0), bool), [], 0),
        (np.zeros((0, 3), bool), [], 0),
        (np.zeros((3, 0), bool), [True, True, False], 2),
        ([[True, True]], [True], 1),
        ([[True, True]], [False], 0),
        (np.ones((4, 2), bool), [True, False, False, True], 0),
        (np.ones((4, 2), bool), [True] * 4, 4),
    ):
        result = solve_cover(CoverProblem(separated, same), method=method)
        assert result.objective == result.bound == objective
        assert result.solution_status is SolutionStatus.OPTIMAL
        assert result.absolute_gap == 0
