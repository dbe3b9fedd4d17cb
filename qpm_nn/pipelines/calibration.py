"""What a model says of test images, and the prediction sets that part of them calibrates."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qpm_nn.config import ConformalConfig
from qpm_nn.conformal import ALPHAS, Calibration, HeldOut, measure_sets
from qpm_nn.data import DataModule, OnImages
from qpm_nn.extraction import iterate_activations, spatial_maximum
from qpm_nn.heads import Classifier
from qpm_nn.metrics import attribute_similarity, hierarchy_similarity
from qpm_opt import InvalidInputError


def predictions(
    classifier: Classifier,
    data: DataModule,
    device: torch.device | str,
    on_images: OnImages | None = None,
) -> dict[str, NDArray[Any]]:
    """Arrays of ``predictions.npz``.

    Returns
    -------
    dict
        ``logits``, ``labels``, ``features`` and ``locality`` (the maximum of the spatial softmax of
        each map) of the test images.
    """
    batches = [
        (
            batch.logits.float().cpu(),
            labels,
            batch.features.float().cpu(),
            spatial_maximum(batch.maps).cpu(),
        )
        for batch, labels in iterate_activations(
            classifier, data.test, data.preprocessing, device, on_images=on_images
        )
    ]
    said = [torch.cat(parts).numpy() for parts in zip(*batches, strict=True)]
    return dict(zip(("logits", "labels", "features", "locality"), said, strict=True))


def training_features(
    classifier: Classifier,
    data: DataModule,
    device: torch.device | str,
    on_images: OnImages | None = None,
) -> dict[str, NDArray[Any]]:
    """Arrays of ``training_features.npz``: ``features`` and ``labels`` of the training images.

    The features are those that the classifier adds up, not those of the dense model.
    """
    batches = iterate_activations(
        classifier, data.train, data.preprocessing, device, on_images=on_images
    )
    features = [batch.features.float().cpu() for batch, _ in batches]
    return {"features": torch.cat(features).numpy(), "labels": data.train.labels.numpy()}


def calibrate_and_measure(
    images: HeldOut, config: ConformalConfig, data: DataModule, *, seed: int
) -> tuple[Calibration, list[dict[str, Any]]]:
    """The calibration that the settings ask for, and metrics of all methods and some coverages.

    Raises
    ------
    InvalidInputError
        If the method needs a hierarchy and the model has none.
    """
    if config.method not in images.methods:
        raise InvalidInputError(
            f"method is {config.method}, but the classes of this model have no equally many "
            f"features that speak for them; one of {', '.join(images.methods)} was expected."
        )
    calibrating, measuring = images.split(config.share, seed)
    options: dict[str, Any] = {
        "class_conditional": config.class_conditional,
        "include_top_1": config.include_top_1,
    }
    (chosen,) = calibrating.calibrate_each((config.alpha,), method=config.method, **options)
    similarity = class_similarity(data)
    alphas = sorted({*ALPHAS, config.alpha}, reverse=True)
    measures = [
        measure_sets(calibration, measuring, None if similarity is None else similarity[1])
        for method in images.methods
        for calibration in calibrating.calibrate_each(alphas, method=method, **options)
    ]
    return chosen, measures


def class_similarity(data: DataModule) -> tuple[str, NDArray[np.float64]] | None:
    """What classes are alike by, attributes or else a hierarchy, and how much; None without."""
    if data.class_attributes is not None:
        return "attributes", attribute_similarity(data.class_attributes)
    if data.hierarchy:
        return "hierarchy", hierarchy_similarity(data.hierarchy)
    return None
