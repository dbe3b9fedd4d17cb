"""Heads, and what stays fixed in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from qpm_nn.backbones import create_backbone
from qpm_nn.heads import AssignmentHead, Classifier, DenseHead, SparseHead
from qpm_opt import Assignment, InvalidInputError, Problem, solve


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


def test_vectors_are_maps_of_one_pixel():
    features = torch.rand(4, 6, generator=torch.Generator().manual_seed(0))
    for head in (assignment_head().eval(), DenseHead(6, 3).eval()):
        of_vectors, of_maps = head(features), head(features[:, :, None, None])
        assert all(map(torch.equal, of_vectors, of_maps))


@pytest.mark.parametrize("method", ["exact", "heuristic"])
def test_head_of_a_solution(tmp_path, method):
    rng = np.random.default_rng(0)
    features, labels = rng.random((60, 7)), np.arange(60) % 3
    problem = Problem.from_features(features, labels, n_selected=4, n_per_class=2)
    result = solve(problem, method=method, time_limit=2.0)
    result.save(tmp_path / "solution.json", problem)
    mean, std = features.mean(0), features.std(0)
    expected = AssignmentHead.from_assignment(result.assignment, mean, std).state_dict()
    for solution in (result, tmp_path / "solution.json", str(tmp_path / "solution.json")):
        found = AssignmentHead.from_solution(solution, mean, std).state_dict()
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    sign = np.where(rng.random((3, 7)) < 0.5, -1, 1)
    weight = AssignmentHead.from_solution(result, mean, std, sign=sign).weight
    chosen = result.assignment.selected
    np.testing.assert_array_equal(weight, (sign * result.assignment.matrix)[:, chosen])
    with pytest.raises(InvalidInputError, match="give mean and std of all of them"):
        AssignmentHead.from_solution(result, mean[:5], std[:5])
    with pytest.raises(InvalidInputError, match=r"shapes \(7,\) and \(6,\)"):
        AssignmentHead.from_solution(tmp_path / "solution.json", mean, std[:6])
    with pytest.raises(InvalidInputError, match="outside the 1 features"):
        AssignmentHead.from_solution(tmp_path / "solution.json", mean[:1], std[:1])
    with pytest.raises(InvalidInputError, match="does not exist"):
        AssignmentHead.from_solution(tmp_path / "none.json", mean, std)
    with pytest.raises(InvalidInputError, match="holds no assignment"):
        AssignmentHead.from_solution(replace(result, assignment=None), mean, std)


def test_nothing_in_an_assignment_head_is_trained():
    head = assignment_head(dropout=0.1)
    assert not list(head.parameters())
    assert set(head.state_dict()) == {"selected", "assignment", "mean", "std"}
    assert set(head.weight.unique().tolist()) == {0.0, 1.0}


def test_negative_assignments_are_subtracted():
    assignment = Assignment.from_indices([1, 3], [[1, 3], [1, 3]], n_features=5)
    sign = np.ones((2, 5))
    sign[1, 3] = sign[0, 0] = -1  # feature 0 is not selected
    head = AssignmentHead.from_assignment(assignment, np.zeros(5), np.ones(5), 0.0, sign).eval()
    features = torch.rand(4, 5)
    expected = features[:, [1, 1]] + features[:, [3, 3]] * torch.tensor([1.0, -1.0])
    torch.testing.assert_close(head(features).logits, expected)
    assert head.signed_assignment.tolist() == [[1, 1, 0, 0], [1, 0, 0, 1]]
    with pytest.raises(InvalidInputError, match="for assigned features only"):
        AssignmentHead([0, 1], np.eye(2, dtype=bool), [0, 0], [1, 1], negative=np.ones((2, 2)))


def test_dropout_makes_a_feature_average():
    head = assignment_head(dropout=0.5).train()
    torch.manual_seed(0)
    logits, features, _ = head(torch.rand(1, 6, 2, 2).expand(64, -1, -1, -1))
    alternatives = {0.0, 2 * features[0, 0].item(), 2 * features[0, 1].item()}
    alternatives.add(2 * (features[0, 0] + features[0, 1]).item())
    assert {round(v, 4) for v in logits[:, 0].tolist()} == {round(v, 4) for v in alternatives}


def sparse_head(dropout: float = 0.0) -> SparseHead:
    weight = np.array([[0.5, 0, -2], [0, 0, 0]])
    return SparseHead([1, 3, 4], weight, [1, -1], [0.1, 0.3, 0.4], [1, 2, 2.5], dropout)


def test_sparse_logits_are_weighted_sums_and_a_bias():
    maps = torch.rand(4, 6, 3, 3, generator=torch.Generator().manual_seed(0))
    logits, features, selected_maps = sparse_head().eval()(maps)
    pooled = maps.mean((2, 3))
    expected = 1 + 0.5 * (pooled[:, 1] - 0.1) - 2 * (pooled[:, 4] - 0.4) / 2.5
    torch.testing.assert_close(logits, torch.stack([expected, torch.full((4,), -1.0)], 1))
    torch.testing.assert_close(features[:, 1], (pooled[:, 3] - 0.3) / 2)
    assert torch.equal(selected_maps, maps[:, [1, 3, 4]])


def test_nothing_in_a_sparse_head_is_trained():
    head = sparse_head()
    assert not list(head.parameters())
    assert set(head.state_dict()) == {"selected", "weight", "bias", "mean", "std"}


def test_unusable_sparse_heads_are_refused():
    with pytest.raises(InvalidInputError, match="every std positive"):
        SparseHead([0, 1], np.eye(2), [0, 0], [0, 0], [1, 0])
    for weight, bias in ((np.ones((2, 3)), [0, 0]), (np.ones((2, 2)), [0]), (np.ones(2), [0])):
        with pytest.raises(InvalidInputError, match=r"\(n_classes, 2\) and \(n_classes,\)"):
            SparseHead([0, 1], weight, bias, [0, 0], [1, 1])


def test_unusable_heads_are_refused():
    with pytest.raises(InvalidInputError, match="every std positive"):
        AssignmentHead([0, 1], np.eye(2, dtype=bool), [0, 0], [1, 0])
    for mean, std in (([0, np.nan], [1, 1]), ([0, 0], [1, np.inf])):
        with pytest.raises(InvalidInputError, match="not finite"):
            AssignmentHead([0, 1], np.eye(2, dtype=bool), mean, std)
    with pytest.raises(InvalidInputError, match="assignment has shape"):
        AssignmentHead([0, 1], np.ones((2, 3), bool), [0, 0], [1, 1])


def test_classifier_forward_is_the_logits():
    backbone = create_backbone("convnet_tiny", 1)
    classifier = Classifier(backbone, DenseHead(backbone.n_features, 5)).eval()
    images = torch.randn(3, 1, 8, 8)
    activations = classifier.activations(images)
    assert torch.equal(classifier(images), activations.logits)
    torch.testing.assert_close(activations.features, activations.maps.mean((2, 3)))


def test_rectified_features_are_inactive_below_their_mean():
    W = np.array([[1, 1, 0], [0, 1, 1]], dtype=bool)
    head = AssignmentHead([0, 1, 2], W, [1.0, 1.0, 1.0], [2.0, 2.0, 2.0], relu=True).eval()
    found = head(torch.tensor([[0.0, 3.0, 5.0]]))
    assert found.features.tolist() == [[0.0, 1.0, 2.0]]
    assert found.logits.tolist() == [[1.0, 3.0]]
