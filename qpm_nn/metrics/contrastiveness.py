"""Contrastiveness: how clearly a feature has two states."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from qpm_nn.metrics.checks import FloatArray, as_matrix
from qpm_nn.metrics.mixture import fit_two_normals
from qpm_opt import InvalidInputError

#: Relative spread below which a feature counts as constant.
CONSTANT = 1e-7

#: Values that are fitted at once; few enough for the cache of a processor.
_BLOCK = 2**17


class TwoModes(NamedTuple):
    """Two normals fitted to each feature, in its own units; NaN for a constant feature.

    ``weights``, ``means`` and ``stds`` (n_features, 2); ``separation`` (n_features,), 1 minus the
    overlap of the two, 0 for a constant feature.
    """

    weights: FloatArray
    means: FloatArray
    stds: FloatArray
    separation: FloatArray


class Contrastiveness:
    """Contrastiveness of images that come in batches.

    The fit needs every value several times, so all are kept, as float32: 4 bytes for each image
    and feature (49 MB for CUB-2011 and 2048 features, 260 MB for ImageNet-1K and 50). The fit takes
    a few MB more.

    Parameters
    ----------
    n_features : int
    """

    def __init__(self, n_features: int) -> None:
        self._n_features = n_features
        self._batches: list[NDArray[np.float32]] = []

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
        self._batches.append(as_matrix("features", features, self._n_features).astype(np.float32))

    def compute(self) -> float:
        """See :func:`contrastiveness`."""
        n_images = sum(map(len, self._batches))
        blocks = (
            np.concatenate([batch[:, columns] for batch in self._batches])
            for columns in _blocks(n_images, self._n_features)
        )
        return _mean_separation(blocks)


def contrastiveness(features: ArrayLike | Tensor) -> float:
    """How far each feature splits into 'off' and 'on': 1 minus the overlap of two normals.

    The two components of a Gaussian mixture are fitted to each feature; their mixture weights do
    not enter. A feature with fewer than two distinct values, which nothing can split, counts as 0.
    The paper reports the mean over the features, for the training images.

    Features that are exactly 0 for some share of the images come near 1, whatever the others do:
    one component takes the zeros.

    Parameters
    ----------
    features : array of shape (n_images, n_features)

    Raises
    ------
    InvalidInputError
        If a value is NaN or infinite, or there are no images.

    References
    ----------
    QPM paper, eq. 13, as the mean over the features; overlap after Inman and Bradley (1989). The
    mixture is that of scikit-learn's GaussianMixture for standardised values, see
    :func:`~qpm_nn.metrics.mixture.fit_two_normals`.
    """
    matrix = as_matrix("features", features)
    return _mean_separation(matrix[:, columns] for columns in _blocks(*matrix.shape))


def two_modes(features: ArrayLike | Tensor) -> TwoModes:
    """The mixture of two normals behind :func:`contrastiveness`, of each feature.

    Parameters
    ----------
    features : array of shape (n_images, n_features)

    Raises
    ------
    InvalidInputError
        If a value is NaN or infinite, or there are no images.
    """
    matrix = as_matrix("features", features)
    parts = [_modes(matrix[:, columns].T) for columns in _blocks(*matrix.shape)]
    return TwoModes(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _blocks(n_images: int, n_features: int) -> Iterator[slice]:
    if not n_images:
        raise InvalidInputError("There are no images; at least one was expected.")
    step = max(1, _BLOCK // n_images)
    return (slice(start, start + step) for start in range(0, n_features, step))


def _mean_separation(blocks: Iterable[NDArray[np.floating]]) -> float:
    """Mean over the features of 1 minus the overlap; ``blocks`` of shape (n_images, any)."""
    return float(np.mean(np.concatenate([_modes(block.T).separation for block in blocks])))


def _modes(values: NDArray[np.floating]) -> TwoModes:
    """Of each row."""
    values = values.astype(np.float64)
    centre, spread = values.mean(axis=1, keepdims=True), values.std(axis=1, keepdims=True)
    varies = spread[:, 0] > CONSTANT * np.abs(values).max(axis=1)
    weights, means, stds = (np.full((len(values), 2), np.nan) for _ in range(3))
    separation = np.zeros(len(values))
    if varies.any():
        # The overlap does not change with location and scale, the regularisation of the fit would.
        standard = (values[varies] - centre[varies]) / spread[varies]
        mixtures = fit_two_normals(torch.from_numpy(standard))
        fitted, wide = mixtures.means.numpy(), mixtures.variances.sqrt().numpy()
        weights[varies] = mixtures.weights.numpy()
        means[varies] = centre[varies] + spread[varies] * fitted
        stds[varies] = spread[varies] * wide
        separation[varies] = [
            1 - statistics.NormalDist(m[0], s[0]).overlap(statistics.NormalDist(m[1], s[1]))
            for m, s in zip(fitted.tolist(), wide.tolist(), strict=True)
        ]
    return TwoModes(weights, means, stds, separation)
