"""CP-SAT's integers: coefficients of every size and shape, judged in exact arithmetic."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import sparse

from qpm_opt.errors import UnsupportedFormulationError
from qpm_opt.result import TerminationCondition
from qpm_opt.solvers import scaling, solve_in_child
from qpm_opt.solvers.base import MatrixModel, SolveOptions
from qpm_opt.solvers.scaling import integer_bounds, integer_objective, integer_rows
from tests.conftest import demand
from tests.opt.fake_solvers import linear_model

awkward = st.one_of(
    st.floats(-1e6, 1e6, allow_nan=False),
    st.floats(-1e-6, 1e-6, allow_nan=False),
    st.sampled_from([0.0, 0.1, -0.3, 1 / 3, 0.57, 1e-9, 123456.789, -7.0]),
    st.integers(-1000, 1000).map(float),
)


@st.composite
def awkward_models(draw, n_rows=2):
    n = draw(st.integers(1, 5))
    vector = st.lists(awkward, min_size=n, max_size=n)
    lower = np.array(draw(st.lists(st.integers(-2, 1), min_size=n, max_size=n)), dtype=float)
    upper = lower + draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    rows = np.array(draw(st.lists(vector, min_size=n_rows, max_size=n_rows))).reshape(-1, n)
    sides = np.sort(draw(st.lists(st.tuples(awkward, awkward), min_size=n_rows, max_size=n_rows)))
    sides = np.asarray(sides, dtype=float).reshape(-1, 2)
    free = np.array(draw(st.lists(st.integers(0, 2), min_size=n_rows, max_size=n_rows)))
    below, above = (
        np.where(free == 0, -np.inf, sides[:, 0]),
        np.where(free == 1, np.inf, sides[:, 1]),
    )
    return linear_model(draw(vector), rows, below, above, lower, upper, offset=draw(awkward))


def exact(values, point) -> Fraction:
    pairs = zip(np.asarray(values).tolist(), np.asarray(point).tolist(), strict=True)
    return sum((Fraction(a) * Fraction(b) for a, b in pairs), Fraction(0))


def grid(model: MatrixModel) -> list[tuple[float, ...]]:
    return list(
        itertools.product(
            *(np.arange(a, b + 1) for a, b in zip(model.lower, model.upper, strict=True))
        )
    )


@settings(max_examples=100, deadline=None)
@given(awkward_models(n_rows=0))
def test_the_integer_objective_is_never_below_the_true_one(model):
    lower, upper = integer_bounds(model)
    scaled = integer_objective(model.cost, model.offset, lower, upper)
    excess = Fraction(float((upper - lower).sum())) / Fraction(scaled.scale)
    for point in grid(model):
        true = Fraction(model.offset) + exact(model.cost, point)
        claim = Fraction(scaled.constant) + Fraction(
            int(scaled.coefficients @ (np.array(point) - lower).astype(np.int64))
        ) / Fraction(scaled.scale)
        slack = Fraction(scaled.slack)
        assert -slack <= claim - true <= excess + slack


@settings(max_examples=100, deadline=None)
@given(awkward_models(n_rows=0))
def test_coarse_coefficients_are_rounded_up(model):
    """So few units that rounding the wrong way shows far beyond the slack for float64."""
    lower, upper = integer_bounds(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling, "_ACTIVITY", 64.0)
        scaled = integer_objective(model.cost, model.offset, lower, upper)
    for point in grid(model):
        true = Fraction(model.offset) + exact(model.cost, point)
        units = int(scaled.coefficients @ (np.array(point) - lower).astype(np.int64))
        claim = Fraction(scaled.constant) + Fraction(units) / Fraction(scaled.scale)
        assert claim - true >= -Fraction(scaled.slack)


def test_the_coarse_objective_is_known_to_be_rounded():
    """The test above would be empty if nothing were rounded."""
    bounds = np.zeros(3, dtype=np.int64), np.ones(3, dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling, "_ACTIVITY", 64.0)
        scaled = integer_objective(np.array([np.pi, -np.e, 1.0]), 0.0, *bounds)
    assert scaled.scale == 8.0
    assert scaled.coefficients.tolist() == [26, -21, 8]  # 25.13, -21.75 and 8
    assert scaled.slack < 1e-12 / scaled.scale


def test_the_integer_objective_is_exact_where_it_can_be():
    bounds = np.zeros(3, dtype=np.int64), np.ones(3, dtype=np.int64)
    scaled = integer_objective(np.array([0.1, -0.57, 3.0]), 0.0, *bounds)
    assert (scaled.scale, scaled.coefficients.tolist()) == (100.0, [10, -57, 300])
    scaled = integer_objective(np.array([4.0, -5.0, 1e9]), 0.0, *bounds)
    assert (scaled.scale, scaled.coefficients.tolist()) == (1.0, [4, -5, 10**9])
    scaled = integer_objective(np.array([np.pi, -np.e, 0.0]), 0.0, *bounds)
    assert scaled.scale >= 2.0**49
    assert np.abs(scaled.coefficients).sum() <= 2**54


@settings(max_examples=200, deadline=None)
@given(awkward_models())
def test_integer_rows_cut_off_no_feasible_point(model):
    lower, upper = integer_bounds(model)
    rows = integer_rows(model, lower, upper)
    integer = sparse.csr_array(
        (rows.values, rows.indices, rows.indptr), shape=(rows.lower.size, model.n_columns)
    ).toarray()
    dense = model.matrix.toarray()
    for point in grid(model):
        y = [int(v) for v in np.array(point) - lower]
        held = all(
            low <= sum(a * v for a, v in zip(row, y, strict=True)) <= high
            for row, low, high in zip(
                integer.tolist(), rows.lower.tolist(), rows.upper.tolist(), strict=True
            )
        )
        activity = [exact(row, point) for row in dense]
        sides = list(zip(activity, model.row_lower, model.row_upper, strict=True))
        if all(low <= value <= high for value, low, high in sides):
            assert held
        scale = [1e-8 * (1.0 + abs(row) @ np.maximum(abs(lower), abs(upper))) for row in dense]
        if held:  # and what is let through breaks a row by no more than rounding
            for (value, low, high), tolerance in zip(sides, scale, strict=True):
                assert low - tolerance <= value <= high + tolerance


def test_rational_rows_stay_exact():
    model = linear_model(
        [1, 1], [[0.5, 0.25], [1 / 3, 1 / 7], [0.1, 0.2]], [0.75, -np.inf, 0.3], [0.75, 1 / 3, 0.3],
        0, 3,
    )  # fmt: skip
    rows = integer_rows(model, *integer_bounds(model))
    values = sparse.csr_array((rows.values, rows.indices, rows.indptr), shape=(3, 2))
    assert values.toarray().tolist() == [[2, 1], [7, 3], [1, 2]]
    assert rows.upper.tolist() == [3, 7, 3]
    assert rows.lower.tolist()[::2] == [3, 3]


def test_coefficients_of_real_rows_are_rounded_to_the_side_that_relaxes():
    small = np.array([np.pi, -np.e]) / 1000  # too many bits beside the 1
    model = linear_model([1, 1, 1], [[1, *small]], 0.5, 1.5, 0, 1)
    rows = integer_rows(model, *integer_bounds(model))
    values = sparse.csr_array((rows.values, rows.indices, rows.indptr), shape=(2, 3)).toarray()
    at_most, at_least = values.tolist()
    assert np.iinfo(np.int64).min == rows.lower[0] < rows.upper[0]
    assert rows.lower[1] < rows.upper[1] == np.iinfo(np.int64).max
    assert at_most[0] == at_least[0]  # a power of two: the scale
    for below, above, value in zip(at_most[1:], at_least[1:], small.tolist(), strict=True):
        assert below < Fraction(value) * at_most[0] < above == below + 1


def test_cpsat_sees_sides_without_an_integer_between_them(cpsat):
    between_rows = linear_model([1, 1], [[1, 1]], 0.2, 0.8, 0, 1)
    between_bounds = linear_model([1, 1], [], 0, 0, 0.2, 0.8)
    for model in (between_rows, between_bounds):
        raw = solve_in_child(cpsat, model, SolveOptions())
        assert raw.termination_condition is TerminationCondition.INFEASIBLE


def test_sums_beyond_64_bits_are_refused(cpsat):
    model = linear_model([1, 1], [[1e19, 1]], -np.inf, 1e19, 0, 1)
    with pytest.raises(UnsupportedFormulationError, match=r"64-bit.*highs"):
        solve_in_child(cpsat, model, SolveOptions())


CANCELLED = (
    linear_model(  # the second column is fixed at 1, and all but cancels the side of the row
        [0.0, 0.0, 0.0],
        [[0.0, -256.0, 9.367024388119033e-07]],
        [-256.0],
        [np.inf],
        [0, 1, -1],
        [0, 1, 0],
    )
)


@settings(max_examples=100, deadline=None)
@given(awkward_models(n_rows=1))
@example(CANCELLED)
def test_cpsat_bounds_are_valid_and_tight(model):
    demand("cpsat")
    feasible = [
        point
        for point in grid(model)
        if all(
            low <= exact(row, point) <= high
            for row, low, high in zip(
                model.matrix.toarray(), model.row_lower, model.row_upper, strict=True
            )
        )
    ]
    events = []
    raw = solve_in_child("cpsat", model, SolveOptions(), on_event=events.append)
    bounds = [event.bound for event in events if event.bound is not None]
    if not feasible:
        return
    best = max(Fraction(model.offset) + exact(model.cost, point) for point in feasible)
    size = abs(model.offset) + np.abs(model.cost) @ np.maximum(abs(model.lower), abs(model.upper))
    assert Fraction(raw.bound) >= best
    assert raw.bound <= model.objective(raw.point) + 1e-9 * max(1.0, size)
    assert all(Fraction(bound) >= best for bound in bounds)
