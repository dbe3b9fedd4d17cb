"""The paper's iteration: its equations, its start solutions, and what it may and may not claim."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from qpm_opt.assign import assign, top_k_assignment
from qpm_opt.assignment import Assignment
from qpm_opt.formulation import build_relaxed
from qpm_opt.methods import paper
from qpm_opt.methods.base import MethodOptions
from qpm_opt.methods.paper import RelaxedConstraints, deduplicated, run
from qpm_opt.problem import Problem
from qpm_opt.result import TerminationCondition
from qpm_opt.solvers import SOLVERS, solver_availability
from qpm_opt.solvers.base import RawSolve
from qpm_opt.solvers.compile import Columns, compile_model
from qpm_opt.tracking import Tracker
from tests import oracle
from tests.conftest import random_problem

COMPLETED = TerminationCondition.COMPLETED


def iterate(problem, solver="highs", **limits):
    tracker = Tracker(problem, **limits)
    return run(problem, tracker, MethodOptions(solver=solver)), tracker


def plain(A, **arguments):
    n_features = np.shape(A)[1]
    return Problem(A, np.zeros((n_features, n_features)), **arguments)


@pytest.mark.parametrize("solver", SOLVERS)
def test_it_ends_feasible_and_without_a_claim(solver):
    if not solver_availability(solver).level:
        pytest.skip(f"{solver}: {solver_availability(solver).reason}")
    n_optimal = 0
    for seed in range(25):
        problem = random_problem(seed)
        outcome, tracker = iterate(problem, solver)
        assert outcome.termination_condition is COMPLETED
        assert tracker.bound is None
        best = oracle.optimum(problem)
        assert not problem.violations(tracker.assignment)
        assert tracker.objective <= best + 1e-6
        n_optimal += tracker.objective >= best - 1e-6
    assert n_optimal >= 20


def test_it_is_a_heuristic():
    """Class 1 is short at first; eq. 9 then ties it to Gamma = {0, 1, 3}, and 2 is out of reach."""
    problem = plain(
        [[4.0, 4.0, 3.0, 4.0], [2.0, 0.0, 1.0, 0.0]], n_selected=3, n_per_class=2, distinct=False
    )
    outcome, tracker = iterate(problem)
    assert outcome.termination_condition is COMPLETED
    assert (outcome.n_rounds, outcome.n_cuts) == (2, 1)
    assert tracker.objective == 10
    assert oracle.optimum(problem) == 11


@pytest.mark.parametrize(
    "problem",
    [
        plain(-np.ones((3, 5)), n_selected=3, n_per_class=2),
        plain(np.eye(4, 6), n_selected=4, n_per_class=3),
        plain(np.tile(np.arange(6.0), (4, 1)), n_selected=4, n_per_class=3),
        plain(np.tile(np.arange(4.0), (6, 1)), n_selected=4, n_per_class=2),
        plain(np.ones((1, 4)), n_selected=2, n_per_class=2),
        plain(np.ones((3, 4)), n_selected=1, n_per_class=1, distinct=False),
        plain(np.empty((0, 4)), n_selected=2, n_per_class=0),
        plain(np.arange(8.0).reshape(2, 4), n_selected=4, n_per_class=1),
        plain(
            np.ones((4, 5)), n_selected=4, n_per_class=2, candidate=np.arange(5) != 2,
            min_classes_per_feature=1,
        ),
        plain(np.eye(3, 5), n_selected=4, n_per_class=2, contrastive_pairs=[[0, 1], [1, 2]]),
    ],
    ids=[
        "no positive value",
        "p = k + 1, few positive values",
        "p = k + 1, equal classes, all sets used",
        "all classes equal, all sets used",
        "k = p",
        "p = 1",
        "no classes",
        "p = F",
        "feature use and a feature that is no candidate",
        "contrastive pairs",
    ],
)  # fmt: skip
def test_where_the_public_code_fails(problem):
    outcome, tracker = iterate(problem, time_limit=60)
    assert outcome.termination_condition is COMPLETED
    assert not problem.violations(tracker.assignment)
    assert tracker.objective == pytest.approx(oracle.optimum(problem))


def test_infeasible_problem():
    """One of two features each, and another one than both neighbours around an odd circle."""
    problem = plain(
        np.ones((5, 2)),
        n_selected=2,
        n_per_class=1,
        distinct=False,
        contrastive_pairs=[[c, (c + 1) % 5] for c in range(5)],
    )
    assert oracle.optimum(problem) is None
    outcome, tracker = iterate(problem)
    assert outcome.termination_condition is TerminationCondition.INFEASIBLE
    assert tracker.assignment is None


def scripted(monkeypatch, *answers):
    """Let solves end as told; the last answer repeats. Points are assignments."""
    models = []

    def solve(solver, model, options, *, start, on_event):
        models.append(model)
        condition, class_features = answers[min(len(models), len(answers)) - 1]
        point = None
        if class_features is not None:
            point = np.zeros(model.n_columns)
            point[[0, 1, 2]] = 1  # s comes first
            for c, features in enumerate(class_features):
                point[4 + 4 * c + np.array(features)] = 1
        return RawSolve(condition, point=point)

    monkeypatch.setattr(paper, "solve_in_child", solve)
    return models


SCRIPTED = plain(np.arange(8.0).reshape(2, 4), n_selected=3, n_per_class=2)
OPTIMAL = TerminationCondition.OPTIMAL


@pytest.mark.parametrize(
    "condition", [TerminationCondition.ERROR, TerminationCondition.MEMORY_LIMIT]
)
def test_failed_solve_ends_it_and_keeps_the_incumbent(monkeypatch, condition):
    models = scripted(monkeypatch, (condition, [[0, 1], [0, 1]]))
    outcome, tracker = iterate(SCRIPTED)
    assert outcome.termination_condition is condition
    assert len(models) == 1
    assert tracker.objective == pytest.approx(1 + 2 + 5 + 6 - 1)


def test_infeasible_restriction_is_no_infeasible_problem(monkeypatch):
    models = scripted(
        monkeypatch,
        (OPTIMAL, [[0, 1, 2], [0]]),
        (TerminationCondition.INFEASIBLE, None),
    )
    outcome, _ = iterate(SCRIPTED)
    assert len(models) == 2
    assert models[1].matrix.shape[0] == models[0].matrix.shape[0] + 1
    assert outcome.termination_condition is COMPLETED


def test_rounds_are_limited(monkeypatch):
    monkeypatch.setattr(paper, "MAX_ROUNDS", 5)
    models = scripted(monkeypatch, (OPTIMAL, [[0, 1, 2], [0]]))
    outcome, tracker = iterate(SCRIPTED)
    assert len(models) == outcome.n_rounds == 5
    assert outcome.termination_condition is COMPLETED
    assert "still violated" in outcome.raw_status
    assert tracker.assignment is not None


def test_a_solve_stopped_by_the_clock_completes_nothing(monkeypatch):
    scripted(monkeypatch, (TerminationCondition.TIME_LIMIT, [[0, 1], [0, 2]]))
    outcome, _ = iterate(SCRIPTED)
    assert outcome.termination_condition is TerminationCondition.TIME_LIMIT


def test_no_time_means_no_model_and_no_solve(monkeypatch):
    monkeypatch.setattr(paper, "build_relaxed", lambda *_, **__: pytest.fail("a model is built"))
    problem = random_problem(3)
    outcome, tracker = iterate(problem, time_limit=0.0)
    assert outcome.termination_condition is TerminationCondition.TIME_LIMIT
    assert outcome.n_rounds == 0
    assert tracker.assignment is None


@pytest.mark.parametrize("seed", range(8))
def test_constraints_are_equations_9_and_10(seed):
    """For every relaxed point: some choice of the products keeps all rows, or an equation fails."""
    rng = np.random.default_rng(seed)
    n_classes, n_features, k = 2, 4, 2
    problem = plain(rng.normal(size=(n_classes, n_features)), n_selected=3, n_per_class=k)
    model = build_relaxed(problem)
    compiled = compile_model(model)
    constraints = RelaxedConstraints(problem, Columns.locate(model, compiled))
    constraints.gamma[rng.choice(n_features, 3, replace=False)] = True
    if seed % 2:
        constraints.sparse_classes.add(int(rng.integers(n_classes)))
    if seed % 4 >= 2:
        constraints.duplicates[0, 1] = None
    matrix, gamma = constraints.extend(compiled.matrix), constraints.gamma
    n_kept = 0
    for selected in combinations(range(n_features), 3):
        for W in product([False, True], repeat=n_classes * 3):
            table = np.zeros((n_classes, n_features), dtype=bool)
            table[:, selected] = np.reshape(W, (n_classes, 3))
            if table.sum() != k * n_classes:
                continue
            assignment = Assignment(np.isin(np.arange(n_features), selected), table)
            expected = all(table[c, gamma].sum() >= k for c in constraints.sparse_classes)
            expected &= all(
                (table[c] & table[other])[gamma].sum() < k for c, other in constraints.duplicates
            )
            x = constraints.to_point(assignment)
            value = matrix.matrix @ x
            kept = (value >= matrix.row_lower - 1e-9) & (value <= matrix.row_upper + 1e-9)
            assert kept.all() == expected
            n_kept += expected
            # Products below the true ones must not help.
            products = slice(compiled.matrix.n_columns, None)
            if not expected and x[products].any():
                x[products] = 0
                value = matrix.matrix @ x
                assert (value > matrix.row_upper + 1e-9).any()
    assert n_kept


def test_sparsity_comes_before_duplicates():
    problem = plain(np.ones((4, 5)), n_selected=4, n_per_class=2)
    model = build_relaxed(problem)
    columns = Columns.locate(model, compile_model(model))
    constraints = RelaxedConstraints(problem, columns)
    short = Assignment.from_indices([0, 1, 2, 3], [[0], [0, 1, 2], [0, 1], [0, 1]], n_features=5)
    assert constraints.add_violated(short)
    assert constraints.sparse_classes == {0}
    assert not constraints.duplicates
    equal = Assignment.from_indices([0, 1, 2, 4], [[0, 4], [0, 1], [0, 1], [0, 1]], n_features=5)
    assert constraints.add_violated(equal)
    assert list(constraints.duplicates) == [(1, 2), (1, 3), (2, 3)]
    assert constraints.gamma.all()
    assert constraints.count == 4
    different = Assignment.from_indices(
        [0, 1, 2, 4], [[0, 4], [0, 1], [0, 2], [1, 2]], n_features=5
    )
    assert not constraints.add_violated(different)
    assert constraints.count == 4
    free = plain(np.ones((4, 5)), n_selected=4, n_per_class=2, distinct=False)
    assert not RelaxedConstraints(free, columns).add_violated(equal)


@pytest.mark.parametrize("seed", range(40))
def test_start_solutions(seed):
    rng = np.random.default_rng(seed)
    p, k, n_classes = 5, 2, int(rng.integers(2, 9))
    A = np.round(rng.normal(size=(n_classes, 7)) * 0.3 + np.arange(7), int(seed % 3))
    problem = plain(A, n_selected=p, n_per_class=k)
    selected = np.sort(rng.choice(7, p, replace=False))
    most = top_k_assignment(problem, selected)
    assert not [v for v in problem.violations(most) if v.name != "distinct"]
    assert problem.objective(most) == pytest.approx(np.sort(A[:, selected])[:, -k:].sum())
    exact = assign(problem, selected)
    start = deduplicated(problem, selected)
    if start is not None:  # None: of the 10 sets only 7 are within a swap of the common best one
        assert not problem.violations(start)
        assert (start.selected == selected).all()
        assert problem.objective(start) <= problem.objective(exact) + 1e-9
    else:
        assert n_classes == 8
    model = build_relaxed(problem)
    compiled = compile_model(model)
    constraints = RelaxedConstraints(problem, Columns.locate(model, compiled))
    constraints.add_violated(most)
    matrix = constraints.extend(compiled.matrix)
    x = constraints.to_point(constraints.start(selected))
    value = matrix.matrix @ x
    assert (value <= matrix.row_upper + 1e-9).all()
    assert (value >= matrix.row_lower - 1e-9).all()


def test_start_takes_the_cheapest_swap_of_either_class():
    """Both classes have {0, 1}; class 1 loses least, by giving up 1 for 2."""
    problem = plain([[9.0, 5.0, 1.0], [9.0, 5.0, 4.0]], n_selected=3, n_per_class=2)
    start = deduplicated(problem, np.arange(3))
    assert start.class_features(0).tolist() == [0, 1]
    assert start.class_features(1).tolist() == [0, 2]


def test_start_avoids_new_duplicates():
    """The best addition for classes 0 and 1 would make them equal to class 2 (eq. 25)."""
    A = [[9.0, 5.0, 4.0, 1.0], [9.0, 5.0, 4.0, 0.0], [9.0, 0.0, 5.0, 0.0]]
    problem = plain(A, n_selected=4, n_per_class=2)
    start = deduplicated(problem, np.arange(4))
    assert start.class_features(2).tolist() == [0, 2]
    assert not problem.violations(start)
    assert problem.objective(start) == problem.objective(assign(problem, np.arange(4)))


def test_the_exact_start_heeds_the_time(monkeypatch):
    """No swap parts ten equal classes; the exact assignment is told how much time is left."""
    problem = plain(np.zeros((10, 5)), n_selected=5, n_per_class=2)
    columns = Columns.locate(model := build_relaxed(problem), compile_model(model))
    constraints = RelaxedConstraints(problem, columns)
    constraints.duplicates[0, 1] = None
    assert deduplicated(problem, np.arange(5)) is None
    limits = []
    monkeypatch.setattr(paper, "assign_within", lambda *given: limits.append(given[2]))
    constraints.start(np.arange(5), 3.0)
    assert limits == [3.0]


def test_no_start_where_no_set_is_left():
    problem = plain(np.ones((3, 2)), n_selected=2, n_per_class=2, distinct=False)
    assert deduplicated(problem, np.arange(2)) is None
