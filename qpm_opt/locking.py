"""Run directories that two commands must not work in at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from qpm_opt.errors import InvalidInputError

LOCK = ".lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other commands out of a folder; the lock of one that was killed is free.

    Raises
    ------
    InvalidInputError
        If another command is in it.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InvalidInputError(
            f"{folder} is in use by another command, such as qpm run; wait for its end or give "
            "another folder."
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def locked_if_run(*folders: Path) -> Iterator[None]:
    """The same for folders that may be no runs, or ones that this user can only read.

    A run has the file of the lock before any result.
    """
    with contextlib.ExitStack() as locks:
        for folder in sorted({folder.resolve() for folder in folders}):
            if os.access(folder / LOCK, os.W_OK):
                locks.enter_context(locked(folder))
        yield
