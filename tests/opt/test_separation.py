"""Cuts against enumeration: every feasible point keeps them, the point they were made for not."""

from __future__ import annotations

from itertools import combinations, product
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qpm_opt.assign import assign, top_k_value
from qpm_opt.assignment import Assignment
from qpm_opt.problem import Problem
from qpm_opt.separation import (
    PAIRWISE_LIMIT,
    CutKind,
    distinctness_cuts,
    no_good_cut,
    threshold_cuts,
)
from tests.conftest import random_problem

seeds = st.integers(0, 5000)


def feasible_points(problem):
    """s, W and theta of every feasible assignment, straight from the definition."""
    sets = list(combinations(range(problem.n_features), problem.n_per_class))
    points = []
    for selected in combinations(np.flatnonzero(problem.candidates), problem.n_selected):
        inside = [T for T in sets if set(T) <= set(selected)]
        for choice in product(inside, repeat=problem.n_classes):
            assignment = Assignment.from_indices(selected, choice, n_features=problem.n_features)
            if not problem.violations(assignment):
                points.append(assignment)
    s = np.array([a.selection for a in points], dtype=float)
    W = np.array([a.matrix for a in points], dtype=float)
    return s, W, (problem.class_similarity * W).sum(axis=2)


def left_sides(cut, s, W, theta):
    return (
        s[:, cut.s_features] @ cut.s_values
        + W[:, cut.W_classes, cut.W_features] @ cut.W_values
        + theta[:, cut.theta_classes] @ cut.theta_values
    )


def assert_valid(problem, cuts):
    points = feasible_points(problem)
    for cut in cuts:
        assert (left_sides(cut, *points) <= cut.upper + 1e-9).all(), cut


def small_problem(seed, **fixed):
    """With one to three classes and few enough points to enumerate."""
    rng = np.random.default_rng(seed)
    n_features = int(rng.integers(4, 6))
    p = int(rng.integers(2, n_features + 1))
    k = int(rng.integers(1, min(p, 3) + 1))
    n_classes = int(rng.integers(1, 4))
    distinct = bool(rng.integers(2)) and n_classes <= comb(p, k)
    A = rng.normal(size=(n_classes, n_features))
    if rng.integers(2):
        A = np.round(A)
    arguments = {"n_selected": p, "n_per_class": k, "distinct": distinct}
    if p < n_features and rng.integers(3) == 0:
        arguments["candidate"] = np.arange(n_features) != rng.integers(n_features)
    return Problem(A, np.zeros((n_features, n_features)), **(arguments | fixed))


def fractional_selection(problem, rng):
    """Entries in [0, 1] that sum to p, zero outside the candidates; often at the bounds."""
    s = np.zeros(problem.n_features)
    candidates = np.flatnonzero(problem.candidates)
    n_points = rng.integers(1, 4)
    for weight in rng.dirichlet(np.ones(n_points)):
        s[rng.choice(candidates, problem.n_selected, replace=False)] += weight
    return s


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_threshold_cuts_are_valid_and_the_tightest(seed):
    problem = small_problem(seed)
    rng = np.random.default_rng(seed)
    s = fractional_selection(problem, rng)
    A, k, use = problem.class_similarity, problem.n_per_class, problem.candidates
    tightest = np.array(
        [min(k * t + np.maximum(row - t, 0)[use] @ s[use] for t in row[use]) for row in A]
    )
    cuts = threshold_cuts(problem, s, np.full(problem.n_classes, np.inf))
    assert [cut.theta_classes.tolist() for cut in cuts] == [[c] for c in range(problem.n_classes)]
    sides = [cut.upper - cut.s_values @ s[cut.s_features] for cut in cuts]
    assert sides == pytest.approx(tightest, abs=1e-9)
    assert_valid(problem, cuts)


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_threshold_cuts_only_where_the_point_breaks_them(seed):
    problem = small_problem(seed)
    rng = np.random.default_rng(seed)
    s = fractional_selection(problem, rng)
    theta = rng.normal(scale=3.0, size=problem.n_classes)
    cuts = threshold_cuts(problem, s, theta)
    assert all(cut.violation(s, theta=theta) > 0 for cut in cuts)
    everything = threshold_cuts(problem, s, np.full(problem.n_classes, np.inf))
    broken = {c for c, cut in enumerate(everything) if cut.violation(s, theta=theta) > 1e-4}
    assert broken <= {int(cut.theta_classes[0]) for cut in cuts}


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_threshold_cuts_are_exact_at_a_selection(seed):
    problem = small_problem(seed, distinct=False)
    rng = np.random.default_rng(seed)
    selected = rng.choice(np.flatnonzero(problem.candidates), problem.n_selected, replace=False)
    s = np.zeros(problem.n_features)
    s[selected] = 1
    cuts = threshold_cuts(problem, s, np.full(problem.n_classes, np.inf))
    sides = [cut.upper - cut.s_values @ s[cut.s_features] for cut in cuts]
    assert sum(sides) == pytest.approx(top_k_value(problem, selected))


