"""Small tables of features with labels, of the kinds that break solvers."""

from __future__ import annotations

import numpy as np
import torch

#: Names of data sets that break what assumes generic ones.
DEGENERATE = (
    "generic", "constant features", "one image a class", "duplicated columns", "huge", "tiny",
    "far from zero", "separable", "one rare class", "more features than images",
)  # fmt: skip


def data(name="generic", *, n_images=60, n_features=8, n_classes=4, seed=0):
    """Features and labels; every feature has another mean in every class, and noise."""
    rng = np.random.default_rng(seed)
    if name == "one image a class":
        n_images = n_classes
    if name == "more features than images":
        n_features = 2 * n_images
    labels = np.arange(n_images) % n_classes
    if name == "one rare class":
        labels = np.where(np.arange(n_images) == 7, n_classes - 1, labels % (n_classes - 1))
    centres = rng.normal(size=(n_classes, n_features)) * (50.0 if name == "separable" else 1.0)
    features = centres[labels] + rng.normal(size=(n_images, n_features))
    if name == "constant features":
        features[:, 1], features[:, 3] = 7.5, 0.0
    if name == "duplicated columns":
        features[:, 1], features[:, 2] = features[:, 0], -features[:, 0]
    factor = {"huge": 1e9, "tiny": 1e-9}.get(name, 1.0)
    return features * factor + (1e4 if name == "far from zero" else 0.0), labels


#: Four classes of three out of five features.
ASSIGNMENT = torch.tensor(
    [
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [0, 0, 1, 1, 1],
        [1, 0, 1, 0, 1],
    ],
    dtype=torch.bool,
)
