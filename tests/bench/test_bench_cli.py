"""``qpm bench`` from the command to the table."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner

from qpm_bench.cli import bench
from qpm_bench.instances import instance
from qpm_bench.judge import Judged
from qpm_bench.manifest import read_manifest
from qpm_bench.records import Record, Status
from qpm_bench.suites import SUITES, suite
from qpm_bench.table import SHIFT, runs_table, summary_table
from qpm_opt import InvalidInputError, Problem
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
    runs, methods = (
        [line.split(" | ") for line in table.splitlines()] for table in first.stdout.split("\n\n")
    )
    assert [row[0] for row in runs[2:]] == ["| p3", "| p5"]
    assert [row[5] for row in runs[2:]] == ["OK", "OK"]
    assert [row[:4] for row in methods[2:]] == [["| exact", "none", "2", "2"]]
    for rows in (runs, methods):
        assert len({len(row) for row in rows}) == 1
    again = run(*arguments)
    assert again.stdout == first.stdout
    assert "exact  seed" in first.stderr and "exact  seed" not in again.stderr


def test_what_the_judge_calls_wrong_is_repeated_on_demand(tmp_path):
    (tmp_path / "mine").mkdir()
    random_problem(3).save(tmp_path / "mine" / "p3.npz")
    out = tmp_path / "out"
    arguments = ("--instances", tmp_path / "mine", "--method", "exact", "--out", out)
    first = run(*arguments)
    record = json.loads((out / "records.jsonl").read_text())
    record["bound"] = record["objective"] - 1.0
    (out / "records.jsonl").write_text(json.dumps(record) + "\n")
    assert " WRONG" in run(*arguments).stdout
    assert "exact  seed" not in run(*arguments, "--again", "missing").stderr
    again = run(*arguments, "--again", "wrong")
    assert "exact  seed" in again.stderr and " WRONG" not in again.stdout
    assert "| OK |" in first.stdout and "| OK |" in again.stdout


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[
            (option, value)
            for option in ("--time-limit", "--memory-limit")
            for value in ("nan", "inf")
        ],
        *[("--seed", 2**31), ("--threads", 1025)],
    ],
)
def test_numbers_that_no_run_can_take_are_refused(tmp_path, option, value):
    outcome = run("--suite", "tiny", option, value, "--out", tmp_path / "out")
    assert outcome.exit_code == 2
    assert "Invalid value" in outcome.stderr and not (tmp_path / "out").exists()


def test_unknown_suites_list_the_near_ones():
    with pytest.raises(InvalidInputError, match="did you mean small"):
        suite("smal")


def test_instances_are_listed_with_what_is_known():
    outcome = run("instances", "--suite", "tiny")
    rows = [line.strip("| ").split(" | ") for line in outcome.stdout.splitlines()]
    assert [row[0] for row in rows[2:]] == list(SUITES["tiny"])
    planted = dict(zip(rows[0], rows[-2], strict=True))
    assert planted["classes"] == "3" and planted["best known"] == "6.328125"
    assert (planted["proved"], planted["by"]) == ("yes", "by construction")
    everything = run("instances").stdout
    assert "paper_like_1000x2048_s0" in everything and "| pmed1 |" in everything
    with pytest.raises(InvalidInputError, match="did you mean tiny"):
        run("instances", "--suite", "tny")


@pytest.mark.parametrize("file_format", ["lp", "mps", "qplib", "npz"])
def test_instances_are_exported_by_name_and_from_a_file(tmp_path, monkeypatch, file_format):
    monkeypatch.chdir(tmp_path)
    outcome = run("export", "tiny_distinct", "--format", file_format)
    assert outcome.stdout == f"tiny_distinct.{file_format}\n"
    assert ("leaves out" in outcome.stderr) == (file_format in ("lp", "mps"))
    first = (tmp_path / f"tiny_distinct.{file_format}").read_bytes()
    problem = instance("tiny_distinct")
    problem.save("mine.npz")
    copy = tmp_path / f"copy.{file_format}"
    run("export", "mine.npz", "--format", file_format, "--out", copy)
    if file_format == "npz":
        assert Problem.load(copy).sha256 == problem.sha256
        with pytest.raises(InvalidInputError, match="is the file that is read"):
            run("export", "mine.npz", "--format", "npz")
    else:
        assert copy.read_bytes() == first


def test_public_formats_run_with_their_optimum(tmp_path):
    folder = tmp_path / "public"
    folder.mkdir()
    (folder / "one.txt").write_text("3 2 1\n1 2 4\n2 3 5\n")
    np.savez(folder / "two.npz", features=np.eye(6), labels=np.arange(6) % 2)
    outcome = run(
        "--instances", folder, "--n-selected", 3, "--n-per-class", 2, "--method", "exact",
        "--out", tmp_path / "out",
    )  # fmt: skip
    rows = [line.split(" | ") for line in outcome.stdout.split("\n\n")[0].splitlines()[2:]]
    assert [row[0] for row in rows] == ["| one", "| two"]
    assert rows[0][6] == "-9"
    assert list(read_manifest(tmp_path / "out")) == ["one", "two"]


def record_of(method, status=Status.OK, instance="one", **fields):
    common = {"key": method, "instance_sha256": "0", "solver": "", "permutation": 0}
    common |= {"seed": 0, "threads": 1, "time_limit": 100.0, "start_sha256": ""}
    return Record(method=method, status=status, instance=instance, **common | fields)


def test_a_reason_does_not_break_the_table():
    record = record_of("compact", Status.ERROR, reason="a | b\nc")
    table = runs_table([Judged(record, None)])
    assert len(table.splitlines()) == 3
    assert "ERROR: a / b c" in table


def test_the_summary_counts_by_hand():
    trace = [[0.0, 5.0, 10.0], [50.0, 10.0, 10.0]]  # primal-dual gap 1/2, from 50 s on 0
    judged = [
        Judged(record_of("a", wall_time=5.0, bound=10.0, progress=trace), 10.0, 10.0),
        Judged(record_of("a", instance="two", wall_time=100.0, bound=12.0), 8.0, 8.0),
        Judged(record_of("b", wall_time=40.0, bound=5.0, status=Status.WRONG), 5.0, 10.0),
        Judged(record_of("b", instance="two", status=Status.MISSING), None, 8.0),
    ]
    first, second = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in summary_table(judged).splitlines()[2:]
    )
    mean = math.sqrt((5.0 + SHIFT) * (100.0 + SHIFT)) - SHIFT
    # No trace: the gap is 1 all the time.
    assert first == ["a", "none", "2", "1", f"{mean:.3g}", "0 %", f"{(25.0 + 100.0) / 2:.3g}", "0"]
    assert second == ["b", "none", "2", "0", "100", "75 %", "100", "**1**"]
