"""The exact assignment for a given selection, against enumeration."""

from __future__ import annotations

import math
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import OptimizeResult, linear_sum_assignment

from qpm_opt import assign_distinct as module
from qpm_opt import assign_program
from qpm_opt.assign import (
    assign,
    assign_within,
    is_selection,
    top_k_assignment,
    top_k_value,
)
from qpm_opt.assign_pairs import with_pairs
from qpm_opt.assignment import UndecidedAssignmentError
from qpm_opt.errors import InvalidInputError
from qpm_opt.pairs import closest_class_pairs, contrastive_pairs_of
from qpm_opt.problem import Problem
from qpm_opt.validation import SMALLEST_SCALE
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
    fraction = st.floats(-1, 1).filter(lambda value: not 0 < abs(value) < SMALLEST_SCALE)
    value = st.one_of(st.integers(-2, 2).map(float), fraction)
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
    least = data.draw(st.integers(0, min(2, len(pairs))), label="min_contrastive_pairs")
    problem = given_selection(
        A,
        k=k,
        distinct=distinct,
        min_classes_per_feature=use,
        contrastive_pairs=chosen,
        min_contrastive_pairs=least,
    )
    assert_optimal(problem)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_groups_of_pairs_equal_enumeration(data):
    # More classes than sets of one group: groups collide, and are solved together.
    n_classes, p = 5, 4
    A = [[data.draw(st.integers(0, 3)) for _ in range(p)] for _ in range(n_classes)]
    pairs = data.draw(st.sampled_from([[(0, 1)], [(0, 1), (2, 3)], [(0, 1), (1, 2), (3, 4)]]))
    assert_optimal(given_selection(A, k=2, contrastive_pairs=pairs))


