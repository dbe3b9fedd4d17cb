"""The exact method as a whole: proofs that hold, on time, whatever interrupts it."""

from __future__ import annotations

import json
import math
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest

from qpm_bench.instances import paper_like
from qpm_opt import BoundStatus, Problem, TerminationCondition, solve, verify
from qpm_opt.assign import assign
from qpm_opt.bounds import projections
from qpm_opt.bounds.semidefinite import semidefinite_bound
from qpm_opt.methods import exact
from qpm_opt.methods.base import MethodOptions
from qpm_opt.tracking import Tracker
from tests import oracle
from tests.conftest import DEGENERATE, degenerate, random_problem, scaled


def check(problem: Problem, path, **options):
    """Solve, save and verify; the result."""
    result = solve(problem, threads=1, **options)
    assert result.bound is None or result.bound >= result.objective - 1e-9 * abs(result.objective)
    result.save(path, problem)
    verification = verify(problem, path)
    assert verification.accepted, verification.rejections
    assert (verification.proof is not None) == (result.bound is not None)
    return result


@pytest.fixture
def small_stages(monkeypatch):
    """Problems of a few features take the way of the largest: core, whole, shrinking, stages."""
    monkeypatch.setattr(exact, "CORE_FROM", 20)
    monkeypatch.setattr(exact, "CORE_LEAST", 15)
    monkeypatch.setattr(exact, "SMALL", 5)
    monkeypatch.setattr(exact, "NEAR", -1.0)


@pytest.mark.parametrize("seed", range(3))
def test_stages_prove_the_optimum(small_stages, tmp_path, seed):
    problem = paper_like(n_classes=6, n_features=26, n_selected=5, n_per_class=2, seed=seed)
    result = check(problem, tmp_path / "staged.json", time_limit=120)
    assert result.termination_condition is TerminationCondition.OPTIMAL
    reference = solve(problem, method="compact", threads=1)
    assert result.objective == pytest.approx(reference.objective, rel=1e-6)


def test_a_core_is_never_the_selection_alone(small_stages, tmp_path):
    """Exactly as many features as are selected are worth anything."""
    rng = np.random.default_rng(0)
    n, p = 40, 18
    R = np.triu(0.02 * rng.random((n, n)), 1)
    problem = Problem(
        rng.random((5, n)),
        R + R.T,
        np.where(np.arange(n) < p, 3.0, -3.0) + 0.1 * rng.random(n),
        n_selected=p,
        n_per_class=3,
    )
    assert check(problem, tmp_path / "core.json", time_limit=60).relative_gap < 1e-2


@pytest.mark.parametrize("rows", [3, 5])
def test_what_no_bound_sees_is_enumerated(tmp_path, rows):
    """All classes want the same features and may not have them: no bound gets near the optimum."""
    rng = np.random.default_rng(2)
    R = np.triu(rng.random((9, 9)), 1)
    A = np.tile(10.0 * rng.random(9), (rows, 1))
    problem = Problem(A, R + R.T, rng.random(9), n_selected=5, n_per_class=2)
    result = check(problem, tmp_path / "equal.json", time_limit=120)
    assert result.termination_condition is TerminationCondition.OPTIMAL
    assert result.objective == pytest.approx(oracle.optimum(problem), rel=1e-9)
    assert result.node_count > 10


@pytest.mark.parametrize("time_limit", [0.0, 0.5, 3.0])
def test_any_time_limit_gives_what_was_proved_till_then(tmp_path, time_limit):
    problem = paper_like(n_classes=30, n_features=450, n_selected=20, n_per_class=4, seed=1)
    result = check(problem, tmp_path / "late.json", time_limit=time_limit)
    assert result.termination_condition is TerminationCondition.TIME_LIMIT
    assert problem.violations(result.assignment) == ()
    assert result.bound is not None or time_limit == 0.0


def test_no_phase_may_take_longer_than_the_rest_of_the_time(monkeypatch, small_stages):
    deadlines = []

    def recorded(phase):
        def run(*arguments, deadline, **options):
            deadlines.append(deadline)
            return phase(*arguments, deadline=deadline, **options)

        return run

    for name in ("linear_bound", "semidefinite_bound", "shrink", "branch_semidefinite"):
        monkeypatch.setattr(exact, name, recorded(getattr(exact, name)))
    problem = paper_like(n_classes=6, n_features=26, n_selected=5, n_per_class=2, seed=0)
    latest = time.perf_counter() + 0.9
    solve(problem, threads=1, time_limit=0.9)
    assert deadlines
    assert max(deadlines) <= latest + 0.1  # 0.1 for what is between our call and its first line


