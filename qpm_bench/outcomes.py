"""Judged runs in numbers: the measures of each, of each entrant, and of the virtual best."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qpm_bench.judge import Judged
from qpm_bench.measures import n_solved, par10, shifted_geometric_mean
from qpm_bench.records import Record, Status
from qpm_bench.traces import (
    TraceEntry,
    primal_dual_integral,
    primal_gap,
    primal_integral,
    running_best,
    time_to_first_incumbent,
    time_to_within,
)
from qpm_opt import InvalidInputError

#: Seconds; the shift of Mittelmann's benchmarks.
SHIFT = 10.0
#: A proof counts if building and solving ended at this multiple of the limit and so many seconds.
LATE, LATE_SECONDS = 1.05, 1.0
#: How a run with nothing to complain about ends.
UNREMARKABLE = (Status.OK, Status.TIME)


@dataclass(frozen=True)
class Outcome:
    """A judged run and its measures; times are seconds, inf if never.

    Attributes
    ----------
    judged : Judged
    entrant : str
        :attr:`qpm_bench.records.Record.entrant`, with the settings in which runs of the campaign
        differ.
    time : float
        Of the whole process, its start included, but no more than the limit; inf if unsolved. A
        run is solved if bound and objective have met (:attr:`qpm_bench.judge.Judged.closed`) and it
        was not late (1.05 times the limit and one second, to notice it).
    primal_gap : float
        Of the recomputed objective to :attr:`Judged.best`; 1 without an objective.
    trace : list of (time, incumbent, bound)
        Best values up to each time from the start of the solve. Empty if the run is wrong: what it
        says of its progress are claims, too.
    trace_damage : str
        Why the trace cannot be read; empty if it can.
    primal_integral, primal_dual_integral : float
        Of the trace, up to the time limit.
    first_incumbent, within_1_percent, within_01_percent : float
        When the trace has an incumbent, and one within 1 % and 0.1 % of the best.
    """

    judged: Judged
    entrant: str
    time: float
    primal_gap: float
    trace: list[TraceEntry]
    trace_damage: str
    primal_integral: float
    primal_dual_integral: float
    first_incumbent: float
    within_1_percent: float
    within_01_percent: float

    @property
    def record(self) -> Record:
        """The run's, with its judged status."""
        return self.judged.record

    @property
    def solved(self) -> bool:
        """Whether it proved an optimum."""
        return self.time < math.inf

    @property
    def task(self) -> tuple[str, int, int]:
        """Instance, seed and permutation: what entrants are compared on."""
        return self.record.instance, self.record.seed, self.record.permutation


def outcomes(judged: Iterable[Judged]) -> list[Outcome]:
    """The measures of judged runs, in their order."""
    runs = list(judged)
    names = _entrants([run.record for run in runs])
    return [_outcome(run, name) for run, name in zip(runs, names, strict=True)]


def _outcome(judged: Judged, entrant: str) -> Outcome:
    record, best = judged.record, judged.best
    wrong = record.status is Status.WRONG
    solved = judged.closed and not _is_late(record)
    trace: list[TraceEntry] = []
    damage = ""
    if not wrong:
        try:
            trace = running_best(record.progress)  # type: ignore[arg-type]
        except (InvalidInputError, TypeError, LookupError) as failure:
            damage = str(failure)
    limit = record.time_limit
    return Outcome(
        judged=judged,
        entrant=entrant,
        time=min(record.wall_time, limit) if solved else math.inf,
        primal_gap=1.0 if best is None else primal_gap(judged.objective, best),
        trace=trace,
        trace_damage=damage,
        # Without a verified objective nothing is known to measure an incumbent by.
        primal_integral=limit if best is None else primal_integral(trace, best, time_limit=limit),
        primal_dual_integral=primal_dual_integral(trace, time_limit=limit),
        first_incumbent=time_to_first_incumbent(trace),
        within_1_percent=math.inf if best is None else time_to_within(trace, best, 0.01),
        within_01_percent=math.inf if best is None else time_to_within(trace, best, 0.001),
    )


def _is_late(record: Record) -> bool:
    """Whether a solver went on after its limit, by more than it may take to notice."""
    spent = [record.build_time, record.solve_time]
    held = [time for time in spent if time is not None]
    return (sum(held) if held else record.wall_time) > LATE * record.time_limit + LATE_SECONDS


