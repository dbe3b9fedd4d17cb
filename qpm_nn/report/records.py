"""Records of classes, features and errors in a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage

from qpm_nn.metrics import contrastiveness
from qpm_nn.metrics.contrastiveness import CONSTANT
from qpm_nn.metrics.mixture import fit_two_normals
from qpm_nn.report.seen import SeenImages

FloatArray = NDArray[np.float64]

#: Neighbours of a class and of a feature that are listed.
N_NEAREST = 5
N_BINS = 40


def class_records(
    seen: SeenImages,
    names: Sequence[str],
    hierarchy: Sequence[Sequence[str]],
    examples: Sequence[int | None],
    images: Sequence[list[int]],
) -> list[dict[str, Any]]:
    """One for each class; examples and images by their places in the report."""
    right = seen.labels == seen.predicted
    confused: dict[int, list[int]] = {}
    for e, confusion in enumerate(seen.confusions):
        confused.setdefault(confusion.label, []).append(e)
    found = []
    for c, name in enumerate(names):
        features = np.flatnonzero(seen.weight[c])
        mine = seen.labels == c
        n_images, n_correct = int(mine.sum()), int((mine & right).sum())
        found.append(
            {
                "name": name,
                "parents": list(hierarchy[c]) if hierarchy else [],
                "features": features.tolist(),
                "weights": seen.weight[c, features].tolist(),
                "weighted": [(int(j), float(seen.weight[c, j])) for j in features],
                "bias": float(seen.bias[c]),
                "n_images": n_images,
                "n_correct": n_correct,
                "accuracy": n_correct / n_images if n_images else None,
                "example": examples[c],
                "images": images[c],
                "nearest": _nearest_classes(seen, c),
                "confused_with": confused.get(c, []),
            }
        )
    return found


def _nearest_classes(seen: SeenImages, c: int) -> list[dict[str, Any]]:
    """Those that share the most features; what each has alone, or with the other sign."""
    shared = seen.shared[c].copy()
    shared[c] = -1
    order = np.argsort(-shared, kind="stable")[: min(N_NEAREST, seen.n_classes - 1)]
    sign = np.sign(seen.weight)
    return [
        {
            "class": int(other),
            "n_shared": int(shared[other]),
            "only_here": np.flatnonzero((sign[c] != 0) & (sign[c] != sign[other])).tolist(),
            "only_there": np.flatnonzero((sign[other] != 0) & (sign[c] != sign[other])).tolist(),
        }
        for other in order
    ]


def feature_records(
    seen: SeenImages,
    training: NDArray[np.floating],
    selected: Sequence[int],
    colours: Sequence[str],
    means: FloatArray,
    tops: Sequence[list[int]],
) -> list[dict[str, Any]]:
    """One for each selected feature.

    Parameters
    ----------
    seen : SeenImages
    training : array of shape (n_images, n_selected)
        Features of the training images.
    selected : sequence of int
        Indices in the backbone.
    colours : sequence of str
    means : array of shape (n_selected,)
        Of the features where they are active.
    tops : sequence of lists of int
        The test images in which each is the strongest, by their places in the report.
    """
    values = training.astype(np.float64)
    size = np.linalg.norm(values, axis=0)
    cosine = values.T @ values / np.maximum(np.outer(size, size), np.finfo(float).tiny)
    np.fill_diagonal(cosine, -np.inf)
    n_nearest = min(N_NEAREST, len(selected) - 1)
    found = []
    for j, feature in enumerate(selected):
        weight = seen.weight[:, j]
        users = np.flatnonzero(weight)
        nearest = np.argsort(-cosine[j], kind="stable")[:n_nearest]
        found.append(
            {
                "feature": int(feature),
                "colour": colours[j],
                "n_classes": len(users),
                "classes": [(int(c), float(weight[c])) for c in users],
                "active_mean": float(means[j]),
                "contrastiveness": contrastiveness(values[:, [j]]),
                **_distribution(values[:, j]),
                "top": tops[j],
                "nearest": [
                    {"feature": int(i), "similarity": float(cosine[j, i])} for i in nearest
                ],
                "attributes": [],
            }
        )
    return found


def _distribution(values: FloatArray) -> dict[str, Any]:
    """Histogram, and the two normals that fit best; None if nothing varies."""
    centre, spread = values.mean(), values.std()
    if not spread > CONSTANT * np.abs(values).max():
        return {"histogram": None, "modes": None}
    counts, edges = np.histogram(values, bins=N_BINS)
    fitted = fit_two_normals(torch.from_numpy((values - centre) / spread)[None])
    modes = zip(*(part[0].tolist() for part in fitted), strict=True)
    return {
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
        "modes": [
            {"share": share, "mean": centre + spread * mean, "std": spread * variance**0.5}
            for share, mean, variance in modes
        ],
    }


def error_records(seen: SeenImages, images: Sequence[list[int]]) -> list[dict[str, Any]]:
    """One for each pair of classes that are confused; images by their places in the report."""
    found = []
    for confusion, shown in zip(seen.confusions, images, strict=True):
        label, predicted, all_of_it = confusion
        difference = seen.logits[all_of_it, predicted] - seen.logits[all_of_it, label]
        found.append(
            {
                "label": label,
                "predicted": predicted,
                "count": len(all_of_it),
                "images": shown,
                "features": seen.deciding(all_of_it, predicted, label),
                "difference": float(difference.mean()),
                "differ_in_one": differ_in_one(seen, label, predicted),
            }
        )
    return found


def differ_in_one(seen: SeenImages, c: int, other: int) -> bool:
    """Whether two classes have all features in common but one each."""
    n_features = (seen.weight != 0).sum(axis=1)
    return bool(seen.shared[c, other] == n_features[c] - 1 == n_features[other] - 1)


def map_record(seen: SeenImages) -> dict[str, Any]:
    """Order of classes and features in which similar ones stand side by side; neighbours."""
    rows, columns = (_clustered(part) for part in (seen.weight, seen.weight.T))
    shared = np.triu(seen.shared + 1, 1)
    return {
        "classes": rows,
        "features": columns,
        "closest": [int(c) for c in np.unravel_index(shared.argmax(), shared.shape)],
        "graph": {"positions": {}, "edges": []},
        "grounding": None,
    }


def _clustered(rows: FloatArray) -> list[int]:
    if len(rows) < 3:
        return list(range(len(rows)))
    tree = linkage(np.sign(rows), "average", metric="cityblock", optimal_ordering=len(rows) <= 400)
    return leaves_list(tree).tolist()
