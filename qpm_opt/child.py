"""Processes that do a part of the work and find the modules that this one finds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def start_child(
    module: str, *arguments: str, stdin: int, stdout: int, stderr: int, threads: int = 1
) -> subprocess.Popen[bytes]:
    """Run ``main()`` of a module with command-line arguments in a process of its own.

    The module is named only in code, so that it is not imported twice as ``python -m`` would. The
    three streams are those of :class:`subprocess.Popen`, ``threads`` those of OpenMP.
    """
    root = str(Path(__file__).resolve().parents[1])
    path = [os.path.abspath(entry) for entry in sys.path]  # "" is the working directory
    return subprocess.Popen(
        [sys.executable, "-P", "-c", f"from {module} import main; main()", *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*path, root]),
            "OMP_NUM_THREADS": str(threads),
        },
        process_group=0,  # Ctrl-C at the terminal is for the parent
    )
