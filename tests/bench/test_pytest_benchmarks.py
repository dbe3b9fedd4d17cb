"""``pytest benchmarks``, run in a process of its own: options, the table, and who fails."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from qpm_bench.suites import suite

ROOT = Path(__file__).parents[2]


def run(*arguments, child="qpm_bench.child"):
    code = (
        "import sys, pytest; from qpm_bench import runner\n"
        f"runner._CHILD = {child!r}; sys.exit(pytest.main(sys.argv[1:]))"
    )
    # pytest-benchmark measures nothing in workers of pytest-xdist, by which these tests may be run.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
    options = ("-p", "no:cacheprovider", "-rfs", "benchmarks/test_solve.py", *arguments)
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, options)], cwd=ROOT, env=environment,
        capture_output=True, text=True,
    )  # fmt: skip


def rows_of(done) -> dict[str, list[str]]:
    """Cells of the table of solves, by id."""
    rows = re.findall(r"^solve\[(\S+-seed0)\]\s+(.+)$", done.stdout, re.MULTILINE)
    return {label: rest.split() for label, rest in rows}


def test_solves_become_a_table_and_extra_info(tmp_path):
    held = tmp_path / "held.json"
    done = run(
        "--suite", "tiny", "--method", "exact,compact", "--solver", "highs", "--time-limit", "300",
        f"--benchmark-json={held}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    rows = rows_of(done)
    names = list(suite("tiny"))
    assert list(rows) == [f"{m}-{n}-seed0" for n in names for m in ("exact", "compact-highs")]
    for benchmark in json.loads(held.read_text())["benchmarks"]:
        info = benchmark["extra_info"]
        status, objective, bound, *_ = rows[benchmark["param"]]
        assert benchmark["name"] == f"test_solve[{benchmark['param']}]"
        assert (status, objective) == (info["status"], f"{info['incumbent']:.6g}")
        assert bound == f"{info['bound']:.6g}"
        assert info["gap"] == pytest.approx(0.0, abs=1e-5)  # one optimum is near 0
        assert info["memory"] > 2**20 and "numpy" in info["versions"]
        # exact leaves side constraints to compact.
        assert (info["cuts"] is None) == info["certified"]


def test_solvers_are_part_of_the_id_and_a_smoke_run_has_a_table():
    done = run(
        "--benchmark-disable", "--method", "compact", "--solver", "highs", "--solver", "gurobi"
    )
    assert done.returncode == 0, done.stdout
    assert [label.rsplit("-", 2)[0] for label in rows_of(done)] == [
        "compact-highs",
        "compact-gurobi",
    ]


@pytest.mark.parametrize(("methods", "failed"), [("heuristic,exact", 1), ("exact,heuristic", 0)])
def test_a_refuted_bound_fails_its_test_or_the_session_if_it_comes_to_light_later(methods, failed):
    done = run(
        "--benchmark-disable", "--method", methods, "--solver", "highs", "--time-limit", "10",
        child="tests.bench.lying_child",
    )  # fmt: skip
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert len(re.findall("^FAILED", done.stdout, re.MULTILINE)) == failed
    (lie,) = (cells for label, cells in rows_of(done).items() if label.startswith("exact"))
    assert lie[0] == "WRONG" and "verified" in lie


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--suite", "tiny,smal"), "did you mean small"),
        (("--method", "exakt"), "did you mean exact"),
        (("--method", "exact", "--solver", "higs"), "did you mean highs"),
        (("--time-limit", "0"), "a positive number was expected"),
    ],
)
def test_unusable_options_are_usage_errors(option, message):
    done = run(*option)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in done.stderr


def test_a_solver_that_is_not_there_is_skipped_with_its_reason(tmp_path):
    done = run("--benchmark-disable", "--method", "compact", child="tests.bench.missing_child")
    assert done.returncode == 0, done.stdout
    assert "SKIPPED" in done.stdout and "no such package" in done.stdout
