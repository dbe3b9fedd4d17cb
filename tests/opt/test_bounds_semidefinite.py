"""The semidefinite bound, its parts, shrinking and the tree against enumeration."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from qpm_bench.instances import paper_like
from qpm_opt.assign import assign
from qpm_opt.bounds import acceleration, semidefinite, semidefinite_tree, shrinking
from qpm_opt.bounds.incumbents import rounded
from qpm_opt.bounds.proof import Proof
from qpm_opt.bounds.region import Region
from qpm_opt.bounds.rows import LEAST_VIOLATION, RowPool, Rows, broken_rows
from qpm_opt.bounds.semidefinite import Effort, Iteration, bound_of_core, semidefinite_bound
from qpm_opt.bounds.semidefinite_tree import branch_semidefinite
from qpm_opt.bounds.shrinking import shrink
from qpm_opt.bounds.terms import ClassTerms, best_threshold, proximal_threshold
from qpm_opt.certificate_check import evaluate
from qpm_opt.errors import InvalidSolutionError
from qpm_opt.heuristics import search
from qpm_opt.proof_check import check_proof
from tests.certificates import arrays
from tests.conftest import DEGENERATE, degenerate, random_problem, scaled
from tests.oracle import optimum

BRIEF = Effort(window=40, share=0.05)


@pytest.fixture(autouse=True, params=["numpy", "compiled"], scope="module")
def loops(request):
    """All tests run without compiled loops and with them."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "compiled":
            pytest.importorskip("numba", reason="compiled code needs Numba")
            from qpm_opt.bounds import semidefinite_compiled

            patch.setattr(acceleration, "_loops", semidefinite_compiled)
        else:
            patch.setattr(acceleration, "_loops", None)
            patch.setattr("qpm_opt.bounds.compilation.is_kept", lambda module: False)
        yield request.param


def best_in(region: Region, reward=None) -> float:
    """Largest objective plus reward over the selections of a region, -inf if there is none."""
    problem = region.problem
    reward = np.zeros(len(region.free)) if reward is None else reward
    best = -math.inf
    for places in combinations(range(len(region.free)), region.n_left):
        s = np.zeros(len(region.free))
        s[list(places)] = 1.0
        exact = assign(problem, np.union1d(region.ones, region.free[list(places)]))
        if exact is not None:
            gain = np.maximum(reward, 0.0) @ s + np.maximum(-reward, 0.0) @ (1.0 - s)
            best = max(best, problem.objective(exact) + gain)
    return best


def regions(problem, seed: int):
    """The whole problem and parts of it that are neither empty nor single."""
    rng = np.random.default_rng(seed)
    whole = Region.whole(problem)
    found = [whole]
    for _ in range(3):
        order = rng.permutation(whole.free)
        n_ones, n_zeros = rng.integers(0, 3, size=2)
        found.append(whole.fixed(order[n_ones : n_ones + n_zeros], order[:n_ones]))
    return [r for r in found if not r.is_empty and r.single is None]


def tolerance(problem) -> float:
    return 1e-9 * problem.scale * max(1, problem.n_classes) * problem.n_selected


@pytest.mark.parametrize("seed", range(60))
def test_bound_holds_on_regions(seed):
    problem = random_problem(seed)
    for region in regions(problem, seed):
        bound = semidefinite_bound(region, effort=BRIEF, max_steps=160)
        assert bound.value >= best_in(region) - tolerance(problem)


@pytest.mark.parametrize("seed", range(20))
def test_bound_holds_from_the_first_iterate_on(seed):
    problem = random_problem(seed)
    for region in regions(problem, seed):
        best = best_in(region)
        for max_steps in (0, 20):
            bound = semidefinite_bound(region, max_steps=max_steps)
            assert bound.value >= best - tolerance(problem)


@pytest.mark.parametrize("seed", range(20))
def test_bound_holds_with_a_reward_and_prices_fix_nothing_better(seed):
    problem = random_problem(seed)
    rng = np.random.default_rng(seed)
    for region in regions(problem, seed):
        reward = rng.normal(size=len(region.free)) * problem.scale
        iteration = Iteration(region, reward, None)
        iteration.advance(60, math.inf)
        iteration.refine()
        iteration.advance(60, math.inf)
        bound = iteration.bound(iteration.snapshot())
        assert bound.value >= best_in(region, reward) - tolerance(problem)
        for i, feature in enumerate(region.free):
            for selected, price in ((True, bound.price_in[i]), (False, bound.price_out[i])):
                part = region.with_feature(feature, selected)
                if not part.is_empty:
                    assert best_in(part) <= bound.value - price + tolerance(problem)