def test_an_interruption_keeps_the_proof(monkeypatch, small_stages, tmp_path):
    calls = []

    def interrupted(*arguments, **options):
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(exact, "branch_semidefinite", interrupted)
    problem = paper_like(n_classes=8, n_features=40, n_selected=6, n_per_class=2, seed=0)
    result = check(problem, tmp_path / "interrupted.json")
    assert calls
    assert result.termination_condition is TerminationCondition.INTERRUPTED
    assert result.bound is not None


def test_the_gap_asked_for_ends_the_search(tmp_path):
    problem = paper_like(n_classes=12, n_features=60, n_selected=8, n_per_class=3, seed=2)
    result = check(problem, tmp_path / "gap.json", gap=0.05)
    assert result.relative_gap <= 0.05
    assert result.termination_condition in (
        TerminationCondition.GAP_LIMIT,
        TerminationCondition.OPTIMAL,
    )


def test_one_seed_and_thread_give_one_result():
    problem = paper_like(n_classes=10, n_features=50, n_selected=8, n_per_class=3, seed=3)
    first, second = (solve(problem, threads=1, seed=4) for _ in range(2))
    assert first.objective == second.objective
    assert first.bound == second.bound
    assert first.node_count == second.node_count
    assert (first.assignment.matrix == second.assignment.matrix).all()


@pytest.mark.parametrize("n_good", [0, 30, 200])
def test_a_failing_eigen_solver_weakens_the_bound_and_nothing_else(
    monkeypatch, small_stages, tmp_path, caplog, n_good
):
    calls = []
    true_map = projections.spectral_map

    def failing(*arguments):
        calls.append(1)
        if len(calls) > n_good:
            raise np.linalg.LinAlgError("no convergence")
        return true_map(*arguments)

    monkeypatch.setattr(projections, "spectral_map", failing)
    problem = paper_like(n_classes=8, n_features=40, n_selected=6, n_per_class=2, seed=0)
    result = check(problem, tmp_path / "failing.json")
    assert len(calls) > n_good
    assert result.bound is not None
    assert result.termination_condition is TerminationCondition.ERROR
    assert "eigenvalue" in caplog.text


