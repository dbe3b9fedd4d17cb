"""The checker of proofs: a tree holds if and only if its bound is true; no changed file lies."""

from __future__ import annotations

import ast
import math
import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qpm_opt
from qpm_opt.bounds.proof import Certificate, Proof
from qpm_opt.errors import InvalidSolutionError
from qpm_opt.problem import Problem
from qpm_opt.proof_check import UnfinishedCheckError, check_content, check_proof
from qpm_opt.proof_file import is_proof, read_proof
from tests import oracle
from tests.certificates import grow, make_problem
from tests.conftest import random_problem

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=200, deadline=None)
@given(seed=SEEDS)
def test_a_tree_is_accepted_if_and_only_if_its_bound_is_true(seed, tmp_path_factory):
    rng = np.random.default_rng(seed)
    problem = make_problem(rng)
    optimum = oracle.optimum(problem)
    path = tmp_path_factory.getbasetemp() / "tree.npz"
    gap = problem.scale * 10.0 ** rng.uniform(-9, 0)
    for bound in (optimum + gap, optimum - gap):
        proof = grow(problem, bound, rng)
        proof.save(path, problem, bound)
        if bound > optimum:
            report = check_proof(problem, path)
            assert (report.bound, report.n_nodes) == (bound, len(proof.nodes))
        else:
            with pytest.raises(InvalidSolutionError, match="is not closed"):
                check_proof(problem, path)


def single(seed, n_classes, **options) -> Problem:
    """All features selected: the root is one selection, and classes like to collide."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 7))
    k = int(rng.integers(1, n))
    A = np.round(2 * rng.random((n_classes, n))) / 2 if seed % 2 else rng.random((1, n))
    A = np.broadcast_to(A, (n_classes, n)) + 0.01 * rng.random((n_classes, n)) * (seed % 3 > 0)
    R = np.triu(rng.normal(size=(n, n)), 1)
    return Problem(A, R + R.T, rng.normal(size=n), n_selected=n, n_per_class=k, **options)


@pytest.mark.parametrize("seed", range(60))
def test_one_selection_is_worth_its_best_distinct_assignment(seed, tmp_path):
    problem = single(seed, 1 + seed % 4)
    optimum = oracle.optimum(problem)
    path = tmp_path / "proof.npz"
    Proof().save(path, problem, optimum + 1e-12)
    assert check_proof(problem, path).bound == optimum + 1e-12
    Proof().save(path, problem, optimum - 1e-12)
    with pytest.raises(InvalidSolutionError, match=r"Node 0 .* not closed: the value of its only"):
        check_proof(problem, path)


def test_many_classes_alike_share_out_all_their_sets(tmp_path):
    n, k = 6, 3
    A = np.broadcast_to(np.arange(1.0, n + 1), (math.comb(n, k), n))
    problem = Problem(A, np.zeros((n, n)), n_selected=n, n_per_class=k)
    value = sum(sum(found) for found in combinations(range(1, n + 1), k))
    path = tmp_path / "proof.npz"
    Proof().save(path, problem, value)
    assert check_proof(problem, path).bound == value
    Proof().save(path, problem, value - 0.5)
    with pytest.raises(InvalidSolutionError, match="not closed"):
        check_proof(problem, path)


def test_whole_coefficients_round_values_down(tmp_path):
    path = tmp_path / "proof.npz"
    for factor in (1.0, 1.1):
        R = factor * (1 - np.eye(4))
        problem = Problem(np.zeros((0, 4)), R, n_selected=2, n_per_class=0)
        # The conflict proves -0.6 w; the optimum is -1 w.
        certificate = Certificate(
            conflict_members=np.array([(0, d) for d in range(4)]),
            conflict_price=np.array([0.6 * factor]),
            reward=np.zeros(4),
        )
        proof = Proof()
        proof.nodes[0].certificates.append(certificate)
        proof.save(path, problem, -factor)
        if factor == 1.0:
            assert check_proof(problem, path).n_certificates == 1
        else:
            with pytest.raises(
                InvalidSolutionError, match=r"certificate \(1\) is -0.66, the bound"
            ):
                check_proof(problem, path)


# --- Files ---


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A problem, its optimum, and the arrays of a true proof with terms of all kinds."""
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        problem = random_problem(seed)
        if not problem.distinct or problem.n_classes < 2:
            continue
        optimum = oracle.optimum(problem)
        proof = grow(problem, optimum + 0.3, rng)
        path = tmp_path_factory.mktemp("tree") / "proof.npz"
        proof.save(path, problem, optimum + 0.3)
        with np.load(path) as archive:
            held = dict(archive)
        if all(array.size for array in held.values()) and len(proof.nodes) > 4:
            check_proof(problem, path)
            return problem, optimum, held, path
    raise AssertionError("no seed gives a proof with terms of all kinds")


