"""What the figures of a report show, computed from the outcomes of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from qpm_bench.measures import PerformanceProfile, performance_profile
from qpm_bench.outcomes import Outcome, by_entrant
from qpm_bench.records import Status
from qpm_bench.results import Instance

#: Runs that say nothing of how long a proof takes; those that failed are unsolved.
UNTRIED = (Status.LICENCE, Status.MISSING, Status.UNSUPPORTED)


@dataclass(frozen=True)
class Profile:
    """A performance profile on the tasks (instance, seed, permutation) that all entrants have run.

    Attributes
    ----------
    entrants : list of str
        Those that solved one, the most first; the rows of the profile.
    profile : PerformanceProfile
    n_tasks : int
    n_incomplete : int
        Tasks that are left out because not every entrant has a run.
    without : list of str
        Entrants that solved nothing.
    """

    entrants: list[str]
    profile: PerformanceProfile
    n_tasks: int
    n_incomplete: int
    without: list[str]


def profile_of(runs: Sequence[Outcome]) -> Profile | None:
    """The profile of all entrants; None if no task that all have run is solved by any."""
    times = {
        entrant: {run.task: run.time for run in group}
        for entrant, group in by_entrant(runs).items()
    }
    all_tasks = {run.task for run in runs}
    tasks = sorted(all_tasks.intersection(*times.values()))
    table = np.array([[held[task] for task in tasks] for held in times.values()])
    solved = np.isfinite(table).sum(axis=1) if tasks else np.zeros(len(times), dtype=int)
    if not solved.any():
        return None
    rows = [row for row in np.argsort(-solved, kind="stable") if solved[row]]
    limit = max(run.record.time_limit for run in runs)
    names = list(times)
    return Profile(
        entrants=[names[row] for row in rows],
        profile=performance_profile(table[rows], time_limit=limit),
        n_tasks=len(tasks),
        n_incomplete=len(all_tasks) - len(tasks),
        without=[name for name, count in zip(names, solved, strict=True) if not count],
    )


@dataclass(frozen=True)
class TraceLine:
    """Incumbents or bounds of a run over time, as distances from the best value known.

    Attributes
    ----------
    entrant : str
    is_bound : bool
    times : list of float
        Seconds from the start of the solve at which the value changes.
    values : list of float
        Per cent of the best value (the distance itself if that is 0); incumbents are at most 0.
    end : float
        Seconds; the last value holds until then.
    """

    entrant: str
    is_bound: bool
    times: list[float]
    values: list[float]
    end: float


@dataclass(frozen=True)
class TracePanel:
    """Incumbents and bounds of all entrants on an instance.

    Attributes
    ----------
    instance : str
    best : float
    time_limit : float
    lines : list of TraceLine
    """

    instance: str
    best: float
    time_limit: float
    lines: list[TraceLine] = field(default_factory=list)


def trace_panel(instance: Instance, runs: Sequence[Outcome]) -> TracePanel | None:
    """The first run of each entrant on an instance; None if none has anything to show."""
    of_instance = [run for run in runs if run.record.instance == instance.name]
    if instance.best is None:
        return None
    panel = TracePanel(
        instance.name, instance.best, max(run.record.time_limit for run in of_instance)
    )
    for group in by_entrant(of_instance).values():
        run = min(group, key=lambda one: (one.record.permutation, one.record.seed))
        for column in (1, 2):
            panel.lines.extend(_trace_line(run, column, instance.best))
    return panel if panel.lines else None


def _trace_line(run: Outcome, column: int, best: float) -> list[TraceLine]:
    """The line of the incumbents (1) or bounds (2) of a run, if it has any."""
    scale = abs(best) / 100.0 or 1.0
    times: list[float] = []
    values: list[float] = []
    for entry in run.trace:
        value = entry[column]
        if value is not None and (not values or (value - best) / scale != values[-1]):
            times.append(entry[0])
            values.append((value - best) / scale)
    if not values:
        return []
    end = max(run.trace[-1][0], min(run.record.wall_time, run.record.time_limit))
    return [TraceLine(run.entrant, column == 2, times, values, end)]


@dataclass(frozen=True)
class ScalingSeries:
    """Solving times of instances of a family that differ in one size, C or F, and in no other.

    Attributes
    ----------
    family : str
    fixed, size : str
        The sizes that are the same, with their values, and the name of the one that grows.
    time_limit : float
    points : dict of str to list of (int, float)
        For each entrant that states bounds: size and median solving time in seconds, inf if
        unsolved.
    """

    family: str
    fixed: str
    size: str
    time_limit: float
    points: dict[str, list[tuple[int, float]]]


def scaling_series(instances: Sequence[Instance], runs: Sequence[Outcome]) -> list[ScalingSeries]:
    """All series with two sizes or more: of features for equal classes, and the reverse."""
    provers = {
        run.entrant
        for run in runs
        if run.record.bound is not None and run.record.status is not Status.WRONG
    }
    proving = [run for run in runs if run.entrant in provers and run.record.status not in UNTRIED]
    found = []
    for grows, fixed, letter, size in (
        ("n_features", "n_classes", "C", "features F"),
        ("n_classes", "n_features", "F", "classes C"),
    ):
        groups: dict[tuple[str, int, int, int], dict[str, int]] = {}
        for instance in instances:
            chosen = instance.n_selected, instance.n_per_class
            key = instance.family, getattr(instance, fixed), *chosen
            groups.setdefault(key, {})[instance.name] = getattr(instance, grows)
        for (family, value, p, k), sizes in groups.items():
            of_group = [run for run in proving if run.record.instance in sizes]
            if len(set(sizes.values())) < 2 or min(sizes.values()) < 1 or not of_group:
                continue
            limit = max(run.record.time_limit for run in of_group)
            points = {
                entrant: _median_times(group, sizes)
                for entrant, group in by_entrant(of_group).items()
            }
            same = f"{letter} = {value}, p = {p}, k = {k}"
            found.append(ScalingSeries(family, same, size, limit, points))
    return found


def _median_times(runs: Sequence[Outcome], sizes: dict[str, int]) -> list[tuple[int, float]]:
    times: dict[int, list[float]] = {}
    for run in runs:
        times.setdefault(sizes[run.record.instance], []).append(run.time)
    # Half of an even number unsolved is unsolved.
    return [(size, float(np.median(held))) for size, held in sorted(times.items())]


def peak_memory(runs: Sequence[Outcome]) -> dict[str, list[float]]:
    """MiB of each run, by entrant; runs of solvers that are not installed do not count."""
    peaks = {
        entrant: [
            run.record.peak_memory / 2**20
            for run in group
            if run.record.peak_memory > 0 and run.record.status is not Status.MISSING
        ]
        for entrant, group in by_entrant(runs).items()
    }
    return {entrant: held for entrant, held in peaks.items() if held}
