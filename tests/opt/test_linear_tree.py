"""The linear tree, alone and with a program kept alive, against enumeration."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qpm_opt.bounds import linear_tree, linear_warm
from qpm_opt.bounds.linear import BASIC, Basis, linear_bound
from qpm_opt.bounds.linear_tree import branch_linear
from qpm_opt.bounds.linear_warm import WarmBounds
from qpm_opt.bounds.proof import Proof
from qpm_opt.bounds.region import Region
from qpm_opt.problem import Problem
from qpm_opt.proof_check import check_proof
from tests.oracle import optimum
from tests.regions import check, random_region, tiny_problem


class Solve:
    """One run of the tree on a whole problem, with the incumbent it was given."""

    def __init__(
        self, problem, *, start=-math.inf, deadline=math.inf, interrupt_at=None, threads=1
    ):
        self.problem, self.best = problem, start
        self.n_calls, self.interrupt_at = 0, interrupt_at
        self.bounds, self.proof = [], Proof()
        self.bound = None
        try:
            self.bound = branch_linear(
                self.proof,
                0,
                Region.whole(problem),
                cutoff=self.cutoff,
                offer=self.offer,
                on_bound=self.report,
                deadline=deadline,
                threads=threads,
            )
        except KeyboardInterrupt:
            pass

    def cutoff(self):
        return self.best + 1e-9 * max(1.0, abs(self.best)) if self.best > -math.inf else self.best

    def offer(self, assignment):
        assert not self.problem.violations(assignment)
        self.best = max(self.best, self.problem.objective(assignment))
        self.count()

    def report(self, bound):
        self.bounds.append(bound)
        self.count()

    def count(self):
        self.n_calls += 1
        if self.n_calls == self.interrupt_at:
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
        def __init__(self):
            super().__init__()
            started.append(self._process)

    monkeypatch.setattr(linear_warm, "_Child", Child)
    yield started
    assert all(process.returncode is not None for process in started)


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_program_kept_alive_bounds_every_part(seed, distinct, monkeypatch):
    """Without pairs as low as a program solved from scratch; the first two classes collide."""
    monkeypatch.setattr(linear_warm, "ACCURACY", 1e-3)
    rng = np.random.default_rng(seed)
    A = rng.random((4, 7))
    A[1] = A[0] + 0.05 * rng.random(7)
    problem = Problem(
        A, np.zeros((7, 7)), rng.random(7), n_selected=4, n_per_class=2, distinct=distinct
    )
    whole = Region.whole(problem)
    state = linear_bound(whole).state
    warm = WarmBounds()
    warm.load(whole, state)
    for _ in range(25):
        part = random_region(problem, rng)
        bound = warm.bound(part, state)
        check(part, bound)
        if part.single is None and not distinct:
            best = linear_bound(part).value
            assert bound.value == pytest.approx(best, rel=2 * linear_warm.ACCURACY)
    warm.close()


@pytest.mark.parametrize("distinct", [False, True])
def test_the_program_goes_down_a_tree(distinct, monkeypatch):
    """From leaf to leaf with the basis and the tight inequalities of the leaf before."""
    monkeypatch.setattr(linear_warm, "ACCURACY", 1e-3)
    monkeypatch.setattr(linear_warm, "MAX_ROUNDS", 20)
    rng = np.random.default_rng(0)
    A = rng.random((8, 12))
    A[1] = A[0] + 0.05 * rng.random(12)
    problem = Problem(A, np.zeros((12, 12)), n_selected=5, n_per_class=2, distinct=distinct)
    warm, n_complete = WarmBounds(), 0
    for _ in range(8):
        region = Region.whole(problem)
        state = linear_bound(region).state
        while True:
            warm.load(region, state)
            region = region.with_feature(int(rng.choice(region.free)), bool(rng.integers(2)))
            if region.is_empty or region.single is not None:
                break
            bound = warm.bound(region, state)
            check(region, bound)
            if not distinct:
                best = linear_bound(region).value
                assert bound.value == pytest.approx(best, rel=2 * linear_warm.ACCURACY)
            state = bound.state
            columns, rows = state.basis.on(region.free)
            assert len(columns) == len(region.free) + problem.n_classes
            assert len(rows) == 1 + len(state.cuts.classes) + len(state.cuts.pairs)
            n_complete += (columns == BASIC).sum() + (rows == BASIC).sum() == len(rows)
    warm.close()
    assert n_complete > 20


def test_a_probe_is_no_lower_than_the_optimum_of_its_side():
    whole = Region.whole(branching_problem(0))
    root = linear_bound(whole)
    warm = WarmBounds()
    warm.load(whole, root.state)
    assert warm.bound(whole, root.state) is not None
    values = warm.probe(whole, whole.free[:6], math.inf)
    warm.close()
    assert warm.probe(whole, whole.free, math.inf) is None
    for feature in range(6):
        for selected in (False, True):
            best = linear_bound(whole.with_feature(feature, selected)).value
            assert best - 1e-6 <= values[feature, int(selected)] <= root.value + 1e-6


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_the_tree_proves_with_a_program_kept_alive(children, tmp_path, seed, threads):
    problem = branching_problem(seed)
    sets = np.array(list(combinations(range(20), 5)))
    best = problem.class_similarity[:, sets].max(axis=2).sum(axis=0).max()
    solve = Solve(problem, threads=threads)
    assert 1 <= len(children) <= threads
    assert solve.best == pytest.approx(best, rel=1e-12)
    assert solve.bound == solve.cutoff()
    solve.proof.save(tmp_path / "proof.npz", problem, solve.bound)
    assert check_proof(problem, tmp_path / "proof.npz").bound == solve.bound


def test_the_tree_outlives_its_child(children, monkeypatch):
    expected = Solve(branching_problem(1)).bound
    start = linear_warm.start_child
    monkeypatch.setattr(
        linear_warm, "start_child", lambda module, **streams: start("no_module", **streams)
    )
    assert Solve(branching_problem(1)).bound == expected
    assert len(children) == 2


def test_a_child_that_lies_costs_only_strength(monkeypatch):
    rng = np.random.default_rng(0)

    class Liar:
        def ask(self, job):
            if isinstance(job, linear_warm._Model):
                self.n_columns, self.n_rows = len(job.cost), 0
            self.n_rows += job.rows.shape[0]
            x, dual, slack = (rng.random(n) for n in (self.n_columns, self.n_rows, self.n_rows))
            basis = (rng.integers(5, size=n).astype(np.int8) for n in (len(x), 1 + len(dual)))
            return linear_warm._Optimum(x, 1.5 * dual, slack, *basis)

    monkeypatch.setattr(linear_warm, "_Child", Liar)
    for seed in range(60):
        problem = tiny_problem(seed, similar=False)
        whole = Region.whole(problem)
        state = linear_bound(whole, max_rounds=1).state
        warm = WarmBounds()
        warm.load(whole, state)
        for _ in range(3):
            part = random_region(problem, rng)
            check(part, warm.bound(part, state))


def test_a_basis_without_sense_costs_only_time():
    rng = np.random.default_rng(0)
    problem = branching_problem(0)
    whole = Region.whole(problem)
    root = linear_bound(whole)
    warm = WarmBounds()
    n_rows = 1 + len(root.state.cuts.classes) + len(root.state.cuts.pairs)
    for n_basic in (0, n_rows, n_rows + 20):
        columns, rows = np.zeros(20 + 30, dtype=np.int8), np.zeros(n_rows, dtype=np.int8)
        columns[rng.permutation(50)[:n_basic]] = BASIC
        rows[: n_basic - columns.sum()] = BASIC
        warm.load(whole, replace(root.state, basis=Basis(whole.free, columns, rows)))
        part = whole.with_feature(3, True)
        best = linear_bound(part).value
        value = warm.bound(part, root.state).value
        assert value == pytest.approx(best, rel=2 * linear_warm.ACCURACY)
    warm.close()


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_ends_the_children(children, threads, tmp_path):
    problem = branching_problem(1)
    solve = Solve(problem, interrupt_at=5, threads=threads)
    assert solve.bound is None
    assert 1 <= len(children) <= threads
    claimed = min(solve.bounds) * (1.0 + 1e-9)
    solve.proof.save(tmp_path / "proof.npz", problem, claimed)
    assert check_proof(problem, tmp_path / "proof.npz").bound == claimed


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
    assert solve.bound is None and solve.n_calls == 10
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
