"""The projected linear bound and its tree against enumeration."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import OptimizeResult, linprog

from qpm_opt.bounds import linear, linear_cuts
from qpm_opt.bounds.linear import linear_bound
from qpm_opt.bounds.region import Region
from qpm_opt.problem import Problem
from tests import oracle
from tests.regions import check, random_region, tiny_problem


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0, 1, 50]), st.booleans())
def test_no_selection_of_the_region_is_better(seed, max_rounds, similar):
    problem = tiny_problem(seed, similar=similar)
    region = random_region(problem, np.random.default_rng(seed))
    check(region, linear_bound(region, max_rounds=max_rounds))


@pytest.mark.parametrize("seed", range(3))
def test_every_region_of_a_problem(seed):
    rng = np.random.default_rng(seed)
    R = np.triu(rng.random((6, 6)) * (seed == 1), 1)
    problem = Problem(rng.normal(size=(3, 6)), R + R.T, n_selected=3, n_per_class=2)
    for n_ones in range(4):
        for ones in combinations(range(6), n_ones):
            rest = np.setdiff1d(np.arange(6), ones)
            for n_free in range(3 - n_ones, len(rest) + 1):
                region = Region(problem, np.array(ones, dtype=np.intp), rest[:n_free])
                check(region, linear_bound(region))


def adversaries():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(4, 7))
    R = np.triu(rng.random((7, 7)), 1)
    R = R + R.T
    counts = {"n_selected": 4, "n_per_class": 2}
    yield "zero", Problem(0 * A, 0 * R, **counts)
    yield "tiny", Problem(1e-12 * A, 1e-12 * R, **counts)
    yield "huge", Problem(1e12 * A, 1e12 * R, **counts)
    yield "offset", Problem(1e6 + A, R, **counts)
    yield "mixed", Problem(A * 10.0 ** np.arange(-6, 6, 3)[:, None], R, **counts)
    yield "bias alone", Problem(0 * A, R, 1e9 * rng.normal(size=7), **counts)
    yield "ties", Problem(np.round(A), np.round(R), **counts)
    yield "equal classes", Problem(np.repeat(A[:1], 4, axis=0), 0 * R, **counts)
    yield "equal features", Problem(np.repeat(A[:, :1], 7, axis=1), 0 * R, **counts)
    yield "all conflict", Problem(A, np.ones((7, 7)) - np.eye(7), **counts)
    yield "one of each", Problem(A, R, n_selected=1, n_per_class=1, distinct=False)
    yield "all selected", Problem(A, R, n_selected=7, n_per_class=3)
    yield "k = p", Problem(A[:1], R, n_selected=4, n_per_class=4)
    yield "no classes", Problem(A[:0], R, n_selected=3, n_per_class=0)


@pytest.mark.parametrize("problem", [pytest.param(p, id=name) for name, p in adversaries()])
def test_adversaries(problem):
    whole = Region.whole(problem)
    check(whole, linear_bound(whole))
    for feature in range(3):
        for selected in (False, True):
            part = whole.with_feature(feature, selected)
            if not part.is_empty:
                check(part, linear_bound(part))


@pytest.mark.parametrize("seed", range(20))
def test_meets_the_relaxation_of_the_whole_model(seed):
    """Without pairs and conflicts the bound is the linear relaxation with every W as a column."""
    problem = tiny_problem(seed, similar=False, distinct=False)
    if seed >= 15:
        A = np.random.default_rng(seed).random((20, 15))
        problem = Problem(A, np.zeros((15, 15)), n_selected=5, n_per_class=2, distinct=False)
    A, k, C, n = (
        problem.class_similarity,
        problem.n_per_class,
        problem.n_classes,
        problem.n_features,
    )
    sizes = np.zeros((1 + C, n * (1 + C)))
    sizes[0, :n] = 1.0
    below = np.zeros((C * n, n * (1 + C)))
    for c in range(C):
        sizes[1 + c, n * (1 + c) : n * (2 + c)] = 1.0
        below[c * n : (c + 1) * n, :n] = -np.eye(n)
        below[c * n : (c + 1) * n, n * (1 + c) : n * (2 + c)] = np.eye(n)
    model = linprog(
        -np.concatenate([problem.bias, A.ravel()]),
        A_ub=below if C else None,
        b_ub=np.zeros(C * n) if C else None,
        A_eq=sizes,
        b_eq=[problem.n_selected, *[k] * C],
        bounds=[(0, float(ok)) for ok in problem.candidates] + [(0, 1)] * (C * n),
    )
    assert linear_bound(Region.whole(problem)).value == pytest.approx(-model.fun, rel=1e-7)


def test_pairs_of_classes_that_must_differ_lower_the_bound():
    A = np.array([[3.0, 2.0, 1.0, 0.0], [3.0, 2.0, 0.5, 0.0]])
    problem = Problem(A, np.zeros((4, 4)), n_selected=3, n_per_class=2)
    bound = linear_bound(Region.whole(problem))
    assert len(bound.certificate.pair_price) == 1
    assert bound.value == pytest.approx(5.0 + 4.0)  # the first class gives up 2 for 1
    free = linear_bound(Region.whole(replace(problem, distinct=False)))
    assert free.value == pytest.approx(10.0)


def test_conflicts_lower_the_bound():
    """Three of five features that all conflict: better than all products at least s_i + s_j - 1."""
    problem = Problem(
        np.zeros((0, 5)), np.ones((5, 5)) - np.eye(5), np.ones(5), n_selected=3, n_per_class=0
    )
    bound = linear_bound(Region.whole(problem))
    assert bound.value <= 3.0 - 2.0 + 1e-6
    check(Region.whole(problem), bound)


def test_starts_from_the_state_of_a_larger_region():
    for seed in range(100):
        problem = tiny_problem(seed)
        whole = linear_bound(Region.whole(problem))
        part = random_region(problem, np.random.default_rng(seed))
        check(part, linear_bound(part, state=whole.state, max_rounds=0))
        check(part, linear_bound(part, state=whole.state))


def test_negative_similarities_have_no_linear_bound():
    R = np.zeros((4, 4))
    R[0, 1] = R[1, 0] = -1.0
    problem = Problem(np.ones((1, 4)), R, n_selected=2, n_per_class=1)
    whole = Region.whole(problem)
    assert linear_bound(whole) is None
    assert linear_bound(whole.with_feature(0, True)) is not None


def test_an_empty_region_is_refused():
    problem = tiny_problem(1)
    nothing = Region(problem, np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp))
    with pytest.raises(ValueError, match="empty"):
        linear_bound(nothing)


@pytest.mark.parametrize("module", [linear, linear_cuts])
def test_a_linear_program_that_fails_costs_only_strength(monkeypatch, module):
    failed = OptimizeResult(status=4, message="numerical trouble", x=None)
    monkeypatch.setattr(module, "linprog", lambda *args, **kwargs: failed)
    for seed in range(50):
        whole = Region.whole(tiny_problem(seed, distinct=False) if seed % 2 else tiny_problem(seed))
        check(whole, linear_bound(whole))


def test_wrong_duals_cost_only_strength(monkeypatch):
    rng = np.random.default_rng(0)

    def lying(*args, **kwargs):
        result = linprog(*args, **kwargs)
        if result.status == 0:
            result.ineqlin.marginals = -rng.random(len(result.ineqlin.marginals)) * 1.5
        return result

    for module in (linear, linear_cuts):
        monkeypatch.setattr(module, "linprog", lying)
    for seed in range(100):
        whole = Region.whole(tiny_problem(seed))
        check(whole, linear_bound(whole, max_rounds=4))


def test_late_bounds_hold():
    for seed in range(30):
        whole = Region.whole(tiny_problem(seed))
        check(whole, linear_bound(whole, deadline=time.perf_counter()))


@pytest.mark.parametrize("seed", range(12))
def test_contrastive_pairs_lower_the_bound(seed):
    rng = np.random.default_rng(seed)
    A = rng.random((4, 7))
    options = {"n_selected": 4, "n_per_class": 2, "distinct": bool(seed % 2)}
    free = Problem(A, np.zeros((7, 7)), **options)
    paired = replace(free, contrastive_pairs=[(0, 1), (2, 3)])
    without, bound = (linear_bound(Region.whole(problem)).value for problem in (free, paired))
    assert bound <= without + 1e-9
    assert bound >= oracle.optimum(paired) - 1e-9
    everything = replace(paired, n_selected=7)  # at the only selection nothing is left open
    assert linear_bound(Region.whole(everything)).value >= oracle.optimum(everything) - 1e-9


def test_a_contrastive_pair_alone_is_bounded_exactly():
    """Classes with nothing in common must share all features but one."""
    A = np.hstack([np.kron(np.eye(2), np.ones(3)), np.zeros((2, 1))])
    problem = Problem(A, np.zeros((7, 7)), n_selected=6, n_per_class=3, contrastive_pairs=[(0, 1)])
    assert oracle.optimum(problem) == 4.0  # all three of a class, and one of the other
    assert linear_bound(Region.whole(problem)).value == pytest.approx(4.0, abs=1e-6)
    free = replace(problem, contrastive_pairs=None)
    assert linear_bound(Region.whole(free)).value == pytest.approx(6.0, abs=1e-6)