def test_a_relaxation_that_does_not_fit_in_memory_is_left_out(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(exact, "physical_memory", lambda: 1e5)
    problem = paper_like(n_classes=8, n_features=40, n_selected=6, n_per_class=2, seed=0)
    result = check(problem, tmp_path / "large.json")
    assert result.termination_condition is TerminationCondition.MEMORY_LIMIT
    assert "linear" in result.bound_kind
    assert "40 features would take" in caplog.text


@pytest.mark.parametrize("side", ["pairs", "partners", "uses"])
def test_side_constraints_are_met_and_bounds_that_ignore_them_say_so(tmp_path, side):
    problem = paper_like(n_classes=5, n_features=14, n_selected=5, n_per_class=2, seed=4)
    constraints = {
        "pairs": {"contrastive_pairs": np.array([[0, 1], [2, 3]])},
        "partners": {"min_contrastive_pairs": 5},
        "uses": {"min_classes_per_feature": 2},
    }[side]
    problem = replace(problem, **constraints)
    result = solve(problem, threads=1)
    assert result.objective == pytest.approx(oracle.optimum(problem), rel=1e-6)
    result.save(tmp_path / "side.json", problem)
    assert verify(problem, tmp_path / "side.json").accepted
    short = solve(problem, threads=1, gap=10.0)
    word = "least uses" if side == "uses" else "contrastive pairs"
    assert short.bound_kind.endswith(word) or word in short.bound_kind


@pytest.mark.parametrize("n_classes", [0, 6])
@pytest.mark.parametrize("similar", [False, True])
@pytest.mark.parametrize("unit", [1.0, 0.25, 2.0**-40, 2.0**300])
def test_bounds_on_integral_data_are_integral(n_classes, similar, unit, tmp_path):
    rng = np.random.default_rng(5)
    weight = np.triu(-rng.integers(0, 2, (14, 14)).astype(float), 1) * similar
    problem = Problem(
        rng.integers(-9, 9, (n_classes, 14)).astype(float),
        weight + weight.T,
        n_selected=6,
        n_per_class=2 if n_classes else 0,
        distinct=n_classes > 0,
    )
    problem = scaled(problem, unit)
    result = check(problem, tmp_path / "integral.json")
    assert result.objective == result.bound == oracle.optimum(problem)


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_data(tmp_path, name):
    problem = degenerate(name)
    result = check(problem, tmp_path / "degenerate.json")
    best = oracle.optimum(problem)
    assert result.objective == pytest.approx(best, rel=1e-6, abs=1e-7 * problem.scale)
    assert result.termination_condition is TerminationCondition.OPTIMAL


@pytest.mark.parametrize("scale", [1e-190, 1e-45, 1e45, 1e98])
def test_proofs_reach_as_far_as_coefficients(tmp_path, scale):
    rng = np.random.default_rng(0)
    A, R = rng.normal(size=(4, 12)), np.triu(rng.normal(size=(12, 12)), 1)
    problem = scaled(Problem(A, R + R.T, n_selected=5, n_per_class=2), scale)
    path = tmp_path / "solution.json"
    result = check(problem, path)
    assert "semidefinite" in result.bound_kind
    assert result.termination_condition is TerminationCondition.OPTIMAL
    again = solve(problem, method="heuristic", warm_start=path, threads=1)
    assert again.bound == pytest.approx(result.bound, rel=1e-9, abs=0)


def test_a_bound_changed_by_hand_is_caught(tmp_path):
    problem = paper_like(n_classes=10, n_features=40, n_selected=8, n_per_class=3, seed=0)
    path = tmp_path / "solution.json"
    result = check(problem, path, gap=0.02)
    record = json.loads(path.read_text())
    lower = (result.bound + result.objective) / 2
    record["bound"], record["absolute_gap"] = lower, lower - result.objective
    record["relative_gap"] = record["absolute_gap"] / abs(result.objective)
    path.write_text(json.dumps(record))
    assert not verify(problem, path).accepted


@pytest.mark.parametrize(
    "name",
    [
        "kcluster40_025_10_1", "kcluster40_075_30_5", "GKD-b_1_n25_m2", "GKD-b_7_n25_m7",
        "GKD-b_11_n50_m5", "QPLIB_3834", "pmed1", "pmed2", "pmed6",
    ],
)  # fmt: skip
def test_public_instances_are_proved(data_dir, tmp_path, name):
    problem = Problem.load(data_dir / "instances" / f"{name}.npz")
    result = check(problem, tmp_path / "public.json", time_limit=120)
    assert result.termination_condition is TerminationCondition.OPTIMAL
    assert math.isclose(result.objective, problem.best_known, rel_tol=1e-6)


def test_saving_keeps_every_certificate_that_is_still_named(tmp_path):
    problem = random_problem(3, n_selected=3, n_per_class=2, distinct=False)
    result = solve(problem, time_limit=60.0)
    assert result.proof is not None
    path, copy, other = (tmp_path / f"{name}.json" for name in ("one", "copy", "other"))
    result.save(path, problem)
    shutil.copy(path, copy)
    shutil.copy(path, other)
    result.save(path, problem)  # the copies name the first certificate
    result.save(other, problem)  # which is not this file's own
    for solution in (path, copy, other):
        assert verify(problem, solution).bound_status is BoundStatus.PROVED, solution
    copy.unlink()
    # A solution whose certificate is gone is replaced by one whose certificate is there.
    for certificate in tmp_path.glob("*.certificate*"):
        certificate.unlink()
    for _ in range(2):
        result.save(path, problem)
        assert verify(problem, path).bound_status is BoundStatus.PROVED
        assert len(list(tmp_path.glob("one.certificate*"))) == 1


@pytest.mark.parametrize("gap", [1e-3, 1e-4, 1e-5])
def test_small_gaps_are_reached(gap):
    # What a claim leaves to rounding is a part of what the gap allows.
    rng = np.random.default_rng(3)
    edge = np.triu(rng.random((50, 50)) < 0.25, 1)
    weight = edge * (1.0 + 0.1 * rng.random((50, 50)))
    problem = Problem(
        np.zeros((0, 50)), -(weight + weight.T), n_selected=12, n_per_class=0, distinct=False
    )
    result = solve(problem, threads=1, gap=gap, time_limit=60)
    assert result.termination_condition is TerminationCondition.GAP_LIMIT
    assert result.relative_gap <= gap


@pytest.fixture
def between_stages():
    """An exact solve with bound 110 and assignment 100, and a tree of 5 leaves in 10 s."""
    tracker = Tracker(paper_like(4, 12, n_selected=4, n_per_class=2, seed=0), time_limit=1000)
    tracker.objective = 100.0
    method = exact._Exact(tracker.problem, tracker, MethodOptions(threads=1))
    method._unit, method._tree_time, method._n_leaves = 0.0, 10.0, 5
    return method


def test_the_next_target_is_what_the_time_left_seems_to_allow(between_stages):
    """A tree had five leaves for 1 of 10, so it should have 25 for 2, in five times the time."""
    method = between_stages

    def distance(seconds: float) -> float:
        """From the last target to the next, with so much time left."""
        method._deadline = time.perf_counter() + seconds
        return 109.0 - method._target(method._next_share(110.0, 109.0), 109.0)

    def by_tree(ratio: float) -> object:
        return pytest.approx(math.log(ratio) / math.log(5.0), abs=0.01)

    assert distance(50.0 / exact.AIM) == pytest.approx(1.0, abs=0.01)
    most = 0.999 * exact.PATIENCE
    assert distance(10.0 * most / exact.AIM) == by_tree(most)
    assert distance(1000.0 / exact.AIM) == by_tree(10.0), "so much further is a guess"
    assert distance(math.inf) == by_tree(exact.PATIENCE)
    assert distance(0.01) == pytest.approx(0.9, abs=0.01), "next to nothing is left to lose"
    assert method._next_share(110.0, 100.9) == 0.0, "what is left is little"


def test_a_tree_that_took_no_time_says_little(between_stages):
    method = between_stages
    method._tree_time, method._n_leaves = 0.0, 1
    further = 109.0 - method._target(method._next_share(110.0, 109.0), 109.0)
    assert further == pytest.approx(math.log2(exact.PATIENCE), abs=0.01), "two leaves, at least"


@pytest.mark.parametrize(
    ("highest", "unit", "proved"),
    [(105.5, 0.0, 105.5), (105.5, 1.0, 106.0), (101.0, 0.0, 102.0), (109.9, 0.0, None),
     (110.0, 0.0, None), (109.5, 1.0, None)],
)  # fmt: skip
def test_a_late_stage_has_a_target_that_it_can_reach(
    between_stages, monkeypatch, highest, unit, proved
):
    """If that says much more than what is known then, which is 110; its own target is 102."""
    method = between_stages
    method._unit = unit
    method.tracker.bound = 200.0

    def branch(*arguments, target, on_late, **limits):
        method.tracker.bound = method._claimed(110.0)
        on_late(highest)
        return target() if proved else 104.0

    monkeypatch.setattr(exact, "branch_semidefinite", branch)
    root = semidefinite_bound(method.whole, max_steps=20)
    reached, _ = method._stage(replace(root, value=110.0), root.state, 102.0)
    assert reached == (pytest.approx(proved) if proved else None)
    assert not proved or method._claimed(reached) <= proved + 1e-6


def test_a_better_assignment_ends_a_stage(monkeypatch):
    # Nothing between the target of the stage and the assignment has to be proved.
    monkeypatch.setattr(exact._Exact, "_search", lambda self, *limits: None)
    problem = paper_like(10, 30, n_selected=8, n_per_class=3, seed=3)
    best = solve(problem, threads=1)
    tracker = Tracker(problem)
    worst = np.argsort(problem.class_similarity.max(axis=0))[:8]
    tracker.offer(assign(problem, np.sort(worst)), "a test")
    outcome = exact.run(problem, tracker, MethodOptions(threads=1))
    assert tracker.closed and tracker.objective == pytest.approx(best.objective)
    assert outcome.node_count < 100
