"""What a solve returns: why it stopped, what is held, and how far that can be from the optimum."""

from __future__ import annotations

import enum
import hashlib
import itertools
import json
import math
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from qpm_opt.assignment import Assignment
from qpm_opt.errors import InvalidSolutionError
from qpm_opt.files import copy_file, read_solution, replace_on_success
from qpm_opt.problem import Problem, Violation
from qpm_opt.proof_file import is_proof

#: Distance of bound and objective, relative to the objective, up to which a verified assignment is
#: called optimal.
OPTIMALITY_TOLERANCE = 1e-6
#: The same relative to the largest coefficient, for objectives in which the terms cancel.
ROUNDING_TOLERANCE = 1e-7


class TerminationCondition(enum.StrEnum):
    """Why the method stopped."""

    UNKNOWN = "unknown"
    """Nothing was reported."""
    OPTIMAL = "optimal"
    """Bound and verified objective meet (:func:`meets`)."""
    GAP_LIMIT = "gap_limit"
    """The gap asked for is reached."""
    COMPLETED = "completed"
    """A method that proves nothing ran to its own end."""
    INFEASIBLE = "infeasible"
    """No assignment satisfies all constraints."""
    TIME_LIMIT = "time_limit"
    NODE_LIMIT = "node_limit"
    SOLUTION_LIMIT = "solution_limit"
    MEMORY_LIMIT = "memory_limit"
    LICENSE_LIMIT = "license_limit"
    """The solver's licence does not admit the model."""
    INTERRUPTED = "interrupted"
    """Ctrl-C, or a request to terminate."""
    ERROR = "error"
    """The solver or its process failed; what was known before is kept."""


class SolutionStatus(enum.StrEnum):
    """What our own check says of the assignment held."""

    NO_SOLUTION = "no_solution"
    INFEASIBLE = "infeasible"
    FEASIBLE = "feasible"
    OPTIMAL = "optimal"


class Progress(NamedTuple):
    """State at one moment: seconds since the start, incumbent, bound, features undecided.

    What is not known is None.
    """

    time: float
    incumbent: float | None
    bound: float | None
    n_free: int | None = None


def absolute_gap(objective: float | None, bound: float | None) -> float | None:
    """``|bound - objective|``; None unless both are known."""
    if objective is None or bound is None:
        return None
    return abs(bound - objective)


def relative_gap(objective: float | None, bound: float | None) -> float | None:
    """``|bound - objective| / |objective|``: 0 if equal, inf if only the objective is 0."""
    gap = absolute_gap(objective, bound)
    if gap is None or objective is None:
        return None
    if gap == 0:
        return 0.0
    return gap / abs(objective) if objective else math.inf


def meets(objective: float | None, bound: float | None, *, scale: float) -> bool:
    """Whether the bound leaves no room above the objective but for the tolerances above.

    ``scale`` is the problem's (:attr:`qpm_opt.Problem.scale`); without it a tolerance would mean
    nothing for very small coefficients.
    """
    if objective is None or bound is None:
        return False
    room = max(OPTIMALITY_TOLERANCE * abs(objective), ROUNDING_TOLERANCE * scale)
    return bound - objective <= room


