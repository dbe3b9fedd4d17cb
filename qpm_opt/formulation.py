"""Pyomo models of the problem, for solvers and for export.

Three models share one selection part. *Compact* decides selection s and assignment W together;
*projected* keeps s and one value theta_c per class, bounded by threshold cuts, since for a given s
each class takes its best features; *relaxed* is the root of the paper's iteration. Distinctness
needs more rows than any model can hold, so all leave it to cuts (:mod:`qpm_opt.separation`).

Names in a model are those of the problem: ``s[d]``, ``W[c, d]``, ``theta[c]``, ``y[d, e]`` for the
product ``s_d s_e``, ``v[i, d]`` for ``W_cd W_c'd`` in contrastive pair i and ``q[i]`` for a pair
that counts as contrastive. Features that are no
candidates have no variables. The problem itself is ``model.problem``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyomo.environ as pyo
from pyomo.common.gc_manager import PauseGC
from pyomo.core.expr import LinearExpression, SumExpression

from qpm_opt.errors import InvalidInputError
from qpm_opt.files import replace_on_success
from qpm_opt.pairs import MOST_PAIR_PRODUCTS, can_choose_pairs
from qpm_opt.problem import Problem
from qpm_opt.separation import Cut, threshold_cuts
from qpm_opt.validation import FloatArray, IntArray

#: How a model states the products ``s_d s_e``: in the objective as they are, or by variables in
#: [0, 1], or by binary variables (for solvers without continuous ones).
Products = Literal["quadratic", "continuous", "binary"]


def build_compact(problem: Problem, *, products: Products = "continuous") -> pyo.ConcreteModel:
    """The model with a binary per feature (s) and per class and feature (W).

    Exact but for distinctness, which it does not state.

    Parameters
    ----------
    products : {"quadratic", "continuous", "binary"}
        How the products of selected features are stated; see :data:`Products`.

    Raises
    ------
    InvalidInputError
        If ``products`` is none of these.

    References
    ----------
    QPM, eqs. 1 to 3 and 7, and appendix O; ``W <= s`` replaces the product of W and s there.
    """
    with PauseGC():  # millions of small objects, none of them garbage
        model = _selection_model(problem, products)
        _add_assignment(model)
        model.class_size = pyo.Constraint(
            model.classes,
            rule=lambda m, c: _equals(
                [1.0] * len(m.features), [m.W[c, d] for d in m.features], problem.n_per_class
            ),
        )
        return model


def build_relaxed(problem: Problem, *, products: Products = "continuous") -> pyo.ConcreteModel:
    """The model from which the paper's iteration starts (section 4.1.1).

    The compact model with only the total number of assignments fixed, at ``k n_classes``: single
    classes may have more or fewer than k features.
    """
    with PauseGC():
        model = _selection_model(problem, products)
        _add_assignment(model)
        W = list(model.W.values())
        if W:
            total = problem.n_per_class * problem.n_classes
            model.total_size = pyo.Constraint(rule=lambda m: _equals([1.0] * len(W), W, total))
        return model


def build_projected(problem: Problem, *, products: Products = "continuous") -> pyo.ConcreteModel:
    """The model with a binary per feature (s) and a continuous value per class (theta).

    It starts with one threshold cut a class; with the cuts that
    :func:`~qpm_opt.separation.threshold_cuts` finds added until none is broken it has the
    bound of the compact model with ``n_features + n_classes`` columns. Distinctness, feature use
    and contrastive pairs come in through :func:`~qpm_opt.separation.no_good_cut`.

    theta is continuous whatever ``products`` says: CP-SAT takes the compact model only.
    """
    with PauseGC():
        model = _selection_model(problem, products)
        A = np.sort(problem.class_similarity[:, problem.candidates], axis=1)
        k = problem.n_per_class
        upper = A[:, A.shape[1] - k :].sum(axis=1)
        # No lower bounds: rounding could make them contradict a cut.
        model.theta = pyo.Var(model.classes, bounds=lambda m, c: (None, float(upper[c])))
        _set_objective(model, np.ones(problem.n_classes), list(model.theta.values()))
        even = problem.candidates * (problem.n_selected / problem.candidates.sum())
        add_cuts(model, threshold_cuts(problem, even, np.full(problem.n_classes, np.inf)))
        return model


def add_cuts(model: pyo.ConcreteModel, cuts: Iterable[Cut]) -> None:
    """Add cuts to the constraint list ``model.cuts``.

    Raises
    ------
    InvalidInputError
        If a cut has terms in variables that the model lacks.
    """
    for cut in cuts:
        coefficients: list[float] = []
        variables: list[Any] = []
        for name, indices, values in (
            ("s", cut.s_features.tolist(), cut.s_values),
            ("W", zip(cut.W_classes.tolist(), cut.W_features.tolist(), strict=True), cut.W_values),
            ("theta", cut.theta_classes.tolist(), cut.theta_values),
        ):
            if not values.size:
                continue
            component = model.component(name)
            if component is None:
                raise InvalidInputError(
                    f"A {cut.kind} cut has terms in {name}, which this model does not have; "
                    "use threshold cuts with the projected, distinctness cuts with the compact "
                    "model."
                )
            for index, value in zip(indices, values.tolist(), strict=True):
                if index in component:  # features that are no candidates have no variables
                    coefficients.append(value)
                    variables.append(component[index])
        model.cuts.add(_at_most(coefficients, variables, cut.upper))


def write_model(model: pyo.ConcreteModel, path: str | os.PathLike[str]) -> None:
    """Write a model as an LP or MPS file, by the suffix of ``path``, atomically.

    Raises
    ------
    InvalidInputError
        If the suffix is neither ``.lp`` nor ``.mps``.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".lp", ".mps"):
        raise InvalidInputError(
            f"Cannot write a model to {path}: the suffix is {suffix or 'missing'}; use .lp or .mps."
        )
    with replace_on_success(path) as temporary:
        options = {"symbolic_solver_labels": True}
        model.write(str(temporary), format=suffix[1:], io_options=options)


