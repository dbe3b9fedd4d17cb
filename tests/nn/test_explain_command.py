"""qpm explain: figures and sentences about single images of a run."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from click.testing import CliRunner

from qpm_nn.cli_explain import explain as command
from qpm_nn.pipelines.explain import explain
from qpm_nn.pipelines.run import run
from qpm_opt import InvalidInputError
from tests.nn.conftest import tiny_config


@pytest.fixture(scope="module")
def finished(tree, tmp_path_factory):
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("explain") / "run"
    run(tiny_config(tree), out)
    return out


def call(*arguments):
    return CliRunner().invoke(command, [str(one) for one in arguments], catch_exceptions=False)


def test_why_and_why_not(finished):
    result = call(finished, "--image", 1, "--image", 3)
    lines = result.stdout.splitlines()
    assert [line.split(" is taken for ")[0] for line in lines] == ["Test image 1", "Test image 3"]
    assert all("rather than for class" in line and "feature " in line for line in lines)
    for i in (1, 3):
        for what in ("maps", "why", "why_not", "changes"):
            path = finished / "figures" / f"image_{i}_{what}"
            assert path.with_suffix(".svg").is_file() and path.with_suffix(".png").is_file()
        why = json.loads((finished / "figures" / f"image_{i}_why.json").read_text())
        total = sum(term["contribution"] for term in why["terms"]) + why["bias"]
        assert total == pytest.approx(why["logit"])


@pytest.mark.parametrize("sampling", ["segment", "reference"])
def test_representative(finished, sampling):
    result = call(
        finished, "--representative", "--sampling", sampling, "--boundaries", 12, "--image", 2
    )
    first, second, *rest = result.stdout.splitlines()
    assert first.startswith("Boundaries are those behind ") and "affine" in first
    assert second.startswith("Test image 2 is taken for class") and "cover" in second
    assert len(rest) == 2 and "rivals" in rest[0] and "active" in rest[1]
    study = json.loads((finished / "figures" / "image_2_representative.json").read_text())
    found = study["interpretation"]
    assert len(found["boundaries"]) <= found["n_sampled"] <= 12
    assert found["n_covered_same"] <= found["bound"] <= found["n_same"]
    assert found["n_covered_other"] == found["tau"]
    features = json.loads((finished / "figures" / "image_2_features.json").read_text())
    assert features["pattern"]["n_same"] <= features["pattern"]["n_class"]
    assert features["rivals"]["is_proved"]


def test_the_greedy_choice_covers_no_more(finished):
    covered = {}
    for method in ("greedy", "exact"):
        explain(finished, [0], representative=True, method=method, n_boundaries=20)
        study = json.loads((finished / "figures" / "image_0_representative.json").read_text())
        covered[method] = study["interpretation"]["n_covered_same"]
    assert covered["greedy"] <= covered["exact"]


def test_long_names_are_shortened(tree, tmp_path):
    for folder in tree.iterdir():
        shutil.copytree(folder, tmp_path / "images" / f"{folder.name}{'-' * 100}{folder.name[-1]}")
    out = tmp_path / "run"
    run(tiny_config(tmp_path / "images", dense={"epochs": 1}, finetune={"epochs": 1}), out)
    for representative in (False, True):
        text = " ".join(explain(out, [0], representative=representative, n_boundaries=8))
        assert "for class" in text and "-…-" in text and "-" * 40 not in text


def test_a_dense_model_is_interpreted_too(tree, tmp_path):
    out = tmp_path / "run"
    run(tiny_config(tree, model="dense"), out)
    (first, second) = explain(out, [0], representative=True, n_boundaries=8)
    assert "affine" in first and "cover" in second
    with pytest.raises(InvalidInputError, match="train a model that selects"):
        explain(out, [0])


def test_bad_input(finished, tmp_path):
    with pytest.raises(InvalidInputError, match="There is no test image 1000"):
        explain(finished, [1000])
    with pytest.raises(InvalidInputError, match="There is no test image -1"):
        explain(finished, [-1], representative=True)
    with pytest.raises(InvalidInputError, match="does not exist"):
        explain(tmp_path / "missing", [0])
    with pytest.raises(InvalidInputError, match="sampling"):
        explain(finished, [0], representative=True, sampling="nowhere")
    result = CliRunner().invoke(command, [str(finished), "--method", "greedy"])
    assert result.exit_code == 2 and "--representative" in result.output


def test_a_network_that_cannot_be_served(tree, tmp_path):
    pytest.importorskip("timm", reason="the package timm is missing")
    out = tmp_path / "run"
    run(tiny_config(tree, arch="timm:test_vit", data={"name": str(tree), "image_size": 32}), out)
    with pytest.raises(InvalidInputError, match=r"piecewise linear|taken apart|no convolution"):
        explain(out, [0], representative=True)
