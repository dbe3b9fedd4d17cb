"""CHiQPM through the pipeline: partners, rectified features, calibrated sets, a page."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from qpm_nn import QPMModel
from qpm_nn.cli import calibrate as calibrate_command
from qpm_nn.conformal import HeldOut, order_statistic
from qpm_nn.data import load_data
from qpm_nn.pipelines.run import calibrate, run
from qpm_nn.report.sets import typical_images
from qpm_opt import Assignment, InvalidInputError, Problem
from tests.nn.conftest import Recorder, tiny_config


@pytest.fixture(scope="module")
def finished(tree, tmp_path_factory):
    out = tmp_path_factory.mktemp("chiqpm") / "run"
    torch.set_num_threads(1)
    run(tiny_config(tree, model="chiqpm"), out)
    return out


def test_classes_have_partners(finished):
    problem = Problem.load(finished / "problem.npz")
    assert len(problem.pairs) == 2  # half as many as classes
    assignment = Assignment.load(finished / "solution.json", problem)
    assert problem.violations(assignment) == ()
    metrics = json.loads((finished / "metrics.json").read_text())
    assert list(metrics) == ["dense", "before_finetuning", "chiqpm"]
    assert metrics["chiqpm"]["contrastive_pair_share"] >= 0.5


def test_features_are_rectified(finished, tree):
    model = QPMModel.from_pretrained(finished)
    assert model.classifier.head.relu
    with np.load(finished / "predictions.npz") as arrays:
        assert (arrays["features"] >= 0).all() and (arrays["features"] > 0).any()
        np.testing.assert_allclose(
            arrays["features"] @ model.classifier.head.weight.numpy().T, arrays["logits"], rtol=1e-4
        )


def test_sets_are_calibrated_and_measured_on_other_images(finished, tree):
    calibration = QPMModel.from_pretrained(finished).calibration
    images = load_data(str(tree), image_size=8).test
    rows = json.loads((finished / "sets.json").read_text())
    assert calibration.method == "hierarchical" and calibration.alpha == 0.1
    for row in rows:
        n = row["n_calibration"]
        assert n + row["n_images"] == len(images.labels)
        m = order_statistic(n, row["alpha"])
        assert row["guaranteed"] == (m / (n + 1) if m <= n else 1.0)
        assert 0 <= row["coverage"] <= 1 <= row["mean_size"] <= 4
    assert {row["method"] for row in rows} == {
        "hierarchical", "chiqpm", "lac", "aps", "raps", "saps",
    }  # fmt: skip
    assert {row["alpha"] for row in rows} == {0.12, 0.1, 0.075, 0.05}


def test_the_loaded_model_predicts_sets_and_explains(finished, tree):
    model = QPMModel.from_pretrained(finished)
    data = load_data(str(tree), image_size=8)
    images = torch.stack([data.test[i][0] for i in range(len(data.test.labels))])
    sets, logits = model.predict_set(images), model(images)
    assert sets.dtype == torch.bool and sets.shape == logits.shape
    assert sets[torch.arange(len(sets)), logits.argmax(1)].all()
    trees = model.explain(images)
    for i in range(len(trees)):
        tree_of = trees.tree(i, "global")
        assert tree_of.predicted == int(logits[i].argmax())
        assert tree_of.prediction_set == tuple(sets[i].nonzero().flatten().tolist())
        json.dumps(tree_of.to_dict())


def test_the_page_loads_nothing(finished):
    page = (finished / "report.html").read_text()
    for outside in ("http-equiv", "<script src", 'rel="stylesheet"', 'src="http', "url(http"):
        assert outside not in page


def test_calibrating_again_leaves_the_rest(finished, tree):
    before = (finished / "model.safetensors").read_bytes()
    recorder = Recorder()
    calibrate(finished, observer=recorder, alpha=0.3, method="lac")
    assert recorder.ran == ["calibration", "report"]
    assert (finished / "model.safetensors").read_bytes() == before
    model = QPMModel.from_pretrained(finished)
    assert (model.calibration.method, model.calibration.alpha) == ("lac", 0.3)
    result = CliRunner().invoke(
        calibrate_command, [str(finished), "--alpha", "0.25"], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert "lac, 75.0% demanded" in result.stdout
    recorder = Recorder()
    run(tiny_config(tree, model="chiqpm"), finished, observer=recorder)  # as it was
    assert set(recorder.ran) <= {"calibration", "report"}
    assert QPMModel.from_pretrained(finished).calibration.method == "hierarchical"


def test_a_calibration_of_another_format_or_rule_is_renewed(tree, tmp_path, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        for module in ("qpm_nn.pipelines.results", "qpm_nn.conformal.file"):
            patched.setattr(f"{module}.CALIBRATION_FORMAT", "qpm-calibration/1")
        run(tiny_config(tree, model="chiqpm"), out)
    with pytest.raises(InvalidInputError, match="calibrate the model again"):
        QPMModel.from_pretrained(out)
    recorder = Recorder()
    calibrate(out, observer=recorder)
    assert "calibration" in recorder.ran
    assert QPMModel.from_pretrained(out).calibration is not None
    monkeypatch.setattr("qpm_nn.pipelines.results.LEVEL_SHARE", {"hierarchical": 0.5})
    recorder = Recorder()
    calibrate(out, observer=recorder)
    assert recorder.ran == ["calibration", "report"]


def test_too_many_disjoint_pairs_are_refused_before_training(tree, tmp_path):
    config = tiny_config(tree, model="chiqpm")
    config = replace(config, problem=replace(config.problem, pair_density=0.8, pairs="disjoint"))
    recorder = Recorder()
    with pytest.raises(InvalidInputError, match=r"density .* 4 classes have 2 disjoint pairs"):
        run(config, tmp_path / "run", observer=recorder)
    assert recorder.ran == []


@pytest.mark.parametrize(
    ("method", "class_conditional"),
    [("hierarchical", False), ("chiqpm", False), ("lac", False), ("hierarchical", True)],
)
def test_reports_have_the_level_and_threshold_of_the_sets(finished, method, class_conditional):
    calibrate(finished, method=method, class_conditional=class_conditional)
    sets = json.loads((finished / "report.json").read_text())["sets"]
    shown = method if method == "chiqpm" else "hierarchical"
    assert (sets["method"], sets["model_method"]) == (shown, method)
    assert sets["by_class"] is class_conditional
    with np.load(finished / "predictions.npz") as arrays:
        said = [torch.from_numpy(arrays[name]) for name in ("logits", "labels", "features")]
    images = HeldOut.of(QPMModel.from_pretrained(finished).classifier.head, *said)
    calibrating, _ = images.split(0.5, 3)
    for row in sets["coverages"]:
        (calibration,) = calibrating.calibrate_each((1 - row["demanded"],), method=shown)
        (rule,) = calibration.rules
        threshold = rule.threshold if np.isfinite(rule.threshold) else None
        expected = (None, None) if class_conditional else (rule.level, threshold)
        assert row["level"] == expected[0]
        assert row["threshold"] == (expected[1] and pytest.approx(expected[1], rel=1e-5))


def test_a_new_model_is_not_calibrated(tree, tmp_path):
    out = tmp_path / "run"
    run(tiny_config(tree), out)
    calibrate(out)
    assert QPMModel.from_pretrained(out).calibration is not None
    run(replace(tiny_config(tree), seed=4), out, resume=False)
    assert QPMModel.from_pretrained(out).calibration is None
    assert not (out / "sets.json").exists()


def test_images_of_other_classes_do_not_calibrate(finished, tree):
    data = load_data(str(tree), image_size=8)
    with pytest.raises(InvalidInputError, match="of other images"):
        calibrate(finished, data=replace(data, class_names=("a", "b", "c", "d")))


def test_calibration_is_saved_with_the_model_and_of_no_other(finished, tmp_path):
    model = QPMModel.from_pretrained(finished)
    model.save_pretrained(tmp_path)
    assert QPMModel.from_pretrained(tmp_path).calibration == model.calibration
    with torch.no_grad():
        next(model.classifier.backbone.parameters()).add_(1.0)
    model.calibration = None
    kept = (tmp_path / "calibration.json").read_bytes()
    model.save_pretrained(tmp_path)
    assert not (tmp_path / "calibration.json").exists()
    (tmp_path / "calibration.json").write_bytes(kept)
    with pytest.raises(InvalidInputError, match="other weights"):
        QPMModel.from_pretrained(tmp_path)
    for damaged in (b"", b"[]", b'{"format": "qpm-calibration/9"}', kept[:-30]):
        (tmp_path / "calibration.json").write_bytes(damaged)
        with pytest.raises(InvalidInputError):
            QPMModel.from_pretrained(tmp_path)


def test_a_model_calibrates_itself(finished, tree):
    model = QPMModel.from_pretrained(finished)
    data = load_data(str(tree), image_size=8)
    images = torch.stack([data.train[i][0] for i in range(len(data.train.labels))])
    model.calibration = None
    with pytest.raises(InvalidInputError, match="not calibrated"):
        model.predict_set(images)
    assert model.explain(images[:1]).tree(0).prediction_set is None
    found = model.calibrate(images, data.train.labels, 0.2, method="aps")
    assert model.calibration is found
    covered = model.predict_set(images)[torch.arange(len(images)), data.train.labels]
    assert covered.float().mean() >= 0.8


@pytest.mark.parametrize(
    ("problem", "word"), [({"negative": True}, "negative"), ({"sparsity": "average"}, "sparsity")]
)
def test_what_a_hierarchy_does_not_have(tree, tmp_path, problem, word):
    config = tiny_config(tree, model="chiqpm")
    config = replace(config, problem=replace(config.problem, **problem))
    with pytest.raises(InvalidInputError, match=word):
        run(config, tmp_path / "run")


def test_sets_of_other_models(tree, tmp_path):
    out = tmp_path / "run"
    run(tiny_config(tree, model="dense"), out)
    with pytest.raises(InvalidInputError, match="lac, aps, raps, saps was expected"):
        calibrate(out)
    calibrate(out, method="lac", alpha=0.2)
    assert QPMModel.from_pretrained(out).calibration.method == "lac"
    with pytest.raises(InvalidInputError, match="has no hierarchy"):
        QPMModel.from_pretrained(out).explain(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(InvalidInputError, match="finish the run first"):
        (out / "model.safetensors").unlink()
        calibrate(out, method="lac")


def test_nothing_to_calibrate(tmp_path):
    with pytest.raises(InvalidInputError, match="does not exist"):
        calibrate(tmp_path / "missing")


def test_split_is_random_reproducible_and_complete():
    images = HeldOut(torch.zeros(11, 3), torch.arange(11) % 3)
    images = HeldOut(torch.arange(33).reshape(11, 3).float(), images.labels)
    for share in (0.01, 0.5, 0.99):
        one, other = images.split(share, 7)
        rows = torch.cat([one.logits[:, 0], other.logits[:, 0]])
        assert sorted(rows.tolist()) == images.logits[:, 0].tolist()
        again, _ = images.split(share, 7)
        assert torch.equal(again.logits, one.logits)
        assert len(one.labels) == max(1, round(share * 11))
    assert not torch.equal(images.split(0.5, 8)[0].logits, images.split(0.5, 7)[0].logits)


def test_typical_images_are_of_different_classes():
    predicted = torch.tensor([0, 1, 1, 2, 3, 0])
    labels = torch.tensor([0, 1, 0, 2, 3, 0])
    sets = torch.zeros(6, 4, dtype=torch.bool)
    sets[torch.arange(6), predicted] = True
    sets[2, 0] = True  # wrong, but covered
    sets[3, 0] = True  # right, of two
    assert typical_images(predicted, labels, sets, 3) == [2, 3, 4]
    assert typical_images(predicted, labels, sets, 0) == []
