"""Independent check of a proof that no assignment is better than a bound.

A proof is a tree: the root is the whole search space, two children decide one feature either way,
and certificates show that a node's region holds nothing better than the bound or narrow it. See
``qpm_opt/bounds/proof.py``, of which nothing is used here. If all coefficients are whole multiples
of a power of two, so is every objective, and values are rounded down to such a multiple.
"""

from __future__ import annotations

import heapq
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from qpm_opt.certificate_check import EPS, UNDERFLOW, Region, evaluate
from qpm_opt.errors import InvalidSolutionError, QPMError
from qpm_opt.problem import Problem
from qpm_opt.proof_file import ProofFile, read_proof
from qpm_opt.validation import FloatArray, IntArray

#: Bits of the largest coefficient in units; sums of finer ones are not rounded.
UNIT_BITS = 40


@dataclass(frozen=True)
class ProofReport:
    """What a proof that holds proves.

    Attributes
    ----------
    bound : float
        No assignment of the problem has a larger objective.
    n_nodes, n_certificates : int
        Size of the proof.
    """

    bound: float
    n_nodes: int
    n_certificates: int


class UnfinishedCheckError(QPMError, RuntimeError):
    """The time was up before a proof was checked to its end; it proves nothing yet."""


def check_proof(problem: Problem, path: str | os.PathLike[str]) -> ProofReport:
    """Check a proof file (``qpm-proof/2``) against its problem.

    Raises
    ------
    InvalidSolutionError
        If the file is no proof for this problem or does not prove the bound it claims; one sentence
        says what is wrong and where.
    """
    return check_content(problem, read_proof(path))


def check_content(problem: Problem, proof: ProofFile, *, deadline: float = math.inf) -> ProofReport:
    """Check what a proof file holds against its problem.

    Parameters
    ----------
    deadline : float
        Value of ``time.perf_counter()`` at which to give up, before the next certificate.

    Raises
    ------
    InvalidSolutionError
        As :func:`check_proof`.
    UnfinishedCheckError
        If the deadline is reached first.
    """
    if proof.problem_sha256 != problem.sha256:
        raise InvalidSolutionError("The proof belongs to other data: its problem_sha256 differs.")
    unit = _unit(problem)
    nobody = np.zeros(0, dtype=np.intp)
    regions: list[Region | None] = []  # of every node as its certificates leave it; None if closed
    for node, (parent, feature, selected) in enumerate(
        zip(proof.parent, proof.feature, proof.selected, strict=True)
    ):
        if node == 0:
            region: Region | None = Region(nobody, np.flatnonzero(problem.candidates))
        else:
            region = _child(regions[parent], node, parent, feature, selected)
        if region is not None:
            region = _remainder(problem, region, proof, node, deadline, unit)
        regions.append(region)
    return ProofReport(proof.bound, len(regions), proof.n_certificates)


def _child(
    region: Region | None, node: int, parent: int, feature: int, selected: bool
) -> Region | None:
    """The part of the parent's region in which the node's feature is decided as the node says."""
    if region is None:
        return None
    if feature not in region.free:
        raise InvalidSolutionError(
            f"Node {node} of the proof decides feature {feature}, which is not free any more in "
            f"its parent, node {parent}."
        )
    free = region.free[region.free != feature]
    return Region(np.union1d(region.ones, [feature]) if selected else region.ones, free)


def _remainder(
    problem: Problem, region: Region, proof: ProofFile, node: int, deadline: float, unit: float
) -> Region | None:
    """What the certificates of a node leave of its region; None if nothing."""
    certificates = proof.certificates[node]
    said = "it has neither certificates nor children"
    for number in range(len(certificates) + 1):
        n_left = problem.n_selected - len(region.ones)
        if not 0 <= n_left <= len(region.free):
            return None
        if n_left in (0, len(region.free)):
            members = np.union1d(region.ones, region.free) if n_left else region.ones
            value = _rounded(_best_objective(problem, members, proof.bound), unit)
            if value <= proof.bound:
                return None
            said = f"the value of its only selection is {value:.12g}"
        if number == len(certificates):
            break
        if time.perf_counter() >= deadline:
            raise UnfinishedCheckError(
                f"Checked are {node} of the {len(proof.parent)} nodes of the proof."
            )
        try:
            found = evaluate(problem, region, certificates[number])
        except InvalidSolutionError as failure:
            raise InvalidSolutionError(
                f"Certificate {number + 1} of node {node} of the proof cannot be used: {failure}"
            ) from None
        value = float(_rounded(found.value, unit))
        if value <= proof.bound:
            return None
        said = f"the value of its last certificate ({number + 1}) is {value:.12g}"
        for name, loss in (("out", found.loss_in), ("into", found.loss_out)):
            justified = _rounded(_less(found.value, loss), unit) <= proof.bound
            wrong = np.setdiff1d(certificates[number][name], region.free[justified])
            if wrong.size:
                raise InvalidSolutionError(
                    f"Certificate {number + 1} of node {node} of the proof does not justify "
                    f"feature {wrong[0]} in {name}."
                )
        out, into = (certificates[number][name] for name in ("out", "into"))
        if np.intersect1d(out, into).size:
            return None  # no selection better than the bound has the feature, and none has it not
        region = Region(
            np.union1d(region.ones, into),
            np.setdiff1d(region.free, np.union1d(out, into)),
        )
    if not proof.has_children[node]:
        raise InvalidSolutionError(
            f"Node {node} of the proof is not closed: {said}, the bound claimed {proof.bound:.12g}."
        )
    return region


