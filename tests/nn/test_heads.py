"""Heads, and what stays fixed in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qpm_nn.backbones import create_backbone
from qpm_nn.heads import AssignmentHead, Classifier, DenseHead
from qpm_opt import Assignment, InvalidInputError


def assignment_head(dropout: float = 0.0) -> AssignmentHead:
    assignment = Assignment.from_indices([1, 3, 4], [[1, 3], [3, 4], [1, 4]], n_features=6)
    mean, std = np.arange(6) / 10, np.arange(1, 7) / 2
    return AssignmentHead.from_assignment(assignment, mean, std, dropout)


def test_logits_are_sums_of_assigned_normalised_features():
    maps = torch.rand(4, 6, 3, 3, generator=torch.Generator().manual_seed(0))
    logits, features, selected_maps = assignment_head().eval()(maps)
    pooled = maps.mean((2, 3))
    z = {d: (pooled[:, d] - d / 10) / ((d + 1) / 2) for d in (1, 3, 4)}
    expected = torch.stack([z[1] + z[3], z[3] + z[4], z[1] + z[4]], 1)
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(features, torch.stack([z[1], z[3], z[4]], 1))
    assert torch.equal(selected_maps, maps[:, [1, 3, 4]])


def test_nothing_in_an_assignment_head_is_trained():
    head = assignment_head(dropout=0.1)
    assert not list(head.parameters())
    assert set(head.state_dict()) == {"selected", "assignment", "mean", "std"}
    assert set(head.weight.unique().tolist()) == {0.0, 1.0}


def test_dropout_makes_a_feature_average():
    head = assignment_head(dropout=0.5).train()
    torch.manual_seed(0)
    logits, features, _ = head(torch.rand(1, 6, 2, 2).expand(64, -1, -1, -1))
    alternatives = {0.0, 2 * features[0, 0].item(), 2 * features[0, 1].item()}
    alternatives.add(2 * (features[0, 0] + features[0, 1]).item())
    assert {round(v, 4) for v in logits[:, 0].tolist()} == {round(v, 4) for v in alternatives}


def test_unusable_heads_are_refused():
    with pytest.raises(InvalidInputError, match="every std positive"):
        AssignmentHead([0, 1], np.eye(2, dtype=bool), [0, 0], [1, 0])
    with pytest.raises(InvalidInputError, match="assignment has shape"):
        AssignmentHead([0, 1], np.ones((2, 3), bool), [0, 0], [1, 1])


def test_classifier_forward_is_the_logits():
    backbone = create_backbone("convnet_tiny", 1)
    classifier = Classifier(backbone, DenseHead(backbone.n_features, 5)).eval()
    images = torch.randn(3, 1, 8, 8)
    activations = classifier.activations(images)
    assert torch.equal(classifier(images), activations.logits)
    torch.testing.assert_close(activations.features, activations.maps.mean((2, 3)))
