"""The projected linear bound and its tree against enumeration."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import OptimizeResult, linprog

from qpm_opt.bounds import linear, linear_cuts, linear_tree, linear_warm
from qpm_opt.bounds.linear import linear_bound
from qpm_opt.bounds.linear_tree import branch_linear
from qpm_opt.bounds.linear_warm import WarmBounds
from qpm_opt.bounds.proof import Proof
from qpm_opt.bounds.region import Region
from qpm_opt.problem import Problem
from qpm_opt.proof_check import check_proof
from tests.conftest import random_problem
from tests.oracle import _assignment, optimum


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


class Solve:
    """One run of the tree on a whole problem, with the incumbent it was given."""

    def __init__(self, problem, *, start=-math.inf, deadline=math.inf, interrupt_at=None):
        self.problem, self.best = problem, start
        self.n_offers, self.interrupt_at = 0, interrupt_at
        self.bounds, self.proof = [], Proof()
        self.bound = None
        try:
            self.bound = branch_linear(
                self.proof,
                0,
                Region.whole(problem),
                cutoff=self.cutoff,
                offer=self.offer,
                on_bound=self.bounds.append,
                deadline=deadline,
            )
        except KeyboardInterrupt:
            pass

    def cutoff(self):
        return self.best + 1e-9 * max(1.0, abs(self.best)) if self.best > -math.inf else self.best

    def offer(self, assignment):
        assert not self.problem.violations(assignment)
        self.best = max(self.best, self.problem.objective(assignment))
        self.n_offers += 1
        if self.n_offers == self.interrupt_at:
            raise KeyboardInterrupt


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**31))
def test_the_tree_proves_the_optimum(seed):
    problem = tiny_problem(seed, similar=False)
    best = optimum(problem)
    solve = Solve(problem)
    assert solve.best == pytest.approx(best, rel=1e-9, abs=1e-9)
    assert solve.bound == solve.cutoff()
    assert solve.bounds == sorted(solve.bounds, reverse=True)
    assert all(bound >= best - 1e-9 for bound in solve.bounds)


def branching_problem(seed):
    """Random similarities, of which the relaxation leaves a gap of about a percent."""
    A = np.random.default_rng(seed).random((30, 20))
    return Problem(A, np.zeros((20, 20)), n_selected=5, n_per_class=1, distinct=False)


@pytest.mark.parametrize("seed", range(6))
def test_the_tree_proves_what_the_bound_alone_does_not(seed):
    problem = branching_problem(seed)
    sets = np.array(list(combinations(range(20), 5)))
    best = problem.class_similarity[:, sets].max(axis=2).sum(axis=0).max()
    solve = Solve(problem)
    assert solve.best == pytest.approx(best, rel=1e-12)
    assert solve.bound == solve.cutoff()
    assert len(solve.proof.nodes) > 1


@pytest.fixture
def children(monkeypatch):
    """The tree keeps its program alive from the first split on; the processes it started."""
    monkeypatch.setattr(linear_tree, "WARM_FROM", 0)
    started = []

    class Child(linear_warm._Child):
        def __init__(self, model):
            super().__init__(model)
            started.append(self._process)

    monkeypatch.setattr(linear_warm, "_Child", Child)
    yield started
    assert all(process.returncode is not None for process in started)


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_program_kept_alive_bounds_every_part(seed, distinct):
    """Without pairs as low as a program solved from scratch; the first two classes collide."""
    rng = np.random.default_rng(seed)
    A = rng.random((4, 7))
    A[1] = A[0] + 0.05 * rng.random(7)
    problem = Problem(
        A, np.zeros((7, 7)), rng.random(7), n_selected=4, n_per_class=2, distinct=distinct
    )
    whole = Region.whole(problem)
    state = linear_bound(whole).state
    warm = WarmBounds(whole, state)
    for _ in range(25):
        part = random_region(problem, rng)
        bound = warm.bound(part, state)
        check(part, bound)
        if part.single is None and not distinct:
            best = linear_bound(part).value
            assert bound.value == pytest.approx(best, rel=2 * linear_warm.ACCURACY)
    warm.close()


def test_inequalities_may_leave_the_program_kept_alive(monkeypatch):
    monkeypatch.setattr(linear_warm, "AGE", 2)
    n_dead, ask = 0, linear_warm._Child.ask

    def counting(child, job):
        nonlocal n_dead
        n_dead += len(getattr(job, "dead", ()))
        return ask(child, job)

    monkeypatch.setattr(linear_warm._Child, "ask", counting)
    problem, rng = branching_problem(0), np.random.default_rng(0)
    whole = Region.whole(problem)
    state = linear_bound(whole).state
    warm = WarmBounds(whole, state)
    for _ in range(20):
        part = random_region(problem, rng)
        if part.single is None:
            best = linear_bound(part).value
            value = warm.bound(part, state).value
            assert value == pytest.approx(best, rel=2 * linear_warm.ACCURACY)
    warm.close()
    assert n_dead


def test_a_probe_is_no_lower_than_the_optimum_of_its_side():
    whole = Region.whole(branching_problem(0))
    root = linear_bound(whole)
    warm = WarmBounds(whole, root.state)
    assert warm.bound(whole, root.state) is not None
    values = warm.probe(whole, whole.free[:6], math.inf)
    warm.close()
    assert warm.probe(whole, whole.free, math.inf) is None
    for feature in range(6):
        for selected in (False, True):
            best = linear_bound(whole.with_feature(feature, selected)).value
            assert best - 1e-6 <= values[feature, int(selected)] <= root.value + 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_the_tree_proves_with_a_program_kept_alive(children, tmp_path, seed):
    problem = branching_problem(seed)
    sets = np.array(list(combinations(range(20), 5)))
    best = problem.class_similarity[:, sets].max(axis=2).sum(axis=0).max()
    solve = Solve(problem)
    assert len(children) == 1
    assert solve.best == pytest.approx(best, rel=1e-12)
    assert solve.bound == solve.cutoff()
    solve.proof.save(tmp_path / "proof.npz", problem, solve.bound)
    assert check_proof(problem, tmp_path / "proof.npz").bound == solve.bound


def test_the_tree_outlives_its_child(children, monkeypatch):
    expected = Solve(branching_problem(1)).bound
    monkeypatch.setattr(linear_warm, "_BOOTSTRAP", "raise SystemExit(1)")
    assert Solve(branching_problem(1)).bound == expected
    assert len(children) == 2


def test_a_child_that_lies_costs_only_strength(monkeypatch):
    rng = np.random.default_rng(0)

    class Liar:
        def __init__(self, model):
            self.n_columns, self.n_rows = len(model.cost), 0

        def ask(self, job):
            self.n_rows += job.rows.shape[0] - len(job.dead)
            x, dual, slack = (rng.random(n) for n in (self.n_columns, self.n_rows, self.n_rows))
            return linear_warm._Optimum(x, 1.5 * dual, slack)

    monkeypatch.setattr(linear_warm, "_Child", Liar)
    monkeypatch.setattr(linear_warm, "AGE", 2)
    for seed in range(60):
        problem = tiny_problem(seed, similar=False)
        whole = Region.whole(problem)
        state = linear_bound(whole, max_rounds=1).state
        warm = WarmBounds(whole, state)
        for _ in range(3):
            part = random_region(problem, rng)
            check(part, warm.bound(part, state))


def test_an_interrupt_ends_the_child(children):
    assert Solve(branching_problem(1), interrupt_at=10).bound is None
    assert len(children) == 1


def test_the_tree_is_deterministic(children):
    first, second = Solve(branching_problem(1)), Solve(branching_problem(1))
    assert len(children) == 2
    decisions = [
        [(n.parent, n.feature, n.selected) for n in s.proof.nodes] for s in (first, second)
    ]
    assert decisions[0] == decisions[1] and len(decisions[0]) > 1
    assert first.bound == second.bound and first.best == second.best


def test_the_tree_ends_at_its_deadline_with_a_bound():
    for seed in range(30):
        problem = tiny_problem(seed, similar=False)
        solve = Solve(problem, deadline=time.perf_counter())
        assert solve.bound >= optimum(problem) - 1e-9
        assert solve.proof.nodes[0].certificates
    problem = branching_problem(1)
    best = Solve(problem).best
    for seconds in (0.1, 0.3):
        solve = Solve(problem, deadline=time.perf_counter() + seconds)
        assert solve.bound >= best and solve.bound == max(solve.bounds[-1], solve.cutoff())


def test_an_interrupt_leaves_the_proof_and_the_bounds(tmp_path):
    solve = Solve(branching_problem(1), interrupt_at=10)
    assert solve.bound is None and solve.n_offers == 10
    assert solve.bounds[-1] >= Solve(branching_problem(1)).best
    solve.proof.save(tmp_path / "proof.npz", solve.problem, solve.bounds[-1] + 1e-9)
    check_proof(solve.problem, tmp_path / "proof.npz")


def test_the_tree_refuses_similarities():
    R = np.ones((4, 4)) - np.eye(4)
    with pytest.raises(ValueError, match="similarities"):
        Solve(Problem(np.ones((1, 4)), R, n_selected=2, n_per_class=1))


@pytest.mark.parametrize("name", ["pmed1", "pmed2", "pmed5", "pmed6", "grocery_81x1024"])
def test_public_optima_are_proved(data_dir, name):
    problem = Problem.load(data_dir / "instances" / f"{name}.npz")
    if name.startswith("grocery"):
        without = np.zeros_like(problem.feature_similarity)
        problem = replace(problem, feature_similarity=without, best_known=299.782734046)
    solve = Solve(problem)
    assert solve.best == pytest.approx(problem.best_known, rel=1e-9)
    assert solve.bound == solve.cutoff()


def test_proofs_pass_the_independent_check(tmp_path):
    problems = [branching_problem(seed) for seed in range(3)]
    problems += [tiny_problem(seed, similar=False) for seed in range(40)]
    for problem in problems:
        solve = Solve(problem)
        solve.proof.save(tmp_path / "proof.npz", problem, solve.bound)
        assert check_proof(problem, tmp_path / "proof.npz").bound == solve.bound
