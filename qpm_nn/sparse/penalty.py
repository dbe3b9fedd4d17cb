"""The elastic net on single weights or on whole features, and its conjugate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Penalty:
    """``l1 * |W| + l2/2 * |W|^2`` of weights of shape (n_classes, n_features).

    Attributes
    ----------
    l1, l2 : float
        ``lambda * alpha`` and ``lambda * (1 - alpha)``.
    grouped : bool
        Whether ``|W|`` is the sum over the features of the Euclidean norm of their weights (then a
        feature is used by all classes or by none) instead of the sum of absolute weights.
    """

    l1: float
    l2: float
    grouped: bool

    def size(self, weight: FloatArray) -> FloatArray:
        """What ``l1`` multiplies: absolute weights, or the norm of each column (1, n_features)."""
        if self.grouped:
            return np.linalg.norm(weight, axis=0, keepdims=True)
        return np.abs(weight)

    def value(self, weight: FloatArray) -> float:
        """The penalty of these weights."""
        return float(self.l1 * self.size(weight).sum() + 0.5 * self.l2 * np.vdot(weight, weight))

    def conjugate(self, size: FloatArray) -> float:
        """Conjugate function at dual weights of these sizes; infinite if l2 = 0 and one is > l1."""
        excess = size[size > self.l1] - self.l1
        if self.l2 == 0:
            return np.inf if excess.size else 0.0
        return float(excess @ excess) / (2 * self.l2)

    def gradient(self, weight: FloatArray) -> FloatArray:
        """Gradient where the weight (the column) is not zero, and ``l2 * weight`` elsewhere."""
        size = self.size(weight)
        unit = np.divide(weight, size, out=np.zeros_like(weight), where=size > 0)
        return self.l1 * unit + self.l2 * weight

    def curvature(self, weight: FloatArray, direction: FloatArray) -> FloatArray:
        """Hessian at non-zero weights (columns) times a direction."""
        result = self.l2 * direction
        if self.grouped:
            size = self.size(weight)
            inverse = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
            unit = weight * inverse
            along = (unit * direction).sum(axis=0)
            result += self.l1 * inverse * (direction - unit * along)
        return result

    def curvature_bound(self, weight: FloatArray) -> FloatArray:
        """A diagonal (broadcast to the weights) that the Hessian does not exceed."""
        if not self.grouped:
            return np.full((1, weight.shape[1]), self.l2)
        size = self.size(weight)
        return self.l2 + np.divide(self.l1, size, out=np.zeros_like(size), where=size > 0)

    def minimise(self, linear: FloatArray, curvature: FloatArray) -> FloatArray:
        """Minimum over v of ``sum(curvature * v^2 / 2 - linear * v)`` plus the penalty of v.

        Parameters
        ----------
        linear, curvature : array of shape (n_classes,)
            Of one weight of each class; of one feature if grouped. Curvatures are positive.
        """
        curvature = curvature + self.l2
        if not self.grouped:
            return np.sign(linear) * np.maximum(np.abs(linear) - self.l1, 0.0) / curvature
        if np.linalg.norm(linear) <= self.l1:
            return np.zeros_like(linear)
        return linear / (curvature + self.l1 / _norm_of_minimum(linear, curvature, self.l1))


def _norm_of_minimum(linear: FloatArray, curvature: FloatArray, l1: float) -> float:
    """The t > 0 at which ``|linear / (t * curvature + l1)|`` is 1; Newton's method from the left.

    One over that norm is concave and increases in t, so no step passes the root from there.
    """
    t = (float(np.linalg.norm(linear)) - l1) / float(curvature.max())
    for _ in range(50):
        scale = t * curvature + l1
        ratio = linear / scale
        squared = float(ratio @ ratio)
        step = (squared**1.5 - squared) / float((ratio * ratio) @ (curvature / scale))
        t += step
        if abs(step) <= 1e-12 * t:
            break
    return t
