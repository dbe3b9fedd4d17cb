"""A classifier on a data set: accuracy and interpretability in numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from qpm_nn import metrics
from qpm_nn.data import DataModule
from qpm_nn.extraction import iterate_activations
from qpm_nn.heads import Classifier


def evaluate(
    classifier: Classifier,
    data: DataModule,
    *,
    n_per_class: int,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Metrics of a classifier; see :mod:`qpm_nn.metrics` for each.

    Accuracy and SID@k are of the test images; the others of the training images without
    augmentation, as in the QPM paper (section 4.2). Features that no class uses do not count.

    Parameters
    ----------
    classifier : Classifier
    data : DataModule
    n_per_class : int
        k of SID@k.
    device : torch.device or str

    Returns
    -------
    dict
        ``accuracy``, ``n_features`` (used ones), ``sid@<k>``, ``class_independence``,
        ``contrastiveness``, ``correlation``.
    """
    weight = classifier.head.weight.detach().to(device)
    used = (weight != 0).any(0)
    logits, diversity = [], []
    for batch, _ in iterate_activations(classifier, data.test, data.preprocessing, device):
        logits.append(batch.logits.cpu())
        weights = weight[batch.logits.argmax(1)]
        diversity.append(metrics.scale_invariant_diversity(batch.maps, weights, n_per_class).cpu())
    features = np.concatenate(
        [
            activations.features[:, used].float().cpu().numpy()
            for activations, _ in iterate_activations(
                classifier, data.train, data.preprocessing, device
            )
        ]
    )
    labels = data.train.labels.numpy()
    return {
        "accuracy": metrics.accuracy(torch.cat(logits), data.test.labels),
        "n_features": int(used.sum()),
        f"sid@{n_per_class}": float(torch.cat(diversity).double().mean()),
        "class_independence": metrics.class_independence(features, labels),
        "contrastiveness": metrics.contrastiveness(features),
        "correlation": metrics.correlation(features),
    }