@pytest.mark.parametrize("seed", range(20))
def test_bound_holds_from_the_state_of_another_region(seed):
    problem = random_problem(seed)
    whole, *parts = regions(problem, seed) or [None]
    if whole is None:
        return
    first = semidefinite_bound(whole, effort=BRIEF, max_steps=160)
    for region in parts:
        best = best_in(region)
        for max_steps in (0, 60):
            bound = semidefinite_bound(region, state=first.state, max_steps=max_steps)
            assert bound.value >= best - tolerance(problem)
            back = semidefinite_bound(whole, state=bound.state, max_steps=20)
            assert back.value >= best_in(whole) - tolerance(problem)


@pytest.mark.parametrize("seed", range(30))
def test_bound_holds_from_the_state_of_a_core(seed):
    problem = random_problem(seed)
    rng = np.random.default_rng(seed)
    whole, *parts = regions(problem, seed) or [None]
    if whole is None:
        return
    first = semidefinite_bound(whole, effort=BRIEF, max_steps=160)
    for region in [whole, *parts]:
        size = rng.integers(region.n_left + 1, len(region.free) + 1)
        places = np.sort(rng.permutation(len(region.free))[:size])
        value, state = bound_of_core(region, first.state, places, max_steps=60)
        core = Region(problem, region.ones, region.free[places])
        assert value >= best_in(core) - tolerance(problem)
        best = best_in(region)
        for max_steps in (0, 60):
            bound = semidefinite_bound(region, state=state, max_steps=max_steps)
            assert bound.value >= best - tolerance(problem)


def test_a_core_spares_iterations_of_the_whole():
    problem = paper_like(40, 80, n_selected=10, n_per_class=3, seed=1)
    whole = Region.whole(problem)
    first = semidefinite_bound(whole, max_steps=100)
    places = np.sort(np.argsort(-first.s)[:20])
    _, state = bound_of_core(whole, first.state, places, effort=Effort(window=120, share=1e-3))
    after = semidefinite_bound(whole, state=state, max_steps=80).value
    assert after < semidefinite_bound(whole, state=first.state, max_steps=160).value


@pytest.mark.parametrize("factor", [2.0**-30, 2.0**-10, 2.0**20])
def test_bound_scales(factor):
    problem = scaled(random_problem(6, n_selected=2, n_per_class=1), factor)
    region = Region.whole(problem)
    assert semidefinite_bound(region, max_steps=80).value >= best_in(region) - tolerance(problem)


@pytest.mark.parametrize("name", DEGENERATE)
def test_bound_holds_on_degenerate_data(name):
    problem = degenerate(name)
    for region in regions(problem, 3):
        bound = semidefinite_bound(region, effort=BRIEF, max_steps=200)
        assert bound.value >= best_in(region) - tolerance(problem)


def test_terms_and_rows_tighten_the_bound():
    rng = np.random.default_rng(2)
    n = 13
    R = np.triu(rng.random((n, n)) * (rng.random((n, n)) < 0.5), 1)
    problem = replace(
        random_problem(0),
        class_similarity=rng.random((8, n)),
        feature_similarity=R + R.T,
        feature_bias=np.zeros(n),
        candidate=np.ones(n, dtype=bool),
        n_selected=5,
        n_per_class=2,
        distinct=True,
        contrastive_pairs=None,
        min_classes_per_feature=0,
    )
    region = Region.whole(problem)
    plain = semidefinite_bound(region, max_steps=40)
    full = semidefinite_bound(region, effort=Effort(window=120, share=1e-3))
    best = best_in(region)
    assert best <= full.value < plain.value
    assert full.value - best < 0.6 * (plain.value - best)
    assert len(full.certificate.split_class) and len(full.certificate.row_level)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6))
