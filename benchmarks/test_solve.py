"""Whole solves within a time limit: what is found, and what is proved."""

from __future__ import annotations

import pytest

from qpm_bench.instances import paper_like
from qpm_opt import Result, solve

# n_classes, n_features, n_selected, n_per_class
SHAPES = {"5x16": (5, 16, 5, 2), "10x30": (10, 30, 6, 3)}


def run(benchmark, problem, **options) -> None:
    """One solve on one thread; everything about it but the time goes to ``extra_info``."""
    result: Result = benchmark.pedantic(solve, (problem,), {"threads": 1, **options})
    assert result.assignment is not None and not problem.violations(result.assignment)
    benchmark.extra_info.update(
        objective=result.objective,
        bound=result.bound,
        relative_gap=result.relative_gap,
        termination_condition=result.termination_condition.value,
        solver_version=result.solver_version,
        build_time=result.build_time,
        solve_time=result.solve_time,
        wall_time=result.wall_time,
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", ["compact", "paper"])
def test_small(benchmark, method, solver, shape, time_limit):
    n_classes, n_features, n_selected, n_per_class = SHAPES[shape]
    problem = paper_like(n_classes, n_features, n_selected=n_selected, n_per_class=n_per_class)
    run(benchmark, problem, method=method, solver=solver, time_limit=time_limit)


@pytest.mark.parametrize("shape", SHAPES)
def test_exact(benchmark, shape, time_limit):
    n_classes, n_features, n_selected, n_per_class = SHAPES[shape]
    problem = paper_like(n_classes, n_features, n_selected=n_selected, n_per_class=n_per_class)
    run(benchmark, problem, method="exact", time_limit=time_limit)


def test_heuristic(benchmark, large, time_limit):
    run(benchmark, large, method="heuristic", time_limit=time_limit)
