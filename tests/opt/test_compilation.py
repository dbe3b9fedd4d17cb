"""Compiled code: made by a process of its own, kept, and taken up by a tree on its way."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("numba", reason="compiled code needs Numba")

from qpm_bench.instances import paper_like
from qpm_opt import solve
from qpm_opt.bounds import (
    acceleration,
    compilation,
    linear_compiled,
    linear_tree,
    semidefinite_compiled,
)
from qpm_opt.bounds.linear_tree import branch_linear
from qpm_opt.bounds.linear_warm import WarmBounds
from qpm_opt.bounds.proof import Proof
from qpm_opt.bounds.region import Region
from qpm_opt.methods import exact
from qpm_opt.problem import Problem

USE_LINEAR = """
from qpm_opt.bounds import linear_compiled, threshold_pairs, threshold_simplex, threshold_vertex
from qpm_opt.bounds.linear import linear_bound
from qpm_opt.bounds.region import Region
from tests.opt.test_linear_compiled import loaded, medium

whole = Region.whole(medium(0, distinct=True))
bounds, state = loaded(whole)
part = whole.with_feature(3, True)
bounds.load(part, bounds.bound(whole, state).state)
assert bounds.bound(part, state) is not None and bounds.probe(part, part.free[:2], 1e18).size
modules = linear_compiled, threshold_pairs, threshold_simplex, threshold_vertex
"""
USE_SEMIDEFINITE = """
from qpm_opt.bounds import acceleration, block_descent, separation_loops
from tests.opt.test_block_descent import refined

