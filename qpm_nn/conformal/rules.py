"""From calibration points to thresholds: the steps that carry the guarantee.

Notation: n calibration points, miscoverage ``alpha`` and m = ceil((n + 1)(1 - alpha)).
"""

from __future__ import annotations

import math
from fractions import Fraction
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
    if not 0 < alpha < 1:
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


class LevelThreshold(NamedTuple):
    """Rule of the hierarchical sets: which depth and which score a class needs.

    Attributes
    ----------
    level : int
        L: classes are in the set only if they are at least so deep,
    threshold : float
        and have at most this score at that level;
    deeper : bool
        if true, all that are deeper than the level are in the set, too.
    """

    level: int
    threshold: float
    deeper: bool


def hierarchical_threshold(depth: Tensor, scores: Tensor, alpha: float) -> LevelThreshold:
    """Level and threshold of hierarchical sets, both from the same calibration points.

    Parameters
    ----------
    depth : Tensor of shape (n_points,), int
        d_i, the leading features that the true class shares with the prediction.
    scores : Tensor of shape (n_points, n_levels)
        Of the true class at levels 0, 1, ..., n_levels - 1; infinite at levels beyond its depth.
    alpha : float

    Notes
    -----
    For m <= n, let N(l) be the number of calibration points with d_i >= l. The level L is the
    largest one with N(L) >= m, the threshold q the m-th smallest score at L, and if N(L + 1) =
    m - 1 all classes deeper than L are in the set, too. For m > n all classes are.

    *Theorem.* If a new point is exchangeable with the calibration points, its class y is in the set
    with a probability of at least m / (n + 1) >= 1 - alpha.

    *Proof.* Let L' be the largest level with N(L') + [d(y) >= L'] >= m, and R the rank of the new
    point's score at L' among all n + 1, one more than the number of smaller ones. L' is symmetric
    in the n + 1 points, and for any n + 1 numbers at least m have a rank of at most m: so R <= m
    with a probability of at least m / (n + 1). It remains to show that y is in the set if R <= m.
    One point more only raises counts, so L' >= L.

    - L' = L: R <= m means that fewer than m calibration points have smaller scores, which is
      score(y) <= q. As N(L) >= m, q is finite and y is deep enough.
    - L' > L: as L is the largest, m > N(L + 1) >= N(L'), and as the new point lifts the count to m,
      N(L') = m - 1 and d(y) >= L'. So N(L + 1) = m - 1 and d(y) > L: y is in the set because all
      deeper classes are.

    The deeper classes do not cost coverage above the target: if no two finite scores at L' are
    equal, y is in the set only if R <= m. (At the last level all scores are 0 and the set is the
    prediction, with the accuracy as coverage.)

    The guarantee is on average over calibration points, as for all conformal sets. With one score,
    the coverage given the calibration points has the distribution Beta(m, n + 1 - m) or a larger
    one. Here it is a choice among n_levels such values: it falls below any value at most n_levels
    times as often.
    """
    m = order_statistic(len(depth), alpha)
    if m > len(depth):
        return LevelThreshold(0, math.inf, False)
    levels = torch.arange(scores.shape[1], device=depth.device)
    n_deep = (depth[:, None] >= levels).sum(0).tolist()
    level = sum(count >= m for count in n_deep) - 1
    deeper = level + 1 < len(n_deep) and n_deep[level + 1] == m - 1
    return LevelThreshold(level, float(scores[:, level].kthvalue(m).values), deeper)
