"""The dense model alone, and what another model in the same directory does to its files."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from torchvision import models

from qpm_nn.config import MODELS
from qpm_nn.data import load_data
from qpm_nn.heads import DenseHead
from qpm_nn.metrics import accuracy
from qpm_nn.pipelines.run import PIPELINES, calibrate, run
from qpm_nn.saving import load_classifier
from qpm_opt import InvalidInputError
from tests.nn.conftest import Recorder, tiny_config
from tests.nn.test_pipeline import Killed, kill_at


def files(out):
    return {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}


def test_every_model_has_its_pipeline():
    assert PIPELINES.keys() == MODELS.keys()


def test_dense_is_trained_and_measured_and_no_more(tree, tmp_path):
    # Not even the settings of the solver are looked at.
    unused = {"problem": {"bias": "none.npy", "n_per_class": 2}, "solve": {"solver": "none"}}
    out = tmp_path / "run"
    run(tiny_config(tree, model="dense", dense={"epochs": 1}, **unused), out)
    both = {f"{name}.{end}" for name in ("dense", "model") for end in ("safetensors", "json")}
    records = {"config.toml", "versions.json", "stages.json", "log.jsonl", "training.csv", ".lock"}
    assert files(out) == both | records | {"metrics.json"}
    metrics = json.loads((out / "metrics.json").read_text())
    assert list(metrics) == ["dense"] and 0.5 <= metrics["dense"]["sid@2"] <= 1
    classifier, _ = load_classifier(out / "model.safetensors")
    assert isinstance(classifier.head, DenseHead)
    assert (out / "model.safetensors").read_bytes() == (out / "dense.safetensors").read_bytes()


def test_models_share_the_dense_one_and_leave_nothing_of_each_other(tree, tmp_path):
    out = tmp_path / "run"
    options = {"dense": {"epochs": 1}, "finetune": {"epochs": 1}}
    run(tiny_config(tree, **options), out)
    dense, solved = (out / "dense.safetensors").stat().st_mtime_ns, files(out)
    assert {"solution.json", "figures/assignment.png"} <= solved
    run(tiny_config(tree, model="dense", **options), out)
    assert (out / "dense.safetensors").stat().st_mtime_ns == dense
    gone = {"features.npz", "problem.npz", "solution.json", "solution.certificate.npz"}
    gone |= {"predictions.npz", "training_features.npz", "report.html", "report.json"}
    assert solved - files(out) == gone | {f"figures/{n}.png" for n in ("assignment", "comparison")}


def test_a_model_leaves_nothing_of_another_however_it_is_started(tree, tmp_path):
    options = {"dense": {"epochs": 1}, "finetune": {"epochs": 1}}
    config = tiny_config(tree, model="dense", **options)
    old, out = tmp_path / "old", tmp_path / "killed"
    run(tiny_config(tree, **options), old)
    shutil.copytree(old, out)
    run(config, old, resume=False)
    with pytest.raises(Killed):
        run(config, out, observer=kill_at("dense"))  # while the data are hashed
    assert 'model = "qpm"' in (out / "config.toml").read_text()
    run(config, out)
    for folder in (old, out):
        assert 'model = "dense"' in (folder / "config.toml").read_text()
        assert not {"solution.json", "problem.npz", "solution.certificate.npz"} & files(folder)


def test_what_is_made_of_a_dense_model_goes_with_it(tree, tmp_path):
    out = tmp_path / "run"
    config = tiny_config(tree, model="dense", dense={"epochs": 1})
    run(config, out)
    calibrate(out, method="lac")
    (out / "figures").mkdir()
    (out / "figures" / "image_0_representative.png").touch()
    made = {"metrics.json", "calibration.json", "sets.json", "predictions.npz"}
    made.add("figures/image_0_representative.png")
    assert made <= files(out)
    (out / "stages.json").unlink()
    with pytest.raises(Killed):
        run(replace(config, seed=4), out, observer=kill_at("metrics"))
    assert "model.safetensors" in files(out) and not made & files(out)


def test_a_path_that_is_no_text_is_refused(tree, tmp_path):
    config = tiny_config(tree, data={"name": "cub2011", "root": "/images/\udcff"})
    with pytest.raises(InvalidInputError, match=r"^root is a path that is not valid UTF-8"):
        run(config, tmp_path / "run")
    out = tmp_path / "moved"
    run(tiny_config(tree, model="dense", dense={"epochs": 1}), out)
    moved = tmp_path / "\udcff"
    moved.symlink_to(tree)
    with pytest.raises(InvalidInputError, match=r"^name is a path that is not valid UTF-8"):
        calibrate(out, root=moved, method="lac")
    assert "predictions.npz" not in files(out)


@pytest.mark.parametrize("name", ["n_selected", "n_per_class"])
def test_sizes_are_positive(tree, name):
    with pytest.raises(InvalidInputError, match=f"{name} is 0; it must be at least 1"):
        tiny_config(tree, problem={name: 0})


def with_weights(tree, network, path, **changes):
    """Settings of a run whose dense model is a network of torchvision."""
    torch.save(network.state_dict(), path)
    options = {"weights": str(path), "arch": "resnet18", "dense": {"epochs": 0}}
    options["data"] = {"name": str(tree), "image_size": 32, "normalisation": "imagenet"}
    return tiny_config(tree, **{**options, "finetune": {"epochs": 1}, **changes})


@pytest.fixture
def resnet18():
    torch.manual_seed(2)
    return models.resnet18(num_classes=4).eval()


def test_without_epochs_the_dense_model_is_the_published_one(tree, tmp_path, resnet18, caplog):
    out, weights = tmp_path / "run", tmp_path / "weights.pth"
    run(with_weights(tree, resnet18, weights, model="dense"), out)
    assert not (out / "training.csv").exists()
    classifier, spec = load_classifier(out / "dense.safetensors")
    assert isinstance(classifier.head, DenseHead)
    data = load_data(str(tree), image_size=32, normalisation="imagenet")
    with torch.no_grad():
        inputs = spec.preprocessing(data.test.images)
        logits, expected = classifier(inputs), resnet18(inputs)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["dense"]["accuracy"] == accuracy(expected, data.test.labels)
    assert "sees other features" not in caplog.text


def test_a_published_dense_model_is_used_like_a_trained_one(tree, tmp_path, resnet18):
    out, weights = tmp_path / "run", tmp_path / "weights.pth"
    run(with_weights(tree, resnet18, weights), out)
    assert json.loads((out / "metrics.json").read_text()).keys() == {
        "dense",
        "before_finetuning",
        "qpm",
    }
    dense = load_classifier(out / "dense.safetensors")[0]
    assert torch.equal(dense.head.weight, resnet18.fc.weight)
    # How a dense model would have been trained does not count.
    observer = Recorder()
    changed = with_weights(tree, resnet18, weights, dense={"epochs": 0, "batch_size": 4})
    run(changed, out, observer=observer)
    assert observer.ran == []


def test_a_layer_of_other_features_is_taken_with_a_warning(tree, tmp_path, caplog):
    torch.manual_seed(2)
    swin = models.swin_t(num_classes=4)
    config = with_weights(tree, swin, tmp_path / "weights.pth", arch="swin_t", model="dense")
    run(config, tmp_path / "run")
    assert "of swin_t sees other features in its network" in caplog.text
    dense = load_classifier(tmp_path / "run" / "dense.safetensors")[0]
    assert torch.equal(dense.head.weight, swin.head.weight)


def test_weights_without_a_fitting_layer_are_no_dense_model(tree, tmp_path):
    weights = tmp_path / "weights.pth"
    config = with_weights(tree, models.resnet18(num_classes=5), weights)
    with pytest.raises(InvalidInputError, match=r"of 4 classes .* has shape \(5, 512\); train the"):
        run(config, tmp_path / "run")
    with pytest.raises(InvalidInputError, match="the adapter behind a frozen backbone has to be"):
        run(tiny_config(tree, weights=str(weights), frozen=True, dense={"epochs": 0}), tmp_path)
