"""Runs killed at any moment end, started again, where an uninterrupted run does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.nn.conftest import tiny_config

COMMAND = [sys.executable, "-m", "qpm_opt", "run", "--config", "settings.toml", "--out"]
#: What two runs with the same settings must agree on.
FILES = ("dense.safetensors", "features.npz", "problem.npz", "model.safetensors", "metrics.json")


def start(folder: Path, out: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [*COMMAND, out], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tree, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    config = tiny_config(tree, dense={"epochs": 6}, finetune={"epochs": 4})
    (folder / "settings.toml").write_text(config.to_toml(), encoding="utf-8")
    process = start(folder, "whole")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return folder


def test_a_killed_run_ends_where_a_whole_one_does(finished):
    # Kills by the progress of the run, so that a slow machine is killed at work, too.
    rng = np.random.default_rng(0)
    out = finished / "killed"
    n_killed = 0
    for moment in sorted(rng.choice(20, 3, replace=False)):
        process = start(finished, out.name)
        while process.poll() is None and n_lines(out / "log.jsonl") <= moment:
            try:
                process.wait(0.01)
            except subprocess.TimeoutExpired:
                continue
        if process.poll() is None:
            try:
                process.wait(0.3 * rng.random())
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                n_killed += 1
        process.communicate()
    assert n_killed
    process = start(finished, out.name)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    for name in FILES:
        assert (out / name).read_bytes() == (finished / "whole" / name).read_bytes(), name


def n_lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0
