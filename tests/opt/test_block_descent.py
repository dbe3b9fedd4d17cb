"""The compiled loops of the semidefinite bound against what NumPy says of the same multipliers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="compiled code needs Numba")

from qpm_opt.bounds import acceleration, rows, semidefinite_compiled
from qpm_opt.bounds.block_descent import Model
from qpm_opt.bounds.projections import capped_simplex
from qpm_opt.bounds.region import Region
from qpm_opt.bounds.rows import RowPool, Rows
from qpm_opt.bounds.semidefinite import Iteration
from qpm_opt.certificate_check import evaluate
from qpm_opt.problem import Problem
from tests.certificates import arrays

M = 6


@pytest.fixture(autouse=True, scope="module")
def compiled():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(acceleration, "_loops", semidefinite_compiled)
        yield


def by_numpy(call):
    """What a function returns that finds no compiled loops."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("rows", "terms"):
            patch.setattr(f"qpm_opt.bounds.{module}.compiled_loops", lambda: None)
        return call()


def problem_of(seed: int, *, contrastive: bool = False) -> Problem:
    """Twenty features and six classes, of which two pairs are nearly the same."""
    rng = np.random.default_rng(seed)
    A = rng.random((6, 20))
    A[1], A[3] = A[0] + 0.01 * rng.random(20), A[2]
    R = np.triu(rng.random((20, 20)) < 0.5, 1) * rng.uniform(0.3, 1.0, (20, 20))
    R = R + R.T
    pairs = np.array([[0, 1]]) if contrastive else None
    return Problem(A, R, n_selected=M, n_per_class=2, contrastive_pairs=pairs)


def refined(seed: int, *, ones: int = 1, **options: bool) -> Iteration:
    """An iteration with splits, pairs and rows, on a region with features decided in and out."""
    whole = Region.whole(problem_of(seed, **options))
    order = np.random.default_rng(seed).permutation(whole.free)
    region = whole.fixed(order[:2], order[2 : 2 + ones])
    iteration = Iteration(region, np.zeros(len(region.free)), None)
    iteration.advance(60, math.inf)
    iteration.refine()
    iteration.advance(20, math.inf)
    iteration.refresh()
    return iteration


def model_of(iteration: Iteration, V: np.ndarray) -> Model:
    E, ties = iteration._C - V, iteration._ties(V)
    k = float(iteration.terms.n_per_class)
    return Model(E, ties, np.zeros(1), iteration._beta, float(iteration.m), k)


def value_of(iteration: Iteration, model: Model) -> float:
    """The function to be minimised: constant + max over X of <E, X> - beta/2 |X|^2."""
    s = capped_simplex(model.tie, model.n_selected)
    Y = model.E[1:, 1:].copy()
    np.fill_diagonal(Y, 0.0)
    iteration._build()
    products = float((np.maximum(Y, 0.0) ** 2).sum()) / (2.0 * model.beta)
    singles = 3.0 * model.beta * float(model.tie @ s - s @ s / 2.0)
    return iteration._c + products + singles


@pytest.mark.parametrize("contrastive", [False, True])
@pytest.mark.parametrize("seed", [0, 2, 3, 4, 5, 6])  # the others have nothing to split
def test_a_descent_goes_down_and_keeps_count(seed, contrastive):
    iteration = refined(seed, ones=seed % 3, contrastive=contrastive)
    assert len(iteration.terms.pairs) and len(iteration.terms.classes) and len(iteration.rows)
    rng = np.random.default_rng(seed)
    V = iteration._C - iteration._X * iteration._beta  # around the iterate
    noise = rng.normal(0.0, 0.05, V.shape)
    V = V + noise + noise.T
    values = [value_of(iteration, model_of(iteration, V))]
    for _ in range(6):
        model = model_of(iteration, V)
        iteration.terms.descend(iteration.rows, model, 1)
        values.append(value_of(iteration, model))  # builds C by NumPy
        exact = model_of(iteration, V)
        off = ~np.eye(len(V) - 1, dtype=bool)
        assert model.tie == pytest.approx(exact.tie, abs=1e-9)
        assert model.E[1:, 1:][off] == pytest.approx(exact.E[1:, 1:][off], abs=1e-9)
        left = iteration.terms.left()
        assert (left >= -1e-9).all() and (iteration.terms.pair_weight >= 0.0).all()
        assert (iteration.terms.share >= 0.0).all() and (iteration.rows.price >= 0.0).all()
        total = np.bincount(iteration.terms.classes, iteration.terms.share)
        assert (total <= 1.0 + 1e-9).all()
    assert (np.diff(values) <= 1e-9).all()
    assert values[-1] < values[0] - 1e-4


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_rows_cost_and_lack_the_same(seed):
    rng = np.random.default_rng(seed)
    n = 8
    members = np.sort(rng.permuted(np.tile(np.arange(n), (5, 1)), axis=1)[:, :4], axis=1)
    chosen = Rows.of_lists(members, rng.choice([-2, -1, 1, 2], (5, 4)), int(rng.integers(-1, 3)), n)
    price = rng.random(5)
    loops = RowPool(n, chosen, price)
    plain = by_numpy(lambda: RowPool(n, chosen, price))
    assert loops.is_for_loops and not plain.is_for_loops
    X = rng.random((n + 1, n + 1))
    X = X + X.T
    X[np.arange(1, n + 1), np.arange(1, n + 1)] = X[0, 1:] = X[1:, 0] = rng.random(n)
    assert loops.slack(X) == pytest.approx(plain.slack(X))
    ours, theirs = np.zeros((n + 1, n + 1)), np.zeros((n + 1, n + 1))
    assert loops.add_cost(ours) == pytest.approx(plain.add_cost(theirs))
    assert ours == pytest.approx(theirs)


