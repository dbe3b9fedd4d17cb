"""Greedy, swaps and search against recomputed values, enumeration and public optima."""

from __future__ import annotations

import time
from dataclasses import replace
from math import comb

import numpy as np
import pytest

from qpm_opt import heuristics
from qpm_opt import swaps as swaps_module
from qpm_opt.assign import assign, top_k_value
from qpm_opt.assignment import Assignment
from qpm_opt.errors import InvalidInputError
from qpm_opt.heuristics import greedy, search, swap_search
from qpm_opt.problem import Problem
from qpm_opt.swaps import Swaps
from tests import oracle
from tests.conftest import random_problem

SEEDS = range(250)


def medium_problem(seed: int, **fixed) -> Problem:
    """Beyond enumeration, with every kind of value that changes the swap formulas."""
    rng = np.random.default_rng(seed)
    n_features = int(rng.integers(20, 100))
    p = int(rng.integers(1, min(n_features, 20) + 1))
    n_classes = int(rng.integers(0, 40))
    k = int(rng.choice([1, p, rng.integers(1, p + 1)])) if n_classes else 0
    A = rng.normal(size=(n_classes, n_features)) - rng.integers(3)
    R = np.triu(rng.normal(size=(n_features, n_features)), 1)
    if rng.integers(2):
        A, R = np.round(A), np.abs(np.round(R))
    arguments = {"distinct": False, "candidate": rng.random(n_features) < 0.9, **fixed}
    arguments["candidate"][:p] = True
    b = rng.normal(size=n_features)
    return Problem(A, R + R.T, b, n_selected=p, n_per_class=k, **arguments)


def value(problem: Problem, selected) -> float:
    """What the local search maximises, from the definition."""
    selected = np.asarray(selected)
    A = np.sort(problem.class_similarity[:, selected], axis=1)[:, ::-1]
    pairs = problem.feature_similarity[np.ix_(selected, selected)]
    total = A[:, : problem.n_per_class].sum() + problem.bias[selected].sum()
    return total - np.triu(pairs, 1).sum()


def changes(problem: Problem, selected) -> dict[tuple[int, int], float]:
    """Change of the value for every exchange of a selected feature for a candidate."""
    before = value(problem, selected)
    incoming = np.setdiff1d(np.flatnonzero(problem.candidates), selected)
    return {
        (o, i): value(problem, [*(d for d in selected if d != o), i]) - before
        for o in np.asarray(selected).tolist()
        for i in incoming.tolist()
    }


def random_selection(problem: Problem, seed: int):
    candidates = np.flatnonzero(problem.candidates)
    return np.random.default_rng(seed).choice(candidates, problem.n_selected, replace=False)


@pytest.mark.parametrize("seed", range(60))
def test_greedy_takes_the_best_feature_at_every_step(seed):
    problem = medium_problem(seed) if seed % 2 else random_problem(seed)
    chosen = greedy(problem)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert chosen.size == problem.n_selected
    assert problem.candidates[chosen].all()
    expected: list[int] = []
    for _ in range(problem.n_selected):
        rest = np.setdiff1d(np.flatnonzero(problem.candidates), expected)
        values = np.array([value(problem, [*expected, d]) for d in rest])
        if np.sum(values > values.max() - 1e-9) > 1:
            return  # a tie: from here on there are several greedy selections
        expected.append(int(rest[np.argmax(values)]))
    assert chosen.tolist() == sorted(expected)


