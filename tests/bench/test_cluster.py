"""Campaigns on a Dask cluster and on other executors whose workers die: nothing lost or twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from qpm_bench import cluster as module
from qpm_bench import runner
from qpm_bench.cli import bench
from qpm_bench.cluster import concerns, connected
from qpm_bench.instances import paper_like
from qpm_bench.records import RecordFile, Status
from qpm_bench.runner import add_instances, campaign, execute, plan
from qpm_opt import InvalidInputError, QPMError, cli
from tests.bench import odd_workers
from tests.bench.odd_workers import DEADLY
from tests.conftest import random_problem

distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")
dask = pytest.importorskip("dask")

#: Processes start again and again here, which takes its time on a busy machine.
pytestmark = pytest.mark.timeout(1200)

#: Seconds after which what should happen counts as not happening.
PATIENCE = 300.0


@pytest.fixture(scope="module")
def cluster():
    """Two workers of one thread each, as processes that are replaced when they die."""
    with (
        # By default, one that does not come back within 15 seconds is given up.
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1h"}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1",
            dashboard_address=None, worker_dashboard_address=None, silence_logs=50,
        ) as cluster,
    ):  # fmt: skip
        yield cluster


@pytest.fixture
def client(cluster):
    with connected(cluster.scheduler_address) as client:
        client.wait_for_workers(2, timeout=PATIENCE)
        yield client


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "campaign"


def heuristic_runs(folder, *, n_seeds, time_limit):
    """Runs that last as long as they may."""
    hashes = add_instances(folder, {"one": random_problem(3)})
    return plan(hashes, [("heuristic", "")], seeds=range(n_seeds), time_limit=time_limit)


def lines(folder):
    path = folder / "records.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(condition):
    """What the condition returns, as soon as it is true."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def run_under_way(workers):
    """A worker with a run, the run's process and its job."""
    for worker in map(psutil.Process, workers):
        for child in worker.children():
            try:
                command = child.cmdline()
                if "qpm_bench.child" in command:
                    return worker, child, json.loads(Path(command[-2]).read_text())
            except (psutil.Error, OSError, ValueError):
                continue  # it has just ended
    return None


def test_a_worker_killed_in_the_middle_loses_and_repeats_nothing(client, folder):
    runs = heuristic_runs(folder, n_seeds=5, time_limit=3.0)
    workers = client.run(os.getpid).values()
    with ThreadPoolExecutor(1) as pool:
        records = pool.submit(campaign, folder, runs, executor=client.get_executor(pure=False))
        worker, child, job = wait_for(lambda: run_under_way(workers))
        # At a terminal, Ctrl-C reaches the group of the campaign: no run may be in it.
        assert os.getpgid(child.pid) == child.pid
        worker.kill()
        assert job["seed"] not in [line["seed"] for line in lines(folder)]
        assert [record.seed for record in records.result()] == list(range(5))
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert sorted(line["key"] for line in lines(folder)) == sorted(run.key for run in runs)
    assert {line["status"] for line in lines(folder)} == {"TIME"}


def test_a_run_that_kills_its_workers_costs_one_record(cluster, client, folder, monkeypatch):
    # With the first death the scheduler gives up all that the worker had, innocents included.
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    monkeypatch.setattr(runner, "execute", odd_workers.die_of_a_seed)
    runs = heuristic_runs(folder, n_seeds=5, time_limit=0.2)
    shown = []
    records = campaign(
        folder, runs, executor=client.get_executor(pure=False), on_record=shown.append
    )
    expected = [Status.ERROR if run.seed == DEADLY else Status.TIME for run in runs]
    assert [record.status for record in records] == expected
    assert records[DEADLY].reason == "every worker that took it died, 1 in the last attempt"
    assert len(lines(folder)) == 5
    assert Counter(record.key for record in shown) == Counter(run.key for run in runs)


def test_a_run_whose_worker_dies_after_the_record_is_not_repeated(folder):
    (run,) = heuristic_runs(folder, n_seeds=1, time_limit=0.2)
    first = execute(folder, run)
    assert execute(folder, run) == first
    assert len(lines(folder)) == 1


def test_a_worker_that_does_not_see_the_files_stops_the_campaign(client, folder):
    runs = heuristic_runs(folder, n_seeds=3, time_limit=0.2)
    instance = folder / "instances" / "one.npz"
    held = instance.read_bytes()
    instance.unlink()
    with pytest.raises(InvalidInputError, match=r"sees no file .*one\.npz; workers must see"):
        campaign(folder, runs, executor=client.get_executor(pure=False))
    assert lines(folder) == []
    instance.write_bytes(held)
    records = campaign(folder, runs, executor=client.get_executor(pure=False))
    assert [record.status for record in records] == [Status.TIME] * 3


