"""Independent check of a solution file: every constraint, the objective, the bound.

Nothing here calls the code that solves. Constraints and objective are recomputed from the file's
index lists in exact rational arithmetic. An upper bound is false if and only if some assignment
beats it, so a bound is tested against the objective, the best value known for the instance and a
search for a better assignment; whatever the search returns is checked here as well.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from qpm_opt.errors import InvalidSolutionError
from qpm_opt.files import read_solution
from qpm_opt.problem import Assignment, Problem

#: Values in a file are float64 sums; they may differ from the exact ones by rounding only.
VALUE_TOLERANCE = 1e-9
#: A solution may be called optimal when its bound is no farther above it than this, relatively.
OPTIMAL_TOLERANCE = 1e-6


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
        The bound in the file.
    remarks : tuple of str
        What a reader should know although it is not wrong.
    """

    rejections: tuple[str, ...]
    objective: float
    bound: float | None
    remarks: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        """Whether nothing is wrong."""
        return not self.rejections


def verify(
    problem: Problem,
    path: str | os.PathLike[str],
    *,
    challenge: Callable[[Problem, Assignment], Assignment | None] | None = None,
) -> Verification:
    """Check a solution file against its problem.

    Parameters
    ----------
    problem : Problem
    path : path
        Solution file, format ``qpm-solution/1``.
    challenge : callable, optional
        Tries to find an assignment better than the given one; used to refute a false bound.

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
    rejections += _broken_constraints(problem, selection, classes)
    parts = _objective_parts(problem, selection, classes)
    objective = sum(parts.values(), Fraction(0))
    rejections += _wrong_values(record, objective, parts)
    bound, wrong_bound = _bound(record)
    rejections += wrong_bound
    remarks = []
    if bound is not None:
        rejections += _false_bound(problem, record, objective, bound)
        remarks.append(
            f"the bound {bound:.9g} is the word of its maker ({record.get('bound_kind')}); "
            "it carries no certificate."
        )
        if challenge is not None and not rejections:
            rejections += _refuted(problem, selection, classes, bound, challenge)
    elif record.get("termination_condition") == "optimal":
        rejections.append("termination_condition is optimal, but there is no bound.")
    else:
        remarks.append("there is no bound: nothing is said about the distance to the optimum.")
    unused = sorted(set(selection) - {d for features in classes for d in features})
    if unused and problem.n_classes:
        remarks.append(f"no class uses the selected features {', '.join(map(str, unused))}.")
    return Verification(tuple(rejections), float(objective), bound, tuple(remarks))


def _indices(values: Sequence[Any], n_features: int, what: str) -> list[int]:
    for d in values:
        if isinstance(d, bool) or not isinstance(d, int) or not 0 <= d < n_features:
            raise InvalidSolutionError(
                f"{what} holds {d!r}; expected whole numbers from 0 to {n_features - 1}."
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


def _number(value: Any) -> float | None:
    """The finite number that JSON held, or None if it held something else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _close(claimed: Any, exact: Fraction, scale: float) -> bool:
    number = _number(claimed)
    return number is not None and abs(Fraction(number) - exact) <= scale


def _wrong_values(
    record: dict[str, Any], objective: Fraction, parts: dict[str, Fraction]
) -> list[str]:
    scale = VALUE_TOLERANCE * max(1.0, *(abs(float(part)) for part in parts.values()))
    wrong = []
    if not _close(record.get("objective"), objective, scale):
        wrong.append(
            f"objective is {record.get('objective')}, recomputed it is {float(objective):.12g}."
        )
    claimed = record.get("objective_parts")
    for name, part in parts.items():
        value = claimed.get(name) if isinstance(claimed, dict) else None
        if not _close(value, part, scale):
            wrong.append(f"objective_parts.{name} is {value}, recomputed {float(part):.12g}.")
    return wrong


def _bound(record: dict[str, Any]) -> tuple[float | None, list[str]]:
    if record.get("bound") is None:
        return None, []
    bound = _number(record["bound"])
    if bound is None:
        return None, [f"bound is {record['bound']!r}; expected a finite number or null."]
    if not record.get("bound_kind"):
        return bound, ["there is a bound, but bound_kind does not say where it comes from."]
    return bound, []


def _false_bound(
    problem: Problem, record: dict[str, Any], objective: Fraction, bound: float
) -> list[str]:
    value = float(objective)
    rounding = VALUE_TOLERANCE * max(1.0, abs(value))
    false = []
    if bound < value - rounding:
        false.append(f"the bound {bound:.12g} is below the objective {value:.12g}: it is false.")
    known = problem.best_known
    # Published values are rounded to six digits or so.
    if known is not None and bound < known - OPTIMAL_TOLERANCE * max(1.0, abs(known)):
        false.append(f"the bound {bound:.12g} is below the best known value {known:.12g}.")
    gap = abs(bound - value)
    if not _close(record.get("absolute_gap"), Fraction(gap), 2 * rounding):
        false.append(f"absolute_gap is {record.get('absolute_gap')}, recomputed {gap:.6g}.")
    relative = gap / abs(value) if value else (0.0 if gap == 0 else None)
    claimed = record.get("relative_gap")
    agrees = (
        claimed is None
        if relative is None
        else _close(claimed, Fraction(relative), 2 * rounding / max(abs(value), VALUE_TOLERANCE))
    )
    if not agrees:
        false.append(f"relative_gap is {claimed}, recomputed {relative}.")
    optimal = "optimal" in (record.get("termination_condition"), record.get("solution_status"))
    if optimal and gap > OPTIMAL_TOLERANCE * max(1.0, abs(value)):
        false.append(
            f"the solution is called optimal, but bound and objective are {gap:.6g} apart."
        )
    return false


def _refuted(
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
    chosen = better.selected.tolist()
    rows = [better.class_features(c).tolist() for c in range(problem.n_classes)]
    value = float(sum(_objective_parts(problem, chosen, rows).values(), Fraction(0)))
    slack = OPTIMAL_TOLERANCE * max(1.0, abs(value))
    if _broken_constraints(problem, chosen, rows) or value <= bound + slack:
        return []
    return [f"the bound {bound:.12g} is false: there is an assignment with objective {value:.12g}."]
