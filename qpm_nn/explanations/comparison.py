"""Classes side by side: what each has alone, what they share, and an image of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from qpm_nn.explanations.examples import Example
from qpm_nn.explanations.last_layer import LastLayer
from qpm_nn.explanations.plain import PIXELS, PlainData
from qpm_nn.explanations.words import shared_features
from qpm_nn.heads import AssignmentHead
from qpm_opt import InvalidInputError

#: How a feature is spread over the classes: one has it, some, all, or with different signs.
Kind = Literal["unique", "some", "all", "opposed"]


@dataclass(frozen=True, eq=False)
class ComparedClass(PlainData):
    """A class with the image that stands for it.

    Attributes
    ----------
    class_index : int
    class_name : str
    image_index : int or None
        Into the data set; None if the class has no image there.
    is_correct : bool or None
        Whether the image is recognised. If it is not, no image of the class is.
    logit : float or None
        Of the class for its image.
    example : Example or None
    """

    class_index: int
    class_name: str
    image_index: int | None
    is_correct: bool | None
    logit: float | None
    example: Example | None = field(metadata=PIXELS)


@dataclass(frozen=True)
class ComparedFeature(PlainData):
    """A feature of at least one of the classes.

    Attributes
    ----------
    feature : int
        By its index in the backbone.
    position : int
        Its column among the selected ones.
    kind : {"unique", "some", "all", "opposed"}
    weights : tuple of float
        For each class: 0 if it does not have the feature, negative if that counts against it.
    values : tuple of float or None
        The normalised feature in the image of each class.
    """

    feature: int
    position: int
    kind: Kind
    weights: tuple[float, ...]
    values: tuple[float | None, ...]


@dataclass(frozen=True, eq=False)
class ComparedClasses(PlainData):
    """Classes as rows and their features as columns.

    Attributes
    ----------
    classes : tuple of ComparedClass
    features : tuple of ComparedFeature
        Between two classes: those of the first alone, shared ones, opposed ones, those of the
        second alone. Among more: shared by all, by some, opposed, then those of each class alone.
        Ascending within each group.
    """

    classes: tuple[ComparedClass, ...]
    features: tuple[ComparedFeature, ...]


def closest_pair(head: AssignmentHead) -> tuple[int, int]:
    """The first two classes that share the most features: ``n_per_class - 1`` if any do.

    Raises
    ------
    InvalidInputError
        If there is one class only.
    """
    if len(head.assignment) < 2:
        raise InvalidInputError("There is one class only; two were expected to compare.")
    shared = np.triu(shared_features(head) + 1, 1)
    first, second = np.unravel_index(shared.argmax(), shared.shape)
    return int(first), int(second)


def compare_classes(
    layer: LastLayer, classes: Sequence[int], examples: Sequence[Example | None]
) -> ComparedClasses:
    """What tells classes apart, and what they share.

    Parameters
    ----------
    layer : LastLayer
        With any number of features a class, negative weights included.
    classes : sequence of int
        Two or more.
    examples : sequence of Example or None
        Of each class: :func:`~qpm_nn.explanations.example_images`. None where there is no image.

    Raises
    ------
    InvalidInputError
        If there are fewer than two different classes, or not as many examples.
    """
    chosen = [layer.class_index(c) for c in classes]
    if len(chosen) < 2 or len(set(chosen)) < len(chosen):
        raise InvalidInputError(
            f"The classes are {chosen}; two or more different ones were expected."
        )
    if len(examples) != len(chosen):
        raise InvalidInputError(
            f"There are {len(examples)} examples of {len(chosen)} classes; one of each, or None, "
            "was expected."
        )
    values = [None if e is None else layer.image(e.features) for e in examples]
    compared = tuple(
        ComparedClass(
            class_index=c,
            class_name=layer.class_names[c],
            image_index=None if example is None else example.index,
            is_correct=None if example is None else example.is_correct,
            logit=None if seen is None else float(layer.weight[c] @ seen + layer.bias[c]),
            example=example,
        )
        for c, example, seen in zip(chosen, examples, values, strict=True)
    )
    weight = layer.weight[chosen]
    features = [
        ComparedFeature(
            feature=int(layer.selected[j]),
            position=j,
            kind=_kind(np.sign(weight[:, j])),
            weights=tuple(weight[:, j].tolist()),
            values=tuple(None if seen is None else float(seen[j]) for seen in values),
        )
        for j in np.flatnonzero((weight != 0).any(axis=0)).tolist()
    ]
    features.sort(key=lambda column: _group(column, len(chosen)))
    return ComparedClasses(compared, tuple(features))


def _kind(sign: np.ndarray) -> Kind:
    has = sign != 0
    if (sign > 0).any() and (sign < 0).any():
        return "opposed"
    return "unique" if has.sum() == 1 else "all" if has.all() else "some"


def _group(column: ComparedFeature, n_classes: int) -> int:
    """Place of the group of a feature."""
    if column.kind != "unique":
        return ("all", "some", "opposed").index(column.kind)
    owner = next(i for i, weight in enumerate(column.weights) if weight)
    return -1 if n_classes == 2 and owner == 0 else 3 + owner
