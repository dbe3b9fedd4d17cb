"""A classifier on a data set: accuracy and interpretability in numbers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from qpm_nn import extraction, metrics
from qpm_nn.data import BatchLoader, DataModule, ImageSet, OnImages
from qpm_nn.heads import Activations, Classifier

_Seen = Iterator[tuple[Activations, Tensor]]


def evaluate(
    classifier: Classifier,
    data: DataModule,
    *,
    n_per_class: int,
    device: torch.device | str = "cpu",
    attributes: ArrayLike | None = None,
    text_embeddings: ArrayLike | None = None,
    on_images: OnImages | None = None,
) -> dict[str, Any]:
    """Metrics of a classifier; see :mod:`qpm_nn.metrics` for each.

    Accuracy, SID@k, diversity@k and Plausibility are of the test images, the other metrics of
    features of the training images without augmentation, as in the QPM paper (section 4.2).
    Features that no class uses do not count. No maps are kept, and of the features 4 bytes for each
    training image and used feature.

    Parameters
    ----------
    classifier : Classifier
    data : DataModule
    n_per_class : int
        k of SID@k and diversity@k.
    device : torch.device or str
    attributes : array of shape (n_classes, n_attributes), optional
        For ``structural_grounding``; those of the data set by default, if it has any.
    text_embeddings : array of shape (n_classes, n_dimensions), optional
        For ``text_grounding``.
    on_images : callable, optional
        Called after every batch with its number of images, test and training images alike.

    Returns
    -------
    dict
        ``accuracy``, ``n_features`` (used ones), ``features_per_class``,
        ``contrastive_pair_share``, ``sid@<k>``, ``diversity@<k>``, ``class_independence``,
        ``contrastiveness``, ``correlation``, ``dependence``; ``structural_grounding`` and
        ``text_grounding`` if asked for; ``plausibility`` and ``plausibility_by_chance`` if the data
        set has masks. None where a metric is not defined.

    Raises
    ------
    InvalidInputError
        If an activation is NaN or infinite, or an optional argument does not fit the classes.
    """
    weight = classifier.head.weight.detach().to(device)
    found: dict[str, Any] = {
        "n_features": metrics.n_features(weight),
        "features_per_class": metrics.features_per_class(weight),
        "contrastive_pair_share": metrics.contrastive_pair_share(weight),
    }
    if attributes is None:
        attributes = data.class_attributes
    if attributes is not None:
        found["structural_grounding"] = metrics.structural_grounding(weight, attributes)
    if text_embeddings is not None:
        found["text_grounding"] = metrics.text_grounding(weight, text_embeddings)
    activations = partial(
        extraction.iterate_activations,
        classifier,
        preprocessing=data.preprocessing,
        device=device,
        on_images=on_images,
    )
    seen = activations(images=data.test)
    found |= _on_test_images(seen, weight, n_per_class, data.test_masks)
    found |= _on_training_images(activations(images=data.train), weight)
    return {name: None if math.isnan(value) else value for name, value in found.items()}


def _on_test_images(
    seen: _Seen, weight: Tensor, k: int, masks: ImageSet | None
) -> dict[str, float]:
    means: dict[str, metrics.ImageMean] = defaultdict(metrics.ImageMean)
    objects = None if masks is None else iter(BatchLoader(masks, extraction.BATCH_SIZE))
    for batch, labels in seen:
        class_weights = weight[batch.logits.argmax(1)]
        values = {
            "accuracy": metrics.is_correct(batch.logits, labels),
            f"sid@{k}": metrics.scale_invariant_diversity(batch.maps, class_weights, k),
            f"diversity@{k}": metrics.diversity(batch.maps, class_weights, k),
        }
        if objects is not None:
            mask = next(objects)[0][:, 0].to(weight.device)
            height, width = batch.maps.shape[2:]
            values |= {
                "plausibility": metrics.plausibility(batch.maps, class_weights, mask),
                "plausibility_by_chance": metrics.plausibility_by_chance(mask, (height, width)),
            }
        for name, value in values.items():
            means[name].update(value)
    return {name: mean.compute() for name, mean in means.items()}


def _on_training_images(seen: _Seen, weight: Tensor) -> dict[str, float]:
    used = (weight != 0).any(0)
    n_classes, n_features = len(weight), int(used.sum())
    independence = metrics.ClassIndependence(n_classes, n_features)
    contrastiveness = metrics.Contrastiveness(n_features)
    correlation = metrics.Correlation(n_features)
    dependence = metrics.ImageMean()
    for batch, labels in seen:
        features = batch.features[:, used]
        class_weights = weight[batch.logits.argmax(1)][:, used]
        independence.update(features, labels)
        contrastiveness.update(features)
        correlation.update(features)
        dependence.update(metrics.dependence(features, class_weights))
    return {
        "class_independence": independence.compute(),
        "contrastiveness": contrastiveness.compute(),
        "correlation": correlation.compute(),
        "dependence": dependence.compute(),
    }
