"""Campaigns: every method and solver on every instance, a process for each run.

A folder holds the instances (``instances/<name>.npz``) and what the runs left (``records.jsonl``).
Runs that have a record are not repeated, so a campaign that was killed goes on where it was.

Every worker appends its records itself, under the file's lock: what it has under way when the
campaign's process dies is kept. Where locks do not work between machines, two of them may write
over each other's lines, so the campaign's process also adds, at its end, what it was handed and the
file lacks. A run that is done twice all the same (its worker was cut off and believed dead) leaves
the record of whichever ended first.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from qpm_bench.cluster import n_workers_killed
from qpm_bench.entrants import check_entrant
from qpm_bench.manifest import add_to_manifest
from qpm_bench.records import Record, RecordFile, Status
from qpm_opt import InvalidInputError, Problem, QPMError, solve

#: Seconds beyond the time limit after which a run is killed: reading, checks, and this share.
GRACE, GRACE_SHARE = 60.0, 0.2
#: Seconds between two looks at a run's memory: at first, as a share of its age, and at most. A
#: look takes milliseconds of a processor that the run may need.
_POLL, _POLL_SHARE, _POLL_MOST = 0.05, 0.01, 0.5
#: Last characters of the error output that a record keeps.
_TAIL = 500
_CHILD = "qpm_bench.child"
#: What a run must find the same wherever it is started: Dask's workers set all of these, the last
#: to give memory back early, at the price of time.
_THREAD_COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_TRIMMING = "MALLOC_TRIM_THRESHOLD_"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is run; equal runs have equal keys.

    Attributes
    ----------
    instance : str
        Name; its file is in the campaign's folder.
    instance_sha256 : str
    method, solver : str
        Of :mod:`qpm_bench.entrants`; ``solver`` is empty for methods without one.
    seed : int
    permutation : int
        Seed of the order of classes and features (:mod:`qpm_bench.permutation`); 0 for the file's.
    threads : int
    time_limit : float
        Seconds.
    start_sha256 : str
        Hash of ``starts/<instance>.json``, with which the run begins; empty if it has no start.
    """

    instance: str
    instance_sha256: str
    method: str
    solver: str = ""
    seed: int = 0
    permutation: int = 0
    threads: int = 1
    time_limit: float = 60.0
    start_sha256: str = ""

    @property
    def key(self) -> str:
        """Hash of everything above."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:32]

    @property
    def label(self) -> str:
        """Short name, such as ``compact-highs-digits-seed0``."""
        parts = [self.method, self.solver, self.instance, f"seed{self.seed}"]
        if self.permutation:
            parts.append(f"permutation{self.permutation}")
        return "-".join(part for part in parts if part)


def add_instances(folder: Path, problems: Mapping[str, Problem]) -> dict[str, str]:
    """Write problems and their descriptions to a campaign's folder; their hashes by name.

    Raises
    ------
    InvalidInputError
        If the folder holds another problem of a name.
    """
    hashes = {}
    for name, problem in problems.items():
        path = _instance_path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and Problem.load(path).sha256 != problem.sha256:
            raise InvalidInputError(
                f"{path} holds another problem; give the campaign a folder of its own."
            )
        if not path.exists():
            problem.save(path)
        hashes[name] = problem.sha256
    add_to_manifest(folder, problems)
    return hashes


def plan(
    hashes: Mapping[str, str],
    entrants: Iterable[tuple[str, str]],
    *,
    seeds: Sequence[int] = (0,),
    permutations: Sequence[int] = (0,),
    time_limit: float,
    threads: int = 1,
    starts: Mapping[str, str] | None = None,
) -> list[Run]:
    """Every entrant on every instance: with every seed, and with the first in every other order.

    Parameters
    ----------
    hashes : mapping
        Of the instances, by name.
    entrants : iterable of (method, solver)
        As :func:`qpm_bench.entrants.entrants` makes them.
    seeds, permutations : sequence of int
        0 among the permutations is the order of the instance's file.
    time_limit : float
        Seconds.
    threads : int
        The same for all.
    starts : mapping, optional
        Hashes of the starts, by instance (:func:`make_starts`).

    Raises
    ------
    InvalidInputError
        For an unknown method or solver.
    """
    chosen = list(entrants)
    for entrant in chosen:
        check_entrant(*entrant)
    orders = [(seed, 0) for seed in seeds] if 0 in permutations else []
    orders += [(seeds[0], permutation) for permutation in permutations if permutation]
    return [
        Run(
            instance=name,
            instance_sha256=sha256,
            method=method,
            solver=solver,
            seed=seed,
            permutation=permutation,
            threads=threads,
            time_limit=time_limit,
            start_sha256="" if starts is None else starts[name],
        )
        for name, sha256 in hashes.items()
        for method, solver in chosen
        for seed, permutation in orders
    ]


def make_starts(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """One start for all runs on an instance, that of the method heuristic; hashes by instance.

    A start that is there already is kept.

    Raises
    ------
    InvalidInputError
        If none is found.
    """
    hashes = {}
    for name in names:
        path = _start_path(folder, name)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            problem = Problem.load(_instance_path(folder, name))
            result = solve(problem, method="heuristic", time_limit=1.0, threads=1)
            if result.assignment is None:
                raise InvalidInputError(
                    f"No start was found for {name}; run it without warm starts."
                )
            result.save(path, problem)
        hashes[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return hashes


def campaign(
    folder: Path,
    runs: Sequence[Run],
    *,
    executor: Executor | None = None,
    memory_limit: int | None = None,
    on_record: Callable[[Record], object] | None = None,
) -> list[Record]:
    """Run what has no record yet; all records of these runs, in their order.

    An interruption cancels what has not started; the same campaign goes on with it later.

    Parameters
    ----------
    folder : Path
        Of the campaign, seen by all workers under this path.
    runs : sequence of Run
    executor : Executor, optional
        Where to run; one after the other in this process by default. Equal conditions need
        processors enough for all runs that it has under way. Of a Dask client,
        ``client.get_executor(pure=False)``.
    memory_limit : int, optional
        Bytes of a run with its children, beyond which it is killed.
    on_record : callable, optional
        Called with every new record.

    Raises
    ------
    InvalidInputError
        If a worker does not see the file of an instance.
    QPMError
        If the executor lost runs, as a process pool does when one of its workers dies, or a worker
        failed outside a run. What has a record keeps it. A scheduler that tries again elsewhere
        costs nothing; a run whose workers die every time gets a record that says so.
    """
    folder = folder.absolute()  # workers have other directories, and may have other links
    store = RecordFile(folder / "records.jsonl")
    done = {record.key for record in store.read()}
    left = list({run.key: run for run in runs if run.key not in done}.values())
    received: list[Record] = []

    def keep(record: Record) -> None:
        received.append(record)
        if on_record is not None:
            on_record(record)

    try:
        if executor is None:
            for run in left:
                keep(execute(folder, run, memory_limit))
        else:
            _spread(executor, folder, left, memory_limit, keep)
    finally:
        held = {record.key for record in store.read()}
        for record in received:
            if record.key not in held:
                store.append(record)
    by_key = {record.key: record for record in store.read()}
    return [by_key[run.key] for run in runs if run.key in by_key]


def _spread(
    executor: Executor,
    folder: Path,
    runs: Sequence[Run],
    memory_limit: int | None,
    keep: Callable[[Record], None],
) -> None:
    """Have runs executed; one that takes its worker with it every time leaves a record, too."""
    suspects = _collect(executor, folder, runs, memory_limit, keep)
    # Dask blames the death of a worker on all runs that were sent there, whether they had begun or
    # not. One that is alone has no other to blame.
    for run in suspects:
        for n_killed in _collect(executor, folder, [run], memory_limit, keep).values():
            reason = f"every worker that took it died, {n_killed} in the last attempt"
            keep(_stored(folder, Record(**_known(run), status=Status.ERROR, reason=reason)))


def _collect(
    executor: Executor,
    folder: Path,
    runs: Sequence[Run],
    memory_limit: int | None,
    keep: Callable[[Record], None],
) -> dict[Run, int]:
    """Have runs executed; those that were given up because workers died, with how many did."""
    futures: dict[Future[Record], Run] = {}
    given_up: dict[Run, int] = {}
    n_kept = 0
    try:
        with contextlib.suppress(BrokenExecutor):  # what was submitted says so, too
            for run in runs:
                futures[executor.submit(execute, folder, run, memory_limit)] = run
        for future in as_completed(futures):
            try:
                record = future.result()
            except (BrokenExecutor, CancelledError):
                continue
            except InvalidInputError:
                raise
            except Exception as failure:
                n_killed = n_workers_killed(failure)
                if not n_killed:
                    raise QPMError(
                        f"A worker failed before or after the run {futures[future].label} "
                        f"({type(failure).__name__}: {failure}); put that right and start the "
                        "campaign again: what has a record is not repeated."
                    ) from failure
                given_up[futures[future]] = n_killed
            else:
                keep(record)
                n_kept += 1
    except BaseException:
        for future in futures:
            future.cancel()
        raise
    n_lost = len(runs) - n_kept - len(given_up)
    if n_lost:
        raise QPMError(
            f"The executor broke down and {n_lost} of {len(runs)} runs did not come back; start "
            "the campaign again with a new one: what has a record is not repeated."
        )
    return given_up


def execute(folder: Path, run: Run, memory_limit: int | None = None) -> Record:
    """One run in a process of its own; its record is in the campaign's file when this returns.

    Whatever the process does (fails, hangs, prints, fills the memory, dies) becomes a record. Only
    an interruption of this process leaves none. A run that has a record is not repeated: its worker
    may have died before it could hand it over.

    Raises
    ------
    InvalidInputError
        If this machine does not see the run's files: that is no result of the run.
    """
    start = _start_path(folder, run.instance) if run.start_sha256 else None
    for path in (_instance_path(folder, run.instance), start):
        if path is not None and not path.is_file():
            raise InvalidInputError(
                f"{platform.node()} sees no file {path}; workers must see the campaign's folder "
                "under this very path, with all its files."
            )
    known = RecordFile(folder / "records.jsonl").find(run.key)
    if known is not None:
        return known
    with tempfile.TemporaryDirectory() as temporary:
        outcome = Path(temporary) / "outcome.json"
        job = Path(temporary) / "job.json"
        job.write_text(
            json.dumps(
                {
                    **asdict(run),
                    "problem": str(_instance_path(folder, run.instance)),
                    "start": None if start is None else str(start),
                }
            ),
            encoding="utf-8",
        )
        ended = _watch(
            [sys.executable, "-m", _CHILD, str(job), str(outcome)],
            time_limit=run.time_limit * (1.0 + GRACE_SHARE) + GRACE,
            memory_limit=memory_limit,
            threads=run.threads,
        )
        held = _outcome(outcome, ended)
    common = _known(run) | {
        "wall_time": ended.wall_time,
        "cpu_time": ended.cpu_time,
        "peak_memory": ended.peak_memory,
        "machine": _machine(),
    }
    try:
        record = Record(**common, **held)
        record.to_json()
    except (TypeError, ValueError) as failure:
        record = Record(
            **common, status=Status.ERROR, reason=f"its outcome is no record: {failure}"
        )
    return _stored(folder, record)


def _known(run: Run) -> dict[str, Any]:
    """Fields of a record that has just come to be, whatever became of the run."""
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"key": run.key, **asdict(run), "date": date}


def _stored(folder: Path, record: Record) -> Record:
    """The record, appended to the campaign's file, or the one of its key that is there already."""
    store = RecordFile(folder / "records.jsonl")
    return record if store.append(record) else store.find(record.key) or record


