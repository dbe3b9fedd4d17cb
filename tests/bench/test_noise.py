"""The noise of a machine, from runs that differ in nothing."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from qpm_bench import noise
from qpm_bench.cli import bench
from qpm_bench.measures import relative_noise
from qpm_bench.records import Status
from qpm_bench.runner import execute
from qpm_opt import InvalidInputError


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(noise, "INSTANCE", "planted_3x10_s0")


def test_identical_runs_are_made_one_by_one_and_their_times_kept(tmp_path, monkeypatch):
    runs = []

    def counted(folder, run):
        runs.append(run)
        return execute(folder, run)

    monkeypatch.setattr(noise, "execute", counted)
    answer = CliRunner().invoke(bench, ["noise", str(tmp_path / "out"), "--runs", "3"])
    assert answer.exit_code == 0, answer.output
    held = json.loads((tmp_path / "out" / "noise.json").read_text())
    assert len(runs) == 3 and len(set(runs)) == 1
    assert len(held["times"]) == 3 and min(held["times"]) > 0.0
    assert len(set(held["times"])) == 3  # none is a record read back
    assert held["relative_noise"] == relative_noise(held["times"])


def test_a_run_that_fails_is_no_noise(tmp_path, monkeypatch):
    def failed(folder, run):
        record = execute(folder, run)
        object.__setattr__(record, "status", Status.TIME)
        return record

    monkeypatch.setattr(noise, "execute", failed)
    with pytest.raises(InvalidInputError, match="ended with TIME"):
        noise.measure_noise(tmp_path, 2)
    assert not (tmp_path / "noise.json").exists()
    with pytest.raises(InvalidInputError, match="at least 2"):
        noise.measure_noise(tmp_path, 1)
