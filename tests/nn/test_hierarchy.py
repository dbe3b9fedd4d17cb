"""Features of the classes sorted by an image, and how deep classes agree with the prediction."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qpm_nn.hierarchy import shared_depth, sort_features
from qpm_opt import InvalidInputError
from tests.nn.feature_tables import ASSIGNMENT


def test_features_of_a_class_stand_strongest_first():
    found = sort_features(torch.tensor([[0.5, 3.0, 1.0, -2.0, 1.0]]), ASSIGNMENT)
    assert found.features[0].tolist() == [[1, 2, 0], [1, 0, 3], [2, 4, 3], [2, 4, 0]]
    assert found.values[0].tolist() == [[3, 1, 0.5], [3, 0.5, 0], [1, 1, 0], [1, 1, 0.5]]


def test_depth_counts_the_leading_features_that_agree():
    found = sort_features(torch.tensor([[2.0, 3.0, 1.0, 0.5, 0.1]]), ASSIGNMENT)
    depth = shared_depth(found, torch.tensor([0]))
    # 0: 1 0 2; 1: 1 0 3; 2: 2 3 4; 3: 0 2 4.
    assert depth.tolist() == [[3, 2, 0, 0]]


def test_inactive_features_are_not_shared_and_the_prediction_is_the_deepest():
    found = sort_features(torch.zeros(1, 5), ASSIGNMENT)
    assert shared_depth(found, torch.tensor([2])).tolist() == [[0, 0, 3, 0]]
    found = sort_features(torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0]]), ASSIGNMENT)
    assert shared_depth(found, torch.tensor([0])).tolist() == [[3, 1, 0, 1]]


@given(
    hnp.arrays(float, (6, 5), elements=st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0])),
    st.integers(0, 3),
)
def test_definition(values, predicted):
    found = sort_features(torch.from_numpy(values), ASSIGNMENT)
    depth = shared_depth(found, torch.full((6,), predicted))
    for i, row in enumerate(values.clip(min=0)):
        order = [
            sorted(torch.nonzero(own).flatten().tolist(), key=lambda d: (-row[d], d))
            for own in ASSIGNMENT
        ]
        assert found.features[i].tolist() == order
        for c, mine in enumerate(order):
            expected = 0
            while (
                expected < 3
                and mine[expected] == order[predicted][expected]
                and row[mine[expected]] > 0
            ):
                expected += 1
            assert depth[i, c] == (3 if c == predicted else expected)


def test_no_images():
    found = sort_features(torch.zeros(0, 5), ASSIGNMENT)
    assert found.values.shape == (0, 4, 3)
    assert shared_depth(found, torch.zeros(0, dtype=torch.int64)).shape == (0, 4)


@pytest.mark.parametrize(
    ("features", "assignment"),
    [
        (torch.zeros(2, 4), ASSIGNMENT),
        (torch.zeros(5), ASSIGNMENT),
        (torch.full((1, 5), torch.nan), ASSIGNMENT),
        (torch.zeros(2, 5), ASSIGNMENT & (torch.arange(4) < 1)[:, None]),
        (torch.zeros(2, 5), torch.tensor([[1, 1, 0, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.bool)),
        (torch.zeros(2, 5), torch.zeros(0, 5, dtype=torch.bool)),
    ],
)
def test_unusable_input(features, assignment):
    with pytest.raises(InvalidInputError):
        sort_features(features, assignment)
