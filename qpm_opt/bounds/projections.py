"""Projections that the iteration of the semidefinite bound is made of."""

from __future__ import annotations

import numpy as np

from qpm_opt.bounds.eigen import spectral_map
from qpm_opt.validation import FloatArray


class Face:
    """The vectors of order n + 1 orthogonal to (m, -1, ..., -1), by one reflection."""

    def __init__(self, n: int, m: int) -> None:
        normal = np.full(n + 1, -1.0)
        normal[0] = m
        normal[0] += np.linalg.norm(normal)
        self._mirror = normal / np.linalg.norm(normal)
        self._trace = m + 1.0

    def _reflect(self, X: FloatArray) -> FloatArray:
        h = self._mirror.astype(X.dtype)
        image = X @ h
        image -= (h @ image) * h
        reflected: FloatArray = np.column_stack([h, image]) @ np.vstack([-2.0 * image, -2.0 * h])
        reflected += X
        return reflected

    def project(self, X: FloatArray) -> FloatArray:
        """The nearest positive semidefinite matrix on the face with trace m + 1."""
        inside = np.zeros_like(X)
        inside[1:, 1:] = spectral_map(
            self._reflect(X)[1:, 1:], lambda values: simplex_rows(values[None], self._trace)[0]
        )
        return self._reflect(inside)

    def largest_eigenvalue(self, T: FloatArray) -> float:
        """Largest eigenvalue of T on the face."""
        return float(np.linalg.eigvalsh(self._reflect(T)[1:, 1:])[-1])


def simplex_rows(points: FloatArray, total: float = 1.0) -> FloatArray:
    """Projection of every row onto the nonnegative vectors of a sum; -inf becomes 0."""
    points = points.astype(np.float64)
    ordered = -np.sort(-points, axis=1)
    excess = np.cumsum(np.where(np.isfinite(ordered), ordered, 0.0), axis=1) - total
    count = np.arange(1, points.shape[1] + 1)
    n_on = (np.isfinite(ordered) & (ordered * count > excess)).sum(axis=1)
    level = excess[np.arange(len(points)), n_on - 1] / n_on
    projected: FloatArray = np.maximum(points - level[:, None], 0.0)
    return projected


def capped_simplex(values: FloatArray, total: float) -> FloatArray:
    """Projection onto the vectors in [0, 1] with a given sum."""
    # The sum of clip(values - level, 0, 1) is piecewise linear in the level.
    ends = np.sort(np.concatenate([values, values - 1.0]))
    low, high = 0, len(ends) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if np.clip(values - ends[middle], 0.0, 1.0).sum() >= total:
            low = middle
        else:
            high = middle
    at_low = float(np.clip(values - ends[low], 0.0, 1.0).sum())
    at_high = float(np.clip(values - ends[high], 0.0, 1.0).sum())
    share = 0.0 if at_low == at_high else (at_low - total) / (at_low - at_high)
    level = ends[low] + share * (ends[high] - ends[low])
    projected: FloatArray = np.clip(values - level, 0.0, 1.0)
    return projected