def test_proximal_threshold_is_the_minimiser(seed):
    rng = np.random.default_rng(seed)
    rows, n = rng.integers(1, 4), rng.integers(1, 7)
    values = -np.sort(-rng.integers(-3, 4, size=(rows, n)).astype(float), axis=1)
    mass = rng.random((rows, n)) * (rng.random((rows, n)) < 0.8)
    demand, center = rng.random(rows) * 3, rng.normal(size=rows)
    step = rng.random(rows) + 0.1

    def value(t):
        hinge = np.maximum(values - t[:, None], 0.0)
        return demand * t + (hinge * mass).sum(axis=1) + (t - center) ** 2 / (2 * step)

    t = proximal_threshold(values, mass, demand, center, step)
    for change in (1e-3, -1e-3):
        assert (value(t) <= value(t + change) + 1e-12).all()


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6))
def test_best_threshold_attains_the_fractional_top_k(seed):
    rng = np.random.default_rng(seed)
    n, k = rng.integers(3, 8), 2.0
    values = -np.sort(-rng.integers(-3, 4, size=(1, n)).astype(float), axis=1)
    mass = rng.random((1, n))
    mass *= 3.0 / mass.sum()
    t = best_threshold(values, mass, np.array([k]))
    before = np.cumsum(mass) - mass
    taken = np.minimum(mass, np.maximum(k - before, 0.0))
    right = k * t[0] + (np.maximum(values - t[:, None], 0.0) * mass).sum()
    assert right == pytest.approx((taken * values).sum())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_terms_are_never_below_the_gain(seed):
    problem = random_problem(seed % 400)
    if not problem.n_classes:
        return
    rng = np.random.default_rng(seed)
    for region in regions(problem, seed):
        n = len(region.free)
        terms = ClassTerms(region)
        s = rng.random(n)
        Y = np.minimum.outer(s, s) * rng.random((n, n))
        Y = (Y + Y.T) / 2
        terms.start(s)
        if problem.distinct:
            terms.choose_pairs(s)
        terms.choose_splits(s, Y, 3)
        terms.measure()
        for _ in range(3):
            terms.improve(s, Y, 0.1)
        constant, linear, products = terms.cost()
        for places in combinations(range(n), region.n_left):
            point = np.zeros(n)
            point[list(places)] = 1.0
            exact = assign(problem, np.union1d(region.ones, region.free[list(places)]))
            if exact is None:
                continue
            bound = constant + linear @ point
            if products is not None:
                bound += point @ products @ point
            gain = problem.objective_parts(exact).assignment
            assert bound >= gain - tolerance(problem)


def test_a_look_at_the_leading_similarities_is_deep_enough(loops, monkeypatch):
    """Thresholds fall below what was looked at only if it is noticed, and all are looked at."""
    problem = paper_like(8, 40, n_selected=8, n_per_class=3, seed=2)
    iteration = Iteration(Region.whole(problem), np.zeros(40), None)
    iteration.advance(60, math.inf)
    iteration.refine()
    deepened = []
    guard = ClassTerms._too_shallow

    def watched(terms, threshold, classes):
        deepened.append(guard(terms, threshold, classes))
        return deepened[-1]

    monkeypatch.setattr(ClassTerms, "_too_shallow", watched)
    terms = iteration.terms
    for _ in range(40):
        least = np.minimum(terms.inside, terms.outside)
        deepest = (terms._sorted[terms.classes] >= least[:, None]).sum(axis=1).max()
        deepest = max(deepest, (terms._sorted >= terms.threshold[:, None]).sum(axis=1).max())
        terms._depth = int(deepest)
        iteration.advance(1, math.inf)
        whole = terms.copy()
        whole._depth, whole._cost = whole._sorted.shape[1], None
        for part, expected in zip(terms.cost(), whole.cost(), strict=True):
            assert part == pytest.approx(expected, abs=1e-9)
    assert any(deepened) or loops == "compiled"  # which looks at all that it has to


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_rows_hold_for_products(seed):
    rng = np.random.default_rng(seed)
    n = 7
    X = rng.random((n + 1, n + 1))
    X = (X + X.T) / 2
    rows, amount = broken_rows(X)
    assert (amount > LEAST_VIOLATION).all()
    pool = RowPool(n, rows)
    assert -pool.slack(X) == pytest.approx(amount)
    assert rows.canonical().keys() == rows.keys()
    for s in rng.integers(0, 2, size=(20, n)):
        x = np.concatenate([[1.0], s])
        count = rows.weights @ s - rows.level
        assert pool.slack(np.outer(x, x)) == pytest.approx(count * (count - 1) / 2)


def test_wide_rows_are_found():
    """Four features that exclude each other, and a fifth that comes with more than one of them."""
    s = np.array([0.25, 0.25, 0.25, 0.25, 0.25])
    X = np.diag([1.0, *s])
    X[0, 1:] = X[1:, 0] = s
    X[5, 1:5] = X[1:5, 5] = 0.1
    rows, amount = broken_rows(X)
    assert amount.max() == pytest.approx(0.4 - 0.25)
    assert rows.weights[[np.argmax(amount)]].toarray().tolist() == [[1, 1, 1, 1, -1]]
    assert rows.width.max() == 5


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6))
def test_rows_when_features_are_decided(seed):
    """Left with the other features, the rows lose what holds of itself and nothing else."""
    rng = np.random.default_rng(seed)
    n, n_rows = 6, 30
    weights = rng.integers(-1, 2, size=(n_rows, n))
    weights[:, :2] = 1  # no row is empty
    rows = Rows(csr_array(weights), rng.integers(-2, 3, size=n_rows)).canonical()
    pool = RowPool(n, rows, rng.uniform(0.1, 1.0, n_rows))
    decided = rng.random(n) < 0.4
    into = decided & (rng.random(n) < 0.5)
    places = np.where(decided, -1, np.cumsum(~decided) - 1)
    left = pool.restricted(places, into, int((~decided).sum()))
    assert (left.rows.width > 1).all()
    wide = (weights[:, ~decided] != 0).sum(axis=1) > 2
    assert left.price.sum() >= pool.price[wide].sum() - 1e-12
    for s in rng.integers(0, 2, size=(20, n)):
        s = np.where(decided, into, s)
        x, rest = np.concatenate([[1.0], s]), np.concatenate([[1.0], s[~decided]])
        before = pool.price * pool.slack(np.outer(x, x))
        after = left.price @ left.slack(np.outer(rest, rest))
        assert before[wide].sum() - 1e-12 <= after <= before.sum() + 1e-12


