"""A class in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qpm_nn import class_sets
from qpm_nn.heads import AssignmentHead, SparseHead


def class_features(head: AssignmentHead, c: int) -> list[int]:
    """Features of class ``c``, for or against it, by their index in the backbone, ascending."""
    return head.selected[head.assignment[c]].tolist()


def explain_class(head: AssignmentHead | SparseHead, c: int, class_names: Sequence[str]) -> str:
    """A class as a set of features, and what tells it from the class most like it.

    For example ``class 3 = features 7, 12, -40; class 8 has 21 instead of 7``, where feature 40
    counts against class 3. Of a sparse head the weights, the largest first: ``class 3 = +0.52 x
    feature 7, -0.31 x feature 12``; the bias is left out.
    """
    if isinstance(head, SparseHead):
        weight = head.weight[c].cpu().numpy()
        order = np.argsort(-np.abs(weight), kind="stable")[: np.count_nonzero(weight)]
        terms = (f"{weight[i]:+.2g} x feature {int(head.selected[i])}" for i in order)
        return f"class {class_names[c]} = {', '.join(terms) or 'no feature'}"
    features = head.selected.tolist()
    names = [*features, *(f"-{d}" for d in features)]
    return class_sets.describe_set(head.signed_assignment, c, names, class_names)


def shared_features(head: AssignmentHead) -> NDArray[np.int64]:
    """Number of features that two classes share, with the same sign, (n_classes, n_classes)."""
    return class_sets.shared_features(head.signed_assignment)
