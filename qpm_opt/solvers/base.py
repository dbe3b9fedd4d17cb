"""The contract of a solver: one matrix model in, one honest report out.

A back end is one module that knows one solver's API and imports it lazily, in the child process
(see :mod:`qpm_opt.solvers.process`). It translates; it decides nothing. What it reports is checked
by the caller, who never takes its word for feasibility, objective or optimality.
"""

from __future__ import annotations

import abc
import enum
import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy import sparse

from qpm_opt.errors import SolverNotAvailableError, UnsupportedFormulationError
from qpm_opt.result import TerminationCondition, meets
from qpm_opt.validation import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class MatrixModel:
    """``maximise offset + c'x + sum_t v_t x_i x_j`` over rows, bounds and integrality.

    Attributes
    ----------
    cost : ndarray of shape (n_columns,)
        c.
    offset : float
    quadratic : tuple of (rows, columns, values)
        Every product once; empty arrays if the objective is linear.
    matrix : csr_array of shape (n_rows, n_columns)
        Every entry once.
    row_lower, row_upper : ndarray of shape (n_rows,)
        -inf and inf where a side is free.
    lower, upper : ndarray of shape (n_columns,)
    integer : ndarray of shape (n_columns,), bool
    """

    cost: FloatArray
    offset: float
    quadratic: tuple[IntArray, IntArray, FloatArray]
    matrix: sparse.csr_array
    row_lower: FloatArray
    row_upper: FloatArray
    lower: FloatArray
    upper: FloatArray
    integer: BoolArray

    @property
    def n_columns(self) -> int:
        """Number of variables."""
        return int(self.cost.size)

    @property
    def is_quadratic(self) -> bool:
        """Whether the objective has products."""
        return bool(self.quadratic[2].size)

    def objective(self, x: FloatArray) -> float:
        """Objective at a point."""
        i, j, value = self.quadratic
        return float(self.offset + self.cost @ x + value @ (x[i] * x[j]))

    def with_rows(self, rows: list[Row]) -> MatrixModel:
        """The model with further rows."""
        if not rows:
            return self
        lengths = [row.columns.size for row in rows]
        extra = sparse.csr_array(
            (
                np.concatenate([row.values for row in rows]),
                np.concatenate([row.columns for row in rows]),
                np.concatenate([[0], np.cumsum(lengths)]),
            ),
            shape=(len(rows), self.n_columns),
        )
        return MatrixModel(
            self.cost, self.offset, self.quadratic,
            sparse.vstack([self.matrix, extra], format="csr"),
            np.concatenate([self.row_lower, np.full(len(rows), -np.inf)]),
            np.concatenate([self.row_upper, [row.upper for row in rows]]),
            self.lower, self.upper, self.integer,
        )  # fmt: skip


class Row(NamedTuple):
    """The inequality ``values @ x[columns] <= upper``; every column once."""

    columns: IntArray
    values: FloatArray
    upper: float


class Separator(Protocol):
    """Finds rows that a point breaks and every feasible point keeps. Must be picklable."""

    def __call__(self, x: FloatArray) -> list[Row]:
        """Violated rows at the integer point ``x``; empty if there are none."""
        ...


class Capability(enum.Flag):
    """What a solver can do beyond a linear integer model."""

    NONE = 0
    QUADRATIC_OBJECTIVE = enum.auto()
    LAZY_ROWS = enum.auto()
    CONTINUOUS_COLUMNS = enum.auto()


class Availability(enum.Enum):
    """How usable a solver is here; truthy if it can solve something."""

    FULL = "full"
    SIZE_LIMITED = "size-limited licence"
    MISSING = "missing"
    BROKEN = "broken"

    def __bool__(self) -> bool:
        return self in (Availability.FULL, Availability.SIZE_LIMITED)


@dataclass(frozen=True)
class AvailabilityReport:
    """Availability with its reason, the solver's version (None if unknown) and its limits."""

    level: Availability
    version: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class SolveOptions:
    """Options that every solver understands.

    Attributes
    ----------
    time_limit : float or None
        Seconds for the whole of :meth:`Solver.solve`, building the solver's own model included.
    gap : float
        Relative gap at which it may stop.
    threads : int
    seed : int
    solver_options : mapping
        Raw options of this solver, handed on as they are; they win over the others.
    """

    time_limit: float | None = None
    gap: float = 0.0
    threads: int = 1
    seed: int = 0
    solver_options: Mapping[str, Any] = field(default_factory=dict)

    def time_left(self, began: float) -> float | None:
        """Seconds left of a solve that began at that ``time.perf_counter()``; None if unlimited."""
        if self.time_limit is None:
            return None
        return max(0.0, self.time_limit - (time.perf_counter() - began))


