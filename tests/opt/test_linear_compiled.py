"""The compiled bound of the linear tree, against linear programs and enumeration."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the compiled bound needs Numba")

from qpm_opt.bounds import compilation, linear_compiled, linear_tree
from qpm_opt.bounds.linear import linear_bound
from qpm_opt.bounds.linear_compiled import (
    UNKNOWN,
    CompiledBounds,
    VertexState,
    compiled_bounds,
)
from qpm_opt.bounds.linear_cuts import Cuts
from qpm_opt.bounds.linear_terms import Multipliers, evaluate
from qpm_opt.bounds.linear_tree import branch_linear
from qpm_opt.bounds.proof import Proof
from qpm_opt.bounds.region import Region
from qpm_opt.problem import Problem
from qpm_opt.proof_check import check_proof
from tests.oracle import optimum
from tests.regions import check, random_region, tiny_problem


def loaded(region, state=None):
    """Compiled bounds of a region, with the state they begin with."""
    whole = Region.whole(region.problem)
    state = linear_bound(whole).state if state is None else state
    bounds = compiled_bounds(whole, state.multipliers, math.inf)()
    bounds.load(region, state)
    return bounds, state


def whole_of(problem):
    """The whole region if there is anything to choose."""
    whole = Region.whole(problem)
    return whole if whole.single is None else None


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**31))
def test_every_bound_holds(seed):
    """Bound, prices and certificate on random parts, by enumeration."""
    problem, rng = tiny_problem(seed, similar=False), np.random.default_rng(seed)
    whole = whole_of(problem)
    if whole is None:
        return
    state = linear_bound(whole).state
    new = compiled_bounds(whole, state.multipliers, math.inf)
    if new is None:
        return  # test_nearly_all_have_a_vertex
    bounds = new()
    bounds.load(whole, state)
    for _ in range(5):
        part = random_region(problem, rng)
        bound = bounds.bound(part, state)
        if part.single is None:
            assert bound is not None
            check(part, bound)


def test_nearly_all_have_a_vertex():
    wholes = [whole_of(tiny_problem(seed, similar=False)) for seed in range(300)]
    wholes = [whole for whole in wholes if whole is not None]
    states = [linear_bound(whole).state for whole in wholes]
    new = [
        compiled_bounds(whole, state.multipliers, math.inf)
        for whole, state in zip(wholes, states, strict=True)
    ]
    assert len(new) > 150
    assert sum(found is None for found in new) <= 2


def medium(seed, *, distinct, n_per_class=3):
    """60 features of 25 classes, some of them nearly alike."""
    rng = np.random.default_rng(seed)
    A = rng.random((25, 60)) ** 2
    A[1:8:2] = A[:8:2] + 0.02 * rng.random((4, 60))
    return Problem(
        A,
        np.zeros((60, 60)),
        0.1 * rng.random(60),
        n_selected=12,
        n_per_class=n_per_class,
        distinct=distinct,
    )


@pytest.mark.parametrize("seed", range(8))
def test_without_pairs_it_is_the_optimum_of_the_linear_program(seed):
    problem, rng = medium(seed, distinct=False), np.random.default_rng(seed)
    whole = Region.whole(problem)
    bounds, state = loaded(whole)
    for _ in range(10):
        part = random_region(problem, rng)
        if part.single is None:
            best = linear_bound(part)
            bound = bounds.bound(part, state)
            assert bound.value == pytest.approx(best.value, rel=1e-7)
            assert bound.s.sum() == pytest.approx(part.n_left, abs=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_pairs_close_most_of_what_the_linear_program_closes(seed):
    distinct, alike = medium(seed, distinct=True), medium(seed, distinct=False)
    best = linear_bound(Region.whole(distinct)).value
    without = linear_bound(Region.whole(alike)).value
    assert without - best > 1e-3
    whole = Region.whole(distinct)
    bounds, state = loaded(whole)
    value = bounds.bound(whole, state).value
    assert best - 1e-7 <= value <= best + 0.3 * (without - best)
    # From thresholds alone, all pairs are found on the way.
    single = Multipliers(
        threshold=state.multipliers.threshold, threshold_weight=np.ones(distinct.n_classes)
    )
    bounds, state = loaded(whole, replace(state, multipliers=single))
    value = bounds.bound(whole, state).value
    assert best - 1e-7 <= value <= best + 0.3 * (without - best)


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_it_goes_down_a_tree(seed, distinct):
    """Each part from the vertex of the one before: as low as from scratch, or nearly so."""
    problem, rng = medium(seed, distinct=distinct), np.random.default_rng(seed)
    region = Region.whole(problem)
    bounds, state = loaded(region)
    value = linear_bound(region).value
    for _ in range(15):
        feature = int(rng.choice(region.free))
        part = region.with_feature(feature, bool(rng.integers(2)))
        if part.is_empty or part.single is not None:
            break
        bound, best = bounds.bound(part, state), linear_bound(part).value
        assert best - 1e-7 <= bound.value <= value + 1e-7
        if not distinct:
            assert bound.value == pytest.approx(best, rel=1e-7)
        assert isinstance(bound.state, VertexState)
        # Features that the bound would fix leave the region; the vertex may know of them still.
        out = part.free[(bound.price_in > 0.2) & (bound.s < 1e-9)]
        rest = part.fixed(out, out[:0])
        region = part if rest.is_empty or rest.single is not None else rest
        state, value = bound.state, bound.value
        bounds.load(region, state)


def adversarial():
    rng = np.random.default_rng(5)
    A = rng.random((6, 9))
    twice = np.hstack([A[:, :5], A[:, :4]])
    return {
        "ties": rng.integers(0, 3, size=(6, 9)).astype(float),
        "duplicated features": twice,
        "identical classes": np.repeat(A[:3], 2, axis=0),
        "zero": np.zeros((6, 9)),
        "constant": np.ones((6, 9)),
        "huge": 1e12 * A,
        "tiny": 1e-12 * A,
        "one class": A[:1],
        "negative": A - 0.7,
    }


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("name", adversarial())
def test_adversarial_problems(name, distinct):
    A, rng = adversarial()[name], np.random.default_rng(0)
    problem = Problem(A, np.zeros((9, 9)), n_selected=5, n_per_class=2, distinct=distinct)
    whole = Region.whole(problem)
    bounds, state = loaded(whole)
    value, best = bounds.bound(whole, state).value, linear_bound(whole).value
    if not distinct:  # else each knows of other pairs
        assert value == pytest.approx(best, rel=1e-7)
    for _ in range(20):
        part = random_region(problem, rng)
        if part.single is None:
            check(part, bounds.bound(part, state))


def test_features_similar_to_those_decided():
    """R among free features is 0, between them and the features decided in it is not."""
    problem, rng = medium(0, distinct=False), np.random.default_rng(0)
    R = np.zeros((60, 60))
    R[:4] = rng.random((4, 60))
    R[:4, :4] = 0.0
    problem = replace(problem, feature_similarity=R + R.T)
    region = Region(problem, np.array([0, 2]), np.arange(4, 60))
    state = linear_bound(region).state
    bounds = compiled_bounds(region, state.multipliers, math.inf)()
    bounds.load(region, state)
    part = region.with_feature(7, True).with_feature(30, False)
    for there in (region, part):
        assert bounds.bound(there, state).value == pytest.approx(
            linear_bound(there).value, rel=1e-7
        )


def test_it_stops_at_a_target():
    problem = medium(1, distinct=True)
    whole = Region.whole(problem)
    bounds, state = loaded(whole)
    part = whole.with_feature(int(np.argmax(linear_bound(whole).s)), False)
    best = bounds.bound(part, state).value
    start = bounds.bound(whole, state).value
    target = best + 0.5 * (start - best)
    assert best < bounds.bound(part, state, target=target).value <= target


@pytest.mark.parametrize("n_decided", [0, 3])
def test_a_probe_is_no_lower_than_the_optimum_of_its_side(n_decided):
    """With features decided in, whose value is a constant that belongs to every bound."""
    problem = medium(2, distinct=False)
    region = Region.whole(replace(problem, feature_bias=problem.bias + 5.0))
    region = region.fixed(region.free[:0], region.free[:n_decided])
    bounds, state = loaded(region)
    root = bounds.bound(region, state).value
    values = bounds.probe(region, region.free[:8], math.inf)
    for feature, both in zip(region.free[:8].tolist(), values, strict=True):
        for selected in (False, True):
            best = linear_bound(region.with_feature(feature, selected)).value
            assert best - 1e-6 <= both[int(selected)] <= root + 1e-6
    assert bounds.probe(region, region.free, -math.inf) is None


def test_a_target_within_rounding_of_the_bound_ends():
    """What is decided may be worth a thousand times the rest, whose rounding it then hides."""
    problem = medium(1, distinct=False)
    bias = problem.bias.copy()
    bias[:4] = [1e9, -1e9, 2e9, 1e9]
    whole = Region.whole(replace(problem, feature_bias=bias))
    region = whole.fixed(whole.free[:0], whole.free[:4])
    bounds, state = loaded(region)
    best = bounds.bound(region, state).value
    for target in (best, np.nextafter(best, -math.inf), best - 1e-8, best + 1e-8):
        assert bounds.bound(region, state, target=float(target)).value == pytest.approx(best)


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("n_levels", [2, 3, 10])
def test_ties_do_not_stop_it(n_levels, distinct):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        A = rng.integers(0, n_levels, size=(30, 60)).astype(float)
        problem = Problem(A, np.zeros((60, 60)), n_selected=12, n_per_class=3, distinct=distinct)
        whole = Region.whole(problem)
        state = linear_bound(whole).state
        new = compiled_bounds(whole, state.multipliers, math.inf)
        assert new is not None
        bounds = new()
        bounds.load(whole, state)
        value = bounds.bound(whole, state).value
        without = linear_bound(Region.whole(replace(problem, distinct=False))).value
        if distinct:
            assert value <= without + 1e-7
        else:
            assert value == pytest.approx(without, rel=1e-7)


@pytest.mark.parametrize("steps", [7, 1024])
@pytest.mark.parametrize("seed", range(4))
def test_what_parts_have_in_common_changes_no_bound(monkeypatch, seed, steps):
    """The inverse at the vertex that all begin with is computed once; one moved has another."""
    monkeypatch.setattr(linear_compiled, "STEPS", steps)
    problem, rng = medium(seed, distinct=True), np.random.default_rng(seed)
    whole = Region.whole(problem)
    bounds, state = loaded(whole)
    bounds.load(whole, bounds.bound(whole, state).state)
    known = bounds._known
    assert len(known) > 1
    for _ in range(10):
        part = random_region(problem, rng)
        if part.single is not None:
            continue
        bounds._known = known
        one, at_once = bounds.bound(part, state), bounds.probe(part, part.free[:3], math.inf)
        bounds._known = UNKNOWN
        other, anew = bounds.bound(part, state), bounds.probe(part, part.free[:3], math.inf)
        assert one.value == other.value
        assert np.array_equal(one.price_in, other.price_in)
        assert np.array_equal(one.s, other.s)
        assert np.array_equal(at_once, anew)


def test_no_vertex_in_no_time(monkeypatch):
    monkeypatch.setattr(linear_compiled, "STEPS", 1)
    whole = Region.whole(medium(0, distinct=True))
    assert compiled_bounds(whole, linear_bound(whole).state.multipliers, -math.inf) is None


def test_a_vertex_without_sense_costs_only_strength():
    rng = np.random.default_rng(0)
    A = rng.random((4, 8))
    A[1] = A[0] + 0.05 * rng.random(8)
    problem = Problem(A, np.zeros((8, 8)), n_selected=4, n_per_class=2)
    whole = Region.whole(problem)
    bounds, state = loaded(whole)
    sound, n_held = bounds.bound(whole, state).state, 0
    for _ in range(200):
        vertex = sound.vertex.copy()
        spoiled = vertex._replace(
            level=vertex.level + rng.normal() * 10.0 ** rng.integers(18),
            threshold=vertex.threshold + rng.normal(size=len(vertex.threshold)),
            is_free=rng.random(len(vertex.is_free)) < 0.5,
            price=vertex.price + rng.normal(size=len(vertex.price)),
            at_level=np.where(
                np.arange(len(vertex.at_level)) < vertex.sizes[0],
                rng.choice(whole.free, len(vertex.at_level)),
                0,
            ),
        )
        bounds.load(whole, replace(sound, vertex=spoiled))
        bound = bounds.bound(whole, sound)
        if bound is not None:
            check(whole, bound)
            certified = evaluate(whole, bound.state.multipliers).value
            assert bound.value >= certified * (1.0 - 1e-12)
            n_held += 1
    assert n_held > 10


@pytest.fixture
def from_the_start(monkeypatch):
    """The tree goes over to compiled code at its first split, kept or not."""
    monkeypatch.setattr(linear_tree, "WARM_FROM", 1)
    monkeypatch.setattr(linear_tree, "COMPILED_FROM", 1)
    monkeypatch.setattr(compilation, "is_kept", lambda module: True)
    used = []
    bound = CompiledBounds.bound

    def counted(self, *args, **kwargs):
        used.append(1)
        return bound(self, *args, **kwargs)

    monkeypatch.setattr(CompiledBounds, "bound", counted)
    return used


def solved(problem, tmp_path, threads=1):
    """The value of the best assignment, once the proof of the tree is checked."""
    best, proof = -math.inf, Proof()

    def offer(assignment):
        nonlocal best
        assert not problem.violations(assignment)
        best = max(best, problem.objective(assignment))

    def cutoff():
        return best + 1e-9 * max(1.0, abs(best))

    bound = branch_linear(
        proof, 0, Region.whole(problem), cutoff=cutoff, offer=offer, threads=threads
    )
    assert bound == cutoff()
    proof.save(tmp_path / "proof.npz", problem, bound)
    assert check_proof(problem, tmp_path / "proof.npz").bound == bound
    return best


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_the_tree_proves(from_the_start, tmp_path, seed, threads):
    A = np.random.default_rng(seed).random((30, 20))
    problem = Problem(A, np.zeros((20, 20)), n_selected=5, n_per_class=1, distinct=False)
    sets = np.array(list(combinations(range(20), 5)))
    best = A[:, sets].max(axis=2).sum(axis=0).max()
    assert solved(problem, tmp_path, threads) == pytest.approx(best, rel=1e-12)
    assert from_the_start


@pytest.mark.parametrize("seed", range(4))
def test_the_tree_proves_with_classes_that_collide(from_the_start, tmp_path, seed):
    rng = np.random.default_rng(seed)
    A = rng.random((7, 11))
    A[1::2] = A[:6:2] + 0.05 * rng.random((3, 11))
    problem = Problem(A, np.zeros((11, 11)), n_selected=5, n_per_class=2)
    assert solved(problem, tmp_path) == pytest.approx(optimum(problem), rel=1e-9)


def test_without_a_vertex_it_begins_anew():
    whole = Region.whole(medium(3, distinct=True))
    bounds, state = loaded(whole)
    value = bounds.bound(whole, state).value
    bounds.load(whole, replace(state, cuts=Cuts()))
    assert bounds.bound(whole, state).value == value
