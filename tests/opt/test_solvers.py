"""One contract for all back ends: random models against enumeration, limits, starts, options."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import optimize

from qpm_opt.errors import (
    InvalidInputError,
    SolverError,
    SolverLicenseError,
    UnsupportedFormulationError,
)
from qpm_opt.result import TerminationCondition
from qpm_opt.solvers import SOLVERS, get_solver, solve_in_child, solver_availability
from qpm_opt.solvers.base import Availability, Capability, MatrixModel, Row, SolveOptions
from tests.conftest import demand
from tests.opt.fake_solvers import AtMost, Stumbling, linear_model, market_split


def with_capability(capability: Capability, *, present: bool = True) -> list[str]:
    return [name for name in SOLVERS if (capability in get_solver(name).capabilities) == present]


@pytest.fixture(params=SOLVERS)
def solver(request) -> str:
    return demand(request.param)


@pytest.fixture(params=with_capability(Capability.QUADRATIC_OBJECTIVE))
def quadratic_solver(request) -> str:
    return demand(request.param)


@pytest.fixture(params=with_capability(Capability.CONTINUOUS_COLUMNS))
def continuous_solver(request) -> str:
    return demand(request.param)


@pytest.fixture
def gurobi() -> str:
    return demand("gurobi")


def random_model(seed: int, *, quadratic: bool = False) -> MatrixModel:
    """Small model with every kind of row, bound and coefficient; about one in eight infeasible."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(2, 7)), int(rng.integers(0, 5))
    lower, upper = np.zeros(n), np.ones(n)
    general = rng.random(n) < 0.25
    lower[general] = rng.integers(-2, 1, general.sum())
    upper[general] = lower[general] + rng.integers(0, 4, general.sum())
    cost = rng.normal(size=n) * 10.0 ** rng.integers(-2, 3)
    matrix = rng.integers(-3, 4, (m, n)).astype(float)
    kind = rng.integers(4, size=m)
    matrix[kind == 1] /= 4
    activity = matrix @ rng.integers(lower, upper + 1)
    activity[rng.random(m) < 0.1] += 5.0
    row_lower, row_upper = activity - rng.integers(0, 3, m), activity + rng.integers(0, 3, m)
    side = rng.integers(3, size=m)
    row_lower[side == 0], row_upper[side == 1] = -np.inf, np.inf
    real = (kind == 2) & (side != 2)  # a real row that is an equation would mean nothing
    matrix[real] = rng.normal(size=(real.sum(), n))
    pairs = [(i, j) for i in range(n) for j in range(i, n) if rng.random() < 0.5]
    products = [(i, j, float(rng.normal())) for i, j in pairs] if quadratic else []
    if quadratic and not products:
        products = [(0, 1, -1.5)]
    return linear_model(
        cost, matrix, row_lower, row_upper, lower, upper,
        offset=float(rng.normal()) * 10, quadratic=products,
    )  # fmt: skip


def enumerate_points(model: MatrixModel) -> np.ndarray:
    """All feasible integer points."""
    ranges = [np.arange(a, b + 1) for a, b in zip(model.lower, model.upper, strict=True)]
    points = np.array(list(itertools.product(*ranges)), dtype=float).reshape(-1, model.n_columns)
    activity = points @ model.matrix.toarray().T
    feasible = (activity >= model.row_lower - 1e-9) & (activity <= model.row_upper + 1e-9)
    return points[feasible.all(axis=1)]


def assert_feasible(model: MatrixModel, x: np.ndarray) -> None:
    assert np.allclose(x[model.integer], np.rint(x[model.integer]), rtol=0, atol=1e-6)
    x = np.where(model.integer, np.rint(x), x)
    activity = model.matrix @ x
    assert (activity >= model.row_lower - 1e-6).all() and (activity <= model.row_upper + 1e-6).all()
    assert (x >= model.lower - 1e-9).all() and (x <= model.upper + 1e-9).all()


