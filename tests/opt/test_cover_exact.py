"""Branch and bound against brute force; bounds under limits; what a solve reports."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qpm_opt import CoverProblem, SolutionStatus, TerminationCondition, solve_cover
from qpm_opt.cover import search
from qpm_opt.cover.bitsets import column_bits, rarest
from qpm_opt.cover.reduction import Instance, certainly_lost
from tests.cover_oracle import optimum, random_cover, region, subsets

seeds = st.integers(0, 2**32 - 1)


def hard_cover(seed: int = 0, n_images: int = 600, n_boundaries: int = 30) -> CoverProblem:
    """Random separation: the search does not end within a few nodes."""
    rng = np.random.default_rng(seed)
    return CoverProblem(rng.random((n_images, n_boundaries)) < 0.4, rng.random(n_images) < 0.5)


def checked(problem: CoverProblem, result) -> None:
    """The numbers of a result belong together and to its boundaries."""
    chosen = result.boundaries.tolist()
    assert chosen == sorted(set(chosen))
    plain = region(problem.separated.tolist(), problem.same.tolist(), chosen)
    assert (result.n_covered_same, result.n_covered_other) == (len(plain.same), len(plain.other))
    assert len(plain.other) <= problem.n_exceptions
    assert result.objective == len(plain.same) + problem.count_exceptions * len(plain.other)
    assert result.objective <= result.bound
    assert (result.objective == result.bound) == (result.solution_status is SolutionStatus.OPTIMAL)
    assert result.n_boundaries == len(chosen)


@settings(max_examples=1500, deadline=None)
@given(seeds)
def test_both_stages_are_those_of_brute_force(seed):
    problem = random_cover(seed)
    result = solve_cover(problem)
    checked(problem, result)
    assert (result.objective, result.n_boundaries) == optimum(problem)
    assert result.termination_condition is TerminationCondition.OPTIMAL
    assert result.fewest_condition is TerminationCondition.OPTIMAL
    assert result.has_fewest


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_twelve_boundaries(seed):
    rng = np.random.default_rng(seed)
    separated = rng.random((60, 12)) < rng.choice([0.2, 0.35, 0.5])
    tau = CoverProblem(separated, rng.random(60) < 0.5)
    problem = CoverProblem(separated, tau.same, tau.n_exceptions + int(rng.integers(0, 4)))
    result = solve_cover(problem)
    assert (result.objective, result.n_boundaries) == optimum(problem)
    assert result.has_fewest


@settings(max_examples=150, deadline=None)
@given(seeds, st.integers(0, 6))
def test_bounds_hold_wherever_the_search_is_stopped(seed, node_limit):
    problem = random_cover(seed)
    result = solve_cover(problem, node_limit=node_limit)
    checked(problem, result)
    objective, fewest = optimum(problem)
    assert result.objective <= objective <= result.bound
    if result.n_boundaries_bound is not None:
        assert result.n_boundaries_bound <= fewest <= result.n_boundaries
    if result.termination_condition is not TerminationCondition.OPTIMAL:
        assert result.termination_condition is TerminationCondition.NODE_LIMIT


@settings(max_examples=200, deadline=None)
@given(seeds)
def test_greedy_is_below_exact_is_below_the_bound_without_search(seed):
    problem = random_cover(seed)
    greedy, exact = (solve_cover(problem, method=method) for method in ("greedy", "exact"))
    checked(problem, greedy)
    assert greedy.objective <= exact.objective <= greedy.bound
    if greedy.solution_status is not SolutionStatus.OPTIMAL:
        assert greedy.termination_condition is TerminationCondition.COMPLETED
        assert greedy.bound_kind == "separator sets"


@given(seeds)
def test_images_called_lost_are_in_no_feasible_region(seed):
    problem = random_cover(seed, most_boundaries=6)
    lost = certainly_lost(problem)
    for chosen in subsets(problem.n_boundaries):
        if problem.counts(chosen)[1] <= problem.n_exceptions:
            assert not (problem.covered(chosen) & lost).any()


def test_more_exceptions_never_cover_less():
    problem = hard_cover(n_images=120, n_boundaries=10)
    objectives = [
        solve_cover(CoverProblem(problem.separated, problem.same, delta)).objective
        for delta in range(problem.n_exceptions, problem.n_exceptions + 20)
    ]
    assert objectives == sorted(objectives)
    everything = CoverProblem(problem.separated, problem.same, problem.n_images)
    result = solve_cover(everything)
    assert result.boundaries.size == 0
    assert result.objective == np.count_nonzero(problem.same)


def test_counting_exceptions_changes_the_optimum_only_beyond_tau():
    rng = np.random.default_rng(2)
    separated, same = rng.random((60, 7)) < 0.4, rng.random(60) < 0.5
    tau = CoverProblem(separated, same).n_exceptions
    plain, literal = (
        solve_cover(CoverProblem(separated, same, tau, count_exceptions=c)) for c in (False, True)
    )
    assert literal.objective == plain.objective + tau
    assert literal.n_covered_same == plain.n_covered_same


@pytest.mark.parametrize("limit", [{"time_limit": 0.0}, {"time_limit": 0.05}, {"node_limit": 300}])
def test_a_limit_leaves_a_region_and_a_bound_that_the_optimum_respects(limit):
    problem = hard_cover()
    best = solve_cover(problem, time_limit=None, fewest=False)
    assert best.solution_status is SolutionStatus.OPTIMAL
    result = solve_cover(problem, **limit)
    checked(problem, result)
    assert result.objective <= best.objective <= result.bound
    if result.solution_status is not SolutionStatus.OPTIMAL:
        assert result.termination_condition in (
            TerminationCondition.TIME_LIMIT,
            TerminationCondition.NODE_LIMIT,
        )
        assert result.relative_gap > 0


def test_diving_on_with_too_many_open_nodes_changes_nothing(monkeypatch):
    problem = hard_cover(n_images=300, n_boundaries=20)
    expected = solve_cover(problem, time_limit=None)
    monkeypatch.setattr(search, "MOST_OPEN", 0)
    monkeypatch.setattr(search, "DIVE", 3)
    result = solve_cover(problem, time_limit=None)
    assert result.objective == expected.objective
    assert result.n_boundaries == expected.n_boundaries
    assert result.has_fewest


@pytest.mark.parametrize("stage", ["FewestLost", "FewestBoundaries"])
@pytest.mark.parametrize("node", [0, 1, 5])
def test_an_interrupt_keeps_the_region_and_a_valid_bound(monkeypatch, stage, node):
    problem = hard_cover(n_images=300, n_boundaries=20)
    best = solve_cover(problem, time_limit=None)
    search_class = getattr(search, stage)
    expand = search_class._expand

    def interrupted(self, *arguments):
        if self.n_nodes > node:
            raise KeyboardInterrupt
        return expand(self, *arguments)

    monkeypatch.setattr(search_class, "_expand", interrupted)
    result = solve_cover(problem, time_limit=None)
    checked(problem, result)
    if stage == "FewestLost":
        assert result.termination_condition is TerminationCondition.INTERRUPTED
        assert result.objective <= best.objective <= result.bound
    else:
        assert result.termination_condition is TerminationCondition.OPTIMAL
        assert result.fewest_condition is TerminationCondition.INTERRUPTED
        assert result.n_boundaries_bound <= best.n_boundaries <= result.n_boundaries


def test_an_interrupt_before_the_search_is_no_result_but_no_crash(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("qpm_opt.cover.solve.greedy_cover", interrupted)
    problem = random_cover(3)
    result = solve_cover(problem)
    assert result.termination_condition is TerminationCondition.INTERRUPTED
    assert result.bound is None
    assert problem.counts(result.boundaries)[1] <= problem.n_exceptions


def test_two_runs_are_the_same():
    problem = hard_cover(n_images=300, n_boundaries=20)
    first, second = (solve_cover(problem, time_limit=None) for _ in range(2))
    assert first.boundaries.tolist() == second.boundaries.tolist()
    assert (first.node_count, first.bound) == (second.node_count, second.bound)


def test_without_pruning_the_choice_is_kept_whole():
    # Greedy takes 0, which hits most, then 1 and 2, which are enough by themselves.
    hits = [{0, 1, 2, 3}, {0, 1, 4}, {2, 3, 5}]
    separated = [[image in rows for rows in hits] for image in range(6)]
    problem = CoverProblem(separated, [False] * 6)
    for prune, expected in ((False, [0, 1, 2]), (True, [1, 2])):
        result = solve_cover(problem, method="greedy", prune=prune)
        assert result.boundaries.tolist() == expected
        assert result.fewest_condition is TerminationCondition.UNKNOWN
        assert result.n_boundaries_bound is None


def test_the_second_stage_is_left_out_where_nobody_asks():
    result = solve_cover(hard_cover(n_images=100, n_boundaries=12), fewest=False)
    assert result.solution_status is SolutionStatus.OPTIMAL
    assert result.fewest_condition is TerminationCondition.UNKNOWN
    assert result.n_boundaries_bound is None
    assert not result.has_fewest


def test_a_bound_that_a_region_refutes_is_dropped(caplog, monkeypatch):
    monkeypatch.setattr("qpm_opt.cover.solve.certainly_lost", lambda problem: problem.counted)
    problem = CoverProblem([[1, 0], [0, 1], [0, 0]], [True, False, True])
    with caplog.at_level(logging.WARNING):
        result = solve_cover(problem, method="greedy")
    assert result.bound is None
    assert result.solution_status is SolutionStatus.FEASIBLE
    assert "claims the bound 0" in caplog.text


@settings(max_examples=1000, deadline=None)
@given(seeds)
def test_either_search_finds_the_optimum_of_any_instance(seed):
    # Without reductions, and with budgets that no first stage would leave.
    rng = np.random.default_rng(seed)
    n_columns, n_rows = int(rng.integers(1, 8)), int(rng.integers(1, 14))
    losses = rng.random((16, n_columns)) < rng.choice([0.1, 0.3, 0.5])
    hits = rng.random((n_rows, n_columns)) < rng.choice([0.2, 0.4, 0.6])
    instance = Instance(
        columns=list(range(n_columns)),
        losses=column_bits(losses),
        hits=column_bits(hits),
        rows=(1 << n_rows) - 1,
        spare=int(rng.integers(0, 3)),
        lost=int(rng.integers(0, 4)),
        most=0,
    )
    given_lost = {i for i in range(2) if instance.lost >> i & 1}
    most_lost = int(rng.integers(len(given_lost), 17))
    fewest_lost, fewest = 99, 99
    for chosen in subsets(n_columns):
        unhit = sum(not any(row[h] for h in chosen) for row in hits.tolist())
        lost = {i for i, row in enumerate(losses.tolist()) if any(row[h] for h in chosen)}
        if unhit <= instance.spare:
            fewest_lost = min(fewest_lost, len(lost | given_lost))
            if len(lost | given_lost) <= most_lost:
                fewest = min(fewest, len(chosen))
    first = search.FewestLost(instance, 99, ())
    second = search.FewestBoundaries(instance, 99, (), most_lost)
    for found, expected in ((first, fewest_lost), (second, fewest)):
        found.run()
        assert found.value == found.bound == expected
    if fewest_lost < 99:
        lost = losses[:, list(first.chosen)].any(axis=1)
        assert len(set(np.flatnonzero(lost)) | given_lost) == fewest_lost


@given(st.lists(st.integers(0, 2**40), max_size=9), st.integers(0, 2**40))
def test_rarest_element(sets, among):
    counts = {e: sum(s >> e & 1 for s in sets) for e in range(41) if among >> e & 1}
    counts = {e: n for e, n in counts.items() if n}
    expected = min(counts, key=lambda e: (counts[e], e)) if counts else -1
    assert rarest(sets, among) == expected
