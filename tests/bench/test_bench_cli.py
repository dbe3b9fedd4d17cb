"""``qpm bench`` from the command to the table."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from qpm_bench.cli import bench
from qpm_bench.judge import Judged
from qpm_bench.records import Record, Status
from qpm_bench.suites import SUITES, suite
from qpm_bench.table import markdown
from qpm_opt import InvalidInputError
from tests.conftest import random_problem


def run(*arguments):
    return CliRunner().invoke(bench, list(map(str, arguments)), catch_exceptions=False)


def test_a_folder_of_instances_becomes_a_table_and_is_not_run_twice(tmp_path):
    instances = tmp_path / "mine"
    instances.mkdir()
    for seed in (3, 5):
        random_problem(seed).save(instances / f"p{seed}.npz")
    arguments = ("--instances", instances, "--method", "exact", "--out", tmp_path / "out")
    first = run(*arguments)
    assert first.exit_code == 0
    rows = [line.split(" | ") for line in first.stdout.splitlines()]
    assert [row[0] for row in rows[2:]] == ["| p3", "| p5"]
    assert [row[4] for row in rows[2:]] == ["OK", "OK"]
    assert len({len(row) for row in rows}) == 1
    again = run(*arguments)
    assert again.stdout == first.stdout
    assert "exact  seed" in first.stderr and "exact  seed" not in again.stderr


def test_unknown_suites_list_the_near_ones():
    with pytest.raises(InvalidInputError, match="did you mean small"):
        suite("smal")


def test_suites_hold_different_instances():
    for name in ("tiny", "small"):
        problems = SUITES[name]()
        assert len({problem.sha256 for problem in problems.values()}) == len(problems) >= 4


def test_a_reason_does_not_break_the_table():
    record = Record(
        key="k", instance="one", instance_sha256="0", method="compact", solver="highs",
        formulation="compact", seed=0, threads=1, time_limit=1.0, warm_start=False,
        status=Status.ERROR, reason="a | b\nc",
    )  # fmt: skip
    table = markdown([Judged(record, None)])
    assert len(table.splitlines()) == 3
    assert "ERROR: a / b c" in table
