"""Prediction sets of new images."""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from qpm_nn.conformal.calibration import Calibration, class_scores, draw_uniforms
from qpm_nn.conformal.scores import HIERARCHIES, as_hierarchy_input, as_logits, chunks
from qpm_opt import InvalidInputError


def predict_set(
    calibration: Calibration,
    logits: ArrayLike | Tensor,
    *,
    features: ArrayLike | Tensor | None = None,
    assignment: ArrayLike | Tensor | None = None,
    batch: int = 0,
) -> Tensor:
    """Prediction sets: which classes are possible for each image.

    Parameters
    ----------
    calibration : Calibration
        From :func:`~qpm_nn.conformal.calibrate`, with the same network.
    logits : Tensor of shape (n_images, n_classes)
        The first largest is the prediction.
    features : Tensor of shape (n_images, n_selected), optional
        Normalised features; only hierarchical methods need them and the assignment.
    assignment : Tensor of shape (n_classes, n_selected), bool, optional
        As at calibration.
    batch : int
        Number of the batch, if images come in several: with a seed, every batch has random numbers
        of its own, and the same batch always the same.

    Returns
    -------
    Tensor of shape (n_images, n_classes), bool

    Raises
    ------
    InvalidInputError
        If shapes do not fit each other or the calibration, or a value is NaN or infinite.
    """
    logits = as_logits(logits)
    if logits.shape[1] != calibration.n_classes:
        raise InvalidInputError(
            f"logits has {logits.shape[1]} classes; {calibration.n_classes}, as in the "
            "calibration, were expected."
        )
    if batch < 0:
        raise InvalidInputError(f"batch is {batch}; a whole number from 0 on was expected.")
    predicted = logits.argmax(1)
    if calibration.method in HIERARCHIES:
        sets = _hierarchical_sets(calibration, logits, predicted, features, assignment)
    else:
        # Calibration has stream 0. Sharing a number with a calibration point would make a new image
        # more like that one than like the others, and so not exchangeable.
        uniforms = draw_uniforms(len(logits), calibration.seed, 1 + batch)
        scores = class_scores(calibration.method, logits, uniforms, calibration.parameters)
        sets = scores <= scores.new_tensor(calibration.thresholds)
    if calibration.include_top_1 != "never":
        lacks = ~sets.any(1) if calibration.include_top_1 == "if_empty" else slice(None)
        images = torch.arange(len(sets), device=sets.device)[lacks]
        sets[images, predicted[lacks]] = True
    return sets


def _hierarchical_sets(
    calibration: Calibration,
    logits: Tensor,
    predicted: Tensor,
    features: ArrayLike | Tensor | None,
    assignment: ArrayLike | Tensor | None,
) -> Tensor:
    features, assignment = as_hierarchy_input(features, assignment, tuple(logits.shape))
    n_per_class = int(assignment[0].sum())
    n_levels = len(calibration.rules[0].levels)
    if n_levels != n_per_class + 1:
        raise InvalidInputError(
            f"assignment has {n_per_class} features for each class; {n_levels - 1}, as in the "
            "calibration, were expected."
        )
    device = features.device
    predicted = predicted.to(device)
    # By class, or once for all of them, and depth.
    levels = torch.tensor([rule.levels for rule in calibration.rules], device=device)
    thresholds = features.new_tensor([rule.thresholds for rule in calibration.rules])
    row = torch.arange(len(assignment) if calibration.class_conditional else 1, device=device)
    sets = [logits.new_zeros((0, len(assignment)), dtype=torch.bool)]
    for part in chunks(len(features), int(assignment.sum())):
        terms = HIERARCHIES[calibration.method](features[part], assignment, predicted[part])
        scores = terms.scores(levels[row, terms.depth])
        sets.append((scores <= thresholds[row, terms.depth]).to(logits.device))
    return torch.cat(sets)
