"""solve(): equal to brute force on every back end; honest about everything else."""

from __future__ import annotations

import json
import logging
import time

import numpy as np
import pytest

import qpm_opt.optimize
from qpm_opt import Assignment, Problem, solve
from qpm_opt.assign import assign
from qpm_opt.errors import (
    InvalidInputError,
    InvalidSolutionError,
    SolverError,
    UnsupportedFormulationError,
)
from qpm_opt.heuristics import greedy
from qpm_opt.methods.base import MethodOutcome
from qpm_opt.result import SolutionStatus, TerminationCondition
from qpm_opt.solvers import SOLVERS, solver_availability
from qpm_opt.verification import verify
from tests import oracle
from tests.conftest import demand, random_problem, scaled

N_CHUNKS, CHUNK = 11, 20


@pytest.fixture
def solver(request) -> str:
    """Name of a solver that is usable here."""
    return demand(request.param)


every_solver = pytest.mark.parametrize("solver", SOLVERS, indirect=True)


def check_against_oracle(problem: Problem, **options) -> None:
    best = oracle.optimum(problem)
    result = solve(problem, threads=1, **options)
    if best is None:
        assert result.assignment is None
        assert result.solution_status is SolutionStatus.NO_SOLUTION
        assert result.termination_condition is TerminationCondition.INFEASIBLE
        return
    assert result.objective == pytest.approx(best, rel=1e-6, abs=1e-6)
    assert problem.violations(result.assignment) == ()
    assert result.bound >= best - 1e-9 * max(1.0, abs(best))
    assert result.termination_condition is TerminationCondition.OPTIMAL
    assert result.solution_status is SolutionStatus.OPTIMAL


@pytest.mark.parametrize("chunk", range(N_CHUNKS))
def test_exact_equals_brute_force(chunk, tmp_path):
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        problem = random_problem(seed)
        check_against_oracle(problem)
        result = solve(problem, threads=1)
        result.save(tmp_path / "solution.json", problem)
        verification = verify(problem, tmp_path / "solution.json")
        assert verification.accepted, verification.rejections
        assert verification.proof is not None


def test_exact_with_side_constraints_equals_brute_force():
    for seed in range(CHUNK):
        check_against_oracle(constrained_problem(seed))


def test_exact_needs_no_solver_and_says_so():
    with pytest.raises(InvalidInputError, match="give method 'compact'"):
        solve(random_problem(3), solver="cpsat")


@every_solver
@pytest.mark.parametrize("chunk", range(N_CHUNKS))
def test_compact_equals_brute_force(solver, chunk):
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        check_against_oracle(random_problem(seed), method="compact", solver=solver)


@pytest.mark.parametrize("solver", ["highs", "gurobi", "scip"], indirect=True)
@pytest.mark.parametrize("chunk", range(3))
def test_projected_equals_brute_force(solver, chunk):
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        check_against_oracle(
            random_problem(seed), method="compact", solver=solver, formulation="projected"
        )


@every_solver
@pytest.mark.parametrize("formulation", ["compact", "projected"])
@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e6, 1e9])
def test_small_and_large_coefficients_equal_brute_force(monkeypatch, solver, formulation, scale):
    if (solver, formulation) == ("cpsat", "projected"):
        pytest.skip("cpsat takes integer columns only")
    # Without the search the solvers have to find and prove everything themselves.
    monkeypatch.setattr(qpm_opt.optimize, "search", lambda *arguments, **options: None)
    for seed in range(8):
        problem = scaled(random_problem(seed), scale)
        best = oracle.optimum(problem)
        result = solve(problem, method="compact", solver=solver, formulation=formulation, threads=1)
        assert result.objective == pytest.approx(best, rel=1e-6, abs=1e-7 * problem.scale)
        assert result.bound >= best - 1e-9 * problem.scale
        assert result.termination_condition is TerminationCondition.OPTIMAL
        assert result.progress[-1].incumbent == pytest.approx(result.objective)


