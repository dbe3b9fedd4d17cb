"""Branch and bound on the selection with the semidefinite bound.

Best-first: the node with the highest bound is next. A node starts from its parent's iterate, so its
bound takes a fraction of the root's time.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from qpm_opt.bounds.incumbents import offer_selection, rounded
from qpm_opt.bounds.linear import LinearState, linear_bound
from qpm_opt.bounds.proof import Proof
from qpm_opt.bounds.region import Region
from qpm_opt.bounds.semidefinite import Effort, State, semidefinite_bound
from qpm_opt.bounds.shrinking import UNWANTED, shrink
from qpm_opt.heuristics import swap_search
from qpm_opt.problem import Assignment
from qpm_opt.validation import FloatArray, IntArray

#: A node gives up when so many iterations lower its bound by less than this share of its gap.
NODE_EFFORT = Effort(window=60, share=0.1)
#: Linear programs of a node.
LINEAR_ROUNDS = 4
#: Larger nodes are shrunk if such a share of their features is unwanted, with a reward of this
#: multiple of the gap to the target.
WORTH_SHRINKING, SHRINKABLE, SPARE = 250, 0.4, 1.3
#: Every so many nodes the rounded point is searched around.
SEARCH_EVERY = 10


@dataclass(order=True)
class _Open:
    """A node to be bounded; ``key`` orders by bound, highest first, then by age."""

    key: tuple[float, int]
    index: int = field(compare=False)
    region: Region = field(compare=False)
    state: State | None = field(compare=False)
    linear: LinearState | None = field(compare=False)


def branch_semidefinite(
    proof: Proof,
    index: int,
    region: Region,
    *,
    target: float,
    closes: Callable[[float], bool],
    offer: Callable[[Assignment], object],
    on_bound: Callable[[float], object],
    state: State | None = None,
    linear: LinearState | None = None,
    value: float = math.inf,
    deadline: float = math.inf,
) -> float:
    """Grow the proof below a leaf until no selection of its region can be better than ``target``.

    Parameters
    ----------
    proof : Proof
        Grows by nodes and certificates; sound whenever this returns or raises.
    index, region : int, Region
        The leaf, and what its certificates left of it.
    target : float
        Value to prove.
    closes : callable
        Whether a bound leaves nothing above the target.
    offer, on_bound : callable
        Called with assignments that may be better, and with the bound on the region as it falls.
    state : State, optional
        Of a bound on a region that contains this one.
    linear : LinearState, optional
        Of a linear bound on such a region: then every node tries a linear bound first.
    value : float
        Known bound on the region.
    deadline : float
        Value of ``time.perf_counter()`` at which to stop.

    Returns
    -------
    float
        Bound on the region; the target if the proof is complete.
    """
    age = itertools.count()
    heap = [_Open((-value, next(age)), index, region, state, linear)]
    stuck = -math.inf
    while heap and time.perf_counter() < deadline:
        node = heapq.heappop(heap)
        inherited = -node.key[0]
        on_bound(max(target, stuck, inherited))
        region = node.region
        if region.is_empty:
            continue
        single = region.single
        if single is not None:
            value = offer_selection(region.problem, single, offer, deadline)
            if not closes(value):
                stuck = max(stuck, min(value, inherited))
            continue
        certificates = proof.nodes[node.index].certificates
        linear = node.linear
        if linear is not None:
            quick = linear_bound(
                region, state=linear, target=target, max_rounds=LINEAR_ROUNDS, deadline=deadline
            )
            if quick is not None:
                certificates.append(quick.certificate)
                if closes(quick.value):
                    continue
                linear, inherited = quick.state, min(inherited, quick.value)
        try:
            bound = semidefinite_bound(
                region, cutoff=target, closes=closes, state=node.state, effort=NODE_EFFORT,
                deadline=deadline,
            )  # fmt: skip
        except np.linalg.LinAlgError:
            stuck = max(stuck, inherited)
            continue
        certificates.append(bound.certificate)
        value = min(bound.value, inherited)
        if closes(bound.value):
            continue
        if node.index % SEARCH_EVERY == 0:
            near = swap_search(
                region.problem,
                rounded(region, bound.s),
                deadline=deadline if math.isfinite(deadline) else None,
            )
            offer_selection(region.problem, near, offer, deadline)
        room = bound.value - target
        zeros = region.free[bound.price_in >= room]
        ones = np.setdiff1d(region.free[bound.price_out >= room], zeros)
        certificates[-1] = replace(bound.certificate, out=zeros, into=ones)
        region = region.fixed(zeros, ones)
        state = bound.state
        if len(region.free) > WORTH_SHRINKING and not region.is_empty:
            group = bound.s[np.isin(state.free, region.free)] < UNWANTED
            if group.mean() > SHRINKABLE:
                shrunk = shrink(
                    region, state, group, target=target, reward=SPARE * room, deadline=deadline
                )
                if shrunk is not None:
                    certificates.append(shrunk.certificate)
                    region = region.fixed(shrunk.certificate.out, shrunk.certificate.into)
        if region.is_empty or region.single is not None:
            heapq.heappush(heap, _Open((-value, next(age)), node.index, region, state, linear))
            continue
        feature = _branching_feature(region, state.free, bound.s)
        for selected in (True, False):
            child = proof.add(node.index, feature, selected)
            part = region.with_feature(feature, selected)
            heapq.heappush(heap, _Open((-value, next(age)), child, part, state, linear))
    reached = max([target, stuck, *(-node.key[0] for node in heap)])
    on_bound(reached)
    return reached


def _branching_feature(region: Region, places: IntArray, s: FloatArray) -> int:
    """The free feature that is decided least."""
    undecided = np.abs(s - 0.5)
    undecided[~np.isin(places, region.free)] = math.inf
    return int(places[np.argmin(undecided)])
