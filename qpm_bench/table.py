"""Judged records as Markdown: a row a run, and a row a method with its solver."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from qpm_bench.judge import TOLERANCE, Judged
from qpm_bench.measures import n_solved, primal_dual_integral, primal_gap, shifted_geometric_mean
from qpm_bench.records import Record, Status
from qpm_bench.registry import Instance

#: Seconds; the shift of Mittelmann's benchmarks.
SHIFT = 10.0
_HEAD = (
    "instance", "method", "solver", "seed", "order", "status", "objective", "bound", "gap",
    "seconds", "CPU seconds", "MiB",
)  # fmt: skip


_SUMMARY_HEAD = (
    "method", "solver", "runs", "solved", f"shifted geometric mean, {SHIFT:g} s", "primal gap",
    "primal-dual integral", "wrong",
)  # fmt: skip

_INSTANCES_HEAD = (
    "instance", "family", "classes", "features", "selected", "per class", "best known", "proved",
    "by", "source",
)  # fmt: skip


def instances_table(rows: Iterable[Instance]) -> str:
    """One row an instance of the registry."""
    return _markdown(_INSTANCES_HEAD, map(_instance_row, rows))


def runs_table(judged: Iterable[Judged]) -> str:
    """One row a record, with the recomputed objective and :attr:`Judged.relative_gap`."""
    return _markdown(_HEAD, map(_row, judged))


def summary_table(judged: Sequence[Judged]) -> str:
    """One row for each method with its solver, over all of its runs.

    A run is solved if its gap is at most 1e-6; its time is that of the whole process. Primal gaps
    are to :attr:`Judged.best`. Means are arithmetic but for
    that of the times; unsolved runs count at the limit, wrong ones as unsolved.
    """
    entrants = sorted({(one.record.method, one.record.solver) for one in judged})
    return _markdown(
        _SUMMARY_HEAD,
        (
            _summary_row(
                [one for one in judged if (one.record.method, one.record.solver) == entrant]
            )
            for entrant in entrants
        ),
    )


def _summary_row(runs: Sequence[Judged]) -> tuple[str, ...]:
    record = runs[0].record
    limit = max(run.record.time_limit for run in runs)
    times = [_solving_time(run) for run in runs]
    gaps = [primal_gap(run.objective, run.best or 0.0) for run in runs]
    integrals = [
        primal_dual_integral(run.record.progress, time_limit=run.record.time_limit) for run in runs
    ]
    wrong = sum(run.record.status is Status.WRONG for run in runs)
    return (
        record.method,
        record.solver or "none",
        str(len(runs)),
        str(n_solved(times, time_limit=limit)),
        f"{shifted_geometric_mean(times, time_limit=limit, shift=SHIFT):.3g}",
        f"{100 * np.mean(gaps):.3g} %",
        f"{np.mean(integrals):.3g}",
        f"**{wrong}**" if wrong else "0",
    )


def _solving_time(run: Judged) -> float:
    """Seconds of the process, starting included, but no more than the limit; inf if unsolved."""
    gap = run.relative_gap
    if run.record.status is Status.WRONG or gap is None or gap > TOLERANCE:
        return math.inf
    return min(run.record.wall_time, run.record.time_limit)


def _instance_row(row: Instance) -> tuple[str, ...]:
    return (
        row.name,
        row.family,
        str(row.n_classes),
        str(row.n_features),
        str(row.n_selected),
        str(row.n_per_class),
        "none" if row.best_known is None else f"{row.best_known:.10g}",
        "yes" if row.proved else "no",
        row.evidence,
        row.citation,
    )


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _row(judged: Judged) -> tuple[str, ...]:
    record, gap = judged.record, judged.relative_gap
    bound = "none" if record.bound is None else f"{record.bound:.6g}"
    return (
        record.instance,
        record.method,
        record.solver or "none",
        str(record.seed),
        f"permutation {record.permutation}" if record.permutation else "of the file",
        _status(record),
        "none" if judged.objective is None else f"{judged.objective:.6g}",
        f"{bound}{', certified' if record.certified else ''}",
        "unknown" if gap is None else f"{100 * gap:.3g} %",
        f"{record.wall_time:.1f}",
        f"{record.cpu_time:.1f}",
        f"{record.peak_memory / 2**20:.0f}",
    )


def _status(record: Record) -> str:
    reason = " ".join(record.reason.split()).replace("|", "/")
    return f"{record.status}: {reason}" if reason else str(record.status)
