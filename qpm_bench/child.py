"""One run in a process of its own: ``python -m qpm_bench.child JOB OUTCOME``, both JSON files.

It lasts as long as stdin stays open: whoever started it holds the other end.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import psutil

from qpm_bench.entrants import OURS
from qpm_bench.peers import PEERS
from qpm_bench.peers.run import PeerRun
from qpm_bench.permutation import Permutation
from qpm_bench.records import Status
from qpm_bench.watch import BEGUN, SOLUTION
from qpm_opt import (
    Assignment,
    Problem,
    SolverLicenseError,
    SolverNotAvailableError,
    TerminationCondition,
    UnsupportedFormulationError,
    package_versions,
    solve,
)

_STATUS = {
    TerminationCondition.TIME_LIMIT: Status.TIME,
    TerminationCondition.MEMORY_LIMIT: Status.MEMORY,
    TerminationCondition.LICENSE_LIMIT: Status.LICENCE,
    TerminationCondition.ERROR: Status.ERROR,
    TerminationCondition.UNKNOWN: Status.ERROR,
    TerminationCondition.INTERRUPTED: Status.ERROR,
}


def run(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Fields of the record that the run itself knows.

    Makes the file ``BEGUN`` in the folder before it solves and, if its bound has a certificate, a
    solution of the problem in the run's own order, for whoever started it to check.
    """
    original = Problem.load(job["problem"])
    order = Permutation.of(original, job["permutation"])
    problem = order.problem(original)
    start = None
    if job["start"] is not None:
        start = order.assignment(Assignment.load(job["start"], original))
    entrant = _peer if job["method"] in PEERS else _ours
    folder.joinpath(BEGUN).touch()
    try:
        held, found = entrant(job, problem, start, folder)
    except SolverNotAvailableError as failure:
        return {"status": Status.MISSING, "reason": str(failure)}
    except UnsupportedFormulationError as failure:
        return {"status": Status.UNSUPPORTED, "reason": str(failure)}
    except SolverLicenseError as failure:
        return {"status": Status.LICENCE, "reason": str(failure)}
    except MemoryError as failure:
        return {"status": Status.MEMORY, "reason": str(failure) or "out of memory"}
    if found is not None:
        found = order.restored(found)
        held["selection"] = found.selected.tolist()
        held["assignment"] = [row.nonzero()[0].tolist() for row in found.matrix]
    return held


def _ours(
    job: dict[str, Any], problem: Problem, start: Assignment | None, folder: Path
) -> tuple[dict[str, Any], Assignment | None]:
    method, formulation = OURS[job["method"]]
    result = solve(
        problem,
        method=method,
        solver=job["solver"] or "highs",
        formulation=formulation,
        time_limit=job["time_limit"],
        threads=job["threads"],
        seed=job["seed"],
        warm_start=start,
    )
    held: dict[str, Any] = {
        "status": _STATUS.get(result.termination_condition, Status.OK),
        "termination_condition": str(result.termination_condition),
        "objective": result.objective,
        "bound": result.bound,
        "bound_kind": result.bound_kind or "",
        "progress": [list(entry[:3]) for entry in result.progress],
        "n_cuts": result.n_cuts,
        "node_count": result.node_count,
        "build_time": result.build_time,
        "solve_time": result.solve_time,
        "versions": package_versions(),
    }
    if result.proof is not None:
        result.save(folder / SOLUTION, problem)
    if held["status"] in (Status.ERROR, Status.LICENCE, Status.MEMORY):
        held["reason"] = result.raw_status or f"it ended with {result.termination_condition}"
    return held, result.assignment


def _peer(
    job: dict[str, Any], problem: Problem, start: Assignment | None, _: Path
) -> tuple[dict[str, Any], Assignment | None]:
    if start is not None:
        raise UnsupportedFormulationError(
            f"{job['method']} takes no start; run it in a campaign without warm starts."
        )
    task = PeerRun(
        problem=problem,
        time_limit=job["time_limit"],
        threads=job["threads"],
        seed=job["seed"],
    )
    PEERS[job["method"]](task)
    ended = TerminationCondition.COMPLETED if task.finished else TerminationCondition.TIME_LIMIT
    held = {
        "status": _STATUS.get(ended, Status.OK),
        "reason": task.reason,
        "termination_condition": str(ended),
        "objective": task.objective,
        "bound": task.bound,
        "bound_kind": "" if task.bound is None else f"the word of {job['method']}",
        "progress": task.progress,
        "solve_time": task.elapsed,
        "versions": package_versions() | task.versions,
    }
    return held, task.assignment


def _cpu_time() -> float:
    """Seconds of this process and of its children that have ended."""
    times = psutil.Process().cpu_times()
    return float(
        times.user
        + times.system
        + getattr(times, "children_user", 0.0)
        + getattr(times, "children_system", 0.0)
    )


def _end_with_starter() -> None:
    """A run whose starter was killed would burn a processor that the next run needs."""
    while os.read(0, 1):
        pass
    for member in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            member.kill()
    os._exit(1)


def main() -> None:
    """Read the job, run it, write the outcome."""
    threading.Thread(target=_end_with_starter, daemon=True).start()
    job, outcome = map(Path, sys.argv[1:])
    held = run(json.loads(job.read_text(encoding="utf-8")), outcome.parent)
    held["cpu_time"] = _cpu_time()
    temporary = outcome.with_suffix(".part")
    temporary.write_text(json.dumps(held, allow_nan=False), encoding="utf-8")
    os.replace(temporary, outcome)


if __name__ == "__main__":
    main()
