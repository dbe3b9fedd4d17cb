"""Independent check of a solution file: every constraint, the objective, the bound.

Constraints and objective are recomputed from the file's index lists in exact rational arithmetic,
with nothing of the code that solves. A bound with a certificate is proved again from its
multipliers (:mod:`qpm_opt.proof_check`); without one it is called unproved, whatever else is found.
An upper bound is false if and only if some assignment beats it, so every bound is also tested
against the objective, the best value known for the instance and a local search, whose outcome is
checked here like the solution.
"""

from __future__ import annotations

import enum
import hashlib
import math
import os
import reprlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from qpm_opt.assignment import Assignment
from qpm_opt.errors import InvalidSolutionError
from qpm_opt.files import read_solution
from qpm_opt.heuristics import search
from qpm_opt.problem import Problem
from qpm_opt.proof_check import ProofReport, check_proof
from qpm_opt.result import SolutionStatus, TerminationCondition

#: Values in a file are float64 sums; they may differ from the exact ones by rounding only, relative
#: to the largest part of the objective or coefficient of the problem.
VALUE_TOLERANCE = 1e-9
#: A solution may be called optimal when its bound is no farther above it than this, relatively.
OPTIMAL_TOLERANCE = 1e-6
#: The same relative to the largest coefficient, for objectives in which the terms cancel.
SCALE_TOLERANCE = 1e-7
#: Rounds of the local search that tries to refute a bound, and its most seconds.
SEARCH_ROUNDS, SEARCH_MOST = 3, 10.0

# Of a file that holds an assignment; one that holds a feasible one refutes "infeasible".
_STATUSES = frozenset({SolutionStatus.FEASIBLE, SolutionStatus.OPTIMAL})
_CONDITIONS = frozenset(TerminationCondition) - {TerminationCondition.INFEASIBLE}


class BoundStatus(enum.StrEnum):
    """What :func:`verify` found out about a bound."""

    NONE = "none"
    """There is none."""
    PROVED = "proved"
    """A certificate that holds proves it."""
    UNPROVED = "unproved"
    """The word of its maker: no certificate proves it, no assignment that was tried beats it."""
    FALSE = "false"
    """A feasible assignment beats it."""


@dataclass(frozen=True)
class Verification:
    """Outcome of :func:`verify`.

    Attributes
    ----------
    rejections : tuple of str
        One sentence for everything that is wrong; empty if the solution is accepted.
    objective : float
        Recomputed objective, rounded once.
    bound : float or None
        The bound in the file, for what ``bound_status`` says it is worth.
    bound_status : BoundStatus
        Only a PROVED bound is known to be one.
    remarks : tuple of str
        What a reader should know although it is not wrong.
    proof : ProofReport or None
        What the certificate of the bound proves, if there is one and it holds.
    """

    rejections: tuple[str, ...]
    objective: float
    bound: float | None
    bound_status: BoundStatus
    remarks: tuple[str, ...]
    proof: ProofReport | None = None

    @property
    def accepted(self) -> bool:
        """Whether nothing is wrong that can be checked; an unproved bound can not."""
        return not self.rejections


def local_search(problem: Problem, given: Assignment) -> Assignment | None:
    """A better assignment than the given one, or the best found: the same in every run."""
    return search(problem, start=given, max_restarts=SEARCH_ROUNDS, time_limit=SEARCH_MOST)


