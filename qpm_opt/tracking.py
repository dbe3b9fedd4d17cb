"""The run as it goes: clock, best assignment, best bound, features free, and their history."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from qpm_opt.assignment import Assignment
from qpm_opt.problem import Problem
from qpm_opt.result import Progress, meets, relative_gap

logger = logging.getLogger(__name__)


class Tracker:
    """Keeps the best verified assignment, the best bound with its proof, and the clock of a solve.

    Whatever a method or solver claims goes through :meth:`offer` and :meth:`tighten`; the first
    recomputes the objective and refuses what breaks a constraint.

    Parameters
    ----------
    problem : Problem
    time_limit : float, optional
        Seconds of wall clock for everything; None is no limit.
    began : float, optional
        Value of ``time.perf_counter()`` from which they count; now by default.
    gap : float
        Relative gap at which the search may stop.
    on_progress : callable, optional
        Called with a :class:`~qpm_opt.result.Progress` at every change.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        time_limit: float | None = None,
        began: float | None = None,
        gap: float = 0.0,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.problem = problem
        self.gap = gap
        self.assignment: Assignment | None = None
        self.objective: float | None = None
        self.bound: float | None = None
        self.bound_kind: str | None = None
        self.proof: Any = None
        self.n_free: int | None = None
        self.history: list[Progress] = []
        self._start = time.perf_counter() if began is None else began
        self._deadline = None if time_limit is None else self._start + time_limit
        self._on_progress = on_progress

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    @property
    def remaining(self) -> float | None:
        """Seconds left, never negative; None without a limit."""
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - time.perf_counter())

    @property
    def expired(self) -> bool:
        """Whether the time is up."""
        return self.remaining == 0.0

    @property
    def closed(self) -> bool:
        """Whether bound and incumbent meet, or the gap asked for is reached."""
        if self._meets(self.objective, self.bound):
            return True
        gap = relative_gap(self.objective, self.bound)
        return gap is not None and gap <= self.gap

    def offer(self, assignment: Assignment, source: str) -> bool:
        """Keep an assignment if it is feasible and better than the incumbent; return whether."""
        violations = self.problem.violations(assignment)
        if violations:
            logger.debug("%s offered an infeasible assignment: %s", source, violations[0].message)
            return False
        objective = self.problem.objective(assignment)
        if self.objective is not None and objective <= self.objective:
            return False
        logger.debug("%s: incumbent %.9g", source, objective)
        self.assignment, self.objective = assignment, objective
        self._record()
        return True

    def tighten(self, bound: float | None, kind: str, proof: Any = None) -> None:
        """Keep an upper bound on the whole problem if it is lower than the one known.

        With it goes what proves it; nothing does if it is the word of a solver. A bound below the
        incumbent beyond rounding is false; it is refused with a warning.
        """
        if bound is None or not bound < float("inf"):
            return
        if self.objective is not None and bound < self.objective:
            if not self._meets(bound, self.objective):
                logger.warning(
                    "%s claims the bound %.9g, but an assignment with objective %.9g is verified; "
                    "the bound is ignored.",
                    kind,
                    bound,
                    self.objective,
                )
                return
            bound = self.objective
        if self.bound is not None and bound >= self.bound:
            return
        self.bound, self.bound_kind, self.proof = bound, kind, proof
        self._record()

    def report_free(self, n_free: int) -> None:
        """Tell how many features are undecided in the part of the search space searched now."""
        if n_free != self.n_free:
            self.n_free = n_free
            self._record()

    def _meets(self, objective: float | None, bound: float | None) -> bool:
        return meets(objective, bound, scale=self.problem.scale)

    def _record(self) -> None:
        if self.objective is not None and self.bound is not None and self.bound < self.objective:
            if not self._meets(self.bound, self.objective):
                logger.warning(
                    "The bound %.9g (%s) is refuted by an assignment with objective %.9g and is "
                    "dropped.",
                    self.bound,
                    self.bound_kind,
                    self.objective,
                )
                self.bound = self.bound_kind = self.proof = None
            else:
                self.bound = self.objective
        entry = Progress(self.elapsed, self.objective, self.bound, self.n_free)
        self.history.append(entry)
        if self._on_progress is not None:
            self._on_progress(entry)
