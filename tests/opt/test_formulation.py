"""The models against the definition of the problem, enumeration and an independent solver."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from math import comb

import numpy as np
import pyomo.environ as pyo
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from qpm_opt.assignment import Assignment, UndecidedAssignmentError
from qpm_opt.errors import InvalidInputError, UnsupportedFormulationError
from qpm_opt.formulation import (
    add_cuts,
    build_compact,
    build_projected,
    build_relaxed,
    write_model,
)
from qpm_opt.problem import Problem
from qpm_opt.result import TerminationCondition
from qpm_opt.separation import distinctness_cuts, no_good_cut, threshold_cuts
from qpm_opt.solvers import solve_in_child, solver_availability
from qpm_opt.solvers.base import SolveOptions
from qpm_opt.solvers.compile import Columns, DistinctnessSeparator, compile_model
from tests import oracle
from tests.conftest import random_problem

BUILDERS = {"compact": build_compact, "projected": build_projected, "relaxed": build_relaxed}
PRODUCTS = ("quadratic", "continuous", "binary")


def compiled(model):
    result = compile_model(model)
    return result.matrix, Columns.locate(model, result)


def solve(matrix, *, integer=True):
    """Optimum and point by scipy; (None, None) if infeasible."""
    assert not matrix.is_quadratic
    result = milp(
        -matrix.cost,
        constraints=LinearConstraint(matrix.matrix, matrix.row_lower, matrix.row_upper),
        bounds=Bounds(matrix.lower, matrix.upper),
        integrality=matrix.integer.astype(int) * integer,
        options={"mip_rel_gap": 0.0},
    )
    return (None, None) if result.x is None else (matrix.offset - result.fun, result.x)


def keeps_rows(matrix, x):
    value = matrix.matrix @ x
    rows = (value >= matrix.row_lower - 1e-9) & (value <= matrix.row_upper + 1e-9)
    return rows.all() and (x >= matrix.lower - 1e-9).all() and (x <= matrix.upper + 1e-9).all()


def constrained_problem(seed, **fixed):
    """A random problem, by turns with feature use or contrastive pairs demanded."""
    plain = random_problem(seed, **fixed)
    p, k, n_classes = plain.n_selected, plain.n_per_class, plain.n_classes
    if seed % 3 == 1 and n_classes:
        most = min(n_classes, k * n_classes // p)
        return random_problem(seed, min_classes_per_feature=most, **fixed)
    if seed % 3 == 2 and n_classes > 1 and k < p:
        if seed % 2:
            return random_problem(seed, min_contrastive_pairs=1, **fixed)
        return random_problem(seed, contrastive_pairs=np.array([[0, 1]]), **fixed)
    return plain


def random_assignment(problem, rng, *, break_sizes=False):
    """Selection of p candidates and classes of k selected features, or of any sizes."""
    selected = rng.choice(np.flatnonzero(problem.candidates), problem.n_selected, replace=False)
    k = problem.n_per_class
    sets = [
        rng.choice(selected, rng.integers(len(selected) + 1) if break_sizes else k, replace=False)
        for _ in range(problem.n_classes)
    ]
    return Assignment.from_indices(selected, sets, n_features=problem.n_features)


@pytest.mark.parametrize("products", PRODUCTS)
@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("seed", range(20))
def test_objective_and_rows_agree_with_the_problem(seed, kind, products):
    problem = constrained_problem(seed)
    matrix, columns = compiled(BUILDERS[kind](problem, products=products))
    rng = np.random.default_rng(seed)
    for trial in range(20):
        assignment = random_assignment(problem, rng, break_sizes=trial % 2 and kind != "projected")
        x = columns.to_point(assignment)
        assert matrix.objective(x) == pytest.approx(problem.objective(assignment), abs=1e-9)
        broken = {violation.name for violation in problem.violations(assignment)} - {"distinct"}
        if kind == "projected":  # decides the selection only
            assert keeps_rows(matrix, x)
            continue
        if kind == "relaxed":
            total = assignment.matrix.sum() == problem.n_per_class * problem.n_classes
            broken = broken - {"class_size"} | (set() if total else {"class_size"})
        assert keeps_rows(matrix, x) == (not broken)
        back = columns.to_assignment(x)
        assert (back.selection == assignment.selection).all()
        assert (back.matrix == assignment.matrix).all()


def test_unselected_features_and_wrong_counts_break_rows():
    problem = random_problem(4, n_selected=3, n_per_class=2, distinct=False, candidate=None)
    matrix, columns = compiled(build_compact(problem))
    rng = np.random.default_rng(0)
    good = random_assignment(problem, rng)
    assert keeps_rows(matrix, columns.to_point(good))
    outside = np.flatnonzero(~good.selection)[0]
    W = good.matrix.copy()
    W[0, good.class_features(0)[0]], W[0, outside] = False, True
    assert not keeps_rows(matrix, columns.to_point(Assignment(good.selection, W)))
    more = good.selection.copy()
    more[outside] = True
    assert not keeps_rows(matrix, columns.to_point(Assignment(more, good.matrix)))


@pytest.mark.parametrize("products", ["continuous", "binary"])
@pytest.mark.parametrize("seed", range(60))
def test_compact_optimum_is_the_oracles(seed, products):
    problem = constrained_problem(seed, distinct=False)
    matrix, columns = compiled(build_compact(problem, products=products))
    assert matrix.integer.all() == (products == "binary" or not len(problem.similar_pairs[0]))
    value, x = solve(matrix)
    expected = oracle.optimum(problem)
    if expected is None:
        assert value is None
        return
    assert value == pytest.approx(expected)
    assignment = columns.to_assignment(x)
    assert not problem.violations(assignment)
    assert problem.objective(assignment) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(60))
def test_compact_with_distinctness_cuts_is_exact(seed):
    problem = constrained_problem(seed)
    matrix, columns = compiled(build_compact(problem))
    value, x = solve(matrix)
    while problem.distinct and x is not None:
        cuts = distinctness_cuts(columns.to_assignment(x).matrix, problem.n_per_class)
        if not cuts:
            break
        matrix = matrix.with_rows(columns.rows_of(cuts))
        value, x = solve(matrix)
    assert value == pytest.approx(oracle.optimum(problem))


@pytest.mark.parametrize("seed", range(60))
def test_projected_with_its_cuts_is_exact(seed):
    problem = constrained_problem(seed)
    matrix, columns = compiled(build_projected(problem))
    while True:
        value, x = solve(matrix)
        if x is None:
            break
        s, theta = np.where(columns.selection >= 0, x[columns.selection], 0), x[columns.theta]
        cuts = threshold_cuts(problem, np.round(s), theta)
        if not cuts and problem.n_classes:
            exact = columns.to_assignment(x)
            worth = None if exact is None else problem.objective_parts(exact).assignment
            if worth is None or theta.sum() > worth + 1e-6:
                cuts = [no_good_cut(problem, np.flatnonzero(s > 0.5), worth)]
        if not cuts:
            break
        matrix = matrix.with_rows(columns.rows_of(cuts))
    assert value == pytest.approx(oracle.optimum(problem))


def test_a_projected_point_is_assigned_within_the_time():
    problem = Problem(np.ones((3, 3)), np.zeros((3, 3)), n_selected=3, n_per_class=1)
    matrix, columns = compiled(build_projected(problem))
    x = np.ones(matrix.n_columns)
    with pytest.raises(UndecidedAssignmentError):
        columns.to_assignment(x, time_limit=0.0)
    assert problem.violations(columns.to_assignment(x)) == ()


@pytest.mark.parametrize("solver", ["highs", "scip", "gurobi"])
def test_projected_is_feasible_at_any_scale(solver):
    """All features must be selected: theta has one value, on which rounding makes cuts disagree."""
    if not solver_availability(solver).level:
        pytest.skip(f"{solver}: {solver_availability(solver).reason}")
    for seed in range(10):
        A = 1e12 * np.random.default_rng(seed).normal(size=(6, 9))
        problem = Problem(A, np.zeros((9, 9)), n_selected=9, n_per_class=9, distinct=False)
        matrix, columns = compiled(build_projected(problem))
        assert (matrix.lower[columns.theta] == -np.inf).all()
        raw = solve_in_child(solver, matrix, SolveOptions())
        assert raw.termination_condition is TerminationCondition.OPTIMAL
        assert raw.reported_objective == pytest.approx(A.sum(), rel=1e-9)


@pytest.mark.parametrize("seed", range(25))
def test_projected_bound_is_that_of_the_compact_model(seed):
    rng = np.random.default_rng(seed)
    n_classes, n_features = 12, 25
    R = np.triu(rng.random((n_features, n_features)) * (rng.random((n_features,) * 2) < 0.3), 1)
    problem = Problem(
        rng.normal(size=(n_classes, n_features)),
        R + R.T,
        rng.normal(size=n_features),
        n_selected=6,
        n_per_class=3,
        candidate=rng.random(n_features) < 0.9,
    )
    compact, _ = solve(compiled(build_compact(problem))[0], integer=False)
    matrix, columns = compiled(build_projected(problem))
    for _ in range(100):
        projected, x = solve(matrix, integer=False)
        assert projected >= compact - 1e-6
        s = np.where(columns.selection >= 0, x[columns.selection], 0)
        cuts = threshold_cuts(problem, s, x[columns.theta], tolerance=1e-9)
        if not cuts:
            break
        matrix = matrix.with_rows(columns.rows_of(cuts))
    assert projected == pytest.approx(compact, abs=1e-6)


def test_cuts_in_the_model_and_in_the_matrix_are_the_same():
    problem = random_problem(2, n_selected=3, n_per_class=2, distinct=False)
    even = problem.candidates * (3 / problem.candidates.sum())
    inf = np.full(problem.n_classes, np.inf)
    cases = [
        (build_projected, threshold_cuts(problem, np.roll(even, 1) * problem.candidates, inf)),
        (build_compact, distinctness_cuts(np.arange(problem.n_features) < [[2]] * 3, 2)),
    ]
    for build, cuts in cases:
        model = build(problem)
        matrix, columns = compiled(model)
        widened = matrix.with_rows(columns.rows_of(cuts))
        add_cuts(model, cuts)
        again, _ = compiled(model)
        assert again.matrix.shape == widened.matrix.shape
        assert len(cuts) == again.matrix.shape[0] - matrix.matrix.shape[0] > 0
        rng = np.random.default_rng(0)
        x = rng.random(matrix.n_columns)
        slack = [np.sort(m.row_upper - m.matrix @ x)[:-1] for m in (again, widened)]
        assert slack[0] == pytest.approx(slack[1])


def test_cuts_in_variables_that_the_model_lacks_are_refused():
    problem = random_problem(2, n_selected=3, n_per_class=2, distinct=False)
    W = np.arange(problem.n_features) < [[2]] * problem.n_classes
    cuts = distinctness_cuts(W, 2)
    assert cuts
    model = build_projected(problem)
    _, columns = compiled(model)
    with pytest.raises(InvalidInputError, match="terms in W"):
        add_cuts(model, cuts)
    with pytest.raises(InvalidInputError, match="terms in W"):
        columns.rows_of(cuts)


def test_separator_survives_pickling_and_parts_equal_classes():
    A = np.tile(np.arange(4.0), (3, 1))
    problem = Problem(A, np.zeros((4, 4)), n_selected=3, n_per_class=2)
    matrix, columns = compiled(build_compact(problem))
    separator = pickle.loads(
        pickle.dumps(DistinctnessSeparator(columns.assignment, problem.n_per_class))
    )
    _, x = solve(matrix)
    rows = separator(x)
    assert rows
    assert all(row.values @ x[row.columns] > row.upper for row in rows)
    while rows:
        matrix = matrix.with_rows(rows)
        _, x = solve(matrix)
        rows = separator(x)
    assert not problem.violations(columns.to_assignment(x))


def test_projected_point_of_the_wrong_size_has_no_assignment():
    problem = random_problem(2, n_selected=3, n_per_class=2, distinct=False)
    _, columns = compiled(build_projected(problem))
    assert columns.to_assignment(np.zeros(columns.n_columns)) is None


@pytest.mark.parametrize("build", BUILDERS.values())
def test_unknown_products_are_refused(build):
    with pytest.raises(InvalidInputError, match="quadratic, continuous, binary"):
        build(random_problem(0), products="cubic")


READ_BACK = """
import sys, highspy
solver = highspy.Highs()
solver.silent()
assert solver.readModel(sys.argv[1]) == highspy.HighsStatus.kOk
solver.setOptionValue("mip_rel_gap", 0.0)
solver.run()
print(solver.getInfo().objective_function_value, file=sys.stderr)
"""


@pytest.mark.parametrize("suffix", [".lp", ".mps"])
@pytest.mark.parametrize("kind", BUILDERS)
def test_exported_files_have_the_same_optimum(tmp_path, kind, suffix):
    problem = random_problem(7, n_selected=3, n_per_class=2, distinct=False)
    model = BUILDERS[kind](problem)
    path = tmp_path / f"model{suffix}"
    write_model(model, path)
    reading = subprocess.run(
        [sys.executable, "-c", READ_BACK, str(path)], capture_output=True, text=True, check=True
    )
    value, _ = solve(compiled(model)[0])
    assert float(reading.stderr.split()[-1]) == pytest.approx(value)
    assert "s(0)" in path.read_text()


@pytest.mark.skipif(not find_spec("pyscipopt"), reason="only SCIP reads these; it is missing")
@pytest.mark.parametrize("suffix", [".lp", ".mps"])
def test_quadratic_objective_is_exported(tmp_path, suffix):
    problem = random_problem(6, n_selected=3, n_per_class=2, distinct=False)
    assert len(problem.similar_pairs[0])
    path = tmp_path / f"model{suffix}"
    write_model(build_compact(problem, products="quadratic"), path)
    code = (
        "import sys, pyscipopt; m = pyscipopt.Model(); m.hideOutput(); "
        "m.readProblem(sys.argv[1]); m.optimize(); print(m.getObjVal(), file=sys.stderr)"
    )
    reading = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert float(reading.stderr.split()[-1]) == pytest.approx(oracle.optimum(problem))


@pytest.mark.parametrize("name", ["model.txt", "model"])
def test_other_suffixes_are_refused(tmp_path, name):
    with pytest.raises(InvalidInputError, match=r"use \.lp or \.mps"):
        write_model(build_compact(random_problem(0)), tmp_path / name)
    assert not list(tmp_path.iterdir())


def general_model(rng):
    """A Pyomo model with everything the compiler claims to take, written with operators."""
    model = pyo.ConcreteModel()
    model.x = pyo.Var(range(4), bounds=(-2, 3))
    model.z = pyo.Var(range(3), domain=pyo.Integers, bounds=(0, 4))
    model.free = pyo.Var(initialize=0.0)  # no column if its coefficient happens to be 0
    model.idle = pyo.Var()
    model.x[1].setub(None)
    x, z = model.x, model.z
    a = np.round(rng.normal(size=12), 2).tolist()
    model.rows = pyo.ConstraintList()
    model.rows.add(a[0] * x[0] + a[1] * z[0] + 1.5 <= a[2] * x[1] + 4)
    model.rows.add(pyo.inequality(-3, a[3] * x[2] - z[1], 5))
    model.rows.add(x[3] + a[4] * x[0] + 2 == a[5])
    model.rows.add(z[2] >= a[6] * x[1])
    expression = (
        a[7] * x[0] + 3 + a[8] * model.free + a[9] * (z[0] + 1) * (x[2] - 2) + a[10] * z[1] ** 2
    )
    model.goal = pyo.Objective(expr=expression, sense=pyo.maximize)
    return model


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.booleans())
def test_compiled_model_evaluates_like_the_pyomo_model(seed, minimise, fix):
    rng = np.random.default_rng(seed)
    model = general_model(rng)
    if minimise:
        model.goal.sense = pyo.minimize
    if fix:
        model.x[2].fix(1.25)
        model.z[1].fix(2)
    result = compile_model(model)
    assert model.goal.active and model.x[2].fixed == model.z[1].fixed == fix
    matrix, variables = result.matrix, result.variables
    assert not any(v is model.idle for v in variables)
    point = rng.normal(size=matrix.n_columns)
    if fix:
        for j, variable in enumerate(variables):
            if variable.fixed:
                assert matrix.lower[j] == matrix.upper[j] == variable.value
                point[j] = variable.value
    for variable, value in zip(variables, point, strict=True):
        variable.set_value(value, skip_validation=True)
    sign = -1 if minimise else 1
    assert matrix.objective(point) == pytest.approx(sign * pyo.value(model.goal.expr))
    wanted = sorted(
        slack
        for row in model.rows.values()
        for slack in (
            pyo.value(row.upper - row.body) if row.has_ub() else np.inf,
            pyo.value(row.body - row.lower) if row.has_lb() else np.inf,
        )
        if slack < np.inf
    )
    body = matrix.matrix @ point
    slacks = np.concatenate([matrix.row_upper - body, body - matrix.row_lower])
    assert np.sort(slacks[np.isfinite(slacks)]) == pytest.approx(wanted)
    for j, variable in enumerate(variables):
        assert matrix.integer[j] == variable.is_integer()
        if not variable.fixed:
            lower, upper = variable.bounds
            assert matrix.lower[j] == (-np.inf if lower is None else lower)
            assert matrix.upper[j] == (np.inf if upper is None else upper)


def test_fixed_variables_are_respected():
    problem = random_problem(5, n_selected=3, n_per_class=2, distinct=False, candidate=None)
    model = build_compact(problem)
    model.s[0].fix(1)
    model.s[1].fix(0)
    matrix, columns = compiled(model)
    value, x = solve(matrix)
    chosen = columns.to_assignment(x).selection
    assert chosen[0] and not chosen[1]
    free = replace(matrix, lower=np.zeros_like(matrix.lower), upper=np.ones_like(matrix.upper))
    assert solve(free)[0] == pytest.approx(oracle.optimum(problem))
    assert value <= oracle.optimum(problem) + 1e-9


@pytest.mark.parametrize(
    "defect", ["no objective", "two objectives", "cubic", "product row", "gaps", "sos"]
)
def test_what_cannot_be_compiled_is_refused(defect):
    model = general_model(np.random.default_rng(0))
    if defect == "no objective":
        model.goal.deactivate()
    elif defect == "two objectives":
        model.other = pyo.Objective(expr=model.x[0])
    elif defect == "cubic":
        model.goal.expr = model.x[0] * model.x[1] * model.z[0]
    elif defect == "product row":
        model.rows.add(model.x[0] * model.x[1] <= 1)
    elif defect == "gaps":
        model.z[0].domain = pyo.Set(initialize=[0, 2, 3])
    else:
        model.sos = pyo.SOSConstraint(var=model.x, sos=1)
    with pytest.raises(UnsupportedFormulationError):
        compile_model(model)
    assert model.goal.active == (defect != "no objective")


def test_as_many_classes_as_there_are_sets():
    """C = comb(p, k): every set is used, whatever the cuts have to go through."""
    p, k = 4, 2
    A = np.zeros((comb(p, k), 5))
    problem = Problem(A, np.zeros((5, 5)), n_selected=p, n_per_class=k)
    matrix, columns = compiled(build_compact(problem))
    separator = DistinctnessSeparator(columns.assignment, k)
    _, x = solve(matrix)
    while rows := separator(x):
        matrix = matrix.with_rows(rows)
        _, x = solve(matrix)
    assert not problem.violations(columns.to_assignment(x))


def test_no_model_of_millions_of_products():
    problem = Problem(
        np.zeros((100, 200)),
        np.zeros((200, 200)),
        n_selected=50,
        n_per_class=5,
        min_contrastive_pairs=1,
    )
    with pytest.raises(InvalidInputError, match=r"use the method exact or heuristic"):
        build_compact(problem)
    pairs = replace(problem, min_contrastive_pairs=0, contrastive_pairs=[(0, 1)])
    build_compact(pairs)
