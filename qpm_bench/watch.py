"""A process under watch: its time and memory, and its end at a limit, with all its children."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from qpm_bench.records import Status

#: Name of the file, beside that of the outcome, by which a run says that it begins to solve.
BEGUN = "begun"
#: Name of the solution with a certificate that a run may leave there.
SOLUTION = "solution.json"
#: Seconds between two looks at a run's memory: at first, as a share of its age, and at most. A
#: look takes milliseconds of a processor that the run may need.
_POLL, _POLL_SHARE, _POLL_MOST = 0.05, 0.01, 0.5
#: Last characters of the error output that are kept.
_TAIL = 500
#: What a run must find the same wherever it is started. Dask's workers set all of these; with the
#: last, arithmetic on arrays of half a megabyte took 7 times the processor time: memory is given
#: back, and fetched again, for each of them.
_THREAD_COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_TRIMMING = "MALLOC_TRIM_THRESHOLD_"


@dataclass
class Ended:
    """How a process ended: its return code, or why it was killed; seconds and bytes.

    Attributes
    ----------
    returncode : int
    begun : bool
        Whether it had begun to solve.
    killed : Status or None
        TIME or MEMORY if a limit ended it.
    wall_time, cpu_time : float
        From its start, of all its processes as far as they were seen.
    peak_memory : int
        Largest sum of the resident memory of its processes.
    errors : str
        The end of its error output.
    """

    returncode: int = 0
    begun: bool = False
    killed: Status | None = None
    wall_time: float = 0.0
    cpu_time: float = 0.0
    peak_memory: int = 0
    errors: str = ""


def watch(
    command: list[str],
    *,
    begun: Path,
    start_limit: float,
    time_limit: float,
    memory_limit: int | None,
    threads: int,
) -> Ended:
    """Run a command to its end, or kill it with its children at a limit.

    Parameters
    ----------
    command : list of str
    begun : Path
        The file that it makes when it begins to solve.
    start_limit, time_limit : float
        Seconds until it must have begun, and from then until it must have ended.
    memory_limit : int or None
        Bytes.
    threads : int
        Of the libraries that read the number from the environment.
    """
    environment = os.environ | dict.fromkeys(_THREAD_COUNTS, str(threads))
    environment.pop(_TRIMMING, None)
    ended = Ended()
    cpu: dict[int, float] = {}
    seen: dict[int, psutil.Process] = {}
    started = time.perf_counter()
    deadline = started + start_limit
    with tempfile.TemporaryFile() as errors:
        process = psutil.Popen(
            command,
            stdin=subprocess.PIPE,  # by its end the run notices that this process is gone
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=environment,
            process_group=0,  # Ctrl-C at the terminal is for the campaign, not a result of the run
        )
        try:
            while process.poll() is None:
                memory = 0
                for member in _family(process):
                    seen[member.pid] = member
                    with contextlib.suppress(psutil.Error):
                        memory += member.memory_info().rss
                        times = member.cpu_times()
                        cpu[member.pid] = times.user + times.system
                ended.peak_memory = max(ended.peak_memory, memory)
                now = time.perf_counter()
                if not ended.begun and begun.exists():
                    ended.begun, deadline = True, now + time_limit
                if now > deadline:
                    ended.killed = Status.TIME
                elif memory_limit is not None and memory > memory_limit:
                    ended.killed = Status.MEMORY
                if ended.killed is not None:
                    break
                with contextlib.suppress(psutil.TimeoutExpired):
                    process.wait(min(_POLL + _POLL_SHARE * (now - started), _POLL_MOST))
        finally:
            # Those of a process that died are no longer its family.
            for member in [*seen.values(), *_family(process)]:
                with contextlib.suppress(psutil.Error):
                    member.kill()
            process.wait()
            process.stdin.close()
        ended.wall_time = time.perf_counter() - started
        ended.cpu_time = sum(cpu.values())
        ended.returncode = process.returncode
        errors.seek(0)
        ended.errors = errors.read().decode(errors="replace")[-_TAIL:].strip()
    return ended


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []
