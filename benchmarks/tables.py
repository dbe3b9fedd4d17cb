"""Tables at the end of a run: what every solve found and proved, and how seconds grow with size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from qpm_bench.judge import TOLERANCE, Judged
from qpm_bench.records import Status
from qpm_opt import Problem

SOLVES_HEAD = ("id", "status", "objective", "bound", "gap", "seconds")


def solve_id(label: str) -> str:
    """Of a solve, by the label of its run: the name of its test without what pytest adds."""
    return f"solve[{label}]"


def solve_cells(judged: Judged, label: str) -> tuple[str, ...]:
    """The row of one solve; seconds are those of its whole process."""
    record, gap = judged.record, judged.relative_gap
    return (
        solve_id(label),
        str(record.status),
        "none" if judged.objective is None else f"{judged.objective:.6g}",
        "none" if record.bound is None else f"{record.bound:.6g}",
        "unknown" if gap is None else f"{100 * gap:.3g} %",
        f"{record.wall_time:.2f}",
    )


def growth_of_solves(
    judged: Iterable[Judged], problems: Mapping[str, Problem]
) -> dict[str, dict[str, str]]:
    """Mean seconds by entrant and size, marked where a gap was left: there the limit decided."""
    times: dict[str, dict[str, list[float]]] = {}
    open_gaps = set()
    for one in judged:
        record, problem = one.record, problems[one.record.instance]
        if record.status not in (Status.OK, Status.TIME):
            continue
        size = f"{problem.n_classes}x{problem.n_features}"
        times.setdefault(record.entrant, {}).setdefault(size, []).append(record.wall_time)
        if one.relative_gap is None or one.relative_gap > TOLERANCE:
            open_gaps.add((record.entrant, size))
    return {
        solve_id(entrant): {
            size: f"{sum(held) / len(held):.2f}{'+' if (entrant, size) in open_gaps else ''}"
            for size, held in by_size.items()
        }
        for entrant, by_size in times.items()
    }


def growth_tables(series: Mapping[str, Mapping[str, str]]) -> Iterable[list[str]]:
    """One table for all series over the same sizes; what has one size only does not grow."""
    groups: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for name, by_size in series.items():
        if len(by_size) > 1:
            groups.setdefault(tuple(by_size), []).append((name, *by_size.values()))
    for sizes, rows in groups.items():
        yield aligned(("", *sizes), rows)


def aligned(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, the others to the right."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
