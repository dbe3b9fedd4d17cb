"""Files on disk: whatever stands in the way or is damaged is one sentence, and nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from qpm_opt.errors import InvalidInputError, InvalidProblemError
from qpm_opt.files import remove_unfinished, replace_on_success
from qpm_opt.problem import Problem

PROBLEM = Problem(
    np.arange(12.0).reshape(3, 4), 1 - np.eye(4), candidate=np.arange(4) != 3,
    n_selected=3, n_per_class=2,
)  # fmt: skip


def test_load_of_random_damage(tmp_path):
    """Whatever bytes change, the answer is a problem or one sentence."""
    path = tmp_path / "p.npz"
    PROBLEM.save(path)
    whole = path.read_bytes()
    generator = random.Random(0)
    refused = 0
    for _ in range(500):
        damaged = bytearray(whole)
        for _ in range(generator.randint(1, 4)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        path.write_bytes(damaged[: generator.choice([None, generator.randrange(len(damaged))])])
        try:
            Problem.load(path)
        except InvalidProblemError as failure:
            refused += 1
            assert "\n" not in str(failure)
    assert refused > 100


def test_load_of_a_member_that_is_no_array(tmp_path):
    path = tmp_path / "p.npz"
    PROBLEM.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("note.txt", "a word")
    with pytest.raises(InvalidProblemError, match=r"'note.txt', which is no array"):
        Problem.load(path)


def test_save_writes_through_a_link(tmp_path):
    target, link = tmp_path / "folder" / "p.npz", tmp_path / "link.npz"
    link.symlink_to(target)
    PROBLEM.save(link)
    assert link.is_symlink()
    assert Problem.load(target).sha256 == PROBLEM.sha256
    assert [path.name for path in target.parent.iterdir()] == ["p.npz"]


def test_save_replaces_nothing_but_files(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path):
        with pytest.raises(InvalidInputError, match="a folder or a device"):
            PROBLEM.save(path)
    assert os.listdir(tmp_path) == ["fifo"]


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replace_on_success(path) as temporary:
        temporary.write_text("new")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    path.unlink()
    with pytest.raises(OSError), replace_on_success(path):
        path.mkdir()
    assert os.listdir(tmp_path) == ["file"]


KILLED = """
import os, signal, sys
from qpm_opt.files import replace_on_success
with replace_on_success(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_write_left_can_be_removed(tmp_path):
    path = tmp_path / "below" / "file"
    done = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not path.exists() and len(os.listdir(path.parent)) == 1
    (tmp_path / ".file.of.somebody").touch()
    remove_unfinished(tmp_path)
    assert os.listdir(path.parent) == []
    assert sorted(os.listdir(tmp_path)) == [".file.of.somebody", "below"]
