"""Prediction sets of a model on held-out images: part of them calibrates, the others measure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from qpm_nn import metrics
from qpm_nn.config import ConformalMethod
from qpm_nn.conformal.calibration import Calibration, calibrate_each
from qpm_nn.conformal.prediction import predict_set
from qpm_nn.conformal.rules import order_statistic
from qpm_nn.conformal.scores import HIERARCHIES
from qpm_nn.heads import AssignmentHead, Head

#: Coverages at which the paper measures sets.
ALPHAS = (0.12, 0.1, 0.075, 0.05)


@dataclass(frozen=True)
class HeldOut:
    """What a classifier says of images that it was not trained on.

    Attributes
    ----------
    logits : Tensor of shape (n_images, n_classes)
    labels : Tensor of shape (n_images,), int
    features : Tensor of shape (n_images, n_selected) or None
    assignment : Tensor of shape (n_classes, n_selected), bool, or None
        None unless the classifier has an assignment without negative features: then there are no
        hierarchical sets.
    """

    logits: Tensor
    labels: Tensor
    features: Tensor | None = None
    assignment: Tensor | None = None

    @classmethod
    def of(cls, head: Head, logits: Tensor, labels: Tensor, features: Tensor) -> HeldOut:
        """What a classifier with this head says; features count if it has a hierarchy."""
        if not isinstance(head, AssignmentHead) or head.negative is not None:
            return cls(logits, labels)
        return cls(logits, labels, features, head.assignment)

    @property
    def methods(self) -> tuple[ConformalMethod, ...]:
        """Methods that there can be sets of."""
        every: tuple[ConformalMethod, ...] = get_args(ConformalMethod)
        return tuple(
            name for name in every if self.assignment is not None or name not in HIERARCHIES
        )

    def split(self, share: float, seed: int) -> tuple[HeldOut, HeldOut]:
        """A random part of the images, at least one, and the others."""
        one, other = self.parts(share, seed)
        return self.subset(one), self.subset(other)

    def parts(self, share: float, seed: int) -> tuple[Tensor, Tensor]:
        """Indices of the images of both parts of :meth:`split`, ascending."""
        n = len(self.labels)
        order = torch.from_numpy(np.random.default_rng(seed).permutation(n))
        n_first = min(max(1, round(share * n)), n)
        return order[:n_first].sort().values, order[n_first:].sort().values

    def subset(self, images: Tensor) -> HeldOut:
        """Some of the images."""
        features = None if self.features is None else self.features[images]
        return HeldOut(self.logits[images], self.labels[images], features, self.assignment)

    def calibrate_each(self, alphas: Sequence[float], **options: Any) -> tuple[Calibration, ...]:
        """Calibrations on these images; see :func:`~qpm_nn.conformal.calibrate_each`."""
        return calibrate_each(
            self.logits,
            self.labels,
            alphas,
            features=self.features,
            assignment=self.assignment,
            **options,
        )

    def predict_set(self, calibration: Calibration) -> Tensor:
        """Prediction sets of these images, bool of shape (n_images, n_classes)."""
        return predict_set(
            calibration, self.logits, features=self.features, assignment=self.assignment
        )


def measure_sets(
    calibration: Calibration, images: HeldOut, similarity: ArrayLike | None = None
) -> dict[str, Any]:
    """Metrics of the sets of images that did not calibrate.

    Parameters
    ----------
    calibration : Calibration
    images : HeldOut
    similarity : array of shape (n_classes, n_classes), optional
        For ``coherence``.

    Returns
    -------
    dict
        ``method``, ``alpha``, ``n_calibration``, ``n_images``, ``guaranteed`` (least mean coverage
        m / (n + 1); 1 if all classes are in every set; 1 - alpha by class), ``coverage``,
        ``mean_size``, ``worst_size_coverage``, ``worst_class_coverage``, ``class_coverage_gap``,
        ``coherence``.
        None where a metric is not defined.
    """
    sets, labels = images.predict_set(calibration), images.labels
    n = calibration.n_calibration
    m = order_statistic(n, calibration.alpha)
    guaranteed = m / (n + 1) if m <= n else 1.0
    if calibration.class_conditional:  # classes have fewer points, each at least this
        guaranteed = 1 - calibration.alpha
    found: dict[str, float] = {
        "coverage": metrics.set_coverage(sets, labels),
        "mean_size": metrics.mean_set_size(sets),
        "worst_size_coverage": metrics.worst_size_coverage(sets, labels),
        "worst_class_coverage": metrics.worst_class_coverage(sets, labels),
        "class_coverage_gap": metrics.class_coverage_gap(sets, labels, calibration.alpha),
        "coherence": math.nan if similarity is None else metrics.set_coherence(sets, similarity),
    }
    return {
        "method": calibration.method,
        "alpha": calibration.alpha,
        "n_calibration": n,
        "n_images": len(labels),
        "guaranteed": guaranteed,
    } | {name: None if math.isnan(value) else value for name, value in found.items()}
