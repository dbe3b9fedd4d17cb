"""Interpretability metrics: tensors or arrays in, floats out.

An accuracy of 0.97 is 97 %. Metrics that each image has by itself are functions with one value for
each image, and :class:`ImageMean` takes the mean. Metrics of a whole data set are classes with
``update(batch)`` and ``compute()``, and functions for data that are at hand. A metric that is not
defined is NaN; NaN or infinite input is an error.

The papers compute

- from the weights: :func:`n_features`, :func:`features_per_class`, :func:`contrastive_pair_share`,
  :func:`structural_grounding`, :func:`text_grounding`;
- from the test images: :func:`accuracy`, :func:`scale_invariant_diversity` (SID@k),
  :func:`diversity`, :func:`plausibility`;
- from prediction sets: :func:`set_coverage`, :func:`mean_set_size`, :func:`set_coherence`, and by
  size and class :func:`worst_size_coverage`, :func:`class_coverage_gap` and others;
- from the training images, without augmentation: :class:`ClassIndependence`,
  :class:`Contrastiveness`, :class:`Correlation`, :func:`dependence`, :class:`FeatureAlignment`.
"""

from qpm_nn.metrics.alignment import FeatureAlignment, feature_alignment, local_feature_alignment
from qpm_nn.metrics.contrastiveness import Contrastiveness, TwoModes, contrastiveness, two_modes
from qpm_nn.metrics.features import (
    ClassIndependence,
    Correlation,
    class_independence,
    correlation,
)
from qpm_nn.metrics.grounding import structural_grounding, text_grounding
from qpm_nn.metrics.images import ImageMean, accuracy, dependence, is_correct
from qpm_nn.metrics.maps import (
    box_masks,
    diversity,
    plausibility,
    plausibility_by_chance,
    scale_invariant_diversity,
)
from qpm_nn.metrics.sets import (
    attribute_similarity,
    class_coverage_gap,
    coverage_by_class,
    coverage_by_size,
    empty_set_share,
    hierarchy_similarity,
    mean_set_size,
    set_coherence,
    set_coverage,
    worst_class_coverage,
    worst_size_coverage,
)
from qpm_nn.metrics.weights import (
    contrastive_pair_share,
    contrastive_pairs,
    features_per_class,
    n_features,
    shared_features,
)

__all__ = [
    "ClassIndependence",
    "Contrastiveness",
    "Correlation",
    "FeatureAlignment",
    "ImageMean",
    "TwoModes",
    "accuracy",
    "attribute_similarity",
    "box_masks",
    "class_coverage_gap",
    "class_independence",
    "contrastive_pair_share",
    "contrastive_pairs",
    "contrastiveness",
    "correlation",
    "coverage_by_class",
    "coverage_by_size",
    "dependence",
    "diversity",
    "empty_set_share",
    "feature_alignment",
    "features_per_class",
    "hierarchy_similarity",
    "is_correct",
    "local_feature_alignment",
    "mean_set_size",
    "n_features",
    "plausibility",
    "plausibility_by_chance",
    "scale_invariant_diversity",
    "set_coherence",
    "set_coverage",
    "shared_features",
    "structural_grounding",
    "text_grounding",
    "two_modes",
    "worst_class_coverage",
    "worst_size_coverage",
]