def moments(seed: int, n: int):
    """[[1, s'], [s, Y]] that breaks many rows."""
    rng = np.random.default_rng(seed)
    s = rng.random(n)
    Y = np.minimum.outer(s, s) * rng.random((n, n))
    Y = np.maximum(Y, Y.T)
    np.fill_diagonal(Y, s)
    return np.block([[np.ones((1, 1)), s[None]], [s[:, None], Y]])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12), st.sampled_from([1e-4, 0.05, 0.3]))
def test_the_same_rows_are_grown(seed, n, least_gain):
    X = moments(seed, n)
    seeds = by_numpy(lambda: rows._narrow_rows(X))[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "LEAST_GAIN", least_gain)
        found, amount = rows._wide_rows(X, seeds)
        expected, more = by_numpy(lambda: rows._wide_rows(X, seeds))
    assert by_numpy(lambda: RowPool(n, found)).slack(X) == pytest.approx(-amount)
    assert found.keys() == expected.keys()
    assert amount == pytest.approx(more)
    assert n < 12 or least_gain > 1e-4 or found.width.max() > 3


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30))
def test_the_same_rows_are_found_broken(seed, most):
    X = moments(seed, 12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "MOST_TRIANGLES", most)
        patch.setattr(rows, "MOST_COVERS", most)
        found = rows._narrow_rows(X)
        expected = by_numpy(lambda: rows._narrow_rows(X))
    for kept, amount in (found, expected):  # and they are broken by what is said
        assert by_numpy(lambda kept=kept: RowPool(len(X) - 1, kept)).slack(X) == pytest.approx(
            -amount
        )
    assert np.sort(found[1]) == pytest.approx(np.sort(expected[1]))
    assert len(set(found[0].keys())) == len(set(expected[0].keys()))


@pytest.mark.parametrize("seed", [0, 2, 3, 4, 5, 6])
def test_splits_are_valued_the_same(seed):
    iteration = refined(seed, ones=seed % 3)
    s, Y = iteration.s, iteration._M[1:, 1:]
    n, n_ones = len(s), len(iteration.region.ones)
    level = s[:5]
    inner = np.hstack([Y[:5], np.repeat(level[:, None], n_ones, axis=1)])
    inner[np.arange(5), np.arange(5)] = level
    everything = np.concatenate([s, np.ones(n_ones)])
    inner = np.clip(inner, 0.0, np.minimum(level[:, None], everything))
    arguments = inner, everything - inner, level
    ours = list(iteration.terms._split_values(*arguments))
    theirs = by_numpy(lambda: list(iteration.terms._split_values(*arguments)))
    assert len(ours) == len(theirs) == iteration.terms.n_classes
    for a, b in zip(ours, theirs, strict=True):
        assert np.array(a) == pytest.approx(np.array(b))
    assert n > 5


@pytest.mark.parametrize("spread", [1e-2, 1e-5, 1e-6, 1e-8, 1e-11, 1e-200])
@pytest.mark.parametrize("level", [-1.0, 1.0])
def test_shares_are_a_convex_combination_however_small_the_differences(level, spread):
    """Steps that are far too long must not leave the simplex: the bound would be too low."""
    problem = problem_of(3)
    A = level + spread * problem.class_similarity
    near = Problem(A, problem.feature_similarity, n_selected=M, n_per_class=2, distinct=False)
    whole = Region.whole(near)
    iteration = Iteration(whole, np.zeros(20), None)
    iteration.advance(40, math.inf)
    iteration.refine()
    for _ in range(10):
        iteration.advance(10, math.inf)
        total = np.bincount(iteration.terms.classes, iteration.terms.share, 6)
        assert (iteration.terms.share >= 0.0).all() and (total <= 1.0 + 1e-12).all()
        bound = iteration.bound(iteration.snapshot())
        found = evaluate(near, whole, arrays(bound.certificate))
        assert bound.value >= found.value - 1e-9 * near.scale * 20


def test_multipliers_of_copies_stay_as_they_are():
    """States are shared by the parts of a region."""
    iteration = refined(0)
    before, copied = iteration.terms, iteration.terms.copy()
    price = iteration.rows.price
    kept = [copied.threshold.copy(), copied.inside.copy(), copied.share.copy(), price.copy()]
    iteration.advance(5, math.inf)
    for array, old in zip(
        (copied.threshold, copied.inside, copied.share, price), kept, strict=True
    ):
        assert (array == old).all()
    assert not (before.threshold == kept[0]).all()


def test_without_classes_only_rows_move():
    rng = np.random.default_rng(0)
    R = rng.random((15, 15))
    problem = Problem(
        np.zeros((0, 15)), R + R.T - 2.0 * np.diag(np.diag(R)), n_selected=4, n_per_class=0
    )
    iteration = Iteration(Region.whole(problem), np.zeros(15), None)
    first = iteration.value()
    iteration.advance(60, math.inf)
    iteration.refine()
    iteration.advance(60, math.inf)
    assert len(iteration.rows) and iteration.value() < first
