"""Small problems and regions, and what certificates of theirs are worth, by enumeration."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from qpm_opt.bounds.region import Region
from tests.conftest import random_problem
from tests.oracle import _assignment


def tiny_problem(seed, *, similar=True, **fixed):
    """``random_problem`` with R >= 0, or R = 0."""
    problem = random_problem(seed, **fixed)
    R = np.maximum(problem.feature_similarity, 0.0) if similar else 0.0
    return replace(problem, feature_similarity=R * np.ones(problem.feature_similarity.shape))


def random_region(problem, rng):
    """A region with at least one selection."""
    order = rng.permutation(np.flatnonzero(problem.candidates))
    n_ones = int(rng.integers(problem.n_selected + 1))
    n_free = int(rng.integers(problem.n_selected - n_ones, len(order) - n_ones + 1))
    ones, free = order[:n_ones], order[n_ones : n_ones + n_free]
    return Region(problem, np.sort(ones), np.sort(free))


def selections(region):
    """Every selection of the region with its optimal value; infeasible ones left out."""
    problem = region.problem
    for rest in combinations(region.free.tolist(), region.n_left):
        chosen = [*region.ones.tolist(), *rest]
        value = _assignment(problem, sorted(chosen), problem.n_per_class)
        if value is not None:
            value += sum(problem.bias[d] for d in chosen)
            value -= sum(problem.feature_similarity[d, e] for d, e in combinations(chosen, 2))
            yield set(rest), value


def worth(region, certificate):
    """Value of a certificate by its formula, feature by feature; checks what it must satisfy."""
    problem, k = region.problem, region.problem.n_per_class
    A, R = problem.class_similarity, problem.feature_similarity
    present = [*region.free.tolist(), *region.ones.tolist()]
    constant = sum(problem.bias[d] for d in region.ones)
    constant -= sum(R[d, e] for d, e in combinations(region.ones, 2))
    r = {d: problem.bias[d] - sum(R[d, e] for e in region.ones) for d in region.free}
    r |= dict.fromkeys(region.ones, 0.0)
    covered = np.zeros(problem.n_classes)
    for c, t, w in zip(
        certificate.threshold_class,
        certificate.threshold,
        certificate.threshold_weight,
        strict=True,
    ):
        covered[c] += w
        constant += w * k * t
        for d in present:
            r[d] += w * max(A[c, d] - t, 0.0)
    for (c, e), (t, v), u, w in zip(
        certificate.pair_classes,
        certificate.pair_thresholds,
        certificate.pair_price,
        certificate.pair_weight,
        strict=True,
    ):
        assert problem.distinct and c != e and u >= 0.0 and w >= 0.0
        covered[[c, e]] += w
        constant += w * (k * (t + v) + (k - 1) * u)
        for d in present:
            a, b = A[c, d] - t, A[e, d] - v
            r[d] += w * max(0.0, a, b, a + b - u)
    assert covered == pytest.approx(np.ones(problem.n_classes), abs=1e-12)
    load = np.zeros(R.shape)
    for number, w in enumerate(certificate.conflict_price):
        assert w >= 0.0
        constant += w
        K = certificate.conflict_members[certificate.conflict_members[:, 0] == number, 1]
        assert set(K) <= set(region.free)
        load[np.ix_(K, K)] += w
        for d in K:
            r[d] -= w
    np.fill_diagonal(load, 0.0)
    assert (load <= R).all()
    assert not certificate.reward.any() and len(certificate.reward) == len(region.free)
    constant += sum(r[d] for d in region.ones)
    return constant + sum(sorted((r[d] for d in region.free), reverse=True)[: region.n_left])


def check(region, bound):
    """Everything a bound claims, against every selection of the region."""
    scale = max(1.0, region.problem.scale) * region.problem.n_features
    formula = worth(region, bound.certificate)
    assert formula <= bound.value
    assert bound.value == pytest.approx(formula, rel=1e-9, abs=1e-9 * scale)
    assert (bound.price_in >= 0.0).all() and (bound.price_out >= 0.0).all()
    assert bound.s.shape == region.free.shape
    slack = 1e-12 * scale  # of the enumeration's own sums
    for chosen, value in selections(region):
        assert value <= bound.value + slack
        for j, d in enumerate(region.free):
            price = bound.price_in[j] if d in chosen else bound.price_out[j]
            assert value <= bound.value - price + slack