def similar_candidates(problem: Problem) -> tuple[IntArray, IntArray, FloatArray]:
    """Pairs (d < e) of candidates with a product in the objective, in the order of ``y``, and R."""
    row, col, value = problem.similar_pairs
    usable = problem.candidates[row] & problem.candidates[col]
    return row[usable], col[usable], value[usable]


def _selection_model(problem: Problem, products: Products) -> pyo.ConcreteModel:
    """s, its cardinality, and the products; the objective is still missing."""
    if products not in get_args(Products):
        raise InvalidInputError(
            f"products is {products!r}; expected one of {', '.join(get_args(Products))}."
        )
    model = pyo.ConcreteModel(name="qpm")
    model.problem = problem
    model.features = pyo.Set(initialize=np.flatnonzero(problem.candidates).tolist())
    model.classes = pyo.RangeSet(0, problem.n_classes - 1)
    model.s = pyo.Var(model.features, domain=pyo.Binary)
    model.selection_size = pyo.Constraint(
        rule=lambda m: _equals([1.0] * len(m.s), list(m.s.values()), problem.n_selected)
    )
    if products != "quadratic":
        _add_products(model, pyo.Binary if products == "binary" else pyo.UnitInterval)
    model.cuts = pyo.ConstraintList()
    return model


def _add_products(model: pyo.ConcreteModel, domain: Any) -> None:
    """y and McCormick's inequalities, only the side that the objective presses against."""
    row, col, similarity = similar_candidates(model.problem)
    pairs = list(zip(row.tolist(), col.tolist(), strict=True))
    model.y = pyo.Var(pairs, domain=domain)
    signed = list(zip(pairs, (similarity > 0).tolist(), strict=True))
    model.product_lower = pyo.Constraint(
        [pair for pair, penalised in signed if penalised],
        rule=lambda m, d, e: _at_most([1.0, 1.0, -1.0], [m.s[d], m.s[e], m.y[d, e]], 1.0),
    )
    model.product_upper = pyo.Constraint(
        [(d, e, end) for (d, e), penalised in signed if not penalised for end in (d, e)],
        rule=lambda m, d, e, end: _at_most([1.0, -1.0], [m.y[d, e], m.s[end]], 0.0),
    )


def _add_assignment(model: pyo.ConcreteModel) -> None:
    """W, its link to s, and what the problem demands of W beyond the sizes of the classes."""
    problem: Problem = model.problem
    model.W = pyo.Var(model.classes, model.features, domain=pyo.Binary)
    model.selected_only = pyo.Constraint(
        model.classes,
        model.features,
        rule=lambda m, c, d: _at_most([1.0, -1.0], [m.W[c, d], m.s[d]], 0.0),
    )
    if least := problem.min_classes_per_feature:
        coefficients = [-1.0] * problem.n_classes + [float(least)]
        model.feature_use = pyo.Constraint(
            model.features,
            rule=lambda m, d: _at_most(
                coefficients, [*(m.W[c, d] for c in m.classes), m.s[d]], 0.0
            ),
        )
    n_features = int(problem.candidates.sum())
    if problem.min_contrastive_pairs and not can_choose_pairs(problem.n_classes, n_features):
        raise InvalidInputError(
            f"min_contrastive_pairs of {problem.n_classes} classes and "
            f"{n_features} features take more than {MOST_PAIR_PRODUCTS} products in a model; use "
            "the method exact or heuristic."
        )
    if len(watched_pairs(problem)):
        _add_contrastive_pairs(model)
    A = problem.class_similarity[:, problem.candidates]
    _set_objective(model, A.ravel(), list(model.W.values()))


