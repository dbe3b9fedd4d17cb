"""Metrics of the distribution of pooled features over images, in one pass.

The papers report them for the training images, without augmentation. Features may be normalised,
hence negative. One that no class uses is no part of the explanation: callers leave its column out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array
from torch import Tensor

from qpm_nn.metrics.checks import FloatArray, as_labels, as_matrix
from qpm_opt import InvalidInputError


class ClassIndependence:
    """How little of each feature's activation belongs to its most related class, batch by batch.

    Keeps one sum for each class and feature, and no images.

    Parameters
    ----------
    n_classes, n_features : int
    """

    def __init__(self, n_classes: int, n_features: int) -> None:
        self._counts = np.zeros(n_classes)
        self._sums = np.zeros((n_classes, n_features))
        self._activation = ActivationSum(n_features)

    def update(self, features: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> None:
        """Add a batch of images.

        Parameters
        ----------
        features : array of shape (n_images, n_features)
        labels : array of shape (n_images,)
            True classes.

        Raises
        ------
        InvalidInputError
            If a value is NaN or infinite, or the shapes do not fit.
        """
        batch = as_matrix("features", features, self._sums.shape[1])
        classes = as_labels(labels, len(batch), len(self._counts))
        relative = self._activation.update(batch)
        shape = (len(self._counts), len(batch))
        indicator = csr_array((np.ones(len(batch)), (classes, np.arange(len(batch)))), shape)
        self._sums += indicator @ relative
        self._counts += np.bincount(classes, minlength=len(self._counts))

    def compute(self) -> float:
        """See :func:`class_independence`."""
        total, low = self._activation.compute()
        by_class = (self._sums - self._counts[:, None] * low).max(axis=0)
        share = np.divide(by_class, total, out=np.zeros_like(total), where=total > 0)
        return float(1 - share.clip(0, 1).mean())


class ActivationSum:
    """Sum over the images of each feature above its minimum, without knowing that in advance.

    Values are kept relative to the first image, so that a large common offset costs no digits and
    a constant feature has a sum of exactly 0.

    Attributes
    ----------
    n_images : int
    """

    def __init__(self, n_features: int) -> None:
        self.n_images = 0
        self._origin = np.zeros(n_features)
        self._sum = np.zeros(n_features)
        self._low = np.full(n_features, np.inf)

    def update(self, batch: FloatArray) -> FloatArray:
        """Add a batch (n_images, n_features); returns it relative to the first image."""
        if len(batch) and not self.n_images:
            self._origin = batch[0].copy()
        relative = batch - self._origin
        self._sum += relative.sum(axis=0)
        self._low = np.minimum(self._low, relative.min(axis=0, initial=np.inf))
        self.n_images += len(batch)
        return relative

    def compute(self) -> tuple[FloatArray, FloatArray]:
        """Sums above the minimum and minima relative to the first image, (n_features,) each."""
        if not self.n_images:
            raise InvalidInputError("There are no images; at least one was expected.")
        return (self._sum - self.n_images * self._low).clip(0), self._low


class Correlation:
    """Mean over the features of the largest cosine similarity with another one, batch by batch.

    Keeps a matrix (n_features, n_features), and no images.

    Parameters
    ----------
    n_features : int
    """

    def __init__(self, n_features: int) -> None:
        self._products = np.zeros((n_features, n_features))

    def update(self, features: ArrayLike | Tensor) -> None:
        """Add a batch of images.

        Parameters
        ----------
        features : array of shape (n_images, n_features)

        Raises
        ------
        InvalidInputError
            If a value is NaN or infinite, or the shape does not fit.
        """
        batch = as_matrix("features", features, len(self._products))
        self._products += batch.T @ batch

    def compute(self) -> float:
        """See :func:`correlation`."""
        if len(self._products) < 2:
            return 0.0
        norm = np.sqrt(self._products.diagonal())
        scale = np.divide(1.0, norm, out=np.zeros_like(norm), where=norm > 0)
        cosine = scale[:, None] * self._products * scale
        np.fill_diagonal(cosine, -np.inf)
        return float(cosine.max(axis=1).clip(-1, 1).mean())


def class_independence(features: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> float:
    """How little of each feature's activation belongs to its most related class.

    0 if every feature is active on one class only, ``1 - 1/n_classes`` at most. A constant feature
    has no activation above its minimum; it counts as related to no class (1).

    Parameters
    ----------
    features : array of shape (n_images, n_features)
    labels : array of shape (n_images,)

    Raises
    ------
    InvalidInputError
        If a value is NaN or infinite, the shapes do not fit or there are no images.

    References
    ----------
    QPM paper, eq. 14.
    """
    matrix = as_matrix("features", features)
    classes = as_labels(labels, len(matrix))
    independence = ClassIndependence(int(classes.max(initial=0)) + 1, matrix.shape[1])
    independence.update(matrix, classes)
    return independence.compute()


def correlation(features: ArrayLike | Tensor) -> float:
    """Mean over the features of the largest cosine similarity with another feature.

    Not centred, as in the paper; in [-1, 1]. A feature that is zero everywhere, or the only one,
    is similar to none (0).

    Parameters
    ----------
    features : array of shape (n_images, n_features)

    Raises
    ------
    InvalidInputError
        If a value is NaN or infinite, or there are not two dimensions.

    References
    ----------
    QPM paper, eq. 18.
    """
    matrix = as_matrix("features", features)
    largest = Correlation(matrix.shape[1])
    largest.update(matrix)
    return largest.compute()