@pytest.mark.parametrize("core_from", [semidefinite_tree.CORE_FROM, 10])
def test_certificates_of_a_tree_are_worth_what_it_takes_them_for(core_from, monkeypatch):
    problem = paper_like(12, 60, n_selected=10, n_per_class=3, seed=1)
    whole, n_checked, n_cores = Region.whole(problem), 0, 0
    root = semidefinite_bound(whole, max_steps=300)
    target = 0.985 * root.value

    def checked(function):
        def call(region, *arguments, **options):
            nonlocal n_checked
            bound = function(region, *arguments, **options)
            if bound is not None:
                n_checked += 1
                found = evaluate(problem, region, arrays(bound.certificate)).value
                assert found <= bound.value + 1e-9 * abs(bound.value)
                if n_checked == 60:
                    raise KeyboardInterrupt
            return bound

        return call

    def core(*arguments, **limits):
        nonlocal n_cores
        n_cores += 1
        # Below its cutoff, a bound that does not close would have no end.
        assert limits["closes"](limits["cutoff"] - 1e-9)
        return bound_of_core(*arguments, **limits)

    monkeypatch.setattr(semidefinite_tree, "bound_of_core", core)
    monkeypatch.setattr(semidefinite_tree, "semidefinite_bound", checked(semidefinite_bound))
    monkeypatch.setattr(semidefinite_tree, "CORE_FROM", core_from)
    monkeypatch.setattr(semidefinite_tree, "MOST_CORE", 1.0)
    monkeypatch.setattr(semidefinite_tree, "shrink", checked(shrink))
    monkeypatch.setattr(semidefinite_tree, "WORTH_SHRINKING", 20)
    monkeypatch.setattr(semidefinite_tree, "SHRINKABLE", 0.2)
    monkeypatch.setattr(semidefinite, "LARGE", 30)
    with pytest.raises(KeyboardInterrupt):
        branch_semidefinite(
            Proof(), 0, whole, target=lambda: target,
            offer=lambda assignment: None, on_bound=lambda bound: None, state=root.state,
        )  # fmt: skip
    assert (n_cores > 0) == (core_from == 10)


@pytest.mark.parametrize("seed", range(60))
def test_a_decision_never_raises_the_bound(seed):
    problem = random_problem(seed)
    for region in regions(problem, seed):
        bound = semidefinite_bound(region, effort=BRIEF, max_steps=100 + 20 * (seed % 5))
        for feature in region.free.tolist():
            for selected in (False, True):
                part = region.with_feature(feature, selected)
                if part.is_empty or part.single is not None:
                    continue
                first = Iteration(part, np.zeros(len(part.free)), bound.state).value()
                assert first <= bound.value + 1e-6 * problem.scale


@pytest.mark.parametrize("seed", range(40))
def test_shrinking_keeps_every_better_selection(seed):
    problem = random_problem(seed)
    region = Region.whole(problem)
    if region.is_empty or region.single is not None:
        return
    best = best_in(region)
    bound = semidefinite_bound(region, effort=BRIEF, max_steps=200)
    for target in (best - 0.3 * problem.scale, best, best + 0.3 * (bound.value - best)):
        if bound.value <= target:
            continue
        draw = np.random.default_rng(seed).random(len(region.free))
        reward = 1.15 * (bound.value - target)
        shrunk = shrink(region, bound.state, draw < 0.6, draw > 0.8, target=target, reward=reward)
        if shrunk is None:
            continue
        assert shrunk.value >= best_in(region, shrunk.certificate.reward) - tolerance(problem)
        for selected, features in enumerate((shrunk.certificate.into, shrunk.certificate.out)):
            for feature in features:
                part = region.with_feature(feature, bool(selected))
                if not part.is_empty:
                    assert best_in(part) <= target + tolerance(problem)


