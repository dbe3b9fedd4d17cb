"""Feature Alignment: how much features answer to attributes that people annotate in images."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from qpm_nn.metrics.checks import FloatArray, as_labels, as_mask, as_matrix
from qpm_nn.metrics.features import ActivationSum
from qpm_nn.metrics.weights import shared_features
from qpm_opt import InvalidInputError


class FeatureAlignment:
    """Feature Alignment of images that come in batches.

    Keeps two sums for each attribute and feature, and no images. The papers take the training
    images, without augmentation.

    Parameters
    ----------
    n_features, n_attributes : int
    """

    def __init__(self, n_features: int, n_attributes: int) -> None:
        self._activation = ActivationSum(n_features)
        # Of the images with the attribute and of those without.
        self._sums = np.zeros((2, n_attributes, n_features))
        self._counts = np.zeros((2, n_attributes))

    def update(
        self,
        features: ArrayLike | Tensor,
        present: ArrayLike | Tensor,
        absent: ArrayLike | Tensor | None = None,
        *,
        considered: ArrayLike | Tensor | None = None,
    ) -> None:
        """Add a batch of images.

        Parameters
        ----------
        features : array of shape (n_images, n_features)
        present, absent : array of shape (n_images, n_attributes), bool
            Annotated as there, and as not there. Leave out of both what is not certain: the
            published code uses labels of CUB-2011 with a certainty of at least 3. By default
            everything is absent that is not present.
        considered : array of shape (n_images,), bool, optional
            Images that count for the differences of eq. 28; the mean activation in eq. 30 is of
            all. All by default.

        Raises
        ------
        InvalidInputError
            If a value is NaN or infinite, the shapes do not fit, or an attribute is both.
        """
        batch = as_matrix("features", features, self._sums.shape[2])
        shape = (len(batch), self._sums.shape[1])
        there = as_mask("present", present, shape)
        gone = ~there if absent is None else as_mask("absent", absent, shape)
        if (there & gone).any():
            image, attribute = np.argwhere(there & gone)[0]
            raise InvalidInputError(
                f"Attribute {attribute} of image {image} is both present and absent; at most one "
                "was expected."
            )
        relative = self._activation.update(batch)
        if considered is not None:
            rows = as_mask("considered", considered, (len(batch),))
            relative, there, gone = relative[rows], there[rows], gone[rows]
        for side, mask in enumerate((there, gone)):
            self._sums[side] += mask.T.astype(np.float64) @ relative
            self._counts[side] += mask.sum(axis=0)

    def matrix(self) -> FloatArray:
        """Difference in each feature with and without each attribute, by its mean activation.

        Returns
        -------
        ndarray of shape (n_attributes, n_features)
            Eq. 30: 1 if the feature is higher by its mean above its minimum. NaN for an attribute
            that is nowhere present or nowhere absent; 0 for a constant feature.

        Raises
        ------
        InvalidInputError
            If there are no images.
        """
        activation, _ = self._activation.compute()
        counts = self._counts[:, :, None]
        mean = np.divide(self._sums, counts, out=np.full_like(self._sums, np.nan), where=counts > 0)
        difference = mean[0] - mean[1]
        scale = np.zeros_like(activation)
        np.divide(self._activation.n_images, activation, out=scale, where=activation > 0)
        return difference * scale

    def compute(self) -> float:
        """See :func:`feature_alignment`."""
        matrix = self.matrix()
        known = matrix[~np.isnan(matrix).any(axis=1)]
        return float(known.max(axis=0).mean()) if len(known) else math.nan


def feature_alignment(
    features: ArrayLike | Tensor,
    present: ArrayLike | Tensor,
    absent: ArrayLike | Tensor | None = None,
) -> float:
    """Mean over the features of the alignment with the attribute that suits each best.

    Parameters and errors are those of :meth:`FeatureAlignment.update`; NaN if no attribute is
    present in some images and absent in others.

    References
    ----------
    Norrenbrock et al., Q-SENN, AAAI 2024; QPM paper, eqs. 28 and 29.
    """
    matrix = as_matrix("features", features)
    alignment = FeatureAlignment(matrix.shape[1], np.shape(present)[-1])
    alignment.update(matrix, present, absent)
    return alignment.compute()


def local_feature_alignment(
    features: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    present: ArrayLike | Tensor,
    absent: ArrayLike | Tensor | None,
    weights: ArrayLike | Tensor,
    class_index: int,
    n_different: int,
) -> FloatArray:
    """Alignment of every feature with every attribute among classes that are like a given one.

    A feature may stand for one thing near a class and for another one elsewhere: then its
    alignment falls as ``n_different`` grows.

    Parameters
    ----------
    features : array of shape (n_images, n_features)
    labels : array of shape (n_images,)
    present, absent : array of shape (n_images, n_attributes), bool
        As in :meth:`FeatureAlignment.update`; None for ``absent`` means all that is not present.
    weights : array of shape (n_classes, n_features)
    class_index : int
        The given class.
    n_different : int
        x in eq. 30: only images count whose class shares all but x features with the given class,
        or more. With x = the number of features of the class, all images count.

    Returns
    -------
    ndarray of shape (n_attributes, n_features)
        As of :meth:`FeatureAlignment.matrix`.

    Raises
    ------
    InvalidInputError
        If a value is NaN or infinite, the shapes do not fit, or there is no such class.

    References
    ----------
    QPM paper, eqs. 28 and 30, figure 18.
    """
    matrix = as_matrix("features", features)
    shared = shared_features(as_matrix("weights", weights, matrix.shape[1]))
    if not 0 <= class_index < len(shared):
        raise InvalidInputError(
            f"class_index is {class_index}; 0 to {len(shared) - 1} were expected."
        )
    near = shared[class_index] >= shared[class_index, class_index] - n_different
    alignment = FeatureAlignment(matrix.shape[1], np.shape(present)[-1])
    considered = near[as_labels(labels, len(matrix), len(shared))]
    alignment.update(matrix, present, absent, considered=considered)
    return alignment.matrix()
