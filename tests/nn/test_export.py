"""ONNX files compute what the classifier computes."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from qpm_nn.backbones import create_backbone
from qpm_nn.cli import export
from qpm_nn.data import Preprocessing
from qpm_nn.heads import AssignmentHead, Classifier, DenseHead, SparseHead
from qpm_nn.pipelines.run import run
from qpm_nn.pretrained import QPMModel
from qpm_nn.saving import ClassifierSpec
from qpm_opt import InvalidInputError, cli
from qpm_opt.locking import locked
from tests.nn.conftest import tiny_config

SELECTED = [3, 50, 90, 127]
NAMES = ("owl", "wren", "crow")
HEADS = {
    "assignment": lambda: AssignmentHead(
        SELECTED, np.eye(3, 4, dtype=bool), [0.1, 0.2, 0.3, 0.4], [1, 2, 3, 4]
    ),
    "sparse": lambda: SparseHead(
        SELECTED, np.eye(3, 4) - 0.3, [0.5, 0.0, -0.5], [0.1, 0.2, 0.3, 0.4], [1, 2, 3, 4]
    ),
    "dense": lambda: DenseHead(128, 3),
}


@pytest.fixture
def folder(tmp_path, request):
    """A tiny classifier, its batch normalisation with statistics of its own."""
    torch.manual_seed(0)
    head = HEADS[getattr(request, "param", "assignment")]()
    classifier = Classifier(create_backbone("convnet_tiny", 3), head)
    classifier(torch.randn(9, 3, 8, 8))
    preprocessing = Preprocessing((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    spec = ClassifierSpec("convnet_tiny", (3, 8, 8), NAMES, preprocessing)
    QPMModel(classifier, spec).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("folder", HEADS, indirect=True)
def test_the_file_computes_the_same(folder):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"NOT CHECKED: {package} is missing (extra onnx)")
    import onnxruntime

    done = CliRunner().invoke(export, [str(folder)], catch_exceptions=False)
    assert done.exit_code == 0 and str(folder / "model.onnx") in done.stdout
    assert {path.name for path in folder.iterdir()} == {
        "model.json", "model.safetensors", "model.onnx",
    }  # fmt: skip
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    model = QPMModel.from_pretrained(folder)
    for n_images in (1, 2, 7):
        images = torch.randint(0, 256, (n_images, 3, 8, 8), dtype=torch.uint8)
        logits, features = session.run(["logits", "features"], {"images": images.numpy()})
        with torch.no_grad():
            expected = model.classifier.activations(model.spec.preprocessing(images))
        np.testing.assert_allclose(logits, expected.logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(features, expected.features, rtol=1e-4, atol=1e-5)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == list(NAMES)
    if not isinstance(model.classifier.head, DenseHead):
        assert json.loads(metadata["selected"]) == SELECTED


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_one_sentence_and_code_2(folder, package, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(cli.qpm.commands, "export", export)
    monkeypatch.setattr(sys, "argv", ["qpm", "export", str(folder)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    message = " ".join(capsys.readouterr().err.split())
    assert message == (
        f"Error: ONNX files need the package {package}; install the extra: pip install '.[onnx]'."
    )


def test_unusable_arguments_are_one_sentence(folder, tmp_path):
    pytest.importorskip("onnxscript")
    for arguments, sentence in (
        ([tmp_path / "none"], "model.json does not exist"),
        ([folder, "--out", folder / "model.safetensors"], "does not end in .onnx"),
    ):
        done = CliRunner().invoke(export, [str(argument) for argument in arguments])
        assert isinstance(done.exception, InvalidInputError)
        assert sentence in str(done.exception)
    assert QPMModel.from_pretrained(folder).spec.class_names == NAMES


def test_a_new_model_leaves_no_export_of_the_old_one(tree, tmp_path):
    run(tiny_config(tree, model="dense"), tmp_path / "run")
    exported = tmp_path / "run" / "model.onnx"
    exported.touch()
    run(tiny_config(tree, model="dense"), tmp_path / "run")
    assert exported.exists()  # nothing is made anew
    for model in ("qpm", "dense"):
        exported.touch()
        run(tiny_config(tree, model=model), tmp_path / "run")
        assert not exported.exists()


def test_the_model_of_a_run_that_goes_on_is_not_exported(folder):
    with locked(folder):
        result = CliRunner().invoke(export, [str(folder)])
    assert isinstance(result.exception, InvalidInputError)
    assert "in use by another command" in str(result.exception)
    assert not (folder / "model.onnx").exists()
