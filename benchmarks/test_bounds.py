"""Upper bounds: seconds, and how far above the incumbent they end."""

from __future__ import annotations

import pytest

from benchmarks.sizes import MEDIUM
from qpm_opt.bounds.linear import linear_bound
from qpm_opt.bounds.region import Region
from qpm_opt.bounds.semidefinite import semidefinite_bound
from qpm_opt.heuristics import search

SIZES = MEDIUM
#: Iterations of the semidefinite bound: the same work at every size, not enough for its best.
N_STEPS = 100


@pytest.fixture
def region(problem) -> Region:
    return Region.whole(problem)


def record(benchmark, region, bound) -> None:
    held = search(region.problem, max_restarts=5)
    objective = region.problem.objective(held)
    assert bound.value >= objective - 1e-9 * abs(objective)
    benchmark.extra_info.update(bound=float(bound.value), objective=objective)


def test_linear(benchmark, region):
    record(benchmark, region, benchmark.pedantic(linear_bound, (region,)))


def test_semidefinite(benchmark, region):
    bound = benchmark.pedantic(semidefinite_bound, (region,), {"max_steps": N_STEPS})
    record(benchmark, region, bound)
