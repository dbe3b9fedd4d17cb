"""Peers: what they find is feasible and recomputed, and whatever they do costs one record."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from itertools import combinations, product
from math import inf

import numpy as np
import pytest
from click.testing import CliRunner

from qpm_bench.cli import bench
from qpm_bench.judge import judge
from qpm_bench.peers import PEERS, annealing
from qpm_bench.peers.qubo import qubo, size
from qpm_bench.peers.run import PeerRun
from qpm_bench.records import Status
from qpm_bench.runner import add_instances, campaign, make_starts, plan
from qpm_opt import (
    InvalidInputError,
    Problem,
    SolverNotAvailableError,
    UnsupportedFormulationError,
)
from tests.conftest import random_problem
from tests.oracle import optimum

DISTRIBUTION = {
    "submodular-greedy": "apricot-select",
    "pbp-pmedian": "pbp-pmedian",
    "simulated-annealing": "dwave-samplers",
}
MODULE = {
    "submodular-greedy": "apricot",
    "pbp-pmedian": "pbp_pmedian",
    "simulated-annealing": "dwave.samplers",
}


def demand(peer: str) -> None:
    try:
        metadata.version(DISTRIBUTION[peer])
    except metadata.PackageNotFoundError:
        pytest.skip(f"{peer}: {DISTRIBUTION[peer]} is missing; pip install '.[peers]'")


class Looks(PeerRun):
    """A run whose time is over when it has looked at the clock so often."""

    n = 200

    @property
    def left(self) -> float:
        self.n -= 1
        return 60.0 if self.n > 0 else 0.0


def solved(peer: str, problem: Problem, **options) -> PeerRun:
    """In this process; not for pbp-pmedian, as HiGHS and OR-Tools cannot share one."""
    demand(peer)
    task = Looks(problem=problem, time_limit=60.0, **options)
    PEERS[peer](task)
    return task


def generic(seed: int, n_classes: int, n_features: int, p: int, k: int, **fixed) -> Problem:
    rng = np.random.default_rng(seed)
    R = np.triu(rng.normal(size=(n_features, n_features)), 1)
    if seed % 2:
        R = abs(R)
    arguments = {"n_selected": p, "n_per_class": k, "distinct": False} | fixed
    A, b = rng.normal(size=(n_classes, n_features)), rng.normal(size=n_features)
    return Problem(A, R + R.T, b, **arguments)


def p_median(seed: int, n: int, p: int, **fixed) -> Problem:
    """Whole distances of points in the plane."""
    points = np.random.default_rng(seed).integers(0, 100, (n, 2))
    distance = abs(points[:, None] - points[None]).sum(axis=2)
    arguments = {"n_selected": p, "n_per_class": 1, "distinct": False} | fixed
    return Problem(-distance.astype(float), np.zeros((n, n)), **arguments)


def record_of(folder, problem: Problem, peer: str, **options):
    hashes = add_instances(folder, {"one": problem})
    (run,) = plan(hashes, [(peer, "")], **{"time_limit": 60.0} | options)
    (record,) = campaign(folder, [run])
    (judged,) = judge([record], {"one": problem})
    return judged.record


@pytest.mark.parametrize("peer", ["submodular-greedy", "simulated-annealing"])
@pytest.mark.parametrize("seed", range(12))
def test_what_a_peer_finds_is_feasible_and_not_above_the_optimum(peer, seed):
    problem = random_problem(seed)
    task = solved(peer, problem)
    assert task.assignment is not None and task.bound is None
    assert not problem.violations(task.assignment)
    assert task.objective == problem.objective(task.assignment)
    assert task.objective <= optimum(problem) + 1e-9
    incumbents = [entry[1] for entry in task.progress]
    assert incumbents == sorted(set(incumbents)) and incumbents[-1] == task.objective
    assert DISTRIBUTION[peer] in task.versions


def plain_greedy(problem: Problem) -> set[int]:
    """Adds the feature with which the value, by its definition, is largest."""
    A, R, k = problem.class_similarity, problem.feature_similarity, problem.n_per_class

    def value(chosen):
        top = sum(sum(sorted((row[d] for d in chosen), reverse=True)[:k]) for row in A)
        pairs = sum(R[d, e] for d, e in combinations(chosen, 2))
        return top - pairs + sum(problem.bias[d] for d in chosen)

    chosen: list[int] = []
    while len(chosen) < problem.n_selected:
        others = set(np.flatnonzero(problem.candidates)) - set(chosen)
        chosen.append(max(others, key=lambda d: value([*chosen, d])))
    return set(map(int, chosen))


@pytest.mark.parametrize("seed", range(10))
def test_the_greedy_of_apricot_is_the_plain_one(seed):
    candidate = np.arange(14) != seed
    shape = [(4, 14, 6, 2), (5, 14, 7, 3), (3, 14, 4, 4), (0, 14, 5, 0), (6, 14, 3, 1)][seed // 2]
    problem = generic(seed, *shape, candidate=candidate)
    found = solved("submodular-greedy", problem).assignment
    assert set(found.selected.tolist()) == plain_greedy(problem)


@pytest.mark.parametrize("seed", range(6))
def test_annealing_finds_the_optimum_of_tiny_problems(seed):
    problem = generic(seed, 3, 7, 3, 2)
    assert solved("simulated-annealing", problem).objective == pytest.approx(optimum(problem))


def test_reads_of_the_wrong_size_are_lost_and_said(monkeypatch):
    # Weights that enforce nothing: all features pay, so all are selected.
    monkeypatch.setattr(annealing, "qubo", lambda problem, strength: qubo(problem, 0.0))
    problem = Problem(np.empty((0, 6)), np.zeros((6, 6)), np.arange(1.0, 7.0),
                      n_selected=5, n_per_class=0)  # fmt: skip
    task = solved("simulated-annealing", problem)
    assert task.assignment is None
    assert "selected 5 features" in task.reason


SHAPES = [(2, 5, 2, 1), (2, 5, 3, 2), (1, 6, 3, 3), (1, 6, 1, 1), (0, 8, 3, 0), (3, 3, 2, 1)]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_points_of_least_energy_are_the_optima(seed, shape):
    problem = generic(seed, *shape)
    n_classes, n, p, k = shape
    form = qubo(problem)
    assert size(problem) == (form.linear.size, form.value.size)
    points = np.array(list(product((0, 1), repeat=form.linear.size)), dtype=float)
    energy = form.offset + points @ form.linear
    for i, j, value in zip(form.row, form.column, form.value, strict=True):
        energy += value * points[:, i] * points[:, j]
    s, W = points[:, :n], points[:, n:].reshape(len(points), n_classes, n)
    feasible = (
        (s.sum(axis=1) == p) & (W.sum(axis=2) == k).all(axis=1) & (W <= s[:, None]).all(axis=(1, 2))
    )
    objective = np.einsum("xcd,cd->x", W, problem.class_similarity) + s @ problem.bias
    objective -= np.einsum("xd,de,xe->x", s, problem.feature_similarity, s) / 2.0
    assert energy[feasible] == pytest.approx(-objective[feasible])
    assert energy.min() == pytest.approx(-optimum(problem))
    assert energy[~feasible].min(initial=inf) > energy.min() + 1e-9


@pytest.mark.parametrize(
    ("problem", "permutation"),
    [
        (p_median(0, 9, 3), 0),  # the package chooses its reduced model
        (p_median(1, 12, 1), 1),  # the package chooses Benders decomposition
        (p_median(2, 9, 2, candidate=np.arange(9) % 4 != 0), 0),
    ],
    ids=["reduced", "benders", "candidates"],
)
def test_pbp_proves_the_optimum_of_p_median_problems(tmp_path, problem, permutation):
    demand("pbp-pmedian")
    record = record_of(tmp_path, problem, "pbp-pmedian", permutations=(permutation,))
    assert record.status is Status.OK, record.reason
    assert record.objective == optimum(problem)
    assert record.bound == pytest.approx(optimum(problem))
    assert record.versions["pbp-pmedian"] and not record.certified


@pytest.mark.parametrize("peer", ["submodular-greedy", "simulated-annealing"])
def test_records_of_peers_pass_the_judge(tmp_path, peer):
    demand(peer)
    problem = random_problem(3)
    annealed = peer == "simulated-annealing"  # which ends at its limit only
    limit, status = (10.0, Status.TIME) if annealed else (60.0, Status.OK)
    record = record_of(tmp_path, problem, peer, permutations=(1,), time_limit=limit)
    assert record.status is status, record.reason
    assert record.objective <= optimum(problem) + 1e-9
    assert record.bound is None and record.versions[DISTRIBUTION[peer]]


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (generic(0, 4, 8, 4, 2), "n_per_class is 2"),
        (generic(0, 0, 8, 4, 0), "n_per_class is 0"),
        (generic(0, 4, 8, 4, 1), "R is not zero"),
        (p_median(0, 8, 3, feature_bias=np.ones(8)), "b is not zero"),
        (p_median(0, 8, 8, distinct=True), "classes must differ"),
        (p_median(0, 8, 3, min_classes_per_feature=1), "side constraints"),
    ],
    ids=["k", "no classes", "R", "b", "distinct", "side constraints"],
)
def test_pbp_refuses_what_is_no_p_median_problem(problem, reason):
    with pytest.raises(UnsupportedFormulationError, match=reason):
        PEERS["pbp-pmedian"](PeerRun(problem=problem, time_limit=60.0))


def test_annealing_refuses_what_is_too_large():
    problem = generic(0, 100, 150, 4, 2)
    assert size(problem)[1] > annealing.MAX_COUPLINGS
    with pytest.raises(UnsupportedFormulationError, match=f"at most {annealing.MAX_COUPLINGS}"):
        PEERS["simulated-annealing"](PeerRun(problem=problem, time_limit=60.0))


def test_peers_take_no_start(tmp_path):
    problem = random_problem(3)
    starts = make_starts(tmp_path, add_instances(tmp_path, {"one": problem}))
    record = record_of(tmp_path, problem, "submodular-greedy", starts=starts)
    assert record.status is Status.UNSUPPORTED
    assert "takes no start" in record.reason


def put_first(folder, monkeypatch, source: str) -> None:
    """A module in the place of pbp-pmedian, installed as its distribution."""
    (folder / "pbp_pmedian.py").write_text(source)
    installed = folder / "pbp_pmedian-9.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Name: pbp-pmedian\nVersion: 9.0\n")
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


@pytest.mark.parametrize("peer", PEERS)
def test_a_missing_library_says_what_to_install(monkeypatch, peer):
    monkeypatch.setitem(sys.modules, MODULE[peer], None)
    advice = rf"{DISTRIBUTION[peer]}.*pip install '\.\[peers\]'"
    with pytest.raises(SolverNotAvailableError, match=advice):
        PEERS[peer](PeerRun(problem=p_median(0, 8, 3), time_limit=60.0))


def test_a_missing_library_is_a_record(tmp_path, monkeypatch):
    put_first(tmp_path, monkeypatch, "raise ImportError('it is not there')")
    record = record_of(tmp_path / "out", p_median(0, 8, 3), "pbp-pmedian")
    assert record.status is Status.MISSING
    assert "it is not there" in record.reason and "pip install" in record.reason
    assert record.objective is None


FAKE = """
import time
def solve(C, p, time_limit, backend):
    opened = tuple(range(p))
    cost = float(C[:p].min(axis=0).sum())
    {line}