def constrained_problem(seed: int) -> Problem:
    """Tiny problem in which features must be used or classes must share, sometimes infeasible."""
    rng = np.random.default_rng(seed)
    n_classes, n_features = int(rng.integers(2, 4)), int(rng.integers(4, 6))
    R = np.triu(rng.random((n_features, n_features)), 1)
    pairs = [[0, 1]] if seed % 2 else None
    return Problem(
        rng.normal(size=(n_classes, n_features)),
        R + R.T,
        n_selected=3,
        n_per_class=2,
        distinct=bool(rng.integers(2)),
        min_classes_per_feature=1 if seed % 3 else 0,
        contrastive_pairs=pairs,
        min_contrastive_pairs=1 if seed % 5 == 0 else 0,
    )


@every_solver
def test_side_constraints_equal_brute_force(solver):
    for seed in range(CHUNK):
        check_against_oracle(constrained_problem(seed), method="compact", solver=solver)


@pytest.mark.parametrize("solver", ["highs"], indirect=True)
def test_side_constraints_of_the_projected_model_equal_brute_force(solver):
    for seed in range(CHUNK):
        check_against_oracle(
            constrained_problem(seed), method="compact", solver=solver, formulation="projected"
        )


@every_solver
def test_an_infeasible_problem_has_no_solution(solver):
    problem = Problem(
        np.ones((6, 4)),
        np.zeros((4, 4)),
        n_selected=4,
        n_per_class=2,
        contrastive_pairs=[[c, e] for c in range(3) for e in range(3, 6)],
    )
    # All six pairs out of four features are needed, and each shares none with one other.
    assert oracle.optimum(problem) is None
    result = solve(problem, method="compact", solver=solver, threads=1)
    assert result.termination_condition is TerminationCondition.INFEASIBLE
    assert result.solution_status is SolutionStatus.NO_SOLUTION
    assert result.assignment is None
    assert result.relative_gap is None


class TestJudgement:
    """What solve() makes of claims that it can check."""

    @pytest.fixture
    def problem(self) -> Problem:
        return random_problem(3, n_selected=3)

    def test_a_false_bound_is_not_believed(self, problem, caplog):
        with caplog.at_level(logging.WARNING):
            result = solve(
                problem, method="compact", solver="tests.opt.lying_solver:FalseBound", threads=1
            )
        assert result.bound is None
        assert result.solution_status is SolutionStatus.FEASIBLE
        assert result.termination_condition is TerminationCondition.COMPLETED
        assert "claims the bound" in caplog.text

    def test_an_infeasible_point_is_not_believed(self, problem):
        result = solve(
            problem, method="compact", solver="tests.opt.lying_solver:InfeasiblePoint", threads=1
        )
        assert problem.violations(result.assignment) == ()
        assert result.objective < 1e9
        assert result.reported_objective == 1e9
        assert result.termination_condition is not TerminationCondition.OPTIMAL

    def test_infeasibility_is_not_believed_when_an_assignment_is_held(self, problem, caplog):
        with caplog.at_level(logging.WARNING):
            result = solve(
                problem, method="compact", solver="tests.opt.lying_solver:Infeasible", threads=1
            )
        assert result.assignment is not None
        assert result.termination_condition is TerminationCondition.ERROR


def test_the_heuristic_proves_nothing():
    for seed in range(CHUNK):
        problem = random_problem(seed)
        result = solve(problem, method="heuristic", time_limit=0.2, seed=1)
        assert result.bound is None
        assert result.solver is None
        assert result.objective <= oracle.optimum(problem) + 1e-9
        assert result.termination_condition in (
            TerminationCondition.COMPLETED,
            TerminationCondition.TIME_LIMIT,
        )


@every_solver
def test_the_paper_method_is_never_called_optimal(solver):
    for seed in range(CHUNK):
        problem = random_problem(seed)
        result = solve(problem, method="paper", solver=solver, threads=1, time_limit=30)
        assert result.bound is None
        assert result.solution_status is SolutionStatus.FEASIBLE
        assert result.termination_condition is not TerminationCondition.OPTIMAL
        assert result.objective <= oracle.optimum(problem) + 1e-9


