"""An assignment in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qpm_nn.heads import AssignmentHead


def class_features(head: AssignmentHead, c: int) -> list[int]:
    """Features of class ``c`` by their index in the backbone, ascending."""
    return head.selected[head.assignment[c]].tolist()


def explain_class(head: AssignmentHead, c: int, class_names: Sequence[str]) -> str:
    """A class as a set of features, and what tells it from the class most like it.

    For example ``class 3 = features 7, 12, 40; class 8 has 21 instead of 7``.
    """
    mine = class_features(head, c)
    text = f"class {class_names[c]} = features {_join(mine)}"
    shared = shared_features(head)[c]
    shared[c] = -1
    closest = int(shared.argmax())
    theirs = class_features(head, closest)
    other = [d for d in theirs if d not in mine]
    own = [d for d in mine if d not in theirs]
    if shared[closest] < 1 or not other:
        return text
    return f"{text}; class {class_names[closest]} has {_join(other)} instead of {_join(own)}"


def shared_features(head: AssignmentHead) -> NDArray[np.int64]:
    """Number of features that two classes share, shape (n_classes, n_classes)."""
    assignment = head.assignment.cpu().numpy().astype(np.int64)
    return assignment @ assignment.T


def _join(features: Sequence[int]) -> str:
    return ", ".join(map(str, features))
