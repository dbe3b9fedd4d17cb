"""Tables of a report: instances against entrants, repeated runs, failures."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from qpm_bench.measures import Spread, spread
from qpm_bench.outcomes import UNREMARKABLE, Outcome, by_entrant
from qpm_bench.records import Status
from qpm_bench.results import Instance
from qpm_bench.table import Cell, Table, order, percent, seconds

#: How to read :func:`instances_table`.
INSTANCES_NOTE = (
    "A cell holds the time of a solved run, else its gap; in parentheses, where there is no bound, "
    "how far the objective is below the best. The best of a row is bold. Of several seeds and "
    "permutations it is the median run (the worse of two), with the number solved where they "
    "differ; one that is wrong makes the cell WRONG. C classes, F features, p of them selected, k "
    "for each class; the best objective is verified or published, * if that it is the optimum is "
    "published or certified."
)


def instances_table(instances: Sequence[Instance], runs: Sequence[Outcome]) -> Table:
    """A row for each instance, a column for each entrant."""
    entrants = by_entrant(runs)
    rows = []
    for instance in instances:
        groups = [
            [run for run in of_entrant if run.record.instance == instance.name]
            for of_entrant in entrants.values()
        ]
        medians = [_median(group) for group in groups]
        first = min((_rank(run) for run in medians if run is not None), default=None)
        best = "none" if instance.best is None else f"{instance.best:.7g}"
        rows.append(
            [
                instance.name,
                f"{instance.n_classes} x {instance.n_features}",
                f"{instance.n_selected}, {instance.n_per_class}",
                best + "*" * instance.proved,
                *(
                    _cell(group, median, first)
                    for group, median in zip(groups, medians, strict=True)
                ),
            ]
        )
    return Table(["instance", "C x F", "p, k", "best", *entrants], rows)


def _rank(run: Outcome) -> tuple[int, float]:
    """Sorts runs, the best first: solved by time, then by gap, then by objective."""
    gap = run.judged.relative_gap
    if run.record.status is Status.WRONG:
        return 4, 0.0
    if run.solved:
        return 0, run.time
    if gap is not None:
        return 1, gap
    return (3, 0.0) if run.judged.objective is None else (2, run.primal_gap)


def _median(group: Sequence[Outcome]) -> Outcome | None:
    """The run in the middle, the worse of two; the wrong one if there is one."""
    ranked = sorted(group, key=_rank)
    if not ranked:
        return None
    return ranked[-1] if _rank(ranked[-1])[0] == 4 else ranked[len(ranked) // 2]


def _cell(
    group: Sequence[Outcome], run: Outcome | None, first: tuple[int, float] | None
) -> str | Cell:
    if run is None:
        return "not run"
    kind, value = _rank(run)
    if kind == 4:
        return Cell("WRONG", "wrong")
    text = {0: seconds(value), 1: percent(value), 2: f"({percent(value)})", 3: "no solution"}[kind]
    failed = run.record.status not in UNREMARKABLE
    if failed:
        text = f"{run.record.status} {text}" if kind < 3 else str(run.record.status)
    n_solved = sum(one.solved for one in group)
    if 0 < n_solved < len(group):
        text = f"{text}, {n_solved}/{len(group)} solved"
    if failed:
        return Cell(text, "failed")
    return Cell(text, "best") if kind < 2 and (kind, value) == first else text


def spread_table(runs: Sequence[Outcome]) -> Table | None:
    """Median and range over seeds and permutations; None if no entrant has several on an instance.

    Measured are solving times, gaps and primal gaps.
    """
    rows = []
    for entrant, of_entrant in by_entrant(runs).items():
        by_instance: dict[str, list[Outcome]] = {}
        for run in of_entrant:
            by_instance.setdefault(run.record.instance, []).append(run)
        for instance, group in by_instance.items():
            if len(group) > 1:
                times = spread([run.time for run in group])
                solved = f"{sum(run.solved for run in group)} of {len(group)}"
                gaps = spread([_gap(run) for run in group])
                below = spread([run.primal_gap for run in group])
                rows.append(
                    [
                        instance,
                        entrant,
                        solved,
                        _range(
                            times, lambda time: "unsolved" if math.isinf(time) else seconds(time)
                        ),
                        _range(gaps, lambda gap: "unknown" if math.isinf(gap) else percent(gap)),
                        _range(below, percent),
                    ]
                )
    head = ["instance", "entrant", "solved", "time", "gap", "primal gap"]
    return Table(head, sorted(rows), n_text=2) if rows else None


def _gap(run: Outcome) -> float:
    gap = run.judged.relative_gap
    return math.inf if gap is None or run.record.status is Status.WRONG else gap


def _range(values: Spread, text: Callable[[float], str]) -> str:
    median, least, most = map(text, values)
    return median if least == most else f"{median} ({least} to {most})"


def failures_table(runs: Sequence[Outcome]) -> Table | None:
    """Runs that did not end at their own end or time limit, or were killed; None without any.

    Those of an entrant whose reasons differ in numbers at most share a row.
    """
    groups: dict[tuple[str, str, str], list[Outcome]] = {}
    for run in runs:
        status, reason = run.record.status, run.record.reason.strip()
        if status not in UNREMARKABLE or reason:
            alike = re.sub(r"\d+(\.\d+)?", "0", reason)
            groups.setdefault((status, run.entrant, alike), []).append(run)
    rows = [
        [
            Cell(status, "wrong" if status == Status.WRONG else "failed"),
            entrant,
            str(len(group)),
            ", ".join(_runs_of(group)),
            _reason_of(group),
        ]
        for (status, entrant, _), group in sorted(groups.items(), key=lambda item: item[0])
    ]
    return (
        Table(["status", "entrant", "runs", "instances", "reason"], rows, n_text=5)
        if rows
        else None
    )


def _reason_of(group: Sequence[Outcome]) -> str:
    """That of the first run, and whether numbers in it are others in other runs."""
    reasons = list(dict.fromkeys(run.record.reason.strip() for run in group))
    first = reasons[0] or "no reason given"
    return first if len(reasons) == 1 else f"{first} (the first; others with other numbers)"


def _runs_of(group: Sequence[Outcome]) -> list[str]:
    """Instances of runs, with seed and order where they are not the usual ones."""
    names = []
    for run in group:
        seed = f" seed {run.record.seed}" if run.record.seed else ""
        permuted = f" {order(run.record.permutation)}" if run.record.permutation else ""
        names.append(f"{run.record.instance}{seed}{permuted}")
    return names
