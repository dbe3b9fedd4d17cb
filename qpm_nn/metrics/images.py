"""Metrics that every image has by itself, and their mean over a stream of images."""

from __future__ import annotations

import math

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from qpm_nn.metrics.checks import check_finite, check_shape


class ImageMean:
    """Mean over images, batch by batch, of values that every image has by itself.

    Attributes
    ----------
    n_images : int
        Images with a value so far.
    """

    def __init__(self) -> None:
        self.n_images = 0
        self._sum = 0.0

    def update(self, values: Tensor) -> None:
        """Add a batch; images for which the metric is not defined are NaN and do not count.

        Parameters
        ----------
        values : Tensor of shape (n_images,)
        """
        values = values.detach().cpu().double()
        known = values[~values.isnan()]
        self._sum += float(known.sum())
        self.n_images += len(known)

    def compute(self) -> float:
        """The mean; NaN if no image has a value."""
        return self._sum / self.n_images if self.n_images else math.nan


def is_correct(logits: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> Tensor:
    """Whether the largest logit of each image is that of its class.

    Parameters
    ----------
    logits : Tensor of shape (n_images, n_classes)
        Of equally large ones the first counts.
    labels : Tensor of shape (n_images,)

    Returns
    -------
    Tensor of shape (n_images,), bool

    Raises
    ------
    InvalidInputError
        If a logit is NaN or infinite, or the shapes do not fit.
    """
    logits, labels = torch.as_tensor(logits), torch.as_tensor(labels)
    check_shape("labels", labels, tuple(logits.shape[:1]))
    check_finite("logits", logits)
    return logits.argmax(1) == labels.to(logits.device)


def accuracy(logits: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> float:
    """Fraction of images whose largest logit is that of their class; see :func:`is_correct`.

    The paper reports it for the test images. NaN if there are no images.
    """
    return float(is_correct(logits, labels).double().mean())


def dependence(features: Tensor, class_weights: Tensor) -> Tensor:
    """Share of each image's largest contribution in all contributions to its predicted class.

    1 if the decision hangs on one feature, 1/n_per_class if all features of the class matter
    equally. The published code takes the training images.

    Parameters
    ----------
    features : Tensor of shape (n_images, n_features)
        What the linear map of the head sees; contributions count by their absolute value.
    class_weights : Tensor of shape (n_images, n_features)
        Weights of each image's predicted class.

    Returns
    -------
    Tensor of shape (n_images,)
        NaN (not counted by :class:`ImageMean`) if no feature contributes.

    Raises
    ------
    InvalidInputError
        If a value is NaN or infinite, or the shapes do not fit.

    References
    ----------
    Dependence of Norrenbrock et al., Q-SENN, AAAI 2024.
    """
    check_shape("class_weights", class_weights, tuple(features.shape))
    contributions = (features * class_weights).abs()
    check_finite("features * class_weights", contributions)
    return contributions.amax(1) / contributions.sum(1)
