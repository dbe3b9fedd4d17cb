"""Metrics of prediction sets: how often they hold the class, how large and how coherent they are.

Sets are arrays of shape (n_images, n_classes), bool, as of :func:`qpm_nn.conformal.predict_set`.
All functions raise InvalidInputError if shapes do not fit or labels are out of range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from qpm_nn.metrics.checks import FloatArray, as_labels, as_mask, as_matrix
from qpm_nn.metrics.grounding import cosines
from qpm_opt import InvalidInputError


def set_coverage(sets: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> float:
    """Share of images whose class is in their set; NaN without images.

    Parameters
    ----------
    sets : array of shape (n_images, n_classes), bool
    labels : array of shape (n_images,)
    """
    return _mean(_is_covered(_as_sets(sets), labels))


def mean_set_size(sets: ArrayLike | Tensor) -> float:
    """Mean number of classes in a set, empty ones included; NaN without images.

    Parameters
    ----------
    sets : array of shape (n_images, n_classes), bool
    """
    return _mean(_as_sets(sets).sum(axis=1))


def empty_set_share(sets: ArrayLike | Tensor) -> float:
    """Share of images with an empty set; NaN without images.

    Parameters
    ----------
    sets : array of shape (n_images, n_classes), bool
    """
    return _mean(~_as_sets(sets).any(axis=1))


class SizeCoverage(NamedTuple):
    """Coverage of the images with sets of ``smallest`` to ``largest`` classes."""

    smallest: int
    largest: int
    n_images: int
    coverage: float


def coverage_by_size(
    sets: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    *,
    largest: Sequence[int] | None = None,
) -> list[SizeCoverage]:
    """Coverage of the images with small sets and of those with large ones.

    Sets that adapt to how hard an image is cover equally well at every size.

    Parameters
    ----------
    sets : array of shape (n_images, n_classes), bool
    labels : array of shape (n_images,)
    largest : sequence of int, optional
        Largest size of each bin, increasing; the number of classes is the last one if it is
        missing. By default every size is a bin.

    Returns
    -------
    list of SizeCoverage
        By size, without bins that have no images.

    References
    ----------
    Angelopoulos et al., Uncertainty sets for image classifiers, ICLR 2021, section 4.
    """
    members = _as_sets(sets)
    covered = _is_covered(members, labels)
    n_classes = members.shape[1]
    ends = np.arange(n_classes + 1) if largest is None else np.asarray(largest)
    if ends.ndim != 1 or (ends < 0).any() or (np.diff(ends) <= 0).any():
        raise InvalidInputError(f"largest is {largest}; increasing sizes from 0 on were expected.")
    ends = np.append(ends[ends < n_classes], n_classes).astype(np.int64)
    which = np.searchsorted(ends, members.sum(axis=1))
    n_images = np.bincount(which, minlength=len(ends))
    n_covered = np.bincount(which, weights=covered, minlength=len(ends))
    starts = np.append(0, ends[:-1] + 1)
    return [
        SizeCoverage(int(starts[i]), int(ends[i]), int(n_images[i]), n_covered[i] / n_images[i])
        for i in np.flatnonzero(n_images)
    ]


def worst_size_coverage(
    sets: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    *,
    largest: Sequence[int] | None = None,
    min_images: int = 1,
) -> float:
    """Lowest coverage of a bin of :func:`coverage_by_size`.

    Bins of fewer than ``min_images`` do not count: theirs may be low by chance. NaN if there are no
    others.
    """
    bins = coverage_by_size(sets, labels, largest=largest)
    return min((each.coverage for each in bins if each.n_images >= min_images), default=math.nan)


def coverage_by_class(sets: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> FloatArray:
    """Coverage of the images of each class.

    Parameters
    ----------
    sets : array of shape (n_images, n_classes), bool
    labels : array of shape (n_images,)

    Returns
    -------
    ndarray of shape (n_classes,)
        NaN for a class without images.
    """
    members = _as_sets(sets)
    covered, true = _is_covered(members, labels), as_labels(labels, len(members))
    n_images = np.bincount(true, minlength=members.shape[1])
    n_covered = np.bincount(true, weights=covered, minlength=members.shape[1])
    return np.divide(n_covered, n_images, out=np.full(len(n_images), np.nan), where=n_images > 0)


def worst_class_coverage(sets: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> float:
    """Lowest of :func:`coverage_by_class`; NaN without images."""
    return float(np.fmin.reduce(coverage_by_class(sets, labels)))


def class_coverage_gap(sets: ArrayLike | Tensor, labels: ArrayLike | Tensor, alpha: float) -> float:
    """Mean over the classes of the distance of their coverage from 1 - alpha; NaN without images.

    Few images of a class make a gap by chance: with 10 images and alpha = 0.1 it is 0.07 on
    average even if every image is covered with the same probability.

    References
    ----------
    CovGap of Ding et al., Class-conditional conformal prediction with many classes, NeurIPS 2023.
    """
    if not 0 < alpha < 1:
        raise InvalidInputError(f"alpha is {alpha}; a number between 0 and 1 was expected.")
    found = coverage_by_class(sets, labels)
    return _mean(np.abs(found[~np.isnan(found)] - (1 - alpha)))


def set_coherence(sets: ArrayLike | Tensor, similarity: ArrayLike | Tensor) -> float:
    """Mean similarity of the classes that are in a set together.

    Parameters
    ----------
    sets : array of shape (n_images, n_classes), bool
    similarity : array of shape (n_classes, n_classes)
        Symmetric: :func:`attribute_similarity`, :func:`hierarchy_similarity` or any other.

    Returns
    -------
    float
        Mean over the sets of at least two classes; NaN if there are none.

    References
    ----------
    CHiQPM, NeurIPS 2025. Here the pairs of each set are averaged first; the published code pools
    the pairs of all sets, where one set of 20 classes counts as much as 190 sets of two.
    """
    members = _as_sets(sets)
    size = members.sum(axis=1)
    members, size = members[size > 1].astype(np.float64), size[size > 1]
    between = as_matrix("similarity", similarity, members.shape[1])
    if len(between) != members.shape[1]:
        raise InvalidInputError(
            f"similarity has {len(between)} rows; {members.shape[1]}, one for each class, were "
            "expected."
        )
    total = ((members @ between) * members).sum(axis=1) - members @ between.diagonal()
    return _mean(total / (size * (size - 1)))


def attribute_similarity(attributes: ArrayLike | Tensor) -> FloatArray:
    """Cosines of the classes' attributes, (n_classes, n_classes).

    Parameters
    ----------
    attributes : array of shape (n_classes, n_attributes)
        How much each attribute belongs to each class. A class without any is similar to none.
    """
    return cosines(as_matrix("attributes", attributes))


def hierarchy_similarity(hierarchy: Sequence[Sequence[str]]) -> FloatArray:
    """Share of the levels that two classes have in common, counted from the root.

    Parameters
    ----------
    hierarchy : sequence of sequences of str
        Names of the parents of each class, the nearest first. One class may have more than another;
        the share is of the longer list.

    Returns
    -------
    ndarray of shape (n_classes, n_classes)
        1 for classes with the same parents, 0 for those with none in common.
    """
    depth = np.array([len(parents) for parents in hierarchy])
    if not depth.size or not depth.max():
        raise InvalidInputError("hierarchy has no parents; at least one of a class was expected.")
    same = np.ones((len(depth), len(depth)), dtype=bool)
    common = np.zeros(same.shape)
    for level in range(1, int(depth.max()) + 1):
        # Names count from the root on: a name may occur in more than one branch.
        _, code = np.unique(
            [parents[-level] if len(parents) >= level else "" for parents in hierarchy],
            return_inverse=True,
        )
        has = depth >= level
        same &= (code[:, None] == code) & has[:, None] & has
        common += same
    longer = np.maximum(depth[:, None], depth)
    return np.divide(common, longer, out=np.zeros_like(common), where=longer > 0)


def _as_sets(sets: ArrayLike | Tensor) -> NDArray[np.bool_]:
    shape = np.shape(sets)
    if len(shape) != 2 or not shape[1]:
        raise InvalidInputError(
            f"sets has shape {tuple(shape)}; (n_images, n_classes) with at least one class was "
            "expected."
        )
    return as_mask("sets", sets, tuple(shape))


def _is_covered(members: NDArray[np.bool_], labels: ArrayLike | Tensor) -> NDArray[np.bool_]:
    true = as_labels(labels, *members.shape)
    return members[np.arange(len(members)), true]


def _mean(values: NDArray[np.generic]) -> float:
    return float(values.mean()) if len(values) else math.nan
