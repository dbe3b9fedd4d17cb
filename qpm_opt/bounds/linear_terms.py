"""Bounds linear in the selection, from the multipliers of threshold and pair terms and conflicts.

The terms and what they prove are those of :mod:`qpm_opt.bounds.proof`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from qpm_opt.bounds.proof import Certificate
from qpm_opt.bounds.region import Region
from qpm_opt.validation import FloatArray, IntArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Multipliers:
    """One threshold for each class, one triple for some pairs of classes, prices of conflicts.

    Independent of the region, so those of one region bound any other.

    Attributes
    ----------
    threshold, threshold_weight : ndarray, (n_classes,)
    pairs : ndarray of int, (n_pairs, 2)
    pair_thresholds : ndarray, (n_pairs, 2)
    pair_price, pair_weight : ndarray, (n_pairs,)
    conflicts : tuple of ndarray of int
        Features of every conflict set, as indices of the problem.
    conflict_price : ndarray, (n_conflicts,)
    """

    threshold: FloatArray
    threshold_weight: FloatArray
    pairs: IntArray = field(default_factory=lambda: np.zeros((0, 2), dtype=np.intp))
    pair_thresholds: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    pair_price: FloatArray = field(default_factory=lambda: np.zeros(0))
    pair_weight: FloatArray = field(default_factory=lambda: np.zeros(0))
    conflicts: tuple[IntArray, ...] = ()
    conflict_price: FloatArray = field(default_factory=lambda: np.zeros(0))

    def certificate(self, region: Region) -> Certificate:
        """The multipliers as a certificate for the region, which must hold all conflicts."""
        used = np.flatnonzero(self.threshold_weight)
        sets = [np.full(len(K), i, dtype=np.intp) for i, K in enumerate(self.conflicts)]
        members = (
            np.stack([np.concatenate(sets), np.concatenate(self.conflicts)], axis=1)
            if sets
            else np.zeros((0, 2), dtype=np.intp)
        )
        return Certificate(
            threshold_class=used,
            threshold=self.threshold[used],
            threshold_weight=self.threshold_weight[used],
            pair_classes=self.pairs,
            pair_thresholds=self.pair_thresholds,
            pair_price=self.pair_price,
            pair_weight=self.pair_weight,
            conflict_members=members,
            conflict_price=self.conflict_price,
            reward=np.broadcast_to(0.0, len(region.free)),  # no memory of its own
        )


@dataclass(frozen=True, eq=False)
class LinearForm:
    """``f(s) <= constant + gain @ s`` on a region, and what follows for sum(s) = n_left.

    ``value`` is rounded up by more than the rounding of all sums it rests on.
    """

    value: float
    gain: FloatArray
    n_left: int

    @property
    def price_in(self) -> FloatArray:
        """What the value falls by where a feature is selected: (r* - r_j)+."""
        if self.n_left == 0:
            return np.full(self.gain.size, np.inf)
        last = np.partition(self.gain, self.gain.size - self.n_left)[-self.n_left]
        price: FloatArray = np.maximum(last - self.gain, 0.0)
        return price

    @property
    def price_out(self) -> FloatArray:
        """What the value falls by where a feature is not selected: (r_j - r')+."""
        if self.n_left >= self.gain.size:
            return np.full(self.gain.size, np.inf)
        next_best = np.partition(self.gain, self.gain.size - self.n_left - 1)[-self.n_left - 1]
        price: FloatArray = np.maximum(self.gain - next_best, 0.0)
        return price


def evaluate(region: Region, by: Multipliers) -> LinearForm:
    """The linear bound on a region that is not empty, from the multipliers alone."""
    k, n = region.problem.n_per_class, len(region.free)
    weight = by.threshold_weight
    gain = weight @ threshold_gain(region.values, by.threshold)
    decided = weight @ threshold_gain(region.fixed_values, by.threshold).sum(axis=1)
    terms = [k * weight * by.threshold]
    if len(by.pairs):
        gain = gain + by.pair_weight @ pair_gain(
            region.values, by.pairs, by.pair_thresholds, by.pair_price
        )
        decided += by.pair_weight @ pair_gain(
            region.fixed_values, by.pairs, by.pair_thresholds, by.pair_price
        ).sum(axis=1)
        terms += [
            k * by.pair_weight * by.pair_thresholds.sum(axis=1),
            (k - 1) * by.pair_weight * by.pair_price,
        ]
    loss = np.zeros(n)
    for K, price in zip(by.conflicts, by.conflict_price, strict=True):
        loss[np.searchsorted(region.free, K)] += price
    r = region.linear + gain - loss
    terms += [by.conflict_price, np.array([decided, region.constant])]
    most = float(np.max(np.abs(region.linear) + gain + loss, initial=0.0))
    return summed(region, r, terms, most, len(by.pairs) + len(by.conflicts))


def summed(
    region: Region, gain: FloatArray, terms: list[FloatArray], most: float, n_more: int
) -> LinearForm:
    """The form of a gain for every free feature, and of terms that make up its constant.

    Parameters
    ----------
    region : Region
    gain : ndarray, (n_free,)
    terms : list of ndarray
    most : float
        At least the magnitude of everything that any gain is the sum of.
    n_more : int
        Numbers that a gain or a term is the sum of, beside one for each class and feature.
    """
    m, n = region.n_left, len(region.free)
    largest = np.partition(gain, n - m)[n - m :] if m else gain[:0]
    # Every sum has fewer terms than this count; its rounding is relative to their magnitudes.
    magnitude = float(np.abs(largest).sum()) + m * most
    magnitude += sum(float(np.abs(part).sum()) for part in terms)
    n_terms = sum(region.problem.class_similarity.shape) + n_more + 8
    margin = 4 * n_terms * float(np.finfo(float).eps) * magnitude
    return LinearForm(math.fsum(np.concatenate([largest, *terms])) + margin, gain, m)


def threshold_gain(values: FloatArray, threshold: FloatArray) -> FloatArray:
    """(A - t)+, one row for each threshold."""
    return np.maximum(values - threshold[:, None], 0.0)


def pair_gain(
    values: FloatArray, pairs: IntArray, thresholds: FloatArray, price: FloatArray
) -> FloatArray:
    """max(0, A_c - t, A_e - v, A_c + A_e - t - v - u), one row for each pair."""
    first = values[pairs[:, 0]] - thresholds[:, :1]
    second = values[pairs[:, 1]] - thresholds[:, 1:]
    both = first + second - price[:, None]
    return np.maximum(np.maximum(first, second), np.maximum(both, 0.0))
