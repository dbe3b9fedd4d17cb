"""Classes in words."""

from __future__ import annotations

import numpy as np
import pytest

from qpm_nn.explanations import explain_class, shared_features
from qpm_nn.heads import AssignmentHead, SparseHead

NAMES = ("zero", "one", "two")
SELECTED = [2, 5, 7, 9, 11]
SETS = [[0, 1], [2, 3], [2, 4]]


@pytest.fixture
def head():
    W = np.zeros((3, 5), dtype=bool)
    for c, features in enumerate(SETS):
        W[c, features] = True
    return AssignmentHead(SELECTED, W, np.zeros(5), np.ones(5))


def test_words(head):
    assert explain_class(head, 0, NAMES) == "class zero = features 2, 5"
    assert explain_class(head, 1, NAMES) == (
        "class one = features 7, 9; class two has 11 instead of 9"
    )


@pytest.fixture
def sparse_head():
    weight = np.array([[0.5, 0, -2.25], [0, 0, 0], [0, 0, 0.125]])
    return SparseHead([2, 5, 7], weight, np.zeros(3), np.zeros(3), np.ones(3))


def test_weights_in_words(sparse_head):
    words = [explain_class(sparse_head, c, NAMES) for c in (0, 1)]
    assert words == ["class zero = -2.2 x feature 7, +0.5 x feature 2", "class one = no feature"]


def test_negative_assignments_in_words(head):
    negative = np.zeros((3, 5), dtype=bool)
    negative[1, 2] = negative[0, 1] = True  # class two has feature 7 positively
    head = AssignmentHead(SELECTED, head.assignment, np.zeros(5), np.ones(5), negative=negative)
    assert explain_class(head, 0, NAMES) == "class zero = features 2, -5"
    assert explain_class(head, 1, NAMES) == "class one = features 9, -7"
    assert shared_features(head)[1, 2] == 0
