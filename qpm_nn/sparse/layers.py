"""From a path to the final layers of SLDD-Model, Q-SENN and glm-saga: arrays in, arrays out.

All weights have shape (n_classes, n_features). Sparsity is a mean: n_per_class * n_classes weights
in all, and a class may get none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qpm_nn.sparse.elastic_net import ElasticNetFit
from qpm_opt import InvalidInputError

FloatArray = NDArray[np.float64]

#: The SLDD-Model prunes a solution with at most this many times the features it keeps.
EXCESS = 2.0


class SparseLayer(NamedTuple):
    """A linear layer.

    Attributes
    ----------
    weight : array of shape (n_classes, n_features)
    bias : array of shape (n_classes,)
    """

    weight: FloatArray
    bias: FloatArray


class TernaryLayer(NamedTuple):
    """A linear layer whose weights are -scale, 0 and scale.

    Attributes
    ----------
    sign : array of shape (n_classes, n_features), int8
        -1, 0 or 1.
    scale : float
    bias : array of shape (n_classes,)
    """

    sign: NDArray[np.int8]
    scale: float
    bias: FloatArray


def densest_within(path: Sequence[ElasticNetFit], n_per_class: float) -> ElasticNetFit:
    """The point of a path with the most features among those with n_per_class at most.

    With n_per_class = 5 and a path over all features, this is the baseline glm-saga_5 of the QPM
    paper (table 2), which is not fine-tuned.

    Raises
    ------
    InvalidInputError
        If the path is empty, or every point has more features.
    """
    within = [fit for fit in path if fit.n_per_class <= n_per_class]
    if not within:
        raise InvalidInputError(
            f"No point of the path has at most {n_per_class} features a class; begin it at "
            "lambda_max."
        )
    # Of equal ones the last: the least shrunk.
    return max(reversed(within), key=lambda fit: fit.n_per_class)


def sldd_layer(path: Sequence[ElasticNetFit], n_per_class: int) -> SparseLayer:
    """Final layer of the SLDD-Model: a solution twice as dense as wanted, its largest weights kept.

    Parameters
    ----------
    path : sequence of ElasticNetFit
        Over the selected features, down to 2 * n_per_class features a class at least.
    n_per_class : int
        Mean number of features of a class.

    Raises
    ------
    InvalidInputError
        If no point of the path that is sparse enough has any feature.

    References
    ----------
    Norrenbrock, Rudolph, Rosenhahn: Take 5 (2022), and its public code, which keeps 5 a class
    whatever is asked for; this one keeps n_per_class.
    """
    fit = densest_within(path, EXCESS * n_per_class)
    if not fit.weight.nnz:
        raise InvalidInputError(
            f"The path has no layer between none and {EXCESS * n_per_class:g} features a class, "
            "since more enter at once; raise n_per_class."
        )
    return SparseLayer(keep_largest(fit.weight.toarray(), n_per_class), fit.bias.copy())


def qsenn_layer(fit: ElasticNetFit, n_per_class: int) -> TernaryLayer:
    """Final layer of Q-SENN: ``quantise`` and ``balanced_bias`` of a fit.

    Parameters
    ----------
    fit : ElasticNetFit
        The last point of a path, as published.
    n_per_class : int
        Mean number of features of a class.

    References
    ----------
    Norrenbrock, Rudolph, Rosenhahn: Q-SENN: Quantized Self-Explaining Neural Networks (2024).
    """
    sign, scale = quantise(fit.weight.toarray(), n_per_class)
    return TernaryLayer(sign, scale, balanced_bias(sign, fit.bias))


def keep_largest(weight: ArrayLike, n_per_class: int) -> FloatArray:
    """Weights of which only the n_per_class * n_classes largest in absolute value are not 0.

    Of equal ones those of the first class and feature are kept. Where fewer are not 0, all are.
    """
    values = np.asarray(weight, np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise InvalidInputError(
            f"weight has shape {values.shape}; finite numbers of shape (n_classes, n_features) "
            "were expected."
        )
    n_classes, n_features = values.shape
    if not 1 <= n_per_class <= n_features:
        raise InvalidInputError(
            f"n_per_class is {n_per_class}; a number from 1 to n_features, here {n_features}, was "
            "expected."
        )
    order = np.argsort(-np.abs(values), axis=None, kind="stable")[: n_per_class * n_classes]
    kept = np.zeros(values.size)
    kept[order] = values.ravel()[order]
    return kept.reshape(values.shape)


def quantise(weight: ArrayLike, n_per_class: int) -> tuple[NDArray[np.int8], float]:
    """Signs of the n_per_class * n_classes largest weights, and their mean absolute value.

    The public code gives the weight with the largest absolute value, if it is negative, the wrong
    sign and leaves it out of the mean; here it is like all others.

    Returns
    -------
    sign : array of shape (n_classes, n_features), int8
        -1, 0 or 1.
    scale : float
        What a sign stands for; 0 if all weights are 0.
    """
    kept = keep_largest(weight, n_per_class)
    sign = np.sign(kept).astype(np.int8)
    return sign, float(np.abs(kept).sum() / max(np.count_nonzero(kept), 1))


def balanced_bias(sign: ArrayLike, bias: ArrayLike) -> FloatArray:
    """Biases that fall linearly with the number of positive minus negative features of a class.

    From max |bias| for the class with the lowest number to -max |bias| for the one with the
    highest: a class with many positive features has larger logits. All 0 if all classes have the
    same number (the public code divides by zero there).

    Parameters
    ----------
    sign : array of shape (n_classes, n_features)
    bias : array of shape (n_classes,)
        Of the fit.

    Returns
    -------
    array of shape (n_classes,)
    """
    count = np.asarray(sign, np.int64).sum(axis=1)
    largest = float(np.abs(np.asarray(bias, np.float64)).max())
    spread = count.max() - count.min()
    if spread == 0:
        return np.zeros(len(count))
    return largest - (count - count.min()) * (2 * largest / spread)
