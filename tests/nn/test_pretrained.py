"""Models in a folder: the same logits, explanations by name, and one sentence for what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qpm_nn import QPMModel, pretrained
from qpm_nn.backbones import create_backbone
from qpm_nn.data import Preprocessing
from qpm_nn.heads import AssignmentHead, Classifier, DenseHead, SparseHead
from qpm_nn.saving import ClassifierSpec, load_classifier
from qpm_opt import InvalidInputError
from tests.nn.conftest import full_disk

SPEC = ClassifierSpec(
    "convnet_tiny", (3, 8, 8), ("ant", "bee", "cow"), Preprocessing((0.1,) * 3, (2.0,) * 3)
)
IMAGES = torch.randint(
    0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


@pytest.fixture
def model() -> QPMModel:
    torch.manual_seed(0)
    W = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]], dtype=bool)
    head = AssignmentHead([3, 50, 99, 127], W, [0.1] * 4, [1.0] * 4)
    return QPMModel(Classifier(create_backbone("convnet_tiny", 3), head), SPEC).eval()


def test_a_folder_holds_the_whole_model(model, tmp_path):
    model.save_pretrained(tmp_path / "new" / "folder")
    assert {p.name for p in (tmp_path / "new" / "folder").iterdir()} == {
        "model.safetensors",
        "model.json",
    }
    loaded = QPMModel.from_pretrained(tmp_path / "new" / "folder")
    assert loaded.spec == SPEC and not loaded.training
    assert torch.equal(loaded(IMAGES), model(IMAGES))
    W = model.classifier.head.weight
    torch.testing.assert_close(loaded.features(IMAGES) @ W.T, model(IMAGES))
    classifier, spec = load_classifier(tmp_path / "new" / "folder" / "model.safetensors")
    assert torch.equal(classifier(spec.preprocessing(IMAGES)), model(IMAGES))


@pytest.mark.parametrize("use", ["forward", "features", "explain"])
def test_images_that_are_scaled_already_are_refused(model, use):
    with pytest.raises(InvalidInputError, match=r"torch\.float32; uint8 was expected"):
        getattr(model, use)(IMAGES / 255)


def test_many_images_go_through_in_batches(model, monkeypatch):
    model.calibrate(IMAGES, torch.arange(5) % 3, method="lac")
    sets = model.predict_set(IMAGES)
    tree = model.explain(IMAGES).tree(4, "global").to_dict()
    activations, sizes = model.classifier.activations, []
    monkeypatch.setattr(pretrained, "BATCH_SIZE", 2)
    monkeypatch.setattr(
        model.classifier, "activations", lambda x: sizes.append(len(x)) or activations(x)
    )
    model.calibrate(IMAGES, torch.arange(5) % 3, method="lac")
    assert torch.equal(model.predict_set(IMAGES), sets)
    assert model.explain(IMAGES).tree(4, "global").to_dict() == tree
    assert sizes == [2, 2, 1] * 3


def test_classes_in_words(model):
    assert model.explain_class("bee") == model.explain_class(1)
    assert model.explain_class(1).startswith("class bee = features 50, 99")
    compared = model.compare("ant", 1)
    assert compared == ("ant", "bee", [50], [3], [99])
    assert str(compared) == "ant and bee share features 50; ant alone has 3, bee alone has 99"
    assert "share features none" in str(model.compare(0, 2))
    with pytest.raises(InvalidInputError, match=r"no class .bea..*mean bee"):
        model.explain_class("bea")
    for c in (3, -1):
        with pytest.raises(InvalidInputError, match="labels from 0 to 2"):
            model.compare(0, c)
    assert model.compare(np.int64(0), torch.tensor(1)) == compared
    for c in (1.5, None, [1], True):
        with pytest.raises(InvalidInputError, match=r"The class is .*whole number, or a name"):
            model.explain_class(c)
        with pytest.raises(InvalidInputError, match=r"The class is .*whole number, or a name"):
            model.compare(0, c)


def test_a_feature_for_one_class_and_against_another_is_not_shared():
    W = np.array([[1, 1, 0], [0, 1, 1], [1, 1, 0]], dtype=bool)
    negative = np.zeros((3, 3), dtype=bool)
    negative[1, 1] = True
    head = AssignmentHead([3, 50, 99], W, [0.1] * 3, [1.0] * 3, negative=negative)
    model = QPMModel(Classifier(create_backbone("convnet_tiny", 3), head), SPEC)
    assert model.compare("ant", "bee") == ("ant", "bee", [], [3, 50], [50, 99])
    assert model.explain_class("bee") == "class bee = features 99, -50"


def test_classes_of_weighted_features():
    weight = [[0.5, -2.0, 0.0], [1.0, 0.25, 0.0], [0.0, 0.0, 0.0]]
    head = SparseHead([3, 50, 99], weight, np.ones(3), [0.1] * 3, [1.0] * 3)
    model = QPMModel(Classifier(create_backbone("convnet_tiny", 3), head), SPEC)
    assert model.explain_class("ant") == "class ant = -2 x feature 50, +0.5 x feature 3"
    assert model.compare("ant", "bee") == ("ant", "bee", [3], [50], [50])
    assert model.compare("bee", 2) == ("bee", "cow", [], [3, 50], [])


def test_dense_models_have_no_sets():
    dense = QPMModel(Classifier(create_backbone("convnet_tiny", 3), DenseHead(128, 3)), SPEC)
    for explain in (dense.explain_class, lambda c: dense.compare(c, 1)):
        with pytest.raises(InvalidInputError, match="no assignment: it is dense"):
            explain(0)


def test_a_full_disk_leaves_the_old_model(model, tmp_path):
    model.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = QPMModel(model.classifier, ClassifierSpec(**(vars(SPEC) | {"class_names": ("x",) * 3})))
    with full_disk(10_000), pytest.raises(OSError, match=r"too large: .*model\.safetensors"):
        other.save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_no_model_is_one_sentence(tmp_path):
    with pytest.raises(InvalidInputError, match=r"model\.json does not exist"):
        QPMModel.from_pretrained(tmp_path)
