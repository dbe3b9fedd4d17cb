"""Records are judged against the problem and each other; no solver's word counts.

A solution is recomputed in float64 and checked against every constraint. The best verified
objective of all runs on an instance is a lower bound on its optimum: a bound below it is false.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from qpm_bench.records import Record, Status
from qpm_opt import Assignment, InvalidInputError, Problem, relative_gap

#: What values may differ by, relative to the larger of objective and largest coefficient: solvers
#: work to feasibility tolerances of 1e-6.
TOLERANCE = 1e-6
#: Share of the largest coefficient that counts as none, as in :func:`qpm_opt.solve`.
ROUNDING = 1e-7
#: Published optima are rounded, to six digits at the worst.
PUBLISHED = 1e-5


@dataclass(frozen=True)
class Judged:
    """A record and what is true of it.

    Attributes
    ----------
    record : Record
        With status and reason WRONG where it claims what is not so.
    objective : float or None
        Recomputed; None without a feasible solution.
    best : float or None
        Highest objective on the instance: verified in any of the runs judged, or published.
    scale : float
        Largest coefficient of the instance, for objectives near 0.
    """

    record: Record
    objective: float | None
    best: float | None = None
    scale: float = 0.0

    @property
    def closed(self) -> bool:
        """Whether bound and objective have met, and nothing is wrong.

        That is a gap of 1e-6 at most, or a distance of 1e-7 of the largest coefficient.
        """
        gap = self.relative_gap
        if self.record.status is Status.WRONG or gap is None:
            return False
        distance = abs(self.objective - self.record.bound)
        return gap <= TOLERANCE or distance <= ROUNDING * self.scale

    @property
    def relative_gap(self) -> float | None:
        """Distance of the bound and the recomputed objective, relative to the latter."""
        return relative_gap(self.objective, self.record.bound)


def judge(records: Sequence[Record], problems: Mapping[str, Problem]) -> list[Judged]:
    """Recompute every record of a campaign, in their order.

    Parameters
    ----------
    records : sequence of Record
    problems : mapping
        From names of instances.

    Raises
    ------
    InvalidInputError
        If the problem of a record is missing, or is not the one that was solved.
    """
    first = [_recomputed(record, _problem_of(record, problems)) for record in records]
    verified: dict[str, float] = {}
    for judged in first:
        if judged.objective is not None:
            name = judged.record.instance
            verified[name] = max(judged.objective, verified.get(name, judged.objective))
    return [
        _against_best(
            judged, verified.get(judged.record.instance), problems[judged.record.instance]
        )
        for judged in first
    ]


def _problem_of(record: Record, problems: Mapping[str, Problem]) -> Problem:
    problem = problems.get(record.instance)
    if problem is None or problem.sha256 != record.instance_sha256:
        state = "is missing" if problem is None else "has other data than the one that was solved"
        raise InvalidInputError(f"The instance {record.instance} {state}; restore its file.")
    return problem


def _recomputed(record: Record, problem: Problem) -> Judged:
    if not record.selection:
        claims = record.objective is not None
        return Judged(_wrong(record, "an objective without a solution") if claims else record, None)
    try:
        assignment = Assignment.from_indices(
            record.selection, record.assignment, n_features=problem.n_features
        )
        violations = problem.violations(assignment)
    except (InvalidInputError, TypeError) as failure:
        return Judged(_wrong(record, f"its solution cannot be read: {failure}"), None)
    if violations:
        return Judged(_wrong(record, f"its solution is infeasible: {violations[0]}"), None)
    objective = problem.objective(assignment)
    if record.objective is None or abs(record.objective - objective) > _room(problem, objective):
        record = _wrong(record, f"its objective is {objective:.9g}, not {record.objective}")
    return Judged(record, objective)


def _against_best(judged: Judged, verified: float | None, problem: Problem) -> Judged:
    """Test the bound and the trace against what is verified, and against a proved optimum."""
    known = [value for value in (verified, problem.best_known) if value is not None]
    judged = replace(judged, best=max(known, default=None), scale=problem.scale)
    record = judged.record
    reached: list[tuple[float, float, str]] = []
    if verified is not None:
        reached.append((verified, _room(problem, verified), "the verified solution"))
    if problem.proved and problem.best_known is not None:
        room = PUBLISHED * max(abs(problem.best_known), problem.scale)
        reached.append((problem.best_known, room, "the optimum of the instance"))
    for value, room, what in reached:
        if record.bound is not None and record.bound < value - room:
            reason = f"its bound {record.bound:.9g} is below {what} {value:.9g}"
            return replace(judged, record=_wrong(record, reason))
    if record.status is Status.WRONG:
        return judged
    lowest = max((value - room for value, room, _ in reached), default=-math.inf)
    highest = -math.inf
    if judged.objective is not None:
        highest = judged.objective + _room(problem, judged.objective)
    for entry in record.progress:
        if not isinstance(entry, list) or len(entry) < 3:
            continue  # no trace, which its reader says
        incumbent, bound = entry[1], entry[2]
        if isinstance(incumbent, int | float) and incumbent > highest:
            reason = f"its progress claims the objective {incumbent:.9g}, which it never had"
            return replace(judged, record=_wrong(record, reason))
        if isinstance(bound, int | float) and bound < lowest:
            reason = f"its progress claims the bound {bound:.9g}, which is false"
            return replace(judged, record=_wrong(record, reason))
    return judged


def contradictions(judged: Sequence[Judged], problems: Mapping[str, Problem]) -> list[str]:
    """A sentence for each instance whose proved optimum a verified solution beats."""
    sentences = []
    for name, problem in problems.items():
        if not problem.proved or problem.best_known is None:
            continue
        found = [one.objective for one in judged if one.record.instance == name]
        highest = max((value for value in found if value is not None), default=-math.inf)
        if highest > problem.best_known + PUBLISHED * max(abs(problem.best_known), problem.scale):
            sentences.append(
                f"{name} has a verified solution of {highest:.9g}, but its optimum is given as "
                f"{problem.best_known:.9g}: that is no optimum."
            )
    return sentences


def _wrong(record: Record, reason: str) -> Record:
    return replace(record, status=Status.WRONG, reason=reason)


def _room(problem: Problem, value: float) -> float:
    return TOLERANCE * max(abs(value), problem.scale)
