"""Good selections without a solver; ``objective`` is what the time bought."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.sizes import LARGE
from qpm_opt.assign import assign
from qpm_opt.heuristics import greedy, search, swap_search
from qpm_opt.swaps import Swaps

SIZES = LARGE


def test_greedy(benchmark, problem):
    selected = benchmark(greedy, problem)
    benchmark.extra_info["objective"] = problem.objective(assign(problem, selected))


@pytest.mark.parametrize("choice", ["best", "best_constrained"])
def test_swap_step(benchmark, problem, choice):
    """The best exchange of all, found and made, from random selections on."""
    swaps = Swaps(problem, random_selection(problem))
    find = getattr(swaps, choice)
    benchmark(lambda: swaps.apply(*find()))


def test_greedy_and_swap_search(benchmark, problem):
    selected = benchmark.pedantic(lambda: swap_search(problem, greedy(problem)), rounds=3)
    benchmark.extra_info["objective"] = problem.objective(assign(problem, selected))


@pytest.mark.timeout(0)  # it has a limit of its own
def test_search(benchmark, large, time_limit):
    assignment = benchmark.pedantic(search, (large,), {"time_limit": time_limit})
    assert not large.violations(assignment)
    benchmark.extra_info["objective"] = large.objective(assignment)


def test_assign_distinct_classes(benchmark, problem):
    # Of a random selection: many classes then want the same features.
    assignment = benchmark(assign, problem, random_selection(problem))
    assert not problem.violations(assignment)


def random_selection(problem) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.choice(problem.n_features, problem.n_selected, replace=False)
