"""``python -m benchmarks.representative``: resumed runs, numbers of inputs, records of before."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from benchmarks.representative import __main__ as command
from benchmarks.representative import networks
from benchmarks.representative.records import Record, read_record
from qpm_nn.data import load_data
from qpm_opt import InvalidInputError


@pytest.fixture
def small(tree, monkeypatch):
    """A network that is trained for two epochs on 32 images of 8 pixels."""
    torch.set_num_threads(1)
    data = load_data(str(tree), image_size=8)
    arch, options, training = networks.SETTINGS["digits"]
    training = replace(training, epochs=2, batch_size=8)
    monkeypatch.setitem(networks.SETTINGS, "digits", (arch, options, training))
    monkeypatch.setattr(command, "load_network_data", lambda name, root: data)


def invoke(out, *arguments):
    given = ["run", "--dataset", "digits", "--out", out, "--explained", 3, "--runs", 2, *arguments]
    return CliRunner().invoke(
        command.representative, [str(one) for one in given], catch_exceptions=False
    )


def told(result):
    """What was measured, and what was there."""
    lines = [line for line in result.stderr.splitlines() if ", seed " in line]
    return [line.rpartition(": ")[2] for line in lines]


def without_seconds(record):
    for part in record["choices"]:
        for row in part["rows"]:
            del row["seconds"]
    return record


def test_a_killed_run_goes_on_where_it_was(small, tmp_path, monkeypatch):
    whole = invoke(tmp_path / "whole", "--inputs", 2)
    assert told(whole) == ["measured"] * 6
    expected = read_record(tmp_path / "whole" / "digits.json")
    assert [(part["sampling"], part["seed"]) for part in expected["heat_maps"]] == [
        ("reference", 16), ("reference", 17), ("segment", 16), ("segment", 17)
    ]  # fmt: skip

    real, calls = command.compare_heat_maps, []

    def killed(*arguments, **options):
        calls.append(options)
        if len(calls) == 3:
            raise SystemExit(137)
        return real(*arguments, **options)

    monkeypatch.setattr(command, "compare_heat_maps", killed)
    out = tmp_path / "killed"
    assert invoke(out, "--inputs", 2).exit_code == 137
    assert len(read_record(out / "digits.json")["heat_maps"]) == 2
    monkeypatch.setattr(command, "compare_heat_maps", real)
    again = invoke(out, "--inputs", 2)
    assert told(again) == ["was there"] * 4 + ["measured"] * 2
    assert "epoch" not in again.stderr  # the network was there, too
    found = read_record(out / "digits.json")
    assert without_seconds(found) == without_seconds(expected)
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []


def test_runs_and_numbers_of_inputs_are_added(small, tmp_path):
    assert told(invoke(tmp_path, "--inputs", 2)) == ["measured"] * 6
    result = invoke(tmp_path, "--inputs", 2, "--inputs", 4, "--runs", 3)
    # The choices; two of three runs with 2 inputs, for each sampling; all with 4.
    expected = ["was there"] * 2 + ["was there", "was there", "measured"] * 2 + ["measured"] * 6
    assert told(result) == expected
    printed = CliRunner().invoke(command.representative, ["report", str(tmp_path)]).stdout
    rows = [line.split(" | ") for line in printed.splitlines() if "Grad-CAM++" in line]
    assert [(row[1], row[2]) for row in rows] == [
        ("reference", "2"), ("segment", "2"), ("reference", "4"), ("segment", "4")
    ]  # fmt: skip
    before = (tmp_path / "digits.json").read_bytes()
    with pytest.raises(InvalidInputError, match=r"a time limit of 10\.0 seconds, not 3\.0; give"):
        invoke(tmp_path, "--inputs", 2, "--runs", 0, "--time-limit", 3)
    assert (tmp_path / "digits.json").read_bytes() == before


def test_inputs_are_ten_a_class_up_to_a_hundred(small, tmp_path, monkeypatch):
    asked = []

    def note(*_, n_inputs, **__):
        asked.append(n_inputs)
        return {"scores": {}}

    monkeypatch.setattr(command, "compare_heat_maps", note)
    invoke(tmp_path)
    assert set(asked) == {40}  # four classes
    assert min(command.INPUTS_PER_CLASS * 195, command.MOST_INPUTS) == 100
    assert invoke(tmp_path / "none", "--inputs", 0).exit_code == 2


OLD = {
    "dataset": "digits",
    "layer": "layers.3",
    "accuracy": [1.0, 0.9],
    "choices": [{"sampling": "reference", "rows": []}],
    "heat_maps": [{"sampling": "segment", "seed": 17, "scores": {}}],
}
NETWORK = {name: OLD[name] for name in ("dataset", "layer", "accuracy")} | {"network": "abc"}
#: What a record cannot do without, and what is no list of parts.
KINDS = ("dataset", "choices", "heat_maps")
BAD_PARTS = (None, {}, [3], [[]], [{}], [{"sampling": "segment"}], [{"rows": [], "scores": {}}])


def test_records_of_before_count(tmp_path):
    path = tmp_path / "digits.json"
    path.write_text(json.dumps(OLD))
    record = Record(path, NETWORK)

    def refuse():
        raise AssertionError("it is there")

    common = {"time_limit": 10.0}
    first = {"sampling": "reference", "n_inputs": 100, "seed": 16} | common
    second = {"sampling": "segment", "n_inputs": 20, "seed": 17} | common
    assert not record.measure("choices", first, refuse)
    assert not record.measure("heat_maps", second, refuse)
    for kind, changed in (
        ("choices", first | {"seed": 17}),
        ("choices", first | {"n_inputs": 50}),
        ("heat_maps", second | {"n_inputs": 100}),
        ("heat_maps", second | {"seed": 16}),
        ("heat_maps", second | {"sampling": "reference"}),
    ):
        assert record.measure(kind, changed, lambda: {"rows": [], "scores": {}})
    found = read_record(path)
    assert len(found["choices"]) == 3 and len(found["heat_maps"]) == 4
    assert found["network"] == "abc" and found["accuracy"] == [1.0, 0.9]
    assert not Record(path, NETWORK).measure("choices", first, refuse)
    # They had a time limit of ten seconds, and tables would mix them with others.
    for kind, settings in (("choices", first), ("heat_maps", second)):
        with pytest.raises(InvalidInputError, match=r"a time limit of 10\.0 seconds, not 1\.0"):
            Record(path, NETWORK).measure(kind, settings | {"time_limit": 1.0}, refuse)


@pytest.mark.parametrize(
    ("name", "value"), [("network", "other"), ("accuracy", [1.0, 0.8]), ("layer", "layers.0")]
)
def test_records_of_another_network_are_refused(tmp_path, name, value):
    path = tmp_path / "digits.json"
    path.write_text(json.dumps(OLD | {"network": "abc"}))
    before = path.read_bytes()
    with pytest.raises(InvalidInputError, match=f"of another network: its {name} is"):
        Record(path, NETWORK | {name: value})
    assert path.read_bytes() == before


def test_records_of_several_time_limits_are_refused(tmp_path):
    path = tmp_path / "digits.json"
    parts = [{"sampling": "segment", "seed": 17, "scores": {}, "time_limit": 3.0}]
    path.write_text(json.dumps(OLD | {"heat_maps": parts}))
    with pytest.raises(InvalidInputError, match=r"several time limits, 3\.0 and 10\.0 seconds"):
        read_record(path)
    path.write_text(json.dumps(OLD | {"heat_maps": parts, "choices": []}))
    assert read_record(path)["heat_maps"][0]["time_limit"] == 3.0


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "",
        "\xff",
        "[]",
        "{}",
        "null",
        "[" * 100_000,
        *(json.dumps({name: OLD[name] for name in OLD if name != lacking}) for lacking in KINDS),
        *(json.dumps(OLD | {kind: bad}) for kind in KINDS for bad in BAD_PARTS),
    ],
    ids=lambda text: text[:60],
)
def test_damaged_records_are_named(tmp_path, text):
    path = tmp_path / "digits.json"
    path.write_text(text, encoding="latin-1")
    for read in (read_record, lambda path: Record(path, NETWORK)):
        with pytest.raises(InvalidInputError, match=f"^{path} is no record.*folder.$"):
            read(path)
    with pytest.raises(InvalidInputError, match=f"^{path} is no record"):
        CliRunner().invoke(
            command.representative, ["report", str(tmp_path)], catch_exceptions=False
        )