def test_no_time_at_all_still_gives_an_assignment():
    problem = random_problem(3)
    result = solve(problem, time_limit=0)
    assert result.termination_condition is TerminationCondition.TIME_LIMIT
    assert problem.violations(result.assignment) == ()
    assert result.bound is None


@pytest.mark.parametrize("step", ["_normalised", "_run"])
def test_the_time_limit_counts_from_the_call_on(monkeypatch, step):
    """Neither what solve() prepares nor the loading of the method is for nothing."""

    def run(problem, tracker, options):
        raise AssertionError("begun after the time was up")

    whole = getattr(qpm_opt.optimize, step)

    def slow(argument):
        time.sleep(0.5)
        return run if step == "_run" else whole(argument)

    monkeypatch.setattr(qpm_opt.optimize, "_run", lambda method: run)
    monkeypatch.setattr(qpm_opt.optimize, step, slow)
    result = solve(random_problem(3), time_limit=0.4)
    assert result.termination_condition is TerminationCondition.TIME_LIMIT
    assert result.wall_time >= 0.5


def test_a_warm_start_is_never_worsened():
    for seed in range(5):
        problem = random_problem(seed)
        best = solve(problem, threads=1)
        again = solve(
            problem, method="heuristic", time_limit=0, warm_start=best.assignment, threads=1
        )
        assert again.objective == best.objective
        assert again.warm_start_objective == best.objective


def test_a_warm_start_from_a_file_of_another_shape_is_refused(tmp_path):
    problem = random_problem(3)
    solve(problem, threads=1).save(tmp_path / "s.json", problem)
    other = Problem(np.ones((9, 5)), np.zeros((5, 5)), n_selected=5, n_per_class=2)
    with pytest.raises(InvalidSolutionError, match="the problem has 9"):
        solve(other, warm_start=tmp_path / "s.json")


def test_an_infeasible_warm_start_is_refused():
    problem = random_problem(3)
    empty = Assignment(
        np.zeros(problem.n_features, bool), np.zeros((problem.n_classes, problem.n_features), bool)
    )
    with pytest.raises(InvalidSolutionError, match="warm start is infeasible: 0 features"):
        solve(problem, warm_start=empty)


@pytest.mark.parametrize(
    ("failure", "condition"),
    [
        (KeyboardInterrupt(), TerminationCondition.INTERRUPTED),
        (SolverError("it broke"), TerminationCondition.ERROR),
    ],
)
def test_what_ends_a_method_early_keeps_the_incumbent(monkeypatch, failure, condition):
    def run(problem, tracker, options):
        raise failure

    monkeypatch.setattr(qpm_opt.optimize, "_run", lambda method: run)
    problem = random_problem(3)
    result = solve(problem)
    assert result.termination_condition is condition
    assert problem.violations(result.assignment) == ()


@pytest.mark.parametrize("solver", ["gurobi"], indirect=True)
def test_a_licence_that_is_too_small_keeps_the_incumbent_and_says_what_to_do(solver, caplog):
    rng = np.random.default_rng(0)
    problem = Problem(rng.random((3, 1200)), np.zeros((1200,) * 2), n_selected=5, n_per_class=2)
    if solver_availability("gurobi").level.name == "FULL":
        pytest.skip("gurobi has a full licence here")
    with caplog.at_level(logging.WARNING):
        result = solve(problem, method="compact", solver="gurobi", threads=1)
    assert result.termination_condition is TerminationCondition.LICENSE_LIMIT
    assert problem.violations(result.assignment) == ()
    assert "highs" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "no method 'magic'"),
        ({"method": "compac"}, "did you mean compact"),
        ({"solver": "cplex"}, "no solver 'cplex'"),
        ({"formulation": "perspective"}, "no formulation"),
        ({"time_limit": -1}, "time_limit is -1"),
        ({"time_limit": float("nan")}, "time_limit is nan"),
        ({"gap": -0.1}, "gap is -0.1"),
        ({"threads": 0}, "threads is 0"),
        ({"threads": 10**6}, "threads is 1000000"),
        ({"threads": "two"}, "threads is 'two'"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"time_limit": "soon"}, "time_limit is 'soon'"),
        ({"method": None}, "no method 'None'"),
        ({"warm_start": 5}, "warm_start is 5; an Assignment or the path"),
        ({"solver_options": 5}, "solver_options is 5; a mapping"),
    ],
)
def test_unusable_options_are_named(options, message):
    with pytest.raises(InvalidInputError, match=message):
        solve(random_problem(3), **options)


