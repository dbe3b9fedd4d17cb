"""Weights from files and from publishers, and what does not fit."""

from __future__ import annotations

from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from qpm_nn.backbones import classification_layer, create_backbone, weights_key
from qpm_nn.data import Preprocessing
from qpm_nn.heads import Classifier, DenseHead
from qpm_nn.pipelines.run import run
from qpm_nn.saving import ClassifierSpec, save_classifier
from qpm_opt import InvalidInputError
from tests.nn.conftest import tiny_config


def same(first: torch.nn.Module, second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.state_dict().items())


@pytest.fixture(scope="module")
def resnet18():
    torch.manual_seed(1)
    return models.resnet18(weights=None).state_dict()


@pytest.mark.parametrize("kind", ["safetensors", "pth", "checkpoint", "several devices"])
def test_files_in_the_names_of_torchvision(resnet18, tmp_path, kind):
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    if kind == "safetensors":
        save_file(resnet18, path)
    elif kind == "pth":
        torch.save(resnet18, path)
    else:
        prefix = "module." if kind == "several devices" else ""
        prefixed = {prefix + name: tensor for name, tensor in resnet18.items()}
        torch.save({"epoch": 3, "state_dict": prefixed}, path)
    backbone = create_backbone("resnet18", 3, weights=path, reduced_strides=True)
    assert same(backbone.network, resnet18)