"""


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        ("raise RuntimeError('the reason')", Status.ERROR, "the reason"),
        ("return cost, (0, 0, 1), 0.0, 0, 'x'", Status.ERROR, "InvalidInputError"),
        ("return cost + 1.0, opened, 0.0, 0, 'x'", Status.WRONG, "its bound"),
        ("time.sleep(1.0); return cost, opened, 0.0, 0, 'x'", Status.TIME, "no proof within"),
        ("return None, None, 0.0, 4, 'x'", Status.OK, "gave up"),
    ],
    ids=["raises", "nonsense", "false bound", "late", "gives up"],
)
def test_a_library_that_goes_wrong_costs_one_record(tmp_path, monkeypatch, line, status, reason):
    put_first(tmp_path, monkeypatch, FAKE.format(line=line))
    limit = 0.5 if status is Status.TIME else 60.0
    record = record_of(tmp_path / "out", p_median(0, 8, 3), "pbp-pmedian", time_limit=limit)
    assert record.status is status
    assert reason in record.reason
    assert (record.objective is not None) == (status is Status.WRONG)


def test_the_command_knows_peers(tmp_path):
    (tmp_path / "mine").mkdir()
    generic(0, 4, 8, 4, 2).save(tmp_path / "mine" / "one.npz")
    arguments = ["--instances", tmp_path / "mine", "--out", tmp_path / "out", "--method"]
    shown = CliRunner().invoke(bench, [*map(str, arguments), "pbp-pmedian"])
    assert shown.exit_code == 0
    assert "| one | pbp-pmedian | none | 0 | of the file | UNSUPPORTED: " in shown.stdout
    with pytest.raises(InvalidInputError, match="did you mean submodular-greedy"):
        plan({"one": "0"}, [("submodular", "")], time_limit=1.0)
    with pytest.raises(InvalidInputError, match="takes no solver"):
        plan({"one": "0"}, [("pbp-pmedian", "highs")], time_limit=1.0)
