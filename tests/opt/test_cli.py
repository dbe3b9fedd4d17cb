"""The command line as a user meets it: exit codes, sentences, files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

from qpm_opt import BoundStatus, Problem, cli, optimize, verify
from qpm_opt.bounds.proof import Proof
from tests.conftest import random_problem


def qpm(*arguments, timeout=120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qpm_opt", *map(str, arguments)],
        capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path, monkeypatch):
    """What a command writes to a relative path stays out of the repository."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def problem_file(tmp_path):
    path = tmp_path / "problem.npz"
    random_problem(3).save(path)
    return path


def test_solve_then_verify(problem_file, tmp_path):
    out = tmp_path / "deep" / "solution.json"
    solved = qpm("solve", problem_file, "--out", out, "--threads", 1)
    assert solved.returncode == 0, solved.stderr
    assert "optimal" in solved.stdout
    record = json.loads(out.read_text())
    assert record["format"] == "qpm-solution/1"
    assert record["solution_status"] == "optimal"
    verified = qpm("verify", problem_file, out, "--search-time", 0.2)
    assert verified.returncode == 0, verified.stdout
    assert "accepted" in verified.stdout
    again = qpm(
        "solve", problem_file, "--out", out, "--warm-start", out, "--method", "heuristic",
        "--time-limit", 10,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    rewritten = json.loads(out.read_text())
    assert rewritten["warm_start_objective"] == record["objective"]
    assert rewritten["bound"] == record["bound"]


def test_verify_rejects_with_the_reason(problem_file, tmp_path):
    out = tmp_path / "solution.json"
    assert qpm("solve", problem_file, "--out", out, "--method", "heuristic",
               "--time-limit", 0.2).returncode == 0  # fmt: skip
    record = json.loads(out.read_text())
    for changes, reason in (
        ({"objective": record["objective"] + 1}, "objective is"),
        ({"bound": record["objective"] - 1, "bound_kind": "mine"}, "it is false"),
    ):
        out.write_text(json.dumps(record | changes))
        outcome = qpm("verify", problem_file, out)
        assert outcome.returncode == 2
        assert f"wrong: {reason}" in outcome.stdout or reason in outcome.stdout
        assert "rejected" in outcome.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["solve", "missing.npz", "--out", "s.json"], "missing.npz does not exist"),
        (["solve", "{problem}"], "Missing option '--out'"),
        (["solve", "{problem}", "--out", "s.json", "--method", "magic"], "no method 'magic'"),
        (["solve", "{problem}", "--out", "s.json", "--solver", "hihgs"], "highs"),
        (["solve", "{problem}", "--out", "s.json", "--time-limit", "-3"], "not in the range x>=0"),
        (["solve", "{problem}", "--out", "s.json", "--time-limit", "inf"], "not a finite number"),
        (["solve", "{problem}", "--out", "s.json", "--gap", "nan"], "not a finite number"),
        (["solve", "{problem}", "--out", "s.json", "--seed", "-1"], "not in the range"),
        (["solve", "{problem}", "--out", "s.json", "--threads", "0"], "not in the range"),
        (["solve", "{problem}", "--out", "s.json", "--threads", "9999"], "not in the range"),
        (
            ["solve", "{problem}", "--out", "s.json", "--method", "heuristic", "--solver", "hihgs"],
            "no solver 'hihgs' (did you mean highs?); known are",
        ),
        (["solve", "{problem}", "--out", "{problem}"], "would overwrite the input"),
        (["solve", "{problem}", "--out", "{folder}/link.npz"], "would overwrite the input"),
        (["solve", "{problem}", "--out", "{folder}/fifo"], "no regular file"),
        (["solve", "{problem}", "--out", "{folder}/" + 300 * "x"], "cannot be written"),
        (["verify", "{problem}", "no.json", "--search-time", "nan"], "not a finite number"),
        (["solve", "{problem}", "--out", "s.json", "--time-limit", "soon"], "not a valid float"),
        (["solve", "{problem}", "--out", "s.json", "--option", "x"], "NAME=VALUE"),
        (["solve", "{problem}", "--out", "s.json", "--option", "no_such=1"], "no_such"),
        (["solve", "{problem}", "--out", "{folder}"], "is a directory"),
        (["solve", "{problem}", "--out", "{problem}/s.json"], "not a folder"),
        (["solve", "{problem}", "--out", "s.json", "--warm-start", "no.json"], "does not exist"),
        (["verify", "{problem}", "no.json"], "does not exist"),
        (
            ["constants", "no.npz", "--n-selected", "5", "--n-per-class", "2", "--out", "p.npz"],
            "no",
        ),
        (["no-such-command"], "No such command"),
    ],
)
def test_unusable_input_is_one_sentence_and_code_2(
    problem_file, tmp_path, arguments, sentence, monkeypatch, capsys
):
    (tmp_path / "link.npz").symlink_to(problem_file)
    os.mkfifo(tmp_path / "fifo")
    before = problem_file.read_bytes()
    filled = [a.format(problem=problem_file, folder=tmp_path) for a in arguments]
    monkeypatch.setattr(sys, "argv", ["qpm", *filled])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert problem_file.read_bytes() == before


