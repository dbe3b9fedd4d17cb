"""What is decided before any search: images lost in any case, rows and boundaries without use.

A *row* is an image of another class that some boundary separates from the input: all rows but
``spare`` have to be hit. The images that count are *lost* once a chosen boundary separates them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qpm_opt.cover.bitsets import column_bits
from qpm_opt.cover.problem import CoverProblem, SeparatorSets, separator_sets
from qpm_opt.validation import BoolArray, IntArray

#: Pairs of sets that are compared at a time; more would not fit into a processor's cache.
_BLOCK = 1 << 18


@dataclass(frozen=True)
class Instance:
    """A cover problem as bit sets.

    Attributes
    ----------
    columns : list of int
        The boundaries that are left; the lists below are in their order.
    losses : list of int
        For each the counted images that it separates.
    hits : list of int
        For each the rows that it hits.
    rows : int
        All rows.
    spare : int
        Rows that may stay unhit.
    lost : int
        Counted images that every feasible choice loses.
    most : int
        Objective if nothing were lost.
    """

    columns: list[int]
    losses: list[int]
    hits: list[int]
    rows: int
    spare: int
    lost: int
    most: int


def certainly_lost(problem: CoverProblem) -> BoolArray:
    """Counted images that no feasible region holds, of shape (n_images,).

    To keep an image every boundary of its separator set s must be left out, so the other-class
    images whose sets are within s stay as well; more than ``spare`` of them must not. What this
    leaves of the counted images is an upper bound on the objective that needs no search.
    """
    lost = np.zeros(problem.n_images, dtype=bool)
    others = problem.other_sets
    images = np.flatnonzero(problem.counted)
    lost[images] = _weight_within(others, problem.separated[images]) > problem.spare
    return lost


def reduce(problem: CoverProblem, lost: BoolArray) -> Instance:
    """Bit sets of a feasible problem.

    If nothing is to spare, only inclusion-minimal separator sets stay as rows: who hits these
    hits all. A boundary goes if it hits nothing, or if another one hits no less and loses no more:
    in any choice it can be replaced by that one.
    """
    counted, constant = problem.counted, 0
    if problem.count_exceptions and not problem.spare:
        counted, constant = problem.same, problem.least_exceptions
    images = problem.separated[counted]
    if problem.spare:
        rows = problem.separated[~problem.same & problem.separated.any(axis=1)]
    else:
        rows = minimal_sets(problem.other_sets)
    losses, hits = column_bits(images), column_bits(rows)
    given = sum(1 << i for i in np.flatnonzero(lost[counted]).tolist())
    kept: list[int] = []
    # Whoever makes another superfluous comes before it in this order.
    order = sorted(
        range(len(hits)),
        key=lambda h: (-hits[h].bit_count(), (losses[h] | given).bit_count(), h),
    )
    for h in order:
        loss = losses[h] | given
        if hits[h] and not any(hits[h] & ~hits[g] == 0 and losses[g] & ~loss == 0 for g in kept):
            kept.append(h)
    kept.sort()
    return Instance(
        columns=kept,
        losses=[losses[h] for h in kept],
        hits=[hits[h] for h in kept],
        rows=(1 << len(rows)) - 1,
        spare=problem.spare,
        lost=given,
        most=int(np.count_nonzero(counted)) + constant,
    )


def minimal_sets(sets: SeparatorSets) -> BoolArray:
    """The inclusion-minimal ones of different sets, in the same order."""
    ones = np.ones(len(sets.counts), dtype=np.intp)
    # Every set is within itself.
    within = _weight_within(SeparatorSets(sets.members, ones), sets.members)
    minimal: BoolArray = sets.members[within == 1]
    return minimal


def within_columns(instance: Instance, columns: list[int]) -> Instance:
    """The instance with some of its columns (positions), their rows minimal again.

    Rows that only the columns left out would hit use up the spare ones; there may be more of them,
    then ``spare`` is negative and the instance infeasible.
    """
    hits = [instance.hits[h] for h in columns]
    n_rows = instance.rows.bit_length()
    matrix = np.zeros((n_rows, len(columns)), dtype=bool)
    for j, members in enumerate(hits):
        data = np.frombuffer(members.to_bytes((n_rows + 7) // 8, "little"), dtype=np.uint8)
        matrix[:, j] = np.unpackbits(data, count=n_rows, bitorder="little")
    reachable = matrix.any(axis=1)
    spare = instance.spare - int(np.count_nonzero(~reachable))
    matrix = matrix[reachable]
    if spare == 0:
        matrix = minimal_sets(separator_sets(matrix))
    return Instance(
        columns=[instance.columns[h] for h in columns],
        losses=[instance.losses[h] for h in columns],
        hits=column_bits(matrix),
        rows=(1 << len(matrix)) - 1,
        spare=spare,
        lost=instance.lost,
        most=instance.most,
    )


def _weight_within(sets: SeparatorSets, hosts: BoolArray) -> IntArray:
    """For every host the number of images whose set is a subset of it."""
    # In float32 the products are fast, and exact below 2**24 boundaries and images.
    members = sets.members.T.astype(np.float32)
    left_out = (~hosts).astype(np.float32)
    counts = sets.counts.astype(np.float32)
    weights = np.zeros(len(hosts), dtype=np.intp)
    step = max(1, _BLOCK // max(1, len(counts)))
    for begin in range(0, len(hosts), step):
        outside = left_out[begin : begin + step] @ members
        weights[begin : begin + step] = (outside == 0).astype(np.float32) @ counts
    return weights
