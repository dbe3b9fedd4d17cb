"""Runs killed at any moment end, started again, where an uninterrupted run does.

But for solves that end by their time limit; these here end by a proof, on one thread.
"""

from __future__ import annotations

import json
import multiprocessing
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from qpm_nn.pipelines.run import run
from tests.nn.conftest import tiny_config

#: Kills of a run.
N_KILLS = 5


@pytest.fixture(scope="module")
def server():
    """Starts processes that need not import anything: imports take longer than a run."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([run.__module__])
    return context


def start(server, config, out: Path) -> BaseProcess:
    process = server.Process(target=run, args=(config, out))
    process.start()
    return process


def finish(server, config, out: Path) -> None:
    process = start(server, config, out)
    process.join()
    assert process.exitcode == 0


def results(out: Path) -> dict[str, bytes]:
    """All that a run computes, but for durations and the certificate of the solve."""
    files = [*out.rglob("*.safetensors"), *out.rglob("*.npz"), out / "metrics.json"]
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in files
        if path.name != "solution.certificate.npz"
    }


def progress(out: Path) -> int:
    """Epochs and stages that are done, whatever the number of starts."""
    path = out / "log.jsonl"
    # A line that is being written has no end yet.
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    records = map(json.loads, lines)
    done = {
        (record["stage"], record["event"], record.get("epoch"))
        for record in records
        if record["event"] in ("epoch", "finished")
    }
    return len(done)


@pytest.mark.parametrize("model", ["qpm", "sldd", "qsenn"])
def test_a_killed_run_ends_where_a_whole_one_does(server, tree, tmp_path, model):
    config = tiny_config(tree, model=model, dense={"epochs": 6}, finetune={"epochs": 8})
    whole, out = tmp_path / "whole", tmp_path / "killed"
    finish(server, config, whole)
    # Kills by the progress of the run, so that a slow machine is killed at work, too.
    rng = np.random.default_rng(0)
    n_killed = 0
    for moment in sorted(rng.choice(progress(whole), N_KILLS, replace=False)):
        process = start(server, config, out)
        while process.is_alive() and progress(out) < moment:
            process.join(0.01)
        process.join(0.2 * rng.random())
        if process.is_alive():
            process.kill()
            n_killed += 1
        process.join()
    assert n_killed
    finish(server, config, out)
    found, expected = results(out), results(whole)
    assert found.keys() == expected.keys() and "model.safetensors" in expected
    for name, content in expected.items():
        assert found[name] == content, name
