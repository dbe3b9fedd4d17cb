"""When a stage runs again, and when it must not."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from qpm_nn.pipelines.stages import RunDirectory
from qpm_opt import InvalidInputError


class Chain:
    """Two stages, the second made from the first; counts what runs."""

    def __init__(self, path):
        self.path = path
        self.ran = []

    def __call__(self, *, first=1, second=1, resume=True):
        directory = RunDirectory(self.path, resume=resume)
        self.ran = []

        def make(name, text):
            def run(key):
                self.ran.append(name)
                (directory / name).write_text(text)

            return run

        with directory.locked():
            directory.run_stage(
                "a", make("a.txt", f"{first}"), settings={"x": first}, outputs=["a.txt"]
            )
            directory.run_stage(
                "b",
                make("b.txt", (directory / "a.txt").read_text() + f"{second}"),
                settings={"y": second},
                inputs=["a.txt"],
                outputs=["b.txt"],
            )
        return self.ran


@pytest.fixture
def chain(tmp_path):
    found = Chain(tmp_path / "run")
    assert found() == ["a.txt", "b.txt"]
    return found


def test_unchanged_stages_are_reused(chain):
    assert chain() == []


def test_changed_settings_run_what_depends_on_them(chain):
    assert chain(second=2) == ["b.txt"]
    assert chain(first=2, second=2) == ["a.txt", "b.txt"]
    assert chain() == ["a.txt", "b.txt"]


def test_missing_and_foreign_outputs_are_made_again(chain):
    (chain.path / "b.txt").unlink()
    assert chain() == ["b.txt"]
    (chain.path / "a.txt").write_text("by somebody else")
    assert chain() == ["a.txt"]


def test_without_resume_everything_runs(chain):
    assert chain(resume=False) == ["a.txt", "b.txt"]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        "null",
        '{"a": 3}',
        '{"a": {}}',
        '{"a": {"key": 1, "outputs": {}}}',
        '{"a": {"key": "1", "outputs": ["a.txt"]}}',
        '{"a": {"key": "1", "outputs": {"a.txt": 1}}}',
        '{"c": {"key": "1", "outputs": {}, "extras": 3}}',
        '{"c": {"key": "1", "outputs": {}, "extras": [3]}}',
    ],
)
def test_a_damaged_record_runs_everything(chain, caplog, text):
    (chain.path / "stages.json").write_text(text)
    assert chain() == ["a.txt", "b.txt"]
    assert "stages.json cannot be read" in caplog.text
    assert chain() == []


def test_a_failing_stage_leaves_no_record(tmp_path):
    directory = RunDirectory(tmp_path / "run")

    def fail(key):
        (directory / "a.txt").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        directory.run_stage("a", fail, settings={}, outputs=["a.txt"])
    ran = RunDirectory(tmp_path / "run").run_stage(
        "a", lambda key: (directory / "a.txt").write_text("whole"), settings={}, outputs=["a.txt"]
    )
    assert ran and (directory / "a.txt").read_text() == "whole"


def test_the_log_tells_what_happened(chain):
    chain(second=2)
    lines = map(json.loads, (chain.path / "log.jsonl").read_text().splitlines())
    events = [(line["stage"], line["event"]) for line in lines]
    assert events[-3:] == [("a", "reused"), ("b", "started"), ("b", "finished")]


def test_only_run_directories_are_taken(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match="is a file"):
        RunDirectory(tmp_path / "file")
    with pytest.raises(InvalidInputError, match="holds no run"):
        RunDirectory(tmp_path)


def test_other_settings_leave_nothing_of_the_old_run_behind_when_killed(chain):
    directory = RunDirectory(chain.path)
    directory.settings_changed = True

    def killed(key):
        raise KeyboardInterrupt

    with directory.locked(), pytest.raises(KeyboardInterrupt):
        directory.run_stage("a", killed, settings={"x": 2}, outputs=["a.txt"])
    assert not (chain.path / "b.txt").exists()
    assert chain() == ["a.txt", "b.txt"]


def test_without_resume_a_kill_leaves_nothing_of_the_old_run_behind(chain):
    directory = RunDirectory(chain.path, resume=False)

    def killed(key):
        raise KeyboardInterrupt

    with directory.locked(), pytest.raises(KeyboardInterrupt):
        directory.run_stage("a", killed, settings={"x": 1}, outputs=["a.txt"])
    assert not (chain.path / "a.txt").exists() and not (chain.path / "b.txt").exists()


def test_without_resume_a_stage_runs_once(chain):
    directory = RunDirectory(chain.path, resume=False)
    options = {"settings": {"x": 1}, "outputs": ["a.txt"]}
    with directory.locked():
        ran = [
            directory.run_stage("a", lambda key: (directory / "a.txt").write_text("1"), **options)
            for _ in range(2)
        ]
    assert ran == [True, False]


def test_outputs_of_a_stage_that_was_killed_at_its_end_are_removed_like_others(chain):
    directory = RunDirectory(chain.path)

    def killed(key):
        (directory / "c.txt").write_text("whole, but not on record")
        raise KeyboardInterrupt

    with directory.locked(), pytest.raises(KeyboardInterrupt):
        directory.run_stage("c", killed, settings={}, outputs=["c.txt"])
    later = RunDirectory(chain.path)
    later.settings_changed = True
    with later.locked():
        later.run_stage("d", lambda key: None, settings={}, outputs=[])
    assert not (chain.path / "c.txt").exists()


def test_two_runs_at_once_are_refused(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    with directory.locked():
        with pytest.raises(InvalidInputError, match="is in use by another command"):
            with RunDirectory(tmp_path / "run").locked():
                pass
    with RunDirectory(tmp_path / "run").locked():
        pass


def test_the_lock_of_a_killed_run_is_free(tmp_path):
    code = (
        "import sys, time; from qpm_nn.pipelines.stages import RunDirectory\n"
        "with RunDirectory(sys.argv[1]).locked():\n"
        "    print('locked', flush=True); time.sleep(60)"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(InvalidInputError, match="wait for its end"):
            with RunDirectory(tmp_path / "run").locked():
                pass
        process.kill()
    with RunDirectory(tmp_path / "run").locked():
        pass
