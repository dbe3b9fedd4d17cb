"""Pooled features and labels: read, checked, and condensed in one pass over the images."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from qpm_opt.errors import InvalidFeaturesError
from qpm_opt.files import FEATURES, read_arrays
from qpm_opt.validation import LARGEST, BoolArray, FloatArray, IntArray

_BATCH_BYTES = 2**25  # float64 bytes of features converted at once

#: What may be known of every feature map: its range, and what it is.
_RANGES = {
    "locality": (0.0, 1.0, "the maximum of a softmax"),
    "centre": (-1.0, 0.0, "-1 / (1 + distance of the maximum from the closest edge)"),
}


class LabelledFeatures(NamedTuple):
    """Content of a features file.

    ``features`` (n_images, n_features) as stored, ``labels`` (n_images,), and of every feature
    ``locality`` and ``centre``, each (n_features,) or None.
    """

    features: NDArray[Any]
    labels: NDArray[Any]
    locality: NDArray[Any] | None
    centre: NDArray[Any] | None


class FeatureStatistics:
    """One-pass statistics of pooled features; batches in any order, workers can be merged.

    Parameters
    ----------
    n_classes, n_features : int
        Labels are 0 to ``n_classes - 1``.

    Notes
    -----
    The correlation of a feature with the 0/1 indicator of a class needs only the class sums and
    counts and the feature's mean and variance. All are kept in float64, relative to the first
    image's features, so that a large common offset costs no digits (and a constant feature has
    exactly zero variance); mean and variance are merged by the pairwise update of Chan, Golub and
    LeVeque (1983).
    """

    def __init__(self, n_classes: int, n_features: int) -> None:
        if n_classes < 1 or n_features < 1:
            raise InvalidFeaturesError(
                f"There are {n_classes} classes and {n_features} features; at least one of each "
                "is needed."
            )
        self.n_images = 0
        self.class_counts: IntArray = np.zeros(n_classes, dtype=np.intp)
        self._origin = np.zeros(n_features)
        self._mean = np.zeros(n_features)
        self._squares = np.zeros(n_features)  # sum of squared deviations from the mean
        self._class_sums = np.zeros((n_classes, n_features))
        self._minimum = np.full(n_features, np.inf)
        self._activation = np.zeros(n_features)  # sum of the images that came with the following
        self._weighted: dict[str, FloatArray] = {}  # sums of locality or centre, times the feature

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return int(self._class_sums.shape[0])

    @property
    def n_features(self) -> int:
        """Number of features."""
        return int(self._class_sums.shape[1])

    def update(
        self,
        features: ArrayLike,
        labels: ArrayLike,
        locality: ArrayLike | None = None,
        centre: ArrayLike | None = None,
    ) -> None:
        """Add a batch of images.

        Parameters
        ----------
        features : array of shape (n_images, n_features)
            Pooled features, any real type.
        labels : array of shape (n_images,), int
            Class of every image, 0 to ``n_classes - 1``.
        locality : array of shape (n_images, n_features), optional
            Maximum of the spatial softmax of every feature map, in [0, 1]. Given for all batches
            or for none; the features must then be non-negative (eq. 8 weights by activation).
        centre : array of shape (n_images, n_features), optional
            ``-1 / (1 + d)``, in [-1, 0], where d is the number of pixels between the maximum of
            the feature map and the closest edge (eq. 27). Likewise for all batches or for none.

        Raises
        ------
        InvalidFeaturesError
            One sentence for the first defect found; the statistics are then unchanged.
        """
        X = _as_batch(features, self.n_features, self.n_images)
        y = as_labels(labels, len(X), self.n_classes)
        if len(X) == 0:
            return
        given = {"locality": locality, "centre": centre}
        of_maps = {name: values for name, values in given.items() if values is not None}
        self._check_use(of_maps)
        weighted = {
            name: np.einsum("jd,jd->d", X, _as_map_values(name, values, X))
            for name, values in of_maps.items()
        }
        if weighted:
            self._merge_weighted(weighted, X.sum(axis=0))
        np.minimum(self._minimum, X.min(axis=0), out=self._minimum)
        if self.n_images == 0:
            self._origin = X[0].copy()
        X -= self._origin
        mean = X.mean(axis=0)
        indicator = csr_array((np.ones(len(X)), (y, np.arange(len(X)))), (self.n_classes, len(X)))
        self._class_sums += np.asarray(indicator @ X)
        X -= mean
        self._merge_moments(len(X), mean, np.einsum("jd,jd->d", X, X))
        self.class_counts += np.bincount(y, minlength=self.n_classes)

    def merge(self, other: FeatureStatistics) -> None:
        """Add the images that another accumulator has seen.

        Raises
        ------
        InvalidFeaturesError
            If the numbers of classes or features differ, or only one of the two has localities
            or centres.
        """
        if self._class_sums.shape != other._class_sums.shape:
            raise InvalidFeaturesError(
                f"Statistics of {other.n_classes} classes and {other.n_features} features cannot "
                f"be merged into those of {self.n_classes} and {self.n_features}."
            )
        if other.n_images == 0:
            return
        self._check_use(other._weighted)
        if other._weighted:
            self._merge_weighted(other._weighted, other._activation)
        np.minimum(self._minimum, other._minimum, out=self._minimum)
        if self.n_images == 0:
            self._origin = other._origin.copy()
        shift = other._origin - self._origin
        self._class_sums += other._class_sums + np.outer(other.class_counts, shift)
        self._merge_moments(other.n_images, other._mean + shift, other._squares)
        self.class_counts += other.class_counts

    def _merge_moments(self, n: int, mean: FloatArray, squares: FloatArray) -> None:
        """Chan, Golub and LeVeque's update, for ``n`` images of that mean and sum of squares."""
        total = self.n_images + n
        difference = mean - self._mean
        self._squares += squares + difference**2 * (self.n_images * n / total)
        self._mean += difference * (n / total)
        self.n_images = total

    def _merge_weighted(self, sums: Mapping[str, FloatArray], activation: FloatArray) -> None:
        for name, values in sums.items():
            self._weighted[name] = self._weighted.get(name, 0.0) + values
        self._activation += activation

    def _check_use(self, given: Collection[str]) -> None:
        for name in _RANGES:
            if self.n_images and (name in given) != (name in self._weighted):
                raise InvalidFeaturesError(
                    f"Some images come with {name} and some without; give it for all or for none."
                )

    @property
    def mean(self) -> FloatArray:
        """Mean of every feature, shape (n_features,)."""
        return self._origin + self._mean

    @property
    def std(self) -> FloatArray:
        """Population standard deviation of every feature, shape (n_features,)."""
        return np.asarray(np.sqrt(self._squares / max(self.n_images, 1)))

    @property
    def varies(self) -> BoolArray:
        """Features that are not constant over the images, bool of shape (n_features,).

        What differs from the mean by the rounding of float64 only is constant.
        """
        rounding = 8.0 * float(np.finfo(float).eps) * np.abs(self.mean)
        return np.asarray(self.std > rounding)

    @property
    def class_similarity(self) -> FloatArray:
        """Pearson correlation of class indicators and features, shape (n_classes, n_features).

        In [-1, 1] (section 3.2). Correlations with a constant are 0: those of a constant feature,
        and all of them if there is one class only.

        Raises
        ------
        InvalidFeaturesError
            If there are fewer than two images or a class without any.
        """
        if self.n_images < 2:
            raise InvalidFeaturesError(
                f"There are {self.n_images} images; a correlation needs at least two."
            )
        empty = np.flatnonzero(self.class_counts == 0)
        if empty.size:
            raise no_images(int(empty[0]))
        counts = self.class_counts[:, np.newaxis]
        covariance = self._class_sums - counts * self._mean
        # Square roots before the product: neither factor can then over- or underflow.
        indicator_norm = np.sqrt(counts * (1.0 - counts / self.n_images))
        norm = indicator_norm * np.sqrt(self._squares)
        correlation = np.divide(covariance, norm, out=np.zeros_like(norm), where=norm > 0.0)
        return np.asarray(np.clip(correlation, -1.0, 1.0))

    @property
    def locality(self) -> FloatArray | None:
        """Activation-weighted mean locality, shape (n_features,); None if none was given.

        ``sum_j max(S_jd) f_jd / sum_j f_jd``, eq. 8 without its constant factor 1/n_T; in [0, 1],
        NaN where a feature is never active.
        """
        return self._weighted_mean("locality")

    @property
    def centre(self) -> FloatArray | None:
        """Activation-weighted mean of ``centre``, shape (n_features,); None if none was given.

        Eq. 26 without its constant factor 1/n_T; in [-1, 0], higher for features that are active
        far from the edges, NaN where a feature is never active.
        """
        return self._weighted_mean("centre")

    def _weighted_mean(self, name: str) -> FloatArray | None:
        if name not in self._weighted:
            return None
        mean = np.full(self.n_features, np.nan)
        np.divide(self._weighted[name], self._activation, out=mean, where=self._activation > 0.0)
        return mean

    @property
    def class_independence(self) -> FloatArray:
        """Class-Independence of every feature, shape (n_features,); NaN for constant ones.

        One less the share of the class that has most of the activation, which is counted from the
        feature's minimum over all images: the summands of eq. 14. In [0, 1).
        """
        independence = np.full(self.n_features, np.nan)
        varies = self.varies
        low = (self._minimum - self._origin)[varies]
        above = self._class_sums[:, varies] - self.class_counts[:, np.newaxis] * low
        independence[varies] = 1.0 - np.clip(above.max(axis=0) / above.sum(axis=0), 0.0, 1.0)
        return independence