iteration = refined(0)
assert iteration.is_quick and acceleration.begin_compilation() is None
assert len(iteration.rows) and len(iteration.terms.classes) and iteration.value() > 0.0
modules = block_descent, separation_loops
"""
COUNT = """
import sys
stats = [f.stats for m in modules for f in vars(m).values() if hasattr(f, "stats")]
print(sum(len(s.cache_hits) for s in stats), sum(len(s.cache_misses) for s in stats))
"""


@pytest.mark.parametrize(
    ("module", "use"),
    [(compilation.LINEAR, USE_LINEAR), (compilation.SEMIDEFINITE, USE_SEMIDEFINITE)],
)
def test_nothing_is_left_to_compile_after_it(module, use):
    process = compilation.Compilation(module)
    process.wait(600.0)
    assert process.is_over
    process.close()
    assert compilation.is_kept(module)
    done = subprocess.run(
        [sys.executable, "-c", use + COUNT], capture_output=True, text=True, check=True
    )
    hits, misses = map(int, done.stdout.split())
    assert hits > 0
    assert misses == 0


def test_it_can_be_ended_at_any_time():
    process = compilation.Compilation(compilation.LINEAR)
    process.wait(0.0)
    process.close()
    assert process.is_over


def test_without_a_writable_package_the_user_has_a_place(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: tmp_path in path.parents)
    assert compilation._directory().parent == tmp_path / "qpm_opt"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(RuntimeError, match="no place"):
        compilation._directory()


class FakeProcess:
    """Over after it has been looked at three times."""

    def __init__(self):
        self.n_looks = 0
        self.is_closed = False
        self.waited = []

    def wait(self, seconds):
        self.waited.append(seconds)

    @property
    def is_over(self):
        self.n_looks += 1
        return self.n_looks > 3

    def close(self):
        self.is_closed = True


@pytest.fixture
def started(monkeypatch):
    """The processes that a tree starts which wants compiled code from its first split on."""
    processes = []

    def start(module):
        assert module == compilation.LINEAR
        processes.append(FakeProcess())
        return processes[-1]

    monkeypatch.setattr(linear_tree, "COMPILED_FROM", 1)
    monkeypatch.setattr(compilation, "Compilation", start)
    monkeypatch.setattr(compilation, "is_kept", lambda module: False)
    return processes


@pytest.fixture
def used(monkeypatch):
    """The kinds of bounds that are asked for."""
    kinds = []
    for kind in (linear_compiled.CompiledBounds, WarmBounds):

        def counted(self, *args, of=kind.bound, **kwargs):
            kinds.append(type(self))
            return of(self, *args, **kwargs)

        monkeypatch.setattr(kind, "bound", counted)
    return kinds


def prove(deadline=math.inf):
    """A tree with some fifty leaves, which must reach its optimum."""
    problem = Problem(
        np.random.default_rng(0).random((100, 30)),
        np.zeros((30, 30)),
        n_selected=5,
        n_per_class=1,
        distinct=False,
    )
    best, proof = -math.inf, Proof()

    def offer(assignment):
        nonlocal best
        best = max(best, problem.objective(assignment))

    def cutoff():
        return best + 1e-9

    whole = Region.whole(problem)
    bound = branch_linear(proof, 0, whole, cutoff=cutoff, offer=offer, deadline=deadline)
    assert bound == cutoff()
    assert len(proof.nodes) > 20


def test_a_tree_goes_on_until_the_code_is_there(monkeypatch, started, used):
    monkeypatch.setattr(
        compilation, "is_kept", lambda module: bool(started) and started[0].n_looks > 3
    )
    prove()
    (process,) = started
    assert process.is_closed
    assert process.waited == [linear_tree.COMPILATION]
    at = used.index(linear_compiled.CompiledBounds)
    assert set(used[:at]) == {WarmBounds}
    assert set(used[at:]) == {linear_compiled.CompiledBounds}


def test_a_tree_does_without_code_that_cannot_be_compiled(started, used):
    prove()
    assert len(started) == 1
    assert started[0].n_looks == 4  # and never again
    assert set(used) == {WarmBounds}


def test_nothing_is_compiled_when_little_time_is_left(started, used):
    prove(time.perf_counter() + linear_tree.COMPILATION - 1.0)
    assert not started
    assert set(used) == {WarmBounds}


def test_a_tree_does_without_numba(monkeypatch, started, used):
    monkeypatch.setitem(sys.modules, "qpm_opt.bounds.compilation", None)
    prove()
    assert not started
    assert set(used) == {WarmBounds}


def test_the_semidefinite_bound_takes_up_the_code_when_it_is_there(monkeypatch):
    monkeypatch.setattr(acceleration, "_loops", None)
    monkeypatch.setattr(compilation, "is_kept", lambda module: False)
    assert acceleration.compiled_loops() is None
    monkeypatch.setattr(compilation, "Compilation", lambda module: module)
    assert acceleration.begin_compilation() == compilation.SEMIDEFINITE
    monkeypatch.setattr(compilation, "is_kept", lambda module: True)
    assert acceleration.begin_compilation() is None
    assert acceleration.compiled_loops() is semidefinite_compiled


def test_the_semidefinite_bound_does_without_numba(monkeypatch):
    monkeypatch.setattr(acceleration, "_loops", None)
    monkeypatch.setitem(sys.modules, "qpm_opt.bounds.compilation", None)
    assert acceleration.compiled_loops() is None
    assert acceleration.begin_compilation() is None


@pytest.mark.parametrize(("seconds", "n_started"), [(4.0, 0), (10.0, 1)])
def test_large_problems_have_it_compiled_while_they_are_searched(monkeypatch, seconds, n_started):
    processes = []

    def start():
        processes.append(FakeProcess())
        return processes[-1]

    monkeypatch.setattr(exact, "begin_compilation", start)
    monkeypatch.setattr(exact, "COMPILATION", 5.0)
    monkeypatch.setattr(exact, "CORE_FROM", 30)
    problem = paper_like(10, 60, n_selected=8, n_per_class=3, seed=0)
    result = solve(problem, method="exact", time_limit=seconds)
    assert result.bound is not None
    assert len(processes) == n_started
    assert all(process.is_closed for process in processes)
