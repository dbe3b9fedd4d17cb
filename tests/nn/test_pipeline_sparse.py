"""The pipelines of sparse models, tiny: what they make, and that they can be killed."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from qpm_nn.config import TrainingConfig
from qpm_nn.data import load_data
from qpm_nn.heads import SparseHead
from qpm_nn.pipelines.observer import Observer
from qpm_nn.pipelines.qsenn import iterations
from qpm_nn.pipelines.run import run
from qpm_nn.progress import title
from qpm_nn.saving import load_classifier
from qpm_nn.sparse import (
    densest_within,
    elastic_net_path,
    qsenn_layer,
    select_forward,
    sldd_layer,
    standardise,
)
from qpm_opt import InvalidInputError
from qpm_opt.constants import load_features
from tests.nn.conftest import Recorder, tiny_config

LAST = ("metrics", "figures", "predictions", "activations", "report")
STAGES = {
    "glm_saga": ["dense", "features", "layer", "model", *LAST],
    "sldd": ["dense", "features", "selection", "layer", "finetune", *LAST],
    "qsenn": [
        *("dense", "features", "selection", "layer_1", "finetune_1"),
        *(f"{name}_{i}" for i in (2, 3, 4) for name in ("features", "layer", "finetune")),
        *LAST,
    ],
}


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


class Killer(Observer):
    """Kills at a stage, or after its first epoch."""

    def __init__(self, where, *, epoch=False):
        self.where, self.kills_epoch = where, epoch

    def stage(self, name):
        if name == self.where and not self.kills_epoch:
            raise Killed

    def epoch(self, name, report):
        if name == self.where and self.kills_epoch:
            raise Killed


def results(out):
    """What two runs with the same settings must agree on."""
    return [
        (out / name).read_bytes() for name in ("model.safetensors", "model.json", "metrics.json")
    ]


@pytest.fixture(scope="module")
def finished(tree, tmp_path_factory):
    """Run directories by model."""
    torch.set_num_threads(1)
    made = {}
    for model in STAGES:
        made[model] = tmp_path_factory.mktemp("finished") / model
        run(tiny_config(tree, model=model), made[model])
    return made


@pytest.mark.parametrize("model", STAGES)
def test_a_second_run_reuses_everything(finished, tree, model):
    recorder = Recorder()
    run(tiny_config(tree, model=model), finished[model], observer=recorder)
    assert recorder.ran == []


@pytest.mark.parametrize("model", STAGES)
def test_a_run_killed_at_every_stage_ends_like_an_uninterrupted_one(
    finished, tree, tmp_path, model
):
    config = tiny_config(tree, model=model)
    for where in STAGES[model]:
        with pytest.raises(Killed):
            run(config, tmp_path / "run", observer=Killer(where))
        if where.startswith("finetune"):
            with pytest.raises(Killed):
                run(config, tmp_path / "run", observer=Killer(where, epoch=True))
    recorder = Recorder()
    run(config, tmp_path / "run", observer=recorder)
    assert recorder.ran == STAGES[model][-1:]
    assert results(tmp_path / "run") == results(finished[model])


def test_fits_are_told_how_far_they_are(tree, tmp_path):
    recorder = Recorder()
    run(tiny_config(tree, model="sldd"), tmp_path / "run", observer=recorder)
    n_selected = tiny_config(tree).problem.n_selected
    assert recorder.fits[:n_selected] == [
        f"{n} of {n_selected} features" for n in range(1, n_selected + 1)
    ]
    assert recorder.fits[n_selected] == "0.00 of at most 4 features a class"


def test_every_stage_has_a_title():
    assert all(title(name) for stages in STAGES.values() for name in stages)
    assert title("layer_2") == f"{title('layer')} (2)"


@pytest.mark.parametrize("model", STAGES)
def test_metrics_and_figures(finished, model):
    out = finished[model]
    metrics = json.loads((out / "metrics.json").read_text())
    names = ["dense", model] if model == "glm_saga" else ["dense", "before_finetuning", model]
    assert list(metrics) == names
    assert metrics[model]["features_per_class"] <= 2
    assert [path.name for path in (out / "figures").iterdir()] == ["assignment.png"]
    lines = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    (reason,) = [line["reason"] for line in lines if line["event"] == "left out"]
    assert "weights with signs" in reason


def test_glm_saga_is_the_densest_layer_of_the_path(finished):
    out = finished["glm_saga"]
    head = load_classifier(out / "model.safetensors")[0].head
    assert isinstance(head, SparseHead) and head.dropout.p == 0
    found = load_features(out / "features.npz")
    features, mean, std = standardise(found.features)
    fit = densest_within(elastic_net_path(features, found.labels, max_per_class=2), 2)
    chosen = head.selected.numpy()
    np.testing.assert_array_equal(chosen, fit.features)
    np.testing.assert_allclose(head.weight, fit.weight.toarray()[:, chosen], rtol=1e-6)
    np.testing.assert_allclose(head.bias, fit.bias, rtol=1e-6)
    np.testing.assert_allclose(head.mean, mean[chosen], rtol=1e-6)
    np.testing.assert_allclose(head.std, std[chosen], rtol=1e-6)
    # Behind the saved backbone the logits are those of the fit.
    dense = load_classifier(out / "dense.safetensors")[0]
    images = torch.rand(3, 3, 8, 8)
    pooled = dense.activations(images).features.detach().double().numpy()
    expected = (pooled - mean) / std @ fit.weight.toarray().T + fit.bias
    model = load_classifier(out / "model.safetensors")[0]
    np.testing.assert_allclose(model(images).detach(), expected, rtol=1e-3, atol=1e-4)


def test_more_features_a_class_than_there_are(tree, tmp_path):
    config = tiny_config(tree, model="glm_saga", problem={"n_per_class": 129})
    with pytest.raises(InvalidInputError, match="n_per_class is 129, but convnet_tiny has 128"):
        run(config, tmp_path / "run")


def test_a_path_without_a_layer_that_is_sparse_enough(finished, tree, tmp_path, monkeypatch):
    from qpm_nn.pipelines import sparse

    monkeypatch.setattr(sparse, "elastic_net_path", lambda *_, **__: elastic_net_path(*_)[:1])
    config = tiny_config(tree, model="glm_saga", dense={"epochs": 1})
    with pytest.raises(InvalidInputError, match="no layer between none and 2 features a class"):
        run(config, tmp_path / "run")


def test_sldd_is_a_pruned_layer_on_features_selected_forward(finished):
    out = finished["sldd"]
    model, dense = (load_classifier(out / f"{n}.safetensors")[0] for n in ("model", "dense"))
    found = load_features(out / "features.npz")
    features, mean, std = standardise(found.features)
    chosen = select_forward(features, found.labels, 4).features
    layer = sldd_layer(elastic_net_path(features[:, chosen], found.labels, max_per_class=4), 2)
    np.testing.assert_array_equal(model.head.selected, chosen)
    # Fine-tuning leaves the head as it was.
    expected = {**layer._asdict(), "mean": mean[chosen], "std": std[chosen]}
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(model.head, name), values, rtol=1e-6, err_msg=name)
    weights = [classifier.backbone.state_dict()["layers.0.weight"] for classifier in (model, dense)]
    assert not torch.equal(*weights)


def test_qsenn_normalises_and_fits_the_features_of_the_iteration_before(finished, tree):
    out = finished["qsenn"]
    data = load_data(str(tree), image_size=8)
    model, start = (load_classifier(out / f"{n}.safetensors")[0] for n in ("model", "iteration_3"))
    with np.load(out / "selection.npz") as arrays:
        np.testing.assert_array_equal(model.head.selected, arrays["selected"])
    with torch.no_grad():
        maps = start.backbone(data.preprocessing(data.train.images))
    pooled = maps.mean((2, 3))[:, model.head.selected].numpy()
    features, mean, std = standardise(pooled)
    np.testing.assert_allclose(model.head.mean, mean, rtol=1e-4)
    np.testing.assert_allclose(model.head.std, std, rtol=1e-4)
    layer = qsenn_layer(elastic_net_path(features, data.train.labels.numpy())[-1], 2)
    np.testing.assert_array_equal(model.head.weight.sign(), layer.sign)
    np.testing.assert_allclose(model.head.weight, layer.scale * layer.sign, rtol=1e-2)
    np.testing.assert_allclose(model.head.bias, layer.bias, rtol=1e-2, atol=1e-6)


def test_qsenn_has_the_published_schedule():
    trainings = iterations(TrainingConfig(epochs=40, learning_rate=0.01))
    assert [training.epochs for training in trainings] == [10, 10, 10, 40]
    rates = [training.learning_rate for training in trainings]
    assert rates == pytest.approx([0.01, 0.009, 0.0081, 0.00729])


def test_qsenn_iterations_have_an_epoch_at_least(finished):
    lines = map(json.loads, (finished["qsenn"] / "log.jsonl").read_text().splitlines())
    epochs = [(line["stage"], line["epoch"]) for line in lines if line["event"] == "epoch"]
    tuned = [epoch for epoch in epochs if epoch[0].startswith("finetune")]
    assert tuned == [(f"finetune_{i}", 1) for i in (1, 2, 3, 4)] + [("finetune_4", 2)]


@pytest.mark.parametrize("model", ["sldd", "qsenn"])
@pytest.mark.parametrize(("n_selected", "n_per_class"), [(4, 5), (129, 2)])
def test_impossible_sizes_are_refused_before_training(
    tree, tmp_path, model, n_selected, n_per_class
):
    sizes = {"n_selected": n_selected, "n_per_class": n_per_class}
    with pytest.raises(InvalidInputError, match="can be n_selected at most, and n_selected 128"):
        run(tiny_config(tree, model=model, problem=sizes), tmp_path / "run")


@pytest.mark.parametrize(
    ("model", "changes", "first"),
    [
        ("glm_saga", {"problem": {"n_per_class": 1}}, "layer"),
        ("glm_saga", {"problem": {"n_selected": 1}}, None),
        ("glm_saga", {"finetune": {"dropout": 0.5}}, None),
        ("sldd", {"problem": {"n_selected": 3}}, "selection"),
        ("sldd", {"problem": {"n_per_class": 1}}, "layer"),
        ("sldd", {"finetune": {"epochs": 1}}, "finetune"),
        ("qsenn", {"problem": {"n_per_class": 1}}, "layer_1"),
        ("qsenn", {"finetune": {"epochs": 3}}, "finetune_4"),  # one epoch before, as with 2
        ("sldd", {"solve": {"time_limit": 1.0}}, None),
    ],
)
def test_other_settings_reuse_what_does_not_depend_on_them(
    finished, tree, tmp_path, model, changes, first
):
    out = shutil.copytree(finished[model], tmp_path / "run")
    recorder = Recorder()
    run(tiny_config(tree, model=model, **changes), out, observer=recorder)
    assert (recorder.ran[0] if recorder.ran else None) == first


def test_qsenn_behind_a_frozen_backbone(finished, tree, tmp_path):
    out = tmp_path / "run"
    settings = {
        "model": "qsenn",
        "weights": str(finished["qsenn"] / "dense.safetensors"),
        "frozen": True,
        "adapter": {"depth": 1, "n_features": 16},
    }
    recorder = Recorder()
    run(tiny_config(tree, **settings), out, observer=recorder)
    assert recorder.n_images == {
        "embeddings": 40,
        **{name: 32 for name in ("features", "features_2", "features_3", "features_4")},
        "metrics": 3 * 40,  # three classifiers
        "predictions": 8,
        "activations": 32,
    }
    model, spec = load_classifier(out / "model.safetensors")
    assert spec.adapter == (16,)
    start = load_classifier(out / "iteration_3.safetensors")[0]
    data = load_data(str(tree), image_size=8)
    with torch.no_grad():
        maps = start.backbone(data.preprocessing(data.train.images))
    # Measured on embeddings in half precision.
    pooled = maps.mean((2, 3))[:, model.head.selected]
    torch.testing.assert_close(model.head.mean, pooled.mean(0), rtol=1e-2, atol=1e-3)
