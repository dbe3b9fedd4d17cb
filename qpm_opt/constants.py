"""From features and labels to the constants A, R and b, and to the problem they define.

:class:`~qpm_opt.features.FeatureStatistics` condenses the images in one pass;
:func:`compute_constants` turns it into scaled constants, :func:`problem_from_statistics` and
:func:`problem_from_features` into a problem.

References
----------
Norrenbrock et al., QPM: Discrete Optimization for Globally Interpretable Image Classification,
ICLR 2025: sections 3.2 to 3.4 (constants), 4.1.1 and appendix C (scaling).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from qpm_opt.epsilon import tune_epsilon
from qpm_opt.errors import InvalidFeaturesError, InvalidInputError
from qpm_opt.features import FeatureStatistics, load_features, statistics_from_features
from qpm_opt.problem import Problem
from qpm_opt.validation import BoolArray, FloatArray, IntArray

__all__ = [
    "BIAS_SCALE",
    "Constants",
    "FeatureStatistics",
    "SimilarityScaling",
    "compute_constants",
    "feature_bias",
    "feature_similarity",
    "load_features",
    "problem_from_features",
    "problem_from_statistics",
    "statistics_from_features",
]

BIAS_SCALE = 10**-0.5
"""lambda, the largest absolute feature bias (section 4.1.1)."""

SimilarityScaling = Literal["unit", "paper", "code"]

_OUTLIER_PERCENTILES = (2, 98)


@dataclass(frozen=True, eq=False)
class Constants:
    """The constants of a problem at their final scale.

    Parameters
    ----------
    class_similarity : ndarray of shape (n_classes, n_features)
        A, correlations scaled to ``max|A| = 1000 / (n_per_class * n_classes)``.
    feature_similarity : ndarray of shape (n_features, n_features)
        R, entries below epsilon set to 0, the others scaled to a maximum of 1.
    feature_bias : ndarray of shape (n_features,)
        b, zeros if no locality is known.
    candidate : ndarray of shape (n_features,), bool
        Features that vary; a constant one can never be selected.
    epsilon : float
        Threshold that was applied to R; inf if no pair is penalised.
    clique : ndarray of shape (n_selected,) or None
        Features that are pairwise below epsilon (a first warm start); None if epsilon was given.
    """

    class_similarity: FloatArray
    feature_similarity: FloatArray
    feature_bias: FloatArray
    candidate: BoolArray
    epsilon: float
    clique: IntArray | None


def feature_similarity(class_similarity: FloatArray) -> FloatArray:
    """ReLU of the cosine similarity of A's columns, zero diagonal (section 3.3).

    Returns an exactly symmetric array of shape (n_features, n_features) in [0, 1]; a feature whose
    column is zero is similar to none.
    """
    norm = np.linalg.norm(class_similarity, axis=0)
    unit = np.divide(class_similarity, norm, out=np.zeros_like(class_similarity), where=norm > 0.0)
    upper: FloatArray = np.triu(np.clip(unit.T @ unit, 0.0, 1.0), 1)
    return np.add(upper, upper.T)


def feature_bias(locality: ArrayLike, scale: float = BIAS_SCALE) -> FloatArray:
    """b from localities: outliers clipped, centred, largest absolute value ``scale``.

    Values are clipped to their 2nd and 98th percentiles (winsorised; Tukey, The Future of Data
    Analysis, 1962). The paper only says "clipped outliers" (section 4.1.1), and this rule needs no
    parameter tied to the shape of the distribution.

    Parameters
    ----------
    locality : array of shape (n_features,)
        NaN where nothing is known: such a feature is neutral, its bias is 0.
    scale : float
        lambda, >= 0.

    Returns
    -------
    ndarray of shape (n_features,)
        Zeros if all known localities are equal.
    """
    values = np.asarray(locality, dtype=np.float64)
    bias = np.zeros_like(values)
    known = ~np.isnan(values)
    if not known.any():
        return bias
    clipped = np.clip(values[known], *np.percentile(values[known], _OUTLIER_PERCENTILES))
    # Differences at the level of rounding are none, and must not be blown up to ``scale``.
    if np.ptp(clipped) > 1e-12 * np.abs(clipped).max():
        centred = clipped - clipped.mean()
        bias[known] = scale * (centred / np.abs(centred).max())
    return bias


def compute_constants(
    statistics: FeatureStatistics,
    *,
    n_selected: int,
    n_per_class: int,
    locality: ArrayLike | None = None,
    epsilon: float | Literal["auto"] = "auto",
    bias_scale: float = BIAS_SCALE,
    similarity_scaling: SimilarityScaling = "unit",
    seed: int = 0,
) -> Constants:
    """Constants of the problem at their final scale.

    Parameters
    ----------
    statistics : FeatureStatistics
        Of all training images.
    n_selected, n_per_class : int
        p and k; k scales A, p decides epsilon.
    locality : array of shape (n_features,), optional
        Locality per feature (NaN: unknown); by default that of the statistics. Without any, b = 0.
    epsilon : float or "auto"
        Pairs less similar than this are not penalised. "auto" takes the smallest value for which
        a selection without penalty is found (:func:`qpm_opt.epsilon.tune_epsilon`); 0 keeps all.
    bias_scale : float
        lambda, the largest absolute bias; 0 switches b off.
    similarity_scaling : {"unit", "paper", "code"}
        How R is scaled after the threshold. "unit": maximum 1, each pair counts once. The others
        reproduce published results: "paper" is the literal ``-s'Rs`` of eq. 5, in which each pair
        counts twice; "code" is the authors' program, which subtracts the smallest non-zero
        similarity before scaling to a maximum of 1.
    seed : int
        Seed of the search for epsilon.

    Raises
    ------
    InvalidFeaturesError
        If the features allow no problem: fewer than two images, a class without images, too few
        features that vary.
    InvalidInputError
        If an option is unusable.
    """
    A = statistics.class_similarity
    n_classes, n_features = A.shape
    candidate = statistics.varies
    if n_per_class < 1:
        raise InvalidInputError(f"n_per_class is {n_per_class}; at least 1 was expected.")
    if not 1 <= n_selected <= candidate.sum():
        raise InvalidFeaturesError(
            f"n_selected is {n_selected}, but {candidate.sum()} of the {n_features} features vary "
            "over the images; give a number from 1 to that."
        )
    if not (np.isfinite(bias_scale) and bias_scale >= 0.0):
        raise InvalidInputError(f"bias_scale is {bias_scale}; a number >= 0 was expected.")
    R = feature_similarity(A)
    clique: IntArray | None
    if epsilon == "auto":
        tuning = tune_epsilon(R, n_selected, candidate=candidate, seed=seed)
        threshold, clique = tuning.epsilon, tuning.clique
    elif isinstance(epsilon, str) or np.isnan(epsilon):
        raise InvalidInputError(f'epsilon is {epsilon!r}; a number or "auto" was expected.')
    else:
        threshold, clique = float(epsilon), None
    values = statistics.locality if locality is None else _as_feature_locality(locality, n_features)
    if values is None:
        b = np.zeros(n_features)
    else:
        b = feature_bias(np.where(candidate, values, np.nan), bias_scale)
    largest = np.abs(A).max()
    if largest > 0.0:
        A = A * (1000.0 / (n_per_class * n_classes) / largest)  # eq. 17
    return Constants(
        class_similarity=A,
        feature_similarity=_threshold_and_scale(R, threshold, similarity_scaling),
        feature_bias=b,
        candidate=candidate,
        epsilon=threshold,
        clique=clique,
    )


def problem_from_statistics(
    statistics: FeatureStatistics,
    *,
    n_selected: int,
    n_per_class: int,
    locality: ArrayLike | None = None,
    epsilon: float | Literal["auto"] = "auto",
    bias_scale: float = BIAS_SCALE,
    similarity_scaling: SimilarityScaling = "unit",
    seed: int = 0,
    **problem_options: Any,
) -> Problem:
    """Problem from accumulated statistics.

    The arguments are those of :func:`compute_constants`; ``problem_options`` (``distinct``,
    ``name``, ``min_classes_per_feature``, ...) are those of :class:`~qpm_opt.Problem`.

    Raises
    ------
    InvalidFeaturesError, InvalidProblemError, InvalidInputError
        If no problem can be built.
    """
    constants = compute_constants(
        statistics,
        n_selected=n_selected,
        n_per_class=n_per_class,
        locality=locality,
        epsilon=epsilon,
        bias_scale=bias_scale,
        similarity_scaling=similarity_scaling,
        seed=seed,
    )
    return Problem(
        constants.class_similarity,
        constants.feature_similarity,
        constants.feature_bias,
        n_selected=n_selected,
        n_per_class=n_per_class,
        candidate=constants.candidate,
        **problem_options,
    )


def problem_from_features(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    locality: ArrayLike | None = None,
    n_classes: int | None = None,
    **options: Any,
) -> Problem:
    """Problem from the pooled features of labelled images, held in memory.

    Parameters
    ----------
    features : array of shape (n_images, n_features)
        Any real type; converted to float64 in small batches.
    labels : array of shape (n_images,), int
        Class of every image, 0 to ``n_classes - 1``, each with at least one image.
    locality : array of shape (n_features,) or (n_images, n_features), optional
        Locality per feature, or per image and feature as in :meth:`FeatureStatistics.update`.
    n_classes : int, optional
        Largest label + 1 by default.
    **options
        ``n_selected``, ``n_per_class`` and the other arguments of :func:`problem_from_statistics`.

    Raises
    ------
    InvalidFeaturesError, InvalidProblemError, InvalidInputError
        If no problem can be built.
    """
    per_image = None if locality is None or np.ndim(locality) < 2 else np.asarray(locality)
    statistics = statistics_from_features(features, labels, locality=per_image, n_classes=n_classes)
    per_feature = locality if per_image is None else None
    return problem_from_statistics(statistics, locality=per_feature, **options)


def _threshold_and_scale(R: FloatArray, epsilon: float, scaling: str) -> FloatArray:
    if scaling not in get_args(SimilarityScaling):
        raise InvalidInputError(
            f'similarity_scaling is {scaling!r}; "unit", "paper" or "code" was expected.'
        )
    kept: FloatArray = np.where(epsilon <= R, R, 0.0)
    largest = float(kept.max())
    if largest == 0.0:
        return kept
    if scaling == "code":
        smallest = float(R[R > 0.0].min())
        if smallest < largest:
            return np.where(kept > 0.0, (kept - smallest) / (largest - smallest), 0.0)
    return kept / (largest / 2.0 if scaling == "paper" else largest)


def _as_feature_locality(locality: ArrayLike, n_features: int) -> FloatArray:
    values = np.asarray(locality, dtype=np.float64)
    if values.shape != (n_features,) or np.isinf(values).any():
        raise InvalidFeaturesError(
            f"locality has shape {values.shape} and {np.isinf(values).sum()} infinite entries; "
            f"({n_features},) and none were expected."
        )
    return values