@pytest.fixture(scope="module", params=[1, 4])
def shrinkable(request):
    """A problem of which features can be spared, its bound, and all its values, best first."""
    problem = paper_like(
        n_classes=5, n_features=13, n_selected=4, n_per_class=2, seed=request.param
    )
    bound = semidefinite_bound(Region.whole(problem), effort=BRIEF, max_steps=200)
    found = (assign(problem, np.array(chosen)) for chosen in combinations(range(13), 4))
    exact = [assignment for assignment in found if assignment is not None]
    values = sorted(((problem.objective(a), a.selected) for a in exact), key=lambda v: -v[0])
    return problem, bound, values


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_shrinking_takes_out_what_no_better_selection_uses(shrinkable, rank):
    problem, bound, values = shrinkable
    region = Region.whole(problem)
    target = values[rank][0]
    better = [set(selected.tolist()) for value, selected in values if value > target]
    shrunk = shrink(
        region, bound.state, bound.s < 0.05, bound.s > 0.9,
        target=target, reward=1.3 * (bound.value - target),
    )  # fmt: skip
    if shrunk is None and rank == 3:
        pytest.skip("the gap, and with it the reward, is too large for some")
    out, into = shrunk.certificate.out, shrunk.certificate.into
    assert len(out) >= 2
    assert not set.union(*better) & set(out.tolist())
    assert set(into.tolist()) <= set.intersection(*better)
    found = evaluate(problem, region, arrays(shrunk.certificate))
    assert (found.value - found.loss_in[np.isin(region.free, out)] <= target).all()
    assert (found.value - found.loss_out[np.isin(region.free, into)] <= target).all()


@pytest.mark.parametrize("reward", [0.0, -1.0, 5e-324, math.nan])
def test_nothing_is_decided_without_a_reward(shrinkable, reward):
    problem, bound, values = shrinkable
    region, unwanted = Region.whole(problem), bound.s < 0.05
    none = np.zeros_like(unwanted)
    target = values[1][0]
    assert shrink(region, bound.state, unwanted, none, target=target, reward=reward) is None


@pytest.fixture
def rewards(monkeypatch):
    """All rewards that shrinking tries."""
    tried: list[np.ndarray] = []
    change = Iteration.change_reward

    def noted(iteration, new):
        tried.append(new)
        change(iteration, new)

    monkeypatch.setattr(Iteration, "change_reward", noted)
    return tried


@pytest.mark.parametrize("used_to", [0.0, 0.02, 0.5, 3.0])
def test_a_reward_grows_from_the_one_that_a_state_is_used_to(shrinkable, used_to, rewards):
    problem, bound, values = shrinkable
    region, target = Region.whole(problem), values[1][0]
    reward = 1.6 * (bound.value - target)
    unwanted = bound.s < 0.05
    state = replace(bound.state, reward=used_to * reward * unwanted)
    shrunk = shrink(
        region, state, unwanted, np.zeros_like(unwanted), target=target, reward=reward
    )  # fmt: skip
    sizes = [float(np.abs(tried).max()) for tried in rewards]
    better = [set(selected.tolist()) for value, selected in values if value > target]
    assert not set.union(*better) & set(shrunk.certificate.out.tolist())
    assert sizes[-1] == pytest.approx(reward) == np.abs(shrunk.certificate.reward).max()
    if used_to < shrinking.LEAST_USED:  # as without any
        steps = [reward * i / shrinking.N_GROWING for i in range(1, shrinking.N_GROWING + 1)]
        assert sizes[: len(steps)] == pytest.approx(steps)
    elif used_to < 1.0:
        assert len(sizes) >= 5, "five steps from a half to all"
        assert sizes[:3] == pytest.approx([0.5 * reward * shrinking.GROWTH**i for i in (1, 2, 3)])
    else:
        assert min(sizes) == pytest.approx(reward)


def test_features_leave_while_a_new_reward_grows(shrinkable, rewards):
    problem, bound, values = shrinkable
    unwanted = bound.s < 0.5
    unwanted[np.argmax(bound.s)] = True  # which it is not
    target = values[1][0]
    reward = 1.3 * (bound.value - target)
    shrink(
        Region.whole(problem), bound.state, unwanted, np.zeros_like(unwanted),
        target=target, reward=reward,
    )  # fmt: skip
    assert rewards[0].max() == pytest.approx(reward / shrinking.N_GROWING)
    assert rewards[1].max() > 0.0 and not rewards[1][np.argmax(bound.s)]


def test_a_reward_that_grows_from_an_earlier_one_has_patience(shrinkable, rewards, monkeypatch):
    problem, bound, values = shrinkable
    monkeypatch.setattr(shrinking, "WANTED", -1.0)  # all would leave
    monkeypatch.setattr(shrinking, "WANTED_FULL", -1.0)
    monkeypatch.setattr(shrinking, "WANTED_LATER", 2.0)  # none leaves
    unwanted, none = bound.s < 0.05, np.zeros(len(bound.s), dtype=bool)
    target = values[1][0]
    reward = 1.6 * (bound.value - target)
    for used_to, n_rounds in ((0.0, 1), (0.5, 5)):
        rewards.clear()
        state = replace(bound.state, reward=used_to * reward * unwanted)
        shrink(Region.whole(problem), state, unwanted, none, target=target, reward=reward)
        assert len(rewards) == 1 if n_rounds == 1 else len(rewards) >= n_rounds
        for tried in rewards[:n_rounds]:
            assert np.array_equal(tried > 0.0, unwanted)


