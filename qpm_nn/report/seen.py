"""What a model says of the test images, as arrays from which the records of a report are taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qpm_nn.explanations import Confusions, LastLayer, confusions

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class SeenImages:
    """Logits and features of the test images, with the layer that added them up.

    Attributes
    ----------
    layer : LastLayer
    logits : array of shape (n_images, n_classes)
    features, locality : array of shape (n_images, n_selected)
        As the head normalises them; maxima of the spatial softmax of their maps.
    labels : array of shape (n_images,), int
    """

    layer: LastLayer
    logits: FloatArray
    features: FloatArray
    locality: FloatArray
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, layer: LastLayer, arrays: Mapping[str, NDArray[Any]]) -> SeenImages:
        """Of the arrays of ``predictions.npz``."""
        names = ("logits", "features", "locality")
        values = (np.asarray(arrays[name], np.float64) for name in names)
        return cls(layer, *values, np.asarray(arrays["labels"], np.int64))

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self.layer.n_classes

    @property
    def weight(self) -> FloatArray:
        """Weights of the layer, (n_classes, n_selected)."""
        return self.layer.weight

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """Labels of the largest logits, (n_images,)."""
        return self.logits.argmax(axis=1)

    def second(self, i: int) -> int | None:
        """The class with the second largest logit of an image; None if there is but one class."""
        if self.n_classes < 2:
            return None
        return self.layer.runner_up(self.logits[i], int(self.predicted[i]))

    @cached_property
    def confusions(self) -> Confusions:
        """Pairs of classes with misclassified images, the most frequent first."""
        return confusions(self.layer, self.features, self.labels, self.predicted)

    @property
    def has_hierarchy(self) -> bool:
        """Whether classes have equally many features, which speak for them."""
        n_features = (self.weight != 0).sum(axis=1)
        return bool((self.layer.sign >= 0).all() and (n_features == n_features[0]).all())

    @property
    def closest(self) -> tuple[int, ...]:
        """The first two classes that share the most features; the only class if there is one."""
        shared = np.triu(self.shared + 1, 1)
        pair = np.unravel_index(shared.argmax(), shared.shape)
        return tuple(sorted({int(c) for c in pair}))

    @cached_property
    def shared(self) -> NDArray[np.int64]:
        """How many features two classes share with the same sign, (n_classes, n_classes)."""
        parts = [(sign * self.layer.sign > 0).astype(np.int64) for sign in (1, -1)]
        return np.sum([part @ part.T for part in parts], axis=0)