def test_old_files_without_counts_of_batches(resnet18, tmp_path):
    old = {name: t for name, t in resnet18.items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    backbone = create_backbone("resnet18", 3, weights=tmp_path / "old.pth")
    assert torch.equal(backbone.network.layer4[1].bn2.weight, old["layer4.1.bn2.weight"])


@pytest.mark.parametrize(("name", "n_channels"), [("resnet18", 3), ("convnet_tiny", 1)])
def test_a_classifier_gives_its_backbone(name, n_channels, tmp_path):
    backbone = create_backbone(name, n_channels)
    path = tmp_path / "dense.safetensors"
    spec = ClassifierSpec(name, (n_channels, 8, 8), ("a", "b"), Preprocessing((0.0,), (1.0,)))
    save_classifier(path, Classifier(backbone, DenseHead(backbone.n_features, 2)), spec)
    assert same(create_backbone(name, n_channels, weights=path), backbone.state_dict())


@pytest.mark.parametrize("name", ["resnet18", "swin_t", "inception_v3"])
def test_the_classification_layer_of_torchvision(name, tmp_path):
    options = {"init_weights": False} if name == "inception_v3" else {}
    published = models.get_model(name, weights=None, num_classes=3, **options)
    torch.save(published.state_dict(), tmp_path / "weights.pth")
    backbone = create_backbone(name, 3)
    weight, bias = classification_layer(backbone, tmp_path / "weights.pth", name, 3)
    layer = published.head if name == "swin_t" else published.fc
    assert torch.equal(weight, layer.weight) and torch.equal(bias, layer.bias)


def test_the_classification_layer_of_our_own_dense_model(tmp_path):
    backbone = create_backbone("convnet_tiny", 1)
    path, head = tmp_path / "dense.safetensors", DenseHead(backbone.n_features, 2)
    spec = ClassifierSpec("convnet_tiny", (1, 8, 8), ("a", "b"), Preprocessing((0.0,), (1.0,)))
    save_classifier(path, Classifier(backbone, head), spec)
    weight, bias = classification_layer(backbone, path, "convnet_tiny", 2)
    assert torch.equal(weight, head.linear.weight) and torch.equal(bias, head.linear.bias)


def test_classification_layers_that_do_not_fit(resnet18, tmp_path):
    backbone, path = create_backbone("resnet18", 3), tmp_path / "weights.pth"
    torch.save(resnet18, path)
    with pytest.raises(InvalidInputError, match=r"of 4 classes .* weight has shape \(1000, 512\);"):
        classification_layer(backbone, path, "resnet18", 4)
    torch.save(resnet18 | {"fc.weight": torch.zeros(4, 2048)}, path)
    with pytest.raises(InvalidInputError, match=r"the 512 features .* shape \(4, 2048\); train"):
        classification_layer(backbone, path, "resnet18", 4)
    torch.save({n: t for n, t in resnet18.items() if not n.startswith("fc.")}, path)
    with pytest.raises(InvalidInputError, match="was expected, but there is none; train the dense"):
        classification_layer(backbone, path, "resnet18", 1000)
    own = create_backbone("convnet_tiny", 3)
    torch.save(own.state_dict(), path)
    with pytest.raises(InvalidInputError, match="but there is none"):
        classification_layer(own, path, "convnet_tiny", 4)
    torch.save({n: t for n, t in resnet18.items() if n != "fc.bias"}, path)
    assert not classification_layer(backbone, path, "resnet18", 1000)[1].any()


def test_published_weights_are_the_first_version(resnet18, monkeypatch):
    def download(url, **options):
        assert url.endswith("resnet18-f37072fd.pth") and options["check_hash"]
        return resnet18

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    assert same(create_backbone("resnet18", 3, weights="imagenet").network, resnet18)


def test_without_network_the_message_says_what_to_fetch(monkeypatch):
    def download(url, **options):
        raise URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    with pytest.raises(InvalidInputError, match=r"fetch https.*resnet18.*give that file"):
        create_backbone("resnet18", 3, weights="imagenet")
    with pytest.raises(InvalidInputError, match="has no published weights"):
        create_backbone("convnet_tiny", 3, weights="imagenet")


def test_what_does_not_fit_is_named_and_changes_nothing(resnet18, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(resnet18 | {"conv1.bias": torch.zeros(64), "fc.more": torch.zeros(1)}, path)
    with pytest.raises(InvalidInputError, match=r"into resnet18: it has unknown conv1.bias; take"):
        create_backbone("resnet18", 3, weights=path)
    torch.save(models.resnet34(weights=None).state_dict(), path)
    with pytest.raises(InvalidInputError, match=r"unknown layer1.2.conv1.weight, .* and \d+ more;"):
        create_backbone("resnet18", 3, weights=path)
    torch.save({n: t for n, t in resnet18.items() if not n.startswith("layer4.0.conv")}, path)
    lacks = "it lacks layer4.0.conv1.weight, layer4.0.conv2.weight;"
    with pytest.raises(InvalidInputError, match=lacks):
        create_backbone("resnet18", 3, weights=path)
    torch.save(resnet18 | {"conv1.weight": torch.zeros(64, 1, 7, 7)}, path)
    shapes = r"has conv1.weight of shape \(64, 1, 7, 7\) instead of \(64, 3, 7, 7\)"
    with pytest.raises(InvalidInputError, match=shapes):
        create_backbone("resnet18", 3, weights=path)


@pytest.mark.parametrize(("normalisation", "n_warnings"), [("dataset", 1), ("imagenet", 0)])
def test_a_run_warns_of_the_normalisation(tree, tmp_path, caplog, normalisation, n_warnings):
    data = {"name": str(tree), "image_size": 8, "normalisation": normalisation}
    config = tiny_config(tree, data=data, weights="imagenet")
    with pytest.raises(InvalidInputError, match="has no published weights"):
        run(config, tmp_path / "run")
    assert len([r for r in caplog.records if "--normalisation" in r.message]) == n_warnings


class Surprise:
    """What unpickles to a call."""

    def __reduce__(self):
        return print, ("executed",)


def test_files_that_are_no_weights(tmp_path, capsys):
    path = tmp_path / "weights.pth"
    for content in (Surprise(), {"a": Surprise()}):
        torch.save(content, path)
        with pytest.raises(InvalidInputError, match="holds more than tensors"):
            create_backbone("convnet_tiny", 3, weights=path)
    assert "executed" not in capsys.readouterr().out
    for content in ([torch.zeros(1)], {"a": 1}):
        torch.save(content, path)
        with pytest.raises(InvalidInputError, match="holds no state dict"):
            create_backbone("convnet_tiny", 3, weights=path)
    for name in ("weights.pth", "weights.safetensors"):
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(InvalidInputError, match=name):
            create_backbone("convnet_tiny", 3, weights=tmp_path / name)
        with pytest.raises(InvalidInputError, match="do not exist"):
            create_backbone("convnet_tiny", 3, weights=tmp_path / "none" / name)


def test_weights_count_by_their_content(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"1")
    second.write_bytes(b"1")
    assert weights_key(first) == weights_key(str(second)) != weights_key("imagenet")
    second.write_bytes(b"2")
    assert weights_key(first) != weights_key(second)
    with pytest.raises(InvalidInputError, match="weights 'imagnet' cannot be read"):
        weights_key("imagnet")
