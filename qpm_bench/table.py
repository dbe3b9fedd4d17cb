"""Tables of text, their Markdown, and the two that ``qpm bench`` prints."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from qpm_bench.judge import Judged
from qpm_bench.outcomes import SHIFT, Outcome, Summary, outcomes, summaries, virtual_best_summary
from qpm_bench.records import Record, Status
from qpm_bench.registry import Instance


@dataclass(frozen=True)
class Cell:
    """Text of a table that stands out: ``mark`` is "best", "wrong" or "failed"."""

    text: str
    mark: str


@dataclass(frozen=True)
class Table:
    """Rows of text below a head.

    Attributes
    ----------
    head : sequence of str
    rows : sequence of sequences of str or Cell
    n_text : int
        So many columns on the left hold words, the others numbers.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str | Cell]] = field(default_factory=list)
    n_text: int = 1

    def markdown(self) -> str:
        """The table in Markdown; cells that are best or wrong are bold."""
        lines = [list(map(_markdown_cell, self.head)), ["---"] * len(self.head)]
        lines += [list(map(_markdown_cell, row)) for row in self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def markdown_text(text: str) -> str:
    """Text on one line, whose signs mean nothing in Markdown or in the HTML within."""
    return re.sub(r"([\\`*<>\[\]&])", r"\\\1", " ".join(text.split()))


def _markdown_cell(cell: str | Cell) -> str:
    cell = cell if isinstance(cell, Cell) else Cell(cell, "")
    text = markdown_text(cell.text.replace("|", "/"))
    return f"**{text}**" if cell.mark in ("best", "wrong") else text


def percent(share: float) -> str:
    """A share in per cent, with three digits."""
    if math.isinf(share):
        return "infinite"
    return f"{100 * share:.0f} %" if share >= 10.0 else f"{100 * share:.3g} %"


def seconds(time: float) -> str:
    """A time with three digits or whole seconds; "never" if it is inf."""
    if math.isinf(time):
        return "never"
    return f"{time:.0f} s" if time >= 100.0 else f"{time:.3g} s"


def mebibytes(size: int) -> str:
    """A size in MiB."""
    return f"{size / 2**20:.0f} MiB"


def order(permutation: int) -> str:
    """What a permutation's number means."""
    return f"permutation {permutation}" if permutation else "of the file"


_INSTANCES_HEAD = (
    "instance", "family", "classes", "features", "selected", "per class", "best known", "proved",
    "by", "source",
)  # fmt: skip


def instances_table(rows: Iterable[Instance]) -> str:
    """One row an instance of the registry."""
    return Table(_INSTANCES_HEAD, list(map(_instance_row, rows))).markdown()


def runs_table(judged: Iterable[Judged]) -> str:
    """Markdown, one row a record, with the recomputed objective and :attr:`Judged.relative_gap`."""
    head = (
        "instance", "method", "solver", "seed", "order", "status", "objective", "bound", "gap",
        "seconds", "CPU seconds", "MiB",
    )  # fmt: skip
    return Table(head, list(map(_run_row, judged))).markdown()


def summary_table(judged: Iterable[Judged]) -> str:
    """Markdown, one row for each method with its solver (:class:`qpm_bench.outcomes.Summary`)."""
    columns: dict[str, Callable[[Summary], str | Cell]] = {
        "method": lambda one: one.method,
        "solver": lambda one: one.solver or "none",
    }
    shown = ("runs", "solved", _MEAN, "primal gap", "primal-dual integral", "wrong")
    columns |= {name: _COLUMNS[name] for name in shown}
    return _of_summaries(columns, summaries(outcomes(judged))).markdown()


def entrants_table(runs: Sequence[Outcome]) -> Table:
    """All of the summary of each entrant and, in the last row, of the virtual best."""
    columns: dict[str, Callable[[Summary], str | Cell]] = {"entrant": lambda one: one.entrant}
    return _of_summaries(columns | _COLUMNS, [*summaries(runs), virtual_best_summary(runs)])


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000.0 else f"{value:.0f}"


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


def _wrong(summary: Summary) -> str | Cell:
    if summary.peak_memory is None:
        return ""
    return Cell(str(summary.n_wrong), "wrong") if summary.n_wrong else "0"


def _failures(summary: Summary) -> str | Cell:
    others = {s: n for s, n in summary.failures.items() if s is not Status.WRONG}
    text = ", ".join(f"{n} {status}" for status, n in sorted(others.items()))
    return Cell(text, "failed") if text else ""


_MEAN = f"mean solving time (shifted geometric, shift {SHIFT:g} s)"
#: Columns of a summary by their heads; times and integrals are seconds.
_COLUMNS: dict[str, Callable[[Summary], str | Cell]] = {
    "runs": lambda one: str(one.n_runs),
    "solved": lambda one: str(one.n_solved),
    _MEAN: lambda one: _number(one.mean_time),
    "PAR10": lambda one: _number(one.par10),
    "primal gap": lambda one: percent(one.primal_gap),
    "primal integral": lambda one: _number(one.primal_integral),
    "primal-dual integral": lambda one: _number(one.primal_dual_integral),
    "first incumbent": lambda one: _number(one.first_incumbent),
    "within 1\N{NO-BREAK SPACE}%": lambda one: _number(one.within_1_percent),
    "within 0.1\N{NO-BREAK SPACE}%": lambda one: _number(one.within_01_percent),
    "peak memory": lambda one: "" if one.peak_memory is None else mebibytes(one.peak_memory),
    "wrong": _wrong,
    "failed": _failures,
}


def _of_summaries(
    columns: dict[str, Callable[[Summary], str | Cell]], held: Iterable[Summary]
) -> Table:
    rows = [[column(summary) for column in columns.values()] for summary in held]
    return Table(list(columns), rows)


def _run_row(judged: Judged) -> tuple[str, ...]:
    record, gap = judged.record, judged.relative_gap
    bound = "none" if record.bound is None else f"{record.bound:.6g}"
    return (
        record.instance,
        record.method,
        record.solver or "none",
        str(record.seed),
        order(record.permutation),
        _status(record),
        "none" if judged.objective is None else f"{judged.objective:.6g}",
        f"{bound}{', certified' if record.certified else ''}",
        "unknown" if gap is None else percent(gap),
        f"{record.wall_time:.1f}",
        f"{record.cpu_time:.1f}",
        f"{record.peak_memory / 2**20:.0f}",
    )


def _status(record: Record) -> str:
    return f"{record.status}: {record.reason}" if record.reason.strip() else str(record.status)