@pytest.mark.parametrize("solver", ["cpsat"], indirect=True)
def test_a_formulation_that_the_solver_cannot_take_is_refused_with_advice(solver):
    with pytest.raises(UnsupportedFormulationError, match="use formulation 'compact'"):
        solve(random_problem(3), method="compact", solver=solver, formulation="projected")


def test_an_infinite_time_limit_is_none(tmp_path):
    problem = random_problem(3)
    result = solve(problem, time_limit=float("inf"), gap=np.float32(0.0), seed=np.int64(1))
    result.save(tmp_path / "s.json", problem)
    assert result.options["time_limit"] is None


def test_progress_only_improves():
    seen = []
    problem = random_problem(3)
    result = solve(problem, on_progress=seen.append, threads=1)
    incumbents = [entry.incumbent for entry in seen if entry.incumbent is not None]
    bounds = [entry.bound for entry in seen if entry.bound is not None]
    assert incumbents == sorted(incumbents)
    assert bounds == sorted(bounds, reverse=True)
    assert tuple(seen) == result.progress
    assert seen[-1].incumbent == result.objective


@pytest.mark.parametrize("factor", [1e-9, 1.0, 1e9])
def test_progress_is_in_the_units_of_the_problem(monkeypatch, factor):
    def run(problem, tracker, options):
        tracker.report_free(2)
        tracker.tighten(2.0 * tracker.objective, "a guess")
        return MethodOutcome()

    monkeypatch.setattr(qpm_opt.optimize, "_run", lambda method: run)
    seen = []
    problem = scaled(
        Problem(np.ones((1, 3)), np.zeros((3, 3)), n_selected=2, n_per_class=1), factor
    )
    result = solve(problem, on_progress=seen.append)
    assert tuple(seen) == result.progress
    free = [entry for entry in seen if entry.n_free == 2]
    assert [entry.bound for entry in free] == pytest.approx([None, 2.0 * factor])
    assert [entry.incumbent for entry in free] == pytest.approx([factor, factor])


@pytest.mark.parametrize("name", ["pmed1", "pmed2", "pmed5", "pmed6"])
@pytest.mark.parametrize("solver", ["highs"], indirect=True)
def test_published_p_median_optima_are_proved(data_dir, solver, name):
    problem = Problem.load(data_dir / "instances" / f"{name}.npz")
    result = solve(
        problem, method="compact", solver=solver, formulation="projected", time_limit=120, threads=1
    )
    assert result.termination_condition is TerminationCondition.OPTIMAL
    assert result.objective == pytest.approx(problem.best_known, rel=1e-6)


def test_a_path_is_no_problem():
    with pytest.raises(InvalidInputError, match=r"Problem\.load reads a file"):
        solve("problem.npz")


def test_out_of_memory_keeps_the_incumbent(monkeypatch):
    def method(problem, tracker, options):
        tracker.offer(assign(problem, greedy(problem)), "a test")
        raise MemoryError("of the model")

    monkeypatch.setattr(qpm_opt.optimize, "_run", lambda name: method)
    result = solve(random_problem(2), method="heuristic", threads=1)
    assert result.termination_condition is TerminationCondition.MEMORY_LIMIT
    assert result.assignment is not None


@pytest.mark.parametrize("value", [float("inf"), np.int64(3)])
def test_options_that_json_does_not_know_are_recorded_as_text(value, monkeypatch, tmp_path):
    problem = random_problem(2)
    monkeypatch.setattr(
        qpm_opt.optimize, "_run", lambda name: lambda problem, tracker, options: MethodOutcome()
    )
    result = solve(problem, method="compact", threads=1, solver_options={"odd": value})
    result.save(tmp_path / "solution.json", problem)
    assert json.loads((tmp_path / "solution.json").read_text())["options"]["solver_options"] == {
        "odd": str(value)
    }
