"""Prediction sets that hold the true class with a chosen probability (split conformal prediction).

:func:`calibrate` finds thresholds on images that the network was not trained on, and
:func:`predict_set` makes sets of new ones::

    calibration = calibrate(logits, labels, 0.1, features=features, assignment=assignment)
    sets = predict_set(calibration, new_logits, features=new_features, assignment=assignment)

Hierarchical sets hold classes whose strongest features are those of the prediction, as many as the
level says. CHiQPM introduced them; the method ``chiqpm`` has its score, with what its guarantee
needs: classes outside of the level are infinitely far, and :func:`hierarchical_threshold` finds
level and threshold on the same points such that the coverage is proven. The method ``hierarchical``
has a score that compares classes with the prediction and leaves a part of the miscoverage to the
threshold, for sets about as small as those of LAC. :mod:`qpm_nn.metrics` measures sets.

References
----------
CHiQPM: Calibrated Hierarchical Interpretable Image Classification, NeurIPS 2025, section 3.
Vovk, Gammerman and Shafer, Algorithmic learning in a random world, 2005.
"""

from qpm_nn.conformal.calibration import LEVEL_SHARE, Calibration, calibrate, calibrate_each
from qpm_nn.conformal.evaluation import ALPHAS, HeldOut, measure_sets
from qpm_nn.conformal.file import CALIBRATION_FORMAT, load_calibration, save_calibration
from qpm_nn.conformal.prediction import predict_set
from qpm_nn.conformal.rules import (
    DepthRule,
    conformal_quantile,
    hierarchical_threshold,
    order_statistic,
)
from qpm_nn.conformal.scores import HIERARCHIES, aps, chiqpm, hierarchical, lac, raps, saps

__all__ = [
    "ALPHAS",
    "CALIBRATION_FORMAT",
    "HIERARCHIES",
    "LEVEL_SHARE",
    "Calibration",
    "DepthRule",
    "HeldOut",
    "aps",
    "calibrate",
    "calibrate_each",
    "chiqpm",
    "conformal_quantile",
    "hierarchical",
    "hierarchical_threshold",
    "lac",
    "load_calibration",
    "measure_sets",
    "order_statistic",
    "predict_set",
    "raps",
    "saps",
    "save_calibration",
]
