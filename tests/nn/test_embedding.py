"""Frozen backbones: what is trained, cached embeddings, and a whole run on them."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from qpm_nn.backbones import FrozenBackbone, create_backbone, map_shape
from qpm_nn.config import AdapterConfig
from qpm_nn.config_layers import make_config
from qpm_nn.data import load_data
from qpm_nn.embedding import EmbeddedData, EmbeddedSet, trained_part, write_embeddings
from qpm_nn.heads import Classifier, DenseHead
from qpm_nn.metrics import accuracy
from qpm_nn.pipelines.observer import Observer
from qpm_nn.pipelines.run import run
from qpm_nn.saving import load_classifier
from qpm_opt import InvalidInputError
from tests.nn.conftest import tiny_config


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return create_backbone("convnet_tiny", 3, adapter=(16, 8))


@pytest.fixture(scope="module")
def data(tree):
    return load_data(str(tree), image_size=8)


@pytest.fixture
def embedded(backbone, data, tmp_path):
    paths = []
    for name, images in (("train", data.train), ("test", data.test)):
        paths.append(tmp_path / f"{name}.npy")
        write_embeddings(paths[-1], backbone, images, data.preprocessing)
    return EmbeddedData.of(data, *paths)


def test_only_the_adapter_is_trained(backbone):
    backbone.train()
    before = {name: value.clone() for name, value in backbone.body.state_dict().items()}
    maps = backbone(torch.randn(4, 3, 8, 8))
    assert maps.shape == (4, 8, 8, 8) and (maps >= 0).all() and (maps > 0).any()
    maps.sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.adapter.parameters())
    assert all(parameter.grad is None for parameter in backbone.body.parameters())
    for name, value in backbone.body.state_dict().items():  # statistics of normalisations, too
        assert torch.equal(value, before[name])
    assert backbone.adapter.training and not backbone.body.training


def test_the_adapter_treats_all_places_alike(backbone):
    embeddings = torch.randn(2, 128, 3, 3)
    adapter = backbone.eval().adapter
    torch.testing.assert_close(
        adapter(embeddings)[:, :, 1:2, 2:], adapter(embeddings[:, :, 1:2, 2:])
    )


def test_the_published_adapter_has_its_size():
    adapter = AdapterConfig().widths
    assert adapter == (2048, 2048, 2048, 512)
    with torch.device("meta"):
        body = create_backbone("convnet_tiny", 3)
        body.n_features = 768  # of the base transformer
        found = FrozenBackbone(body, adapter).adapter
    assert sum(parameter.numel() for parameter in found.parameters()) == pytest.approx(
        11.03e6, 1e-3
    )
    assert map_shape("convnet_tiny", (3, 8, 8), adapter=adapter) == (512, 8, 8)


def test_embeddings_are_those_of_the_frozen_network_in_order(backbone, data, embedded):
    expected = backbone.eval().body.embed(data.preprocessing(data.test.images)).half()
    found, labels = embedded.test[:]
    assert found.dtype == torch.float16 and embedded.test.shape == (128, 8, 8)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-2)
    assert torch.equal(labels, data.test.labels)
    part = pickle.loads(pickle.dumps(embedded.test.subset([5, 2, 3]).subset(torch.tensor([1, 0]))))
    assert torch.equal(part[:][0], found[[2, 5]]) and torch.equal(part.labels, labels[[2, 5]])
    assert len(pickle.dumps(embedded.train)) < 4000
    assert not list(Path(embedded.test.path).parent.glob(".*"))


def test_the_trained_part_computes_what_the_whole_does(backbone, data, embedded):
    classifier = Classifier(backbone, DenseHead(8, data.n_classes)).eval()
    part = trained_part(classifier)
    images, embeddings = data.test.images, embedded.test[:][0]
    augmented = embedded.augmentation(embedded.preprocessing.scale(embeddings))
    found = part(embedded.preprocessing.normalise(augmented))
    torch.testing.assert_close(found, classifier(data.preprocessing(images)), atol=1e-3, rtol=1e-2)
    assert part.head is classifier.head
    frozen = sum(parameter.numel() for parameter in backbone.body.parameters())
    n_parameters = [sum(p.numel() for p in model.parameters()) for model in (classifier, part)]
    assert n_parameters[0] == n_parameters[1] + frozen


def test_embeddings_beyond_half_precision_are_refused(backbone, data, tmp_path):
    backbone.body.layers[-2].weight.data.fill_(1e6)
    with pytest.raises(InvalidInputError, match="exceed half precision"):
        write_embeddings(tmp_path / "x.npy", backbone, data.test, data.preprocessing)
    assert not list(tmp_path.iterdir())


def test_the_file_grows_with_the_batches(backbone, data, tmp_path, monkeypatch):
    # A file that is long before it is full has no room on a full disk, and no error tells so.
    monkeypatch.setattr("qpm_nn.embedding.BATCH_SIZE", 2)
    sizes = []
    embed = backbone.embeddings

    def embed_and_look(images):
        sizes.append(sum(path.stat().st_size for path in tmp_path.iterdir()))
        return embed(images)

    monkeypatch.setattr(backbone, "embeddings", embed_and_look)
    write_embeddings(tmp_path / "x.npy", backbone, data.test, data.preprocessing)
    n_batches, n_bytes = len(data.test) // 2, (tmp_path / "x.npy").stat().st_size
    assert len(sizes) == n_batches and sizes[0] == 0
    for i, size in enumerate(sizes):
        assert size <= (i + 0.1) / n_batches * n_bytes


def test_a_full_disk_is_one_sentence(tree, tmp_path):
    alone = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=1m none '{disk}'"
    if (
        not shutil.which("unshare")
        or subprocess.run([*alone, mount], capture_output=True).returncode
    ):
        pytest.skip("no file system can be mounted here")
    weights, settings = tmp_path / "weights.safetensors", tmp_path / "settings.toml"
    save_file(create_backbone("convnet_tiny", 3).state_dict(), weights)
    config = tiny_config(
        tree, weights=str(weights), frozen=True, data={"name": str(tree), "image_size": 32}
    )
    settings.write_text(config.to_toml(), encoding="utf-8")
    run_there = (
        f"{mount} && cd '{disk}' || exit 9; '{sys.executable}' -m qpm_opt run --config "
        f"'{settings}' --out run; code=$?; ls -A run/embeddings; exit $code"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "500"}
    process = subprocess.run(
        [*alone, run_there], capture_output=True, text=True, env=os.environ | environment
    )
    assert process.returncode == 1, process.stderr
    assert "No space left on device" in process.stderr and "train.npy" in process.stderr
    assert "Traceback" not in process.stderr and not process.stdout


def test_other_embeddings_are_another_data_set(embedded, tmp_path):
    path = tmp_path / "other.npy"
    array = np.load(embedded.test.path)
    array[3, 2, 1, 0] += 1
    np.save(path, array)
    others = EmbeddedData.of(embedded, embedded.train.path, path)
    same = EmbeddedData.of(embedded, embedded.train.path, embedded.test.path)
    assert others.sha256 != embedded.sha256 == same.sha256
    assert isinstance(others.test, EmbeddedSet)


class Ended(BaseException):
    """A run has shown enough."""


class Recorder(Observer):
    """Which stages ran, the last of which is not let run."""

    def __init__(self, last):
        self.ran, self.last = [], last

    def stage(self, name):
        self.ran.append(name)
        if name == self.last:
            raise Ended

    def reused(self, name):
        self.ran.remove(name)


def test_a_run_on_a_frozen_transformer(tree, tmp_path):
    pytest.importorskip("timm", reason="needs the extra timm")
    torch.manual_seed(5)
    weights = create_backbone("timm:test_vit", 3).network.state_dict()
    path = tmp_path / "vit.safetensors"
    save_file(weights, path)
    settings = {
        "arch": "timm:test_vit",
        "weights": str(path),
        "frozen": True,
        "adapter": {"depth": 2, "width": 32, "n_features": 16},
        "data": {"name": str(tree), "image_size": 32},
    }
    out = tmp_path / "run"

    def run_with(last="", **changes):
        recorder = Recorder(last)
        with contextlib.suppress(Ended):
            run(tiny_config(tree, **settings | changes), out, observer=recorder)
        return recorder.ran

    assert run_with()[:3] == ["embeddings", "dense", "features"]
    assert np.load(out / "embeddings" / "train.npy", mmap_mode="r").shape[1:] == (64, 2, 2)

    classifier, spec = load_classifier(out / "model.safetensors")
    assert spec.adapter == (32, 16) and spec.weights == str(path)
    for name, tensor in weights.items():
        assert torch.equal(classifier.backbone.body.network.state_dict()[name], tensor)
    # The saved model takes images; it was measured on embeddings in half precision.
    data = load_data(str(tree), image_size=32)
    logits = classifier(spec.preprocessing(data.test.images))
    metrics = json.loads((out / "metrics.json").read_text())
    one_image = 1 / len(data.test)
    found = accuracy(logits, data.test.labels)
    assert metrics["qpm"]["accuracy"] == pytest.approx(found, abs=1.01 * one_image)

    assert run_with() == []
    other = {"depth": 1, "width": 32, "n_features": 16}
    assert run_with("features", adapter=other) == ["dense", "features"]
    weights["pos_embed"] += 0.1
    save_file(weights, path)
    assert run_with("features") == ["embeddings", "dense", "features"]
    tensors = load_file(out / "dense.safetensors")
    assert torch.equal(tensors["backbone.body.network.pos_embed"], weights["pos_embed"])


def test_the_settings_of_a_frozen_run_are_kept():
    config = make_config({"frozen": True, "adapter": {"depth": 1, "n_features": 40}})
    assert config.adapter.widths == (40,)
    assert "frozen = true" in config.to_toml() and "[adapter]" in config.to_toml()
