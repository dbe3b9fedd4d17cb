"""Metrics of the weights of a classifier: how compact it is and how its classes differ."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from qpm_nn.metrics.checks import as_matrix


def n_features(weights: ArrayLike | Tensor) -> int:
    """Number of features that any class uses.

    Parameters
    ----------
    weights : array of shape (n_classes, n_features)
    """
    return int((as_matrix("weights", weights) != 0).any(axis=0).sum())


def features_per_class(weights: ArrayLike | Tensor) -> float:
    """Mean number of features that a class uses.

    Parameters
    ----------
    weights : array of shape (n_classes, n_features)
    """
    return float((as_matrix("weights", weights) != 0).sum(axis=1).mean())


def shared_features(weights: ArrayLike | Tensor) -> NDArray[np.int64]:
    """Number of features that two classes share: both use it, with a weight of the same sign.

    Parameters
    ----------
    weights : array of shape (n_classes, n_features)

    Returns
    -------
    ndarray of shape (n_classes, n_classes)
        The diagonal is the number of features of each class.
    """
    sign = np.sign(as_matrix("weights", weights))
    both = np.concatenate([sign > 0, sign < 0], axis=1).astype(np.float64)
    return np.rint(both @ both.T).astype(np.int64)


def contrastive_pairs(weights: ArrayLike | Tensor) -> NDArray[np.bool_]:
    """Which classes differ in one feature, (n_classes, n_classes).

    They have equally many features, k, and share exactly k - 1 (:func:`shared_features`). With
    k = 1 any two classes that do not share their feature are such a pair. A class without features
    is in none.

    Parameters
    ----------
    weights : array of shape (n_classes, n_features)

    References
    ----------
    CHiQPM paper: classes that have a contrastive global explanation.
    """
    shared = shared_features(weights)
    count = shared.diagonal()
    return (count[:, None] == count) & (shared == count - 1) & (count > 0)


def contrastive_pair_share(weights: ArrayLike | Tensor) -> float:
    """Share of classes with a partner from which they differ in one feature.

    Parameters
    ----------
    weights : array of shape (n_classes, n_features)
        See :func:`contrastive_pairs`.
    """
    return float(contrastive_pairs(weights).any(axis=1).mean())
