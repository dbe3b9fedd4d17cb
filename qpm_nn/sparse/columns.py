"""The features that each class may use at the moment, and products with them."""

from __future__ import annotations

import numpy as np

from qpm_nn.sparse.penalty import BoolArray, FloatArray


class Columns:
    """Bias and working features of every class, as slots 0, 1, ... of equal number.

    A class has its own features unless the classes share most of them; then all get the union,
    because one large matrix product is faster than many small ones.

    Parameters
    ----------
    features : array of shape (n_features, n_images)
    working : array of shape (n_classes, n_features), bool

    Attributes
    ----------
    working : array of shape (n_classes, n_features), bool
        What the slots hold.
    free : array of shape (n_classes, n_slots), bool
        False where a class has no feature in a slot.
    """

    def __init__(self, features: FloatArray, working: BoolArray) -> None:
        n_classes, self._n_images = len(working), features.shape[1]
        union = working.any(axis=0)
        self._shared = working.sum() * 3 > n_classes * union.sum()
        self.working = np.broadcast_to(union, working.shape) if self._shared else working
        counts = self.working.sum(axis=1)
        self.free = np.arange(counts.max() + 1) <= counts[:, None]
        # Class by class, features ascending: the order of np.nonzero.
        self._slots = self.free.copy()
        self._slots[:, 0] = False
        self._rows = [
            self._with_ones(features[mask])
            for mask in (self.working[:1] if self._shared else self.working)
        ]

    def _with_ones(self, rows: FloatArray) -> FloatArray:
        return np.concatenate([np.ones((1, self._n_images)), rows])

    def gather(self, weight: FloatArray, bias: FloatArray) -> FloatArray:
        """Bias and weights as slots (n_classes, n_slots), zero where there is none."""
        slots = np.zeros(self.free.shape)
        slots[:, 0] = bias
        slots[self._slots] = weight[self.working]
        return slots

    def scatter(self, slots: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Weights (n_classes, n_features) and bias of slots."""
        weight = np.zeros(self.working.shape)
        weight[self.working] = slots[self._slots]
        return weight, slots[:, 0].copy()

    def logits(self, slots: FloatArray) -> FloatArray:
        """Logits of shape (n_classes, n_images)."""
        if self._shared:
            return slots @ self._rows[0]
        return np.stack(
            [row[: len(rows)] @ rows for row, rows in zip(slots, self._rows, strict=True)]
        )

    def adjoint(self, residual: FloatArray) -> FloatArray:
        """Slots of the products of (n_classes, n_images) with every feature."""
        if self._shared:
            return residual @ self._rows[0].T
        result = np.zeros(self.free.shape)
        for c, rows in enumerate(self._rows):
            result[c, : len(rows)] = rows @ residual[c]
        return result

    def gram(self, image_weight: FloatArray) -> FloatArray:
        """Weighted Gram matrix of every class's slots, (n_classes, n_slots, n_slots)."""
        result = np.zeros((*self.free.shape, self.free.shape[1]))
        for c, weight in enumerate(image_weight):
            rows = self._rows[0 if self._shared else c]
            result[c, : len(rows), : len(rows)] = (rows * weight) @ rows.T
        return result
