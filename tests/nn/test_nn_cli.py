"""The commands demo and run."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from qpm_nn import config, config_layers
from qpm_nn.cli import PLACES, demo, run
from qpm_opt import InvalidInputError


def test_importing_the_commands_needs_no_torch():
    code = "import sys, qpm_nn.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_option_has_its_place():
    names = {parameter.name for parameter in run.params}
    assert names == {*PLACES, "config_file", "settings", "preset", "out", "resume"}


def test_the_help_names_every_source_of_pairs():
    (option,) = (parameter for parameter in run.params if parameter.name == "pairs")
    assert ", ".join(config.PAIR_SOURCES) in option.help


def test_the_help_names_every_model():
    (option,) = (parameter for parameter in run.params if parameter.name == "model")
    assert option.help == f"Kind of model: {', '.join(config.MODELS)}."


@pytest.mark.parametrize(
    ("model", "told"),
    [("dense", ["run", "accuracy"]), ("glm_saga", ["run", "accuracy", "features", "in"])],
)
def test_other_models_tell_what_they_have(tree, tmp_path, model, told):
    options = ["--dataset", str(tree), "--image-size", "8", "--arch", "convnet_tiny"]
    options += ["--model", model, "--dense-epochs", "1", "--device", "cpu", "--threads", "1"]
    options += ["--out", str(tmp_path / "run")]
    result = CliRunner().invoke(run, options, catch_exceptions=False)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == told
    assert "% dense" in lines[1] and lines[1].endswith("on test images")
    if model == "glm_saga":
        assert "% glm-saga on" in lines[1] and "per class on average" in lines[2]
        assert "in words   class class0 = " in lines[3]


def test_demo_ends_with_accuracy_gap_and_words(monkeypatch, tmp_path):
    preset = config_layers.PRESETS["digits"] | {
        "dense": {"epochs": 1},
        "finetune": {"epochs": 1},
        "solve": {"method": "heuristic", "time_limit": 1.0},
    }
    monkeypatch.setitem(config_layers.PRESETS, "digits", preset)
    result = CliRunner().invoke(demo, ["--out", str(tmp_path / "run")], catch_exceptions=False)
    assert result.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert lines["run"] == str(tmp_path / "run")
    assert "% dense" in lines["accuracy"] and "% QPM" in lines["accuracy"]
    assert lines["bound"] == "none" and lines["gap"] == "unknown"
    assert float(lines["objective"].split()[0]) > 0
    assert lines["in"].startswith("words") and "= features" in lines["in"]
    assert "fine-tune" in result.stderr


def test_run_takes_options_over_the_file(tree, tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text(
        'arch = "convnet_tiny"\nseed = 5\n[dense]\nbatch_size = 8\nepochs = 9\n'
        '[problem]\nn_selected = 4\nn_per_class = 2\n[solve]\nmethod = "heuristic"\n'
    )
    options = ["--dataset", str(tree), "--config", str(file), "--image-size", "8"]
    options += ["--dense-epochs", "1", "--finetune-epochs", "1", "--time-limit", "0.5"]
    options += ["--device", "cpu", "--threads", "1", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(run, options, catch_exceptions=False)
    assert result.exit_code == 0
    made = config_layers.make_config(config_layers.read_config(tmp_path / "run" / "config.toml"))
    assert (made.seed, made.dense.epochs, made.dense.batch_size) == (5, 1, 8)
    assert made.solve.time_limit == 0.5 and made.data.name == str(tree)


@pytest.fixture
def made_by(monkeypatch):
    """Settings that a run would have, by its options."""
    seen = []

    def stop(made, *args, **options):
        seen.append(made)
        raise InvalidInputError("Stopped before anything runs.")

    monkeypatch.setattr("qpm_nn.pipelines.run.run", stop)

    def make(*options):
        result = CliRunner().invoke(run, ["--dataset", "digits", *options])
        assert "Stopped" in str(result.exception)
        return seen[-1]

    return make


def test_any_setting_is_an_option(made_by, tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text("seed = 5\n[dense]\nbatch_size = 8\nepochs = 9\nmomentum = 0.5\n")
    options = ["--set", "dense.batch_size=4", "--set", "dense.epochs=7", "--set", "dense.epochs=3"]
    made = made_by("--config", str(file), *options, "--set", "seed = 6", "--seed", "7")
    assert (made.dense.batch_size, made.dense.epochs, made.dense.momentum) == (4, 3, 0.5)
    assert made.seed == 7
    options = ["--set", "finetune.grounding_weight=2", "--model", "chiqpm"]
    assert made_by(*options).finetune.grounding_weight == 2.0


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("dense.learning_rate=1e-3", 1e-3),
        ("dense.learning_rate=.1", 0.1),
        ("dense.learning_rate=1", 1.0),
        ("data.memory=2.", 2.0),
        ("problem.negative=true", True),
        ("adapter.depth=2", 2),
        ("arch=timm:test_vit", "timm:test_vit"),
        ("data.root=/some where/a=b #1", "/some where/a=b #1"),
        ('data.root="/some where"', "/some where"),
        ("data.root='2024'", "2024"),
        ("data.root=2024", "2024"),
        ("data.root=true", "true"),
        ("data.root=nothing\nseed = 3", "nothing\nseed = 3"),
        ("data.root=", ""),
        ("conformal={alpha = 0.2, share = 0.3}", config.ConformalConfig(alpha=0.2, share=0.3)),
    ],
)
def test_values_are_those_of_toml_and_strings_need_no_quotes(made_by, setting, value):
    found = made_by("--set", setting)
    for name in setting.partition("=")[0].split("."):
        found = getattr(found, name)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("setting", "toml"),
    [
        ("dense.epoch=1", "[dense]\nepoch = 1"),
        ("densee.epochs=1", "[densee]\nepochs = 1"),
        ("dense.epochs.first=1", "[dense.epochs]\nfirst = 1"),
        ("dense=5", "dense = 5"),
        ("sed=1", "sed = 1"),
        ("seed=one", "seed = 'one'"),
        ("seed=1.0", "seed = 1.0"),
        ("dense.learning_rate=high", "dense.learning_rate = 'high'"),
        ("dense.learning_rate=-.1", "dense.learning_rate = -0.1"),
        ("problem.negative=True", "problem.negative = 'True'"),
        (f"dense.learning_rate=1{400 * '0'}", f"dense.learning_rate = 1{400 * '0'}"),
        (f"dense.epochs={5000 * '['}", f"dense.epochs = '{5000 * '['}'"),
        (f"dense.epochs={5000 * '9'}", f"dense.epochs = '{5000 * '9'}'"),
    ],
)
def test_wrong_settings_are_refused_as_in_a_file(tmp_path, setting, toml):
    (tmp_path / "settings.toml").write_text(toml)
    with pytest.raises(InvalidInputError) as expected:
        config_layers.make_config(config_layers.read_config(tmp_path / "settings.toml"))
    result = CliRunner().invoke(run, ["--dataset", "digits", "--set", setting])
    assert isinstance(result.exception, InvalidInputError)
    assert str(result.exception) == str(expected.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "digit"], "did you mean digits"),
        (["--dataset", "digits", "--arch", "resnet"], "no backbone 'resnet'"),
        (["--dataset", "digits", "--reduced-strides"], "convnet_tiny has no stages"),
        (["--dataset", "digits", "--frozen"], "with random weights sees nothing; give weights"),
        (
            ["--dataset", "digits", "--weights", "none.pth"],
            "'none.pth' cannot be read (No such file",
        ),
        (["--dataset", "digits", "--weights", "{bias}"], "bias.npy is damaged"),
        (["--dataset", "digits", "--arch", "inception_v3"], "cannot take images of 8 x 8 pixels"),
        (["--dataset", "digits", "--model", "qpn"], "did you mean qpm"),
        (["--dataset", "digits", "--solver", "higs"], "no solver 'higs'"),
        (["--dataset", "digits", "--method", "compacted"], "no method 'compacted'"),
        (
            ["--dataset", "digits", "--dense-epochs", "0"],
            "from the weights, but there are none; give",
        ),
        (["--dataset", "digits", "--finetune-epochs", "0"], "finetune.epochs is 0"),
        (["--dataset", "digits", "--n-selected", "4"], "10 classes cannot all differ"),
        (["--dataset", "digits", "--n-selected", "129"], "only 128 features"),
        (["--dataset", "digits", "--bias", "center"], "did you mean centre"),
        (["--dataset", "digits", "--bias", "{bias}"], "holds 5 numbers, but convnet_tiny has 128"),
        (["--dataset", "digits", "--lambda", "-1"], "bias_scale is -1.0"),
        (["--dataset", "digits", "--class-similarity", "auc"], "did you mean auroc"),
        (["--dataset", "digits", "--config", "none.toml"], "none.toml does not exist"),
        (["--dataset", "digits", "--set", "dense.epoch=1"], "(did you mean dense.epochs"),
        (["--dataset", "digits", "--set", "seed"], "'seed' is no setting; SECTION.NAME=VALUE"),
    ],
)
def test_bad_options_end_in_one_sentence_before_any_training(tmp_path, options, message):
    np.save(tmp_path / "bias.npy", np.ones(5))
    options = [option.format(bias=tmp_path / "bias.npy") for option in options]
    result = CliRunner().invoke(run, [*options, "--device", "cpu", "--out", str(tmp_path / "run")])
    assert isinstance(result.exception, InvalidInputError)
    assert message in str(result.exception)
    assert not (tmp_path / "run" / "dense.checkpoint").exists()
