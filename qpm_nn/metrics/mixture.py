"""Mixtures of two normal distributions, fitted to many features at once."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

#: The defaults of scikit-learn's GaussianMixture, with which the published figures were made:
#: smallest gain in mean log likelihood that asks for another iteration, most iterations, and what
#: is added to the variances.
TOLERANCE = 1e-3
MAX_ITERATIONS = 100
REGULARISATION = 1e-6


class Mixtures(NamedTuple):
    """One mixture of two normals for each feature; tensors of shape (n_features, 2), float64."""

    weights: Tensor
    means: Tensor
    variances: Tensor


def fit_two_normals(values: Tensor) -> Mixtures:
    """Maximum likelihood by expectation maximisation, from the best split into two clusters.

    scikit-learn's GaussianMixture does the same for one feature, but starts from a k-means that
    begins at random and may end in a worse split; where it finds the best one, both agree.

    Parameters
    ----------
    values : Tensor of shape (n_features, n_images), float64
        With at least two different values in each row. The regularisation is on their scale:
        standardise them.
    """
    values = values.sort(dim=1).values
    mixtures = _from_responsibilities(values, _first_cluster(values))
    last = values.new_full((len(values),), -math.inf)
    active = torch.arange(len(values))
    for _ in range(MAX_ITERATIONS):
        fitted = Mixtures(*(parameter[active] for parameter in mixtures))
        responsibility, likelihood = _expectation(values, fitted)
        better = _from_responsibilities(values, responsibility)
        for parameter, new in zip(mixtures, better, strict=True):
            parameter[active] = new
        going = (likelihood - last).abs() >= TOLERANCE
        if not going.all():
            active, values, likelihood = active[going], values[going], likelihood[going]
        if not len(active):
            break
        last = likelihood
    return mixtures


def _first_cluster(values: Tensor) -> Tensor:
    """1 for the lower cluster of the split with the least squares, 0 for the upper; of sorted rows.

    In one dimension the best two clusters are separated by a threshold, so trying all is exact.
    """
    n_images = values.shape[1]
    position = torch.arange(1, n_images, dtype=values.dtype)
    below = values.cumsum(1)
    total, below = below[:, -1:], below[:, :-1]
    # Least squares within clusters is most squares between them.
    between = below**2 / position + (total - below) ** 2 / (n_images - position)
    # Equal values belong to one cluster.
    between[values[:, 1:] == values[:, :-1]] = -math.inf
    # Of splits that are equal but for rounding the lowest, so that the order of sums has no say.
    best = between.amax(1, keepdim=True)
    size = (between >= best - 1e-9 * best.abs()).byte().argmax(1, keepdim=True) + 1
    return (torch.arange(n_images) < size).to(values.dtype)


def _expectation(values: Tensor, mixtures: Mixtures) -> tuple[Tensor, Tensor]:
    """Probability of the first component for each value, and mean log likelihood of each row."""
    constants = mixtures.weights.log() - 0.5 * (2 * math.pi * mixtures.variances).log()
    first, second = (
        constants[:, i : i + 1]
        - (values - mixtures.means[:, i : i + 1]) ** 2 / (2 * mixtures.variances[:, i : i + 1])
        for i in (0, 1)
    )
    difference = first - second
    ratio = (-difference.abs()).exp()  # of the smaller density to the larger one
    likelihood = (torch.maximum(first, second) + ratio.log1p()).mean(1)
    return torch.where(difference >= 0, 1.0, ratio) / (1 + ratio), likelihood


def _from_responsibilities(values: Tensor, first: Tensor) -> Mixtures:
    """Weighted moments of each row for the first component and for the rest."""
    # A component that has lost all values must not divide by 0.
    tiny = 10 * torch.finfo(values.dtype).eps
    moments = []
    for responsibility in (first, 1 - first):
        size = responsibility.sum(1) + tiny
        weighted = responsibility * values
        mean = weighted.sum(1) / size
        variance = torch.linalg.vecdot(weighted, values) / size - mean.square()
        moments.append((size, mean, variance.clamp_min(0) + REGULARISATION))
    size, means, variances = (torch.stack(pair, 1) for pair in zip(*moments, strict=True))
    return Mixtures(size / size.sum(1, keepdim=True), means, variances)