def _unit(problem: Problem) -> float:
    """Largest power of two of which all coefficients are multiples; 0 if it is tiny beside them."""
    arrays = problem.class_similarity, problem.feature_similarity, problem.bias
    largest = max(float(np.abs(array).max(initial=0.0)) for array in arrays)
    unit = math.ldexp(1.0, math.frexp(largest)[1] - UNIT_BITS)
    if unit < UNDERFLOW:
        return 0.0
    bits = 0
    for array in arrays:
        multiple = np.abs(array) / unit  # exact
        if (multiple != np.floor(multiple)).any():
            return 0.0
        bits |= int(np.bitwise_or.reduce(multiple.astype(np.int64), axis=None))
    return unit * (bits & -bits) if bits else 1.0


def _rounded(value: Any, unit: float) -> Any:
    return np.floor(value / unit) * unit if unit else value


def _less(value: float, loss: FloatArray) -> FloatArray:
    """``value - loss``, rounded up."""
    return value - loss * (1 - 4 * EPS) + 4 * EPS * abs(value)


def _best_objective(problem: Problem, selected: IntArray, claim: float) -> float:
    """The largest objective of a selection, or a bound on it that is at most ``claim``.

    Distinctness is kept, the other side constraints are not. While classes collide, each may take
    one of a list of its best sets, or anything else at the value of the best set not in the list;
    the lists of the classes that take something else are doubled until none does.
    """
    A, k = problem.class_similarity[:, selected], problem.n_per_class
    R = problem.feature_similarity[np.ix_(selected, selected)]
    terms = [*problem.bias[selected], *-R[np.triu_indices(len(R), 1)]]
    streams = [_sets_by_value(row, k) for row in A]
    lists = [[next(stream)] for stream in streams]
    value = _sum_up([*terms, *(sets[0].value for sets in lists)])
    n_different = len({sets[0].members for sets in lists})
    if not problem.distinct or n_different == problem.n_classes or value <= claim:
        return value
    following = [next(stream, None) for stream in streams]
    # The assignment is the best one but for rounding.
    unsure = EPS * len(A) * math.fsum(k * np.abs(A).max(axis=1))
    while True:
        columns: dict[tuple[int, ...], int] = {}
        for found in (found for sets in lists for found in sets):
            columns.setdefault(found.members, len(columns))
        gain = np.full((len(A), len(columns) + len(A)), -np.inf)
        for c, sets in enumerate(lists):
            gain[c, [columns[found.members] for found in sets]] = [found.value for found in sets]
            upcoming = following[c]
            if upcoming is not None:
                gain[c, len(columns) + c] = upcoming.value
        rows, chosen = linear_sum_assignment(gain, maximize=True)
        value = _sum_up([*terms, *gain[rows, chosen], unsure])
        elsewhere = rows[chosen >= len(columns)]
        if value <= claim or not elsewhere.size:
            return value
        for c in elsewhere:
            for _ in range(len(lists[c])):
                upcoming = following[c]
                if upcoming is not None:
                    lists[c].append(upcoming)
                    following[c] = next(streams[c], None)


def _sum_up(terms: list[float]) -> float:
    """The sum, rounded up."""
    return float(np.nextafter(math.fsum(terms), math.inf))


class _ClassSet(NamedTuple):
    value: float
    members: tuple[int, ...]


def _sets_by_value(values: FloatArray, k: int) -> Iterator[_ClassSet]:
    """All sets of k features of a class, the best first."""
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    first = tuple(range(k))
    heap = [(-math.fsum(ranked[:k]), first)]
    seen = {first}
    while heap:
        loss, places = heapq.heappop(heap)
        yield _ClassSet(-loss, tuple(sorted(order[list(places)].tolist())))
        for place in places:  # the sets that differ by one step down follow from this one
            if place + 1 < len(ranked) and place + 1 not in places:
                lower = tuple(sorted({*places, place + 1} - {place}))
                if lower not in seen:
                    seen.add(lower)
                    heapq.heappush(heap, (-math.fsum(ranked[list(lower)]), lower))
