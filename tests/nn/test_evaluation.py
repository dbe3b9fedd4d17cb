"""evaluate() against the metrics of activations that are computed all at once."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from qpm_nn import metrics
from qpm_nn.backbones import create_backbone
from qpm_nn.data import LabelledImages, load_data
from qpm_nn.evaluation import evaluate
from qpm_nn.heads import AssignmentHead, Classifier, DenseHead
from qpm_opt import InvalidInputError

ASSIGNMENT = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 1, 0], [1, 1, 0, 0]], bool)


@pytest.fixture(scope="module")
def data(tree):
    return load_data(str(tree), image_size=8)


@pytest.fixture
def classifier(data) -> Classifier:
    """Four selected channels, the last of which no class uses."""
    torch.manual_seed(0)
    backbone = create_backbone("convnet_tiny", data.train.shape[0]).eval()
    maps = backbone(data.preprocessing(data.train.images)).detach()
    pooled = maps.mean((2, 3)).double()
    selected = np.sort(pooled.std(0, correction=0).argsort(descending=True)[:4].numpy())
    mean, std = pooled[:, selected].mean(0), pooled[:, selected].std(0, correction=0)
    return Classifier(backbone, AssignmentHead(selected, ASSIGNMENT, mean, std)).eval()


def test_equals_the_metrics_of_all_images_at_once(classifier, data, monkeypatch):
    monkeypatch.setattr("qpm_nn.extraction.BATCH_SIZE", 5)
    found = evaluate(classifier, data, n_per_class=2)
    with torch.no_grad():
        test = classifier.activations(data.preprocessing(data.test.images))
        train = classifier.activations(data.preprocessing(data.train.images))
    weight = torch.from_numpy(ASSIGNMENT).float()
    of_test, of_train = (weight[a.logits.argmax(1)] for a in (test, train))
    used, labels = train.features[:, :3], data.train.labels
    expected = {
        "accuracy": metrics.accuracy(test.logits, data.test.labels),
        "n_features": 3,
        "features_per_class": 2,
        "contrastive_pair_share": 1,
        "sid@2": metrics.scale_invariant_diversity(test.maps, of_test, 2).mean().item(),
        "diversity@2": metrics.diversity(test.maps, of_test, 2).mean().item(),
        "class_independence": metrics.class_independence(used, labels),
        "contrastiveness": metrics.contrastiveness(used),
        "correlation": metrics.correlation(used),
        "dependence": metrics.dependence(train.features, of_train).mean().item(),
    }
    assert found == pytest.approx(expected, abs=1e-4)


def test_grounding_is_measured_if_there_is_a_ground_truth(classifier, data):
    rng = np.random.default_rng(0)
    attributes, embeddings = rng.random((4, 6)), rng.normal(size=(4, 5))
    found = evaluate(
        classifier, data, n_per_class=2, attributes=attributes, text_embeddings=embeddings
    )
    weight = ASSIGNMENT.astype(float)
    assert found["structural_grounding"] == metrics.structural_grounding(weight, attributes)
    expected = metrics.text_grounding(weight, embeddings)
    assert found["text_grounding"] == (None if math.isnan(expected) else expected)
    with pytest.raises(InvalidInputError, match="attributes has 3 rows"):
        evaluate(classifier, data, n_per_class=2, attributes=attributes[:3])


def test_plausibility_is_measured_if_there_are_masks(classifier, data, monkeypatch):
    monkeypatch.setattr("qpm_nn.extraction.BATCH_SIZE", 5)
    rng = np.random.default_rng(0)
    masks = (rng.random((len(data.test), 1, 16, 16)) < 0.01).astype(np.uint8)
    held = LabelledImages(masks, data.test.labels.numpy())
    found = evaluate(classifier, replace(data, test_masks=held), n_per_class=2)
    with torch.no_grad():
        seen = classifier.activations(data.preprocessing(data.test.images))
    weight = torch.from_numpy(ASSIGNMENT).float()[seen.logits.argmax(1)]
    masks = torch.from_numpy(masks[:, 0])
    share = metrics.plausibility(seen.maps, weight, masks).mean().item()
    chance = metrics.plausibility_by_chance(masks, tuple(seen.maps.shape[2:])).mean().item()
    assert found["plausibility"] == pytest.approx(share, abs=1e-6)
    assert found["plausibility_by_chance"] == pytest.approx(chance)
    assert 0 < share < 1 and 0 < chance < 1
    without = {name: value for name, value in found.items() if "plausibility" not in name}
    assert without == evaluate(classifier, data, n_per_class=2)


def test_masks_that_are_not_of_the_test_images_are_refused(data):
    masks = np.zeros((3, 1, 8, 8), np.uint8)
    with pytest.raises(InvalidInputError, match="3 masks of 1 channels; one of one"):
        replace(data, test_masks=LabelledImages(masks, np.zeros(3, int)))


def test_what_is_not_defined_is_none(classifier, data):
    found = evaluate(classifier, data, n_per_class=3)
    assert found["sid@3"] is None
    assert found["diversity@3"] is None
    assert found["accuracy"] is not None


def test_a_dense_model_with_dead_features(data):
    torch.manual_seed(0)
    backbone = create_backbone("convnet_tiny", data.train.shape[0])
    for parameter in backbone.parameters():
        parameter.data[0] = 0
    found = evaluate(Classifier(backbone, DenseHead(backbone.n_features, 4)), data, n_per_class=2)
    assert found["n_features"] == found["features_per_class"] == backbone.n_features
    assert all(math.isfinite(value) for value in found.values())


def test_a_network_that_diverged_is_named(classifier, data):
    for parameter in classifier.backbone.parameters():
        parameter.data.fill_(math.nan)
    with pytest.raises(InvalidInputError, match="lower learning rate"):
        evaluate(classifier, data, n_per_class=2)
