"""Solves in child processes: kept warm, killed when they overrun, replaced when they die.

A process of its own keeps solver packages apart that cannot be loaded together (OR-Tools and
HiGHS), makes time limits hard, and turns the crash of a solver into a result.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import functools
import logging
import pickle
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO, TypeVar, cast

from qpm_opt.child import start_child
from qpm_opt.errors import SolverError
from qpm_opt.result import TerminationCondition
from qpm_opt.solvers.base import (
    Availability,
    AvailabilityReport,
    Event,
    MatrixModel,
    RawSolve,
    Separator,
    SolveOptions,
)
from qpm_opt.solvers.registry import SOLVERS, get_solver
from qpm_opt.solvers.worker import (
    AvailabilityJob,
    Failure,
    PingJob,
    Ready,
    SolveJob,
    read_frame,
    write_frame,
)
from qpm_opt.validation import FloatArray

logger = logging.getLogger(__name__)
_T = TypeVar("_T")

#: Seconds that a solver may take beyond its time limit before its process is killed: a part of the
#: limit on top of the first, at most the second.
GRACE_SHARE, GRACE, MAX_GRACE = 0.1, 2.0, 10.0
#: Seconds that a process may take to start and to import its solver.
START_LIMIT = 120.0
#: Seconds that an idle process may take to show that it still serves.
PING_LIMIT = 5.0
#: Idle processes kept for the next solve.
MAX_IDLE = 4
#: Longest uninterrupted wait in seconds; some platforms see Ctrl-C only between two waits.
_POLL = 0.5
#: Seconds in which a process that is ending ends, and its pipes close.
_LINGER = 5.0


def solve_in_child(
    solver_name: str,
    model: MatrixModel,
    options: SolveOptions,
    *,
    start: FloatArray | None = None,
    separate: Separator | None = None,
    on_event: Callable[[Event], None] | None = None,
    grace: float | None = None,
) -> RawSolve:
    """Solve a model in a child process.

    Parameters
    ----------
    solver_name : str
        See :func:`qpm_opt.solvers.get_solver`.
    model : MatrixModel
    options : SolveOptions
    start, separate
        See :meth:`qpm_opt.solvers.base.Solver.solve`.
    on_event : callable, optional
        Called in this process with every :class:`~qpm_opt.solvers.base.Event`. If it raises, the
        solve is given up and the exception goes on.
    grace : float, optional
        Seconds beyond ``options.time_limit`` after which the process is killed; 2 to 10 by default,
        more for longer limits.

    Returns
    -------
    RawSolve
        What the solver says. If its process was killed for overrunning (TIME_LIMIT) or died
        (ERROR): the best point and bound that it had reported until then.

    Raises
    ------
    InvalidInputError
        For an unknown solver, or an option that the solver does not know.
    SolverNotAvailableError, SolverLicenseError, UnsupportedFormulationError, SolverError
        As raised by the solver.
    KeyboardInterrupt
        On Ctrl-C, after the process is killed and the events received are delivered.
    """
    best = _Best(model, on_event)
    with _pool.borrow(solver_name, options.threads) as child:
        began = time.monotonic()
        limit = None
        if options.time_limit is not None:
            if grace is None:
                grace = min(GRACE + GRACE_SHARE * options.time_limit, MAX_GRACE)
            limit = options.time_limit + grace
        try:
            child.send(SolveJob(model, options, start, separate))
            answer = child.answer(limit, best.take)
        except _OverrunError:
            child.kill()
            child.drain(best.take)
            answer = best.outcome(
                TerminationCondition.TIME_LIMIT,
                f"process killed {grace:g} s after the time limit",
                time.monotonic() - began,
            )
        except _DiedError as death:
            child.kill()  # it may only have lost its connection
            answer = best.outcome(TerminationCondition.ERROR, str(death), time.monotonic() - began)
        except KeyboardInterrupt:
            child.kill()
            child.drain(best.take)
            raise
    return _unwrap(answer, RawSolve)


@functools.cache
def solver_availability(name: str) -> AvailabilityReport:
    """Whether a solver can be used here, found out in a child process and remembered.

    Raises
    ------
    InvalidInputError
        If there is no such solver.
    """
    try:
        with _pool.borrow(name, 1) as child:
            child.send(AvailabilityJob())
            answer = child.answer(START_LIMIT, lambda event: None)
        return _unwrap(answer, AvailabilityReport)
    except (_DiedError, _OverrunError, SolverError) as error:
        return AvailabilityReport(Availability.BROKEN, reason=str(error))


def available_solvers() -> dict[str, AvailabilityReport]:
    """Availability of every solver of :data:`qpm_opt.solvers.SOLVERS`."""
    return {name: solver_availability(name) for name in SOLVERS}


def _unwrap(answer: object, kind: type[_T]) -> _T:
    if isinstance(answer, Failure):
        logger.debug("%s", answer.traceback)
        raise answer.error
    assert isinstance(answer, kind)
    return answer


class _DiedError(Exception):
    """The child is gone; the message tells how it ended."""


class _OverrunError(Exception):
    """The child did not answer in time."""


class _Best:
    """Passes events on and keeps the best point and bound among them."""

    def __init__(self, model: MatrixModel, on_event: Callable[[Event], None] | None) -> None:
        self.point: FloatArray | None = None
        self.bound: float | None = None
        self._model = model
        self._objective = float("-inf")
        self._on_event = on_event

    def take(self, event: Event) -> None:
        if event.point is not None:
            objective = self._model.objective(event.point)
            if objective > self._objective:
                self.point, self._objective = event.point, objective
        if event.bound is not None and (self.bound is None or event.bound < self.bound):
            self.bound = event.bound
        if self._on_event is not None:
            self._on_event(event)

    def outcome(
        self, condition: TerminationCondition, raw_status: str, solve_time: float
    ) -> RawSolve:
        """What is known of a solve whose process did not report."""
        logger.warning("Solve without a report: %s.", raw_status)
        return RawSolve(
            condition, raw_status, point=self.point, bound=self.bound, solve_time=solve_time
        )


class _Child:
    """One process and the two pipes to it.

    Threads read the pipes, so that waiting can end on a deadline on every platform and the child
    never blocks on a full pipe.
    """

    def __init__(self, solver_name: str, threads: int) -> None:
        self.solver_name = solver_name
        self.threads = threads
        self._process = start_child(
            "qpm_opt.solvers.worker",
            solver_name,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            threads=threads,
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._jobs = cast(BinaryIO, self._process.stdin)
        self._inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._last_words: collections.deque[str] = collections.deque(maxlen=20)
        self._unreadable = ""
        self._readers = [
            threading.Thread(target=target, args=(pipe,), daemon=True)
            for target, pipe in (
                (self._read_messages, self._process.stdout),
                (self._read_chatter, self._process.stderr),
            )
        ]
        for reader in self._readers:
            reader.start()

    def wait_until_ready(self) -> None:
        """Wait for the first message.

        Raises
        ------
        SolverError
            If the process does not come up.
        """
        try:
            answer = self.answer(START_LIMIT, lambda event: None)
        except (_DiedError, _OverrunError) as error:
            self.kill()
            raise SolverError(
                f"The process for solver {self.solver_name!r} did not start: {error}"
            ) from None
        _unwrap(answer, Ready)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def responds(self) -> bool:
        """Whether an idle process still serves; one that is being killed may look alive."""
        try:
            self.send(PingJob())
            return isinstance(self.answer(PING_LIMIT, lambda event: None), Ready)
        except (_DiedError, _OverrunError):
            return False

    def send(self, job: object) -> None:
        """Hand over a job; _DiedError if nobody takes it."""
        data = pickle.dumps(job, protocol=pickle.HIGHEST_PROTOCOL)
        try:
            write_frame(self._jobs, data)
        except OSError:
            raise _DiedError(self._obituary()) from None

    def answer(self, limit: float | None, on_event: Callable[[Event], None]) -> object:
        """Wait ``limit`` seconds for the message that ends the job; pass events on meanwhile."""
        deadline = float("inf") if limit is None else time.monotonic() + limit
        while True:
            remaining = deadline - time.monotonic()
            try:
                message = self._inbox.get(timeout=min(max(remaining, 0.0), _POLL))
            except queue.Empty:
                if remaining <= 0.0:
                    raise _OverrunError(f"no answer within {limit:g} s") from None
                continue
            if message is None:
                raise _DiedError(self._obituary())
            if not isinstance(message, Event):
                return message
            on_event(message)

    def drain(self, on_event: Callable[[Event], None]) -> None:
        """Pass on the events that have arrived."""
        while not self._inbox.empty():
            message = self._inbox.get()
            if isinstance(message, Event):
                on_event(message)

    def kill(self) -> None:
        """End the process at once and collect what is left of it."""
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(_LINGER)
        with contextlib.suppress(OSError):  # a job half written
            self._jobs.close()

    def _read_messages(self, pipe: BinaryIO) -> None:
        try:
            with pipe:
                while True:
                    self._inbox.put(pickle.loads(read_frame(pipe)))
        except EOFError:
            pass  # the child is gone
        except Exception as error:  # whatever unpickling runs into
            self._unreadable = f"a message of the process cannot be read: {error!r}"
        finally:
            self._inbox.put(None)  # whoever waits must not wait for ever

    def _read_chatter(self, pipe: BinaryIO) -> None:
        with pipe:
            for line in pipe:
                text = line.decode(errors="replace").rstrip()
                self._last_words.append(text)
                logger.debug("%s: %s", self.solver_name, text)

    def _obituary(self) -> str:
        """How the process ended, in one line; called when it is known to be ending."""
        if self._unreadable:
            return self._unreadable
        try:
            code = self._process.wait(_LINGER)
        except subprocess.TimeoutExpired:
            return "process closed its connection"
        self._readers[1].join(_LINGER)
        words = next((line for line in reversed(self._last_words) if line), "")
        ending = f"signal {-code}" if code < 0 else f"code {code}"
        hint = " (out of memory?)" if code == -9 else ""
        return f"process ended with {ending}{hint}" + (f": {words}" if words else "")


class _Pool:
    """Children by solver and thread count: HiGHS has one scheduler per process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._children: set[_Child] = set()
        self._idle: list[_Child] = []

    @contextlib.contextmanager
    def borrow(self, solver_name: str, threads: int) -> Iterator[_Child]:
        """A child for one job; killed if the job ends in an exception."""
        get_solver(solver_name)  # an unknown name needs no process to be refused
        child = self._take(solver_name, threads)
        try:
            if child is None:
                child = _Child(solver_name, threads)
                with self._lock:
                    self._children.add(child)
                child.wait_until_ready()
            yield child
        except BaseException:
            if child is not None:
                self._remove(child)
            raise
        self._give_back(child)

    def kill_all(self) -> None:
        """Leave no process behind."""
        with self._lock:
            children, self._children, self._idle = self._children, set(), []
        for child in children:
            child.kill()

    def _take(self, solver_name: str, threads: int) -> _Child | None:
        """An idle child that serves, or None; those that died are buried on the way."""
        while True:
            with self._lock:
                found = next(
                    (c for c in self._idle if (c.solver_name, c.threads) == (solver_name, threads)),
                    None,
                )
                if found is None:
                    return None
                self._idle.remove(found)
            # In a forked process the children of the other one are not alive: nobody pings them.
            if found.alive and found.responds():
                return found
            self._remove(found)

    def _give_back(self, child: _Child) -> None:
        if not child.alive:
            self._remove(child)
            return
        with self._lock:
            self._idle.append(child)
            surplus = self._idle.pop(0) if len(self._idle) > MAX_IDLE else None
        if surplus is not None:
            self._remove(surplus)

    def _remove(self, child: _Child) -> None:
        child.kill()
        with self._lock:
            self._children.discard(child)


_pool = _Pool()
atexit.register(lambda: _pool.kill_all())
