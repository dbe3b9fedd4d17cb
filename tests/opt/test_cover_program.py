"""The integer program on every solver, against our own search."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from qpm_opt import (
    SOLVERS,
    CoverProblem,
    SolutionStatus,
    SolverNotAvailableError,
    TerminationCondition,
    solve_cover,
)
from qpm_opt.cover.program import CoverProgram
from qpm_opt.cover.reduction import certainly_lost
from qpm_opt.solvers.base import Availability, AvailabilityReport
from tests.conftest import demand
from tests.cover_oracle import optimum, random_cover, subsets

every_solver = pytest.mark.parametrize("solver", SOLVERS)


@pytest.mark.parametrize("seed", range(40))
def test_points_of_the_model_are_regions(seed):
    problem = random_cover(seed, most_boundaries=6)
    program = CoverProgram(problem, certainly_lost(problem), continuous=False)
    model = program.most_covered()
    for chosen in subsets(problem.n_boundaries):
        point = program.point(chosen)
        activity = model.matrix @ point
        holds = (model.row_lower <= activity).all() and (activity <= model.row_upper).all()
        same, other = problem.counts(chosen)
        assert holds == (other <= problem.n_exceptions)
        if holds:
            assert model.objective(point) == same + problem.count_exceptions * other
        assert program.boundaries(point) == list(chosen)


@every_solver
def test_both_stages_agree_with_brute_force(solver):
    demand(solver)
    for seed in range(25):
        problem = random_cover(seed)
        result = solve_cover(problem, method="milp", solver=solver, threads=1)
        assert (result.objective, result.n_boundaries) == optimum(problem), seed
        assert result.solution_status is SolutionStatus.OPTIMAL
        assert result.has_fewest, seed


@pytest.mark.parametrize("solver", ["highs", "cpsat"])
@pytest.mark.parametrize("spare", [0, 6])
@pytest.mark.parametrize("count_exceptions", [False, True])
def test_both_stages_agree_with_branch_and_bound(solver, spare, count_exceptions):
    demand(solver)
    rng = np.random.default_rng(spare)
    # Clustered separation, as planes through clusters of images give it.
    centres = rng.normal(size=(12, 6))
    images = centres[rng.integers(12, size=300)] + 0.4 * rng.normal(size=(300, 6))
    same = images[:, 0] + images[:, 1] ** 2 > 0.8
    separated = images @ rng.normal(size=(6, 20)) > rng.random(20)
    tau = CoverProblem(separated, same).n_exceptions
    problem = CoverProblem(separated, same, tau + spare, count_exceptions=count_exceptions)
    exact = solve_cover(problem, time_limit=None)
    result = solve_cover(problem, method="milp", solver=solver, time_limit=60)
    assert exact.has_fewest
    assert (result.objective, result.bound) == (exact.objective, exact.bound)
    assert (result.n_boundaries, result.n_boundaries_bound) == (
        exact.n_boundaries,
        exact.n_boundaries_bound,
    )


def undecided() -> CoverProblem:
    """Neither greedy nor the bound without search decide it."""
    for seed in range(1000):
        problem = random_cover(seed)
        if solve_cover(problem, method="greedy").solution_status is SolutionStatus.FEASIBLE:
            return problem
    raise AssertionError


def test_a_false_bound_is_not_believed(caplog):
    problem = undecided()
    with caplog.at_level(logging.WARNING):
        result = solve_cover(problem, method="milp", solver="tests.opt.lying_solver:FalseBound")
    assert result.bound >= optimum(problem)[0]
    assert result.bound_kind == "separator sets"
    assert result.solution_status is SolutionStatus.FEASIBLE
    assert result.termination_condition is TerminationCondition.COMPLETED
    assert "claims the bound" in caplog.text


def test_infeasibility_is_not_believed(caplog):
    with caplog.at_level(logging.WARNING):
        result = solve_cover(undecided(), method="milp", solver="tests.opt.lying_solver:Infeasible")
    assert result.termination_condition is TerminationCondition.ERROR
    assert result.solution_status is SolutionStatus.FEASIBLE


def test_a_missing_solver_is_said_so(monkeypatch):
    report = AvailabilityReport(Availability.MISSING, None, "not installed; pip install it")
    monkeypatch.setattr("qpm_opt.cover.solve.solver_availability", lambda name: report)
    with pytest.raises(SolverNotAvailableError, match="pip install it"):
        solve_cover(undecided(), method="milp", solver="cpsat")