@pytest.mark.parametrize("seed", range(60))
def test_every_swap_change_is_exact(seed):
    problem = random_problem(seed) if seed % 2 else medium_problem(seed)
    swaps = Swaps(problem, random_selection(problem, seed))
    rng = np.random.default_rng(seed)
    for _ in range(4):
        expected = changes(problem, swaps.features[swaps.slots])
        assert swaps.value == pytest.approx(value(problem, swaps.selected), abs=1e-9)
        for o, outgoing in enumerate(swaps.features[swaps.slots]):
            for i in np.flatnonzero(~swaps.inside):
                only_out, only_in = np.arange(swaps.slots.size) == o, np.zeros_like(swaps.inside)
                only_in[i] = True
                if seed % 2 == 0 and rng.random() > 0.02:
                    continue
                change, slot, incoming = swaps.best(only_out, only_in)
                assert (slot, incoming) == (o, i)
                assert change == pytest.approx(expected[outgoing, swaps.features[i]], abs=1e-9)
        change, slot, incoming = swaps.best()
        if not expected:
            assert (change, slot) == (-np.inf, -1)
            return
        assert change == pytest.approx(max(expected.values()), abs=1e-9)
        # Go on with any exchange, mostly a bad one, so that every threshold moves both ways.
        slot = int(rng.integers(swaps.slots.size))
        incoming = int(rng.choice(np.flatnonzero(~swaps.inside)))
        exchange = swaps.features[swaps.slots[slot]], swaps.features[incoming]
        swaps.apply(expected[exchange], slot, incoming)


def two_class_loss(problem: Problem, selected) -> float:
    """The smaller difference between k-th and next value if both classes have one best set."""
    A, k = problem.class_similarity[:, selected], problem.n_per_class
    order = np.argsort(-A, axis=1)
    if set(order[0, :k].tolist()) != set(order[1, :k].tolist()):
        return 0.0
    ranked = np.take_along_axis(A, order, 1)
    return float((ranked[:, k - 1] - ranked[:, k]).min())


@pytest.mark.parametrize("seed", range(40))
def test_collision_losses_are_those_after_the_exchange(seed):
    rng = np.random.default_rng(seed)
    p = 2 + seed % 6
    k = 1 + seed % (p - 1)
    A = rng.normal(size=14) + rng.normal(size=(2, 14)) / 3
    problem = Problem(A, np.zeros((14, 14)), n_selected=p, n_per_class=k)
    swaps = Swaps(problem, random_selection(problem, seed))
    n_collisions = 0
    for _ in range(5):
        slots = rng.integers(p, size=30)
        incoming = rng.choice(np.flatnonzero(~swaps.inside), size=30)
        losses = swaps._collision_losses(slots, incoming)
        for loss, slot, i in zip(losses, slots, incoming, strict=True):
            after = swaps.slots.copy()
            after[slot] = i
            assert loss == pytest.approx(two_class_loss(problem, swaps.features[after]), abs=1e-12)
            n_collisions += loss > 0
        swaps.apply(0.0, int(slots[0]), int(incoming[0]))
        expected = two_class_loss(problem, swaps.features[swaps.slots])
        assert swaps.loss() == pytest.approx(expected, abs=1e-12)
    assert n_collisions


@pytest.mark.parametrize("seed", range(40))
def test_value_less_collision_loss_bounds_the_exact_value(seed):
    """Many classes with one set each: the loss of a group counts neighbours, never too much."""
    rng = np.random.default_rng(seed)
    A = np.repeat(rng.normal(size=(3, 12)), 5, axis=0) + 0.3 * rng.normal(size=(15, 12))
    problem = Problem(A, np.zeros((12, 12)), n_selected=7, n_per_class=3)
    selected = random_selection(problem, seed)
    swaps = Swaps(problem, selected)
    exact = problem.objective(assign(problem, selected))
    assert swaps.loss() > 0.0
    assert exact <= swaps.value - swaps.loss() + 1e-9


@pytest.mark.parametrize("seed", range(40))
def test_no_exchange_is_overlooked(seed, monkeypatch):
    """The best exchange is found however few incoming features are evaluated at once."""
    monkeypatch.setattr(swaps_module, "N_COLUMNS", 1)
    problem = medium_problem(seed)
    swaps = Swaps(problem, random_selection(problem, seed))
    expected = changes(problem, swaps.selected)
    assert swaps.best()[0] == pytest.approx(max(expected.values(), default=-np.inf), abs=1e-9)


