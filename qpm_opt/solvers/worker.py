"""The child process: takes jobs from stdin, runs one solver, sends events and results to stdout.

Both ways carry frames: eight bytes of length, then a pickle. Only the parent, which started this
process, holds the other ends, so the pickles are its own.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from qpm_opt.errors import QPMError, SolverError, SolverNotAvailableError
from qpm_opt.solvers.base import Event, MatrixModel, Separator, SolveOptions, Solver
from qpm_opt.solvers.registry import get_solver
from qpm_opt.validation import FloatArray

_LENGTH = struct.Struct("<Q")
#: Seconds between two bounds that are passed on; some solvers report hundreds a second.
_BOUND_INTERVAL = 0.1


@dataclass(frozen=True)
class Ready:
    """The child is up and has imported its solver, or found that it cannot."""


@dataclass(frozen=True)
class PingJob:
    """Ask for a :class:`Ready`, to see that the child still serves."""


@dataclass(frozen=True)
class AvailabilityJob:
    """Ask whether the solver can be used."""


@dataclass(frozen=True)
class SolveJob:
    """Arguments of :meth:`qpm_opt.solvers.base.Solver.solve`."""

    model: MatrixModel
    options: SolveOptions
    start: FloatArray | None
    separate: Separator | None


@dataclass(frozen=True)
class Failure:
    """The job raised; ``error`` is always one of ours, ``traceback`` tells where it came from."""

    error: QPMError
    traceback: str


def write_frame(stream: BinaryIO, data: bytes) -> None:
    """Send one frame."""
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def read_frame(stream: BinaryIO) -> bytes:
    """Receive one frame; EOFError if the other side is gone."""
    header = stream.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(header)
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


def main() -> None:
    """Serve jobs for the solver named in ``sys.argv[1]`` until the parent closes stdin."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    jobs, replies = _claim_standard_streams()
    lock = threading.Lock()

    def send(message: object) -> None:
        data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        with lock:  # solvers report from their own threads
            write_frame(replies, data)

    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(jobs, inbox), daemon=True).start()
    solver = get_solver(sys.argv[1])
    try:
        solver.load()  # before the clock of the first solve runs
    except SolverNotAvailableError:
        pass  # the job will raise it
    send(Ready())
    while True:
        send(_run(solver, inbox.get(), send))


def _claim_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Keep the pipes for ourselves: what solvers write to stdout goes to stderr instead."""
    jobs, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return jobs, replies


def _receive(jobs: BinaryIO, inbox: queue.SimpleQueue[bytes]) -> None:
    """Pass frames on; when the parent is gone, so are we, even in the middle of a solve."""
    try:
        while True:
            inbox.put(read_frame(jobs))
    finally:
        os._exit(0)


class _Reports:
    """What one solve reports: all points, of bounds that follow closely the first, nothing later.

    A model that Python frees during the next solve may still tell of its own bounds: SCIP's does.
    """

    def __init__(self, send: Callable[[Event], None]) -> None:
        self._send = send
        self._last = float("-inf")
        self._ended = False
        self._lock = threading.Lock()  # solvers report from their own threads

    def __call__(self, event: Event) -> None:
        """Pass an event on, or not."""
        with self._lock:
            now = time.monotonic()
            if self._ended or (event.point is None and now - self._last < _BOUND_INTERVAL):
                return
            self._send(event)
            self._last = now

    def end(self) -> None:
        """Pass nothing on from now on."""
        with self._lock:
            self._ended = True


def _run(solver: Solver, frame: bytes, send: Callable[[Event], None]) -> Any:
    try:
        job = pickle.loads(frame)
        if isinstance(job, PingJob):
            return Ready()
        if isinstance(job, AvailabilityJob):
            return solver.availability()
        reports = _Reports(send)
        try:
            return solver.solve(
                job.model,
                job.options,
                start=job.start,
                separate=job.separate,
                report=reports,
            )
        finally:
            reports.end()
    except QPMError as error:
        return Failure(error, traceback.format_exc())
    except Exception as error:
        message = " ".join(str(error).split())
        return Failure(
            SolverError(f"{solver.name} failed with {type(error).__name__}: {message}"),
            traceback.format_exc(),
        )