@dataclass
class _Ended:
    """How a process ended: its return code, or why it was killed."""

    returncode: int = 0
    killed: Status | None = None
    wall_time: float = 0.0
    cpu_time: float = 0.0
    peak_memory: int = 0
    errors: str = ""


def _watch(
    command: list[str], *, time_limit: float, memory_limit: int | None, threads: int
) -> _Ended:
    """Run a command to its end, or kill it with its children at a limit."""
    environment = os.environ | dict.fromkeys(_THREAD_COUNTS, str(threads))
    environment.pop(_TRIMMING, None)
    ended = _Ended()
    cpu: dict[int, float] = {}
    seen: dict[int, psutil.Process] = {}
    began = time.perf_counter()
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
                age = time.perf_counter() - began
                if age > time_limit:
                    ended.killed = Status.TIME
                elif memory_limit is not None and memory > memory_limit:
                    ended.killed = Status.MEMORY
                if ended.killed is not None:
                    break
                with contextlib.suppress(psutil.TimeoutExpired):
                    process.wait(min(_POLL + _POLL_SHARE * age, _POLL_MOST))
        finally:
            # Those of a process that died are no longer its family.
            for member in [*seen.values(), *_family(process)]:
                with contextlib.suppress(psutil.Error):
                    member.kill()
            process.wait()
            process.stdin.close()
        ended.wall_time = time.perf_counter() - began
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


def _outcome(path: Path, ended: _Ended) -> dict[str, Any]:
    """Fields of the record by what the process wrote and how it ended."""
    if ended.killed is Status.TIME:
        return {"status": Status.TIME, "reason": "killed: it did not end at its time limit"}
    if ended.killed is Status.MEMORY:
        gib = ended.peak_memory / 2**30
        return {"status": Status.MEMORY, "reason": f"killed when it held {gib:.1f} GiB"}
    try:
        held = dict(json.loads(path.read_text(encoding="utf-8")))
        held["status"] = Status(held["status"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        how = f"it ended with code {ended.returncode} and no outcome"
        if ended.returncode < 0:
            with contextlib.suppress(ValueError):
                how = f"it was ended by {signal.Signals(-ended.returncode).name}"
        return {"status": Status.ERROR, "reason": f"{how}. {ended.errors}".strip()}
    return held


def _machine() -> dict[str, Any]:
    return {
        "name": platform.node(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "n_processors": os.cpu_count(),
        "memory": psutil.virtual_memory().total,
    }


def _instance_path(folder: Path, name: str) -> Path:
    return folder / "instances" / f"{name}.npz"


def _start_path(folder: Path, name: str) -> Path:
    return folder / "starts" / f"{name}.json"
