"""Negative assignments against an enumeration of ternary matrices."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from qpm_opt import Problem, solve
from qpm_opt.constants import (
    compute_constants,
    feature_similarity,
    problem_from_statistics,
    statistics_from_features,
)
from qpm_opt.signs import signed_matrix

N_CLASSES, N_FEATURES, P, K = 3, 6, 4, 2


def optimum(A, R, b, *, distinct_sets: bool = True) -> float:
    """Best value of a ternary W, by enumeration of selections, rows and signs."""
    best = -np.inf
    for selected in combinations(range(N_FEATURES), P):
        fixed = sum(b[d] for d in selected)
        fixed -= sum(R[d, e] for d, e in combinations(selected, 2))
        subsets = list(combinations(selected, K))
        rows = list(product(subsets, product((-1, 1), repeat=K)))
        first, second, third = (
            np.array([sum(s * a[d] for d, s in zip(*row, strict=True)) for row in rows]) for a in A
        )
        total = first[:, None, None] + second[:, None] + third
        name = np.array(
            [subsets.index(subset) if distinct_sets else i for i, (subset, _) in enumerate(rows)]
        )
        equal = name[:, None] == name
        clash = equal[:, :, None] | equal[:, None, :] | equal
        best = max(best, fixed + total[~clash].max())
    return best


def instance(seed: int):
    """Constants in which two classes differ in signs only, so that distinctness matters."""
    rng = np.random.default_rng(seed)
    A = np.round(rng.normal(size=(N_CLASSES, N_FEATURES)), 2)
    A[1] = A[0] * rng.choice([-1, 1], N_FEATURES)
    R = feature_similarity(A, negative=True)
    return A, R, np.round(rng.normal(size=N_FEATURES) / 3, 2)


@pytest.mark.parametrize("seed", range(6))
def test_the_binary_problem_with_absolute_values_has_the_same_optimum(seed):
    A, R, b = instance(seed)
    result = solve(Problem(np.abs(A), R, b, n_selected=P, n_per_class=K), threads=1)
    assert result.solution_status == "optimal"
    assert result.objective == pytest.approx(optimum(A, R, b))
    W = signed_matrix(result.assignment, A)
    assert np.array_equal(W != 0, result.assignment.matrix)
    parts = Problem(A, R, b, n_selected=P, n_per_class=K).objective_parts(result.assignment)
    assert (A * W).sum() + parts.similarity + parts.bias == pytest.approx(result.objective)


@pytest.mark.parametrize("seed", range(3))
def test_distinct_rows_instead_of_sets_are_bounded_as_said(seed):
    A, R, b = instance(seed)
    sizes = {"n_selected": P, "n_per_class": K}
    rows = optimum(A, R, b, distinct_sets=False)
    sets = solve(Problem(np.abs(A), R, b, **sizes), threads=1).objective
    free = solve(Problem(np.abs(A), R, b, distinct=False, **sizes), threads=1).objective
    assert sets - 1e-9 <= rows <= free + 1e-9


def test_constants_with_negative_assignments():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    features = rng.normal(size=(3, 8))[labels] + rng.normal(size=(60, 8))
    features[:, 7] = -features[:, 6] + 0.1 * rng.normal(size=60)
    statistics = statistics_from_features(features, labels)
    options = {"n_selected": 4, "n_per_class": 2, "epsilon": 0.0}
    plain = compute_constants(statistics, **options)
    found = compute_constants(statistics, **options, negative=True)
    np.testing.assert_array_equal(found.class_similarity, np.abs(plain.class_similarity))
    np.testing.assert_array_equal(found.feature_bias, plain.feature_bias)
    A = statistics.class_similarity
    cosine = A.T @ A / np.outer(*[np.linalg.norm(A, axis=0)] * 2)
    np.fill_diagonal(cosine, 0)
    expected = np.abs(cosine) / np.abs(cosine).max()
    np.testing.assert_allclose(found.feature_similarity, expected, atol=1e-12)
    # A feature and the opposite of another say the same.
    assert plain.feature_similarity[6, 7] == 0 and found.feature_similarity[6, 7] > 0.9
    problem = problem_from_statistics(statistics, **options, negative=True)
    np.testing.assert_array_equal(problem.class_similarity, found.class_similarity)


def test_zero_counts_as_positive():
    result = solve(Problem(np.zeros((1, 3)), np.zeros((3, 3)), n_selected=2, n_per_class=2))
    assert signed_matrix(result.assignment, np.zeros((1, 3))).sum() == 2
