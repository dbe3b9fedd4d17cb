"""``qpm what-if`` as a user meets it: names, sentences, exit codes, files."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from qpm_opt import Assignment, Problem, cli, solve, verify
from qpm_opt.errors import InvalidInputError
from qpm_opt.locking import LOCK, locked
from tests.opt.test_cli import qpm

#: Names with what the options have a meaning for, from a few alphabets, and one that is a label.
NAMES = ["a:b", "x,y", "x", "y,x", "2", "Ünïcödé, 文字", "n" * 300]


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """A run directory without a model, and its problem and solution."""
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    A, R = rng.normal(size=(7, 12)), np.triu(rng.random((12, 12)), 1)
    problem = Problem(A, R + R.T, n_selected=6, n_per_class=3)
    problem.save(folder / "problem.npz")
    solve(problem, threads=1, time_limit=30).save(folder / "solution.json", problem)
    return folder, problem, Assignment.load(folder / "solution.json", problem)


@pytest.fixture
def run(solved, tmp_path):
    """A copy of it, with the names of the classes, in a folder of a test."""
    folder, problem, held = solved
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    model = {"format": "qpm-model/2", "class_names": NAMES}
    (tmp_path / "model.json").write_text(json.dumps(model), encoding="utf-8")
    return tmp_path, problem, held


def invoke(*arguments):
    return CliRunner().invoke(cli.qpm, ["what-if", *map(str, arguments)])


def test_run_and_files_of_it(run):
    folder, problem, held = run
    gone, own = int(held.selected[0]), int(held.class_features(2)[1])
    new = int(np.flatnonzero(~held.selection)[0])
    out = folder / "deep" / "if.json"
    made = qpm(
        "what-if", folder, "--forbid", gone, "--require", new, "--forbid-for", f"x:{own}",
        "--require-for", f"a:b:{new}", "--differ", f"x,y,6:{new}", "--time-limit", 1,
        "--out", out,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["demands"] == {
        "required": [new],
        "forbidden": [gone],
        "required_for": [[0, new]],
        "forbidden_for": [[2, own]],
        "different": [[1, 6, new]],
    }
    assert f"cost       {record['cost']:.6g} (" in made.stdout
    assert f"before {record['objective_before']:.9g}" in made.stdout
    assert "verified   every constraint, every demand" in made.stdout
    assert str(gone) in made.stdout.split("features   ")[1].split(" out,")[0].split(", ")
    for change in record["class_changes"]:
        assert change["name"] == NAMES[change["class"]]
    assert f"{len(record['class_changes'])} of 7 have other" in made.stdout
    rows, chosen = record["assignment"], record["selection"]
    assert new in chosen and gone not in chosen and new in rows[0] and own not in rows[2]
    assert (new in rows[1]) != (new in rows[6])
    beside = out.with_name("if.solution.json")
    assert str(beside) in made.stdout
    outcome = verify(problem, beside)
    assert outcome.accepted and outcome.bound_status == "proved"
    assert json.loads(beside.read_text())["assignment"] == rows


def test_problem_and_solution_without_a_run(run):
    folder, problem, held = run
    gone = int(held.selected[0])
    made = invoke(folder / "problem.npz", folder / "solution.json", "--forbid-for", f"2:{gone}",
                  "--time-limit", 0.5)  # fmt: skip
    assert made.exit_code == 0, made.output
    record = json.loads((folder / "what-if.json").read_text())
    assert record["demands"]["forbidden_for"] == [[2, gone]]  # the label: nobody knows names here
    assert verify(problem, folder / "what-if.solution.json").accepted
    # Again, over what is there, and with a proof of what is best.
    made = invoke(folder / "problem.npz", folder / "solution.json", "--forbid", gone,
                  "--method", "exact", "--threads", 1)  # fmt: skip
    assert made.exit_code == 0, made.output
    record = json.loads((folder / "what-if.json").read_text())
    assert record["solution_status"] == "optimal"
    assert "under the demands" in record["bound_kind"]


@pytest.mark.parametrize(
    ("given", "label"),
    [("a:b", 0), ("x,y", 1), ("x", 2), ("2", 4), ("3", 3), ("Ünïcödé, 文字", 5), ("n" * 300, 6)],
)
def test_classes_by_name_and_by_label(run, given, label):
    folder, _, held = run
    own = int(held.class_features(label)[0])
    made = invoke(folder, "--require-for", f"{given}:{own}", "--time-limit", 0.2)
    assert made.exit_code == 0, made.output
    record = json.loads((folder / "what-if.json").read_text(encoding="utf-8"))
    assert record["demands"]["required_for"] == [[label, own]]
    assert record["cost"] <= 0


def test_long_names_are_shortened_but_in_files(run):
    folder, _, held = run
    gone = int(held.class_features(6)[0])
    made = invoke(folder, "--forbid-for", f"6:{gone}", "--time-limit", 0.2)
    (line,) = (line for line in made.stdout.splitlines() if "nn" in line)
    assert line.startswith("           n") and "n…n" in line and "n" * 40 not in line
    changes = json.loads((folder / "what-if.json").read_text(encoding="utf-8"))["class_changes"]
    assert "n" * 300 in [change["name"] for change in changes]


def refused(*arguments) -> str:
    made = invoke(*arguments)
    assert isinstance(made.exception, InvalidInputError), made.output
    return str(made.exception)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "There are no demands; require or forbid something."),
        (["--require", "12"], "There is no feature 12; there are from 0 to 11."),
        (["--forbid", "-1"], "There is no feature -1"),
        (["--require", "3", "--forbid", "3"], "Feature 3 is both required and forbidden"),
        (["--require-for", "z:3"], "there is no class 'z'; name it by name, or by label, from 0"),
        (["--require-for", "7:3"], "there is no class '7'"),
        (["--require-for", "a:c:3"], "Did you mean a:b?"),
        (["--require-for", "3"], "is not of the form CLASS:F"),
        (["--forbid-for", "x:one"], "is not of the form CLASS:F"),
        (["--forbid-for", "x:-3"], "is not of the form CLASS:F"),
        (["--forbid-for", "x:3", "--require-for", "x:3"], "both required and forbidden for x"),
        (["--differ", "x:3"], "does not hold two classes, CLASS,CLASS:F"),
        (["--differ", "x,z:3"], "there is no class 'z'"),
        (["--differ", "x,x:3"], "x is to differ from itself in feature 3"),
        (["--differ", "x,y,x:3"], "can be read in 2 ways"),
        (["--differ", "a,b,c,d:3"], "does not hold two classes"),
        (["--require", "3", "--method", "magic"], "There is no method 'magic'"),
        (["--require", "3", "--time-limit", "1", "--out", "{run}/problem.npz"], "would overwrite"),
        (["--require", "3", "--out", "{run}/solution.json"], "would overwrite"),
        (["--require", "3", "--out", "{run}/model.json/x.json"], "cannot be written"),
    ],
)
def test_bad_input(run, options, sentence):
    folder, _, _ = run
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sentence in refused(folder, *(text.format(run=folder) for text in options))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_bad_sources(run):
    folder, _, _ = run
    one = ("--require", 3)
    assert "is no directory of a run" in refused(folder / "problem.npz", *one)
    assert "is no directory of a run" in refused(folder / "nothing", *one)
    assert "has its own solution" in refused(folder, folder / "solution.json", *one)
    assert "not a problem file" in refused(folder / "solution.json", folder / "solution.json", *one)
    assert "does not exist" in refused(folder / "problem.npz", folder / "none.json", *one)
    (folder / "config.toml").write_text("time_limit = Infinity")
    assert "config.toml cannot be read (" in refused(folder, *one)
    (folder / "config.toml").unlink()
    model = folder / "model.json"
    model.write_text(json.dumps({"class_names": NAMES[:3]}))
    assert "names 3 classes, but its problem has 7" in refused(folder, *one)
    model.write_text(json.dumps({"class_names": ["twin", "b", "c", "twin", "e", "f", "g"]}))
    twins = refused(folder, "--require-for", "twin:3")
    assert "2 classes are called 'twin'; name it by its label, one of 0, 3." in twins
    for text in ("{", "[]", "{}", '{"class_names": 3}'):
        model.write_text(text)
        assert "model.json cannot be read" in refused(folder, *one)
    model.unlink()
    assert "by label, from 0 to 6" in refused(folder, "--require-for", "x:3")
    record = json.loads((folder / "solution.json").read_text())
    record["assignment"][0] = record["assignment"][1]
    (folder / "solution.json").write_text(json.dumps(record))
    assert "The solution is infeasible: classes 0, 1" in refused(folder, *one)
    (folder / "solution.json").unlink()
    assert "has no solution.json; give the directory of a run" in refused(folder, *one)


def test_a_run_that_goes_on_is_refused(run, tmp_path):
    folder, _, held = run
    demand = ("--require", int(held.selected[0]), "--time-limit", 0.2)
    files = (folder / "problem.npz", folder / "solution.json")
    with locked(folder):
        for source in ((folder,), files):
            assert "in use by another command, such as qpm run" in refused(*source, *demand)
        # Its files from elsewhere, but a result in its folder.
        (tmp_path / "elsewhere").mkdir()
        copies = [shutil.copy(path, tmp_path / "elsewhere") for path in files]
        out = ("--out", folder / "what-if.json")
        assert "in use by another command" in refused(*copies, *demand, *out)
    assert not (folder / "what-if.json").exists()
    for source in ((folder,), files):
        assert invoke(*source, *demand).exit_code == 0
        with locked(folder):  # free again
            pass


def test_a_run_that_can_only_be_read(run, tmp_path_factory):
    folder, _, held = run
    (folder / LOCK).touch(mode=0o444)
    folder.chmod(0o555)
    out = tmp_path_factory.mktemp("elsewhere") / "if.json"
    demand = ("--require", int(held.selected[0]), "--time-limit", 0.2, "--out", out)
    try:
        assert invoke(folder, *demand).exit_code == 0
    finally:
        folder.chmod(0o755)
    assert out.exists()


def test_no_solution(run):
    folder, _, _ = run
    same = [("--require-for", f"{c}:{d}") for c in (0, 1) for d in (1, 2, 3)]
    demands = [part for pair in same for part in pair]
    made = invoke(folder, *demands, "--time-limit", 0.3)
    assert made.exit_code == 3
    assert not (folder / "what-if.json").exists()
    assert "was found; raise --time-limit" in made.stderr
    made = invoke(folder, *demands, "--method", "exact", "--threads", 1, "--time-limit", 30)
    assert made.exit_code == 3
    assert "No solution meets the demands." in made.stderr