def tampered(array, rng):
    """One thing about an array is different."""
    changed = array.copy()
    entry = tuple(int(rng.integers(length)) for length in array.shape)
    way = rng.integers(9)
    if array.dtype.kind == "U":
        return np.array(str(array) + "x")
    if way == 0 and array.ndim:
        return np.delete(changed, entry[0], axis=0)
    if way == 1 and array.ndim:
        return np.concatenate([changed, changed[entry[0]][None]])
    if way == 2:
        return changed.astype(rng.choice(["U8", "f8", "i8", "c16", "?"]))
    if way == 3:
        return changed[None]
    if array.dtype == bool:
        changed[entry] ^= True
    elif array.dtype.kind == "i":
        changed[entry] = rng.integers(-2, 9) if way < 8 else rng.choice([-(2**62), 2**62])
    elif way == 4:
        changed[entry] = rng.choice([np.nan, np.inf, -np.inf, 1e300, -1e300])
    elif way == 5:
        changed[entry] *= -1
    else:
        changed[entry] += rng.normal() * 10.0 ** rng.uniform(-3, 1)
    return changed


@settings(max_examples=500, deadline=None)
@given(seed=SEEDS)
def test_a_changed_proof_is_refused_or_still_true(seed, tree):
    problem, optimum, held, path = tree
    rng = np.random.default_rng(seed)
    changed = held.copy()
    for name in rng.choice(list(held), int(rng.integers(1, 3)), replace=False):
        with np.errstate(all="ignore"):
            changed[name] = tampered(held[name], rng)
    copy = path.with_name("changed.npz")
    np.savez(copy, **changed)
    try:
        report = check_proof(problem, copy)
    except InvalidSolutionError:
        return
    assert report.bound >= optimum


def test_a_check_ends_at_its_deadline(tree):
    problem, _, _, path = tree
    content = read_proof(path)
    assert check_content(problem, content) == check_proof(problem, path)
    with pytest.raises(UnfinishedCheckError, match=f"0 of the {len(content.parent)} nodes"):
        check_content(problem, content, deadline=time.perf_counter())


def test_a_proof_that_was_read_is_written_as_it_was(tree):
    problem, _, held, path = tree
    copy = path.with_name("copy.npz")
    content = read_proof(path)
    Proof.of(content).scaled(2.0).scaled(0.5).save(copy, problem, content.bound)
    with np.load(copy) as archive:
        assert set(archive.files) == set(held)
        for name, array in held.items():
            np.testing.assert_array_equal(archive[name], array, strict=True)


def test_every_array_of_a_proof_is_needed(tree):
    problem, _, held, path = tree
    copy = path.with_name("lacking.npz")
    for name in held:
        np.savez(copy, **{key: array for key, array in held.items() if key != name})
        with pytest.raises(InvalidSolutionError, match=name):
            check_proof(problem, copy)


def two_children(**changes):
    """Arrays of a tree of three nodes without certificates."""
    tree = {"node_parent": [-1, 0, 0], "node_feature": [-1, 1, 1], "node_selected": [0, 1, 0]}
    return {
        key: np.array(values, dtype=bool if key == "node_selected" else int)
        for key, values in (tree | changes).items()
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"node_selected": [0, 1, 1]}, "has gaps"),
        ({"node_feature": [-1, 1, 2]}, "has gaps"),
        ({"node_parent": [-1, 0, 1]}, "has gaps"),
        ({"node_parent": [-1, 0, 2]}, "Node 2 of the proof names the parent 2"),
        ({"node_parent": [-1, 0, -1]}, "Node 2 of the proof names the parent -1"),
        ({"node_parent": [0, 0, 0]}, "begin with a root"),
        ({"node_feature": [-1, 9, 9]}, "Node 1 .* feature 9, which is not free"),
        ({"node_parent": [], "node_feature": [], "node_selected": []}, "begin with a root"),
        ({"node_parent": [-1], "node_feature": [-1], "node_selected": [0]}, "neither certif"),
        ({"node_parent": [-1, 0], "node_feature": [-1, 1], "node_selected": [0, 1]}, "has gaps"),
        (
            {
                "node_parent": [-1, 0, 0, 0, 0],
                "node_feature": [-1, 1, 1, 2, 2],
                "node_selected": [0, 1, 0, 1, 0],
            },
            "has gaps",
        ),
        (
            {
                "node_parent": [-1, 0, 0, 2, 2],
                "node_feature": [-1, 1, 1, 1, 1],
                "node_selected": [0, 1, 0, 1, 0],
            },
            "Node 3 .* feature 1, which is not free any more in its parent, node 2",
        ),
    ],
)
def test_a_tree_that_leaves_something_out_is_refused(changes, message, tmp_path):
    problem = Problem(np.array([[3.0, 2.0, 1.0]]), np.zeros((3, 3)), n_selected=1, n_per_class=1)
    path = tmp_path / "proof.npz"
    Proof().save(path, problem, 2.5)
    with np.load(path) as archive:
        held = dict(archive)
    np.savez(path, **(held | two_children(**changes)))
    with pytest.raises(InvalidSolutionError, match=message):
        check_proof(problem, path)


