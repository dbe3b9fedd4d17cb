"""The report of a campaign: a page, its Markdown, tables as CSV, figures as SVG and PNG."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from qpm_bench import figures
from qpm_bench.curves import peak_memory, profile_of, scaling_series, trace_panel
from qpm_bench.judge import ROUNDING, TOLERANCE
from qpm_bench.measures import GOULD_SCOTT_WARNING
from qpm_bench.outcomes import (
    LATE,
    LATE_SECONDS,
    SHIFT,
    Outcome,
    Summary,
    by_entrant,
    summaries,
    virtual_best_summary,
)
from qpm_bench.page import Block, Facts, Heading, Items, Picture, Text, html_page, markdown_page
from qpm_bench.records import Record, Status
from qpm_bench.report_tables import INSTANCES_NOTE, failures_table, instances_table, spread_table
from qpm_bench.results import Instance, Results, read_results
from qpm_bench.table import entrants_table

#: A run on its own processor gets more of it than this, start and end included.
STARVED = 0.9

_MEASURES = (
    "gap = |bound - objective| / |objective|, the same for all. Objectives are recomputed from the "
    "solutions.",
    f"A run is solved if its objective is verified and its gap is at most {TOLERANCE:g}, or the "
    f"distance {ROUNDING:g} of the largest coefficient. It is "
    "WRONG if its solution breaks a constraint, or if a verified solution or a proved optimum "
    "refutes its bound, its objective or its progress; a WRONG run counts as unsolved, and as if "
    "it had shown no progress.",
    f"A proof counts if building and solving took no longer than {LATE:g} times the limit and "
    f"{LATE_SECONDS:g} s.",
    "The incumbents and bounds of the progress are the run's own words, as far as nothing refutes "
    "them.",
    "Solving times are wall clock of the whole process, its start included, and at most the time "
    "limit. Times of incumbents and bounds count from the start of the solve.",
    f"Means of times are shifted geometric, prod(t + {SHIFT:g} s)^(1/n) - {SHIFT:g} s; what never "
    "came counts at the time limit. PAR10 is the arithmetic mean with unsolved runs at ten times "
    "the limit.",
    "primal gap = (best - objective) / max(|best|, |objective|), 1 without an objective or if the "
    "signs differ; best is the highest objective that is verified in any run or published. "
    "Integrals are those of the primal gap, and of |bound - incumbent| / max(|bound|, "
    "|incumbent|), over the time limit, in seconds (Berthold, 2013); means are arithmetic.",
    "The virtual best has, on every instance, seed and permutation, the best value of all "
    "entrants, separately for each measure.",
    "Peak memory is the largest sum over a process and its children; shared pages count for each.",
)


def write_report(folder: Path, out: Path) -> Results:
    """Judge a campaign and write its report; what was read.

    Parameters
    ----------
    folder : Path
        Of a campaign (:mod:`qpm_bench.runner`), which may be running.
    out : Path
        Folder for ``report.html``, ``report.md``, ``records.csv`` (a row a run), ``summary.csv``
        (a row an entrant) and ``figures/``; files of these names are replaced.

    Raises
    ------
    InvalidInputError
        If there is no record that can be judged.
    """
    results = read_results(folder)
    drawn = out / "figures"
    drawn.mkdir(parents=True, exist_ok=True)
    blocks = []
    for block in _blocks(results):
        if isinstance(block, _Drawing):
            svg = figures.as_svg(block.figure, block.name)
            (drawn / f"{block.name}.svg").write_text(svg, encoding="utf-8")
            (drawn / f"{block.name}.png").write_bytes(figures.as_png(block.figure))
            block = Picture(block.name, svg, block.title)
        blocks.append(block)
    title = f"Campaign {results.name}"
    texts = {
        "report.html": html_page(title, blocks),
        "report.md": markdown_page(title, blocks),
        "records.csv": records_csv(results.runs),
        "summary.csv": summary_csv(results.runs),
    }
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8")
    return results


class _Drawing:
    """A figure that becomes a picture of the page and two files."""

    def __init__(self, name: str, figure: Figure, title: str) -> None:
        self.name, self.figure, self.title = name, figure, title


def _blocks(results: Results) -> Iterator[Block | _Drawing]:
    runs = results.runs
    entrants = by_entrant(runs)
    # Those without a solver come first: they get the strongest colours.
    styles = figures.looks(sorted(entrants, key=lambda name: bool(entrants[name][0].record.solver)))
    yield Facts(_facts([run.record for run in runs], len(entrants), len(results.instances)))
    if results.troubles:
        yield Items(results.troubles, is_warning=True)
    if len({_machine(run.record.machine) for run in runs}) > 1:
        yield Text(
            "The runs come from several machines; their times cannot be compared.",
            is_warning=True,
        )
    starved = _starved([run.record for run in runs])
    if starved:
        yield Text(starved, is_warning=True)
    yield Items(_MEASURES)
    yield Heading("Entrants")
    if len({frozenset(run.task for run in group) for group in entrants.values()}) > 1:
        yield Text(
            "Not all entrants have run on the same instances, seeds and permutations yet: their "
            "means cannot be compared.",
            is_warning=True,
        )
    yield entrants_table(runs)
    yield Text("Times and integrals are in seconds; the less the better.")
    yield from _families(results)
    yield Heading("Performance profile")
    yield from _profile(runs, styles)
    yield Heading("Instances")
    yield instances_table(results.instances, runs)
    yield Text(INSTANCES_NOTE)
    yield from _sources(results.instances)
    yield Heading("Incumbents and bounds over time")
    yield from _traces(results, styles)
    yield Heading("Scaling")
    series = scaling_series(results.instances, runs)
    if series:
        yield Text(
            "Instances of a family that differ in one size; the median where there are several of "
            "a size. Entrants that state no bound prove nothing and are not drawn."
        )
        yield _Drawing("scaling", figures.draw_scaling(series, styles), "Time against size")
    else:
        yield Text("There are no two instances of a family that differ in one size only.")
    yield Heading("Memory")
    peaks = peak_memory(runs)
    if peaks:
        yield _Drawing("memory", figures.draw_memory(peaks), "Peak memory by entrant")
    else:
        yield Text("No run has its memory measured.")
    yield Heading("Spread over seeds and permutations")
    yield spread_table(runs) or Text("No entrant has several runs on an instance.")
    yield Heading("Failures")
    yield failures_table(runs) or Text("Every run came to its own end or to its time limit.")
    yield Heading("Noise of the machine")
    yield Text(_noise(results))


def _sources(instances: Sequence[Instance]) -> Iterator[Any]:
    """Where the instances come from, by family."""
    families: dict[str, dict[str, None]] = {}
    for one in instances:
        if one.citation:
            families.setdefault(one.family, {})[one.citation] = None
    if families:
        yield Items([f"{name}: {'; '.join(sources)}" for name, sources in families.items()])


def _families(results: Results) -> Iterator[Any]:
    """The table of entrants for each family alone, where there are several."""
    families: dict[str, set[str]] = {}
    for instance in results.instances:
        families.setdefault(instance.family, set()).add(instance.name)
    if len(families) < 2:
        return
    for family, names in families.items():
        yield Heading(f"Entrants on {family}")
        yield entrants_table([run for run in results.runs if run.record.instance in names])


def _starved(records: Sequence[Record]) -> str:
    """A sentence, if runs that used all their time did not have a processor all the time."""
    shares = [
        record.cpu_time / record.wall_time
        for record in records
        if record.status is Status.TIME and record.cpu_time > 0.0 and record.wall_time > 0.0
    ]
    n_starved = sum(share < STARVED for share in shares)
    if not n_starved:
        return ""
    return (
        f"{n_starved} of the {len(shares)} runs that went on to their limit had less than "
        f"{100 * STARVED:.0f} % of a processor, the least {100 * min(shares):.0f} %: the machine "
        "was busy with other things, or waited for its disk. Their times and gaps are worse than "
        "they need be."
    )


def _profile(runs: Sequence[Outcome], styles: Mapping[str, figures.Look]) -> Iterator[Any]:
    profile = profile_of(runs)
    if profile is None:
        yield Text("There is no profile: nothing that all entrants have run is solved by any.")
        return
    if len(profile.entrants) + len(profile.without) > 2:
        yield Text(GOULD_SCOTT_WARNING, is_warning=True)
    text = (
        "The curve of an entrant is the share of runs (an instance with a seed and permutation) "
        "that it solves within so many times the time of the fastest there (Dolan and Moré, 2002)."
    )
    if profile.n_incomplete:
        text += (
            f" It rests on {profile.n_tasks}; {profile.n_incomplete} that not all entrants have "
            "run yet are left out."
        )
    if profile.without:
        text += (
            f" Not drawn, because they solve none of these {profile.n_tasks}: "
            f"{', '.join(profile.without)}."
        )
    yield Text(text)
    yield _Drawing("profile", figures.draw_profile(profile, styles), "Performance profile")


def _traces(results: Results, styles: Mapping[str, figures.Look]) -> Iterator[Any]:
    yield Text(
        "Of several seeds and permutations the first run of each entrant is drawn; runs that are "
        "WRONG or showed no progress are not."
    )
    names: set[str] = set()
    without = []
    for instance in results.instances:
        panel = trace_panel(instance, results.runs)
        if panel is None:
            without.append(instance.name)
            continue
        figure = figures.draw_traces(panel, styles)
        name = _file_name(f"trace-{instance.name}", names)
        yield _Drawing(name, figure, f"Incumbents and bounds on {instance.name}")
    if without:
        yield Text(f"There is nothing to draw for {', '.join(without)}.")


def _file_name(text: str, taken: set[str]) -> str:
    """The text in letters, digits and dashes, with a number if that is taken; it is taken then."""
    stem = name = re.sub(r"[^A-Za-z0-9_-]+", "_", text)[:120]
    number = 2
    while name.lower() in taken:  # of some file systems
        name = f"{stem}_{number}"
        number += 1
    taken.add(name.lower())
    return name


def _facts(records: Sequence[Record], n_entrants: int, n_instances: int) -> list[tuple[str, str]]:
    statuses = Counter(record.status for record in records)
    dates = sorted(record.date for record in records if record.date)
    starts = {bool(record.start_sha256) for record in records}
    versions: dict[str, set[str]] = {}
    for record in records:
        for package, version in record.versions.items():
            versions.setdefault(str(package), set()).add(str(version))
    return [
        ("runs", f"{len(records)} of {n_entrants} entrants on {n_instances} instances"),
        ("status", ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))),
        ("ended", f"{_minute(dates[0])} to {_minute(dates[-1])} UTC" if dates else "unknown"),
        ("time limit", _values(f"{record.time_limit:g} s" for record in records)),
        ("threads", _values(str(record.threads) for record in records)),
        ("seeds", _values(str(record.seed) for record in records)),
        ("permutations", _values(str(record.permutation) for record in records)),
        (
            "start",
            "some runs have one"
            if len(starts) > 1
            else "the same for all runs on an instance"
            if True in starts
            else "none",
        ),
        ("machine", "; ".join(sorted({_machine(record.machine) for record in records}))),
        (
            "versions",
            ", ".join(
                f"{name} {' and '.join(sorted(held))}" for name, held in sorted(versions.items())
            )
            or "unknown",
        ),
    ]


def _minute(date: str) -> str:
    return date[:16].replace("T", " ")


def _values(texts: Iterable[str]) -> str:
    return ", ".join(sorted(set(texts), key=lambda text: (len(text), text)))


def _machine(machine: Mapping[str, Any]) -> str:
    if not machine:
        return "unknown"
    held = {**machine}
    if isinstance(held.get("memory"), int):
        held["memory"] = f"{held['memory'] / 2**30:.0f} GiB"
    return ", ".join(f"{str(name).replace('n_', '')} {value}" for name, value in held.items())


def _noise(results: Results) -> str:
    if results.noise is None:
        return "There is no noise.json beside the records: the noise was not measured."
    noise = results.noise
    date = f" ({noise.date})" if noise.date else ""
    return (
        f"{len(noise.times)} identical runs{date} took {min(noise.times):.3g} to "
        f"{max(noise.times):.3g} seconds; standard deviation / mean = "
        f"{100 * noise.relative_noise:.2g} %. Smaller differences between entrants mean nothing."
    )


def records_csv(runs: Iterable[Outcome]) -> str:
    """A row for each run: fields of its record, and all that was recomputed.

    ``stated_objective`` is the run's word, ``objective`` recomputed. Times that never came are inf.
    """
    scalar = [f.name for f in fields(Record) if not str(f.type).startswith(("list", "dict"))]
    measured = [
        "primal_gap", "time", "primal_integral", "primal_dual_integral", "first_incumbent",
        "within_1_percent", "within_01_percent",
    ]  # fmt: skip
    rows = []
    for run in runs:
        stated = {name: getattr(run.record, name) for name in scalar}
        stated["stated_objective"] = stated.pop("objective")
        rows.append(
            {
                "entrant": run.entrant,
                **stated,
                "objective": run.judged.objective,
                "best": run.judged.best,
                "relative_gap": run.judged.relative_gap,
                **{name: getattr(run, name) for name in measured},
            }
        )
    return _csv(rows)


def summary_csv(runs: Sequence[Outcome]) -> str:
    """A row for each entrant, and one for the virtual best."""
    names = [f.name for f in fields(Summary)]
    rows = []
    for one in [*summaries(runs), virtual_best_summary(runs)]:
        row = {name: getattr(one, name) for name in names}
        row["failures"] = " ".join(f"{status}:{n}" for status, n in sorted(one.failures.items()))
        rows.append(row)
    return _csv(rows)


def _csv(rows: Sequence[Mapping[str, object]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