def load_features(path: str | os.PathLike[str]) -> LabelledFeatures:
    """Content of a features file, as stored (nothing is copied).

    Raises
    ------
    InvalidFeaturesError
        If the file is missing, is no ``.npz``, or lacks features or labels that fit each other.
    """
    arrays = read_arrays(path, FEATURES)
    features, labels = arrays["features"], arrays["labels"]
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise InvalidFeaturesError(
            f"{path}: features of shape {features.shape} and labels of shape {labels.shape} do "
            "not fit; (n_images, n_features) and (n_images,) were expected."
        )
    of_features = {name: arrays.get(name) for name in _RANGES}
    for name, values in of_features.items():
        if values is not None and values.shape != features.shape[1:]:
            raise InvalidFeaturesError(
                f"{path}: {name} has shape {values.shape}; {features.shape[1:]} was expected."
            )
    return LabelledFeatures(features, labels, **of_features)


def statistics_from_features(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    locality: ArrayLike | None = None,
    centre: ArrayLike | None = None,
    n_classes: int | None = None,
) -> FeatureStatistics:
    """Statistics of features held in memory (or memory-mapped), taken batch by batch.

    The arguments are those of :func:`problem_from_features`; ``locality`` and ``centre`` are per
    image.

    Raises
    ------
    InvalidFeaturesError
        One sentence for the first defect found.
    """
    X, y, n_classes = as_labelled(features, labels, n_classes)
    of_maps: dict[str, NDArray[Any]] = {}
    for name, given in (("locality", locality), ("centre", centre)):
        if given is not None:
            of_maps[name] = np.asarray(given)
            if of_maps[name].shape != X.shape:
                raise InvalidFeaturesError(
                    f"{name} has shape {of_maps[name].shape}; (n_features,) or {X.shape} was "
                    "expected."
                )
    statistics = FeatureStatistics(n_classes, X.shape[1])
    step = max(1, _BATCH_BYTES // (8 * X.shape[1]))
    for start in range(0, len(X), step):
        rows = slice(start, start + step)
        batch = {name: values[rows] for name, values in of_maps.items()}
        statistics.update(X[rows], y[rows], **batch)
    return statistics


def as_labelled(
    features: ArrayLike, labels: ArrayLike, n_classes: int | None
) -> tuple[NDArray[Any], IntArray, int]:
    """Features as they are, labels, and the number of classes (largest label + 1 by default).

    Raises
    ------
    InvalidFeaturesError
        If shapes or labels do not fit, there are fewer than two images, or, where the number of
        classes was not given, some class has none.
    """
    X = np.asarray(features)
    if X.ndim != 2:
        raise InvalidFeaturesError(
            f"features has shape {X.shape}; (n_images, n_features) was expected."
        )
    y = as_labels(labels, len(X), n_classes)
    if len(X) < 2:
        raise InvalidFeaturesError(f"There are {len(X)} images; at least two are needed.")
    if n_classes is None:
        present = np.unique(y)
        n_classes = int(present[-1]) + 1
        if len(present) < n_classes:
            raise no_images(int(np.flatnonzero(present != np.arange(len(present)))[0]))
    return X, y, n_classes


def _as_batch(features: ArrayLike, n_features: int, n_before: int) -> FloatArray:
    """The batch as float64, always a copy that may be changed."""
    X = np.asarray(features)
    if X.ndim != 2 or X.shape[1] != n_features:
        raise InvalidFeaturesError(
            f"features has shape {X.shape}; (n_images, {n_features}) was expected."
        )
    if X.dtype.kind not in "fiub":
        raise InvalidFeaturesError(f"features is {X.dtype}; real numbers were expected.")
    X = X.astype(np.float64)
    # A NaN spoils both comparisons, so this finds it without a temporary array.
    if X.size and not (X.min() > -LARGEST and X.max() < LARGEST):
        j, d = np.argwhere(~(np.abs(X) < LARGEST))[0]
        raise InvalidFeaturesError(
            f"Feature {d} of image {n_before + j} is {X[j, d]}; finite numbers below {LARGEST:g} "
            "were expected."
        )
    return X


def as_labels(labels: ArrayLike, n_images: int, n_classes: int | None) -> IntArray:
    """Labels as indices (any, if the number of classes is not given), or an error."""
    y = np.asarray(labels)
    if y.shape != (n_images,):
        raise InvalidFeaturesError(
            f"labels has shape {y.shape}, but there are {n_images} images; ({n_images},) was "
            "expected."
        )
    if y.size and y.dtype.kind not in "iu":
        raise InvalidFeaturesError(
            f"labels is {y.dtype}; whole numbers were expected, convert them with astype(int)."
        )
    y = y.astype(np.intp)
    if y.size and (y.min() < 0 or (n_classes is not None and y.max() >= n_classes)):
        wrong = y.min() if y.min() < 0 else y.max()
        bound = "onwards" if n_classes is None else f"to {n_classes - 1}"
        raise InvalidFeaturesError(f"labels holds {wrong}; classes 0 {bound} were expected.")
    return y


def _as_map_values(name: str, values: ArrayLike, X: FloatArray) -> FloatArray:
    """Locality or centre of every image and feature as float64."""
    array = np.asarray(values)
    if array.shape != X.shape:
        raise InvalidFeaturesError(f"{name} has shape {array.shape}; {X.shape} was expected.")
    low, high, meaning = _RANGES[name]
    if not (array.min() >= low and array.max() <= high):
        raise InvalidFeaturesError(
            f"{name} holds values outside [{low:g}, {high:g}]; {meaning} was expected."
        )
    if X.min() < 0.0:
        raise InvalidFeaturesError(
            f"features holds {X.min()}, but {name} is weighted by activations >= 0; apply a ReLU "
            f"or leave {name} out."
        )
    return array.astype(np.float64)


def no_images(c: int) -> InvalidFeaturesError:
    """Error for a class without images."""
    return InvalidFeaturesError(
        f"Class {c} has no images; every class needs one, so number the classes that have images "
        "from 0 on without gaps."
    )
