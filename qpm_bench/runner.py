"""Campaigns: every method and solver on every instance, a process for each run.

A folder holds the instances (``instances/<name>.npz``) and what the runs left (``records.jsonl``).
Runs that have a record are not repeated, so a campaign that was killed goes on where it was.
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
from concurrent.futures import Executor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from qpm_bench.entrants import check_entrant
from qpm_bench.manifest import add_to_manifest
from qpm_bench.records import Record, RecordFile, Status
from qpm_opt import InvalidInputError, Problem, solve

#: Seconds beyond the time limit after which a run is killed: reading, checks, and this share.
GRACE, GRACE_SHARE = 60.0, 0.2
#: Seconds between two looks at a run's memory.
_POLL = 0.05
#: Last characters of the error output that a record keeps.
_TAIL = 500
_CHILD = "qpm_bench.child"


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

    Parameters
    ----------
    folder : Path
        Of the campaign, seen by all workers.
    runs : sequence of Run
    executor : Executor, optional
        Where to run; one after the other in this process by default. Equal conditions need
        processors enough for all runs that it has under way.
    memory_limit : int, optional
        Bytes of a run with its children, beyond which it is killed.
    on_record : callable, optional
        Called with every new record.
    """
    store = RecordFile(folder / "records.jsonl")
    done = {record.key for record in store.read()}
    left = list({run.key: run for run in runs if run.key not in done}.values())
    if executor is None:
        for run in left:
            record = execute(folder, run, memory_limit)
            if on_record is not None:
                on_record(record)
    else:
        futures = [executor.submit(execute, folder, run, memory_limit) for run in left]
        for future in as_completed(futures):
            if on_record is not None:
                on_record(future.result())
    by_key = {record.key: record for record in store.read()}
    return [by_key[run.key] for run in runs if run.key in by_key]


def execute(folder: Path, run: Run, memory_limit: int | None = None) -> Record:
    """One run in a process of its own; its record is in the campaign's file when this returns.

    Whatever the process does (fails, hangs, prints, fills the memory, dies) becomes a record. Only
    an interruption of this process leaves none.
    """
    with tempfile.TemporaryDirectory() as temporary:
        outcome = Path(temporary) / "outcome.json"
        job = Path(temporary) / "job.json"
        start = _start_path(folder, run.instance) if run.start_sha256 else None
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
    common = {
        "key": run.key,
        **asdict(run),
        "wall_time": ended.wall_time,
        "cpu_time": ended.cpu_time,
        "peak_memory": ended.peak_memory,
        "machine": _machine(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    try:
        record = Record(**common, **held)
        record.to_json()
    except (TypeError, ValueError) as failure:
        record = Record(
            **common, status=Status.ERROR, reason=f"its outcome is no record: {failure}"
        )
    RecordFile(folder / "records.jsonl").append(record)
    return record


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
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    ended = _Ended()
    cpu: dict[int, float] = {}
    seen: dict[int, psutil.Process] = {}
    began = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=environment)
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
                if time.perf_counter() - began > time_limit:
                    ended.killed = Status.TIME
                elif memory_limit is not None and memory > memory_limit:
                    ended.killed = Status.MEMORY
                if ended.killed is not None:
                    break
                with contextlib.suppress(psutil.TimeoutExpired):
                    process.wait(_POLL)
        finally:
            # Those of a process that died are no longer its family.
            for member in [*seen.values(), *_family(process)]:
                with contextlib.suppress(psutil.Error):
                    member.kill()
            process.wait()
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
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "n_processors": os.cpu_count(),
        "memory": psutil.virtual_memory().total,
    }


def _instance_path(folder: Path, name: str) -> Path:
    return folder / "instances" / f"{name}.npz"


def _start_path(folder: Path, name: str) -> Path:
    return folder / "starts" / f"{name}.json"