def assert_equals_enumeration(name: str, model: MatrixModel, **kwargs) -> None:
    points = enumerate_points(model)
    events = []
    raw = solve_in_child(name, model, SolveOptions(), on_event=events.append, **kwargs)
    assert raw.solver_version
    assert raw.raw_status
    if not len(points):
        assert raw.termination_condition is TerminationCondition.INFEASIBLE
        assert raw.point is None and raw.reported_objective is None
        return
    best = max(map(model.objective, points))
    close = pytest.approx(best, rel=1e-6, abs=1e-6)
    assert raw.termination_condition is TerminationCondition.OPTIMAL
    assert_feasible(model, raw.point)
    assert model.objective(np.rint(raw.point)) == close
    assert raw.reported_objective == close
    assert raw.bound == close and raw.bound >= best - 1e-9 * max(1, abs(best))
    for event in events:
        if event.point is not None:
            assert_feasible(model, event.point)
        assert event.bound is None or event.bound >= best - 1e-7 * max(1, abs(best))


def knapsack(n_columns: int = 200, n_rows: int = 10, seed: int = 0) -> MatrixModel:
    """Multi-dimensional knapsack: points are easy, proofs are not."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(1, 100, (n_rows, n_columns)).astype(float)
    return linear_model(
        rng.random(n_columns) * 50 + 10, weights, -np.inf, weights.sum(axis=1) / 3, 0, 1
    )


@pytest.mark.parametrize("seeds", [range(i, i + 15) for i in range(0, 60, 15)], ids=str)
def test_equals_enumeration(solver, seeds):
    for seed in seeds:
        assert_equals_enumeration(solver, random_model(seed))


@pytest.mark.parametrize("seeds", [range(i, i + 15) for i in range(100, 145, 15)], ids=str)
def test_quadratic_equals_enumeration(quadratic_solver, seeds):
    for seed in seeds:
        assert_equals_enumeration(quadratic_solver, random_model(seed, quadratic=True))


def test_random_models_cover_what_they_should():
    models = [random_model(seed) for seed in range(60)]
    infeasible = sum(not len(enumerate_points(model)) for model in models)
    assert 3 <= infeasible <= 30
    assert any((model.row_lower == model.row_upper).any() for model in models)
    assert any((model.lower < 0).any() for model in models)
    assert any(model.matrix.shape[0] == 0 for model in models)


@pytest.mark.parametrize("integer", [False, [True, False, True, False, True]], ids=["lp", "mip"])
def test_continuous_columns(continuous_solver, integer):
    rng = np.random.default_rng(5)
    weights = rng.random((4, 5))
    model = linear_model(
        rng.random(5), weights, -np.inf, weights.sum(axis=1), 0, 3, integer=integer, offset=1.0
    )
    reference = optimize.milp(
        -model.cost,
        constraints=(weights, model.row_lower, model.row_upper),
        bounds=(model.lower, model.upper),
        integrality=model.integer,
    )
    raw = solve_in_child(continuous_solver, model, SolveOptions())
    assert raw.termination_condition is TerminationCondition.OPTIMAL
    assert_feasible(model, raw.point)
    assert model.objective(raw.point) == pytest.approx(1.0 - reference.fun, abs=1e-6)
    assert raw.bound == pytest.approx(1.0 - reference.fun, abs=1e-6)


def test_fixed_and_constant(solver):
    model = linear_model([0, 0], [[1, 1]], 1, 3, [1, 0], [1, 1], offset=-4.5)
    assert_equals_enumeration(solver, model)


def test_time_limit_without_an_incumbent(solver):
    model, _ = market_split()
    events = []
    raw = solve_in_child(solver, model, SolveOptions(time_limit=1.0), on_event=events.append)
    assert raw.termination_condition is TerminationCondition.TIME_LIMIT
    assert raw.point is None and raw.reported_objective is None
    assert all(event.point is None for event in events)
    assert raw.bound is None or 2.0 < raw.bound < 2.0 + model.cost.sum()


def test_no_time_at_all(solver):
    model, planted = market_split()
    raw = solve_in_child(solver, model, SolveOptions(time_limit=0.0))
    assert raw.termination_condition is TerminationCondition.TIME_LIMIT
    assert raw.point is None and raw.reported_objective is None
    assert raw.bound is None or raw.bound >= model.objective(planted)


def test_a_start_is_used_and_never_worsened(solver):
    model, start = market_split()
    raw = solve_in_child(solver, model, SolveOptions(time_limit=1.0), start=start)
    assert raw.termination_condition is TerminationCondition.TIME_LIMIT
    assert_feasible(model, raw.point)
    assert model.objective(np.rint(raw.point)) >= model.objective(start) - 1e-9
    assert raw.reported_objective == pytest.approx(model.objective(np.rint(raw.point)))
    assert raw.bound >= model.objective(start)


def test_a_quadratic_start_is_used(quadratic_solver):
    linear, start = market_split()
    products = [(i, i + 1, 0.5) for i in range(59)]
    model = linear_model(
        linear.cost, linear.matrix.toarray(), linear.row_lower, linear.row_upper, 0, 1,
        quadratic=products,
    )  # fmt: skip
    raw = solve_in_child(quadratic_solver, model, SolveOptions(time_limit=1.0), start=start)
    assert model.objective(np.rint(raw.point)) >= model.objective(start) - 1e-9


def test_an_infeasible_start_is_dropped(solver):
    model = random_model(3)
    points = enumerate_points(model)
    assert len(points)
    assert_equals_enumeration(solver, model, start=model.upper + 5.0)


def test_no_start_changes_the_optimum(solver):
    # With some of these starts HiGHS 1.16.0 stops at the start and calls it optimal.
    for seed in (124, 137, 161, 190):
        model = random_model(seed)
        for start in enumerate_points(model)[:8]:
            assert_equals_enumeration(solver, model, start=start)


def test_time_limit_with_an_incumbent(solver):
    model = knapsack()
    raw = solve_in_child(solver, model, SolveOptions(time_limit=1.0))
    assert raw.termination_condition is TerminationCondition.TIME_LIMIT
    assert_feasible(model, raw.point)
    assert raw.bound > model.objective(np.rint(raw.point))


def test_a_gap_ends_the_search(solver):
    model = knapsack()
    raw = solve_in_child(solver, model, SolveOptions(gap=0.05, time_limit=60.0))
    assert raw.termination_condition is TerminationCondition.GAP_LIMIT
    objective = model.objective(np.rint(raw.point))
    assert objective < raw.bound <= 1.06 * objective


@pytest.mark.parametrize(
    "name, options, condition",
    [
        ("highs", {"mip_max_nodes": 1}, TerminationCondition.SOLUTION_LIMIT),
        ("gurobi", {"NodeLimit": 1}, TerminationCondition.NODE_LIMIT),
        ("gurobi", {"SolutionLimit": 1}, TerminationCondition.SOLUTION_LIMIT),
        ("scip", {"limits/nodes": 1}, TerminationCondition.NODE_LIMIT),
        ("scip", {"limits/solutions": 1}, TerminationCondition.SOLUTION_LIMIT),
        ("cpsat", {"stop_after_first_solution": True}, TerminationCondition.UNKNOWN),
    ],
)
def test_raw_options_reach_the_solver(name, options, condition):
    raw = solve_in_child(
        demand(name), knapsack(), SolveOptions(time_limit=60.0, solver_options=options)
    )
    assert raw.termination_condition is condition


def test_lists_of_cpsat_reach_it_and_its_refusals_are_told(cpsat):
    options = SolveOptions(threads=2, solver_options={"subsolvers": ["no_such_subsolver"]})
    with pytest.raises(SolverError, match="no_such_subsolver"):
        solve_in_child(cpsat, knapsack(), options)


def test_unknown_raw_options_are_named(solver):
    for options in ({"no_such_option": 1}, {_seed_option(solver): "a word"}):
        (name,) = options
        with pytest.raises(InvalidInputError, match=name):
            solve_in_child(solver, random_model(0), SolveOptions(solver_options=options))


def _seed_option(solver: str) -> str:
    return {
        "highs": "random_seed",
        "cpsat": "random_seed",
        "gurobi": "Seed",
        "scip": "randomization/randomseedshift",
    }[solver]


def test_same_seed_and_one_thread_give_the_same_run(solver):
    options = SolveOptions(seed=7)
    runs = [solve_in_child(solver, knapsack(30, 5), options) for _ in range(2)]
    assert runs[0].point.tolist() == runs[1].point.tolist()
    assert runs[0].node_count == runs[1].node_count
    assert runs[0].termination_condition is TerminationCondition.OPTIMAL


@pytest.mark.parametrize("name", with_capability(Capability.LAZY_ROWS))
def test_lazy_rows_are_honoured(name):
    model = knapsack(12, 2)
    allowed = model.with_rows([Row(np.arange(8), np.ones(8), 2.0)])
    best = max(map(model.objective, enumerate_points(allowed)))
    events = []
    raw = solve_in_child(
        demand(name), model, SolveOptions(), separate=AtMost(8, 2), on_event=events.append
    )
    assert raw.n_lazy_rows > 0
    assert raw.termination_condition is TerminationCondition.OPTIMAL
    assert raw.reported_objective == pytest.approx(best)
    assert raw.bound == pytest.approx(best)
    points = [event.point for event in events if event.point is not None]
    assert points and all(point[:8].sum() <= 2 for point in points)


@pytest.mark.parametrize("name", with_capability(Capability.LAZY_ROWS))
def test_a_bug_in_a_separator_is_not_swallowed(name):
    with pytest.raises(SolverError, match="ZeroDivisionError: a bug"):
        solve_in_child(demand(name), knapsack(12, 2), SolveOptions(), separate=Stumbling())


@pytest.mark.parametrize("name", with_capability(Capability.QUADRATIC_OBJECTIVE, present=False))
def test_products_are_refused_with_advice(name):
    with pytest.raises(UnsupportedFormulationError, match=f"'{name}'.*gurobi or scip.*linearised"):
        solve_in_child(demand(name), random_model(100, quadratic=True), SolveOptions())


@pytest.mark.parametrize("name", with_capability(Capability.CONTINUOUS_COLUMNS, present=False))
def test_continuous_columns_are_refused_with_advice(name):
    model = linear_model([1, 1], [[1, 1]], 0, 1, 0, 1, integer=[True, False])
    with pytest.raises(UnsupportedFormulationError, match=r"1 of 2 are continuous.*highs"):
        solve_in_child(demand(name), model, SolveOptions())


def test_unbounded_columns_are_refused_by_cpsat(cpsat):
    model = linear_model([1, 1], [[1, 1]], 0, 1, 0, [1, np.inf])
    with pytest.raises(UnsupportedFormulationError, match=r"1 of 2 have none.*highs"):
        solve_in_child(cpsat, model, SolveOptions())


@pytest.mark.parametrize("n_columns, quadratic", [(2001, ()), (201, [(0, 1, -1.0)])])
def test_the_limits_of_the_licence_are_explained(gurobi, n_columns, quadratic):
    if solver_availability(gurobi).level is Availability.FULL:
        pytest.skip("the Gurobi licence has no limits")
    model = linear_model(
        np.ones(n_columns), np.zeros((0, n_columns)), 0, 0, 0, 1, quadratic=quadratic
    )
    with pytest.raises(SolverLicenseError, match=f"{n_columns} columns.*2000.*200.*highs"):
        solve_in_child(gurobi, model, SolveOptions())


def test_with_rows_adds_inequalities():
    model = random_model(3)
    more = model.with_rows([Row(np.array([1]), np.array([2.0]), 1.0)])
    expected = enumerate_points(model)
    assert enumerate_points(more).tolist() == expected[2.0 * expected[:, 1] <= 1.0].tolist()
    assert model.with_rows([]) is model