def verify(
    problem: Problem,
    path: str | os.PathLike[str],
    *,
    challenge: Callable[[Problem, Assignment], Assignment | None] = local_search,
) -> Verification:
    """Check a solution file against its problem.

    Everything in the file is recomputed but a bound without a certificate: nobody can check that.
    It is refused if an assignment beats it (the solution itself, the best one known for the
    instance, or what ``challenge`` finds), and otherwise accepted as ``BoundStatus.UNPROVED``; then
    it may still be false, and with it the gap and the word optimal.

    Parameters
    ----------
    problem : Problem
    path : path
        Solution file, format ``qpm-solution/1``; the certificate it names lies beside it.
    challenge : callable, optional
        Tries to find an assignment better than the given one, which refutes a false bound; by
        default a short local search.

    Raises
    ------
    InvalidSolutionError
        If the file cannot be read or its indices are not those of the problem.
    """
    record = read_solution(path)
    selection = _indices(record["selection"], problem.n_features, "selection")
    classes = [
        _indices(features, problem.n_features, f"class {c}")
        for c, features in enumerate(record["assignment"])
    ]
    if len(classes) != problem.n_classes:
        raise InvalidSolutionError(
            f"The file assigns features to {len(classes)} classes, the problem has "
            f"{problem.n_classes}."
        )
    rejections = [] if record.get("problem_sha256") == problem.sha256 else [
        "problem_sha256 is not that of this problem: the solution belongs to other data."
    ]  # fmt: skip
    broken = _broken_constraints(problem, selection, classes)
    rejections += broken
    parts = _objective_parts(problem, selection, classes)
    objective = sum(parts.values(), Fraction(0))
    tolerance = VALUE_TOLERANCE * max(problem.scale, *(abs(float(part)) for part in parts.values()))
    rejections += _wrong_values(record, objective, parts, tolerance)
    rejections += _wrong_states(record)
    bound, wrong_bound = _bound(record)
    rejections += wrong_bound
    remarks = []
    proof, refused = _proof(problem, record, Path(path).resolve().parent, bound, tolerance)
    rejections += refused
    status = BoundStatus.NONE
    if bound is None:
        rejections += _claims_without_bound(record)
        remarks.append("there is no bound: nothing is said about the distance to the optimum.")
    else:
        held = None if broken else float(objective)
        refuted = _below_known_values(problem, held, bound, tolerance)
        rejections += refuted
        rejections += _wrongly_optimal(problem, record, float(objective), bound)
        rejections += _wrong_gaps(record, float(objective), bound, tolerance)
        if not rejections:
            refuted = _below_found_value(problem, selection, classes, bound, challenge)
            rejections += refuted
        if refuted:
            status = BoundStatus.FALSE
        elif proof is not None:
            status = BoundStatus.PROVED
            remarks.append(
                f"the bound {bound:.9g} is proved by a certificate: {proof.n_nodes} nodes, "
                f"{proof.n_certificates} certificates."
            )
        else:
            status = BoundStatus.UNPROVED
            if not wrong_bound and not refused:
                remarks.append(_unproved(record, bound))
    unused = sorted(set(selection) - {d for features in classes for d in features})
    if unused and problem.n_classes:
        remarks.append(f"no class uses the selected features {', '.join(map(str, unused))}.")
    return Verification(tuple(rejections), float(objective), bound, status, tuple(remarks), proof)


class Recheck(NamedTuple):
    """What :func:`recheck` found: a sentence for every broken constraint, and the objective."""

    broken: tuple[str, ...]
    objective: float


def recheck(problem: Problem, assignment: Assignment) -> Recheck:
    """Check an assignment like that of a file: from its index lists, in exact arithmetic."""
    chosen = assignment.selected.tolist()
    rows = [assignment.class_features(c).tolist() for c in range(problem.n_classes)]
    value = sum(_objective_parts(problem, chosen, rows).values(), Fraction(0))
    return Recheck(tuple(_broken_constraints(problem, chosen, rows)), float(value))


def _indices(values: Sequence[Any], n_features: int, what: str) -> list[int]:
    for d in values:
        if isinstance(d, bool) or not isinstance(d, int) or not 0 <= d < n_features:
            raise InvalidSolutionError(
                f"{what} holds {reprlib.repr(d)}; expected whole numbers from 0 to "
                f"{n_features - 1}."
            )
    return list(values)


def _broken_constraints(
    problem: Problem, selection: list[int], classes: list[list[int]]
) -> list[str]:
    broken = []
    p, k = problem.n_selected, problem.n_per_class
    if len(selection) != p or len(set(selection)) != p:
        broken.append(f"selection has {len(set(selection))} different features, not {p}.")
    if selection != sorted(selection):
        broken.append("selection is not in ascending order.")
    broken += [
        f"feature {d} is selected but is not a candidate."
        for d in selection
        if not problem.candidates[d]
    ]
    chosen = set(selection)
    for c, features in enumerate(classes):
        if len(features) != k or len(set(features)) != k:
            broken.append(f"class {c} has {len(set(features))} different features, not {k}.")
        if features != sorted(features):
            broken.append(f"the features of class {c} are not in ascending order.")
        outside = sorted(set(features) - chosen)
        if outside:
            broken.append(f"class {c} has feature {outside[0]}, which is not selected.")
    if problem.distinct:
        seen: dict[frozenset[int], int] = {}
        for c, features in enumerate(classes):
            other = seen.setdefault(frozenset(features), c)
            if other != c:
                broken.append(f"classes {other} and {c} have the same features.")
    uses = Counter(d for features in classes for d in set(features))
    broken += [
        f"feature {d} is assigned to {uses[d]} classes, fewer than the "
        f"{problem.min_classes_per_feature} demanded."
        for d in sorted(chosen)
        if uses[d] < problem.min_classes_per_feature
    ]
    for c, e in problem.pairs.tolist():
        shared = len(set(classes[c]) & set(classes[e]))
        if shared != k - 1:
            broken.append(f"classes {c} and {e} share {shared} features, not {k - 1}.")
    if problem.min_contrastive_pairs:
        n_pairs = sum(len(set(one) & set(two)) == k - 1 for one, two in combinations(classes, 2))
        if n_pairs < problem.min_contrastive_pairs:
            broken.append(
                f"{n_pairs} pairs of classes share {k - 1} features, fewer than the "
                f"{problem.min_contrastive_pairs} demanded."
            )
    return broken


