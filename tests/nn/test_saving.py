"""Saved classifiers compute the same, and damaged ones are refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from qpm_nn.backbones import create_backbone
from qpm_nn.data import Framing, Preprocessing
from qpm_nn.heads import AssignmentHead, Classifier, DenseHead, SparseHead
from qpm_nn.saving import ClassifierSpec, load_classifier, save_classifier
from qpm_opt import InvalidInputError

SPEC = ClassifierSpec(
    "convnet_tiny",
    (3, 8, 8),
    ("a", "b"),
    Preprocessing((0.1, 0.2, 0.3), (1.0, 2.0, 3.0), Framing("squash", True, 20)),
    (("kind", "kingdom"), ("other", "kingdom")),
)


def dense_head() -> DenseHead:
    return DenseHead(128, 2, dropout=0.25)


def assignment_head() -> AssignmentHead:
    assignment = np.array([[True, True, False], [False, True, True]])
    return AssignmentHead([3, 50, 127], assignment, [0.1, 0.2, 0.3], [1, 2, 3], dropout=0.25)


def sparse_head() -> SparseHead:
    weight = np.array([[0.5, -0.25, 0], [0, 0, 1.5]])
    return SparseHead([3, 50, 127], weight, [1, -1], [0.1, 0.2, 0.3], [1, 2, 3], dropout=0.25)


def negative_head() -> AssignmentHead:
    assignment = np.array([[True, True, False], [False, True, True]])
    negative = np.array([[True, False, False], [False, False, True]])
    return AssignmentHead([3, 50, 127], assignment, [0.1, 0.2, 0.3], [1, 2, 3], 0.25, negative)


@pytest.mark.parametrize("make_head", [dense_head, assignment_head, negative_head, sparse_head])
def test_round_trip_gives_equal_logits(make_head, tmp_path):
    torch.manual_seed(0)
    classifier = Classifier(create_backbone("convnet_tiny", 3), make_head())
    images = torch.randn(5, 3, 8, 8)
    classifier(images)  # batch normalisation gets statistics of its own
    save_classifier(tmp_path / "model.safetensors", classifier, SPEC)
    loaded, spec = load_classifier(tmp_path / "model.safetensors")
    assert spec == SPEC
    assert not loaded.training and loaded.head.dropout.p == 0.25
    assert torch.equal(loaded(images), classifier.eval()(images))


def test_the_backbone_is_rebuilt_with_its_strides(tmp_path):
    spec = replace(SPEC, arch="resnet_small", reduced_strides=True, weights="imagenet")
    backbone = create_backbone("resnet_small", 3, reduced_strides=True)
    classifier = Classifier(backbone, DenseHead(256, 2)).eval()
    save_classifier(tmp_path / "model.safetensors", classifier, spec)
    loaded, read = load_classifier(tmp_path / "model.safetensors")
    images = torch.randn(2, 3, 8, 8)
    assert read == spec
    assert torch.equal(loaded.activations(images).maps, classifier.activations(images).maps)


def test_models_of_the_first_format_are_read(tmp_path):
    path = tmp_path / "model.safetensors"
    save_classifier(path, Classifier(create_backbone("convnet_tiny", 3), dense_head()), SPEC)
    record = json.loads(path.with_suffix(".json").read_text())
    for later in ("hierarchy", "weights", "reduced_strides", "adapter", "weights_sha256"):
        del record[later]
    del record["preprocessing"]["framing"]
    path.with_suffix(".json").write_text(json.dumps(record | {"format": "qpm-model/1"}))
    _, spec = load_classifier(path)
    assert spec.hierarchy == () and spec.preprocessing.framing == Framing()
    assert spec.preprocessing.mean == SPEC.preprocessing.mean


def test_damaged_models_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(InvalidInputError, match="does not exist"):
        load_classifier(path)
    save_classifier(path, Classifier(create_backbone("convnet_tiny", 3), dense_head()), SPEC)
    description = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(description | {"arch": "convnet_small"}))
    with pytest.raises(InvalidInputError, match="do not describe a classifier together"):
        load_classifier(path)
    for head in ("sparse", "other"):
        path.with_suffix(".json").write_text(json.dumps(description | {"head": head}))
        with pytest.raises(InvalidInputError, match="do not describe a classifier together"):
            load_classifier(path)
    preprocessing = description["preprocessing"]
    for wrong in (
        {"arch": 3},
        {"arch": None},
        {"image_shape": []},
        {"class_names": 2},
        {"preprocessing": preprocessing | {"mean": ["a", "b", "c"]}},
        {"preprocessing": preprocessing | {"std": [1.0, 2.0]}},
    ):
        path.with_suffix(".json").write_text(json.dumps(description | wrong))
        with pytest.raises(InvalidInputError, match="do not describe a classifier together"):
            load_classifier(path)
    path.with_suffix(".json").write_text(json.dumps(description | {"format": "other"}))
    with pytest.raises(InvalidInputError, match='"format" is not'):
        load_classifier(path)
    path.with_suffix(".json").write_text(json.dumps(description))
    path.write_bytes(b"nothing")
    with pytest.raises(InvalidInputError, match="cannot be read as a classifier"):
        load_classifier(path)


def test_files_of_two_models_are_told_apart(tmp_path):
    for name in ("one", "other"):
        classifier = Classifier(create_backbone("convnet_tiny", 3), dense_head())
        save_classifier(tmp_path / name / "model.safetensors", classifier, SPEC)
    (tmp_path / "one" / "model.json").replace(tmp_path / "other" / "model.json")
    with pytest.raises(InvalidInputError, match="belongs to another model"):
        load_classifier(tmp_path / "other" / "model.safetensors")


def test_every_class_has_a_name(tmp_path):
    classifier = Classifier(create_backbone("convnet_tiny", 3), dense_head())
    path = tmp_path / "model.safetensors"
    with pytest.raises(InvalidInputError, match="3 class names, but the head has 2 classes"):
        save_classifier(path, classifier, replace(SPEC, class_names=("a", "b", "c")))
    assert not path.exists()
