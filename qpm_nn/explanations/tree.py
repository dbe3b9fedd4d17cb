"""The classes as a tree, as one image sorts them: the hierarchical explanation as data.

A node is a beginning of classes' lists of active features, the strongest first; each class hangs
off the node of its last active feature. So a path tells why a class is near to the prediction, and
where they part.

References
----------
CHiQPM: Calibrated Hierarchical Interpretable Image Classification, NeurIPS 2025, eqs. 7 and 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from qpm_nn.hierarchy import shared_depth, sort_features
from qpm_opt import InvalidInputError

Scope = Literal["local", "global"]


@dataclass(frozen=True, slots=True)
class TreeNode:
    """Leading features that the classes below share.

    Attributes
    ----------
    level : int
        How many features that are; 0 at the root.
    feature : int or None
        The last of them, by its index in the backbone; None at the root.
    activation : float or None
        Of this feature, greater than 0; None at the root.
    classes : tuple of int
        Labels below, ascending.
    leaf : tuple of int
        Labels of those that have no other active feature. They are alike to the image.
    children : tuple of TreeNode
        The strongest feature first, of equally strong ones the one with the lowest index.
    has_prediction, has_member : bool
        Whether the prediction, or a class of the prediction set, is below.
    """

    level: int
    feature: int | None
    activation: float | None
    classes: tuple[int, ...]
    leaf: tuple[int, ...]
    children: tuple[TreeNode, ...]
    has_prediction: bool
    has_member: bool

    def to_dict(self) -> dict[str, Any]:
        """The node and those below in lists, dictionaries and plain numbers, for JSON."""
        return {
            "level": self.level,
            "feature": self.feature,
            "activation": self.activation,
            "classes": list(self.classes),
            "leaf": list(self.leaf),
            "has_prediction": self.has_prediction,
            "has_member": self.has_member,
            "children": [child.to_dict() for child in self.children],
        }


@dataclass(frozen=True)
class ClassTree:
    """Hierarchical explanation of one image.

    Attributes
    ----------
    scope : {"local", "global"}
        Whether only the classes that share the strongest active feature of the prediction are in
        the tree, or all. The prediction always is.
    root : TreeNode
    predicted : int
        Label.
    class_names : tuple of str
    levels : tuple of tuple of int
        Entry n: labels of the classes that share n leading features with the prediction, whether
        they are in the tree or not; see :func:`qpm_nn.hierarchy.shared_depth`.
    prediction_set : tuple of int or None
        Labels, ascending; None without a set.
    """

    scope: Scope
    root: TreeNode
    predicted: int
    class_names: tuple[str, ...]
    levels: tuple[tuple[int, ...], ...]
    prediction_set: tuple[int, ...] | None

    @property
    def members_outside(self) -> tuple[int, ...]:
        """Classes of the prediction set that are not in the tree: a local one may lack some."""
        inside = set(self.root.classes)
        return tuple(c for c in self.prediction_set or () if c not in inside)

    def to_dict(self) -> dict[str, Any]:
        """All of it in lists, dictionaries and plain numbers, for JSON."""
        members = self.prediction_set
        return {
            "scope": self.scope,
            "predicted": self.predicted,
            "class_names": list(self.class_names),
            "levels": [list(classes) for classes in self.levels],
            "prediction_set": None if members is None else list(members),
            "root": self.root.to_dict(),
        }


class ClassTrees:
    """Trees of many images: the features are sorted at once, a tree is made when it is asked for.

    Parameters
    ----------
    features : Tensor of shape (n_images, n_selected)
        Normalised features; those at most 0 are inactive.
    predicted : Tensor of shape (n_images,), int
        Labels: the classes with the largest logits.
    assignment : Tensor of shape (n_classes, n_selected), bool
        With equally many features for all classes.
    selected : Tensor of shape (n_selected,), int
        The features by their index in the backbone.
    class_names : sequence of str
    prediction_sets : Tensor of shape (n_images, n_classes), bool, optional

    Raises
    ------
    InvalidInputError
        If shapes do not fit, a feature is not finite, the classes have not equally many features
        or a label is out of range.
    """

    def __init__(
        self,
        features: Tensor,
        predicted: Tensor,
        assignment: Tensor,
        selected: Tensor,
        class_names: Sequence[str],
        prediction_sets: Tensor | None = None,
    ) -> None:
        n_classes, n_selected = assignment.shape
        found = sort_features(features, assignment)
        expected = {
            "predicted": (predicted, (len(features),)),
            "selected": (selected, (n_selected,)),
            "prediction_sets": (prediction_sets, (len(features), n_classes)),
        }
        for name, (given, shape) in expected.items():
            if given is not None and given.shape != shape:
                raise InvalidInputError(
                    f"{name} has shape {tuple(given.shape)}; {shape} was expected."
                )
        if len(class_names) != n_classes:
            raise InvalidInputError(
                f"There are {len(class_names)} class names; {n_classes} were expected."
            )
        if len(features) and not 0 <= predicted.min() <= predicted.max() < n_classes:
            raise InvalidInputError(
                f"predicted goes from {int(predicted.min())} to {int(predicted.max())}; 0 to "
                f"{n_classes - 1} was expected."
            )
        self._depth = shared_depth(found, predicted).cpu()
        self._features, self._values = found.features.cpu(), found.values.cpu()
        self._predicted = predicted.tolist()
        self._selected = selected.tolist()
        self._class_names = tuple(class_names)
        self._sets = None if prediction_sets is None else prediction_sets.cpu()

    def __len__(self) -> int:
        return len(self._predicted)

    def tree(self, i: int, scope: Scope = "local") -> ClassTree:
        """The tree of image ``i``, with the neighbours of its prediction or with all classes."""
        if scope not in ("local", "global"):
            raise InvalidInputError(f"scope is {scope!r}; 'local' or 'global' was expected.")
        depth = self._depth[i]
        levels = tuple(_labels(depth >= n) for n in range(self._features.shape[2] + 1))
        members = None if self._sets is None else _labels(self._sets[i])
        growth = _Growth(
            self._features[i].tolist(),
            self._values[i].tolist(),
            self._selected,
            self._predicted[i],
            frozenset(members or ()),
        )
        root = growth.node(0, levels[1 if scope == "local" else 0], None, None)
        return ClassTree(scope, root, self._predicted[i], self._class_names, levels, members)


def class_tree(
    features: Tensor,
    predicted: int,
    assignment: Tensor,
    selected: Tensor,
    class_names: Sequence[str],
    prediction_set: Tensor | None = None,
    scope: Scope = "local",
) -> ClassTree:
    """Tree of one image: ``features`` (n_selected,), ``prediction_set`` (n_classes,).

    See :class:`ClassTrees`, which is the faster for many.
    """
    sets = None if prediction_set is None else prediction_set[None]
    label = torch.tensor([predicted], device=features.device)
    trees = ClassTrees(features[None], label, assignment, selected, class_names, sets)
    return trees.tree(0, scope)


@dataclass(frozen=True)
class _Growth:
    """What the nodes of one tree are made of; features and values are those of sort_features."""

    features: list[list[int]]
    values: list[list[float]]
    selected: list[int]
    predicted: int
    members: frozenset[int]

    def node(
        self, level: int, classes: tuple[int, ...], feature: int | None, activation: float | None
    ) -> TreeNode:
        """Node of classes that agree in their first ``level`` features."""
        leaf = []
        below: dict[int, list[int]] = {}
        for c in classes:
            if level < len(self.values[c]) and self.values[c][level] > 0:
                below.setdefault(self.features[c][level], []).append(c)
            else:
                leaf.append(c)
        children = [
            self.node(level + 1, tuple(group), self.selected[j], self.values[group[0]][level])
            for j, group in below.items()
        ]
        children.sort(key=lambda child: (-child.activation, child.feature))
        return TreeNode(
            level,
            feature,
            activation,
            classes,
            tuple(leaf),
            tuple(children),
            self.predicted in classes,
            not self.members.isdisjoint(classes),
        )


def _labels(mask: Tensor) -> tuple[int, ...]:
    return tuple(mask.nonzero()[:, 0].tolist())
