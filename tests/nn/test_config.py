"""Layers of settings, and what is refused."""

from __future__ import annotations

import tomllib

import pytest

from qpm_nn.config import RunConfig
from qpm_nn.config_layers import make_config, read_config
from qpm_nn.presets import PRESETS, SCHEDULE_PRESETS
from qpm_opt import InvalidInputError


def test_later_layers_win_and_the_preset_of_the_data_set_is_beneath():
    assert make_config({"data": {"name": "elsewhere"}}).problem == RunConfig().problem
    file = {"data": {"name": "digits"}, "problem": {"n_selected": 7}, "seed": 1}
    config = make_config(file, {"seed": 2})
    assert config.problem.n_selected == 7
    assert config.problem.n_per_class == PRESETS["digits"]["problem"]["n_per_class"]
    assert config.arch == PRESETS["digits"]["arch"]
    assert config.seed == 2


def test_a_preset_by_name_wins_over_that_of_the_data_set_only():
    config = make_config({"data": {"name": "digits"}, "dense": {"epochs": 3}}, preset="paper")
    assert config.dense.epochs == 3
    assert config.dense.batch_size == SCHEDULE_PRESETS["paper"]["dense"]["batch_size"]
    assert config.arch == PRESETS["digits"]["arch"]
    assert config.finetune.learning_rate == pytest.approx(100 * 5e-3 * 0.4**4)
    with pytest.raises(InvalidInputError, match="did you mean paper"):
        make_config(preset="papr")


def test_the_preset_of_dino_freezes_the_backbone():
    config = make_config({"data": {"name": "cub2011"}}, preset="dino")
    assert config.frozen and config.adapter.widths == (2048, 2048, 2048, 512)
    assert (config.dense.optimizer, config.finetune.activation_weight) == ("adamw", 6.0)
    assert config.problem.n_selected == PRESETS["cub2011"]["problem"]["n_selected"]


@pytest.mark.parametrize("name", PRESETS)
def test_toml_round_trip(name, tmp_path):
    config = make_config({"data": {"name": name, "root": 'with "quotes", ü and 😀'}})
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    assert make_config(read_config(path)) == config


def test_no_time_limit_is_toml_too(tmp_path):
    config = make_config({"solve": {"time_limit": float("inf")}})
    (tmp_path / "config.toml").write_text(config.to_toml(), encoding="utf-8")
    assert make_config(read_config(tmp_path / "config.toml")) == config


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"sed": 1}, "did you mean seed"),
        ({"dense": {"epoch": 1}}, r"'dense.epoch' \(did you mean dense.epochs"),
        ({"dense": 5}, "dense is 5; a section was expected"),
        ({"seed": "one"}, "seed is 'one'; a value of type int"),
        ({"seed": True}, "seed is True"),
        ({"dense": {"epochs": -1}}, "epochs is -1; it must be at least 0"),
        ({"finetune": {"epochs": 0}}, "finetune.epochs is 0; it must be at least 1"),
        ({"dense": {"activation_weight": -1}}, "activation_weight is -1.0; it must be at least 0"),
        ({"dense": {"dropout": 1.0}}, r"dropout is 1.0; it must be in \[0, 1\)"),
        ({"runtime": {"precision": "64"}}, "no precision '64'"),
        ({"adapter": {"depth": 0}}, "depth is 0; it must be at least 1"),
        ({"solve": {"time_limit": -1}}, "time_limit is -1.0"),
        ({"problem": {"bias_scale": -1}}, "bias_scale is -1.0; it must be at least 0"),
        ({"problem": {"bias_scale": float("nan")}}, "bias_scale is nan"),
        ({"problem": {"class_similarity": "auc"}}, "no class_similarity 'auc'.*mean auroc"),
        ({"model": "foo"}, "no model 'foo'"),
        ({"seed": 3_000_000_000}, "seed is 3000000000"),
        ({"runtime": {"threads": 2000}}, "threads is 2000"),
        ({"dense": {"learning_rate": float("inf")}}, "learning_rate is inf"),
        ({"dense": {"head_factor": 0}}, "head_factor is 0.0; it must be above 0"),
        ({"dense": {"accumulate": 0}}, "accumulate is 0; it must be at least 1"),
        ({"dense": {"schedule": "steps"}}, "no schedule 'steps'.*mean step"),
        ({"dense": {"optimizer": "adam"}}, "no optimizer 'adam'.*mean adamw"),
        ({"dense": {"step_epochs": 0}}, "step_epochs is 0"),
        ({"dense": {"step_factor": 1.5}}, "step_factor is 1.5"),
    ],
)
def test_unusable_settings(layer, message):
    with pytest.raises(InvalidInputError, match=message):
        make_config(layer)