@pytest.mark.parametrize("seed", range(7, 13))
def test_shrinking_takes_in_what_every_better_selection_uses(seed):
    problem = paper_like(n_classes=5, n_features=13, n_selected=4, n_per_class=2, seed=seed)
    region = Region.whole(problem)
    bound = semidefinite_bound(region, effort=BRIEF, max_steps=200)
    target = 0.98 * bound.value
    shrunk = shrink(
        region, bound.state, bound.s < 0.05, bound.s > 0.9,
        target=target, reward=1.3 * (bound.value - target),
    )  # fmt: skip
    into = shrunk.certificate.into
    assert len(into) and (shrunk.certificate.reward[into] < 0.0).any()
    for feature in into.tolist():
        assert best_in(region.with_feature(feature, False)) <= target
    assert (evaluate(problem, region, arrays(shrunk.certificate)).loss_out[into] > 0.0).all()


def test_the_checker_accepts_a_proof_that_shrinks(shrinkable, tmp_path):
    problem, bound, values = shrinkable
    target = values[0][0] + 1e-6 * problem.scale
    assert bound.value > target, "nothing would be left to prove"
    region = Region.whole(problem)
    shrunk = shrink(
        region, bound.state, bound.s < 0.05, bound.s > 0.9,
        target=target, reward=1.3 * (bound.value - target),
    )  # fmt: skip
    proof = Proof()
    proof.nodes[0].certificates += [bound.certificate, shrunk.certificate]
    rest = region.fixed(shrunk.certificate.out, shrunk.certificate.into)
    assert len(rest.free) < len(region.free)
    branch_semidefinite(
        proof, 0, rest, target=lambda: target,
        offer=lambda assignment: None, on_bound=lambda bound: None, state=shrunk.state,
    )  # fmt: skip
    path = tmp_path / "proof.npz"
    proof.save(path, problem, target)
    assert check_proof(problem, path).bound == target
    # No certificate justifies that all of the best selection's features are out for a lower claim.
    nothing = np.zeros(0, dtype=np.intp)
    best = replace(shrunk.certificate, out=values[0][1], into=nothing)
    proof.nodes[0].certificates[1] = best
    proof.save(path, problem, values[0][0] - 1e-3 * problem.scale)
    with pytest.raises(InvalidSolutionError, match="does not justify feature"):
        check_proof(problem, path)


