"""Campaigns: every method and solver on every instance, a process for each run.

A folder holds the instances (``instances/<name>.npz``) and what the runs left (``records.jsonl``).
Runs that have a record are not repeated, so a campaign that was killed goes on where it was; on
demand those of some statuses are.

Every worker appends its records itself, under the file's lock: what it has under way when the
campaign's process dies is kept. Where locks do not work between machines, two of them may write
over each other's lines, so the campaign's process also adds, at its end, what it was handed and the
file lacks. A run that is done twice all the same (its worker was cut off and believed dead) leaves
the record of whichever ended first.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from qpm_bench.cluster import n_workers_killed
from qpm_bench.entrants import check_entrant
from qpm_bench.manifest import add_to_manifest
from qpm_bench.permutation import Permutation
from qpm_bench.records import Record, RecordFile, Status
from qpm_bench.watch import BEGUN, SOLUTION, Ended, watch
from qpm_opt import (
    BoundStatus,
    InvalidInputError,
    Problem,
    QPMError,
    package_versions,
    solve,
    verify,
)

#: Seconds beyond the time limit after which a run is killed: reading, checks, and this share.
GRACE, GRACE_SHARE = 60.0, 0.2
#: Seconds that a run may take to begin: a busy machine is no fault of the solver.
START_LIMIT = 300.0
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
    again: Collection[str] = (),
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
    again : collection of str
        Keys of runs that are repeated; the new record takes the place of the one there.
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
    done = {record.key: record for record in store.read()}
    left = {run: done.get(run.key) for run in runs if run.key not in done or run.key in again}
    received: list[Record] = []

    def keep(record: Record) -> None:
        received.append(record)
        if on_record is not None:
            on_record(record)

    try:
        if executor is None:
            for run, former in left.items():
                keep(execute(folder, run, memory_limit, former))
        else:
            _spread(executor, folder, left, memory_limit, keep)
    finally:
        held = store.read()
        for record in received:
            if record not in held:
                store.append(record, in_place_of=done.get(record.key))
    by_key = {record.key: record for record in store.read()}
    return [by_key[run.key] for run in runs if run.key in by_key]


def _spread(
    executor: Executor,
    folder: Path,
    runs: Mapping[Run, Record | None],
    memory_limit: int | None,
    keep: Callable[[Record], None],
) -> None:
    """Have runs executed; one that takes its worker with it every time leaves a record, too.

    With each run comes the record whose place its own takes.
    """
    suspects = _collect(executor, folder, runs, memory_limit, keep)
    # Dask blames the death of a worker on all runs that were sent there, whether they had begun or
    # not. One that is alone has no other to blame.
    for run in suspects:
        alone = {run: runs[run]}
        for n_killed in _collect(executor, folder, alone, memory_limit, keep).values():
            reason = f"every worker that took it died, {n_killed} in the last attempt"
            record = Record(**_known(run), status=Status.ERROR, reason=reason)
            keep(_stored(folder, record, runs[run]))


def _collect(
    executor: Executor,
    folder: Path,
    runs: Mapping[Run, Record | None],
    memory_limit: int | None,
    keep: Callable[[Record], None],
) -> dict[Run, int]:
    """Have runs executed; those that were given up because workers died, with how many did."""
    futures: dict[Future[Record], Run] = {}
    given_up: dict[Run, int] = {}
    n_kept = 0
    try:
        with contextlib.suppress(BrokenExecutor):  # what was submitted says so, too
            for run, former in runs.items():
                futures[executor.submit(execute, folder, run, memory_limit, former)] = run
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


def execute(
    folder: Path, run: Run, memory_limit: int | None = None, former: Record | None = None
) -> Record:
    """One run in a process of its own; its record is in the campaign's file when this returns.

    Whatever the process does (fails, hangs, prints, fills the memory, dies) becomes a record. Only
    an interruption of this process leaves none. A run that has a record, other than the former one
    whose place the new one takes, is not repeated: its worker may have died before it could hand it
    over.

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
    if known is not None and known != former:
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
        ended = watch(
            [sys.executable, "-m", _CHILD, str(job), str(outcome)],
            begun=outcome.with_name(BEGUN),
            start_limit=START_LIMIT,
            time_limit=run.time_limit * (1.0 + GRACE_SHARE) + GRACE,
            memory_limit=memory_limit,
            threads=run.threads,
        )
        held = _outcome(outcome, ended)
        held |= _certified(outcome.with_name(SOLUTION), held, folder, run)
    # Those of the child include what was over between two looks at it.
    cpu_time = held.pop("cpu_time", 0.0)
    common = _known(run) | {
        "wall_time": ended.wall_time,
        "cpu_time": max(ended.cpu_time, cpu_time if isinstance(cpu_time, float) else 0.0),
        "peak_memory": ended.peak_memory,
        "machine": _machine(),
    }
    held.setdefault("versions", package_versions())
    try:
        record = Record(**common, **held)
        record.to_json()
    except (TypeError, ValueError) as failure:
        record = Record(
            **common, status=Status.ERROR, reason=f"its outcome is no record: {failure}"
        )
    return _stored(folder, record, former)


def _known(run: Run) -> dict[str, Any]:
    """Fields of a record that has just come to be, whatever became of the run."""
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"key": run.key, **asdict(run), "date": date}


def _stored(folder: Path, record: Record, former: Record | None) -> Record:
    """The record, appended to the campaign's file, or the one of its key that is there already."""
    store = RecordFile(folder / "records.jsonl")
    if store.append(record, in_place_of=former):
        return record
    return store.find(record.key) or record


def _outcome(path: Path, ended: Ended) -> dict[str, Any]:
    """Fields of the record by what the process wrote and how it ended."""
    if ended.killed is not None and not ended.begun:
        return {
            "status": Status.ERROR,
            "reason": f"it had not begun to solve after {ended.wall_time:.0f} s",
        }
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


def _certified(path: Path, held: dict[str, Any], folder: Path, run: Run) -> dict[str, Any]:
    """Whether a certificate proves the bound; a run whose certificate does not is WRONG."""
    if not path.exists():
        return {"certified": False}
    original = Problem.load(_instance_path(folder, run.instance))
    problem = Permutation.of(original, run.permutation).problem(original)
    try:
        outcome = verify(problem, path)
    except QPMError as failure:
        return {"certified": False, "status": Status.WRONG, "reason": str(failure)}
    if outcome.rejections:
        reason = f"its certificate does not hold: {outcome.rejections[0]}"
        return {"certified": False, "status": Status.WRONG, "reason": reason}
    proves = outcome.bound_status is BoundStatus.PROVED and outcome.bound == held.get("bound")
    return {"certified": proves}


def _machine() -> dict[str, Any]:
    return {
        "name": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "n_processors": os.cpu_count(),
        "memory": psutil.virtual_memory().total,
    }


@functools.cache
def _processor() -> str:
    """Its model, which Linux tells in a file only."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _instance_path(folder: Path, name: str) -> Path:
    return folder / "instances" / f"{name}.npz"


def _start_path(folder: Path, name: str) -> Path:
    return folder / "starts" / f"{name}.json"
