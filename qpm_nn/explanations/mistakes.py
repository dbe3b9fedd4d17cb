"""Which classes are taken for which, and the features that explain it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from qpm_nn.explanations.last_layer import LastLayer
from qpm_nn.explanations.plain import PlainData
from qpm_nn.metrics.checks import FloatArray
from qpm_nn.metrics.weights import contrastive_pairs


@dataclass(frozen=True)
class ConfusionTerm(PlainData):
    """A feature that decides between the true class and the predicted one.

    Attributes
    ----------
    feature : int
        By its index in the backbone.
    position : int
        Its column among the selected ones.
    weight : float
        In the predicted class less that in the true one: positive if it speaks for the mistake.
    mean : float
        Of the normalised feature over the images that are confused.
    usual : float or None
        The same over the images of the true class that are recognised; None if there are none.
    contribution : float
        ``weight * mean``: with those of all terms and the biases it adds up to the lead.
    push : float or None
        ``weight * (mean - usual)``: how much of the lead is due to values that are unusual for the
        class. Positive if a feature of the predicted class was too strong, or one of the true class
        too weak.
    """

    feature: int
    position: int
    weight: float
    mean: float
    usual: float | None
    contribution: float
    push: float | None


@dataclass(frozen=True)
class Confusion(PlainData):
    """Images of one class that are taken for another.

    Attributes
    ----------
    true, predicted : int
    true_name, predicted_name : str
    count : int
    images : tuple of int
        Where they are in the data, the largest lead first.
    terms : tuple of ConfusionTerm
        What pushed most towards the mistake first.
    lead : float
        Logit of the predicted class less that of the true one, on the average.
    differ_by_one : bool
        Whether the classes differ in one feature only.
    """

    true: int
    true_name: str
    predicted: int
    predicted_name: str
    count: int
    images: tuple[int, ...]
    terms: tuple[ConfusionTerm, ...]
    lead: float
    differ_by_one: bool


@dataclass(frozen=True)
class Confusions(PlainData):
    """All mistakes of a classifier on some images.

    Attributes
    ----------
    pairs : tuple of Confusion
        The most frequent first; of equally frequent ones the lowest classes.
    n_images, n_wrong : int
    share_differ_by_one : float or None
        Of the mistakes, those between classes that differ in one feature; None without mistakes.
    share_of_pairs : float or None
        What it would be if mistakes fell on all pairs of classes alike.
    """

    pairs: tuple[Confusion, ...]
    n_images: int
    n_wrong: int
    share_differ_by_one: float | None
    share_of_pairs: float | None


def confusions(
    layer: LastLayer,
    features: ArrayLike,
    labels: ArrayLike,
    predicted: ArrayLike | None = None,
) -> Confusions:
    """Pairs of true and predicted classes, with what decided between them.

    Parameters
    ----------
    layer : LastLayer
    features : array of shape (n_images, n_selected)
        As the head normalises them.
    labels : array of shape (n_images,), int
        True classes.
    predicted : array of shape (n_images,), int, optional
        As the classifier says; by default the largest logits of these features.

    Raises
    ------
    InvalidInputError
        If shapes do not fit, a value is NaN or infinite or a class does not exist.
    """
    matrix = layer.images(features)
    truth = layer.labels(labels, len(matrix))
    found = layer.logits(matrix).argmax(axis=1) if predicted is None else predicted
    guess = layer.labels(found, len(matrix))
    near = contrastive_pairs(layer.weight)
    wrong = np.flatnonzero(truth != guess)
    groups: dict[tuple[int, int], list[int]] = {}
    for i in wrong.tolist():
        groups.setdefault((int(truth[i]), int(guess[i])), []).append(i)
    pairs = [
        _confusion(layer, matrix, images, (truth == t) & (guess == t), t, p, bool(near[t, p]))
        for (t, p), images in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    ]
    n_pairs = layer.n_classes * (layer.n_classes - 1)
    return Confusions(
        pairs=tuple(pairs),
        n_images=len(matrix),
        n_wrong=len(wrong),
        share_differ_by_one=float(near[truth[wrong], guess[wrong]].mean()) if len(wrong) else None,
        share_of_pairs=float(near.sum() / n_pairs) if n_pairs else None,
    )


def _confusion(
    layer: LastLayer,
    features: FloatArray,
    images: list[int],
    is_recognised: np.ndarray,
    true: int,
    predicted: int,
    differ_by_one: bool,
) -> Confusion:
    weight = layer.weight[predicted] - layer.weight[true]
    bias = layer.bias[predicted] - layer.bias[true]
    leads = features[images] @ weight + bias
    mean = features[images].mean(axis=0)
    usual = features[is_recognised].mean(axis=0) if is_recognised.any() else None
    push = weight * (mean if usual is None else mean - usual)
    own = np.flatnonzero(weight)
    terms = tuple(
        ConfusionTerm(
            feature=int(layer.selected[j]),
            position=j,
            weight=float(weight[j]),
            mean=float(mean[j]),
            usual=None if usual is None else float(usual[j]),
            contribution=float(weight[j] * mean[j]),
            push=None if usual is None else float(push[j]),
        )
        for j in own[np.argsort(-push[own], kind="stable")].tolist()
    )
    return Confusion(
        true=true,
        true_name=layer.class_names[true],
        predicted=predicted,
        predicted_name=layer.class_names[predicted],
        count=len(images),
        images=tuple(images[i] for i in np.argsort(-leads, kind="stable").tolist()),
        terms=terms,
        lead=float(leads.mean()),
        differ_by_one=differ_by_one,
    )
