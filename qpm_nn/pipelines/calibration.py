"""What a model says of test images, and the prediction sets that part of them calibrates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qpm_nn.config import ConformalConfig
from qpm_nn.conformal import ALPHAS, Calibration, HeldOut, measure_sets
from qpm_nn.data import DataModule, ImageSet
from qpm_nn.explanations import active_means
from qpm_nn.extraction import iterate_activations
from qpm_nn.heads import Activations, Classifier
from qpm_nn.metrics import attribute_similarity, hierarchy_similarity
from qpm_opt import InvalidInputError


def predictions(
    classifier: Classifier, data: DataModule, device: torch.device | str
) -> dict[str, NDArray[Any]]:
    """Arrays of ``predictions.npz``.

    Returns
    -------
    dict
        ``logits``, ``labels`` and ``features`` of the test images; of a model with a hierarchy also
        the ``active_means`` of the features, (n_selected,), on the training images.
    """

    def activations(images: ImageSet) -> Iterator[tuple[Activations, Tensor]]:
        return iterate_activations(classifier, images, data.preprocessing, device)

    batches = [
        (batch.logits.float().cpu(), labels, batch.features.float().cpu())
        for batch, labels in activations(data.test)
    ]
    said = [torch.cat(parts) for parts in zip(*batches, strict=True)]
    found = dict(
        zip(("logits", "labels", "features"), (part.numpy() for part in said), strict=True)
    )
    if HeldOut.of(classifier.head, *said).assignment is not None:
        training = [batch.features.float().cpu() for batch, _ in activations(data.train)]
        found["active_means"] = active_means(torch.cat(training))
    return found


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
    similarity = _class_similarity(data)
    alphas = sorted({*ALPHAS, config.alpha}, reverse=True)
    measures = [
        measure_sets(calibration, measuring, similarity)
        for method in images.methods
        for calibration in calibrating.calibrate_each(alphas, method=method, **options)
    ]
    return chosen, measures


def _class_similarity(data: DataModule) -> NDArray[np.float64] | None:
    """How alike classes are by their attributes, or else by their hierarchy, if there is one."""
    if data.class_attributes is not None:
        return attribute_similarity(data.class_attributes)
    return hierarchy_similarity(data.hierarchy) if data.hierarchy else None
