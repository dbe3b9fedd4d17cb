"""Classes as sets of features: what they share and what tells them apart, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class AssignedFeature:
    """A feature of a class.

    Attributes
    ----------
    index : int
        Column of the feature matrix.
    name : str
    mean : float
        Mean over the training samples of the class, in standard deviations from the mean over all
        of them.
    also_of : tuple
        Labels of the other classes that have it.
    """

    index: int
    name: str
    mean: float
    also_of: tuple[Any, ...]


@dataclass(frozen=True)
class SimilarClass:
    """A class that has the feature ``theirs`` instead of ``own`` and shares all others."""

    label: Any
    own: str
    theirs: str


@dataclass(frozen=True)
class ClassExplanation:
    """A class as a set of features; ``str`` makes a small table of it.

    Attributes
    ----------
    label : object
        As in the training labels.
    features : tuple of AssignedFeature
        By index. All have the same weight, so their means add up to the mean logit of the class.
    similar : tuple of SimilarClass
        Classes that differ from this one in a single feature.
    sentence : str
        The features, and what tells the class from the one most like it.
    """

    label: Any
    features: tuple[AssignedFeature, ...]
    similar: tuple[SimilarClass, ...]
    sentence: str

    def __str__(self) -> str:
        width = max(len("feature"), *(len(feature.name) for feature in self.features))
        lines = [self.sentence, f"  {'feature':<{width}}  class mean  also of classes"]
        lines += [
            f"  {feature.name:<{width}}  {feature.mean:>+10.2f}  {_join(feature.also_of)}".rstrip()
            for feature in self.features
        ]
        lines += [
            f"  class {other.label} has {other.theirs} instead of {other.own}"
            for other in self.similar
        ]
        return "\n".join(lines)


def explain_set(
    assignment: BoolArray,
    c: int,
    means: NDArray[np.floating],
    feature_names: Sequence[str],
    labels: Sequence[Any],
) -> ClassExplanation:
    """Explanation of class ``c``.

    Parameters
    ----------
    assignment : ndarray of shape (n_classes, n_features), bool
    c : int
    means : ndarray of shape (n_classes, n_features)
        Mean of every standardised feature over the samples of a class.
    feature_names : sequence of n_features str
    labels : sequence of n_classes labels
    """
    features = tuple(
        AssignedFeature(
            index=d,
            name=feature_names[d],
            mean=float(means[c, d]),
            also_of=tuple(labels[e] for e in np.flatnonzero(assignment[:, d]).tolist() if e != c),
        )
        for d in np.flatnonzero(assignment[c]).tolist()
    )
    similar = []
    for e in np.flatnonzero(shared_features(assignment)[c] == len(features) - 1).tolist():
        (own,) = np.flatnonzero(assignment[c] & ~assignment[e])
        (theirs,) = np.flatnonzero(assignment[e] & ~assignment[c])
        similar.append(SimilarClass(labels[e], feature_names[own], feature_names[theirs]))
    return ClassExplanation(
        label=labels[c],
        features=features,
        similar=tuple(similar),
        sentence=describe_set(assignment, c, feature_names, labels),
    )


def describe_set(
    assignment: BoolArray, c: int, feature_names: Sequence[Any], class_names: Sequence[Any]
) -> str:
    """A class as a set of features, and what tells it from the class most like it.

    For example ``class 3 = features 7, 12, 40; class 8 has 21 instead of 7``. The arguments are
    those of :func:`explain_set`.
    """

    def named(columns: BoolArray) -> str:
        return _join([feature_names[d] for d in np.flatnonzero(columns)])

    mine = assignment[c]
    text = f"class {class_names[c]} = features {named(mine)}"
    shared = shared_features(assignment)[c]
    shared[c] = -1
    closest = int(shared.argmax())
    theirs = assignment[closest]
    if shared[closest] < 1 or not (theirs & ~mine).any():
        return text
    return (
        f"{text}; class {class_names[closest]} has {named(theirs & ~mine)} instead of "
        f"{named(mine & ~theirs)}"
    )


def shared_features(assignment: BoolArray) -> NDArray[np.int64]:
    """Number of features that two classes share, shape (n_classes, n_classes)."""
    counts = assignment.astype(np.int64)
    return counts @ counts.T


def _join(items: Sequence[Any]) -> str:
    return ", ".join(map(str, items))
