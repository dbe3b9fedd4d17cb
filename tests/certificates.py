"""Random problems, regions, certificates and proofs: any multipliers must give a true bound."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from qpm_opt.bounds.proof import Certificate, Proof, ProofNode
from qpm_opt.certificate_check import Region, evaluate
from qpm_opt.problem import Problem
from tests.conftest import random_problem, scaled

KINDS = ("thresholds", "pairs", "splits", "conflicts", "rows", "reward", "semidefinite")


def make_problem(rng) -> Problem:
    """Tiny, of any kind and scale, with duplicates now and then."""
    problem = random_problem(int(rng.integers(2**31)))
    A, R, b = (
        np.array(part)
        for part in (problem.class_similarity, problem.feature_similarity, problem.bias)
    )
    kind = rng.integers(8)
    if kind == 0:
        A[:] = 0.0
    elif kind == 1 and len(A):
        A[:] = A[0]  # classes alike
    elif kind == 2:
        d, e = rng.choice(problem.n_features, 2, replace=False)  # features alike
        A[:, d], b[d] = A[:, e], b[e]
    elif kind == 3:
        A, R, b = np.round(3 * A), np.round(3 * R), np.round(3 * b)
    scale = 10.0 ** rng.uniform(-9, 9) if rng.integers(2) else 1.0
    changed = replace(problem, class_similarity=A, feature_similarity=R, feature_bias=b)
    return scaled(changed, scale)


def make_region(problem, rng) -> Region:
    """Not empty; n_left from 0 to n_free."""
    candidates = rng.permutation(np.flatnonzero(problem.candidates))
    n_ones = int(rng.integers(problem.n_selected + 1)) if rng.integers(2) else 0
    n_left = problem.n_selected - n_ones
    n_free = int(rng.integers(n_left, len(candidates) - n_ones + 1))
    ones, free = candidates[:n_ones], candidates[n_ones : n_ones + n_free]
    return Region(np.sort(ones), np.sort(free))


def make_certificate(problem, region, kinds, rng) -> Certificate:
    """Random multipliers of these kinds; classes are covered up to rounding, or not at all."""
    C, n, free = problem.n_classes, len(region.free), region.free
    scale = float(np.abs(problem.class_similarity).max(initial=0)) or problem.scale
    n_terms = {kind: int(rng.integers(1, 5)) if kind in kinds else 0 for kind in KINDS}
    if not C:
        n_terms["thresholds"] = n_terms["splits"] = 0
    if not problem.distinct or C < 2:
        n_terms["pairs"] = 0
    if not n:
        n_terms["splits"] = n_terms["conflicts"] = n_terms["rows"] = 0

    def levels(*shape):
        if rng.integers(2) or not C:
            return scale * rng.normal(size=shape)
        return rng.choice(problem.class_similarity.ravel(), size=shape)

    def prices(*shape):
        return problem.scale * rng.random(shape) * rng.integers(2, size=shape)

    pairs = [rng.choice(C, 2, replace=False) for _ in range(n_terms["pairs"])]
    classes = {
        "threshold": rng.integers(C, size=n_terms["thresholds"] + 1) if C else np.zeros(0, int),
        "split": rng.integers(C, size=n_terms["splits"]) if C else np.zeros(0, int),
        "pair": np.array(pairs, dtype=int).reshape(-1, 2),
    }
    if rng.integers(4) and "thresholds" in kinds:
        classes["threshold"] = np.concatenate([np.arange(C), classes["threshold"]]).astype(int)
    weights = {key: rng.random(len(named)) for key, named in classes.items()}
    total = np.zeros(C)
    for key, named in classes.items():
        for column in np.atleast_2d(named.T):
            np.add.at(total, column, weights[key])
    if rng.integers(4):  # no class above 1, and thresholds fill up
        factor = 1 / max(1.0, total.max(initial=0.0))
        weights = {key: factor * weight for key, weight in weights.items()}
        if "thresholds" in kinds:
            classes["threshold"] = np.concatenate([np.arange(C), classes["threshold"]]).astype(int)
            weights["threshold"] = np.concatenate([1 - factor * total, weights["threshold"]])
    n_sets = n_terms["conflicts"]
    members = [(i, d) for i in range(n_sets) for d in rng.choice(free, int(rng.integers(n + 1)))]
    row_members = [
        (i, d, int(rng.integers(-2, 3)))
        for i in range(n_terms["rows"])
        for d in rng.choice(free, int(rng.integers(n + 2)))  # some named twice
    ]
    semidefinite = "semidefinite" in kinds and n > 0
    return Certificate(
        threshold_class=classes["threshold"],
        threshold=levels(len(classes["threshold"])),
        threshold_weight=weights["threshold"],
        pair_classes=classes["pair"],
        pair_thresholds=levels(len(pairs), 2),
        pair_price=scale * rng.random(len(pairs)),
        pair_weight=weights["pair"],
        split_class=classes["split"],
        split_feature=rng.choice(free, n_terms["splits"]) if n else np.zeros(0, int),
        split_inside=levels(n_terms["splits"]),
        split_outside=levels(n_terms["splits"]),
        split_weight=weights["split"],
        conflict_members=np.array(members, dtype=int).reshape(-1, 2),
        conflict_price=prices(n_sets),
        row_members=np.array(row_members, dtype=int).reshape(-1, 3),
        row_level=rng.integers(-3, 4, size=n_terms["rows"]),
        row_price=prices(n_terms["rows"]),
        reward=problem.scale * rng.normal(size=n) * ("reward" in kinds),
        nonnegativity=prices(n * (n - 1) // 2 if semidefinite else 0).astype(np.float32),
        corner=problem.scale * rng.normal() * semidefinite,
        border=problem.scale * rng.normal(size=n if semidefinite else 0),
        diagonal=problem.scale * rng.normal(size=n if semidefinite else 0),
    )


def arrays(certificate) -> dict[str, np.ndarray]:
    """As the file holds it."""
    held = {f.name: np.atleast_1d(getattr(certificate, f.name)) for f in fields(certificate)}
    return {name: a.astype(np.float64 if a.dtype.kind == "f" else int) for name, a in held.items()}


def is_whole(problem):
    parts = (problem.class_similarity, problem.feature_similarity, problem.bias)
    return all((part == np.round(part)).all() for part in parts)


def grow(problem, bound, rng) -> Proof:
    """Random certificates and branches down to single selections, as if ``bound`` were true."""
    proof = Proof()
    eps = np.finfo(float).eps

    def closed(values):
        return (np.floor(values) if is_whole(problem) else values) <= bound

    def visit(node, ones, free):
        for _ in range(int(rng.integers(3))):
            if not 0 < problem.n_selected - len(ones) < len(free):
                return
            region = Region(ones, free)
            kinds = [kind for kind in KINDS if rng.integers(2)] + ["thresholds"]
            certificate = make_certificate(problem, region, kinds, rng)
            proof.nodes[node].certificates.append(certificate)
            found = evaluate(problem, region, arrays(certificate))
            if closed(found.value):
                return
            out, into = (
                closed(found.value - loss * (1 - 4 * eps) + 4 * eps * abs(found.value))
                & (rng.random(len(free)) < 0.8)
                for loss in (found.loss_in, found.loss_out)
            )
            proof.nodes[node].certificates[-1] = replace(
                certificate, out=free[out], into=free[into]
            )
            if (out & into).any():
                return
            ones, free = np.union1d(ones, free[into]), free[~out & ~into]
        if not 0 < problem.n_selected - len(ones) < len(free):
            return
        feature = rng.choice(free)
        rest = free[free != feature]
        for selected in rng.permutation(2).astype(bool):
            proof.nodes.append(ProofNode(node, int(feature), bool(selected)))
            child = len(proof.nodes) - 1
            visit(child, np.union1d(ones, [feature]) if selected else ones, rest)

    visit(0, np.zeros(0, int), np.flatnonzero(problem.candidates))
    return proof