def _entrants(records: Sequence[Record]) -> list[str]:
    """Names that tell apart runs in different settings, as far as the records have different."""
    settings: list[Callable[[Record], str]] = [
        lambda record: f"{record.time_limit:g} s",
        lambda record: f"{record.threads} thread{'s' if record.threads > 1 else ''}",
        lambda record: "with a start" if record.start_sha256 else "without a start",
    ]
    differing = [of for of in settings if len({of(record) for record in records}) > 1]
    return [", ".join([record.entrant, *(of(record) for of in differing)]) for record in records]


@dataclass(frozen=True)
class Summary:
    """The measures of an entrant over its runs; arithmetic means but for those of times.

    Means of times are shifted geometric (:data:`SHIFT`), with what never came at the limit.

    Attributes
    ----------
    entrant : str
    method, solver : str
        Empty for the virtual best.
    n_runs, n_solved, n_wrong : int
    mean_time, par10 : float
        Seconds to solve.
    primal_gap : float
    primal_integral, primal_dual_integral : float
        Seconds.
    first_incumbent, within_1_percent, within_01_percent : float
        Seconds; means of times.
    failures : mapping of Status to int
        Statuses but OK and TIME, with the number of runs.
    peak_memory : int or None
        Bytes, the largest of all runs; None for the virtual best.
    """

    entrant: str
    method: str
    solver: str
    n_runs: int
    n_solved: int
    n_wrong: int
    mean_time: float
    par10: float
    primal_gap: float
    primal_integral: float
    primal_dual_integral: float
    first_incumbent: float
    within_1_percent: float
    within_01_percent: float
    failures: Mapping[Status, int]
    peak_memory: int | None


def by_entrant(runs: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Runs of each entrant, in the order of the entrants' methods and solvers."""
    groups: dict[str, list[Outcome]] = {}
    for run in sorted(runs, key=lambda one: (one.record.method, one.record.solver, one.entrant)):
        groups.setdefault(run.entrant, []).append(run)
    return groups


def summaries(runs: Iterable[Outcome]) -> list[Summary]:
    """A summary of each entrant, in the order of :func:`by_entrant`."""
    return [_summary(entrant, group) for entrant, group in by_entrant(runs).items()]


def virtual_best_summary(runs: Iterable[Outcome]) -> Summary:
    """What the best choice of an entrant would have reached, separately for every measure.

    On each instance, seed and permutation it has the smallest value of all runs there.

    Raises
    ------
    InvalidInputError
        If there are no runs.
    """
    tasks: dict[tuple[str, int, int], list[Outcome]] = {}
    for run in runs:
        tasks.setdefault(run.task, []).append(run)
    if not tasks:
        raise InvalidInputError("There are no runs; a virtual best is that of at least one.")
    best = _summary("virtual best", [_best_of(group) for group in tasks.values()])
    return replace(best, method="", solver="", n_wrong=0, failures={}, peak_memory=None)


def _best_of(group: Sequence[Outcome]) -> Outcome:
    longest = max(group, key=lambda run: run.record.time_limit)
    smallest = {
        name: min(getattr(run, name) for run in group)
        for name in (
            "time", "primal_gap", "primal_integral", "primal_dual_integral", "first_incumbent",
            "within_1_percent", "within_01_percent",
        )
    }  # fmt: skip
    return replace(longest, **smallest)


def _summary(entrant: str, runs: Sequence[Outcome]) -> Summary:
    record = runs[0].record
    limit = max(run.record.time_limit for run in runs)
    times = [run.time for run in runs]
    statuses = Counter(run.record.status for run in runs)

    def mean(name: str) -> float:
        return float(np.mean([getattr(run, name) for run in runs]))

    def mean_time(name: str) -> float:
        values = [getattr(run, name) for run in runs]
        return shifted_geometric_mean(values, time_limit=limit, shift=SHIFT)

    return Summary(
        entrant=entrant,
        method=record.method,
        solver=record.solver,
        n_runs=len(runs),
        n_solved=n_solved(times, time_limit=limit),
        n_wrong=statuses[Status.WRONG],
        mean_time=mean_time("time"),
        par10=par10(times, time_limit=limit),
        primal_gap=mean("primal_gap"),
        primal_integral=mean("primal_integral"),
        primal_dual_integral=mean("primal_dual_integral"),
        first_incumbent=mean_time("first_incumbent"),
        within_1_percent=mean_time("within_1_percent"),
        within_01_percent=mean_time("within_01_percent"),
        failures={s: n for s, n in statuses.items() if s not in UNREMARKABLE},
        peak_memory=max(run.record.peak_memory for run in runs),
    )
