"""The exact assignment for a given selection, against enumeration."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from qpm_opt import assign as module
from qpm_opt.assign import assign, is_selection, top_k_value
from qpm_opt.errors import InvalidInputError
from qpm_opt.problem import Problem
from tests import oracle


def given_selection(A, *, p=None, k, **options) -> Problem:
    """Problem in which all features must be selected: its optimum is the optimal assignment."""
    A = np.asarray(A, dtype=float)
    p = A.shape[1] if p is None else p
    return Problem(A, np.zeros((p, p)), n_selected=p, n_per_class=k, **options)


def assert_optimal(problem: Problem) -> None:
    assignment = assign(problem, np.arange(problem.n_selected))
    expected = oracle.optimum(problem)
    if expected is None:
        assert assignment is None
        return
    assert assignment is not None
    assert problem.violations(assignment) == ()
    assert problem.objective(assignment) == pytest.approx(expected, abs=1e-9)


@st.composite
def similarities(draw):
    """A over the selection, with ties and equal rows likely, and a possible k."""
    p = draw(st.integers(1, 6))
    k = draw(st.integers(1, p))
    n_classes = draw(st.integers(1, min(5, comb(p, k))))
    value = st.one_of(st.integers(-2, 2).map(float), st.floats(-1, 1))
    row = st.lists(value, min_size=p, max_size=p)
    kinds = draw(st.lists(row, min_size=1, max_size=n_classes))
    which = draw(st.lists(st.sampled_from(kinds), min_size=n_classes, max_size=n_classes))
    return np.array(which), k


@settings(max_examples=300, deadline=None)
@given(similarities(), st.booleans())
def test_equals_enumeration(case, distinct):
    A, k = case
    assert_optimal(given_selection(A, k=k, distinct=distinct))


@settings(max_examples=100, deadline=None)
@given(similarities(), st.data())
def test_equals_enumeration_under_side_constraints(case, data):
    A, k = case
    n_classes, p = A.shape
    use = data.draw(st.integers(0, k * n_classes // p), label="min_classes_per_feature")
    pairs = list(combinations(range(n_classes), 2)) if k < p else []
    chosen = data.draw(st.lists(st.sampled_from(pairs), max_size=2, unique=True)) if pairs else []
    distinct = data.draw(st.booleans(), label="distinct")
    problem = given_selection(
        A, k=k, distinct=distinct, min_classes_per_feature=use, contrastive_pairs=chosen
    )
    assert_optimal(problem)


@pytest.mark.parametrize("kind", ["equal", "zero", "random"])
def test_every_set_is_needed(kind):
    p, k = 5, 2
    n_classes = comb(p, k)
    rng = np.random.default_rng(0)
    A = rng.normal(size=(n_classes, p))
    A = {"equal": np.tile(A[0], (n_classes, 1)), "zero": np.zeros_like(A), "random": A}[kind]
    problem = given_selection(A, k=k)
    assignment = assign(problem, np.arange(p))
    assert problem.violations(assignment) == ()
    assert len({row.tobytes() for row in assignment.matrix}) == n_classes
    if kind == "equal":  # every set exactly once, whoever has it
        assert problem.objective(assignment) == pytest.approx(A[0].sum() * comb(p - 1, k - 1))


def test_single_class_uses_all_features():
    problem = given_selection([[1.0, -2.0, 3.0]], k=3)
    assert assign(problem, [2, 0, 1]).matrix.all()


def test_no_classes():
    problem = Problem(np.empty((0, 3)), np.zeros((3, 3)), n_selected=2, n_per_class=0)
    assignment = assign(problem, [0, 2])
    assert assignment.selected.tolist() == [0, 2]
    assert assignment.matrix.shape == (0, 3)
    assert top_k_value(problem, [0, 2]) == 0.0


@pytest.mark.parametrize("seed", range(30))
def test_many_colliding_classes(seed):
    """Most classes (almost) equal, against one linear assignment over all sets."""
    rng = np.random.default_rng(seed)
    p, k, n_classes = 8, 3, int(rng.integers(20, 57))
    A = rng.normal(size=(n_classes, p))
    n_equal = int(rng.integers(2, n_classes + 1))
    noise = rng.choice([0.0, 1e-9, 1e-2, 0.3])
    A[:n_equal] = A[0] + noise * rng.normal(size=(n_equal, p))
    every = np.array(list(combinations(range(p), k)))
    worth = A[:, every].sum(axis=2)
    expected = worth[linear_sum_assignment(worth, maximize=True)].sum()
    problem = given_selection(A, k=k)
    assignment = assign(problem, np.arange(p))
    assert problem.violations(assignment) == ()
    assert problem.objective(assignment) == pytest.approx(expected, abs=1e-9)


def test_a_class_that_shares_nothing_at_first_may_be_displaced():
    # Classes 0 and 1 collide on {0, 1}; the next best of class 1 is the best of class 2, which
    # gives way at a small cost, while class 1's third set is far worse.
    A = [[9.0, 9, 0, 0], [5.0, 4, 3.9, -9], [0.0, -0.1, 0, -0.2]]
    assert_optimal(given_selection(A, k=2))


def test_best_sets_are_the_best_in_order():
    rng = np.random.default_rng(1)
    for p, k, n in [(7, 3, 1), (7, 3, 12), (7, 3, 35), (6, 1, 4), (5, 5, 1), (9, 4, 60)]:
        values = np.round(rng.normal(size=(4, p)), 1)
        sets, worth = module._best_sets(values, k, n)
        every = np.array(list(combinations(range(p), k)))
        for row, listed, sums in zip(values, sets, worth, strict=True):
            expected = np.sort(row[every].sum(axis=1))[::-1][:n]
            assert sums == pytest.approx(expected)
            assert row[listed].sum(axis=1) == pytest.approx(sums)
            assert len({tuple(features) for features in listed.tolist()}) == n


def test_undominated_ranks_counts_dominating_sets():
    every = list(combinations(range(7), 3))

    def n_dominating(ranks):
        return sum(all(a <= b for a, b in zip(other, ranks, strict=True)) for other in every)

    for n in (1, 2, 5, 20, 35):
        found = {tuple(ranks) for ranks in module._undominated_ranks(7, 3, n).tolist()}
        assert found == {ranks for ranks in every if n_dominating(ranks) <= n}


def test_distinctness_and_least_use_bind_together():
    # Without distinctness classes 0 and 1 both take {0, 1}; without least use nobody needs 3.
    A = [[9.0, 9, 0, 0], [9.0, 9, 0, 0], [5.0, 5, 1, 0.9]]
    assert_optimal(given_selection(A, k=2, min_classes_per_feature=1))


def test_infeasible_pair_constraints_give_none():
    # Three sets of one feature out of two that pairwise share none do not exist.
    problem = given_selection(
        np.ones((3, 2)), k=1, distinct=False, contrastive_pairs=[(0, 1), (1, 2), (0, 2)]
    )
    assert oracle.optimum(problem) is None
    assert assign(problem, [0, 1]) is None


def test_no_time_for_the_integer_program():
    problem = given_selection(
        [[1.0, 0.0], [1.0, 0.0]], k=1, distinct=False, min_classes_per_feature=1
    )
    assert assign(problem, [0, 1], time_limit=0.0) is None
    assert problem.objective(assign(problem, [0, 1], time_limit=60.0)) == 1.0


def test_order_of_the_selection_does_not_matter():
    rng = np.random.default_rng(2)
    problem = Problem(rng.normal(size=(4, 8)), np.zeros((8, 8)), n_selected=4, n_per_class=2)
    first, second = assign(problem, [1, 3, 4, 7]), assign(problem, [7, 4, 1, 3])
    assert (first.matrix == second.matrix).all()
    assert first.selected.tolist() == [1, 3, 4, 7]


def test_top_k_value_ignores_distinctness():
    A = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    problem = given_selection(A, k=2)
    assert top_k_value(problem, [0, 1, 2]) == 10.0
    assert problem.objective(assign(problem, [0, 1, 2])) == 9.0


@pytest.mark.parametrize("selected", [[0], [0, 0], [0, 3], [-1, 0], [0, 2], [0.0, 1.0]])
def test_bad_selections_are_refused(selected):
    problem = Problem(
        np.ones((1, 3)), np.zeros((3, 3)), n_selected=2, n_per_class=1,
        candidate=np.array([True, True, False]),
    )  # fmt: skip
    assert not is_selection(problem, selected)
    for function in (assign, top_k_value):
        with pytest.raises(InvalidInputError, match="2 different indices of candidate features"):
            function(problem, selected)
