"""The whole model to a solver, in rounds: solve, separate what the answer breaks, solve again.

Exact if it gets to its end. Every round solves a relaxation of the problem (what is missing are
constraints, never points), so the bound of every round is a bound on the whole problem, and cuts
only accumulate. Solvers with lazy rows separate while they solve and need one round.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from qpm_opt.assign import assign, assign_within, is_selection
from qpm_opt.assignment import UndecidedAssignmentError
from qpm_opt.errors import UnsupportedFormulationError
from qpm_opt.formulation import build_compact, build_projected
from qpm_opt.methods.base import MethodOptions, MethodOutcome
from qpm_opt.problem import Problem
from qpm_opt.result import OPTIMALITY_TOLERANCE, TerminationCondition
from qpm_opt.separation import Cut, distinctness_cuts, no_good_cut, threshold_cuts
from qpm_opt.solvers import get_solver
from qpm_opt.solvers.base import Capability, Event, MatrixModel, RawSolve, SolveOptions
from qpm_opt.solvers.compile import (
    Columns,
    DistinctnessSeparator,
    matrix_and_columns,
    products_for,
)
from qpm_opt.solvers.process import solve_in_child
from qpm_opt.tracking import Tracker
from qpm_opt.validation import FloatArray

logger = logging.getLogger(__name__)


def run(problem: Problem, tracker: Tracker, options: MethodOptions) -> MethodOutcome:
    """Solve the model in rounds, from the tracker's incumbent.

    Raises
    ------
    UnsupportedFormulationError
        If the solver cannot take the formulation.
    """
    capabilities = get_solver(options.solver).capabilities
    projected = options.formulation == "projected"
    if projected and Capability.CONTINUOUS_COLUMNS not in capabilities:
        raise UnsupportedFormulationError(
            f"{options.solver} takes integer columns only, and the projected formulation has "
            "continuous ones; use formulation 'compact', or the solver highs, scip or gurobi."
        )
    began = time.perf_counter()
    build = build_projected if projected else build_compact
    matrix, columns = matrix_and_columns(build(problem, products=products_for(capabilities)))
    rounds = _Rounds(problem, tracker, options, columns, matrix)
    rounds.outcome.build_time = time.perf_counter() - began
    if projected:
        rounds.close_relaxation()
        rounds.repeat(rounds.projected_cuts)
    else:
        separator = None
        if problem.distinct and Capability.LAZY_ROWS in capabilities:
            assert columns.assignment is not None
            separator = DistinctnessSeparator(columns.assignment, problem.n_per_class)
        rounds.repeat(rounds.compact_cuts, separator)
    return rounds.outcome


class _Rounds:
    """The model as it grows, and the effort spent on it."""

    def __init__(
        self,
        problem: Problem,
        tracker: Tracker,
        options: MethodOptions,
        columns: Columns,
        matrix: MatrixModel,
    ) -> None:
        self.problem = problem
        self.tracker = tracker
        self.columns = columns
        self.matrix = matrix
        self.outcome = MethodOutcome(n_rounds=0, n_cuts=0)
        self._options = options
        ignored = ", distinctness in rounds" if problem.distinct else ""
        self._kind = f"{options.solver}, {options.formulation} model{ignored}"

    def close_relaxation(self) -> None:
        """Add threshold cuts to the linear relaxation until it breaks none of them."""
        if self.matrix.is_quadratic:
            return  # its relaxation is no linear program
        while not self.tracker.expired:
            relaxation = replace(self.matrix, integer=np.zeros_like(self.matrix.integer))
            raw = self._solve(relaxation, start=None, on_event=lambda event: None)
            self.tracker.tighten(raw.bound, f"{self._kind}, linear relaxation")
            if raw.point is None or not self._add(self._threshold_cuts(raw.point)):
                break

    def repeat(
        self,
        separate: Callable[[FloatArray], list[Cut]],
        separator: DistinctnessSeparator | None = None,
    ) -> None:
        """Solve and separate until nothing is broken, the gap is closed or the time is up."""
        while True:
            if self.tracker.expired:
                self.outcome.termination_condition = TerminationCondition.TIME_LIMIT
                return
            held = self.tracker.assignment
            start = None if held is None else self.columns.to_point(held)
            raw = self._solve(self.matrix, start=start, separator=separator, on_event=self._take)
            self._take(Event(raw.point, raw.bound))
            ended = raw.termination_condition
            self.outcome.termination_condition = ended
            if ended not in (TerminationCondition.OPTIMAL, TerminationCondition.GAP_LIMIT):
                return
            if self.tracker.closed or raw.point is None:
                return
            try:
                cuts = separate(raw.point)
            except UndecidedAssignmentError:
                late = self.tracker.expired
                self.outcome.termination_condition = (
                    TerminationCondition.TIME_LIMIT if late else TerminationCondition.UNKNOWN
                )
                return
            if not self._add(cuts):
                return

    def compact_cuts(self, x: FloatArray) -> list[Cut]:
        """Distinctness cuts that an integer point of the compact model breaks."""
        if not self.problem.distinct:
            return []
        point = self.columns.to_assignment(x)
        return [] if point is None else distinctness_cuts(point.matrix, self.problem.n_per_class)

    def projected_cuts(self, x: FloatArray) -> list[Cut]:
        """Cuts by which an integer point of the projected model claims too much."""
        cuts = self._threshold_cuts(np.round(x, 9))
        if cuts:
            return cuts
        # The classes claim no more than their best features; so constraints between them bind.
        selected = self.columns.selected(x)
        exact = assign(self.problem, selected, time_limit=self.tracker.remaining)
        value = None if exact is None else self.problem.objective_parts(exact).assignment
        theta = float(self._theta(x).sum())
        if value is not None and theta <= value + OPTIMALITY_TOLERANCE * max(1.0, abs(value)) / 10:
            return []
        return [no_good_cut(self.problem, selected, value)]

    def _threshold_cuts(self, x: FloatArray) -> list[Cut]:
        present = self.columns.selection >= 0
        s = np.where(present, x[self.columns.selection], 0.0).clip(0.0, 1.0)
        return threshold_cuts(self.problem, s, self._theta(x), tolerance=1e-7)

    def _theta(self, x: FloatArray) -> FloatArray:
        assert self.columns.theta is not None
        return x[self.columns.theta]

    def _solve(
        self,
        matrix: MatrixModel,
        *,
        start: FloatArray | None,
        on_event: Callable[[Event], None],
        separator: DistinctnessSeparator | None = None,
    ) -> RawSolve:
        raw = solve_in_child(
            self._options.solver,
            matrix,
            SolveOptions(
                time_limit=self.tracker.remaining,
                # A tenth of what we call optimal, to leave room for rounding.
                gap=max(self.tracker.gap, OPTIMALITY_TOLERANCE / 10),
                threads=self._options.threads,
                seed=self._options.seed,
                solver_options=self._options.solver_options,
            ),
            start=start,
            separate=separator,
            on_event=on_event,
        )
        outcome = self.outcome
        outcome.solve_time += raw.solve_time
        outcome.raw_status = raw.raw_status
        outcome.reported_objective = raw.reported_objective
        outcome.solver_version = raw.solver_version or outcome.solver_version
        outcome.n_rounds = (outcome.n_rounds or 0) + 1
        outcome.n_cuts = (outcome.n_cuts or 0) + raw.n_lazy_rows
        if raw.node_count is not None:
            outcome.node_count = (outcome.node_count or 0) + raw.node_count
        logger.info(
            "round %d: %s, bound %s, %d rows",
            outcome.n_rounds,
            raw.raw_status,
            raw.bound,
            matrix.matrix.shape[0],
        )
        return raw

    def _take(self, event: Event) -> None:
        """Offer the exact assignment of a point's selection; keep the bound."""
        if event.point is not None:
            self._offer(event.point)
        self.tracker.tighten(event.bound, self._kind)

    def _offer(self, x: FloatArray) -> None:
        selected = self.columns.selected(x)
        if is_selection(self.problem, selected):
            exact = assign_within(self.problem, selected, self.tracker.remaining)
            if exact is not None:
                self.tracker.offer(exact, self._options.solver)
                return
        if self.columns.assignment is not None:
            point = self.columns.to_assignment(x)
            assert point is not None  # the model has W
            self.tracker.offer(point, self._options.solver)

    def _add(self, cuts: list[Cut]) -> bool:
        self.matrix = self.matrix.with_rows(self.columns.rows_of(cuts))
        self.outcome.n_cuts = (self.outcome.n_cuts or 0) + len(cuts)
        return bool(cuts)
