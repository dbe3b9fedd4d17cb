"""Pooled features and labels: read, checked, and condensed in one pass over the images."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from qpm_opt.errors import InvalidFeaturesError
from qpm_opt.files import FEATURES, read_arrays
from qpm_opt.validation import LARGEST, BoolArray, FloatArray, IntArray

_BATCH_BYTES = 2**25  # float64 bytes of features converted at once


class LabelledFeatures(NamedTuple):
    """Content of a features file.

    ``features`` (n_images, n_features) as stored, ``labels`` (n_images,), and ``locality``
    (n_features,) or None.
    """

    features: NDArray[Any]
    labels: NDArray[Any]
    locality: NDArray[Any] | None


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
        self._activation = np.zeros(n_features)
        self._local_activation: FloatArray | None = None

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return int(self._class_sums.shape[0])

    @property
    def n_features(self) -> int:
        """Number of features."""
        return int(self._class_sums.shape[1])

    def update(
        self, features: ArrayLike, labels: ArrayLike, locality: ArrayLike | None = None
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

        Raises
        ------
        InvalidFeaturesError
            One sentence for the first defect found; the statistics are then unchanged.
        """
        X = _as_batch(features, self.n_features, self.n_images)
        y = _as_labels(labels, len(X), self.n_classes)
        if len(X) == 0:
            return
        self._check_locality_use(locality is not None)
        if locality is not None:
            local = np.einsum("jd,jd->d", X, _as_locality(locality, X))
            self._merge_locality(local, X.sum(axis=0))
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
            If the numbers of classes or features differ, or only one of the two has localities.
        """
        if self._class_sums.shape != other._class_sums.shape:
            raise InvalidFeaturesError(
                f"Statistics of {other.n_classes} classes and {other.n_features} features cannot "
                f"be merged into those of {self.n_classes} and {self.n_features}."
            )
        if other.n_images == 0:
            return
        self._check_locality_use(other._local_activation is not None)
        if other._local_activation is not None:
            self._merge_locality(other._local_activation, other._activation)
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

    def _merge_locality(self, local_activation: FloatArray, activation: FloatArray) -> None:
        if self._local_activation is None:
            self._local_activation = np.zeros(self.n_features)
        self._local_activation += local_activation
        self._activation += activation

    def _check_locality_use(self, given: bool) -> None:
        if self.n_images and given != (self._local_activation is not None):
            raise InvalidFeaturesError(
                "Some images come with locality and some without; give it for all or for none."
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
            raise _no_images(int(empty[0]))
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
        if self._local_activation is None:
            return None
        mean = np.full(self.n_features, np.nan)
        active = self._activation > 0.0
        np.divide(self._local_activation, self._activation, out=mean, where=active)
        return mean


def load_features(path: str | os.PathLike[str]) -> LabelledFeatures:
    """Features, labels and optional locality of a features file, as stored (nothing is copied).

    Raises
    ------
    InvalidFeaturesError
        If the file is missing, is no ``.npz``, or lacks features or labels that fit each other.
    """
    arrays = read_arrays(path, FEATURES)
    features, labels, locality = arrays["features"], arrays["labels"], arrays.get("locality")
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise InvalidFeaturesError(
            f"{path}: features of shape {features.shape} and labels of shape {labels.shape} do "
            "not fit; (n_images, n_features) and (n_images,) were expected."
        )
    if locality is not None and locality.shape != features.shape[1:]:
        raise InvalidFeaturesError(
            f"{path}: locality has shape {locality.shape}; {features.shape[1:]} was expected."
        )
    return LabelledFeatures(features, labels, locality)


def statistics_from_features(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    locality: ArrayLike | None = None,
    n_classes: int | None = None,
) -> FeatureStatistics:
    """Statistics of features held in memory (or memory-mapped), taken batch by batch.

    The arguments are those of :func:`problem_from_features`; ``locality`` is per image.

    Raises
    ------
    InvalidFeaturesError
        One sentence for the first defect found.
    """
    X = np.asarray(features)
    if X.ndim != 2:
        raise InvalidFeaturesError(
            f"features has shape {X.shape}; (n_images, n_features) was expected."
        )
    y = _as_labels(labels, len(X), n_classes)
    if len(X) < 2:
        raise InvalidFeaturesError(f"There are {len(X)} images; at least two are needed.")
    if n_classes is None:
        present = np.unique(y)
        n_classes = int(present[-1]) + 1
        if len(present) < n_classes:
            raise _no_images(int(np.flatnonzero(present != np.arange(len(present)))[0]))
    maxima = None if locality is None else np.asarray(locality)
    if maxima is not None and maxima.shape != X.shape:
        raise InvalidFeaturesError(
            f"locality has shape {maxima.shape}; (n_features,) or {X.shape} was expected."
        )
    statistics = FeatureStatistics(n_classes, X.shape[1])
    step = max(1, _BATCH_BYTES // (8 * X.shape[1]))
    for start in range(0, len(X), step):
        rows = slice(start, start + step)
        statistics.update(X[rows], y[rows], None if maxima is None else maxima[rows])
    return statistics


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


def _as_labels(labels: ArrayLike, n_images: int, n_classes: int | None) -> IntArray:
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


def _as_locality(locality: ArrayLike, X: FloatArray) -> FloatArray:
    maxima = np.asarray(locality)
    if maxima.shape != X.shape:
        raise InvalidFeaturesError(f"locality has shape {maxima.shape}; {X.shape} was expected.")
    if not (maxima.min() >= 0.0 and maxima.max() <= 1.0):
        raise InvalidFeaturesError(
            "locality holds values outside [0, 1]; the maximum of a softmax was expected."
        )
    if X.min() < 0.0:
        raise InvalidFeaturesError(
            f"features holds {X.min()}, but locality is weighted by activations >= 0; apply a ReLU "
            "or leave locality out."
        )
    return maxima.astype(np.float64)


def _no_images(c: int) -> InvalidFeaturesError:
    return InvalidFeaturesError(
        f"Class {c} has no images; every class needs one, so number the classes that have images "
        "from 0 on without gaps."
    )
