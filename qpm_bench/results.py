"""What the folder of a campaign holds, judged: one instance in memory at a time."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

from qpm_bench.instances import find
from qpm_bench.judge import Judged, contradictions, judge
from qpm_bench.measures import relative_noise
from qpm_bench.outcomes import Outcome, outcomes
from qpm_bench.records import Record, RecordFile
from qpm_opt import InvalidInputError, Problem, QPMError


@dataclass(frozen=True)
class Instance:
    """What a report says of an instance.

    Attributes
    ----------
    name, family : str
        The family is that of the registry, else the name up to its first number.
    n_classes, n_features, n_selected, n_per_class : int
    best : float or None
        Highest objective, verified or published.
    proved : bool
        Whether a run proved it, or it is published as proved.
    citation : str
        Source; empty if it is not known.
    """

    name: str
    family: str
    n_classes: int
    n_features: int
    n_selected: int
    n_per_class: int
    best: float | None
    proved: bool
    citation: str = ""


@dataclass(frozen=True)
class Noise:
    """Identical runs that measure the machine: their times in seconds, and what is known of them.

    Attributes
    ----------
    times : list of float
    relative_noise : float
        :func:`qpm_bench.measures.relative_noise` of the times.
    date : str
    """

    times: list[float]
    relative_noise: float
    date: str


@dataclass(frozen=True)
class Results:
    """A campaign as far as it can be read.

    Attributes
    ----------
    name : str
        Of the folder.
    instances : list of Instance
        In the order of family, sizes and name.
    runs : list of Outcome
    noise : Noise or None
    troubles : list of str
        A sentence for whatever could not be read or used.
    """

    name: str
    instances: list[Instance]
    runs: list[Outcome]
    noise: Noise | None
    troubles: list[str]


def read_results(folder: Path) -> Results:
    """Read and judge all records of a campaign, which may be running or have been killed.

    Records whose instance is missing, damaged or another one are left out, and a sentence of
    ``troubles`` says so.

    Raises
    ------
    InvalidInputError
        If there is no record that can be judged.
    """
    path = folder / "records.jsonl"
    records, damages = RecordFile(path).scan()
    troubles = [f"records.jsonl, {damage}." for damage in damages]
    if not records:
        found = "no records" if path.exists() else "no file records.jsonl"
        hint = f" ({troubles[0]})" if troubles else ""
        raise InvalidInputError(
            f"{folder} holds {found}{hint}; give the folder of a campaign of qpm bench."
        )
    judged: list[Judged] = []
    instances: list[Instance] = []
    by_instance: dict[str, list[Record]] = {}
    for record in records:
        by_instance.setdefault(record.instance, []).append(record)
    for name, group in by_instance.items():
        try:
            problem = Problem.load(folder / "instances" / f"{name}.npz")
        except (QPMError, OSError) as failure:
            troubles.append(f"{len(group)} runs on {name} are left out: {failure}")
            continue
        same = [record for record in group if record.instance_sha256 == problem.sha256]
        if len(same) < len(group):
            troubles.append(
                f"{len(group) - len(same)} runs on {name} are left out: they solved another "
                "problem than the one in instances/."
            )
        if same:
            of_instance = judge(same, {name: problem})
            troubles += contradictions(of_instance, {name: problem})
            judged += of_instance
            instances.append(_instance(name, problem, of_instance[0].best))
    if not judged:
        raise InvalidInputError(f"No record of {folder} can be judged. {' '.join(troubles)}")
    runs = outcomes(judged)
    troubles += [
        f"The progress of {run.entrant} on {run.record.instance} cannot be read: {run.trace_damage}"
        for run in runs
        if run.trace_damage
    ]
    noise = _noise(folder / "noise.json", troubles)
    # The word of a solver proves nothing.
    proved = {run.record.instance for run in runs if run.solved and run.record.certified}
    instances = [replace(one, proved=one.proved or one.name in proved) for one in instances]
    return Results(
        folder.resolve().name, sorted(instances, key=_sorting_key), runs, noise, troubles
    )


def _instance(name: str, problem: Problem, best: float | None) -> Instance:
    start = re.match(r"[^0-9]*", name)
    family = (start.group().rstrip("_- ") if start else "") or name
    row = find(problem)
    return Instance(
        name=name,
        family=family if row is None else row.family,
        n_classes=problem.n_classes,
        n_features=problem.n_features,
        n_selected=problem.n_selected,
        n_per_class=problem.n_per_class,
        best=best,
        proved=problem.proved,
        citation=problem.source if row is None else row.citation,
    )


def _sorting_key(instance: Instance) -> tuple[object, ...]:
    # Numbers within names count as numbers: 2 comes before 10.
    parts = re.split(r"(\d+)", instance.name)
    natural = [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
    return instance.family, instance.n_features, instance.n_classes, natural


def _noise(path: Path, troubles: list[str]) -> Noise | None:
    """The noise of the machine, if its file is there; a sentence more where it is damaged."""
    if not path.exists():
        return None
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        return Noise(held["times"], relative_noise(held["times"]), str(held.get("date", "")))
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as failure:
        troubles.append(f"{path.name} is passed over: {failure}")
        return None
