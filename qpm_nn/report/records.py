"""Records of classes, features, errors and the global map in a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qpm_nn.explanations import (
    FeatureProfile,
    GroundingScatter,
    assignment_matrix,
    class_graph,
)
from qpm_nn.report.seen import SeenImages

FloatArray = NDArray[np.float64]

#: Neighbours of a class that are listed.
N_NEAREST = 5


def class_records(
    seen: SeenImages,
    hierarchy: Sequence[Sequence[str]],
    examples: Sequence[int | None],
    images: Sequence[list[int]],
) -> list[dict[str, Any]]:
    """One for each class; examples and images by their places in the report."""
    right = seen.labels == seen.predicted
    confused: dict[int, list[int]] = {}
    for e, confusion in enumerate(seen.confusions.pairs):
        confused.setdefault(confusion.true, []).append(e)
    found = []
    for c, name in enumerate(seen.layer.class_names):
        features = np.flatnonzero(seen.weight[c])
        mine = seen.labels == c
        n_images, n_correct = int(mine.sum()), int((mine & right).sum())
        found.append(
            {
                "name": name,
                "parents": list(hierarchy[c]) if hierarchy else [],
                "features": [(int(j), float(seen.weight[c, j])) for j in features],
                "bias": float(seen.layer.bias[c]),
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
    sign = seen.layer.sign
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
    profiles: Sequence[FeatureProfile],
    colours: Sequence[str],
    means: FloatArray,
    tops: Sequence[list[int]],
) -> list[dict[str, Any]]:
    """One for each selected feature.

    Parameters
    ----------
    seen : SeenImages
    profiles : sequence of FeatureProfile
        On the training images.
    colours : sequence of str
    means : array of shape (n_selected,)
        Of the features where they are active.
    tops : sequence of lists of int
        The test images in which each is the strongest, by their places in the report.
    """
    found = []
    for profile, colour, mean, top in zip(profiles, colours, means, tops, strict=True):
        found.append(
            {
                "feature": profile.feature,
                "colour": colour,
                "n_classes": len(profile.classes),
                "classes": [(one.class_index, one.weight) for one in profile.classes],
                "active_mean": float(mean),
                "share_active": profile.share_active,
                "contrastiveness": profile.contrastiveness,
                "edges": profile.edges,
                "counts": profile.counts,
                "modes": [mode.to_dict() for mode in profile.modes],
                "top": top,
                "nearest": [
                    {"feature": seen.layer.position(near.feature), "similarity": near.cosine}
                    for near in profile.nearest
                ],
                "attributes": [one.to_dict() for one in profile.attributes],
            }
        )
    return found


def error_records(seen: SeenImages, images: Sequence[list[int]]) -> list[dict[str, Any]]:
    """One for each pair of classes that are confused; images by their places in the report."""
    return [
        {
            "label": confusion.true,
            "predicted": confusion.predicted,
            "count": confusion.count,
            "images": shown,
            # What pushed the most towards the mistake first.
            "features": [(term.position, term.contribution) for term in confusion.terms],
            "pushes": [term.push for term in confusion.terms],
            "bias": float(seen.layer.bias[confusion.predicted] - seen.layer.bias[confusion.true]),
            "difference": confusion.lead,
            "differ_by_one": confusion.differ_by_one,
        }
        for confusion, shown in zip(seen.confusions.pairs, images, strict=True)
    ]


def map_record(seen: SeenImages, grounding: GroundingScatter | None, given: str) -> dict[str, Any]:
    """Order of classes and features in which similar ones stand side by side; neighbours.

    Parameters
    ----------
    seen : SeenImages
    grounding : GroundingScatter or None
    given : str
        What the classes are alike by in it.
    """
    matrix, graph = assignment_matrix(seen.layer), class_graph(seen.layer)
    return {
        "classes": list(matrix.classes),
        "features": list(matrix.positions),
        "closest": list(seen.closest),
        "graph": {
            "width": graph.width,
            "height": graph.height,
            "nodes": [(node.class_index, node.x, node.y) for node in graph.nodes],
            "edges": [(edge.first, edge.second) for edge in graph.edges],
        },
        "grounding": None
        if grounding is None
        else {
            "given": given,
            "n_pairs": grounding.n_pairs,
            "structural_grounding": grounding.structural_grounding,
            "rank_correlation": grounding.rank_correlation,
            "points": [
                (pair.given, pair.model, pair.first, pair.second)
                for pair in (*grounding.top, *grounding.others)
            ],
        },
    }
