"""The cover problem of representative interpretations: greedy, our search, and solvers."""

from __future__ import annotations

import pytest

from benchmarks.covers import CoverSize, clustered_cover, scattered_cover
from qpm_opt import SolutionStatus, greedy_cover, solve_cover
from qpm_opt.solvers import solver_availability

SIZES = [CoverSize(2, 50), CoverSize(10, 50), CoverSize(2, 200), CoverSize(10, 200)]
N_PROBLEMS, N_SMOKE = 10, 1

# Solves end at their own limit.
pytestmark = pytest.mark.timeout(0)


@pytest.fixture
def seeds(request) -> range:
    return range(N_SMOKE if request.config.getoption("--benchmark-disable") else N_PROBLEMS)


def note(benchmark, results, greedy) -> None:
    """What the solves found, beside their times."""
    proved = [r for r in results if r.solution_status is SolutionStatus.OPTIMAL]
    benchmark.extra_info.update(
        problems=len(results),
        proved=len(proved),
        proved_fewest=sum(r.has_fewest for r in results),
        slowest=max(r.wall_time for r in results),
        objectives=[r.objective for r in results],
        bounds=[r.bound for r in results],
        boundaries=[r.n_boundaries for r in results],
        greedy_share=[g / r.objective for g, r in zip(greedy, results, strict=True) if r.objective],
    )


@pytest.mark.parametrize("method", ["exact", "highs", "cpsat"])
@pytest.mark.parametrize("sampling", ["reference", "segment"])
@pytest.mark.parametrize("spare", [0, 10])
def test_cover(benchmark, size, sampling, spare, method, seeds, time_limit):
    options = {"time_limit": time_limit}
    if method != "exact":
        if not (report := solver_availability(method)).level:
            pytest.skip(report.reason)
        options |= {"method": "milp", "solver": method, "threads": 1}
    problems = [clustered_cover(size, seed, sampling=sampling, spare=spare) for seed in seeds]
    greedy = [p.counts(greedy_cover(p, prune=False))[0] for p in problems]
    results = benchmark.pedantic(lambda: [solve_cover(p, **options) for p in problems])
    note(benchmark, results, greedy)


def test_cover_without_structure(benchmark, seeds, time_limit):
    problems = [scattered_cover(50, seed) for seed in seeds]
    greedy = [p.counts(greedy_cover(p, prune=False))[0] for p in problems]
    results = benchmark.pedantic(lambda: [solve_cover(p, time_limit=time_limit) for p in problems])
    note(benchmark, results, greedy)