@dataclass(frozen=True, kw_only=True)
class Result:
    """Outcome of :func:`qpm_opt.solve`. Times are seconds; what is not known is None.

    Attributes
    ----------
    termination_condition : TerminationCondition
        Why the method stopped.
    solution_status : SolutionStatus
        What our own check of the assignment says.
    assignment : Assignment or None
        The incumbent.
    violations : tuple of Violation
        Constraints it breaks; empty unless ``solution_status`` is INFEASIBLE.
    objective : float or None
        Recomputed from the assignment in float64.
    reported_objective : float or None
        The solver's own value of its last point, for comparison only.
    bound : float or None
        Upper bound on the objective of the whole problem.
    bound_kind : str or None
        Where the bound comes from and what it ignores.
    warm_start_objective : float or None
        Objective of the assignment the method started from.
    build_time, solve_time, wall_time : float
        Building models; inside the solver, summed over rounds; the whole call.
    progress : tuple of Progress
        Every change of incumbent, bound or number of free features.
    proof : object or None
        Proof of the bound; ``proof.save(path, problem, bound)`` writes its file.
    """

    termination_condition: TerminationCondition = TerminationCondition.UNKNOWN
    solution_status: SolutionStatus = SolutionStatus.NO_SOLUTION
    assignment: Assignment | None = None
    violations: tuple[Violation, ...] = ()
    objective: float | None = None
    reported_objective: float | None = None
    bound: float | None = None
    bound_kind: str | None = None
    warm_start_objective: float | None = None
    method: str
    solver: str | None = None
    solver_version: str | None = None
    raw_status: str | None = None
    build_time: float = 0.0
    solve_time: float = 0.0
    wall_time: float = 0.0
    n_rounds: int | None = None
    n_cuts: int | None = None
    node_count: int | None = None
    progress: tuple[Progress, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    proof: Any = None

    @property
    def absolute_gap(self) -> float | None:
        """Distance of bound and objective."""
        return absolute_gap(self.objective, self.bound)

    @property
    def relative_gap(self) -> float | None:
        """Distance of bound and objective, relative to the objective."""
        return relative_gap(self.objective, self.bound)

    def save(self, path: str | os.PathLike[str], problem: Problem) -> None:
        """Write the solution file (``qpm-solution/1``, JSON), atomically.

        A proof goes first, to ``<stem>.certificate.npz`` beside it, or with a number in its name
        where that is taken; the solution holds its name and the hash of its bytes. The certificate
        of the solution that was there before is removed last, so that there is no moment without a
        solution and its proof; it stays if it has another solution's name, or if another file of
        the folder names it. A link is written through.

        Raises
        ------
        ValueError
            If there is no assignment to write.
        """
        if self.assignment is None:
            raise ValueError("There is no assignment to save.")
        record = self._record(self.assignment, problem)
        proof, bound = self.proof, self.bound
        _write_solution(
            path,
            record,
            None if proof is None else lambda beside: proof.save(beside, problem, bound),
        )

    def _record(self, assignment: Assignment, problem: Problem) -> dict[str, Any]:
        gap = self.relative_gap
        return {
            "format": "qpm-solution/1",
            "problem_sha256": problem.sha256,
            "selection": assignment.selected.tolist(),
            "assignment": [assignment.class_features(c).tolist() for c in range(problem.n_classes)],
            "objective": self.objective,
            "objective_parts": problem.objective_parts(assignment)._asdict(),
            "bound": self.bound,
            "absolute_gap": self.absolute_gap,
            "relative_gap": gap if gap is None or math.isfinite(gap) else None,
            "bound_kind": self.bound_kind,
            "termination_condition": str(self.termination_condition),
            "solution_status": str(self.solution_status),
            "method": self.method,
            "solver": self.solver,
            "solver_version": self.solver_version,
            "reported_objective": self.reported_objective,
            "warm_start_objective": self.warm_start_objective,
            "raw_status": self.raw_status,
            "n_rounds": self.n_rounds,
            "n_cuts": self.n_cuts,
            "node_count": self.node_count,
            "build_time": self.build_time,
            "solve_time": self.solve_time,
            "wall_time": self.wall_time,
            "progress": [list(entry[:3]) for entry in self.progress],
            "options": dict(self.options),
            "versions": package_versions(),
        }


@dataclass(frozen=True)
class CopiedProof:
    """A proof that is in a file already; stands for it in a :class:`Result`."""

    file: Path

    def save(self, path: str | os.PathLike[str], problem: Problem, bound: float) -> None:
        """Copy the file."""
        copy_file(self.file, path)


def copy_solution(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copy a solution file, with the certificate that it names, in the place of another.

    Raises
    ------
    InvalidSolutionError
        If the source is no solution file.
    """
    record = read_solution(source)
    certificate = record.get("certificate")
    beside = None if certificate is None else Path(source).resolve().with_name(certificate["file"])
    _write_solution(target, record, None if beside is None else lambda to: copy_file(beside, to))


def _write_solution(
    path: str | os.PathLike[str],
    record: dict[str, Any],
    save_proof: Callable[[Path], object] | None,
) -> None:
    """Write certificate and solution in the order that :meth:`Result.save` promises."""
    path = Path(path).resolve()
    before = _own_certificate(path)
    if save_proof is not None:
        certificate = _free_name(path)
        save_proof(certificate)
        with open(certificate, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        record = record | {"certificate": {"file": certificate.name, "sha256": digest}}
    text = json.dumps(record, indent=1, allow_nan=False)
    with replace_on_success(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    if before is not None and is_proof(before):
        before.unlink()


def package_versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that a result can depend on."""
    found = {"python": platform.python_version()}
    for name in ("qpm", "numpy", "scipy", "pyomo", "highspy", "ortools", "gurobipy", "pyscipopt"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _own_certificate(path: Path) -> Path | None:
    """Path of the certificate that belongs to the solution file there alone, if there is one."""
    try:
        certificate = read_solution(path).get("certificate")
    except InvalidSolutionError:
        return None
    name = certificate.get("file") if isinstance(certificate, dict) else None
    if not isinstance(name, str) or name != Path(name).name:
        return None
    beside = path.with_name(name)
    if not name.startswith(f"{path.stem}.certificate") or not beside.is_file():
        return None
    others = (other for other in path.parent.glob("*.json") if other != path)
    return None if any(_names(other, name) for other in others) else beside


def _names(path: Path, name: str) -> bool:
    """Whether a file holds a name; one that cannot be read may."""
    try:
        return name.encode() in path.read_bytes()
    except OSError:
        return True


def _free_name(path: Path) -> Path:
    names = (f"{path.stem}.certificate{f'.{i}' if i else ''}.npz" for i in itertools.count())
    return next(beside for name in names if not (beside := path.with_name(name)).exists())
