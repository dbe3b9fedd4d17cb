"""Average sparsity against an enumeration of selections and matrices."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest

from qpm_opt import Assignment, InvalidInputError, Problem, solve
from qpm_opt.assign_program import _exchanged, assign_average
from qpm_opt.average import average_violations, selection_problem, solve_average

FOREVER = float("inf")


def random_problem(seed: int, *, n_classes: int = 3, n_features: int = 6, alike: bool = False):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n_classes, n_features))
    if alike:
        A[1] = A[0]
    R = np.triu(rng.random((n_features, n_features)), 1)
    return Problem(A, R + R.T, rng.normal(size=n_features) / 3, n_selected=4, n_per_class=2)


def best_of_selection(problem: Problem, selected) -> float:
    """Best value of the assignments of a selection, straight from the definition."""
    subsets = [s for size in range(1, len(selected) + 1) for s in combinations(selected, size)]
    best = -np.inf
    for rows in product(subsets, repeat=problem.n_classes):
        if len(set(rows)) < len(rows) or sum(map(len, rows)) != 2 * problem.n_classes:
            continue
        value = sum(problem.class_similarity[c, list(row)].sum() for c, row in enumerate(rows))
        best = max(best, value)
    return best


def optimum(problem: Problem) -> float:
    best = -np.inf
    for selected in combinations(range(problem.n_features), problem.n_selected):
        fixed = problem.bias[list(selected)].sum()
        fixed -= sum(problem.feature_similarity[d, e] for d, e in combinations(selected, 2))
        best = max(best, fixed + best_of_selection(problem, selected))
    return best


@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_assignment_of_a_selection_is_optimal(seed, alike):
    problem = random_problem(seed, alike=alike)
    selected = np.array([0, 2, 3, 5])
    found, is_best = assign_average(problem, selected, deadline=FOREVER)
    assert is_best
    assert average_violations(problem, found) == ()
    value = problem.class_similarity[found.matrix].sum()
    assert value == pytest.approx(best_of_selection(problem, selected))


@pytest.mark.parametrize("seed", range(4))
def test_out_of_time_classes_exchange_features(seed):
    problem = random_problem(seed, n_classes=6, n_features=12, alike=True)
    selected = np.arange(6)
    found, is_best = assign_average(problem, selected, deadline=0.0)
    assert average_violations(replace(problem, n_selected=6), found) == ()
    best, _ = assign_average(problem, selected, deadline=FOREVER)
    values = [(problem.class_similarity * one.matrix).sum() for one in (found, best)]
    assert values[0] <= values[1] + 1e-9
    assert not is_best or values[0] == pytest.approx(values[1])


def test_an_assignment_that_no_exchange_makes_differ():
    # Two features, of which every class wants the first alone: the third class finds no other set.
    values = np.tile([1.0, 0.5], (3, 1))
    used = np.array([[True, False]] * 3)
    assert _exchanged(values, used) is None
    assert _exchanged(values[:2], used[:2]).tolist() == [[True, False], [False, True]]


def test_many_classes_that_are_alike_leave_time_for_a_bound():
    rng = np.random.default_rng(0)
    A = np.repeat(rng.normal(size=(6, 40)), 6, axis=0) + 0.05 * rng.normal(size=(36, 40))
    problem = Problem(A, np.zeros((40, 40)), n_selected=15, n_per_class=3)
    result = solve_average(problem, threads=1, time_limit=5)
    assert result.violations == () and result.bound is not None
    assert result.bound >= result.objective
    assert result.termination_condition in ("optimal", "time_limit")


@pytest.mark.parametrize("options", [{"time_limit": -1}, {"gap": -1}, {"threads": 0}])
def test_unusable_limits(options):
    (name,) = options
    with pytest.raises(InvalidInputError, match=f"{name} is"):
        solve_average(random_problem(0), **options)


@pytest.mark.parametrize("seed", [0, 1, 6, 8, 11])
def test_solution_and_bound_enclose_the_optimum(seed):
    problem = random_problem(seed)
    result = solve_average(problem, threads=1)
    best = optimum(problem)
    assert result.violations == () and average_violations(problem, result.assignment) == ()
    assert result.objective == pytest.approx(problem.objective(result.assignment))
    assert result.objective <= best + 1e-9
    assert result.bound >= best - 1e-9
    if result.solution_status == "optimal":
        assert result.objective == pytest.approx(best)
    assert result.objective >= solve(problem, threads=1).objective - 1e-9  # equal sizes
    assert [entry.bound for entry in result.progress][-1] == result.bound


def test_without_penalties_the_optimum_is_proved():
    problem = random_problem(0, n_classes=6, n_features=12)
    problem = replace(problem, feature_similarity=np.zeros((12, 12)), distinct=False)
    result = solve_average(problem, threads=1)
    assert result.solution_status == "optimal"
    assert len(set(result.assignment.matrix.sum(axis=1).tolist())) > 1


@pytest.mark.parametrize("t", [-0.5, 0.3, 1.0])
def test_every_multiplier_gives_a_bound(t):
    problem = random_problem(7)
    result = solve(selection_problem(problem, t), threads=1)
    assert 6 * t + result.bound >= optimum(problem) - 1e-9


def test_violations_are_named():
    problem = random_problem(0)
    matrix = [[0, 1, 2], [0, 1, 2], []]
    found = average_violations(problem, Assignment.from_indices([0, 1, 2], matrix, n_features=6))
    assert [v.name for v in found] == ["selection_size", "distinct", "empty_class"]
    found = average_violations(
        problem, Assignment.from_indices(range(4), [[0], [1], [2]], n_features=6)
    )
    assert [v.name for v in found] == ["total_size"]


def test_a_time_limit_keeps_what_was_found():
    result = solve_average(random_problem(1, n_classes=6, n_features=40), time_limit=0.3, threads=1)
    assert result.assignment is not None and result.violations == ()


def test_other_constraints_are_refused():
    problem = replace(random_problem(0), min_classes_per_feature=1)
    with pytest.raises(InvalidInputError, match="knows neither contrastive pairs"):
        solve_average(problem)