def watched_pairs(problem: Problem) -> IntArray:
    """Pairs of classes whose products ``v`` are in a model: the contrastive ones, or all.

    All are if the optimiser is to choose which are contrastive (``min_contrastive_pairs``).
    """
    if problem.min_contrastive_pairs:
        return np.stack(np.triu_indices(problem.n_classes, 1), axis=1)
    return problem.pairs


def _add_contrastive_pairs(model: pyo.ConcreteModel) -> None:
    """Products of the watched pairs, what the listed ones share, and how many share as much."""
    problem: Problem = model.problem
    pairs, k = watched_pairs(problem).tolist(), problem.n_per_class
    place = {tuple(pair): i for i, pair in enumerate(pairs)}
    listed = [place[tuple(pair)] for pair in problem.pairs.tolist()]
    model.contrastive_pairs = pyo.RangeSet(0, len(pairs) - 1)
    model.v = pyo.Var(model.contrastive_pairs, model.features, domain=pyo.Binary)
    model.shared_upper = pyo.Constraint(
        model.contrastive_pairs,
        model.features,
        (0, 1),
        rule=lambda m, i, d, end: _at_most([1.0, -1.0], [m.v[i, d], m.W[pairs[i][end], d]], 0.0),
    )
    model.shared_lower = pyo.Constraint(
        model.contrastive_pairs,
        model.features,
        rule=lambda m, i, d: _at_most(
            [1.0, 1.0, -1.0], [m.W[pairs[i][0], d], m.W[pairs[i][1], d], m.v[i, d]], 1.0
        ),
    )
    ones = [1.0] * len(model.features)
    model.shared_size = pyo.Constraint(
        listed,
        rule=lambda m, i: _equals(ones, [m.v[i, d] for d in m.features], k - 1),
    )
    if not problem.min_contrastive_pairs:
        return
    model.q = pyo.Var(model.contrastive_pairs, domain=pyo.Binary)
    # q = 1 only if k - 1 are shared: no fewer, and no more.
    model.shared_least = pyo.Constraint(
        model.contrastive_pairs,
        rule=lambda m, i: _at_most(
            [k - 1.0, *(-one for one in ones)], [m.q[i], *(m.v[i, d] for d in m.features)], 0.0
        ),
    )
    model.shared_most = pyo.Constraint(
        model.contrastive_pairs,
        rule=lambda m, i: _at_most(
            [1.0, *ones], [m.q[i], *(m.v[i, d] for d in m.features)], float(k)
        ),
    )
    model.enough_pairs = pyo.Constraint(
        rule=lambda m: _at_most(
            [-1.0] * len(pairs), list(m.q.values()), -float(problem.min_contrastive_pairs)
        )
    )


def _set_objective(model: pyo.ConcreteModel, values: FloatArray, variables: list[Any]) -> None:
    """Values of the assignment, the bias and the similarity of what is selected."""
    problem: Problem = model.problem
    row, col, similarity = similar_candidates(problem)
    coefficients = [*problem.bias[problem.candidates].tolist(), *values.tolist()]
    variables = [*model.s.values(), *variables]
    quadratic = []
    if model.component("y") is None:
        s, terms = model.s, zip(row.tolist(), col.tolist(), similarity.tolist(), strict=True)
        quadratic = [-r * s[d] * s[e] for d, e, r in terms]
    else:
        coefficients += (-similarity).tolist()
        variables += model.y.values()
    linear = LinearExpression(linear_coefs=coefficients, linear_vars=variables)
    model.objective = pyo.Objective(expr=SumExpression([linear, *quadratic]), sense=pyo.maximize)


# Rows as (lower, body, upper) with a ready-made linear body: several times faster to build and to
# compile than the same rows written with operators.


def _at_most(
    coefficients: list[float], variables: list[Any], upper: float
) -> tuple[None, LinearExpression, float]:
    return None, LinearExpression(linear_coefs=coefficients, linear_vars=variables), upper


def _equals(
    coefficients: list[float], variables: list[Any], value: float
) -> tuple[float, LinearExpression, float]:
    return value, LinearExpression(linear_coefs=coefficients, linear_vars=variables), value
