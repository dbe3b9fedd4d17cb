"""The value of a certificate against brute force: no multipliers whatever give a false bound."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import null_space

from qpm_opt.bounds.proof import Certificate
from qpm_opt.certificate_check import Region, evaluate
from qpm_opt.errors import InvalidSolutionError
from qpm_opt.problem import Problem
from tests import oracle
from tests.certificates import KINDS, arrays, make_certificate, make_problem, make_region

SEEDS = st.integers(0, 2**32 - 1)


def objective_terms(problem, selected, *, distinct) -> list[float]:
    """Numbers whose sum is the best objective of a selection."""
    R, b, k = problem.feature_similarity, problem.bias, problem.n_per_class
    terms = [b[d] for d in selected] + [-R[d, e] for d, e in combinations(selected, 2)]
    if distinct and problem.n_classes:
        return [*terms, oracle._assignment(problem, selected, k)]
    for row in problem.class_similarity[:, list(selected)]:
        terms += sorted(row)[len(row) - k :]
    return terms


def rewards(region, rho, selected) -> list[float]:
    return [
        max(r, 0) if d in selected else max(-r, 0) for d, r in zip(region.free, rho, strict=True)
    ]


def selections(problem, region):
    n_left = problem.n_selected - len(region.ones)
    for chosen in combinations(region.free.tolist(), n_left):
        yield tuple(sorted([*region.ones.tolist(), *chosen]))


# --- The definition, word for word ---


def upper_function(problem, region, certificate, selected) -> float:
    """What a certificate puts above objective and reward of a selection, before duality."""
    A, R, b, k = (
        problem.class_similarity,
        problem.feature_similarity,
        problem.bias,
        problem.n_per_class,
    )
    g = certificate
    free = set(region.free.tolist()) & set(selected)
    total = sum(b[d] for d in selected) - sum(R[d, e] for d, e in combinations(selected, 2))
    covered = np.zeros(problem.n_classes)

    def threshold(c, t):
        return k * t + sum(max(A[c, j] - t, 0) for j in selected)

    for c, t, w in zip(g.threshold_class, g.threshold, g.threshold_weight, strict=True):
        total += w * threshold(c, t)
        covered[c] += w
    for (c, e), (t, v), u, w in zip(
        g.pair_classes, g.pair_thresholds, g.pair_price, g.pair_weight, strict=True
    ):
        total += w * (k * (t + v) + (k - 1) * u)
        for j in selected:
            total += w * max(0, A[c, j] - t, A[e, j] - v, A[c, j] + A[e, j] - t - v - u)
        covered[[c, e]] += w
    for c, d, t, v, w in zip(
        g.split_class, g.split_feature, g.split_inside, g.split_outside, g.split_weight, strict=True
    ):
        total += w * threshold(c, t if d in selected else v)
        covered[c] += w
    for i, w in enumerate(g.conflict_price):
        n_met = sum(d in free for d in set(g.conflict_members[g.conflict_members[:, 0] == i, 1]))
        total += w * (math.comb(n_met, 2) + 1 - n_met)
    for i, (b, w) in enumerate(zip(g.row_level, g.row_price, strict=True)):
        count = sum(weight for row, d, weight in g.row_members if row == i and d in free)
        total += w * (count - b) * (count - b - 1) / 2
    largest = np.abs(A[:, [*region.ones, *region.free]]).max(axis=1, initial=0.0)
    return total + np.abs(1 - covered) @ (k * largest) + sum(rewards(region, g.reward, selected))


def expected_value(problem, region, certificate) -> float:
    """The value by points 4 and 5 of the definition; the form is read off at 0-1 points."""
    free, n = region.free, len(region.free)
    m = problem.n_selected - len(region.ones)

    def at(*chosen):
        return upper_function(
            problem, region, certificate, sorted([*region.ones, *free[list(chosen)]])
        )

    constant = at()
    linear = np.array([at(j) - constant for j in range(n)])
    T = np.zeros((n + 1, n + 1))
    for i, j in combinations(range(n), 2):
        T[i + 1, j + 1] = (at(i, j) - linear[i] - linear[j] - constant) / 2
    if not certificate.border.size:
        value = constant + m * (m - 1) / 2 * max(0.0, 2 * T.max())
        return value + math.fsum(np.sort(linear)[n - m :])
    T[1:, 1:][np.triu_indices(n, 1)] += certificate.nonnegativity
    T += T.T
    T[0, 0], T[0, 1:], T[1:, 0] = certificate.corner, certificate.border, certificate.border
    T[np.arange(1, n + 1), np.arange(1, n + 1)] = certificate.diagonal
    basis = null_space(np.array([[m, *-np.ones(n)]]))
    largest = np.linalg.eigvalsh(basis.T @ T @ basis)[-1]
    r = linear - certificate.diagonal - 2 * certificate.border
    return (m + 1) * largest + constant - certificate.corner + np.sort(r)[n - m :].sum()


# --- Any multipliers ---


def check_one(problem, region, certificate):
    """The value bounds objective and reward of all selections, and the losses what they say."""
    found = evaluate(problem, region, arrays(certificate))
    distinct = problem.distinct and len(certificate.pair_weight) > 0
    for selected in selections(problem, region):
        terms = objective_terms(problem, selected, distinct=distinct)
        # Sums are rounded once, so no tolerance is needed.
        assert math.fsum(terms + rewards(region, certificate.reward, selected)) <= found.value
        inside = np.isin(region.free, selected)
        loss = np.where(inside, found.loss_in, found.loss_out)
        room = 1e-14 * (abs(found.value) + loss)
        assert (math.fsum(terms) <= found.value - loss + room).all()
    return found


def drawn(seed):
    """A random generator, a problem and a part of it."""
    rng = np.random.default_rng(seed)
    problem = make_problem(rng)
    return rng, problem, make_region(problem, rng)


@pytest.mark.parametrize("kinds", [*((kind,) for kind in KINDS), KINDS[:-1], KINDS], ids=len)
@settings(max_examples=300, deadline=None)
@given(seed=SEEDS)
def test_any_multipliers_give_a_bound_on_every_selection(kinds, seed):
    rng, problem, region = drawn(seed)
    check_one(problem, region, make_certificate(problem, region, kinds, rng))


@settings(max_examples=300, deadline=None)
@given(seed=SEEDS)
def test_multipliers_that_overflow_give_no_false_bound(seed):
    rng, problem, region = drawn(seed)
    terms = arrays(make_certificate(problem, region, KINDS, rng))
    for name in rng.choice(list(terms), 3, replace=False):
        if terms[name].dtype == float and terms[name].size:
            huge = 1.7e308 if name.endswith(("weight", "price", "nonnegativity")) else -1.7e308
            terms[name].flat[rng.integers(terms[name].size)] = rng.choice([huge, abs(huge)])
    check_one(problem, region, Certificate(**terms | {"corner": terms["corner"][0]}))


@settings(max_examples=1000, deadline=None)
@given(seed=SEEDS)
def test_any_mixture_of_multipliers_gives_the_value_of_the_definition(seed):
    rng, problem, region = drawn(seed)
    kinds = [kind for kind in KINDS if rng.integers(2)]
    certificate = make_certificate(problem, region, kinds, rng)
    value = check_one(problem, region, certificate).value
    size = problem.scale * 100
    assert value == pytest.approx(expected_value(problem, region, certificate), abs=1e-11 * size)


# --- Values that are tight: a term a little different would be seen ---


def planted(rng, *, semidefinite, distinct):
    """Problem, region and certificate whose value is the objective and reward of one selection."""
    n_ones, m, n_rest = int(rng.integers(3)), int(rng.integers(2, 4)), int(rng.integers(1, 4))
    p, n = n_ones + m, n_ones + m + n_rest
    features = rng.permutation(n)
    ones, chosen, rest = np.split(features, [n_ones, p])
    free = np.sort(np.concatenate([chosen, rest]))
    k = int(rng.integers(1, p if distinct else p + 1))
    C = 2 if distinct else 3
    A = rng.normal(size=(C, n))
    b = rng.normal(size=n)
    b[rest] -= 1000.0
    if distinct:
        A[1] = A[0]
    ranked = -np.sort(-A[:, np.r_[ones, chosen]], axis=1)
    ranked = np.hstack([ranked, ranked[:, -1:] - 1])

    def tight(c):
        return rng.uniform(ranked[c, k], ranked[c, k - 1])

    terms = {}
    if distinct:
        next_best = ranked[0, k]
        terms |= {
            "pair_classes": np.array([[0, 1]]),
            "pair_thresholds": np.array([[next_best, next_best]]),
            "pair_price": np.array([ranked[0, k - 1] - next_best]),
            "pair_weight": np.ones(1),
        }
    else:
        split = rng.random(C) * semidefinite
        d = rng.choice(free, C)
        of_split = np.array([[tight(c), rng.normal()] for c in range(C)])
        of_split[np.isin(d, rest)] = of_split[np.isin(d, rest)][:, ::-1]
        terms |= {
            "threshold_class": np.arange(C),
            "threshold": np.array([tight(c) for c in range(C)]),
            "threshold_weight": 1 - split,
            "split_class": np.arange(C),
            "split_feature": d,
            "split_inside": of_split[:, 0],
            "split_outside": of_split[:, 1],
            "split_weight": split,
        }
    sets = [
        [*rng.choice(chosen, int(rng.integers(1, 3)), replace=False), *rest[: rng.integers(3)]]
        for _ in range(4)
    ]
    price = rng.random(4)
    shared = np.zeros((n, n))
    for members, w in zip(sets, price, strict=True):
        shared[np.ix_(members, members)] += w
    R = np.triu(rng.random((n, n)), 1)
    R += R.T
    if semidefinite:
        R[np.ix_(chosen, chosen)] -= 40.0
        R[np.ix_(chosen, rest)] += 40.0
        R[np.ix_(rest, chosen)] += 40.0
    else:
        R[np.ix_(free, free)] += shared[np.ix_(free, free)]
        R[np.ix_(chosen, chosen)] = shared[np.ix_(chosen, chosen)]
    np.fill_diagonal(R, 0.0)
    problem = Problem(A, R, b, n_selected=p, n_per_class=k, distinct=distinct)
    region = Region(np.sort(ones), free)
    members, level = np.zeros((0, 3), dtype=int), np.zeros(0, dtype=int)
    if semidefinite:  # rows with the selection on one of the two whole numbers
        weights = rng.integers(-2, 3, size=(20, len(free)))
        level = weights[:, np.isin(free, chosen)].sum(axis=1) - rng.integers(2, size=20)
        number, place = np.nonzero(weights)
        members = np.stack([number, free[place], weights[number, place]], axis=1)
    certificate = Certificate(
        **terms,
        conflict_members=np.array([(i, d) for i, found in enumerate(sets) for d in found]),
        conflict_price=price,
        row_members=members,
        row_level=level,
        row_price=rng.random(len(level)),
        reward=rng.normal(size=len(free)),
    )
    if semidefinite:
        certificate = replace(certificate, **tight_matrix(problem, region, certificate, chosen))
    return problem, region, certificate, tuple(sorted([*ones, *chosen]))


def tight_matrix(problem, region, certificate, chosen):
    """N and T for which the selection's vector belongs to the largest eigenvalue, 3."""
    free, n = region.free, len(region.free)
    inside = np.isin(free, chosen)

    def at(*places):
        return upper_function(
            problem, region, certificate, sorted([*region.ones, *free[list(places)]])
        )

    Q = np.zeros((n, n))
    for i, j in combinations(range(n), 2):
        Q[i, j] = Q[j, i] = (at(i, j) - at(i) - at(j) + at()) / 2
    # No price on products that are there; products of one feature inside, one outside vanish.
    N = np.where(inside[:, None] != inside, -Q, 1.0 * ~(inside[:, None] | inside))
    T = Q + N
    np.fill_diagonal(T, 0.0)
    diagonal = np.where(inside, 3 - T[:, inside].sum(axis=1), -10 - np.abs(T).sum(axis=1))
    return {
        "nonnegativity": N[np.triu_indices(n, 1)].astype(np.float32),
        "corner": 3.0,
        "border": np.zeros(n),
        "diagonal": diagonal,
    }


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("semidefinite", [False, True])
@settings(max_examples=100, deadline=None)
@given(seed=SEEDS)
def test_the_right_multipliers_give_the_objective_itself(semidefinite, distinct, seed):
    rng = np.random.default_rng(seed)
    problem, region, certificate, best = planted(rng, semidefinite=semidefinite, distinct=distinct)
    terms = objective_terms(problem, best, distinct=distinct)
    terms += rewards(region, certificate.reward, best)
    found = check_one(problem, region, certificate)
    assert found.value == pytest.approx(math.fsum(terms), abs=1e-7)


