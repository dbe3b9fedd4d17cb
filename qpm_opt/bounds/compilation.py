"""Code compiled by Numba and kept on disk.

To compile takes half a minute, during which nothing can be interrupted. So a process of its own
does it, and whoever waits for that can stop; from then on the code is loaded in a second.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import llvmlite.binding as llvm
import numba

from qpm_opt.child import start_child

Function = TypeVar("Function", bound=Callable[..., object])

LINEAR, SEMIDEFINITE = "linear_compiled", "semidefinite_compiled"
"""Modules whose ``use_once()`` calls all that is to be compiled for one kind of bound."""


def _directory() -> Path:
    """Where the code is kept: for each state of sources, Python, Numba and processor, one place.

    Another folder of the same package has its own, for Numba tells files apart by their paths. It
    looks at the file of a function alone, not at those of the functions that it calls.
    """
    folder = Path(__file__).parent
    state = [str(folder), sys.version, numba.__version__, llvm.get_host_cpu_name()]
    state.append(llvm.get_host_cpu_features().flatten())
    digest = hashlib.sha256("\n".join(state).encode())
    uses, modules = b"\nfrom qpm_opt.bounds.compilation import", (LINEAR, SEMIDEFINITE)
    for source in sorted(folder.glob("*.py")):
        text = source.read_bytes()
        if uses in text or source.stem in modules or source == Path(__file__):
            digest.update(text)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for parent in (folder / "__pycache__", home / "qpm_opt"):
        directory = parent / f"compiled-{digest.hexdigest()[:16]}"
        with contextlib.suppress(OSError):
            directory.mkdir(parents=True, exist_ok=True)
            if os.access(directory, os.W_OK):
                return directory
    raise RuntimeError("There is no place where compiled code could be kept.")


_DIRECTORY = _directory()


def compiled(function: Function) -> Function:
    """By Numba, kept on disk, and run without the interpreter's lock; for compiled code to call.

    Sums may be taken in any order, for the sake of vector instructions. Nothing can be allocated,
    and so no references are counted, which would take a seventh of the time.
    """
    return _compiled(function, no_cpython_wrapper=True)


def entry_point(function: Function) -> Function:
    """The same for Python to call, too.

    What unpacks dozens of arrays takes as long to compile as most functions.
    """
    return _compiled(function, no_cpython_wrapper=False)


def _compiled(function: Function, *, no_cpython_wrapper: bool) -> Function:
    options = numba.njit(
        cache=True,
        nogil=True,
        error_model="numpy",
        fastmath={"reassoc", "contract"},
        _nrt=False,
        no_cfunc_wrapper=True,
        no_cpython_wrapper=no_cpython_wrapper,
    )
    usual, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(_DIRECTORY)
    try:
        return cast(Function, options(function))
    finally:
        numba.config.CACHE_DIR = usual


def is_kept(module: str) -> bool:
    """Whether all code of ``LINEAR`` or ``SEMIDEFINITE`` is there, and nothing to be compiled."""
    return not numba.config.DISABLE_JIT and (_DIRECTORY / f"{module}-complete").exists()


class Compilation:
    """A process that compiles everything of ``LINEAR`` or ``SEMIDEFINITE``."""

    def __init__(self, module: str) -> None:
        none = subprocess.DEVNULL
        self._process = start_child(__name__, module, stdin=none, stdout=none, stderr=none)

    @property
    def is_over(self) -> bool:
        """Whether it has ended, well or not."""
        return self._process.poll() is not None

    def wait(self, seconds: float) -> None:
        """Return when it has ended, or after some time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def close(self) -> None:
        """End it; what is not complete then is compiled anew the next time."""
        self._process.kill()
        self._process.wait()


def main() -> None:
    """Compile everything of a module by using it once."""
    (module,) = sys.argv[1:]
    importlib.import_module(f"qpm_opt.bounds.{module}").use_once()
    if not numba.config.DISABLE_JIT:
        (_DIRECTORY / f"{module}-complete").touch()
