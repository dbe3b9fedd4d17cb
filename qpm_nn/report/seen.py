"""What a model says of the test images, as arrays from which the records of a report are taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from qpm_nn.heads import AssignmentHead, SparseHead

FloatArray = NDArray[np.float64]


class Confusion(NamedTuple):
    """Test images of one class that are taken for another, the clearest first."""

    label: int
    predicted: int
    images: list[int]


@dataclass(frozen=True)
class SeenImages:
    """Logits and features of the test images, with the head that made them.

    Attributes
    ----------
    weight : array of shape (n_classes, n_selected)
    bias : array of shape (n_classes,)
    logits : array of shape (n_images, n_classes)
    features, locality : array of shape (n_images, n_selected)
    labels : array of shape (n_images,), int
    """

    weight: FloatArray
    bias: FloatArray
    logits: FloatArray
    features: FloatArray
    locality: FloatArray
    labels: NDArray[np.int64]

    @classmethod
    def of(
        cls, head: AssignmentHead | SparseHead, arrays: Mapping[str, NDArray[Any]]
    ) -> SeenImages:
        """Of the arrays of ``predictions.npz``."""
        weight = head.weight.detach().cpu().double()
        bias = head.bias.detach().cpu().double() if isinstance(head, SparseHead) else None
        names = ("logits", "features", "locality")
        return cls(
            weight.numpy(),
            torch.zeros(len(weight)).double().numpy() if bias is None else bias.numpy(),
            *(np.asarray(arrays[name], np.float64) for name in names),
            np.asarray(arrays["labels"], np.int64),
        )

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.weight)

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """Labels of the largest logits, (n_images,)."""
        return self.logits.argmax(axis=1)

    def second(self, i: int) -> int | None:
        """The class with the second largest logit of an image; None if there is but one class."""
        order = np.argsort(-self.logits[i], kind="stable")
        return int(order[order != self.predicted[i]][0]) if self.n_classes > 1 else None

    def contributions(self, i: int, c: int) -> list[tuple[int, float]]:
        """What each feature of a class adds to its logit, the largest first.

        Together with the bias of the class they add up to the logit.
        """
        return _by_size(self.weight[c] * self.features[i], self.weight[c] != 0)

    def deciding(self, images: int | list[int], c: int, other: int) -> list[tuple[int, float]]:
        """What each feature adds to the logit of one class rather than of another, on average.

        Features with the same weight for both cannot decide and are left out. Together with the
        difference of the biases they add up to that of the logits.
        """
        difference = self.weight[c] - self.weight[other]
        features = self.features[np.atleast_1d(images)].mean(axis=0)
        return _by_size(difference * features, difference != 0)

    @cached_property
    def confusions(self) -> list[Confusion]:
        """Pairs of classes with misclassified images, the most frequent first."""
        wrong = np.flatnonzero(self.labels != self.predicted)
        margin = self.logits[wrong, self.predicted[wrong]] - self.logits[wrong, self.labels[wrong]]
        groups: dict[tuple[int, int], list[int]] = {}
        for i in wrong[np.argsort(-margin, kind="stable")].tolist():
            pair = int(self.labels[i]), int(self.predicted[i])
            groups.setdefault(pair, []).append(i)
        found = [Confusion(*pair, images) for pair, images in groups.items()]
        return sorted(found, key=lambda one: (-len(one.images), one.label, one.predicted))

    @cached_property
    def shared(self) -> NDArray[np.int64]:
        """How many features two classes share with the same sign, (n_classes, n_classes)."""
        parts = [(sign * self.weight > 0).astype(np.int64) for sign in (1, -1)]
        return np.sum([part @ part.T for part in parts], axis=0)


def _by_size(values: FloatArray, which: NDArray[np.bool_]) -> list[tuple[int, float]]:
    places = np.flatnonzero(which)
    order = places[np.argsort(-values[places], kind="stable")]
    return [(int(j), float(values[j])) for j in order]
