"""From a Pyomo model to the matrix model that solvers take, and back to assignments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo
from pyomo.common.gc_manager import PauseGC
from pyomo.repn.plugins.standard_form import LinearStandardFormCompiler
from pyomo.repn.standard_repn import generate_standard_repn
from scipy import sparse

from qpm_opt.assign import assign
from qpm_opt.assignment import Assignment
from qpm_opt.errors import InvalidInputError, UnsupportedFormulationError
from qpm_opt.formulation import Products, similar_candidates, watched_pairs
from qpm_opt.problem import Problem
from qpm_opt.separation import Cut, distinctness_cuts
from qpm_opt.solvers.base import Capability, MatrixModel, Row
from qpm_opt.validation import BoolArray, FloatArray, IntArray

_ABSENT = -1


@dataclass(frozen=True)
class CompiledModel:
    """A matrix model and the Pyomo variable behind each of its columns."""

    matrix: MatrixModel
    variables: tuple[Any, ...]


def compile_model(model: pyo.ConcreteModel) -> CompiledModel:
    """Matrix model of a Pyomo model with linear rows and a linear or quadratic objective.

    A minimisation is turned into the maximisation of the negative. A fixed variable stays a column,
    with both bounds at its value; a variable that no row and no objective uses gets none.

    Raises
    ------
    UnsupportedFormulationError
        If there is not exactly one objective, or something is neither linear nor, in the
        objective, quadratic.
    """
    objectives = list(model.component_data_objects(pyo.Objective, active=True))
    if len(objectives) != 1:
        raise UnsupportedFormulationError(
            f"The model has {len(objectives)} active objectives; exactly one was expected."
        )
    [objective] = objectives
    fixed = [v for family in model.component_objects(pyo.Var) for v in family.values() if v.fixed]
    # The standard form takes linear objectives only and removes fixed variables.
    objective.deactivate()
    for variable in fixed:
        variable.unfix()
    try:
        with PauseGC():
            return _compile(model, objective, {id(v) for v in fixed})
    finally:
        for variable in fixed:
            variable.fix()
        objective.activate()


def _compile(model: pyo.ConcreteModel, objective: Any, fixed: set[int]) -> CompiledModel:
    try:
        form = LinearStandardFormCompiler().write(model, mixed_form=True)
    except ValueError as failure:  # its subclasses differ between the releases of Pyomo
        raise UnsupportedFormulationError(
            f"Only variables and linear rows are supported: {failure}"
        ) from None
    goal = generate_standard_repn(objective.expr, compute_values=True, quadratic=True)
    if goal.nonlinear_expr is not None:
        raise UnsupportedFormulationError(
            "The objective is neither linear nor quadratic; state it with products of two "
            "variables at most."
        )
    position = {id(v): j for j, v in enumerate(form.columns)}
    variables = list(form.columns)
    pairs = [v for pair in goal.quadratic_vars for v in pair]
    for variable in (*goal.linear_vars, *pairs):
        if id(variable) not in position:
            position[id(variable)] = len(variables)
            variables.append(variable)

    def columns_of(used: Iterable[Any]) -> IntArray:
        return np.array([position[id(v)] for v in used], dtype=np.intp)

    sign = 1.0 if objective.sense == pyo.maximize else -1.0
    n_columns = len(variables)
    cost = np.zeros(n_columns)
    np.add.at(cost, columns_of(goal.linear_vars), sign * np.array(goal.linear_coefs, dtype=float))
    quadratic_columns = columns_of(pairs).reshape(-1, 2)
    row_lower, row_upper = _row_sides(form)
    lower, upper, integer = _column_sides(variables, fixed)
    rows = form.A.tocsr()
    return CompiledModel(
        MatrixModel(
            cost=cost,
            offset=sign * float(goal.constant),
            quadratic=(
                quadratic_columns[:, 0].copy(),
                quadratic_columns[:, 1].copy(),
                sign * np.array(goal.quadratic_coefs, dtype=float),
            ),
            matrix=sparse.csr_array(
                (rows.data, rows.indices, rows.indptr), shape=(len(form.rows), n_columns)
            ),
            row_lower=row_lower,
            row_upper=row_upper,
            lower=lower,
            upper=upper,
            integer=integer,
        ),
        tuple(variables),
    )


def _row_sides(form: Any) -> tuple[FloatArray, FloatArray]:
    """Sides of the rows; the standard form marks them -1 (>=), 0 (=) and 1 (<=)."""
    side = np.array([row.bound_type for row in form.rows], dtype=int)
    value = np.array(form.rhs, dtype=float)
    return np.where(side <= 0, value, -np.inf), np.where(side >= 0, value, np.inf)


def _column_sides(
    variables: list[Any], fixed: set[int]
) -> tuple[FloatArray, FloatArray, BoolArray]:
    continuous: dict[int, bool] = {}  # asking the domain each time would take as long as the rest
    integer = np.empty(len(variables), dtype=bool)
    bounds = np.empty((len(variables), 2))
    for j, variable in enumerate(variables):
        domain = id(variable.domain)
        if domain not in continuous:
            continuous[domain] = variable.is_continuous()
            if not (continuous[domain] or variable.is_integer()):
                raise UnsupportedFormulationError(
                    f"The domain of {variable.name} has gaps; only ranges of real or whole numbers "
                    "are supported."
                )
        integer[j] = not continuous[domain]
        bounds[j] = (variable.value,) * 2 if id(variable) in fixed else variable.bounds
    lower, upper = bounds.T
    return (
        np.where(np.isnan(lower), -np.inf, lower),
        np.where(np.isnan(upper), np.inf, upper),
        integer,
    )


@dataclass(frozen=True, eq=False)
class Columns:
    """Where the variables of a problem stand in a compiled model, and the way back.

    Attributes
    ----------
    problem : Problem
    n_columns : int
    selection : ndarray of shape (n_features,)
        Column of s_d; -1 if d is no candidate.
    assignment : ndarray of shape (n_classes, n_features) or None
        Column of W_cd, or -1; None in a projected model.
    theta : ndarray of shape (n_classes,) or None
        Column of theta_c; None in a model with W.
    products : ndarray of shape (n_products,) or None
        Columns of ``s_d s_e`` for :func:`~qpm_opt.formulation.similar_candidates`; None if the
        objective is quadratic.
    shared : ndarray of shape (n_pairs * n_candidates,) or None
        Columns of ``W_cd W_c'd`` for each of :func:`~qpm_opt.formulation.watched_pairs` and each
        candidate, if there are any.
    contrastive : ndarray of shape (n_pairs,) or None
        Columns of the binaries that count contrastive pairs.
    """

    problem: Problem
    n_columns: int
    selection: IntArray
    assignment: IntArray | None
    theta: IntArray | None
    products: IntArray | None
    shared: IntArray | None
    contrastive: IntArray | None

    @classmethod
    def locate(cls, model: pyo.ConcreteModel, compiled: CompiledModel) -> Columns:
        """Columns of a model made by :mod:`qpm_opt.formulation`."""
        problem: Problem = model.problem
        position = {id(v): j for j, v in enumerate(compiled.variables)}

        def columns_of(name: str) -> IntArray | None:
            """Columns of a component's members, in the order in which the model made them."""
            component = model.component(name)
            if component is None:
                return None
            return np.array([position[id(v)] for v in component.values()], dtype=np.intp)

        candidates = np.flatnonzero(problem.candidates)
        selection = np.full(problem.n_features, _ABSENT)
        selection[candidates] = columns_of("s")
        assignment = None
        if (columns := columns_of("W")) is not None:
            assignment = np.full((problem.n_classes, problem.n_features), _ABSENT)
            assignment[:, candidates] = columns.reshape(-1, candidates.size)
        return cls(
            problem=problem,
            n_columns=len(compiled.variables),
            selection=selection,
            assignment=assignment,
            theta=columns_of("theta"),
            products=columns_of("y"),
            shared=columns_of("v"),
            contrastive=columns_of("q"),
        )

    def selected(self, x: FloatArray) -> IntArray:
        """Features selected at an integer point, ascending."""
        return np.flatnonzero(self._chosen(self.selection, x))

    def to_assignment(self, x: FloatArray, *, time_limit: float | None = None) -> Assignment | None:
        """Assignment at an integer point, rounded but not checked.

        For a projected model the exact assignment of the point's selection; None if that
        selection has the wrong size or is proved to have no feasible assignment.

        Raises
        ------
        UndecidedAssignmentError
            For a projected model, as :func:`qpm_opt.assign.assign` with this limit in seconds.
        """
        selection = self._chosen(self.selection, x)
        if self.assignment is not None:
            return Assignment(selection, self._chosen(self.assignment, x))
        if selection.sum() != self.problem.n_selected:
            return None
        return assign(self.problem, np.flatnonzero(selection), time_limit=time_limit)

    def to_point(self, assignment: Assignment) -> FloatArray:
        """The point of an assignment, with products and values of the classes consistent."""
        s, W = assignment.selection, assignment.matrix
        x = np.zeros(self.n_columns)
        present = self.selection >= 0
        x[self.selection[present]] = s[present]
        if self.assignment is not None:
            present = self.assignment >= 0
            x[self.assignment[present]] = W[present]
        if self.theta is not None:
            x[self.theta] = (self.problem.class_similarity * W).sum(axis=1)
        if self.products is not None:
            d, e, _ = similar_candidates(self.problem)
            x[self.products] = s[d] & s[e]
        if self.shared is not None:
            first, second = watched_pairs(self.problem).T
            both = (W[first] & W[second])[:, self.problem.candidates]
            x[self.shared] = both.ravel()
            if self.contrastive is not None:
                x[self.contrastive] = both.sum(axis=1) == self.problem.n_per_class - 1
        return x

    def rows_of(self, cuts: Iterable[Cut]) -> list[Row]:
        """Cuts as rows of the matrix model.

        Raises
        ------
        InvalidInputError
            If a cut has terms in variables that the model lacks.
        """
        return [self._row(cut) for cut in cuts]

    def _row(self, cut: Cut) -> Row:
        parts = [(self.selection[cut.s_features], cut.s_values)]
        if cut.W_values.size:
            table = self._table(self.assignment, "W", cut)
            parts.append((table[cut.W_classes, cut.W_features], cut.W_values))
        if cut.theta_values.size:
            parts.append(
                (self._table(self.theta, "theta", cut)[cut.theta_classes], cut.theta_values)
            )
        columns = np.concatenate([part[0] for part in parts])
        values = np.concatenate([part[1] for part in parts])
        present = columns >= 0
        return Row(columns[present], values[present], cut.upper)

    @staticmethod
    def _table(table: IntArray | None, name: str, cut: Cut) -> IntArray:
        if table is None:
            raise InvalidInputError(
                f"A {cut.kind} cut has terms in {name}, which this model does not have."
            )
        return table

    @staticmethod
    def _chosen(columns: IntArray, x: FloatArray) -> BoolArray:
        return np.where(columns >= 0, x[columns] > 0.5, False)