def _objective_parts(
    problem: Problem, selection: list[int], classes: list[list[int]]
) -> dict[str, Fraction]:
    A, R, b = problem.class_similarity, problem.feature_similarity, problem.bias
    chosen = sorted(set(selection))
    return {
        "assignment": _exact_sum(A[c, d] for c, features in enumerate(classes) for d in features),
        "similarity": -_exact_sum(R[d, e] for i, d in enumerate(chosen) for e in chosen[:i]),
        "bias": _exact_sum(b[d] for d in chosen),
    }


def _exact_sum(values: Any) -> Fraction:
    return sum((Fraction(float(value)) for value in values), Fraction(0))


def finite_number(value: Any) -> float | None:
    """The finite number that JSON held, or None if it held something else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _close(claimed: Any, exact: Fraction | float, tolerance: float) -> bool:
    number = finite_number(claimed)
    return number is not None and abs(Fraction(number) - Fraction(exact)) <= tolerance


def _wrong_values(
    record: dict[str, Any], objective: Fraction, parts: dict[str, Fraction], tolerance: float
) -> list[str]:
    wrong = []
    value = record.get("objective")
    if not _close(value, objective, tolerance):
        wrong.append(
            f"objective is {reprlib.repr(value)}, recomputed it is {float(objective):.12g}."
        )
    claimed = record.get("objective_parts")
    for name, part in parts.items():
        value = claimed.get(name) if isinstance(claimed, dict) else None
        if not _close(value, part, tolerance):
            wrong.append(
                f"objective_parts.{name} is {reprlib.repr(value)}, recomputed {float(part):.12g}."
            )
    return wrong


def _wrong_states(record: dict[str, Any]) -> list[str]:
    return [
        f"{key} is {reprlib.repr(record.get(key))}; expected one of {', '.join(sorted(known))}."
        for key, known in (("solution_status", _STATUSES), ("termination_condition", _CONDITIONS))
        if not isinstance(record.get(key), str) or record[key] not in known
    ]


def _bound(record: dict[str, Any]) -> tuple[float | None, list[str]]:
    if "bound" not in record:
        return None, ["bound is missing; expected a finite number or null."]
    if record["bound"] is None:
        return None, []
    bound = finite_number(record["bound"])
    if bound is None:
        given = reprlib.repr(record["bound"])
        return None, [f"bound is {given}; expected a finite number or null."]
    kind = record.get("bound_kind")
    if not isinstance(kind, str) or not kind:
        return bound, ["there is a bound, but bound_kind does not say where it comes from."]
    return bound, []


def certificate_path(record: dict[str, Any], folder: Path) -> Path | None:
    """Path of the certificate that a solution in this folder names; None if it names none.

    Raises
    ------
    InvalidSolutionError
        If that is no file of the folder, or not with these bytes.
    """
    certificate = record.get("certificate")
    if certificate is None:
        return None
    name = certificate.get("file") if isinstance(certificate, dict) else None
    if not isinstance(name, str) or name != Path(name).name or "\\" in name:
        raise InvalidSolutionError(
            "certificate does not hold the plain name of a file beside the solution."
        )
    path = folder / name
    try:
        with open(path, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError):
        raise InvalidSolutionError(
            f"the certificate {reprlib.repr(name)} cannot be read; it belongs beside the solution."
        ) from None
    if certificate.get("sha256") != digest:
        raise InvalidSolutionError(
            f"the certificate {name} is not the one of this solution: its hash differs."
        )
    return path


def _proof(
    problem: Problem, record: dict[str, Any], folder: Path, bound: float | None, tolerance: float
) -> tuple[ProofReport | None, list[str]]:
    """What the certificate proves, or why it does not prove the bound."""
    try:
        path = certificate_path(record, folder)
    except InvalidSolutionError as failure:
        return None, [str(failure)]
    if path is None:
        return None, []
    try:
        proof = check_proof(problem, path)
    except InvalidSolutionError as failure:
        return None, [f"the certificate is refused: {failure}"]
    if bound is None:
        return None, ["there is a certificate, but no bound for it to prove."]
    if proof.bound > bound + tolerance:
        return None, [
            f"the certificate proves the bound {proof.bound:.12g}, not the lower {bound:.12g}."
        ]
    return proof, []


def _claims_without_bound(record: dict[str, Any]) -> list[str]:
    wrong = [
        f"{key} is {reprlib.repr(record[key])}, but there is no bound; expected null."
        for key in ("absolute_gap", "relative_gap")
        if record.get(key) is not None
    ]
    wrong += [f"{key} is optimal, but there is no bound." for key in _called_optimal(record)]
    return wrong


def _called_optimal(record: dict[str, Any]) -> list[str]:
    return [
        key for key in ("termination_condition", "solution_status") if record.get(key) == "optimal"
    ]


def _slack(problem: Problem, value: float) -> float:
    """Distance of objective and bound that counts as none."""
    return max(OPTIMAL_TOLERANCE * abs(value), SCALE_TOLERANCE * problem.scale)


def _unproved(record: dict[str, Any], bound: float) -> str:
    claims = "the gap and the word optimal rest" if _called_optimal(record) else "the gap rests"
    return (
        f"the bound {bound:.9g} is unproved: it carries no certificate, {claims} on the word of "
        f"its maker ({record['bound_kind']})."
    )


def _below_known_values(
    problem: Problem, held: float | None, bound: float, tolerance: float
) -> list[str]:
    """Whether the solution, None if infeasible, or the best value known refutes the bound."""
    refuted = []
    if held is not None and bound < held - tolerance:
        refuted.append(f"the bound {bound:.12g} is below the objective {held:.12g}: it is false.")
    known = problem.best_known
    # Published values are rounded to six digits or so.
    if known is not None and bound < known - max(OPTIMAL_TOLERANCE * abs(known), tolerance):
        refuted.append(f"the bound {bound:.12g} is below the best known value {known:.12g}.")
    return refuted


def _wrongly_optimal(
    problem: Problem, record: dict[str, Any], value: float, bound: float
) -> list[str]:
    if not _called_optimal(record) or bound - value <= _slack(problem, value):
        return []
    return [
        f"the solution is called optimal, but bound and objective are {bound - value:.6g} apart."
    ]


def _wrong_gaps(record: dict[str, Any], value: float, bound: float, tolerance: float) -> list[str]:
    claimed: Any = record.get("objective")
    # The file's own gaps come from the file's own objective, which rounding may part from ours.
    objective = claimed if _close(claimed, value, 2 * tolerance) else value
    gap = abs(bound - objective)
    relative = gap / abs(objective) if objective else (0.0 if gap == 0 else math.inf)
    wrong = []
    if not _close(record.get("absolute_gap"), gap, tolerance):
        shown = reprlib.repr(record.get("absolute_gap"))
        wrong.append(f"absolute_gap is {shown}, recomputed {gap:.6g}.")
    given = record.get("relative_gap")
    if math.isinf(relative):  # JSON has no infinity
        agrees = given is None
    else:
        agrees = _close(given, relative, VALUE_TOLERANCE * max(1.0, relative))
    if not agrees:
        wrong.append(f"relative_gap is {reprlib.repr(given)}, recomputed {relative:.6g}.")
    return wrong


def _below_found_value(
    problem: Problem,
    selection: list[int],
    classes: list[list[int]],
    bound: float,
    challenge: Callable[[Problem, Assignment], Assignment | None],
) -> list[str]:
    given = Assignment.from_indices(selection, classes, n_features=problem.n_features)
    better = challenge(problem, given)
    if better is None:
        return []
    found = recheck(problem, better)
    value = found.objective
    if found.broken or value <= bound + _slack(problem, value):
        return []
    return [f"the bound {bound:.12g} is false: there is an assignment with objective {value:.12g}."]