def test_unusable_files(tmp_path):
    with pytest.raises(InvalidInputError, match="does not exist"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("seed = ")
    with pytest.raises(InvalidInputError, match="cannot be read as TOML"):
        read_config(tmp_path / "bad.toml")
    assert tomllib.loads(RunConfig().to_toml())["model"] == "qpm"


def test_a_model_has_a_preset_below_what_is_asked_for():
    config = make_config({"model": "chiqpm", "data": {"name": "digits"}})
    assert config.problem.pair_density == 0.5
    assert config.problem.n_selected == PRESETS["digits"]["problem"]["n_selected"]
    assert config.finetune.grounding_weight == 3.0
    assert config.finetune.grounding_epochs == round(6 / 7 * config.finetune.epochs)
    assert make_config({"data": {"name": "digits"}}).finetune.grounding_weight == 0.0
    published = make_config({"model": "chiqpm"}, preset="chiqpm").finetune
    assert (published.grounding_factor, published.grounding_epochs) == (2.0, 60)
    denser = make_config({"model": "chiqpm", "problem": {"pair_density": 1}})
    assert denser.problem.pair_density == 1.0


@pytest.mark.parametrize(
    "section",
    [
        {"conformal": {"alpha": 1.0}},
        {"conformal": {"alpha": 0.0}},
        {"conformal": {"share": 1.0}},
        {"conformal": {"method": "thr"}},
        {"conformal": {"include_top_1": "yes"}},
        {"problem": {"pairs": "all"}},
        {"problem": {"pair_density": -1.0}},
        {"finetune": {"grounding_share": 1.5}},
        {"finetune": {"grounding_weight": -1.0}},
    ],
)
def test_unusable_settings_of_chiqpm(section):
    with pytest.raises(InvalidInputError):
        make_config(section)


def test_grounding_is_for_rectified_features():
    for layers in (
        {"finetune": {"grounding_weight": 1.0}},
        {"model": "chiqpm", "dense": {"grounding_weight": 1.0}},
    ):
        with pytest.raises(InvalidInputError, match="whose features are rectified"):
            make_config(layers)
    assert make_config(preset="chiqpm").model == "chiqpm"
    with pytest.raises(InvalidInputError, match="whose features are rectified"):
        make_config({"model": "qsenn"}, preset="chiqpm")
    config = make_config({"model": "chiqpm"})
    assert make_config(read(config.to_toml())) == config


def test_layers_are_judged_together():
    grounded, chiqpm = {"finetune": {"grounding_weight": 1.0}}, {"model": "chiqpm"}
    for layers in ((grounded, chiqpm), ({"model": "qpm"}, grounded, chiqpm)):
        assert make_config(*layers).finetune.grounding_weight == 1.0
    # But a name or a type that is wrong is wrong beneath another layer, too.
    with pytest.raises(InvalidInputError, match="dense is 5; a section was expected"):
        make_config({"dense": 5}, {"dense": {"epochs": 1}})
    with pytest.raises(InvalidInputError, match="seed is 'one'"):
        make_config({"seed": "one"}, {"seed": 1})


def read(text):
    return tomllib.loads(text)


def test_a_model_of_a_data_set_has_a_preset_above_that_of_either():
    of_data = {"data": {"name": "omniglot"}}
    assert make_config(of_data).finetune.epochs == 40
    chiqpm = of_data | {"model": "chiqpm"}
    assert make_config(chiqpm).finetune.epochs == 70
    assert make_config(chiqpm).dense.epochs == make_config(of_data).dense.epochs
    assert make_config(chiqpm, {"finetune": {"epochs": 3}}).finetune.epochs == 3
    assert make_config({"model": "chiqpm"}).finetune.epochs == make_config().finetune.epochs


def test_keys_know_new_settings_only_if_they_count():
    config = make_config({})
    assert not {key for key in config.finetune.key() if key.startswith("grounding")}
    assert not {"pairs", "pair_density"} & config.problem.key().keys()
    assert "nesterov" not in config.dense.key()
    plain = {"nesterov": False}
    assert make_config({"dense": plain}).dense.key()["nesterov"] is False
    assert "nesterov" not in make_config({"dense": plain | {"optimizer": "adamw"}}).dense.key()
    config = make_config({"model": "chiqpm"})
    assert config.finetune.key()["grounding_weight"] == 3.0
    assert config.problem.key()["pairs"] == "closest"