# --- Margins ---


@pytest.mark.parametrize("scale", [1e-200, 1e-9, 1.0, 1e9, 1e90])
def test_the_margin_stays_below_a_billionth_of_the_scale(scale):
    rng = np.random.default_rng(0)
    n, C, m, k = 300, 20, 30, 5
    R = scale * np.triu(rng.random((n, n)), 1)
    A = scale * rng.random((C, n))
    problem = Problem(A, R + R.T, n_selected=m, n_per_class=k, distinct=False)
    region = Region(np.zeros(0, int), np.arange(n))
    t = np.sort(A, axis=1)[:, -k - 5]
    certificate = Certificate(
        threshold_class=np.arange(C),
        threshold=t,
        threshold_weight=np.ones(C),
        reward=np.zeros(n),
        nonnegativity=np.zeros(n * (n - 1) // 2, np.float32),
        corner=0.0,
        border=np.zeros(n),
        diagonal=np.zeros(n),
    )
    value = evaluate(problem, region, arrays(certificate)).value
    basis = null_space(np.array([[m, *-np.ones(n)]]))
    T = np.zeros((n + 1, n + 1))
    T[1:, 1:] = (R + R.T) / -2
    largest = np.linalg.eigvalsh(basis.T @ (T / scale) @ basis)[-1] * scale
    linear = np.maximum(A - t[:, None], 0).sum(axis=0)
    plain = (m + 1) * largest + k * t.sum() + np.sort(linear)[-m:].sum()
    assert plain <= value <= plain + 1e-9 * C * k * scale


def test_weights_that_miss_one_by_rounding_cost_next_to_nothing():
    A = np.array([[3.0, 2.0, 1.0]])
    problem = Problem(A, np.zeros((3, 3)), n_selected=2, n_per_class=1)
    region = Region(np.zeros(0, int), np.arange(3))
    weight = np.full(10, 0.1)
    assert sum(weight) != 1.0
    terms = {"threshold_class": np.zeros(10, int), "threshold": np.full(10, 3.0)}
    certificate = Certificate(**terms, threshold_weight=weight, reward=np.zeros(3))
    assert 3.0 <= evaluate(problem, region, arrays(certificate)).value < 3.0 + 1e-12
    missing = replace(certificate, threshold_weight=0.5 * weight)
    assert evaluate(problem, region, arrays(missing)).value == pytest.approx(1.5 + 0.5 * 3)


def test_an_overflow_without_weight_hides_nothing():
    R = np.array([[0.0, -2.0], [-2.0, 0.0]])
    problem = Problem(np.array([[3.0, 2.0]]), R, n_selected=2, n_per_class=1)
    certificate = Certificate(
        threshold_class=np.zeros(1, int),
        threshold=np.full(1, 3.0),
        threshold_weight=np.ones(1),
        split_class=np.zeros(1, int),
        split_feature=np.zeros(1, int),
        split_inside=np.full(1, 1.7e308),
        split_outside=np.full(1, -1.7e308),
        split_weight=np.zeros(1),
        reward=np.zeros(2),
    )
    check_one(problem, Region(np.zeros(0, int), np.arange(2)), certificate)


def test_what_overflows_proves_nothing():
    problem = Problem(np.array([[3.0, 2.0, 1.0]]), np.zeros((3, 3)), n_selected=2, n_per_class=1)
    for change in ({"threshold": [1e308]}, {"threshold_weight": [1e308]}, {"threshold": [-1e308]}):
        terms = {"threshold": [3.0], "threshold_weight": [1.0]} | change
        certificate = Certificate(
            threshold_class=np.zeros(1, int),
            **{name: np.array(value) for name, value in terms.items()},
            reward=np.full(3, 1e308),
        )
        region = Region(np.zeros(0, int), np.arange(3))
        assert evaluate(problem, region, arrays(certificate)).value == math.inf


# --- Multipliers that do not fit ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": np.zeros(2)}, "differ in length"),
        ({"threshold_class": np.array([2])}, "not one of the 2"),
        ({"threshold_class": np.array([-1])}, "not one of the 2"),
        ({"pair_classes": np.array([[1, 1]])}, "one class with itself"),
        ({"split_feature": np.array([3])}, "a split names feature 3, which is not free"),
        ({"split_feature": np.array([0])}, "a split names feature 0, which is not free"),
        ({"conflict_members": np.array([[0, -1]])}, "a conflict names feature -1"),
        ({"conflict_members": np.array([[1, 1]])}, "a set without a price"),
        ({"row_members": np.array([[0, 3, 1]])}, "a row names feature 3"),
        ({"row_members": np.array([[1, 1, 1]])}, "a row without a price"),
        ({"row_members": np.array([[0, 1, 2**40]])}, "a weight or level above"),
        ({"row_level": np.array([-(2**40)])}, "a weight or level above"),
        ({"row_level": np.array([-(2**63)])}, "a weight or level above"),
        ({"row_members": np.array([[0, 1, 2**20], [0, 1, 1]])}, "a weight above"),
        ({"row_level": np.zeros(2, int)}, "differ in length"),
        ({"reward": np.zeros(3)}, "reward is for 3 free features, the region has 4"),
        ({"corner": np.zeros(0)}, "corner"),
        ({"diagonal": np.zeros(3)}, "does not fit 4 free"),
        ({"nonnegativity": np.zeros(0)}, "does not fit 4 free"),
    ],
)
def test_multipliers_that_do_not_fit_are_refused(changes, message):
    rng = np.random.default_rng(0)
    problem = Problem(rng.random((2, 6)), np.zeros((6, 6)), n_selected=3, n_per_class=1)
    region = Region(np.array([0]), np.array([1, 2, 4, 5]))
    terms = arrays(make_certificate(problem, region, KINDS, rng))
    for name, length in (("threshold", 1), ("pair", 1), ("split", 1), ("row", 1)):
        for key in terms:
            if key.startswith(name):
                terms[key] = terms[key][:length]
    terms["row_members"] = np.array([[0, 1, 1]])
    terms["conflict_price"] = terms["conflict_price"][:1]
    terms["conflict_members"] = np.zeros((0, 2), int)
    evaluate(problem, region, terms)
    with pytest.raises(InvalidSolutionError, match=message):
        evaluate(problem, region, terms | changes)


