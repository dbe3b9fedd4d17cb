"""Contrastiveness: how clearly a feature has two states."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator

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


def _blocks(n_images: int, n_features: int) -> Iterator[slice]:
    if not n_images:
        raise InvalidInputError("There are no images; at least one was expected.")
    step = max(1, _BLOCK // n_images)
    return (slice(start, start + step) for start in range(0, n_features, step))


def _mean_separation(blocks: Iterable[NDArray[np.floating]]) -> float:
    """Mean over the features of 1 minus the overlap; ``blocks`` of shape (n_images, any)."""
    return float(np.mean(np.concatenate([_separation(block.T) for block in blocks])))


def _separation(values: NDArray[np.floating]) -> FloatArray:
    """1 minus the overlap of the two normals of each row."""
    values = values.astype(np.float64)
    spread = values.std(axis=1)
    varies = spread > CONSTANT * np.abs(values).max(axis=1)
    separation = np.zeros(len(values))
    if varies.any():
        # The overlap does not change with location and scale, the regularisation of the fit would.
        values, spread = values[varies], spread[varies, None]
        standard = (values - values.mean(axis=1, keepdims=True)) / spread
        mixtures = fit_two_normals(torch.from_numpy(standard))
        separation[varies] = [
            1 - statistics.NormalDist(m[0], s[0]).overlap(statistics.NormalDist(m[1], s[1]))
            for m, s in zip(
                mixtures.means.tolist(), mixtures.variances.sqrt().tolist(), strict=True
            )
        ]
    return separation