def test_what_workers_could_not_append_is_added(folder, monkeypatch):
    runs = heuristic_runs(folder, n_seeds=2, time_limit=0.2)
    elsewhere = folder.with_name("elsewhere")
    add_instances(elsewhere, {"one": random_problem(3)})
    monkeypatch.setattr(
        runner, "execute", lambda folder, *arguments: execute(elsewhere, *arguments)
    )
    with ThreadPoolExecutor(1) as pool:
        records = campaign(folder, runs, executor=pool)
    assert [record.seed for record in records] == [0, 1]
    assert lines(folder) == lines(elsewhere)


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (odd_workers.die_of_a_seed, "runs did not come back"),
        (odd_workers.fail_of_a_seed, "OSError: no space left"),
    ],
)
def test_a_pool_that_breaks_says_so_and_the_campaign_goes_on_later(
    folder, monkeypatch, odd, message
):
    runs = heuristic_runs(folder, n_seeds=3, time_limit=0.2)
    with monkeypatch.context() as patch:
        patch.setattr(runner, "execute", odd)
        with (
            ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
            pytest.raises(QPMError, match=message),
        ):
            campaign(folder, runs, executor=pool)
    kept = lines(folder)
    assert kept[0]["seed"] == 0
    assert DEADLY not in [line["seed"] for line in kept]
    records = campaign(folder, runs)
    assert [record.seed for record in records] == [0, 1, 2]
    assert lines(folder)[: len(kept)] == kept and len(lines(folder)) == 3


def test_ctrl_c_leaves_a_folder_that_goes_on(cluster, client, tmp_path):
    out, instances = tmp_path / "out", tmp_path / "four"
    problems = (paper_like(3, 12, n_selected=4, n_per_class=2, seed=seed) for seed in range(4))
    add_instances(instances, {str(problem.name): problem for problem in problems})
    arguments = [
        "--instances", str(instances / "instances"), "--method", "heuristic", "--time-limit", "0.5",
        "--seed", "0", "--seed", "1", "--cluster", cluster.scheduler_address, "--out", str(out),
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "qpm_opt", "bench", *arguments], stderr=subprocess.PIPE
    )
    wait_for(lambda: lines(out))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert b"Interrupted" in errors and b"Traceback" not in errors
    wait_for(lambda: not any(client.processing().values()))
    assert 1 <= len(lines(out)) < 8
    result = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "1 of 1 machines have several workers" in " ".join(result.stderr.split())
    assert result.stdout.count("| heuristic | none | 0 |") == 4
    records = RecordFile(out / "records.jsonl").read()
    assert len(records) == len(lines(out)) == 8
    assert {record.status for record in records} == {Status.TIME}


@pytest.mark.parametrize("kind", ["closed", "silent", "worker", "nonsense"])
def test_an_address_without_a_scheduler_is_one_sentence(kind, request, monkeypatch, capsys):
    monkeypatch.setattr(module, "TIMEOUT", 2.0)
    with socket.socket() as service:
        service.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{service.getsockname()[1]}"
        if kind == "silent":
            service.listen()
        elif kind == "worker":
            monkeypatch.setattr(module, "TIMEOUT", PATIENCE)
            address = next(iter(request.getfixturevalue("client").nthreads()))
        elif kind == "nonsense":
            address = "no address"
        monkeypatch.setattr(sys, "argv", ["qpm", "bench", "--cluster", address])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == cli.EXIT_UNUSABLE_INPUT
    errors = " ".join(capsys.readouterr().err.split())
    assert errors.startswith(f"Error: No Dask scheduler answers at '{address}' (")
    assert errors.endswith("such as tcp://host:8786.") and "Traceback" not in errors


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InvalidInputError, match=r"\.\[cluster\]"), connected("tcp://host:8786"):
        pass


@pytest.mark.parametrize(
    ("n_threads", "expected"),
    [
        ({}, ["has no workers yet"]),
        ({"tcp://10.0.0.1:1": 1, "tcp://10.0.0.2:1": 1}, []),
        ({"tcp://10.0.0.1:1": 4, "tcp://10.0.0.2:1": 1}, ["1 of 2 workers do several"]),
        ({"tcp://10.0.0.1:1": 1, "tcp://10.0.0.1:2": 1}, ["1 of 1 machines have several"]),
        ({"tls://[fe80::1]:1": 2, "tls://[fe80::1]:2": 2}, ["2 of 2 workers", "1 of 1 machines"]),
    ],
)
def test_what_makes_times_incomparable_is_said(n_threads, expected):
    sentences = concerns(n_threads)
    assert len(sentences) == len(expected)
    assert all(part in sentence for part, sentence in zip(expected, sentences, strict=True))