def test_rows_whose_constants_overflow_prove_nothing():
    problem = Problem(np.ones((2, 6)), np.zeros((6, 6)), n_selected=3, n_per_class=1)
    region = Region(np.array([0]), np.array([1, 2, 4, 5]))
    held = arrays(make_certificate(problem, region, ["thresholds"], np.random.default_rng(0)))
    held |= {"row_level": np.array([1, 1]), "row_price": np.full(2, 1.7e308)}
    assert evaluate(problem, region, held).value == math.inf


def test_pair_terms_need_classes_that_must_differ():
    rng = np.random.default_rng(0)
    problem = Problem(rng.random((2, 6)), np.zeros((6, 6)), n_selected=3, n_per_class=1)
    region = Region(np.array([0]), np.array([1, 2, 4, 5]))
    terms = arrays(make_certificate(problem, region, ["pairs"], rng))
    evaluate(problem, region, terms)
    with pytest.raises(InvalidSolutionError, match="need not be distinct"):
        evaluate(replace(problem, distinct=False), region, terms)


def test_only_contrastive_pairs_may_have_negative_prices():
    rng = np.random.default_rng(0)
    problem = Problem(rng.random((3, 6)), np.zeros((6, 6)), n_selected=3, n_per_class=1)
    region = Region(np.array([0]), np.array([1, 2, 4, 5]))
    terms = arrays(make_certificate(problem, region, ["pairs"], rng))
    terms |= {
        "pair_classes": np.array([[2, 0]]),
        "pair_thresholds": np.array([[0.5, 0.4]]),
        "pair_price": np.array([-0.1]),
        "pair_weight": np.array([1.0]),
    }
    with pytest.raises(InvalidSolutionError, match="negative price"):
        evaluate(problem, region, terms)
    listed = replace(problem, contrastive_pairs=[(0, 2)])
    for distinct in (True, False):
        evaluate(replace(listed, distinct=distinct), region, terms)


@pytest.mark.parametrize("seed", range(30))
def test_terms_of_contrastive_pairs_bound_every_assignment(seed):
    """Any multipliers, against the best assignment of every selection."""
    rng = np.random.default_rng(seed)
    k = int(rng.integers(1, 3))
    problem = Problem(
        rng.normal(size=(3, 5)),
        np.zeros((5, 5)),
        rng.normal(size=5),
        n_selected=k + 2,
        n_per_class=k,
        distinct=bool(rng.integers(2)),
        contrastive_pairs=[(0, 2)],
    )
    region = Region(np.array([], dtype=int), np.arange(5))
    terms = arrays(make_certificate(problem, region, ["thresholds"], rng))
    terms |= {
        "threshold_class": np.array([1]),
        "threshold": rng.normal(size=1),
        "threshold_weight": np.ones(1),
        "pair_classes": np.array([[0, 2]]),
        "pair_thresholds": rng.normal(size=(1, 2)),
        "pair_price": rng.normal(size=1),
        "pair_weight": np.ones(1),
    }
    best = oracle.optimum(problem)
    if best is not None:
        assert evaluate(problem, region, terms).value >= best - 1e-12
