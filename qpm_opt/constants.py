"""From features and labels to the constants A, R and b, and to the problem they define.

:class:`~qpm_opt.features.FeatureStatistics` condenses the images in one pass;
:func:`compute_constants` turns it into scaled constants, :func:`problem_from_statistics` and
:func:`problem_from_features` into a problem.

References
----------
Norrenbrock et al., QPM: Discrete Optimization for Globally Interpretable Image Classification,
ICLR 2025: sections 3.2 to 3.4 (constants), 4.1.1 and appendix C (scaling), appendix J (AUROC),
appendix K (negative assignments as future work).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from qpm_opt.auroc import auroc
from qpm_opt.bias import BIAS_SCALE, BiasSource, bias_from, feature_bias, load_bias
from qpm_opt.epsilon import tune_epsilon
from qpm_opt.errors import InvalidFeaturesError, InvalidInputError, unknown_name
from qpm_opt.features import FeatureStatistics, load_features, statistics_from_features
from qpm_opt.pairs import closest_class_pairs, n_pairs_of_density
from qpm_opt.problem import Problem
from qpm_opt.validation import BoolArray, FloatArray, IntArray, as_count

__all__ = [
    "BIAS_SCALE",
    "BiasSource",
    "ClassSimilarity",
    "Constants",
    "FeatureStatistics",
    "PairSource",
    "SimilarityScaling",
    "auroc",
    "bias_from",
    "compute_constants",
    "feature_bias",
    "feature_similarity",
    "load_bias",
    "load_features",
    "problem_from_features",
    "problem_from_statistics",
    "statistics_from_features",
]

ClassSimilarity = Literal["correlation", "auroc"]
"""What A can be made of by name."""

SimilarityScaling = Literal["unit", "paper", "code"]
PairSource = Literal["closest", "disjoint", "any"]


@dataclass(frozen=True, eq=False)
class Constants:
    """The constants of a problem at their final scale.

    Parameters
    ----------
    class_similarity : ndarray of shape (n_classes, n_features)
        A, similarities scaled to ``max|A| = 1000 / (n_per_class * n_classes)``; their absolute
        values with negative assignments.
    feature_similarity : ndarray of shape (n_features, n_features)
        R, entries below epsilon set to 0, the others scaled to a maximum of 1.
    feature_bias : ndarray of shape (n_features,)
        b, zeros if it is to come from localities and none are known.
    candidate : ndarray of shape (n_features,), bool
        Features that vary; a constant one can never be selected.
    epsilon : float
        Threshold that was applied to R; inf if no pair is penalised.
    clique : ndarray of shape (n_selected,) or None
        Features that are pairwise below epsilon (a first warm start); None if epsilon was given or
        R is switched off.
    """

    class_similarity: FloatArray
    feature_similarity: FloatArray
    feature_bias: FloatArray
    candidate: BoolArray
    epsilon: float
    clique: IntArray | None


def feature_similarity(class_similarity: FloatArray, *, negative: bool = False) -> FloatArray:
    """ReLU of the cosine similarity of A's columns, zero diagonal (section 3.3).

    With negative assignments its absolute value: a feature and the opposite of another may then be
    alike, and selecting one gives both.

    Returns an exactly symmetric array of shape (n_features, n_features) in [0, 1]; a feature whose
    column is zero is similar to none.
    """
    norm = np.linalg.norm(class_similarity, axis=0)
    unit = np.divide(class_similarity, norm, out=np.zeros_like(class_similarity), where=norm > 0.0)
    cosine = unit.T @ unit
    if negative:
        cosine = np.abs(cosine)
    upper: FloatArray = np.triu(np.clip(cosine, 0.0, 1.0), 1)
    return np.add(upper, upper.T)


def compute_constants(
    statistics: FeatureStatistics,
    *,
    n_selected: int,
    n_per_class: int,
    class_similarity: Literal["correlation"] | ArrayLike = "correlation",
    bias: BiasSource | ArrayLike = "locality",
    locality: ArrayLike | None = None,
    centre: ArrayLike | None = None,
    epsilon: float | Literal["auto"] = "auto",
    bias_scale: float = BIAS_SCALE,
    similarity_scale: float = 1.0,
    similarity_scaling: SimilarityScaling = "unit",
    negative: bool = False,
    seed: int = 0,
) -> Constants:
    """Constants of the problem at their final scale.

    Parameters
    ----------
    statistics : FeatureStatistics
        Of all training images.
    n_selected, n_per_class : int
        p and k; k scales A, p decides epsilon.
    class_similarity : "correlation" or array of shape (n_classes, n_features)
        A before scaling: Pearson correlation (section 3.2), or any other measure that is 0 where a
        feature says nothing about a class. "auroc" needs the features of all images
        (:func:`problem_from_features`).
    bias : {"locality", "centre", "class_independence"} or array of shape (n_features,)
        What b is made of (:func:`qpm_opt.bias.bias_from`).
    locality, centre : array of shape (n_features,), optional
        Per feature (NaN: unknown); by default those of the statistics. They count if ``bias`` names
        them. Without any locality, b = 0.
    epsilon : float or "auto"
        Pairs less similar than this are not penalised. "auto" takes the smallest value for which
        a selection without penalty is found (:func:`qpm_opt.epsilon.tune_epsilon`); 0 keeps all.
    bias_scale : float
        lambda, the largest absolute bias; 0 switches b off.
    similarity_scale : float
        What R is multiplied by in the end; 0 switches it off, and epsilon with it.
    similarity_scaling : {"unit", "paper", "code"}
        How R is scaled after the threshold. "unit": maximum 1, each pair counts once. The others
        reproduce published results: "paper" is the literal ``-s'Rs`` of eq. 5, in which each pair
        counts twice; "code" is the authors' program, which subtracts the smallest non-zero
        similarity before scaling to a maximum of 1.
    negative : bool
        Whether a class may also count features against itself (:mod:`qpm_opt.signs`): A becomes
        its absolute value, R that of the cosine similarities.
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
    A = _class_similarity(class_similarity, statistics)
    n_classes, n_features = A.shape
    candidate = statistics.varies
    n_selected = as_count(n_selected, "n_selected")
    n_per_class = as_count(n_per_class, "n_per_class")
    if n_per_class < 1:
        raise InvalidInputError(f"n_per_class is {n_per_class}; at least 1 was expected.")
    if not 1 <= n_selected <= candidate.sum():
        raise InvalidFeaturesError(
            f"n_selected is {n_selected}, but {candidate.sum()} of the {n_features} features vary "
            "over the images; give a number from 1 to that."
        )
    b = bias_from(bias, statistics, locality=locality, centre=centre, scale=bias_scale)
    R = feature_similarity(A, negative=negative)
    if not 0.0 <= similarity_scale < np.inf:
        raise InvalidInputError(f"similarity_scale is {similarity_scale}; at least 0 was expected.")
    if negative:
        A = np.abs(A)
    clique: IntArray | None
    if similarity_scale == 0.0:
        threshold, clique = np.inf, None
    elif epsilon == "auto":
        tuning = tune_epsilon(R, n_selected, candidate=candidate, seed=seed)
        threshold, clique = tuning.epsilon, tuning.clique
    elif isinstance(epsilon, str) or not epsilon >= 0:
        raise InvalidInputError(
            f'epsilon is {epsilon!r}; a number from 0 on, or "auto", was expected.'
        )
    else:
        threshold, clique = float(epsilon), None
    largest = np.abs(A).max()
    if largest > 0.0:
        A = A * (1000.0 / (n_per_class * n_classes) / largest)  # eq. 17
    return Constants(
        class_similarity=A,
        feature_similarity=similarity_scale
        * _threshold_and_scale(R, threshold, similarity_scaling),
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
    class_similarity: Literal["correlation"] | ArrayLike = "correlation",
    bias: BiasSource | ArrayLike = "locality",
    locality: ArrayLike | None = None,
    centre: ArrayLike | None = None,
    epsilon: float | Literal["auto"] = "auto",
    bias_scale: float = BIAS_SCALE,
    similarity_scale: float = 1.0,
    similarity_scaling: SimilarityScaling = "unit",
    negative: bool = False,
    pair_density: float = 0.0,
    pairs: PairSource = "closest",
    seed: int = 0,
    **problem_options: Any,
) -> Problem:
    """Problem from accumulated statistics.

    The arguments are those of :func:`compute_constants`, and two for contrastive pairs;
    ``problem_options`` (``distinct``, ``name``, ``min_classes_per_feature``, ...) are those of
    :class:`~qpm_opt.Problem`.

    Parameters
    ----------
    pair_density : float
        rho, contrastive pairs for each class: ``floor(rho n_classes)`` pairs of classes differ in a
        single feature (CHiQPM, 0.5 there).
    pairs : {"closest", "disjoint", "any"}
        Which: those whose rows of A are closest (:func:`qpm_opt.pairs.closest_class_pairs`), the
        same without two pairs of one class, or those that cost the objective least.

    Raises
    ------
    InvalidFeaturesError, InvalidProblemError, InvalidInputError
        If no problem can be built.
    """
    if pair_density and problem_options.keys() & {"contrastive_pairs", "min_contrastive_pairs"}:
        raise InvalidInputError("pair_density makes the contrastive pairs; give them or it.")
    constants = compute_constants(
        statistics,
        n_selected=n_selected,
        n_per_class=n_per_class,
        class_similarity=class_similarity,
        bias=bias,
        locality=locality,
        centre=centre,
        epsilon=epsilon,
        bias_scale=bias_scale,
        similarity_scale=similarity_scale,
        similarity_scaling=similarity_scaling,
        negative=negative,
        seed=seed,
    )
    if pairs not in get_args(PairSource):
        raise unknown_name("source of pairs", pairs, get_args(PairSource))
    n_pairs = n_pairs_of_density(pair_density, statistics.n_classes, disjoint=pairs == "disjoint")
    if n_pairs and pairs == "any":
        problem_options["min_contrastive_pairs"] = n_pairs
    elif n_pairs:
        problem_options["contrastive_pairs"] = closest_class_pairs(
            constants.class_similarity, n_pairs, disjoint=pairs == "disjoint"
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
    class_similarity: ClassSimilarity | ArrayLike = "correlation",
    locality: ArrayLike | None = None,
    centre: ArrayLike | None = None,
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
    class_similarity : {"correlation", "auroc"} or array of shape (n_classes, n_features)
        What A is made of. "auroc" is the area under the ROC curve of :func:`qpm_opt.auroc.auroc`
        less 1/2. The paper compares it with correlation (appendix J, table 10) but does not say
        how areas enter; centred, a feature that says nothing about a class has 0 as with
        correlation, one that is low for it a negative value, and R, the cosine of A's columns,
        tells features apart, which for areas around 1/2 are all alike.
    locality, centre : array of shape (n_features,) or (n_images, n_features), optional
        Per feature, or per image and feature as in :meth:`FeatureStatistics.update`.
    n_classes : int, optional
        Largest label + 1 by default.
    **options
        ``n_selected``, ``n_per_class``, ``bias`` and the other arguments of
        :func:`problem_from_statistics`.

    Raises
    ------
    InvalidFeaturesError, InvalidProblemError, InvalidInputError
        If no problem can be built.
    """
    local_images, local_features = _images_or_features(locality)
    centre_images, centre_features = _images_or_features(centre)
    statistics = statistics_from_features(
        features, labels, locality=local_images, centre=centre_images, n_classes=n_classes
    )
    if isinstance(class_similarity, str) and class_similarity == "auroc":
        class_similarity = auroc(features, labels, n_classes=n_classes) - 0.5
    return problem_from_statistics(
        statistics,
        class_similarity=class_similarity,
        locality=local_features,
        centre=centre_features,
        **options,
    )


def _images_or_features(
    values: ArrayLike | None,
) -> tuple[ArrayLike | None, ArrayLike | None]:
    """What is known of each image and feature, and what of each feature; one of them is None."""
    if values is None or np.ndim(values) < 2:
        return None, values
    return values, None


def _class_similarity(given: str | ArrayLike, statistics: FeatureStatistics) -> FloatArray:
    """A before scaling."""
    if isinstance(given, str):
        if given == "auroc":
            raise InvalidInputError(
                'class_similarity is "auroc", which ranks all images of a feature, but statistics '
                "keep no images; call problem_from_features with the features, or give "
                "auroc(features, labels) - 0.5."
            )
        if given != "correlation":
            raise unknown_name("class_similarity", given, get_args(ClassSimilarity))
        return statistics.class_similarity
    A = np.asarray(given)
    shape = (statistics.n_classes, statistics.n_features)
    if A.shape != shape or A.dtype.kind not in "fiub" or not np.isfinite(A).all():
        raise InvalidFeaturesError(
            f"class_similarity is {A.dtype} of shape {A.shape}; finite numbers of shape {shape} "
            "were expected."
        )
    # What differs by rounding only is ranked like any other feature, but is no candidate.
    return np.where(statistics.varies, A.astype(np.float64), 0.0)


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