@pytest.mark.parametrize(
    ("pace", "threads", "shrinks"),
    [
        (0.0, 1, False),
        (0.0, 2, False),
        (1e9, 1, False),
        (0.0, 1, True),
        (0.0, 2, True),
        (1e9, 1, True),
    ],
)
def test_nodes_are_split_by_their_core_while_the_others_can_wait(
    pace, threads, shrinks, loops, monkeypatch, tmp_path
):
    """Always, or never if the time seems too short for a bound of a single one."""

    def fitting(region, s):
        assert len(s) == len(region.free)
        return rounded(region, s)

    monkeypatch.setattr(semidefinite_tree, "SEARCH_EVERY", 1)
    monkeypatch.setattr(semidefinite_tree, "rounded", fitting)
    monkeypatch.setattr(semidefinite_tree, "CORE_FROM", 15)
    monkeypatch.setattr(semidefinite_tree, "FEW", 0)  # none is split without any bound
    monkeypatch.setattr(semidefinite_tree, "SHRINK_AGAIN", float(shrinks))
    if shrinks:
        monkeypatch.setattr(semidefinite_tree, "WORTH_SHRINKING", 10)
        monkeypatch.setattr(semidefinite_tree, "SHRINKABLE", 0.1)
        monkeypatch.setattr(semidefinite_tree, "MOST_OUTSIDE", 0.1)
    monkeypatch.setattr(semidefinite_tree, "MOST_CORE", 1.0)
    problem = paper_like(8, 24, n_selected=6, n_per_class=3, seed=3)
    region, proof = Region.whole(problem), Proof()
    root = semidefinite_bound(region, effort=BRIEF)
    offered = []

    def offer(assignment):
        offered.append(problem.objective(assignment))

    search(problem, max_restarts=3, seed=0, on_assignment=offer)
    branch_semidefinite(
        proof, 0, region, target=lambda: max(offered) + 1e-6 * problem.scale, offer=offer,
        on_bound=lambda bound: None, state=root.state, value=root.value,
        deadline=time.perf_counter() + 300.0, threads=threads, pace=pace,
    )  # fmt: skip
    parents = {node.parent for node in proof.nodes} - {-1}
    bounds = [proof.nodes[parent].certificates for parent in parents]
    n_quick = sum(all(bound.reward.any() for bound in of_node) for of_node in bounds)
    assert (n_quick > 0) == (loops == "compiled" and pace < 1.0)
    # A node is shrunk before it has any other bound only after its core.
    n_shrunk = sum(bool(of_node) and of_node[0].reward.any() for of_node in bounds)
    assert (n_shrunk > 0) == (loops == "compiled" and shrinks)
    claim = max(offered) + 2e-6 * problem.scale
    proof.save(tmp_path / "proof.npz", problem, claim)
    assert check_proof(problem, tmp_path / "proof.npz").bound == claim


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n_before", [1, 4])
def test_what_is_open_when_it_is_late_is_bounded_for_a_target_that_allows_it(
    n_before, threads, loops, monkeypatch, tmp_path
):
    monkeypatch.setattr(semidefinite_tree, "CORE_FROM", 15)
    monkeypatch.setattr(semidefinite_tree, "FEW", 0)
    monkeypatch.setattr(semidefinite_tree, "MOST_CORE", 1.0)
    monkeypatch.setattr(semidefinite_tree, "WORTH_SHRINKING", 10)
    monkeypatch.setattr(semidefinite_tree, "SHRINKABLE", 0.1)
    monkeypatch.setattr(semidefinite_tree, "MOST_OUTSIDE", 0.1)
    asked: list[list[tuple[float, int | None]]] = []

    def can_wait(tree):
        unfinished = tree._open.unfinished
        asked.append([(node.estimate, node.feature) for node in unfinished])
        assert all(node.estimate <= node.value for node in unfinished)
        return len(asked) <= n_before

    monkeypatch.setattr(semidefinite_tree._Tree, "_can_wait", can_wait)
    problem = paper_like(8, 24, n_selected=6, n_per_class=3, seed=3)
    region, proof = Region.whole(problem), Proof()
    root = semidefinite_bound(region, effort=BRIEF)
    offered = []
    search(
        problem, max_restarts=3, seed=0,
        on_assignment=lambda found: offered.append(problem.objective(found)),
    )  # fmt: skip
    targets = [max(offered) + 1e-6 * problem.scale]
    proof.nodes[0].certificates.append(root.certificate)
    reached = branch_semidefinite(
        proof, 0, region, target=lambda: targets[-1], offer=lambda assignment: None,
        on_bound=lambda bound: None, state=root.state, value=root.value, threads=threads,
        on_late=targets.append,
    )  # fmt: skip
    assert reached == targets[-1]
    assert len(targets) == (2 if loops == "compiled" else 1)
    if loops == "compiled":
        assert len(asked) == n_before + 1
        assert targets[1] == max(estimate for estimate, _ in asked[-1])
        assert targets[0] < targets[1] < root.value
        if n_before == 1:
            assert asked[-1][0][1] is not None, "its core is known, but it is not split yet"
    claim = reached + 1e-6 * problem.scale
    proof.save(tmp_path / "proof.npz", problem, claim)
    assert check_proof(problem, tmp_path / "proof.npz").bound == claim


def test_a_target_that_rises_during_a_core_ends_its_node(monkeypatch):
    """As another thread's assignment makes it."""
    monkeypatch.setattr(semidefinite_tree, "CORE_FROM", 15)
    monkeypatch.setattr(semidefinite_tree, "MOST_CORE", 1.0)
    monkeypatch.setattr(semidefinite_tree, "WORTH_SHRINKING", 10)
    monkeypatch.setattr(semidefinite_tree, "SHRINKABLE", 0.1)
    monkeypatch.setattr(semidefinite_tree, "MOST_OUTSIDE", 0.0)
    problem = paper_like(8, 24, n_selected=6, n_per_class=3, seed=3)
    region, proof = Region.whole(problem), Proof()
    root = semidefinite_bound(region, effort=BRIEF)
    targets = [root.value - 0.05 * abs(root.value)]

    def core(*arguments, **limits):
        targets.append(root.value + 1.0)
        return bound_of_core(*arguments, **limits)

    def unneeded(*arguments, **limits):
        raise AssertionError("nothing is left to shrink for")

    monkeypatch.setattr(semidefinite_tree, "bound_of_core", core)
    monkeypatch.setattr(semidefinite_tree, "shrink", unneeded)
    reached = branch_semidefinite(
        proof, 0, region, target=lambda: targets[-1], offer=lambda assignment: None,
        on_bound=lambda bound: None, state=root.state, value=root.value,
    )  # fmt: skip
    assert reached == targets[-1] and len(targets) == 2 and len(proof.nodes) == 1


