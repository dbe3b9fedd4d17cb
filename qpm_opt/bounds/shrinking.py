"""Features out of the region: all selections that hold one of a group, bounded at once.

The duals of the relaxation price unselected features poorly: they need no slack there. So slack is
asked for: every feature of the group gets a reward, and if the bound on objective plus reward stays
within the reward of the target, then whatever holds a feature of the group is no better than the
target. The group loses the features that the rewarded relaxation wants.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np

from qpm_opt.bounds.base import Bound
from qpm_opt.bounds.region import Region
from qpm_opt.bounds.semidefinite import Iteration, State
from qpm_opt.validation import BoolArray

#: Features of the relaxation's solution start outside the group.
UNWANTED = 1e-3
#: Rounds of iterations, those in which the reward grows to its full size, and their length.
N_ROUNDS, N_GROWING, N_STEPS = 24, 4, 20
#: A feature of the group that gets this much is wanted; less so in later rounds.
WANTED_FIRST, WANTED = 0.02, 0.01
#: Smaller groups are not worth it.
LEAST_SHARE = 0.1


def shrink(
    region: Region,
    state: State,
    group: BoolArray,
    *,
    target: float,
    reward: float,
    deadline: float = math.inf,
) -> Bound | None:
    """Take features out of the region, as far as selections better than a target go.

    Parameters
    ----------
    region : Region
    state : State
        Of a semidefinite bound on the region, or of an earlier call.
    group : ndarray of bool, (n_free,)
        Features that may go.
    target : float
    reward : float
        What each of them gets: more than a converged bound on the region lies above the target.
    deadline : float
        Value of ``time.perf_counter()``.

    Returns
    -------
    Bound or None
        Of objective and reward; its certificate names the features that are ``out``. None if the
        group melts away or the time is up before the bound is low enough.
    """
    n = len(region.free)
    group = group.copy()
    held = np.zeros(region.problem.n_features)
    if state.reward is not None:
        held[state.free] = np.minimum(state.reward, reward)
    held = held[region.free]
    iteration = Iteration(region, np.where(group, held, 0.0), state)
    grown = bool(held.any())
    for i in range(N_ROUNDS):
        if group.sum() < LEAST_SHARE * n or time.perf_counter() > deadline:
            return None
        share = 1.0 if grown else min(1.0, (i + 1) / N_GROWING)
        iteration.change_reward(np.where(group, share * reward, 0.0))
        iteration.advance(N_STEPS, deadline)
        if share < 1.0:
            continue
        if iteration.value() <= target + reward:
            bound = iteration.bound(iteration.snapshot())
            zeros = region.free[bound.price_in >= bound.value - target]
            return replace(bound, certificate=replace(bound.certificate, out=zeros))
        group &= iteration.s < (WANTED_FIRST if i < N_ROUNDS // 3 else WANTED)
    return None
