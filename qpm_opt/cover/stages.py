"""The two stages, most images and then fewest boundaries, by our own search and by a solver."""

from __future__ import annotations

import logging
import math
from typing import Protocol

from qpm_opt.cover.program import CoverProgram
from qpm_opt.cover.reduction import Instance, reduce, within_columns
from qpm_opt.cover.search import FewestBoundaries, FewestLost, RowSearch
from qpm_opt.cover.tracking import CoverTracker
from qpm_opt.errors import SolverError, SolverLicenseError
from qpm_opt.result import TerminationCondition
from qpm_opt.solvers import get_solver, solve_in_child
from qpm_opt.solvers.base import Capability, MatrixModel, RawSolve, SolveOptions
from qpm_opt.validation import BoolArray

logger = logging.getLogger(__name__)

#: How far a solver's bound may miss the whole number that it means.
_ROUNDING = 1e-6


class Stages(Protocol):
    """A way to solve both stages; what is found goes to a tracker."""

    def most_covered(self) -> TerminationCondition:
        """Search for the choice that covers most."""
        ...

    def fewest_boundaries(self) -> TerminationCondition:
        """Search for the smallest of the optimal choices; the tracker holds one of them."""
        ...


class SearchStages:
    """Our own branch and bound.

    Parameters
    ----------
    tracker : CoverTracker
        Holds a choice.
    lost : ndarray of shape (n_images,), bool
        Counted images that no feasible region holds.
    node_limit : int or None
        Most nodes of either search.
    """

    def __init__(self, tracker: CoverTracker, lost: BoolArray, node_limit: int | None) -> None:
        self._tracker = tracker
        self._node_limit = node_limit
        with tracker.building():
            self._instance = reduce(tracker.problem, lost)

    def most_covered(self) -> TerminationCondition:
        """See :meth:`Stages.most_covered`."""
        tracker, instance = self._tracker, self._instance
        assert tracker.objective is not None
        search = FewestLost(instance, instance.most - tracker.objective, ())
        try:
            return self._run(search, instance)
        finally:
            tracker.tighten(instance.most - search.bound, "branch and bound")

    def fewest_boundaries(self) -> TerminationCondition:
        """See :meth:`Stages.fewest_boundaries`."""
        tracker, whole = self._tracker, self._instance
        assert tracker.objective is not None and tracker.boundaries is not None
        most_lost = whole.most - tracker.objective
        with tracker.building():
            usable = [
                h
                for h in range(len(whole.columns))
                if (whole.lost | whole.losses[h]).bit_count() <= most_lost
            ]
            instance = within_columns(whole, usable)
            few = _few_boundaries(instance, most_lost)
            if few is not None:
                tracker.offer(instance.columns[h] for h in few)
        search = FewestBoundaries(instance, len(tracker.boundaries), (), most_lost)
        try:
            return self._run(search, instance)
        finally:
            tracker.tighten_fewest(search.bound, "branch and bound")

    def _run(self, search: RowSearch, instance: Instance) -> TerminationCondition:
        tracker, known = self._tracker, search.value
        try:
            with tracker.solving():
                return search.run(tracker.deadline, self._node_limit)
        finally:
            tracker.count_nodes(search.n_nodes)
            if search.value < known:
                tracker.offer(instance.columns[h] for h in search.chosen)


def _few_boundaries(instance: Instance, most_lost: int) -> list[int] | None:
    """Choice that always takes whoever hits most rows; None if that loses too many images."""
    lost, rows = instance.lost, instance.rows
    chosen: list[int] = []
    while rows.bit_count() > instance.spare:
        fresh, h = max(
            (
                ((hits & rows).bit_count(), -h)
                for h, hits in enumerate(instance.hits)
                if (lost | instance.losses[h]).bit_count() <= most_lost
            ),
            default=(0, 0),
        )
        if not fresh:
            return None
        chosen.append(-h)
        lost |= instance.losses[-h]
        rows &= ~instance.hits[-h]
    return chosen


class SolverStages:
    """The integer program of :mod:`qpm_opt.cover.program`, given to a solver.

    Parameters
    ----------
    tracker : CoverTracker
        Holds a choice, which is the solver's start.
    lost : ndarray of shape (n_images,), bool
        Counted images that no feasible region holds.
    solver : str
    threads, seed : int
    """

    def __init__(
        self, tracker: CoverTracker, lost: BoolArray, solver: str, threads: int, seed: int
    ) -> None:
        self._tracker = tracker
        self._solver, self._threads, self._seed = solver, threads, seed
        continuous = Capability.CONTINUOUS_COLUMNS in get_solver(solver).capabilities
        with tracker.building():
            self._program = CoverProgram(tracker.problem, lost, continuous=continuous)

    def most_covered(self) -> TerminationCondition:
        """See :meth:`Stages.most_covered`."""
        with self._tracker.building():
            model = self._program.most_covered()
        raw = self._solve(model)
        if raw.bound is not None and math.isfinite(raw.bound):
            self._tracker.tighten(math.floor(raw.bound + _ROUNDING), self._solver)
        return self._condition(raw)

    def fewest_boundaries(self) -> TerminationCondition:
        """See :meth:`Stages.fewest_boundaries`."""
        assert self._tracker.objective is not None
        with self._tracker.building():
            model = self._program.fewest_boundaries(self._tracker.objective)
        raw = self._solve(model)
        if raw.bound is not None and math.isfinite(raw.bound):
            self._tracker.tighten_fewest(math.ceil(-raw.bound - _ROUNDING), self._solver)
        return self._condition(raw)

    def _solve(self, model: MatrixModel) -> RawSolve:
        tracker = self._tracker
        assert tracker.boundaries is not None
        options = SolveOptions(time_limit=tracker.remaining, threads=self._threads, seed=self._seed)
        points: list[list[int]] = []
        try:
            with tracker.solving():
                raw = solve_in_child(
                    self._solver,
                    model,
                    options,
                    start=self._program.point(tracker.boundaries),
                    on_event=lambda event: (
                        None
                        if event.point is None
                        else points.append(self._program.boundaries(event.point))
                    ),
                )
        except SolverLicenseError as failure:
            logger.warning("%s", failure)
            raw = RawSolve(TerminationCondition.LICENSE_LIMIT, str(failure))
        except SolverError as failure:
            logger.warning("%s", failure)
            raw = RawSolve(TerminationCondition.ERROR, str(failure))
        finally:
            if points:  # the last one is the best; after Ctrl-C it is all there is
                tracker.offer(points[-1])
        if raw.point is not None:
            tracker.offer(self._program.boundaries(raw.point))
        tracker.count_nodes(raw.node_count)
        tracker.raw_status, tracker.solver_version = raw.raw_status, raw.solver_version
        return raw

    def _condition(self, raw: RawSolve) -> TerminationCondition:
        condition = raw.termination_condition
        if condition is TerminationCondition.INFEASIBLE:
            logger.warning("%s calls the model infeasible, but a choice is held.", self._solver)
            return TerminationCondition.ERROR
        return condition