@pytest.mark.parametrize(("threads", "most_states"), [(1, math.inf), (3, 1)])
@pytest.mark.parametrize("seed", range(80))
def test_tree_proves_the_optimum(seed, threads, most_states, monkeypatch):
    monkeypatch.setattr(semidefinite_tree, "CORE_FROM", 2)
    monkeypatch.setattr(semidefinite_tree, "MOST_CORE", 1.0)
    monkeypatch.setattr(semidefinite_tree, "FEW", 3)
    problem = random_problem(seed)
    if problem.min_classes_per_feature or len(problem.pairs):
        problem = replace(problem, min_classes_per_feature=0, contrastive_pairs=None)
    region = Region.whole(problem)
    best = optimum(problem)
    if best is None or region.is_empty:
        return
    room = 1e-6 * problem.scale
    offered, bounds = [-math.inf], []
    proof = Proof()
    reached = branch_semidefinite(
        proof, 0, region, target=lambda: best + room,
        offer=lambda assignment: offered.append(problem.objective(assignment)),
        on_bound=bounds.append, threads=threads, most_states=most_states,
    )  # fmt: skip
    assert reached == pytest.approx(best + room)
    assert all(bound >= best - room for bound in bounds)
    assert max(offered) <= best + room
    assert [node.parent < i for i, node in enumerate(proof.nodes)] == [True] * len(proof.nodes)


def failing(*arguments, **options):
    raise np.linalg.LinAlgError


@pytest.mark.parametrize("part", ["shrink", "_Tree._try"])
def test_a_part_that_fails_and_proves_nothing_leaves_the_tree_as_strong(part, monkeypatch):
    problem = paper_like(10, 30, n_selected=8, n_per_class=3, seed=3)
    region = Region.whole(problem)
    monkeypatch.setattr(f"qpm_opt.bounds.semidefinite_tree.{part}", failing)
    monkeypatch.setattr(semidefinite_tree, "WORTH_SHRINKING", 3)
    monkeypatch.setattr(semidefinite_tree, "SHRINKABLE", -1.0)
    monkeypatch.setattr(semidefinite_tree, "NODE_EFFORT", Effort(window=20, share=1.0))
    target = 378.6158  # the optimum and a little more
    proof = Proof()
    reached = branch_semidefinite(
        proof, 0, region, target=lambda: target,
        offer=lambda assignment: None, on_bound=lambda bound: None,
    )  # fmt: skip
    assert reached == target and len(proof.nodes) > 1


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_keeps_what_was_found(threads, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(semidefinite_tree._Tree, "_fix", interrupted)
    problem = paper_like(10, 30, n_selected=8, n_per_class=3, seed=3)
    offered = []
    with pytest.raises(KeyboardInterrupt):
        branch_semidefinite(
            Proof(), 0, Region.whole(problem), target=lambda: 0.0,
            offer=offered.append, on_bound=lambda bound: None, threads=threads,
        )  # fmt: skip
    assert len(offered) == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_leaves_a_sound_tree(threads, tmp_path):
    problem = paper_like(10, 30, n_selected=8, n_per_class=3, seed=3)
    region, proof, bounds = Region.whole(problem), Proof(), []

    def interrupt(bound):
        bounds.append(bound)
        if len(bounds) >= 12 and bound < bounds[1]:  # threads may leave the highest node for last
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        branch_semidefinite(
            proof, 0, region, target=lambda: 0.0,
            offer=lambda assignment: None, on_bound=interrupt, threads=threads,
        )  # fmt: skip
    assert len(proof.nodes) > 1
    claimed = min(bounds) * (1.0 + 1e-9)
    proof.save(tmp_path / "proof.npz", problem, claimed)
    assert check_proof(problem, tmp_path / "proof.npz").bound == claimed


def test_tree_reports_what_it_could_not_close():
    problem = random_problem(2)
    region = Region.whole(problem)
    best = best_in(region)
    bounds = []
    reached = branch_semidefinite(
        Proof(), 0, region, target=lambda: best - 1.0,
        offer=lambda assignment: None, on_bound=bounds.append,
    )  # fmt: skip
    assert reached >= best - 1e-9


def test_the_checker_finds_no_higher_bound_in_single_precision(monkeypatch):
    # Iterates of large regions are in single precision, and not exactly symmetric.
    monkeypatch.setattr(semidefinite, "LARGE", 30)
    monkeypatch.setattr(semidefinite, "REPORT_EVERY", 0.0)
    problem = paper_like(20, 90, n_selected=12, n_per_class=4, seed=1)
    whole = Region.whole(problem)
    bounds = []
    bounds.append(semidefinite.semidefinite_bound(whole, max_steps=300, on_bound=bounds.append))
    assert len(bounds) > 3
    assert bounds[-1].state.T.dtype == np.float32
    for bound in bounds:
        found = evaluate(problem, whole, arrays(bound.certificate))
        assert found.value <= bound.value + 1e-9 * abs(bound.value)
