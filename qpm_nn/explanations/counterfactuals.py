"""What would have to change in an image for another class to be predicted.

Logits are linear in the features, so the fewest features to change are those of a small integer
program: each rival's lead has to be covered by what the changes gain on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from qpm_nn.explanations.last_layer import LastLayer
from qpm_nn.explanations.plain import PlainData
from qpm_nn.metrics.checks import FloatArray
from qpm_opt import InvalidInputError

#: What the solver's tolerance may hide, in parts of the largest gain on a rival.
_TOLERANCE = 1e-5
#: HiGHS' numbers of what it found.
_OPTIMAL, _LIMIT, _INFEASIBLE = 0, 1, 2


@dataclass(frozen=True)
class FeatureChange(PlainData):
    """A feature that moves.

    Attributes
    ----------
    feature : int
        By its index in the backbone.
    position : int
        Its column among the selected ones.
    before, after : float
        Normalised.
    low, high : float
        How far it may move.
    weight, predicted_weight : float
        In the class that is aimed at and in the one predicted before.
    """

    feature: int
    position: int
    before: float
    after: float
    low: float
    high: float
    weight: float
    predicted_weight: float


@dataclass(frozen=True)
class Counterfactual(PlainData):
    """The fewest changes that make a class the prediction, of those the smallest.

    Attributes
    ----------
    class_index, predicted_index : int
        What is aimed at, and what is predicted without changes.
    class_name, predicted_name : str
    is_reachable : bool or None
        Whether any changes lead there; None if the time was up before that was known.
    is_fewest : bool
        Whether it is proved that fewer features do not suffice.
    is_smallest : bool
        Whether it is proved that no change of as few features is smaller in total.
    changes : tuple of FeatureChange
        The largest first; none if the class is predicted already or cannot be reached.
    total_change : float
        Sum of their sizes, in standard deviations.
    blocking : tuple of int
        Classes that alone keep it from being reached: they stay ahead whatever changes. There may
        be none though it cannot be reached, if it is several together.
    margin : float
        By how much the logit exceeds that of every other class after the changes, at least.
    logits_before, logits_after : dict of int to float
        Of the class, of the predicted one and of the one that comes next after the changes.
    """

    class_index: int
    class_name: str
    predicted_index: int
    predicted_name: str
    is_reachable: bool | None
    is_fewest: bool
    is_smallest: bool
    changes: tuple[FeatureChange, ...]
    total_change: float
    blocking: tuple[int, ...]
    margin: float
    logits_before: dict[int, float]
    logits_after: dict[int, float]


def observed_limits(features: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Smallest and largest value of each feature over images (n_images, n_selected).

    Raises
    ------
    InvalidInputError
        If there are no images, or a value is NaN or infinite.
    """
    matrix = np.asarray(features, np.float64)
    if matrix.ndim != 2 or not len(matrix) or not np.isfinite(matrix).all():
        raise InvalidInputError(
            f"features has shape {matrix.shape}; finite numbers of shape (n_images, n_selected) "
            "of at least one image were expected."
        )
    return matrix.min(axis=0), matrix.max(axis=0)


def counterfactual(
    layer: LastLayer,
    features: ArrayLike,
    c: int,
    limits: tuple[ArrayLike, ArrayLike],
    *,
    margin: float = 1e-3,
    time_limit: float = 10.0,
) -> Counterfactual:
    """The fewest changes of features with which an image would be taken for class ``c``.

    The optimum of an integer program, checked by computing the logits again.

    Parameters
    ----------
    layer : LastLayer
    features : array of shape (n_selected,)
        Of the image, as the head normalises them.
    c : int
    limits : pair of arrays of shape (n_selected,)
        Lowest and highest value that each feature may take: of :func:`observed_limits` on the
        training images. The image's own values are allowed in any case.
    margin : float
        By how much the logit of the class has to exceed all others; 1e-5 of the largest gain that
        a feature can bring on a rival if that is more.
    time_limit : float
        Seconds for each of the two programs: the fewest features, then the smallest change.

    Raises
    ------
    InvalidInputError
        If shapes or numbers do not fit, or the margin or time limit is not positive.
    """
    before, c = layer.image(features), layer.class_index(c)
    if not margin > 0 or not time_limit > 0:
        raise InvalidInputError(
            f"margin is {margin} and time_limit {time_limit}; positive numbers were expected."
        )
    low, high = (np.asarray(limit, np.float64) for limit in limits)
    if low.shape != before.shape or high.shape != before.shape or not (low <= high).all():
        raise InvalidInputError(
            f"limits have shapes {low.shape} and {high.shape}; {before.shape} was expected, with "
            "no lowest value above the highest."
        )
    low, high = np.minimum(low, before), np.maximum(high, before)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise InvalidInputError("limits hold infinite values; finite numbers were expected.")
    logits = layer.logits(before[None])[0]
    predicted = int(logits.argmax())
    unchanged = Counterfactual(
        class_index=c,
        class_name=layer.class_names[c],
        predicted_index=predicted,
        predicted_name=layer.class_names[predicted],
        is_reachable=True,
        is_fewest=True,
        is_smallest=True,
        changes=(),
        total_change=0.0,
        blocking=(),
        margin=float(logits[c] - np.delete(logits, c).max(initial=-np.inf)),
        logits_before={i: float(logits[i]) for i in (c, predicted)},
        logits_after={i: float(logits[i]) for i in (c, predicted)},
    )
    if predicted == c:
        return unchanged
    rivals = np.delete(np.arange(layer.n_classes), c)
    difference = layer.weight[c] - layer.weight[rivals]
    lead = logits[rivals] - logits[c]
    gain = np.maximum(difference * (high - before), difference * (low - before))
    needed = lead + np.maximum(margin, _TOLERANCE * gain.max(axis=1, initial=0.0))
    blocking = tuple(rivals[gain.sum(axis=1) < needed].tolist())
    if blocking:
        return replace(unchanged, is_reachable=False, blocking=blocking)
    program = _Program(difference, needed, high - before, before - low)
    found = program.fewest(time_limit)
    if found.moves is None:
        is_reachable = False if found.is_proved else None
        return replace(
            unchanged, is_reachable=is_reachable, is_fewest=found.is_proved, is_smallest=False
        )
    smaller = program.smallest(int(np.count_nonzero(found.moves)), time_limit)
    moves = found.moves if smaller.moves is None else smaller.moves
    return _verified(layer, replace(
        unchanged,
        is_fewest=found.is_proved,
        is_smallest=found.is_proved and smaller.is_proved and smaller.moves is not None,
    ), before, moves, low, high)  # fmt: skip


