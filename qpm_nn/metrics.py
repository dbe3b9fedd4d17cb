"""Interpretability metrics on tensors.

All lie in [0, 1] (Correlation in [-1, 1]); an accuracy of 0.97 is 97 %. A feature that no class
uses is no part of the explanation: callers leave its column out.
"""

from __future__ import annotations

import statistics

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

FloatArray = NDArray[np.floating]

#: Relative spread below which a feature counts as constant.
CONSTANT = 1e-7


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Fraction of images whose largest logit is that of their class.

    Parameters
    ----------
    logits : Tensor of shape (n_images, n_classes)
    labels : Tensor of shape (n_images,)
    """
    return float((logits.argmax(1) == labels).double().mean())


def class_independence(features: FloatArray, labels: NDArray[np.integer]) -> float:
    """How little of each feature's activation belongs to its most related class.

    0 if every feature is active on one class only, ``1 - 1/n_classes`` at most. A constant feature
    has no activation above its minimum; it counts as related to no class (1).

    Parameters
    ----------
    features : array of shape (n_images, n_features)
    labels : array of shape (n_images,)

    References
    ----------
    QPM paper, eq. 14.
    """
    activation = np.asarray(features, dtype=np.float64)
    activation = activation - activation.min(axis=0)
    total = activation.sum(axis=0)
    by_class = np.zeros((int(labels.max()) + 1, activation.shape[1]))
    np.add.at(by_class, labels, activation)
    share = np.divide(by_class.max(axis=0), total, out=np.zeros_like(total), where=total > 0)
    return float(1 - share.mean())


def contrastiveness(features: FloatArray) -> float:
    """How far each feature splits into 'off' and 'on': 1 minus the overlap of two normals.

    The two components of a Gaussian mixture are fitted to each feature; their mixture weights do
    not enter. A feature with fewer than two distinct values, which nothing can split, counts as 0.

    Parameters
    ----------
    features : array of shape (n_images, n_features)

    References
    ----------
    QPM paper, eq. 13, as the mean over the features; overlap after Inman and Bradley (1989).
    """
    return float(np.mean([_split(column) for column in np.asarray(features, np.float64).T]))


def _split(values: FloatArray) -> float:
    from sklearn.mixture import GaussianMixture

    spread = values.std()
    if spread <= CONSTANT * np.abs(values).max():
        return 0.0
    # The overlap does not change with location and scale, the regularisation of the fit would.
    scaled = ((values - values.mean()) / spread)[:, None]
    mixture = GaussianMixture(n_components=2, random_state=0).fit(scaled)
    first, second = (
        statistics.NormalDist(mean, variance**0.5)
        for mean, variance in zip(mixture.means_.ravel(), mixture.covariances_.ravel(), strict=True)
    )
    return 1 - first.overlap(second)


def correlation(features: FloatArray) -> float:
    """Mean over the features of the largest cosine similarity with another feature.

    Not centred, as in the paper. A feature that is zero everywhere is similar to none (0).

    Parameters
    ----------
    features : array of shape (n_images, n_features), n_features >= 2

    References
    ----------
    QPM paper, eq. 18.
    """
    columns = np.asarray(features, dtype=np.float64)
    norm = np.linalg.norm(columns, axis=0)
    unit = np.divide(columns, norm, out=np.zeros_like(columns), where=norm > 0)
    cosine = unit.T @ unit
    np.fill_diagonal(cosine, -np.inf)
    return float(cosine.max(axis=1).mean())


def scale_invariant_diversity(maps: Tensor, class_weights: Tensor, k: int) -> Tensor:
    """SID@k of each image: how different the places are at which its k features look.

    1 if the k most weighted maps are concentrated on different pixels, 1/k if they are the same.

    Parameters
    ----------
    maps : Tensor of shape (n_images, n_features, height, width)
    class_weights : Tensor of shape (n_images, n_features)
        Signed weights of each image's predicted class. The k largest count.
    k : int
        ``n_per_class``.

    Returns
    -------
    Tensor of shape (n_images,)
        A map that is zero everywhere is spread evenly over all pixels.

    References
    ----------
    QPM paper, eqs. 15 and 16.
    """
    top = class_weights.topk(k, dim=1).indices
    flat = maps.flatten(2)
    chosen = flat.gather(1, top.unsqueeze(2).expand(-1, -1, flat.shape[2]))
    mean = chosen.abs().mean(2, keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)
    return functional.softmax(chosen / mean, dim=2).amax(1).sum(1) / k
