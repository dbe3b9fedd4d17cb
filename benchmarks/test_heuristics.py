"""Good selections without a solver; ``objective`` is what the time bought."""

from __future__ import annotations

import numpy as np

from qpm_opt.assign import assign
from qpm_opt.heuristics import greedy, search, swap_search


def test_greedy(benchmark, large):
    selected = benchmark(greedy, large)
    benchmark.extra_info["objective"] = large.objective(assign(large, selected))


def test_greedy_and_swap_search(benchmark, large):
    selected = benchmark.pedantic(lambda: swap_search(large, greedy(large)), rounds=3)
    benchmark.extra_info["objective"] = large.objective(assign(large, selected))


def test_search(benchmark, large, time_limit):
    assignment = benchmark.pedantic(search, (large,), {"time_limit": time_limit})
    assert not large.violations(assignment)
    benchmark.extra_info["objective"] = large.objective(assignment)


def test_assign_distinct_classes(benchmark, large):
    # A random selection: many classes then want the same features.
    selected = np.random.default_rng(0).choice(large.n_features, large.n_selected, replace=False)
    assignment = benchmark(assign, large, selected)
    assert not large.violations(assignment)
