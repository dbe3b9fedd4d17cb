"""``python -m benchmarks.models``: variants of a run, their records, tables and plots."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from click.testing import CliRunner

from benchmarks.models import report
from benchmarks.models.__main__ import models
from benchmarks.models.records import TrainedModel, append, read
from benchmarks.models.variants import TABLES, VARIANTS, settings_of
from qpm_nn.config_layers import make_config
from qpm_nn.pipelines.run import run
from qpm_opt import InvalidInputError
from tests.nn.conftest import tiny_config


def invoke(*arguments):
    return CliRunner().invoke(models, [str(one) for one in arguments], catch_exceptions=False)


def test_variants_are_settings_of_runs():
    for variant in VARIANTS:
        make_config(settings_of(variant))
    assert all(set(rows) <= VARIANTS.keys() for rows in TABLES.values())
    with pytest.raises(InvalidInputError, match="did you mean qpm average"):
        settings_of("qpm averag")


def test_runs_share_the_dense_model_and_are_not_repeated(tree, tmp_path):
    (tmp_path / "tiny.toml").write_text(tiny_config(tree).to_toml())
    common = (
        "run", "--dataset", tree, "--config", tmp_path / "tiny.toml", "--out", tmp_path / "out",
        "--variant", "dense", "--variant", "qpm", "--seed", 1,
    )  # fmt: skip
    lines = invoke(*common).stdout.splitlines()
    assert [line.split("  ")[1] for line in lines] == ["dense", "qpm"]
    folder = tmp_path / "out" / f"{tree.name}-1"
    events = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    dense = [one["event"] for one in events if one["stage"] == "dense" and one["event"] != "epoch"]
    assert dense == ["started", "finished", "reused"]
    assert invoke(*common).stdout == ""  # all is on record
    path = folder.with_name(f"{folder.name}.jsonl")
    path.write_text("\n".join(map(older, path.read_text().splitlines())))
    assert invoke(*common).stdout == ""

    done = invoke(*common, "--variant", "qpm with Z_A alone")
    assert "qpm with Z_A alone" in done.stdout
    printed = invoke("report", tmp_path / "out").stdout
    assert "## Models" in printed and "## Parts of the objective" in printed
    plots = list((tmp_path / "out").glob("compactness-*.svg"))
    assert len(plots) == 1 and "<svg" in plots[0].read_text()
    records = read(sorted((tmp_path / "out").glob("*.jsonl")))
    assert [one.variant for one in records] == ["dense", "qpm", "qpm with Z_A alone"]
    assert records[2].config["problem"]["similarity_scale"] == 0.0
    assert records[0].solution == {} and records[1].solution["objective"] is not None


def record(variant: str, accuracy: float, seed: int = 0, **changes) -> TrainedModel:
    config = make_config({"data": {"name": "mine"}, "seed": seed}, settings_of(variant))
    metrics = {"dense": {"accuracy": 1.0}, "final": {"accuracy": accuracy, "sid@4": None}}
    return TrainedModel(variant, asdict(config), metrics, changes, 1.0, "", {})


def older(line: str) -> str:
    """A line of records as it was before there were some of the settings."""
    record = json.loads(line or "{}")
    if record:
        del record["config"]["conformal"], record["config"]["problem"]["pairs"]
        del record["config"]["finetune"]["grounding_share"]
    return json.dumps(record)


def test_settings_that_a_record_lacks_have_their_defaults(tmp_path):
    one, other = record("qpm", 0.5), record("qpm", 0.7, seed=1)
    path = tmp_path / "records.jsonl"
    path.write_text(older(json.dumps(asdict(one))) + "\n")
    assert read([path]) == [one]
    append(path, other)
    assert "| 2 | **60.0" in report.tables([*read([path]), record("sldd", 0.4)])
    append(path, replace(one, metrics=other.metrics))
    assert [found.final["accuracy"] for found in read([path])] == [0.7, 0.7]
    # That of the preset of CHiQPM is another one, which the run cannot have had.
    path.write_text(older(json.dumps(asdict(record("chiqpm", 0.5)))))
    assert read([path])[0].config["finetune"]["grounding_share"] == 1.0


def test_tables_have_means_and_deviations_over_seeds():
    records = [
        record("dense", 0.9), record("qpm", 0.8, 0), record("qpm", 0.9, 1), record("sldd", 0.7),
    ]  # fmt: skip
    head, _, *rows = report.tables(records).splitlines()[2:]
    assert head.startswith("| model | seeds | accuracy | features |")
    assert [row.split(" | ")[:3] for row in rows] == [
        ["| dense", "1", "90.0"],
        ["| sldd", "1", "70.0"],
        ["| qpm", "2", "**85.0 ± 7.1**"],
    ]
    assert rows[2].split(" | ")[5] == "none"  # SID@4 is not defined


def test_objectives_stand_where_they_differ():
    records = [
        record("qpm", 0.8, objective=12.345, relative_gap=0.01),
        record("qpm paper", 0.8, objective=12.0, relative_gap=None),
    ]
    text = report.tables(records)
    assert "## Better objectives: mine" in text
    rows = text.splitlines()[-2:]
    assert rows[0].endswith("| 12.35 | 1.00 |") and rows[1].endswith("| 12.00 | none |")


def test_the_last_record_of_equal_settings_counts(tmp_path):
    path = tmp_path / "records.jsonl"
    first, second = record("qpm", 0.5), record("qpm", 0.6)
    for one in (first, replace(first, variant="other name"), second):
        append(path, one)
    with path.open("a") as file:
        file.write('{"variant": "cut by a k')
    append(path, record("sldd", 0.7))
    assert [one.final["accuracy"] for one in read([path])] == [0.6, 0.5, 0.7]


def test_runs_that_differ_in_more_than_their_seeds_are_no_group():
    one = record("qpm", 0.5)
    other = record("qpm", 0.6, seed=1)
    report.tables([one, other])
    changed = replace(other, config=other.config | {"arch": "resnet_small"})
    for second in (changed, replace(one, metrics=other.metrics)):
        with pytest.raises(InvalidInputError, match="differ in more than their seeds"):
            report.tables([one, second])


def test_compactness_takes_the_runs_of_a_model():
    records = [
        record("qpm", 0.8), record("qpm n_selected=30", 0.7), record("qpm n_selected=30", 0.9, 1),
        record("qpm n_per_class=7", 0.6), record("qpm auroc", 0.1), record("sldd", 0.5),
    ]  # fmt: skip
    left, right = report.draw_compactness(records).axes
    (line,) = left.lines
    size = records[0].config["problem"]["n_selected"]
    assert sorted(zip(*line.get_data(), strict=True)) == [(size, 80.0), (30, 80.0)]
    assert [len(one.get_xdata()) for one in right.lines] == [2]


def test_sets_over_splits_of_simulated_images():
    result = invoke("sets", "--splits", 3, "--n-calibration", 100)
    assert result.exit_code == 0
    rows = [line.split(" | ") for line in result.stdout.splitlines() if line.startswith("| 9")]
    assert [row[1] for row in rows[:6]] == [
        "hierarchical", "published, corrected", "LAC", "APS", "RAPS", "SAPS",
    ]  # fmt: skip
    assert all(row[6].startswith("1.00") for row in rows if row[1] == "LAC")
    size = {row[1]: float(row[5]) for row in rows if row[0] == "| 95.0"}
    assert 1 <= size["hierarchical"] < size["published, corrected"] / 2
    for row in rows:  # the mean of three splits, with some room
        assert float(row[2].split()[0]) > float(row[0].removeprefix("| ")) - 6


def test_sets_of_a_run(tree, tmp_path):
    run(tiny_config(tree, model="chiqpm"), tmp_path / "run")
    result = invoke("sets", tmp_path / "run", "--splits", 2)
    assert result.exit_code == 0
    assert "images calibrate" in result.stdout and "hierarchical" in result.stdout
