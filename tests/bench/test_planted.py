"""Planted optima: the proof holds on the data, brute force and our own bounds agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qpm_bench.planted import planted, upper_bound
from qpm_opt import InvalidInputError, solve
from qpm_opt.assign import assign
from qpm_opt.heuristics import greedy
from tests import oracle

SMALL = [(3, 10, 4, 2), (5, 9, 4, 2), (1, 8, 3, 1), (4, 9, 5, 3)]
LARGE = [(10, 40, 8, 3), (40, 300, 20, 4)]


def make(shape, seed):
    n_classes, n_features, p, k = shape
    return planted(n_classes, n_features, n_selected=p, n_per_class=k, seed=seed)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", SMALL)
def test_brute_force_finds_nothing_better(shape, seed):
    made = make(shape, seed)
    assert oracle.optimum(made.problem) == made.problem.best_known


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [*SMALL, *LARGE])
def test_the_planted_assignment_attains_the_bound(shape, seed):
    problem, assignment, thresholds, shares = make(shape, seed)
    assert problem.proved and not problem.violations(assignment)
    bound = upper_bound(problem, thresholds, shares)
    assert problem.objective(assignment) == problem.best_known == bound


def test_data_are_whole_multiples_and_of_the_papers_kind():
    problem = make(LARGE[1], 0).problem
    for array in (problem.class_similarity, problem.feature_similarity, problem.bias):
        assert (array * 64 == np.round(array * 64)).all() and array.any()
    assert problem.feature_similarity.min() == 0.0 and problem.distinct
    assert problem.bias.min() < 0.0 < problem.bias.max()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", LARGE)
def test_it_takes_more_than_looking_at_columns(shape, seed):
    problem, assignment, *_ = make(shape, seed)
    largest = np.argsort(-problem.class_similarity.sum(axis=0))[: problem.n_selected]
    assert assignment.selection[largest].sum() < problem.n_selected / 2
    for selected in (largest, greedy(problem)):
        assert problem.objective(assign(problem, selected)) < 0.97 * problem.best_known


def test_exact_agrees():
    problem = make((6, 20, 6, 2), 0).problem
    result = solve(problem, time_limit=120.0, threads=1)
    assert result.objective == problem.best_known
    assert result.bound == pytest.approx(problem.best_known, rel=1e-5)
    # However far it gets with a large one, its bound does not refute the planted assignment.
    problem = make(LARGE[1], 0).problem
    result = solve(problem, time_limit=3.0, threads=1)
    assert result.objective <= problem.best_known <= result.bound


def test_a_condition_that_does_not_hold_is_noticed():
    problem, _, thresholds, shares = make(SMALL[0], 0)
    common = np.triu(np.minimum(shares[:, np.newaxis], shares).sum(axis=2), 1)
    d, e = np.argwhere(common)[0]
    R = problem.feature_similarity.copy()
    R[d, e] = R[e, d] = 0.0
    with pytest.raises(InvalidInputError, match="less than its common shares"):
        upper_bound(replace(problem, feature_similarity=R), thresholds, shares)
    with pytest.raises(InvalidInputError, match="less than its gain"):
        upper_bound(replace(problem, feature_bias=problem.bias + 9.0), thresholds, shares)
    with pytest.raises(InvalidInputError, match="less than its gain"):
        upper_bound(problem, thresholds - 1.0, shares)


@pytest.mark.parametrize("shape", [(0, 5, 3, 1), (2, 5, 5, 2), (4, 9, 3, 1), (2, 9, 3, 3)])
def test_sizes_without_a_planted_problem_are_refused(shape):
    with pytest.raises(InvalidInputError, match="no planted problem"):
        make(shape, 0)
