"""The contract of a solver: one matrix model in, one honest report out.

A back end is one module that knows one solver's API and imports it lazily, in the child process
(see :mod:`qpm_opt.solvers.process`). It translates; it decides nothing. What it reports is checked
by the caller, who never takes its word for feasibility, objective or optimality.
"""

from __future__ import annotations

import abc
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from qpm_opt.result import TerminationCondition

FloatArray = NDArray[np.float64]


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
    row_lower, row_upper : ndarray of shape (n_rows,)
        -inf and inf where a side is free.
    lower, upper : ndarray of shape (n_columns,)
    integer : ndarray of shape (n_columns,), bool
    """

    cost: FloatArray
    offset: float
    quadratic: tuple[NDArray[np.intp], NDArray[np.intp], FloatArray]
    matrix: sparse.csr_array
    row_lower: FloatArray
    row_upper: FloatArray
    lower: FloatArray
    upper: FloatArray
    integer: NDArray[np.bool_]

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
    """The inequality ``values @ x[columns] <= upper``."""

    columns: NDArray[np.intp]
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
        Seconds inside the solver.
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


class Solver(abc.ABC):
    """One back end. Instances hold no state; all methods but the properties run in the child."""

    name: str
    """Lower-case name users type."""
    package: str
    """Name of the distribution to install."""
    extra: str | None
    """Extra of this project that installs it; None if the core install does."""
    capabilities: Capability

    @abc.abstractmethod
    def availability(self) -> AvailabilityReport:
        """Find out by importing the package and solving a probe where a licence matters."""

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
            Feasible point to start from.
        separate : Separator, optional
            Asked at every integer point; only for solvers with ``LAZY_ROWS``.
        report : callable
            Takes an :class:`Event` at every new incumbent or bound.

        Raises
        ------
        SolverNotAvailableError, SolverLicenseError, UnsupportedFormulationError, SolverError
        """