def many_classes(n_classes=30, p=12, k=4, seed=0):
    """So many classes that the program does not choose the pairs, some of them alike."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n_classes, p))
    A[1::2] = A[::2] + 0.3 * rng.normal(size=A[::2].shape)
    return A, k


def test_too_many_classes_to_choose_pairs_exactly():
    A, k = many_classes()
    free = given_selection(A, k=k)
    best = assign(free, np.arange(12))
    n_free = len(contrastive_pairs_of(best.matrix))
    enough = given_selection(A, k=k, min_contrastive_pairs=n_free)
    assert enough.objective(assign(enough, np.arange(12))) == free.objective(best)
    more = given_selection(A, k=k, min_contrastive_pairs=n_free + 25)
    with pytest.raises(UndecidedAssignmentError) as caught:
        assign(more, np.arange(12))
    found = caught.value.assignment
    assert more.violations(found) == ()
    assert more.objective(found) < free.objective(best)


def test_classes_in_listed_pairs_stay_as_they_are():
    A, k = many_classes()
    pairs = closest_class_pairs(A, 5)
    problem = given_selection(A, k=k, contrastive_pairs=pairs, min_contrastive_pairs=60)
    before = assign(given_selection(A, k=k, contrastive_pairs=pairs), np.arange(12)).matrix
    after = with_pairs(problem, A, before)
    assert (after[pairs] == before[pairs]).all()
    assert len(contrastive_pairs_of(after)) >= 60


def test_small_differences_count_under_side_constraints():
    A = [[0.0, 0.0, 1.0, 1e-7]] * 2
    assert_optimal(given_selection(A, k=1, distinct=False, contrastive_pairs=[(0, 1)]))


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
        sets, worth = module.best_sets(values, k, n)
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
    # One of two features each, and another one than both neighbours: not around an odd circle.
    circle = [(c, (c + 1) % 5) for c in range(5)]
    problem = given_selection(np.ones((5, 2)), k=1, distinct=False, contrastive_pairs=circle)
    assert oracle.optimum(problem) is None
    assert assign(problem, [0, 1]) is None


def test_no_time_for_the_integer_program():
    problem = given_selection(
        [[1.0, 0.0], [1.0, 0.0]], k=1, distinct=False, min_classes_per_feature=1
    )
    with pytest.raises(UndecidedAssignmentError) as caught:
        assign(problem, [0, 1], time_limit=0.0)
    assert caught.value.assignment is None
    assert assign_within(problem, [0, 1], 0.0) is None
    assert problem.objective(assign(problem, [0, 1], time_limit=60.0)) == 1.0


def program(monkeypatch, status, x):
    """Let the integer program end as told."""
    outcome = OptimizeResult(status=status, success=status == 0, x=x, message="as told")
    monkeypatch.setattr(assign_program, "milp", lambda *_, **__: outcome)


def test_only_proved_infeasibility_gives_none(monkeypatch):
    A = [[1.0, 0.0], [1.0, 0.0]]
    problem = given_selection(A, k=1, distinct=False, min_classes_per_feature=1)
    for status in (1, 3, 4):  # a limit, "unbounded", any other failure
        program(monkeypatch, status, None)
        with pytest.raises(UndecidedAssignmentError) as caught:
            assign(problem, [0, 1])
        assert caught.value.assignment is None
    program(monkeypatch, 2, None)
    assert assign(problem, [0, 1]) is None


def test_what_a_limit_leaves_is_not_called_optimal(monkeypatch):
    A = [[1.0, 0.0], [3.0, 0.0]]
    problem = given_selection(A, k=1, distinct=False, min_classes_per_feature=1)
    program(monkeypatch, 1, np.array([1.0, 0.0, 0.0, 1.0]))  # feasible, worth 1 of 3
    with pytest.raises(UndecidedAssignmentError) as caught:
        assign(problem, [0, 1])
    assert problem.objective(caught.value.assignment) == 1.0
    assert problem.objective(assign_within(problem, [0, 1], 60.0)) == 1.0
    for status in (0, 1):  # both classes on one feature: whatever is claimed, it is infeasible
        program(monkeypatch, status, np.array([1.0, 0.0, 1.0, 0.0]))
        with pytest.raises(UndecidedAssignmentError) as caught:
            assign(problem, [0, 1])
        assert caught.value.assignment is None


@pytest.mark.parametrize("noise", [0.0, 0.1, 10.0])
@pytest.mark.parametrize("n_classes", [2, 20, 35])
def test_no_time_to_tell_classes_apart(noise, n_classes):
    rng = np.random.default_rng(n_classes)
    A = rng.normal(size=7) + noise * rng.normal(size=(n_classes, 7))
    problem = given_selection(A, k=3)
    selected = np.arange(7)
    if not problem.violations(top_k_assignment(problem, selected)):
        assert assign(problem, selected, time_limit=0.0) is not None  # nothing to tell apart
        return
    with pytest.raises(UndecidedAssignmentError) as caught:
        assign(problem, selected, time_limit=0.0)
    some = caught.value.assignment
    assert problem.violations(some) == ()
    exact = problem.objective(assign(problem, selected))
    assert problem.objective(some) <= exact + 1e-9
    assert (assign_within(problem, selected, 0.0).matrix == some.matrix).all()


def test_without_time_the_side_constraints_are_not_forgotten():
    A = [[9.0, 9, 0, 0], [9.0, 9, 0, 0], [5.0, 5, 1, 0.9]]
    problem = given_selection(A, k=2, min_classes_per_feature=1)
    with pytest.raises(UndecidedAssignmentError) as caught:
        assign(problem, range(4), time_limit=0.0)
    assert caught.value.assignment is None


def test_every_step_looks_at_the_clock(monkeypatch):
    """Wherever among the steps the time runs out, the call ends there."""
    rng = np.random.default_rng(5)
    A = rng.normal(size=8) + 0.5 * rng.normal(size=(40, 8))
    problem = given_selection(A, k=3)
    steps, last_look = [], math.inf

    def noting(name):
        step = getattr(module, name)
        return lambda *given, **options: steps.append(name) or step(*given, **options)

    def clock():
        steps.append("clock")
        return 100.0 if steps.count("clock") > last_look else 0.0

    monkeypatch.setattr(module, "_GROWTH", 2)
    for name in ("best_sets", "linear_sum_assignment"):
        monkeypatch.setattr(module, name, noting(name))
    monkeypatch.setattr(module.time, "perf_counter", clock)
    assign(problem, np.arange(8), time_limit=1.0)
    assert steps[:2] == ["clock", "best_sets"]  # the limit, and two sets for single classes
    work = [i for i, step in enumerate(steps) if step != "clock"]
    assert len(work) > 4
    assert all(steps[i - 1] == "clock" for i in work)
    for last_look in range(1, steps.count("clock")):
        steps.clear()
        with pytest.raises(UndecidedAssignmentError):
            assign(problem, np.arange(8), time_limit=1.0)
        assert steps.count("clock") == last_look + 1


@pytest.mark.parametrize("seed", range(20))
def test_groups_that_do_not_compete_are_matched_apart(seed, monkeypatch):
    """Blocks of equal classes with features of their own: as many small linear assignments."""
    rng = np.random.default_rng(seed)
    n_blocks, width, k = 3, 5, 2
    A = np.full((n_blocks * 4, n_blocks * width), -100.0)
    for i in range(n_blocks):
        block = rng.normal(size=width) + rng.choice([0.0, 0.2]) * rng.normal(size=(4, width))
        A[4 * i : 4 * i + 4, width * i : width * i + width] = block
    sizes = []

    def noting(table, maximize):
        sizes.append(len(table))
        return linear_sum_assignment(table, maximize=maximize)

    monkeypatch.setattr(module, "linear_sum_assignment", noting)
    problem = given_selection(A, k=k)
    value = problem.objective(assign(problem, np.arange(A.shape[1])))
    assert max(sizes) <= 4
    every = np.array(list(combinations(range(A.shape[1]), k)))
    worth = A[:, every].sum(axis=2)
    expected = worth[linear_sum_assignment(worth, maximize=True)].sum()
    assert value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("p, k", [(3, 2), (50, 5), (256, 12), (300, 60)])
def test_sets_are_identified_whatever_their_size(p, k):
    rng = np.random.default_rng(p)
    sets = np.sort(np.array([rng.permutation(p)[:k] for _ in range(50)]), axis=1)
    sets = sets[rng.integers(50, size=200)]
    sets[::7, 0] = 0  # two sets may differ in this column only
    first, identity = module._identify(sets, p)
    assert (sets[first[identity]] == sets).all()
    assert first.size == np.unique(sets, axis=0).shape[0]


def test_top_k_assignment_ignores_distinctness():
    problem = given_selection([[3.0, 2.0, 1.0]] * 2, k=2)
    assert top_k_assignment(problem, [2, 1, 0]).matrix.tolist() == [[True, True, False]] * 2


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
    for function in (assign, top_k_value, top_k_assignment):
        with pytest.raises(InvalidInputError, match="2 different indices of candidate features"):
            function(problem, selected)
