"""Features decided by one bound: all selections that hold one of a group, or lack one of another.

The duals of the relaxation price unselected features poorly: they need no slack there. So slack is
asked for: every unwanted feature gets a reward for being in, every sure one for being out, and if
the bound on objective plus reward stays within the reward of the target, then whatever earns a
reward is no better than the target. Features for which the rewarded relaxation takes its reward
leave the groups.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from qpm_opt.bounds.base import Bound
from qpm_opt.bounds.region import Region
from qpm_opt.bounds.semidefinite import Iteration, State
from qpm_opt.validation import BoolArray

#: Features are unwanted below this value in the relaxation's solution, and sure above that one.
UNWANTED, SURE = 1e-3, 0.9
#: Rounds of iterations and those with the full reward, at most; those in which it grows; their
#: length; by what a round it grows from one that the state is used to.
N_ROUNDS, N_FULL, N_GROWING, N_STEPS, GROWTH = 40, 21, 2, 20, 1.15
#: A feature that gets this much is not unwanted: while a new reward grows, and when all is given;
#: what leaves early does not pull the others along. A reward that grows from an earlier one moves
#: more at once; then more is allowed until late, when a quarter of the rounds with all are over.
WANTED, WANTED_FULL, WANTED_LATER = 0.01, 0.015, 0.03
#: A feature that gets this little is not sure, until it is late and from then on.
DOUBTFUL = 0.6, 0.8
#: A smaller share of the reward is not worth growing from.
LEAST_USED = 0.05
#: Smaller groups are not worth it.
LEAST_SHARE = 0.1


def shrink(
    region: Region,
    state: State,
    unwanted: BoolArray,
    sure: BoolArray,
    *,
    target: float,
    reward: float,
    deadline: float = math.inf,
    is_interrupted: Callable[[], bool] = lambda: False,
) -> Bound | None:
    """Decide features, as far as selections better than a target go.

    Parameters
    ----------
    region : Region
    state : State
        Of a semidefinite bound on the region, or of an earlier call.
    unwanted, sure : ndarray of bool, (n_free,)
        Features that may be out of, or in, all better selections.
    target : float
    reward : float
        What each of them gets if it is not: more than a converged bound on the region lies above
        the target.
    deadline : float
        Value of ``time.perf_counter()``.
    is_interrupted : callable
        Asked now and then whether to give up.

    Returns
    -------
    Bound or None
        Of objective and reward; its certificate names the features that are ``out`` or ``into``.
        None if too few are unwanted, at first or later, if the bound is not low enough in time, or
        without a reward.
    """
    if not reward > 0.0:
        return None
    n = len(region.free)
    sign = unwanted.astype(np.float64) - sure
    held = np.zeros(region.problem.n_features)
    if state.reward is not None:
        held[state.free] = np.clip(state.reward, -reward, reward)
    held = held[region.free]
    iteration = Iteration(region, np.where(held * sign > 0.0, held, 0.0), state)
    level = float(np.abs(iteration.reward).max(initial=0.0))
    is_used, n_full = level > LEAST_USED * reward, 0
    from_earlier = is_used and level < reward
    level = level if is_used else 0.0
    for _ in range(N_ROUNDS):
        if (sign > 0.0).sum() < LEAST_SHARE * n:
            return None
        if time.perf_counter() > deadline or is_interrupted():
            return None
        level = min(level * GROWTH if is_used else level + reward / N_GROWING, reward)
        iteration.change_reward(level * sign)
        iteration.advance(N_STEPS, deadline)
        n_full += level >= reward
        if level >= reward and iteration.value() <= target + reward:
            bound = iteration.bound(iteration.snapshot())
            room = bound.value - target
            zeros = region.free[bound.price_in >= room]
            ones = np.setdiff1d(region.free[bound.price_out >= room], zeros)
            return replace(bound, certificate=replace(bound.certificate, out=zeros, into=ones))
        if n_full == N_FULL:
            return None
        late = n_full > N_FULL // 4
        wanted = WANTED if level < reward else WANTED_FULL
        if from_earlier and not late:
            wanted = WANTED_LATER
        sign[(sign > 0.0) & (iteration.s >= wanted)] = 0.0
        sign[(sign < 0.0) & (iteration.s <= DOUBTFUL[int(late)])] = 0.0
    return None
