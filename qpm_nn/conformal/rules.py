"""From calibration points to thresholds: the steps that carry the guarantee.

Notation: n calibration points, miscoverage ``alpha`` and m = ceil((n + 1)(1 - alpha)).
"""

from __future__ import annotations

import math
from fractions import Fraction
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor

from qpm_opt import InvalidInputError


def order_statistic(n_points: int, alpha: float) -> int:
    """m, the rank of the score that becomes the threshold, from 1 to ``n_points + 1``.

    ``alpha`` counts to 12 decimals, so that 0.1 and 1 - 0.9 are the same and (n + 1)(1 - alpha)
    does not exceed a whole number by rounding.

    Raises
    ------
    InvalidInputError
        If ``alpha`` is not between 0 and 1.
    """
    check_alpha(alpha)
    decimal = Fraction(str(round(float(alpha), 12)))
    return max(1, math.ceil((n_points + 1) * (1 - decimal)))


def check_alpha(alpha: float) -> None:
    """Raise InvalidInputError unless ``alpha`` is a number between 0 and 1, both excluded."""
    if not isinstance(alpha, Real) or not 0 < alpha < 1:
        raise InvalidInputError(
            f"alpha is {alpha}; a number between 0 and 1 was expected, 0.1 for a coverage of 90 %."
        )


def conformal_quantile(scores: Tensor, alpha: float) -> float:
    """The m-th smallest score; infinity, so that all classes conform, if there are fewer than m.

    The set of classes with at most this score holds the class of a new image with a probability of
    at least m / (n + 1) >= 1 - alpha, if it and the calibration points are exchangeable; and at
    most m / (n + 1) if no two scores are equal and m <= n.

    Parameters
    ----------
    scores : Tensor of shape (n_points,)
        Of the true classes of the calibration points.
    alpha : float
    """
    m = order_statistic(len(scores), alpha)
    return float(scores.kthvalue(m).values) if m <= len(scores) else math.inf


class DepthRule(NamedTuple):
    """Rule of hierarchical sets: the level and the threshold that a class of each depth has.

    Attributes
    ----------
    levels : tuple of int
        By the depth of a class, from 0 to ``n_per_class``.
    thresholds : tuple of float
        Likewise. A class is in the set if its score at its level is no larger than its threshold.
    """

    levels: tuple[int, ...]
    thresholds: tuple[float, ...]

    @property
    def level(self) -> int:
        """The level of all classes but for the few deep ones that would raise it."""
        return self.levels[0]

    @property
    def threshold(self) -> float:
        """The threshold of that level."""
        return self.thresholds[0]


def hierarchical_threshold(
    depth: Tensor, scores: Tensor, alpha: float, level_share: float = 1.0
) -> DepthRule:
    """Levels and thresholds of hierarchical sets, both from the same calibration points.

    Parameters
    ----------
    depth : Tensor of shape (n_points,), int
        d_i, the leading features that the true class shares with the prediction.
    scores : Tensor of shape (n_points, n_per_class + 1)
        Of the true class at levels 0, 1, ...; infinite at levels beyond its depth.
    alpha : float
    level_share : float
        Part of ``alpha``, up to 1, of the points whose true class may lie outside of the level.
        The rest is left to the threshold: with nothing left to it, it admits nearly all of the
        level.

    Notes
    -----
    Of counts N(l) of points that are at least l deep, the level is ``n_per_class``, where only the
    prediction is left, if N(n_per_class) >= m. Else it is the largest other l with N(l) >= m_L, the
    order statistic of ``level_share * alpha``; all points are at least 0 deep. A candidate class of
    depth d has the level that the calibration points and one more of depth d have together, and as
    threshold the m-th smallest score at that level of the calibration points, or infinity if there
    are fewer than m.

    *Theorem.* If a new point is exchangeable with the calibration points, its class y is in the set
    with a probability of at least m / (n + 1) >= 1 - alpha.

    *Proof.* The level at which y is judged is that of all n + 1 points; it does not depend on their
    order. Of any n + 1 scores at least m have a rank of at most m, the rank being one more than
    the number of smaller ones. So that of y has one with a probability of at least m / (n + 1); and
    then fewer than m calibration points have a smaller score, so y is within the threshold.

    Depths are counted for one point more, or else the level would depend on which point is the new
    one. This rarely changes anything: only where a count is one short. Where no two finite scores
    of a level are equal, the probability is no larger than m / (n + 1), for m <= n; predictions
    that are right have equal ones, so that it may be larger.

    The guarantee is on average over calibration points, as for all conformal sets. Let C_l be the
    coverage at the fixed level l with its m-th smallest score as threshold; given independent
    calibration points, its distribution is Beta(m, n + 1 - m) or a larger one. The coverage of the
    rule is at least the smallest C_l, so it falls below any value at most ``n_per_class + 1`` times
    as often. For levels only rise with depth; let h be the highest in use below ``n_per_class``,
    and l the lowest. All classes at least h deep are judged at h, but for the prediction if it
    alone is judged at ``n_per_class``, with an infinite threshold. So with a finite threshold at h
    the coverage is at least C_h. With an infinite one, all levels in use above l have infinite
    thresholds, and it is at least C_l.
    """
    if not 0 < level_share <= 1:
        raise InvalidInputError(
            f"level_share is {level_share}; a part of alpha, above 0 and up to 1, was expected."
        )
    n_points, n_levels = scores.shape
    m = order_statistic(n_points, alpha)
    m_level = order_statistic(n_points, level_share * alpha)
    count = (depth[:, None] >= torch.arange(n_levels, device=depth.device)).sum(0).tolist()
    levels = tuple(
        _level([n + (d >= level) for level, n in enumerate(count)], m, m_level)
        for d in range(n_levels)
    )
    threshold = {level: conformal_quantile(scores[:, level], alpha) for level in set(levels)}
    return DepthRule(levels, tuple(threshold[level] for level in levels))


def _level(count: list[int], m: int, m_level: int) -> int:
    """Level of points of which ``count[l]`` are at least l deep."""
    *others, deepest = count
    if deepest >= m:
        return len(others)
    return max(level for level, n in enumerate(others) if n >= m_level)
