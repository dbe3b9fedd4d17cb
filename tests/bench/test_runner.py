"""Campaigns: every run leaves one record, whatever becomes of its process."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import psutil
import pytest

from qpm_bench import runner
from qpm_bench.judge import judge
from qpm_bench.records import Record, RecordFile, Status
from qpm_bench.runner import add_instances, campaign, execute, make_starts, plan
from qpm_bench.watch import watch
from qpm_opt import InvalidInputError, Problem
from tests.bench import odd_child
from tests.conftest import random_problem
from tests.oracle import optimum


@pytest.fixture
def problem() -> Problem:
    return random_problem(3)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "campaign"


def runs_of(folder, problem, *entrants, **options):
    hashes = add_instances(folder, {"one": problem})
    return plan(hashes, entrants, **{"time_limit": 60.0} | options)


def test_methods_agree_with_brute_force(folder, problem):
    runs = runs_of(folder, problem, ("exact", ""), ("compact", "highs"))
    runs += runs_of(folder, problem, ("heuristic", ""), time_limit=0.5)
    records = campaign(folder, runs)
    assert [record.method for record in records] == ["exact", "compact", "heuristic"]
    for judged in judge(records, {"one": problem}):
        assert judged.objective == pytest.approx(optimum(problem))
        assert judged.record.wall_time > 0.0 and judged.record.cpu_time > 0.0
        assert judged.record.peak_memory > 2**20
        assert judged.record.versions["numpy"] == np.__version__
    # The heuristic has no end of its own.
    assert [record.status for record in records] == [Status.OK, Status.OK, Status.TIME]
    assert [record.certified for record in records] == [True, False, False]


def test_a_certificate_that_proves_less_than_is_claimed_is_wrong(folder, problem, monkeypatch):
    monkeypatch.setattr(runner, "_CHILD", "tests.bench.tampering_child")
    (record,) = campaign(folder, runs_of(folder, problem, ("exact", "")))
    assert record.status is Status.WRONG and not record.certified
    assert "its certificate does not hold" in record.reason
    (judged,) = judge([record], {"one": problem})
    assert judged.record.status is Status.WRONG and not judged.closed


def test_certificates_of_permuted_problems_are_checked(folder, problem):
    (record,) = campaign(folder, runs_of(folder, problem, ("exact", ""), permutations=(3,)))
    assert record.status is Status.OK and record.certified


def test_a_campaign_goes_on_where_it_was(folder, problem, monkeypatch):
    runs = runs_of(folder, problem, ("heuristic", ""), seeds=(0, 1, 2), time_limit=0.2)
    campaign(folder, runs[:2])
    executed = []

    def counted(folder, run, memory_limit, former):
        executed.append(run.seed)
        return execute(folder, run, memory_limit, former)

    monkeypatch.setattr(runner, "execute", counted)
    records = campaign(folder, runs)
    assert executed == [2]
    assert [record.seed for record in records] == [0, 1, 2]


def test_runs_are_repeated_on_demand(folder, problem, monkeypatch):
    monkeypatch.setattr(runner, "_CHILD", "tests.bench.odd_child")
    runs = runs_of(folder, problem, ("heuristic", ""), seeds=(odd_child.FAIL, 100), time_limit=0.2)
    failed, silent = campaign(folder, runs)
    monkeypatch.undo()
    assert campaign(folder, runs) == [failed, silent]  # both have their record
    repeated = campaign(folder, runs, again=[failed.key, silent.key])
    assert [record.status for record in repeated] == [Status.TIME, Status.TIME]
    # The former ones stay in the file.
    assert len((folder / "records.jsonl").read_text().splitlines()) == 4
    assert campaign(folder, runs) == repeated
    assert execute(folder, runs[0], None, failed) == repeated[0]


def test_a_warm_start_is_the_same_for_all(folder, problem):
    entrants = [("exact", ""), ("compact", "highs")]
    starts = make_starts(folder, add_instances(folder, {"one": problem}))
    runs = runs_of(folder, problem, *entrants, starts=starts, permutations=(0, 1))
    records = campaign(folder, runs)
    assert [record.status for record in records] == [Status.OK] * 4
    # The first incumbent of each is the start.
    held = json.loads((folder / "starts" / "one.json").read_text())
    assert {record.progress[0][1] for record in records} == {held["objective"]}
    # A start that is none for the instance is noticed, so it is really used.
    held["assignment"] = [[0] for _ in held["assignment"]]
    (folder / "starts" / "one.json").write_text(json.dumps(held))
    other = make_starts(folder, ["one"])
    assert other != starts
    (again,) = campaign(folder, [replace(runs[0], start_sha256=other["one"])])
    assert again.status is Status.ERROR


def test_threads_of_an_executor_lose_and_repeat_nothing(folder, problem):
    runs = runs_of(folder, problem, ("heuristic", ""), seeds=range(4), time_limit=0.2)
    with ThreadPoolExecutor(2) as pool:
        records = campaign(folder, [*runs, *runs], executor=pool)
    assert [record.seed for record in records] == [0, 1, 2, 3] * 2
    assert len((folder / "records.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        (odd_child.HANG, Status.TIME, "did not end"),
        (odd_child.LATE, Status.ERROR, "had not begun"),
        (odd_child.GARBAGE, Status.ERROR, "no outcome"),
        (odd_child.CRASH, Status.ERROR, "SIGSEGV"),
        (odd_child.MEMORY, Status.MEMORY, "killed when it held"),
        (odd_child.FAIL, Status.ERROR, "the reason"),
        (odd_child.SILENT, Status.ERROR, "no outcome"),
        (odd_child.LIST, Status.ERROR, "no outcome"),
        (odd_child.NAN, Status.ERROR, "no record"),
        (odd_child.FIELD, Status.ERROR, "no record"),
    ],
)
def test_a_run_that_goes_wrong_costs_one_record(folder, problem, monkeypatch, kind, status, reason):
    monkeypatch.setattr(runner, "_CHILD", "tests.bench.odd_child")
    monkeypatch.setattr(runner, "GRACE", 1.0 if kind == odd_child.HANG else 30.0)
    monkeypatch.setattr(runner, "START_LIMIT", 1.0 if kind == odd_child.LATE else 300.0)
    (run,) = runs_of(folder, problem, ("exact", ""), seeds=(kind,), time_limit=0.1)
    (record,) = campaign(folder, [run], memory_limit=250 * 2**20)
    assert record.status is status
    assert reason in record.reason
    (judged,) = judge([record], {"one": problem})
    assert judged.record == record and judged.objective is None


@pytest.mark.parametrize(
    ("kind", "status"), [(odd_child.CHILDREN, Status.TIME), (odd_child.ORPHAN, Status.ERROR)]
)
def test_children_of_a_run_end_with_it(folder, problem, monkeypatch, kind, status):
    monkeypatch.setattr(runner, "_CHILD", "tests.bench.odd_child")
    monkeypatch.setattr(runner, "GRACE", 3.0 if status is Status.TIME else 30.0)
    (run,) = runs_of(folder, problem, ("exact", ""), seeds=(kind,), time_limit=0.1)
    assert execute(folder, run).status is status
    pid = int((folder / "instances" / "child").read_text())
    deadline = time.monotonic() + 10.0
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_is_claimed_and_not_so_is_wrong(folder, problem, monkeypatch):
    runs = runs_of(folder, problem, ("exact", ""))
    (honest,) = campaign(folder, runs)
    lies = {
        "its bound": replace(honest, key="a", bound=honest.objective - 1.0),
        "its objective": replace(honest, key="b", objective=honest.objective + 1.0),
        "infeasible": replace(honest, key="c", selection=list(range(problem.n_features))),
        "without a solution": replace(honest, key="f", selection=[]),
        "cannot be read": replace(honest, key="d", selection=[problem.n_features]),
        "read: ": replace(honest, key="g", assignment=None),
    }
    judged = judge([honest, *lies.values()], {"one": problem})
    assert judged[0].record == honest
    for lie, found in zip(lies, judged[1:], strict=True):
        assert found.record.status is Status.WRONG
        assert lie in found.record.reason
    # A bound is false if any run has found better.
    low = replace(
        honest, key="e", objective=None, selection=[], assignment=[], bound=-1e9, progress=[]
    )
    assert judge([low, honest], {"one": problem})[0].record.status is Status.WRONG
    assert judge([low], {"one": problem})[0].record.status is Status.OK


def test_the_judge_wants_the_problem_that_was_solved(folder, problem):
    (record,) = campaign(folder, runs_of(folder, problem, ("heuristic", ""), time_limit=0.2))
    for problems in ({}, {"one": random_problem(4)}):
        with pytest.raises(InvalidInputError, match="The instance one"):
            judge([record], problems)


def test_damaged_lines_are_named_and_passed_over(folder, problem, caplog):
    runs = runs_of(folder, problem, ("heuristic", ""), seeds=(0, 1), time_limit=0.2)
    first, second = campaign(folder, runs)
    path = folder / "records.jsonl"
    path.write_text(
        f"{first.to_json()}\n{'[' * 200_000}\n"
        f'{{"format": "qpm-record/1"}}\n\n{second.to_json()[:-9]}'
    )
    with caplog.at_level(logging.WARNING):
        assert RecordFile(path).read() == [first]
    assert re.findall(r"line (\d+) is passed over", caplog.text) == ["2", "3", "5"]
    # The line that a killed writer left does not swallow the next one.
    assert RecordFile(path).append(second)
    assert RecordFile(path).read() == [first, second]
    assert not RecordFile(path).append(second)


def test_several_processes_write_one_file(folder, problem):
    (record,) = campaign(folder, runs_of(folder, problem, ("heuristic", ""), time_limit=0.2))
    path = folder / "records.jsonl"
    code = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from qpm_bench.records import RecordFile\n"
        "store = RecordFile(Path(sys.argv[1])); record = store.read()[0]\n"
        "for i in range(20): store.append(replace(record, key=f'{int(sys.argv[2]) + i}'))\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(path), str(start)], cwd=os.getcwd())
        for start in (0, 10, 20)
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    keys = [held.key for held in RecordFile(path).read()]
    assert sorted(keys) == sorted([record.key, *map(str, range(40))])
    assert len(path.read_text().splitlines()) == 41


def test_records_survive_the_file():
    record = Record(
        key="k", instance="one", instance_sha256="0", method="exact", solver="", seed=1,
        permutation=2, threads=1, time_limit=2.0, start_sha256="", status=Status.LICENCE,
        reason="é\n", progress=[[0.5, None, 3.0]],
    )  # fmt: skip
    assert Record.from_json(record.to_json()) == record


@pytest.mark.parametrize(
    ("entrant", "message"),
    [
        (("exakt", ""), "did you mean exact"),
        (("compact", "higs"), "did you mean highs"),
        (("exact", "highs"), "takes no solver"),
    ],
)
def test_unknown_names_list_the_near_ones(entrant, message):
    with pytest.raises(InvalidInputError, match=message):
        plan({"one": "0"}, [entrant], time_limit=1.0)


def test_a_folder_keeps_its_instances(folder, problem):
    add_instances(folder, {"one": problem})
    add_instances(folder, {"one": problem})
    with pytest.raises(InvalidInputError, match="holds another problem"):
        add_instances(folder, {"one": random_problem(4)})


def test_a_run_finds_the_same_wherever_it_is_started(tmp_path, monkeypatch):
    # Dask's workers set these.
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    for name in names:
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    code = (
        "import os, sys\n"
        f"sys.exit(str([os.environ.get(name) for name in {(*names, 'MALLOC_TRIM_THRESHOLD_')}]))"
    )
    ended = watch(
        [sys.executable, "-c", code],
        begun=tmp_path / "begun",
        start_limit=60.0,
        time_limit=60.0,
        memory_limit=None,
        threads=2,
    )
    assert ended.errors == "['2', '2', '2', None]"
