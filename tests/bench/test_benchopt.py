"""``benchmarks/benchopt`` as a user of benchopt runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qpm_bench.entrants import OURS
from qpm_bench.suites import suite
from tests.conftest import random_problem
from tests.oracle import optimum

FOLDER = Path(__file__).parents[2] / "benchmarks" / "benchopt"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy, so that what benchopt writes is not left in the project."""
    pytest.importorskip(
        "benchopt", reason="benchopt is not installed; benchmarks/README.md says how to run it"
    )
    target = tmp_path / "benchmark"
    shutil.copytree(FOLDER, target, ignore=shutil.ignore_patterns("__pycache__", "outputs"))
    return target


def run(folder: Path, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchopt", "run", str(folder), *arguments, "--no-plot"],
        capture_output=True,
        text=True,
        env=os.environ | {"NO_COLOR": "1"},
    )


def results(folder: Path):
    import pandas as pd

    (file,) = (folder / "outputs").glob("*.parquet")
    return pd.read_parquet(file)


def test_every_method_is_a_solver():
    assert {path.stem for path in (FOLDER / "solvers").glob("*.py")} == set(OURS)


def test_a_file_is_solved_and_judged(folder, tmp_path):
    problem = random_problem(3, best_known=None)
    best = optimum(problem)
    problem = random_problem(3, best_known=best, proved=True)
    problem.save(tmp_path / "one.npz")
    done = run(
        folder, "-s", "exact", "-s", "compact[solver=[highs,cpsat]]",
        "-o", "QPM[time_limit=300]", "-d", f"file[path={tmp_path / 'one.npz'}]",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = results(folder).set_index("solver_name")
    assert {"exact", "compact[solver=highs]"} <= set(found.index)
    for _, row in found.iterrows():
        assert -row["objective_value"] == pytest.approx(best)
        assert row["objective_feasible"] == 1.0 and row["objective_wrong"] == 0.0
        assert row["objective_relative_gap"] == pytest.approx(0.0, abs=1e-6)
        assert row["objective_gap_to_best_known"] == pytest.approx(0.0, abs=1e-9)
    assert found.loc["exact", "objective_certified"] == 1.0


def test_instances_of_suites_are_data_sets(folder):
    name, other = list(suite("small"))[:2]
    done = run(
        folder, "-s", "exact", "-o", "QPM[time_limit=300]",
        "-d", f"suite[instance=[small/{name},small/{other}]]",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = results(folder)
    assert set(found["dataset_name"]) == {f"suite[instance=small/{n}]" for n in (name, other)}
    assert (found["objective_feasible"] == 1.0).all()


def test_a_file_is_asked_for(folder):
    done = run(folder, "-s", "exact", "-d", "file")
    assert "give a file" in done.stdout