def test_rounding_does_not_build_up(monkeypatch):
    monkeypatch.setattr(swaps_module, "REFRESH_INTERVAL", 10)
    problem = medium_problem(7)
    swaps = Swaps(problem, random_selection(problem, 7))
    swaps.value += 1e-3  # stands for the rounding of many swaps
    swaps._above_kth += 1e-3
    for _ in range(10):
        swaps.apply(*swaps.best())
    assert swaps.value == pytest.approx(value(problem, swaps.selected), abs=1e-9)
    largest = max(changes(problem, swaps.selected).values())
    assert swaps.best()[0] == pytest.approx(largest, abs=1e-9)


@pytest.mark.parametrize("seed", range(60))
def test_swap_search_ends_in_a_local_optimum(seed):
    problem = random_problem(seed) if seed % 2 else medium_problem(seed)
    start = random_selection(problem, seed)
    chosen = swap_search(problem, start)
    assert chosen.size == problem.n_selected == np.unique(chosen).size
    assert problem.candidates[chosen].all()
    assert value(problem, chosen) >= value(problem, start) - 1e-9
    assert all(change <= 1e-7 for change in changes(problem, chosen).values())


def test_swap_search_stops_at_the_deadline():
    problem = medium_problem(2)
    start = random_selection(problem, 2)
    stopped = swap_search(problem, start, deadline=time.perf_counter() - 1.0)
    assert stopped.tolist() == np.sort(start).tolist()


@pytest.mark.parametrize("seed", SEEDS)
def test_search_finds_the_optimum_of_tiny_problems(seed):
    problem = random_problem(seed)
    found = search(problem, max_restarts=10)
    assert problem.violations(found) == ()
    assert problem.objective(found) == pytest.approx(oracle.optimum(problem), abs=1e-9)


