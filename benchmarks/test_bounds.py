"""Upper bounds: seconds, and how far above the incumbent they end."""

from __future__ import annotations

import time

import pytest

from qpm_bench.instances import paper_like
from qpm_opt.bounds.linear import linear_bound
from qpm_opt.bounds.region import Region
from qpm_opt.bounds.semidefinite import semidefinite_bound
from qpm_opt.heuristics import search

# n_classes, n_features, n_selected, n_per_class
SHAPES = {"10x60": (10, 60, 8, 3), "40x200": (40, 200, 20, 4)}


@pytest.fixture(params=SHAPES)
def region(request) -> Region:
    n_classes, n_features, n_selected, n_per_class = SHAPES[request.param]
    problem = paper_like(n_classes, n_features, n_selected=n_selected, n_per_class=n_per_class)
    return Region.whole(problem)


def record(benchmark, region, bound) -> None:
    held = search(region.problem, time_limit=1.0, max_restarts=50)
    objective = region.problem.objective(held)
    assert bound.value >= objective - 1e-9 * abs(objective)
    benchmark.extra_info.update(bound=float(bound.value), objective=objective)


def test_linear(benchmark, region):
    record(benchmark, region, benchmark.pedantic(linear_bound, (region,), rounds=1))


def test_semidefinite(benchmark, region, time_limit):
    def run():
        return semidefinite_bound(region, deadline=time.perf_counter() + time_limit)

    record(benchmark, region, benchmark.pedantic(run, rounds=1))