@dataclass(frozen=True)
class Event:
    """Progress of a running solve: a better integer point, a better bound, or both."""

    point: FloatArray | None = None
    bound: float | None = None


@dataclass(frozen=True)
class RawSolve:
    """What a solver says at the end, unchecked. ``bound`` is None if it gave none."""

    termination_condition: TerminationCondition = TerminationCondition.UNKNOWN
    raw_status: str = ""
    point: FloatArray | None = None
    reported_objective: float | None = None
    bound: float | None = None
    solve_time: float = 0.0
    solver_version: str | None = None
    node_count: int | None = None
    n_lazy_rows: int = 0


def closing_condition(objective: float | None, bound: float | None) -> TerminationCondition:
    """Condition of a solver that stopped because it holds what was asked for."""
    # What solve() hands over has its largest coefficient at 1 or above.
    if meets(objective, bound, scale=1.0):
        return TerminationCondition.OPTIMAL
    return TerminationCondition.GAP_LIMIT


class Solver(abc.ABC):
    """One back end. Instances hold no state; all methods but the properties run in the child."""

    name: str
    """Lower-case name users type."""
    package: str
    """Name of the distribution to install."""
    module: str
    """Module to import from it."""
    extra: str | None
    """Extra of this project that installs it; None if the core install does."""
    capabilities: Capability

    def load(self) -> Any:
        """Import the solver's module.

        Raises
        ------
        SolverNotAvailableError
            If it is missing or does not load.
        """
        try:
            return importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            if error.name != self.module.partition(".")[0]:
                raise self._does_not_load(error) from error
            target = f".[{self.extra}]" if self.extra else self.package
            raise SolverNotAvailableError(
                f"Solver {self.name!r} needs the package {self.package}, which is not installed; "
                f"pip install '{target}'."
            ) from error
        except (ImportError, OSError) as error:
            raise self._does_not_load(error) from error

    def _does_not_load(self, error: Exception) -> SolverNotAvailableError:
        reason = " ".join(str(error).split())
        return SolverNotAvailableError(
            f"Solver {self.name!r} cannot be used: the package {self.package} is installed but "
            f"does not load ({reason}). Reinstall it, or choose another solver."
        )

    @property
    def version(self) -> str | None:
        """Version of the installed package; None if it is missing."""
        try:
            return metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return None

    def availability(self) -> AvailabilityReport:
        """Find out by importing the package; back ends with a licence also solve a probe."""
        try:
            self.load()
        except SolverNotAvailableError as error:
            level = Availability.MISSING if self.version is None else Availability.BROKEN
            return AvailabilityReport(level, self.version, str(error))
        return AvailabilityReport(Availability.FULL, self.version)

    def require(self, model: MatrixModel) -> None:
        """Refuse a model that this solver cannot express.

        Raises
        ------
        UnsupportedFormulationError
            With a solver, or a formulation, that can.
        """
        if model.is_quadratic and Capability.QUADRATIC_OBJECTIVE not in self.capabilities:
            raise UnsupportedFormulationError(
                f"Solver {self.name!r} takes no products of variables in the objective, and the "
                f"model has {model.quadratic[2].size}; use solver gurobi or scip, or a linearised "
                f"model."
            )
        if Capability.CONTINUOUS_COLUMNS not in self.capabilities and not model.integer.all():
            raise UnsupportedFormulationError(
                f"Solver {self.name!r} takes integer variables only, and "
                f"{np.count_nonzero(~model.integer)} of {model.n_columns} are continuous; use "
                f"solver highs, gurobi or scip, or a model with integer variables only."
            )

    @abc.abstractmethod
    def solve(
        self,
        model: MatrixModel,
        options: SolveOptions,
        *,
        start: FloatArray | None,
        separate: Separator | None,
        report: Callable[[Event], None],
    ) -> RawSolve:
        """Solve the model.

        Parameters
        ----------
        start : ndarray of shape (n_columns,), optional
            Point to start from; one that the solver does not accept is dropped silently.
        separate : Separator, optional
            Asked at every integer point; only for solvers with ``LAZY_ROWS``, ignored by others.
        report : callable
            Takes an :class:`Event` at every new incumbent or bound, from any thread.

        Raises
        ------
        SolverNotAvailableError, SolverLicenseError, UnsupportedFormulationError, SolverError
        InvalidInputError
            For an entry of ``solver_options`` that the solver refuses.
        """
