"""Workers that die, in the place of ``qpm_bench.runner.execute``."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from qpm_bench import runner
from qpm_bench.records import Record

DEADLY = 1
"""Seed of runs whose worker dies."""


def die_of_a_seed(
    folder: Path, run: runner.Run, memory_limit: int | None, former: Record | None
) -> Record:
    if run.seed == DEADLY:
        os.kill(os.getpid(), signal.SIGKILL)
    return runner.execute(folder, run, memory_limit, former)


def fail_of_a_seed(
    folder: Path, run: runner.Run, memory_limit: int | None, former: Record | None
) -> Record:
    if run.seed == DEADLY:
        raise OSError("no space left")
    return runner.execute(folder, run, memory_limit, former)
