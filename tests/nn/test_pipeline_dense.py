"""The dense model alone, and what another model in the same directory does to its files."""

from __future__ import annotations

import json

import pytest

from qpm_nn.config import MODELS
from qpm_nn.heads import DenseHead
from qpm_nn.pipelines.run import PIPELINES, run
from qpm_nn.saving import load_classifier
from qpm_opt import InvalidInputError
from tests.nn.conftest import tiny_config


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


@pytest.mark.parametrize("name", ["n_selected", "n_per_class"])
def test_sizes_are_positive(tree, name):
    with pytest.raises(InvalidInputError, match=f"{name} is 0; it must be at least 1"):
        tiny_config(tree, problem={name: 0})
