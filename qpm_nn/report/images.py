"""Records and pictures of the test images in a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qpm_nn.data import ImageSet
from qpm_nn.explanations import Term, contributions, counterfactual, why_not
from qpm_nn.explanations.representative import rivals_to_rule_out, shared_pattern
from qpm_nn.extraction import iterate_activations
from qpm_nn.heads import Classifier
from qpm_nn.report.media import Sizes, encoded, intensities, thumbnail
from qpm_nn.report.seen import SeenImages
from qpm_nn.saving import ClassifierSpec

FloatArray = NDArray[np.float64]

#: Seconds for the group of an image, and for the rivals of its class.
GROUP_TIME = 2.0


def image_record(
    seen: SeenImages, i: int, limits: tuple[FloatArray, FloatArray], time_limit: float
) -> dict[str, Any]:
    """Why the prediction, why not the class with the second largest logit, and what would do.

    Parameters
    ----------
    seen : SeenImages
    i : int
    limits : pair of arrays of shape (n_selected,)
        Within which features may change.
    time_limit : float
        Seconds for the fewest changes that lead to another class; 0 to leave them out.
    """
    label, predicted, second = int(seen.labels[i]), int(seen.predicted[i]), seen.second(i)
    logits = seen.logits[i]
    record: dict[str, Any] = {
        "index": i,
        "label": label,
        "predicted": predicted,
        "second": second,
        "features": seen.features[i].tolist(),
        "logit": float(logits[predicted]),
        "bias": float(seen.layer.bias[predicted]),
        "contributions": _terms(contributions(seen.layer, seen.features[i], predicted).terms),
    }
    if second is not None:
        found = why_not(seen.layer, seen.features[i], second, predicted)
        record |= {
            "second_logit": float(logits[second]),
            "difference": found.difference,
            "bias_difference": found.bias,
            "deciding": _terms(found.terms),
        }
    if label not in (predicted, second):
        found = why_not(seen.layer, seen.features[i], label, predicted)
        record |= {
            "label_difference": found.difference,
            "label_bias_difference": found.bias,
            "against_label": _terms(found.terms),
        }
    goal = second if label == predicted else label
    if goal is not None and time_limit > 0:
        record["counterfactual"] = _changes(seen, i, goal, limits, time_limit)
    return record


def _terms(terms: Sequence[Term]) -> list[tuple[int, float]]:
    return [(term.position, term.contribution) for term in terms]


def _changes(
    seen: SeenImages,
    i: int,
    c: int,
    limits: tuple[FloatArray, FloatArray],
    time_limit: float,
) -> dict[str, Any]:
    found = counterfactual(seen.layer, seen.features[i], c, limits, time_limit=time_limit)
    return {
        "class": c,
        "reachable": found.is_reachable,
        "fewest": found.is_fewest,
        "n_changes": len(found.changes),
        "changes": [(change.position, change.before, change.after) for change in found.changes],
    }


def group_record(
    seen: SeenImages,
    image: Mapping[str, Any],
    training: NDArray[np.floating],
    predicted: NDArray[np.integer],
) -> dict[str, Any]:
    """What an image shares with others of its class, and whom that class has to be ahead of.

    Parameters
    ----------
    seen : SeenImages
    image : mapping
        Of :func:`image_record`.
    training : array of shape (n_images, n_selected)
        Features of the training images.
    predicted : array of shape (n_images,), int
        Their predicted classes.
    """
    c, own = image["predicted"], seen.features[image["index"]]
    pattern = shared_pattern(training, predicted, own, c, time_limit=GROUP_TIME)
    rivals = rivals_to_rule_out(training, seen.weight, c, GROUP_TIME)
    return {
        "active": pattern.active,
        "inactive": pattern.inactive,
        "n_same": pattern.n_same,
        "n_class": pattern.n_class,
        "n_other": pattern.n_other,
        "bound": pattern.cover.bound,
        "n_rivals": len(rivals.rivals),
        "rivals": [rival.c for rival in rivals.rivals],
        "rivals_bound": rivals.bound,
        "rivals_proved": rivals.is_proved,
    }


def shown_features(seen: SeenImages, i: int) -> set[int]:
    """Features whose maps tell why: of the prediction, the second class and the class itself."""
    classes = {int(seen.labels[i]), int(seen.predicted[i]), seen.second(i)} - {None}
    return set(np.flatnonzero(np.any([seen.weight[c] != 0 for c in classes], axis=0)).tolist())


def draw_images(
    classifier: Classifier,
    spec: ClassifierSpec,
    images: ImageSet,
    indices: Sequence[int],
    features: Sequence[Iterable[int]],
    means: FloatArray,
    device: torch.device | str,
    *,
    n_others: int = 0,
) -> tuple[Sizes, list[list[int]], dict[str, list[str]]]:
    """Photographs and maps of some test images.

    Parameters
    ----------
    classifier, spec
        The model.
    images : ImageSet
    indices : sequence of int
    features : sequence of iterables of int
        For each of these images, the features whose maps are wanted.
    means : array of shape (n_selected,)
        Of the features where they are active.
    device : torch.device or str
    n_others : int
        Photographs that the report has beside these.

    Returns
    -------
    sizes : Sizes
    order : list of lists of int
        For each image, the features of its maps in their order.
    media : dict
        ``thumbnails`` and ``maps``.
    """
    order = [sorted(wanted) for wanted in features]
    media: dict[str, list[str]] = {"thumbnails": [], "maps": []}
    sizes: Sizes | None = None
    seen = iterate_activations(classifier, images, spec.preprocessing, device, indices)
    for activations, _ in seen:
        maps, values = activations.maps.float().cpu(), activations.features.double().cpu().numpy()
        if sizes is None:
            shape = tuple(maps.shape[2:])
            n_images = len(indices) + n_others
            sizes = Sizes.fitting(images.shape, shape, n_images, sum(map(len, order)))
        for one, value in zip(maps, values, strict=True):
            place = len(media["maps"])
            wanted = order[place]
            found = intensities(one[wanted], value[wanted], means[wanted], sizes.map_shape)
            media["maps"].append(encoded(found))
            media["thumbnails"].append(thumbnail(images[indices[place]][0], sizes.thumbnail))
    return sizes or Sizes(0, (1, 1)), order, media


def rounded(value: Any) -> Any:
    """Floats with seven significant digits, in whatever holds them: pages show fewer."""
    if isinstance(value, float | np.floating):
        return float(f"{float(value):.7g}")
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, Mapping):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [rounded(one) for one in value]
    return value