#: Files by what is said of them where arrays were expected, and where a solution was.
FILES = {
    "problem.npz": ("is a problem file, not", "is a problem file, not"),
    "solution.json": ("is a solution file, not", "is a solution file, not"),
    "solution.certificate.npz": ("is a certificate, not", "is a certificate, not"),
    "features.npz": ("is a features file, not", "is a features file, not"),
    "other.npz": ("lacks", "is an .npz file of another kind, not"),
    "array.npy": ("is a single array (.npy), not", "is a single array (.npy), not"),
    "note.txt": ("is a text file, not", "cannot be read as JSON"),
    "other.json": ("is a JSON file, not", "is no solution file"),
    "binary": ("is a binary file of another format, not",) * 2,
    "cut.npz": ("is a damaged .npz file", "is a damaged .npz file, not"),
    "nothing": ("is empty, not", "cannot be read as JSON"),
    "fifo": ("is a device or a pipe, not", "is a device or a pipe, not"),
    "folder": ("is a folder, not", "is a folder, not"),
}


@pytest.fixture
def files(problem_file, tmp_path):
    """The folder with one file of every name in FILES."""
    problem = Problem.load(problem_file)
    optimize.solve(problem, threads=1).save(tmp_path / "solution.json", problem)
    np.savez(tmp_path / "features.npz", features=np.ones((4, 3)), labels=[0, 0, 1, 1])
    np.savez(tmp_path / "other.npz", x=1)
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "note.txt").write_text("a word")
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "cut.npz").write_bytes(problem_file.read_bytes()[:-9])
    (tmp_path / "nothing").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "right", "advice"),
    [
        (["solve", "{file}", "--out", "o.json"], "problem.npz", "such as 'qpm constants' and"),
        (["verify", "{file}", "{problem}"], "problem.npz", "such as 'qpm constants' and"),
        (["verify", "{problem}", "{file}"], "solution.json", "'qpm solve' or Result.save wrote"),
        (
            ["solve", "{problem}", "--out", "o.json", "--warm-start", "{file}"],
            "solution.json", "'qpm solve' or Result.save wrote",
        ),
        (
            ["constants", "{file}", "--n-selected", "2", "--n-per-class", "1", "--out", "p.npz"],
            "features.npz", "give an .npz file with features (n_images, n_features)",
        ),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_named_with_what_to_give(
    files, arguments, right, advice, monkeypatch, capsys
):
    for name in FILES.keys() - {right}:
        filled = [a.format(file=files / name, problem=files / "problem.npz") for a in arguments]
        monkeypatch.setattr(sys, "argv", ["qpm", *filled])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 2
        message = " ".join(capsys.readouterr().err.split())
        assert message.startswith(f"Error: {files / name} {FILES[name][right == 'solution.json']}")
        assert advice in message
        assert "pickle" not in message


def test_a_damaged_problem_file_is_one_sentence(tmp_path):
    path = tmp_path / "p.npz"
    np.savez(path, A=np.full((2, 3), np.nan), R=np.zeros((3, 3)), b=np.zeros(3),
             n_selected=2, n_per_class=1)  # fmt: skip
    outcome = qpm("solve", path, "--out", tmp_path / "s.json")
    assert outcome.returncode == 2
    assert "not finite" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_an_infeasible_problem_is_code_3(tmp_path):
    pairs = [[c, e] for c in range(3) for e in range(3, 6)]  # not among six sets of two
    problem = Problem(
        np.ones((6, 4)), np.zeros((4, 4)), n_selected=4, n_per_class=2, contrastive_pairs=pairs
    )
    problem.save(tmp_path / "p.npz")
    outcome = qpm("solve", tmp_path / "p.npz", "--out", tmp_path / "s.json")
    assert outcome.returncode == 3
    assert "infeasible" in outcome.stderr
    assert not (tmp_path / "s.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_writes_the_incumbent(tmp_path, number):
    rng = np.random.default_rng(0)
    R = np.triu(rng.random((60, 60)), 1)
    problem = Problem(rng.random((20, 60)), R + R.T, n_selected=20, n_per_class=4)
    problem.save(tmp_path / "p.npz")
    out = tmp_path / "s.json"
    command = [sys.executable, "-m", "qpm_opt", "solve",
               str(tmp_path / "p.npz"), "--out", str(out), "--time-limit", "100"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    first_line = process.stderr.readline()  # a progress line: the solve is under way
    assert "incumbent" in first_line
    time.sleep(0.2)
    process.send_signal(number)
    assert process.wait(timeout=30) == 0
    process.stderr.close()
    record = json.loads(out.read_text())
    assert record["termination_condition"] == "interrupted"
    assert qpm("verify", tmp_path / "p.npz", out).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_while_the_command_loads(number):
    # The signal arrives when the command line begins to load.
    code = f"""
import builtins, os, sys
import qpm_opt.__main__
load = builtins.__import__
def interrupted(name, *arguments, **options):
    if name == "rich.console":
        os.kill(os.getpid(), {int(number)})
    return load(name, *arguments, **options)
builtins.__import__ = interrupted
qpm_opt.__main__.main()
"""
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (outcome.returncode, outcome.stderr) == (1, "Interrupted.\n")


def test_a_solution_that_cannot_be_saved_is_saved_elsewhere(problem_file, tmp_path, monkeypatch):
    out = tmp_path / "solution.json"
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    solve = optimize.solve

    def solve_and_lose_the_place(*arguments, **options):
        result = solve(*arguments, **options)
        out.mkdir()
        return result

    monkeypatch.setattr(optimize, "solve", solve_and_lose_the_place)
    arguments = ["solve", problem_file, "--out", out, "--method", "heuristic", "--time-limit", 0]
    outcome = CliRunner().invoke(cli.qpm, [str(a) for a in arguments])
    assert outcome.exit_code == 1
    (saved,) = folder.iterdir()
    assert saved.name in " ".join(outcome.stderr.split())
    assert json.loads(saved.read_text())["format"] == "qpm-solution/1"
    assert list(out.iterdir()) == []


def test_messages_are_no_markup(problem_file, tmp_path):
    out = tmp_path / "solution.json"
    assert qpm("solve", problem_file, "--method", "compact", "--out", out).returncode == 0
    out.write_text(json.dumps(json.loads(out.read_text()) | {"bound_kind": "[/mine]"}))
    outcome = qpm("verify", problem_file, out, "--search-time", 0)
    assert outcome.returncode == 0, outcome.stderr
    assert "([/mine])" in outcome.stdout


def test_constants_from_features(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 10)
    features = rng.random((40, 12)) + (labels[:, None] == np.arange(12) % 4)
    features[:, 5] = 1.0
    np.savez(tmp_path / "f.npz", features=features, labels=labels)
    out = tmp_path / "p.npz"
    outcome = qpm(
        "constants", tmp_path / "f.npz", "--n-selected", 5, "--n-per-class", 2, "--out", out
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "1 constant" in outcome.stdout
    problem = Problem.load(out)
    assert not problem.candidates[5]
    assert (problem.n_selected, problem.n_per_class) == (5, 2)


def test_constants_take_other_sources_of_a_and_b(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 10)
    features = rng.random((40, 12)) + (labels[:, None] == np.arange(12) % 4)
    centre, liked = -rng.random(12), np.eye(12)[3]
    np.savez(tmp_path / "f.npz", features=features, labels=labels, centre=centre)
    np.save(tmp_path / "liked.npy", liked)
    out = tmp_path / "p.npz"
    common = ("constants", tmp_path / "f.npz", "--n-selected", 5, "--n-per-class", 2, "--out", out)
    sizes = {"n_selected": 5, "n_per_class": 2, "name": "f"}

    outcome = qpm(
        *common, "--bias", "centre", "--lambda", 3, "--similarity-scale", 0.5,
        "--class-similarity", "auroc",
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    expected = Problem.from_features(
        features, labels, class_similarity="auroc", centre=centre, bias="centre", bias_scale=3.0,
        similarity_scale=0.5, **sizes,
    )  # fmt: skip
    assert Problem.load(out).sha256 == expected.sha256

    assert qpm(*common, "--bias", tmp_path / "liked.npy").returncode == 0
    expected = Problem.from_features(features, labels, bias=liked, **sizes)
    assert Problem.load(out).sha256 == expected.sha256

    outcome = qpm(*common, "--bias", "centr")
    assert outcome.returncode == 2
    assert "did you mean centre" in outcome.stderr


def test_a_bound_that_says_little_is_called_so(tmp_path):
    rng = np.random.default_rng(0)
    R = np.triu(rng.random((60, 60)), 1)
    problem = Problem(rng.random((20, 60)), R + R.T, n_selected=20, n_per_class=4)
    problem.save(tmp_path / "p.npz")
    common = ("solve", tmp_path / "p.npz", "--out", tmp_path / "s.json", "--time-limit", 8)
    weak = qpm(*common, "--method", "compact", "--formulation", "projected")
    assert "(the bound is weak)" in weak.stdout
    assert "(no bound: a heuristic)" in qpm(*common, "--method", "heuristic").stdout


def test_solvers_are_listed():
    outcome = qpm("solvers")
    assert outcome.returncode == 0
    for name in ("highs", "cpsat", "gurobi", "scip"):
        assert name in outcome.stdout


def test_help_names_every_command():
    outcome = qpm("--help")
    assert outcome.returncode == 0
    for name in ("solve", "verify", "constants", "solvers", "demo", "run"):
        assert name in outcome.stdout


def test_ctrl_c_waits_until_the_result_is_written(tmp_path, monkeypatch):
    problem = random_problem(3, n_selected=3, n_per_class=2, distinct=False)
    problem.save(tmp_path / "p.npz")
    save = Proof.save

    def interrupted(*arguments):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
        save(*arguments)

    monkeypatch.setattr(Proof, "save", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    out = tmp_path / "s.json"
    done = CliRunner().invoke(cli.qpm, ["solve", str(tmp_path / "p.npz"), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert verify(problem, out).bound_status is BoundStatus.PROVED
    assert signal.getsignal(signal.SIGINT) is handler
