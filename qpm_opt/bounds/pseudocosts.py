"""Which feature to branch on: how far the bound falls on either side, learned as the tree grows.

References
----------
Achterberg, Koch, Martin, Branching rules revisited, Operations Research Letters 33 (2005):
pseudo-costs that are measured first.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from qpm_opt.validation import BoolArray, FloatArray, IntArray

#: A fall counts for at least this share of the largest that is of use.
LEAST_FALL = 1e-6


class Fall(NamedTuple):
    """How far the bound fell with a feature decided, and at what distance it was."""

    feature: int
    selected: bool
    distance: float
    size: float


class PseudoCosts:
    """Falls of the bound per unit of a distance that the caller defines, out (0) and in (1)."""

    def __init__(self, n_features: int) -> None:
        self._rate = np.zeros((2, n_features))
        self._n_learned = np.zeros((2, n_features))

    def learn(self, fall: Fall) -> None:
        """Take one more fall into account."""
        if fall.distance > 0.0 and math.isfinite(fall.size):
            side = int(fall.selected), fall.feature
            self._rate[side] += max(fall.size, 0.0) / fall.distance
            self._n_learned[side] += 1

    def after(self, falls: Iterable[Fall]) -> PseudoCosts:
        """A copy that has learned these as well."""
        learned = copy.deepcopy(self)
        for fall in falls:
            learned.learn(fall)
        return learned

    def is_unknown(self, features: IntArray, n_reliable: int) -> BoolArray:
        """Whether either side of each feature has been seen less often than ``n_reliable``."""
        unknown: BoolArray = self._n_learned[:, features].min(axis=0) < n_reliable
        return unknown

    def scores(self, features: IntArray, distance: FloatArray, room: float) -> FloatArray:
        """Product of the falls to be expected on both sides, none more than ``room``.

        ``distance`` has shape (2, n_features), out and in.
        """
        mean = self._rate.sum(axis=1) / np.maximum(self._n_learned.sum(axis=1), 1)
        unknown = mean == 0.0
        mean[unknown] = room / np.maximum(distance.max(axis=1, initial=0.0)[unknown], 1e-300)
        n = self._n_learned[:, features]
        rate = np.where(n > 0, self._rate[:, features] / np.maximum(n, 1), mean[:, None])
        fall = np.clip(rate * distance, LEAST_FALL * room, room)
        scores: FloatArray = fall.prod(axis=0)
        return scores
