"""What a report says, computed again from what the model says."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from qpm_nn import QPMModel
from qpm_nn.cli import calibrate
from qpm_nn.cli import report as report_command
from qpm_nn.cli_explain import explain
from qpm_nn.config_layers import make_config, read_config
from qpm_nn.data import load_data
from qpm_nn.explanations import LastLayer
from qpm_nn.pipelines.observer import Observer
from qpm_nn.pipelines.run import report as report_run
from qpm_nn.pipelines.run import run
from qpm_nn.report.choice import examples_of_classes, images_of_classes, strongest_images
from qpm_nn.report.images import image_record
from qpm_nn.report.media import Sizes, intensities, thumbnail
from qpm_nn.report.records import error_records
from qpm_nn.report.seen import SeenImages
from qpm_nn.report.tables import metrics_table
from qpm_opt import InvalidInputError
from tests.nn.conftest import Recorder, tiny_config


@pytest.fixture(scope="module", params=["qpm", "chiqpm", "sldd"])
def finished(request, tree, tmp_path_factory):
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp(request.param) / "run"
    run(tiny_config(tree, model=request.param, dense={"epochs": 1}, finetune={"epochs": 1}), out)
    return out


def read(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def test_parents_are_in_one_line_and_valid_text(tree, tmp_path):
    data = replace(load_data(str(tree), image_size=8), hierarchy=(("large\udcff\nones",),) * 4)
    config = tiny_config(tree, dense={"epochs": 1}, finetune={"epochs": 1})
    out = run(config, tmp_path / "run", data=data).path
    assert [one["parents"] for one in read(out)["classes"]] == [["large ones"]] * 4


def test_all_numbers_follow_from_the_model(finished, tree):
    report = read(finished)
    model = QPMModel.from_pretrained(finished)
    test = load_data(str(tree), image_size=8).test
    images = torch.stack([test[i][0] for i in range(len(test))])
    with torch.no_grad():
        logits, features = model(images).numpy(), model.features(images).numpy()
    weight = model.classifier.head.weight.numpy()
    labels, predicted = test.labels.numpy(), logits.argmax(1)
    assert report["run"]["n_test"] == len(test)
    assert report["run"]["n_errors"] == (labels != predicted).sum()
    for c, one in enumerate(report["classes"]):
        features_of_it, weights = zip(*one["features"], strict=True)
        assert list(features_of_it) == np.flatnonzero(weight[c]).tolist()
        np.testing.assert_allclose(weights, weight[c][weight[c] != 0], rtol=1e-5)
        assert one["n_images"] == (labels == c).sum()
        assert one["n_correct"] == ((labels == c) & (predicted == c)).sum()
        for near in one["nearest"]:
            signs = np.sign(weight[[c, near["class"]]])
            assert near["n_shared"] == ((signs[0] == signs[1]) & (signs[0] != 0)).sum()
    assert len(report["images"]) == len({one["index"] for one in report["images"]})
    for one in report["images"]:
        i, c = one["index"], one["predicted"]
        assert (one["label"], c) == (labels[i], predicted[i])
        np.testing.assert_allclose(one["features"], features[i], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(one["logit"], logits[i].max(), rtol=1e-4)
        total = sum(value for _, value in one["contributions"]) + one["bias"]
        np.testing.assert_allclose(total, one["logit"], rtol=1e-4, atol=1e-5)
        total = sum(value for _, value in one["deciding"]) + one["bias_difference"]
        size = 1e-5 * (1 + sum(abs(value) for _, value in one["deciding"]))
        np.testing.assert_allclose(total, one["difference"], atol=size)
        first, second = np.sort(logits[i])[:-3:-1]
        np.testing.assert_allclose(one["difference"], first - second, atol=size)
    for error in report["errors"]:
        pair = (labels == error["label"]) & (predicted == error["predicted"])
        assert error["count"] == pair.sum()
        margin = logits[pair, error["predicted"]] - logits[pair, error["label"]]
        np.testing.assert_allclose(error["difference"], margin.mean(), rtol=1e-3, atol=1e-4)
        for place in error["images"]:
            assert pair[report["images"][place]["index"]]
    for j, one in enumerate(report["features"]):
        assert one["feature"] == int(model.classifier.head.selected[j])
        assert [c for c, _ in one["classes"]] == np.flatnonzero(weight[:, j]).tolist()
        strongest = report["images"][one["top"][0]]["index"]
        assert features[strongest, j] == pytest.approx(features[:, j].max(), rel=1e-5)
        assert sum(one["counts"]) == report["run"]["n_train"]
    metrics = json.loads((finished / "metrics.json").read_text())
    table = report["metrics"]
    own = metrics[report["run"]["settings"]["model"]]
    for row in table["rows"]:
        if row["values"][-1] is not None:
            assert row["values"][-1] == pytest.approx(own[row["name"]], rel=1e-5)


def test_attributes_of_classes_are_aligned_with_features(tree, tmp_path):
    data = load_data(str(tree), image_size=8)
    attributes = np.array([[1.0, 0.0], [0.9, 0.2], [0.1, 0.8], [0.0, 0.6]])
    run(tiny_config(tree), tmp_path / "run", data=replace(data, class_attributes=attributes))
    report = read(tmp_path / "run")
    assert report["map"]["grounding"]["given"] == "attributes"
    for one in report["features"]:
        aligned = one["attributes"]
        assert {each["name"] for each in aligned} == {"attribute 0", "attribute 1"}
        assert [each["alignment"] for each in aligned] == sorted(
            (each["alignment"] for each in aligned), reverse=True
        )


def test_a_report_is_made_again_by_its_command(finished):
    before = (finished / "report.json").read_bytes()
    for name in ("report.html", "report.json"):
        (finished / name).unlink()
    recorder = Recorder()
    report_run(finished, observer=recorder)
    assert recorder.ran == ["report"]
    assert (finished / "report.json").read_bytes() == before
    result = CliRunner().invoke(report_command, [str(finished)], catch_exceptions=False)
    assert result.stdout.strip() == str(finished / "report.html")
    names = {path.stem for path in (finished / "figures").glob("*.svg")}
    assert {"assignment", "class_graph", "confusions", "comparison"} <= names
    for name in names:
        json.loads((finished / "figures" / f"{name}.json").read_text(encoding="utf-8"))
        assert (finished / "figures" / f"{name}.png").stat().st_size > 1000


@pytest.mark.filterwarnings("error:Glyph")
def test_letters_that_no_font_has_are_no_warning(tree, tmp_path):
    for folder, name in zip(sorted(tree.iterdir()), ("犬", "กา", "عقعق", "𒀀"), strict=True):
        shutil.copytree(folder, tmp_path / "images" / name)
    out = tmp_path / "run"
    changes = {"dense": {"epochs": 1}, "finetune": {"epochs": 1}}
    run(tiny_config(tmp_path / "images", model="chiqpm", **changes), out)
    report_run(out)
    assert "𒀀" in (out / "figures" / "assignment.svg").read_text(encoding="utf-8")


def test_what_there_is_no_report_of(tree, tmp_path):
    with pytest.raises(InvalidInputError, match="does not exist"):
        report_run(tmp_path / "missing")
    out = tmp_path / "run"
    run(tiny_config(tree, model="dense", dense={"epochs": 1}), out)
    with pytest.raises(InvalidInputError, match="train a model that selects"):
        report_run(out)
    (out / "model.safetensors").unlink()
    with pytest.raises(InvalidInputError, match="finish the run first"):
        report_run(out)


def test_images_are_found_from_any_folder_and_where_they_have_moved(tree, tmp_path, monkeypatch):
    shutil.copytree(tree, tmp_path / "images")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    changes = {"dense": {"epochs": 1}, "finetune": {"epochs": 1}}
    run(tiny_config("images", model="dense", **changes), "before")
    weights = shutil.copy("before/dense.safetensors", "weights.safetensors")
    run(tiny_config("images", weights=weights, **changes), "run")
    monkeypatch.chdir("elsewhere")
    (tmp_path / "weights.safetensors").unlink()  # no longer needed
    before = read(tmp_path / "run")
    report_run("../run")
    assert read(tmp_path / "run") == before
    assert before["title"] == "QPM on images" and str(tmp_path) not in json.dumps(before)

    (tmp_path / "images").rename(tmp_path / "moved")
    with pytest.raises(InvalidInputError, match=r"not in .*/images; give the folder .*--root"):
        report_run("../run")
    for command, options in ((report_command, ()), (explain, ()), (calibrate, ("--method", "lac"))):
        arguments = ["../run", "--root", "../moved", *options]
        assert CliRunner().invoke(command, arguments, catch_exceptions=False).exit_code == 0
    report_run("../run")  # calibrate has kept the place


def test_the_root_of_a_data_set_is_kept_as_an_absolute_path(tmp_path, monkeypatch):
    class Killed(Observer):
        def stage(self, name):
            raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QPM_DATA", raising=False)
    images = load_data("digits")

    def kept(name, root):
        with pytest.raises(KeyboardInterrupt):
            config = make_config({"data": {"name": name, "root": root}})
            run(config, "run", observer=Killed(), data=images)
        data = read_config("run/config.toml")["data"]
        assert data["name"] == name
        return data["root"]

    assert kept("cub2011", "data") == str(tmp_path / "data")
    assert kept("cub2011", "") == str(tmp_path)
    monkeypatch.setenv("QPM_DATA", "elsewhere")
    assert kept("cub2011", "") == str(tmp_path / "elsewhere")
    assert kept("digits", "") == ""


def seen(logits, labels, weight, features=None, locality=None):
    layer, logits = LastLayer(weight), np.asarray(logits, float)
    shape = len(logits), layer.weight.shape[1]
    return SeenImages(
        layer,
        logits,
        np.ones(shape) if features is None else np.asarray(features, float),
        np.ones(shape) if locality is None else np.asarray(locality, float),
        np.asarray(labels),
    )


def test_an_example_is_recognised_strong_and_separate():
    one = seen(
        logits=[[9, 0], [0, 9], [1, 0], [1, 0], [0, 1]],
        labels=[1, 0, 0, 0, 1],
        weight=[[1, 1, 0], [0, 1, 1]],
        features=[[9, 9, 9], [9, 9, 9], [2, 2, 0], [2, 1, 0], [0, 0, 0]],
        locality=[[1, 1, 1], [1, 1, 1], [0.1, 0.1, 0], [0.9, 0.9, 0], [0, 0, 0]],
    )
    # Of class 0 image 1 is misclassified, image 2 is stronger than 3 but less separate: 0.8 to 5.4.
    assert examples_of_classes(one) == [3, 4]
    # A class that is never recognised, and one without images.
    one = seen([[0, 1, 0], [0, 2, 0]], [0, 0], np.eye(3), features=[[1, 0, 0], [5, 0, 0]])
    assert examples_of_classes(one) == [1, None, None]


def test_images_of_a_class_by_turns():
    one = seen([[2, 0], [5, 0], [0, 1], [0, 7], [1, 0]], [0, 0, 0, 0, 1], np.eye(2))
    assert images_of_classes(one, 3) == [[3, 1, 2], [4]]
    assert images_of_classes(one, 0) == [[], []]
    assert strongest_images(np.array([[1.0, 5.0], [3.0, 5.0]]), 1).tolist() == [[1, 0]]


def test_confusions_and_what_decides():
    one = seen(
        logits=[[0, 3, 0], [0, 5, 0], [0, 0, 1], [1, 0, 0]],
        labels=[0, 0, 0, 0],
        weight=[[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, -1]],
        features=[[1, 2, 3, 4], [3, 2, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]],
    )
    first, second = error_records(one, [[7], []])
    assert (first["label"], first["predicted"], first["count"], first["images"]) == (0, 1, 2, [7])
    assert dict(first["features"]) == {2: 2.0, 0: -2.0} and first["difference"] == 0
    assert dict(second["features"]) == {2: 1.0, 0: -1.0, 1: -1.0, 3: -1.0}
    assert first["differ_by_one"] and not second["differ_by_one"]
    record = image_record(one, 0, (np.zeros(4), np.full(4, 9.0)), 5.0)
    assert record["contributions"] == [(2, 3.0), (1, 2.0)] and record["second"] == 0
    assert record["deciding"] == [(2, 3.0), (0, -1.0)] and record["difference"] == 2.0
    # Feature 0 from 1 to 3 and a little more: class 0 is ahead.
    assert record["counterfactual"]["class"] == 0 and record["counterfactual"]["n_changes"] == 1
    assert one.closest == (0, 1) and not one.has_hierarchy
    assert one.shared.tolist() == [[2, 1, 0], [1, 2, 1], [0, 1, 2]]
    assert one.second(0) == 0 and seen([[1]], [0], [[1]]).second(0) is None


def test_maps_are_as_intense_as_their_features_are_certain():
    maps = torch.tensor(
        [[[0.0, 1.0], [2.0, 4.0]], [[3.0, 3.0], [3.0, 3.0]], [[0.0, 0.0], [0.0, 9.0]]]
    )
    found = intensities(maps, [1.0, 5.0, -1.0], [2.0, 1.0, 1.0], (2, 2))
    assert found.tolist() == [[[0, 32], [64, 128]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]]
    assert intensities(maps, [9.0] * 3, [1.0] * 3, (1, 1)).tolist() == [[[0]], [[0]], [[0]]]
    large = torch.zeros(1, 4, 4)
    large[0, 3, 3] = 4.0
    assert intensities(large, [1.0], [1.0], (2, 2)).tolist() == [[[0, 0], [0, 255]]]


def test_pictures_fit_into_the_file():
    few = Sizes.fitting((3, 448, 448), (28, 28), 100, 500)
    assert few == Sizes(160, (14, 14))
    many = Sizes.fitting((3, 448, 448), (28, 28), 1200, 60_000)
    assert many.thumbnail * many.thumbnail < 160 * 160 and many.map_shape < (14, 14)
    assert Sizes.fitting((1, 8, 8), (2, 3), 10**6, 10**9) == Sizes(8, (2, 3))
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 200, 300), np.uint8))
    assert thumbnail(noise, 96).startswith("data:image/webp;base64,")
    assert len(thumbnail(noise, 96)) < 12_000  # noise is the worst there is
    assert thumbnail(noise[:1, :8, :8], 96).startswith("data:image/png;base64,")


def test_metrics_stand_beside_published_ones():
    table = metrics_table(
        {"chiqpm": {"sid@5": 0.5, "accuracy": 0.9}, "dense": {"accuracy": 0.8}},
        "chiqpm",
        "imagenet",
    )
    assert table["columns"] == ["dense model", "CHiQPM"]
    assert [row["name"] for row in table["rows"]] == ["accuracy", "sid@5"]
    assert [row["values"] for row in table["rows"]] == [[0.8, 0.9], [None, 0.5]]
    first = table["published"][0]
    assert (first["model"], first["dataset"]) == ("QPM", "ImageNet-1K")
    assert first["values"] == [0.742, 0.641]