@dataclass(frozen=True, eq=False)
class DistinctnessSeparator:
    """Lazy distinctness for solvers that ask at integer points (``Separator``); picklable.

    Attributes
    ----------
    assignment : ndarray of shape (n_classes, n_features)
        Column of W_cd, or -1.
    n_per_class : int
    """

    assignment: IntArray
    n_per_class: int

    def __call__(self, x: FloatArray) -> list[Row]:
        """Rows that part equal classes at an integer point."""
        matrix = np.where(self.assignment >= 0, x[self.assignment] > 0.5, False)
        return [
            Row(self.assignment[cut.W_classes, cut.W_features], cut.W_values, cut.upper)
            for cut in distinctness_cuts(matrix, self.n_per_class)
        ]


def matrix_and_columns(model: pyo.ConcreteModel) -> tuple[MatrixModel, Columns]:
    """Matrix model of a model made by :mod:`qpm_opt.formulation`, and where its variables stand.

    Neither keeps the Pyomo model, which is by far larger, alive.
    """
    compiled = compile_model(model)
    return compiled.matrix, Columns.locate(model, compiled)


def products_for(capabilities: Capability) -> Products:
    """How a solver with these capabilities wants the products of selected features."""
    if Capability.QUADRATIC_OBJECTIVE in capabilities:
        return "quadratic"
    return "continuous" if Capability.CONTINUOUS_COLUMNS in capabilities else "binary"
