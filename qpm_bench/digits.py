"""Real features without training: fixed filters on the handwritten digits of scikit-learn."""

from __future__ import annotations

import numpy as np

from qpm_opt import InvalidInputError, Problem
from qpm_opt.constants import FeatureStatistics, problem_from_statistics

_SIDE = 4  # of a filter; the images have 8 x 8 pixels, so a map has 5 x 5 positions
_UNIT = 64.0  # of filter responses, so that the softmax over a map is not all in one place


def digits(
    n_features: int, *, n_selected: int, n_per_class: int, seed: int = 0, name: str = ""
) -> Problem:
    """Problem of 10 classes from the 1797 images of digits that come with scikit-learn.

    A feature is the mean of a map: the image correlated with a 4 x 4 filter of whole numbers from
    -2 to 2, then ReLU. Its locality in an image is the largest value of the softmax over the map
    (QPM, eq. 8). A, R and b are computed from features and localities as from those of a network.

    Parameters
    ----------
    n_features : int
        Number of filters.
    n_selected, n_per_class : int
        p and k of the problem.
    seed : int
        Of the filters.
    name : str

    Raises
    ------
    InvalidInputError
        If scikit-learn is missing, or no problem of these sizes exists.

    References
    ----------
    Alpaydin, Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    1998; the copy of :func:`sklearn.datasets.load_digits`.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise InvalidInputError(
            "The digits come with scikit-learn, which is not installed; install an extra that has "
            "it: pip install '.[bench]' or '.[nn]'."
        ) from None
    if n_features < 1:
        raise InvalidInputError(f"n_features is {n_features}; at least 1 was expected.")
    data = load_digits()
    images = data.images.astype(np.int64)
    filters = np.random.default_rng(seed).integers(-2, 3, (n_features, _SIDE * _SIDE))
    windows = np.lib.stride_tricks.sliding_window_view(images, (_SIDE, _SIDE), axis=(1, 2))
    # Whole numbers up to here: exact on every machine.
    flat = windows.reshape(len(images), -1, _SIDE * _SIDE)
    statistics = FeatureStatistics(int(data.target.max()) + 1, n_features)
    for rows in np.array_split(np.arange(len(images)), 20):
        maps = np.maximum(flat[rows] @ filters.T, 0) / _UNIT  # (images, positions, features)
        largest = maps.max(axis=1, keepdims=True)
        locality = 1.0 / np.exp(maps - largest).sum(axis=1)
        statistics.update(maps.mean(axis=1), data.target[rows], locality)
    return problem_from_statistics(
        statistics,
        n_selected=n_selected,
        n_per_class=n_per_class,
        seed=seed,
        name=name,
        source="digits of scikit-learn, ReLU of fixed filters",
    )
