"""How well every feature ranks the images of every class: areas under ROC curves."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qpm_opt.errors import InvalidFeaturesError
from qpm_opt.features import as_labelled, no_images
from qpm_opt.validation import FloatArray

_BLOCK_BYTES = 2**26  # of temporary arrays, unless a single feature needs more
_BYTES_PER_VALUE = 56  # values, their order and labels, ranks, and what makes the ranks


def auroc(features: ArrayLike, labels: ArrayLike, *, n_classes: int | None = None) -> FloatArray:
    """Area under the ROC curve of every feature as a detector of every class.

    The probability that an image of the class has a higher value than one of the other classes,
    equal values counting half. Exact: the rank sum of each class, with mean ranks for ties (Mann
    and Whitney, 1947; Hanley and McNeil, 1982), from one sort of every feature.

    Parameters
    ----------
    features : array of shape (n_images, n_features)
        Finite numbers of any real type; all images at once, because ranks cannot be accumulated
        batch by batch. Memory-mapped arrays are read in blocks of features.
    labels : array of shape (n_images,), int
        Class of every image, 0 to ``n_classes - 1``, each with at least one image.
    n_classes : int, optional
        Largest label + 1 by default.

    Returns
    -------
    ndarray of shape (n_classes, n_features)
        In [0, 1]; 0.5 for a constant feature, and everywhere if there is one class only. Besides
        the result, at most 64 MB are held, or 56 bytes an image if that is more.

    Raises
    ------
    InvalidFeaturesError
        One sentence for the first defect found.
    """
    X, y, n_classes = as_labelled(features, labels, n_classes)
    if X.dtype.kind not in "fiub":
        raise InvalidFeaturesError(f"features is {X.dtype}; real numbers were expected.")
    n_images, n_features = X.shape
    counts = np.bincount(y, minlength=n_classes)
    if not counts.all():
        raise no_images(int(counts.argmin()))
    area = np.full((n_classes, n_features), 0.5)
    if n_classes == 1:
        return area
    step = max(1, _BLOCK_BYTES // (_BYTES_PER_VALUE * n_images))
    for start in range(0, n_features, step):
        values = np.ascontiguousarray(X[:, start : start + step].T)
        if X.dtype.kind == "f" and not np.isfinite(values).all():
            d, j = np.argwhere(~np.isfinite(values))[0]
            raise InvalidFeaturesError(
                f"Feature {start + d} of image {j} is {values[d, j]}; finite numbers were expected."
            )
        order = values.argsort(axis=1)
        ranks = _mean_ranks(np.take_along_axis(values, order, axis=1))
        class_of_feature = y[order] + n_classes * np.arange(len(values))[:, np.newaxis]
        rank_sums = np.bincount(
            class_of_feature.ravel(), ranks, minlength=n_classes * len(values)
        ).reshape(-1, n_classes)
        # Halves of whole numbers below 2^53: nothing is rounded before the division.
        n_won = rank_sums - counts * (counts + 1) / 2
        area[:, start : start + step] = (n_won / (counts * (n_images - counts))).T
    return area


def _mean_ranks(ascending: NDArray[Any]) -> FloatArray:
    """Ranks from 1 on within every row, flat; equal values share the mean of theirs."""
    n_rows, n = ascending.shape
    begins = np.ones((n_rows, n), dtype=bool)
    np.not_equal(ascending[:, 1:], ascending[:, :-1], out=begins[:, 1:])
    first = np.flatnonzero(begins)
    lengths = np.diff(first, append=n_rows * n)
    return np.repeat(first % n + (lengths + 1) / 2, lengths)
