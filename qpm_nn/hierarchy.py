"""The hierarchy that an image makes of the classes: each class's features, the strongest first.

Classes whose strongest features agree with those of the prediction are near to it, the nearer the
more agree. :mod:`qpm_nn.conformal` makes prediction sets of this, :mod:`qpm_nn.explanations` trees.

References
----------
CHiQPM: Calibrated Hierarchical Interpretable Image Classification, NeurIPS 2025, eqs. 7 and 8.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from qpm_opt import InvalidInputError


class SortedFeatures(NamedTuple):
    """Features of every class by their activation in an image.

    Attributes
    ----------
    features : Tensor of shape (n_images, n_classes, n_per_class), int
        Positions among the selected features, the strongest first; of equally strong ones the
        lowest position is the first.
    values : Tensor of shape (n_images, n_classes, n_per_class)
        Their activations, at least 0. A feature at 0 is inactive.
    """

    features: Tensor
    values: Tensor


def sort_features(features: Tensor, assignment: Tensor) -> SortedFeatures:
    """Sort the features of every class by their activation (eq. 7).

    Parameters
    ----------
    features : Tensor of shape (n_images, n_selected)
        Normalised features. Those below 0, the mean of the training images, are inactive, as behind
        the ReLU of CHiQPM.
    assignment : Tensor of shape (n_classes, n_selected), bool
        With equally many features for all classes, at least one.

    Raises
    ------
    InvalidInputError
        If the shapes do not fit, a feature is not finite or the classes have not equally many.
    """
    n_per_class = assignment.sum(1)
    if not len(n_per_class) or n_per_class.min() < 1 or n_per_class.min() != n_per_class.max():
        raise InvalidInputError(
            "A hierarchy needs classes with equally many features, at least one each."
        )
    if features.ndim != 2 or features.shape[1] != assignment.shape[1]:
        raise InvalidInputError(
            f"features has shape {tuple(features.shape)}; (n_images, {assignment.shape[1]}) was "
            "expected."
        )
    if not features.isfinite().all():
        raise InvalidInputError("A feature is NaN or infinite; finite features were expected.")
    own = assignment.nonzero()[:, 1].reshape(len(assignment), -1)
    values = features.clamp_min(0)[:, own]
    order = values.argsort(dim=2, descending=True, stable=True)
    return SortedFeatures(own.expand_as(order).gather(2, order), values.gather(2, order))


def shared_depth(sorted_features: SortedFeatures, predicted: Tensor) -> Tensor:
    """How many leading features every class shares with the prediction (eq. 8).

    Inactive features are in no order, so they are not shared: a class that agrees with the
    prediction in all active ones is as deep as there are such.

    Parameters
    ----------
    sorted_features : SortedFeatures
    predicted : Tensor of shape (n_images,), int
        Labels.

    Returns
    -------
    Tensor of shape (n_images, n_classes), int
        From 0 to ``n_per_class``, which only the predicted class has if all classes differ.
    """
    features, values = sorted_features
    images = torch.arange(len(features), device=features.device)
    same = (features == features[images, predicted][:, None]) & (values > 0)
    depth = same.to(torch.int64).cumprod(2).sum(2)
    depth[images, predicted] = features.shape[2]
    return depth