@pytest.mark.parametrize("seed", range(60))
def test_search_under_side_constraints(seed):
    rng = np.random.default_rng(seed)
    n_classes, p = int(rng.integers(2, 4)), int(rng.integers(2, 5))
    k, n_features = int(rng.integers(1, p)), int(rng.integers(p, 7))
    R = np.triu(rng.normal(size=(n_features, n_features)), 1)
    problem = Problem(
        rng.normal(size=(n_classes, n_features)),
        R + R.T,
        n_selected=p,
        n_per_class=k,
        distinct=n_classes <= comb(p, k),
        min_classes_per_feature=int(rng.integers(0, k * n_classes // p + 1)),
        contrastive_pairs=[(0, 1), (1, 2), (0, 2)][: rng.integers(n_classes)],
    )
    expected = oracle.optimum(problem)
    found = search(problem, max_restarts=10)
    if expected is None:
        assert found is None
    else:
        assert problem.violations(found) == ()
        assert problem.objective(found) == pytest.approx(expected, abs=1e-9)


def test_classes_that_pairs_connect_are_searched_as_one():
    problem = replace(medium_problem(3), contrastive_pairs=[(0, 2), (2, 4), (1, 5)])
    free = heuristics._without_side_constraints(problem)
    A = problem.class_similarity
    alone = [c for c in range(problem.n_classes) if c not in {0, 1, 2, 4, 5}]
    expected = [*A[alone], A[0] + A[2] + A[4], A[1] + A[5]]
    np.testing.assert_allclose(free.class_similarity, expected)
    assert not free.has_side_constraints and not free.distinct


def test_search_under_pairs_begins_with_its_start(monkeypatch):
    problem = replace(medium_problem(3), contrastive_pairs=[(0, 2), (1, 5)])
    start = search(problem, max_restarts=3)
    begun = []
    monkeypatch.setattr(heuristics, "_without_side_constraints", begun.append)
    monkeypatch.setattr(
        heuristics,
        "Swaps",
        lambda problem, selected: begun.append(selected) or Swaps(problem, selected),
    )
    search(problem, start=start, max_restarts=0)
    assert len(begun) == 1
    assert begun[0].tolist() == start.selected.tolist()


@pytest.mark.parametrize("seed", range(12))
def test_search_reports_every_improvement_and_returns_the_last(seed):
    problem = medium_problem(seed)
    reported: list[Assignment] = []
    found = search(problem, max_restarts=3, on_assignment=reported.append)
    objectives = [problem.objective(assignment) for assignment in reported]
    assert objectives == sorted(set(objectives))
    assert found is reported[-1]
    assert all(problem.violations(assignment) == () for assignment in reported)
    local_optimum = assign(problem, swap_search(problem, greedy(problem)))
    assert objectives[-1] >= problem.objective(local_optimum) - 1e-9


def test_search_is_deterministic_for_a_seed():
    problem = medium_problem(5)
    first, second = (search(problem, seed=3, max_restarts=4) for _ in range(2))
    assert (first.matrix == second.matrix).all()
    assert (first.selection == second.selection).all()


@pytest.mark.parametrize("seed", range(10))
def test_search_is_never_worse_than_its_start(seed):
    problem = random_problem(seed, distinct=False)
    best = search(problem, max_restarts=10)
    assert search(problem, start=best, time_limit=0.0) is not None
    assert problem.objective(search(problem, start=best, time_limit=0.0)) >= problem.objective(best)


@pytest.mark.parametrize("limit, first", [(None, None), (0.5, 0.5), (5.0, 1.0), (500.0, 50.0)])
def test_one_exact_assignment_takes_a_part_of_the_time_at_most(monkeypatch, limit, first):
    limits = []

    def noting(problem, selected, time_limit):
        limits.append(time_limit)
        return assign(problem, selected)

    monkeypatch.setattr(heuristics, "assign_within", noting)
    search(medium_problem(4), time_limit=limit, max_restarts=0)
    assert limits
    if first is None:
        assert set(limits) == {None}
    else:
        assert limits[0] == pytest.approx(first, rel=0.2)
        assert all(given <= max(1.0, 0.1 * limit) for given in limits)


def test_search_goes_on_where_an_assignment_stays_undecided(monkeypatch):
    problem = medium_problem(4)
    n_calls = 0

    def undecided_at_first(problem, selected, time_limit):
        nonlocal n_calls
        n_calls += 1
        return None if n_calls == 1 else assign(problem, selected)

    monkeypatch.setattr(heuristics, "assign_within", undecided_at_first)
    assert problem.violations(search(problem, max_restarts=0)) == ()


def test_search_without_time_parts_colliding_classes():
    A = np.tile(np.arange(8.0), (20, 1))
    problem = Problem(A, np.zeros((8, 8)), n_selected=6, n_per_class=3)
    assert problem.violations(search(problem, time_limit=0.0)) == ()


def test_search_begins_at_the_selection_of_its_start():
    problem = medium_problem(4)
    selected = random_selection(problem, 0)
    start = assign(problem, selected)
    found = search(problem, start=start, time_limit=0.0)
    assert found.selected.tolist() == np.sort(selected).tolist()


def test_search_survives_an_infeasible_start():
    problem = medium_problem(4)
    nothing = Assignment(
        np.zeros(problem.n_features, bool), np.zeros(problem.class_similarity.shape, bool)
    )
    assert problem.violations(search(problem, start=nothing, max_restarts=0)) == ()


def test_tabu_search_does_not_circle(monkeypatch):
    visited = []

    def noting(swaps, *exchange):
        apply(swaps, *exchange)
        visited.append(swaps.selected.tobytes())

    apply = Swaps.apply
    monkeypatch.setattr(Swaps, "apply", noting)
    A = np.random.default_rng(0).normal(size=(8, 60))
    search(Problem(A, np.zeros((60, 60)), n_selected=10, n_per_class=3), max_restarts=0)
    assert len(visited) > 50
    assert len(set(visited)) > 0.9 * len(visited)


def test_search_begins_anew_where_rounds_bring_nothing(monkeypatch):
    values = iter([5.0, 5.0, 4.0, 5.0, 2.0, 1.0, 3.0, 1.0, 1.0])
    ended, shaken = [], []

    def round_of_search(swaps, *others):
        ended.append(swaps.slots.copy())
        return ended[-1], next(values)

    def shake(swaps, slots, rng):
        shaken.append((len(ended), slots.tolist()))
        return slots

    monkeypatch.setattr(heuristics, "STALE", 3)
    monkeypatch.setattr(heuristics, "_tabu_search", round_of_search)
    monkeypatch.setattr(heuristics, "_shake", shake)
    search(medium_problem(4), max_restarts=8)
    # Three rounds after the first one are no better; the fifth begins anywhere, and what was best
    # before is no measure for those that follow.
    assert [number for number, _ in shaken] == [1, 2, 3, 5, 6, 7, 8]
    sources = [slots for _, slots in shaken]
    assert sources[3] == sources[4] == ended[4].tolist()
    assert sources[5] == sources[6] == ended[6].tolist()
    assert ended[4].tolist() != ended[3].tolist()


def test_search_stops_when_told():
    problem = medium_problem(6)
    calls = iter(range(1000))
    found = search(problem, should_stop=lambda: next(calls) >= 20)
    assert next(calls) < 30
    assert problem.violations(found) == ()


def test_search_without_an_end_is_refused():
    with pytest.raises(InvalidInputError, match="time_limit, max_restarts or should_stop"):
        search(random_problem(0))


def test_search_keeps_to_the_candidates():
    rng = np.random.default_rng(0)
    A = rng.random((5, 30))
    A[:, :10] += 10.0
    candidate = np.arange(30) >= 10
    problem = Problem(A, np.zeros((30, 30)), n_selected=6, n_per_class=2, candidate=candidate)
    assert search(problem, max_restarts=3).selected.min() >= 10


def test_nothing_to_exchange():
    problem = medium_problem(1, candidate=np.zeros(500, bool)[: medium_problem(1).n_features])
    assert problem.candidates.sum() == problem.n_selected
    found = search(problem, time_limit=60.0)
    assert found.selected.tolist() == np.flatnonzero(problem.candidates).tolist()
    assert problem.objective(found) == pytest.approx(value(problem, found.selected))


def test_equal_classes_are_told_apart_at_the_least_cost():
    """The best top-k value needs one set for both classes; the optimum is elsewhere."""
    A = np.array([[5.0, 5.0, 4.0, 4.0]] * 2)
    R = np.zeros((4, 4))
    R[0, 2] = R[2, 0] = R[0, 3] = R[3, 0] = 2.5
    problem = Problem(A, R, n_selected=2, n_per_class=1)
    assert problem.objective(search(problem, max_restarts=5)) == pytest.approx(
        oracle.optimum(problem)
    )
    assert top_k_value(problem, [0, 1]) == 10.0


@pytest.mark.parametrize(
    "name",
    [
        "pmed1", "pmed2", "pmed5", "pmed6", "pmed11", "GKD-b_11_n50_m5", "GKD-b_9_n25_m7",
        "GKD-c_1_n500_m50", "QPLIB_3834", "kcluster40_025_20_5", "kcluster40_050_20_1",
        "kcluster40_075_30_5", "kcluster80_050_20_1",
    ],
)  # fmt: skip
def test_public_optima(data_dir, name):
    problem = Problem.load(data_dir / "instances" / f"{name}.npz")
    target = problem.best_known - 1e-6 * abs(problem.best_known)
    best = -np.inf

    def keep(assignment):
        nonlocal best
        best = problem.objective(assignment)

    found = search(problem, max_restarts=60, on_assignment=keep, should_stop=lambda: best >= target)
    assert problem.violations(found) == ()
    assert problem.objective(found) == pytest.approx(problem.best_known, rel=1e-6)
