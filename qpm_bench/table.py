"""Judged records as a Markdown table."""

from __future__ import annotations

from collections.abc import Iterable

from qpm_bench.judge import Judged
from qpm_bench.records import Record

_HEAD = (
    "instance", "method", "solver", "seed", "status", "objective", "bound", "gap", "seconds",
    "CPU seconds", "MiB",
)  # fmt: skip


def markdown(judged: Iterable[Judged]) -> str:
    """One row a record, with the recomputed objective and :attr:`Judged.relative_gap`."""
    lines = [_HEAD, ("---",) * len(_HEAD), *map(_row, judged)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _row(judged: Judged) -> tuple[str, ...]:
    record, gap = judged.record, judged.relative_gap
    bound = "none" if record.bound is None else f"{record.bound:.6g}"
    return (
        record.instance,
        record.method,
        record.solver or "none",
        str(record.seed),
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
