"""An assignment in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qpm_nn import class_sets
from qpm_nn.heads import AssignmentHead


def class_features(head: AssignmentHead, c: int) -> list[int]:
    """Features of class ``c`` by their index in the backbone, ascending."""
    return head.selected[head.assignment[c]].tolist()


def explain_class(head: AssignmentHead, c: int, class_names: Sequence[str]) -> str:
    """A class as a set of features, and what tells it from the class most like it.

    For example ``class 3 = features 7, 12, 40; class 8 has 21 instead of 7``.
    """
    assignment = head.assignment.cpu().numpy()
    return class_sets.describe_set(assignment, c, head.selected.tolist(), class_names)


def shared_features(head: AssignmentHead) -> NDArray[np.int64]:
    """Number of features that two classes share, shape (n_classes, n_classes)."""
    return class_sets.shared_features(head.assignment.cpu().numpy())