def test_threshold_cuts_of_a_selection_short_by_a_solvers_tolerance():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(200, 9))
    problem = Problem(A, np.zeros((9, 9)), n_selected=8, n_per_class=8, distinct=False)
    s = np.append(1 - 1e-7 * rng.random(8), 0.0)  # sums differ in their last digit by order
    cuts = threshold_cuts(problem, s, np.full(200, np.inf))
    sides = [cut.upper - cut.s_values @ s[cut.s_features] for cut in cuts]
    assert sides == pytest.approx(A[:, :8].sum(axis=1), abs=1e-5)


def test_no_threshold_cuts_without_classes():
    problem = Problem(np.empty((0, 3)), np.zeros((3, 3)), n_selected=2, n_per_class=0)
    assert threshold_cuts(problem, np.full(3, 2 / 3), np.empty(0)) == []


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_distinctness_cuts_are_valid_and_cut_off_equal_classes(seed):
    rng = np.random.default_rng(seed)
    problem = small_problem(seed)
    if problem.n_classes > comb(problem.n_selected, problem.n_per_class):
        return
    problem = small_problem(seed, distinct=True)
    sets = list(combinations(range(problem.n_features), problem.n_per_class))[:2]
    W = np.zeros((problem.n_classes, problem.n_features), dtype=bool)
    for c in range(problem.n_classes):
        W[c, list(sets[rng.integers(len(sets))])] = True
    cuts = distinctness_cuts(W, problem.n_per_class)
    assert bool(cuts) == (len(np.unique(W, axis=0)) < problem.n_classes)
    assert all(cut.violation(np.zeros(problem.n_features), W) > 0 for cut in cuts)
    assert_valid(problem, cuts)


def test_distinctness_cuts_of_groups_and_their_pairs():
    W = np.zeros((5, 6), dtype=bool)
    W[[0, 2, 4], 1] = W[[0, 2, 4], 3] = True
    W[1, :2] = W[3, 4:] = True
    cuts = distinctness_cuts(W, 2)
    assert [np.unique(cut.W_classes).tolist() for cut in cuts] == [
        [0, 2, 4],
        [0, 2],
        [0, 4],
        [2, 4],
    ]
    assert [cut.upper for cut in cuts] == [4, 3, 3, 3]
    large = np.tile(W[0], (PAIRWISE_LIMIT + 1, 1))
    [cut] = distinctness_cuts(large, 2)
    assert cut.upper == 2 * (PAIRWISE_LIMIT + 1) - PAIRWISE_LIMIT
    # An equal set of another size is no reason to forbid the k-subsets of anything.
    assert distinctness_cuts(W, 3) == []


@pytest.mark.parametrize("side", ["distinct", "use", "pair", "partner"])
@pytest.mark.parametrize("seed", range(25))
def test_no_good_cuts_are_valid_and_exact(seed, side):
    rng = np.random.default_rng(seed)
    n_features, p, k, n_classes = 5, 4, 2, 3
    extra = {
        "distinct": {},
        "use": {"min_classes_per_feature": 1},
        "partner": {"min_contrastive_pairs": 2},
        "pair": {"contrastive_pairs": np.array([[0, 1], [1, 2]]), "distinct": False},
    }[side]
    favourites = np.array([3, 2, 0, 0, 0])
    A = np.round(rng.normal(size=(n_classes, n_features)) + favourites, 1)
    candidate = np.arange(n_features) != 4 if seed % 3 == 0 else None
    problem = Problem(
        A,
        np.zeros((n_features, n_features)),
        n_selected=p,
        n_per_class=k,
        candidate=candidate,
        **extra,
    )
    s, _, theta = points = feasible_points(problem)
    for chosen in combinations(np.flatnonzero(problem.candidates), p):
        selected = np.array(chosen)
        here = (s[:, selected] == 1).all(axis=1)
        exact = assign(problem, selected)
        value = None if exact is None else problem.objective_parts(exact).assignment
        cut = no_good_cut(problem, selected, value)
        assert (left_sides(cut, *points) <= cut.upper + 1e-9).all()
        if value is None:
            assert not here.any()
            assert cut.kind is CutKind.INFEASIBLE_SELECTION
            continue
        assert value == pytest.approx(theta[here].sum(axis=1).max())
        at_selection = np.isin(np.arange(n_features), selected).astype(float)
        room = cut.upper - cut.s_values @ at_selection[cut.s_features]
        assert room == pytest.approx(value)


def test_infeasible_selection_is_forbidden_and_no_other():
    problem = random_problem(1, n_selected=2, n_per_class=1, distinct=False, candidate=None)
    cut = no_good_cut(problem, np.array([0, 2]), None)
    s = np.zeros(problem.n_features)
    s[[0, 2]] = 1
    assert cut.violation(s) > 0
    s[[0, 1]] = 0, 1
    assert cut.violation(s) <= 0


def test_no_good_cut_refuses_an_impossible_value():
    problem = small_problem(3, candidate=None)
    selected = np.arange(problem.n_selected)
    with pytest.raises(ValueError, match="is worth at most"):
        no_good_cut(problem, selected, top_k_value(problem, selected) + 1)