class _Moves(NamedTuple):
    """What a program has found: moves (n_selected,), None without any, and whether it is proved."""

    moves: FloatArray | None
    is_proved: bool


class _Program:
    """Moves of features up and down that gain enough on every rival.

    Variables: size of the move up, of that down, whether the feature changes. All are given in
    parts of the room there is, so that the matrix is well scaled.

    Parameters
    ----------
    difference : array of shape (n_rivals, n_selected)
        What a feature gains on a rival when it rises by 1.
    needed : array of shape (n_rivals,)
    room_up, room_down : array of shape (n_selected,)
    """

    def __init__(
        self,
        difference: FloatArray,
        needed: FloatArray,
        room_up: FloatArray,
        room_down: FloatArray,
    ) -> None:
        up, down = difference * room_up, -difference * room_down
        # A move in a direction that gains on nobody is never of use.
        self.up_most, self.down_most = (up > 0).any(axis=0), (down > 0).any(axis=0)
        up, down = up * self.up_most, down * self.down_most
        # Rivals that no move helps are behind anyway.
        is_open = (needed > 0) | (up < 0).any(axis=1) | (down < 0).any(axis=1)
        scale = np.maximum(np.abs(up).max(axis=1), np.abs(down).max(axis=1))[is_open]
        scale = np.where(scale > 0, scale, 1.0)[:, None]
        self.up, self.down = up[is_open] / scale, down[is_open] / scale
        self.needed = needed[is_open] / scale[:, 0]
        self.room_up, self.room_down = room_up, room_down

    def fewest(self, time_limit: float) -> _Moves:
        """Moves of the fewest features."""
        n = len(self.room_up)
        cost = np.concatenate([np.zeros(2 * n), np.ones(n)])
        return self._solve(cost, n, time_limit)

    def smallest(self, n_changed: int, time_limit: float) -> _Moves:
        """The smallest moves, in total, of so many features."""
        cost = np.concatenate([self.room_up, self.room_down, np.zeros(len(self.room_up))])
        return self._solve(cost, n_changed, time_limit)

    def _solve(self, cost: FloatArray, n_changed: int, time_limit: float) -> _Moves:
        n = len(self.room_up)
        identity = np.eye(n)
        constraints = [
            LinearConstraint(np.hstack([identity, identity, -identity]), -np.inf, 0),
            LinearConstraint(np.repeat([[0.0, 1.0]], [2 * n, n], axis=1), -np.inf, n_changed),
        ]
        if len(self.needed):
            gains = np.hstack([self.up, self.down, np.zeros_like(self.up)])
            constraints.append(LinearConstraint(gains, self.needed, np.inf))
        found = milp(
            cost,
            integrality=np.repeat([0, 1], [2 * n, n]),
            bounds=Bounds(0, np.concatenate([self.up_most, self.down_most, np.ones(n)])),
            constraints=constraints,
            options={"time_limit": time_limit, "mip_rel_gap": 0.0},
        )
        if found.x is None:
            return _Moves(None, found.status == _INFEASIBLE)
        parts_up, parts_down, changed = np.split(found.x, 3)
        moves = np.where(changed > 0.5, parts_up * self.room_up - parts_down * self.room_down, 0.0)
        return _Moves(moves, found.status == _OPTIMAL)


def _verified(
    layer: LastLayer,
    found: Counterfactual,
    before: FloatArray,
    moves: FloatArray,
    low: FloatArray,
    high: FloatArray,
) -> Counterfactual:
    """The result with what the logits are after the changes, computed anew."""
    after = np.clip(before + moves, low, high)
    logits = layer.logits(after[None])[0]
    c, predicted = found.class_index, found.predicted_index
    next_one = layer.runner_up(logits, c)
    assert logits[c] > logits[next_one], "the changes lead to the class"
    size = np.abs(after - before)
    changed: NDArray[np.intp] = np.argsort(-size, kind="stable")[: np.count_nonzero(size)]
    changes = tuple(
        FeatureChange(
            feature=int(layer.selected[j]),
            position=j,
            before=float(before[j]),
            after=float(after[j]),
            low=float(low[j]),
            high=float(high[j]),
            weight=float(layer.weight[c, j]),
            predicted_weight=float(layer.weight[predicted, j]),
        )
        for j in changed.tolist()
    )
    shown = (c, predicted, next_one)
    logits_before = layer.logits(before[None])[0]
    return replace(
        found,
        changes=changes,
        total_change=float(size.sum()),
        margin=float(logits[c] - logits[next_one]),
        logits_before={i: float(logits_before[i]) for i in shown},
        logits_after={i: float(logits[i]) for i in shown},
    )