def test_other_data_and_other_files_are_refused(tree, tmp_path):
    problem, _, _, path = tree
    other = replace(problem, feature_bias=problem.bias + 1)
    with pytest.raises(InvalidSolutionError, match="belongs to other data"):
        check_proof(other, path)
    with pytest.raises(InvalidSolutionError, match="does not exist"):
        check_proof(problem, tmp_path / "none.npz")
    problem.save(tmp_path / "problem.npz")
    (tmp_path / "text.npz").write_text("text")
    np.save(tmp_path / "single.npy", np.zeros(3))
    for name in ("problem.npz", "text.npz", "single.npy"):
        assert not is_proof(tmp_path / name)
        with pytest.raises(InvalidSolutionError):
            check_proof(problem, tmp_path / name)
    assert is_proof(path) and not is_proof(tmp_path / "none.npz")


@pytest.mark.parametrize("name", ["proof_file", "certificate_check", "proof_check", "verification"])
def test_the_checker_uses_nothing_of_the_provers(name):
    text = (Path(qpm_opt.__file__).parent / f"{name}.py").read_text()
    used = {
        part
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for part in [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
    }
    assert not {part for part in used if "bounds" in part or "methods" in part}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(
            ({name: np.full(3, -0.1)}, f"{name} of the proof holds -0.1; it may not be negative")
            for name in (
                *("threshold_weight", "pair_weight", "split_weight"),
                *("conflict_price", "row_price", "nonnegativity"),
            )
        ),
        ({"threshold": np.array([np.nan])}, "threshold of the proof .* not finite"),
        ({"nonnegativity": np.array([np.inf])}, "nonnegativity of the proof .* not finite"),
        ({"bound": np.array(np.inf)}, "bound of the proof .* not finite"),
        ({"bound": np.array([1.0])}, "bound of the proof is float64 of shape"),
        ({"row_members": np.zeros((2, 4), int)}, "row_members of the proof has 4 columns, not 3"),
        ({"reward_end": np.array([4, 3])}, "reward_end of the proof does not divide"),
        ({"reward_end": np.array([1, 2])}, "reward_end of the proof does not divide"),
        ({"reward_end": np.array([3])}, "reward_end of the proof does not divide"),
        ({"node_selected": np.zeros(1, int)}, "one length"),
        ({"certificate_node": np.array([0, 1])}, "a node that is not there"),
        ({"certificate_node": np.array([0.0, 0.0])}, "certificate_node of the proof is float64"),
    ],
)
def test_arrays_of_a_wrong_form_are_named(changes, message, tmp_path):
    problem = Problem(np.array([[3.0, 2.0, 1.0]]), np.zeros((3, 3)), n_selected=1, n_per_class=1)
    proof = Proof()
    proof.nodes[0].certificates += [Certificate(reward=np.zeros(n)) for n in (1, 2)]
    path = tmp_path / "proof.npz"
    proof.save(path, problem, 2.5)
    with np.load(path) as archive:
        held = dict(archive)
    np.savez(path, **(held | changes))
    with pytest.raises(InvalidSolutionError, match=message):
        check_proof(problem, path)


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"into": [0]}, "is not closed"),  # justified, but not enough
        ({"into": [1]}, "does not justify feature 1 in into"),
        ({"into": [0, 2]}, "does not justify feature 2 in into"),
        ({"out": [0]}, "does not justify feature 0 in out"),
        ({"out": [9]}, "does not justify feature 9 in out"),
    ],
)
def test_a_certificate_must_justify_what_it_fixes(fixed, message, tmp_path):
    A = np.array([[3.0, 2.0, 1.0, 0.0]])
    problem = Problem(A, np.zeros((4, 4)), n_selected=2, n_per_class=1)
    proof = Proof()
    # Worth 3, the optimum, and 2 without feature 0.
    certificate = Certificate(
        threshold_class=np.zeros(1, int),
        threshold=np.full(1, 2.0),
        threshold_weight=np.ones(1),
        reward=np.zeros(4),
        **{name: np.array(features) for name, features in fixed.items()},
    )
    proof.nodes[0].certificates.append(certificate)
    path = tmp_path / "proof.npz"
    proof.save(path, problem, 2.5)
    with pytest.raises(InvalidSolutionError, match=message):
        check_proof(problem, path)
