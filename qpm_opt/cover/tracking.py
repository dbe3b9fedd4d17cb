"""The solve as it goes: best region, best bound, clock; nothing enters unchecked."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from qpm_opt.cover.greedy import prune_cover
from qpm_opt.cover.problem import CoverProblem

logger = logging.getLogger(__name__)


class CoverTracker:
    """Keeps the best verified choice of boundaries and the best bounds of a solve.

    Parameters
    ----------
    problem : CoverProblem
    began : float
        Value of ``time.perf_counter()`` from which times count.
    time_limit : float, optional
        Seconds; None is no limit.
    prune : bool
        Whether boundaries that a choice does not need are left out.
    """

    def __init__(
        self, problem: CoverProblem, *, began: float, time_limit: float | None, prune: bool
    ) -> None:
        self.problem = problem
        self.began = began
        self.deadline = math.inf if time_limit is None else began + time_limit
        self.boundaries: list[int] | None = None
        self.objective: int | None = None
        self.bound: int | None = None
        self.bound_kind: str | None = None
        self.fewest_bound: int | None = None
        self.build_time = self.solve_time = 0.0
        self.node_count: int | None = None
        self.solver_version: str | None = None
        self.raw_status: str | None = None
        self._prune = prune

    @property
    def remaining(self) -> float | None:
        """Seconds left, never negative; None without a limit."""
        if self.deadline == math.inf:
            return None
        return max(0.0, self.deadline - time.perf_counter())

    @property
    def closed(self) -> bool:
        """Whether the bound meets the objective; both are whole numbers."""
        return self.objective is not None and self.bound == self.objective

    @property
    def has_fewest(self) -> bool:
        """Whether no optimal choice has fewer boundaries than the one held."""
        return (
            self.closed
            and self.boundaries is not None
            and self.fewest_bound == len(self.boundaries)
        )

    def offer(self, boundaries: Iterable[int]) -> None:
        """Keep a choice if it is feasible and covers more, or as much with fewer boundaries."""
        chosen = sorted(set(boundaries))
        if self._prune:
            chosen = prune_cover(self.problem, chosen)
        same, other = self.problem.counts(chosen)
        if other > self.problem.n_exceptions:
            logger.warning("An infeasible choice was offered: %d exceptions; it is ignored.", other)
            return
        objective = same + other if self.problem.count_exceptions else same
        if self.boundaries is None or self.objective is None:
            better = True
        else:
            better = (objective, -len(chosen)) > (self.objective, -len(self.boundaries))
        if not better:
            return
        if self.bound is not None and objective > self.bound:
            logger.warning(
                "The bound %d (%s) is refuted by a choice that covers %d images and is dropped.",
                self.bound, self.bound_kind, objective,
            )  # fmt: skip
            self.bound = self.bound_kind = None
        self.boundaries, self.objective = chosen, objective

    def tighten(self, bound: int, kind: str) -> None:
        """Keep an upper bound on the objective if it is the lowest and no known choice beats it."""
        if self.objective is not None and bound < self.objective:
            logger.warning(
                "%s claims the bound %d, but a choice that covers %d images is verified; the "
                "bound is ignored.",
                kind, bound, self.objective,
            )  # fmt: skip
            return
        if self.bound is None or bound < self.bound:
            self.bound, self.bound_kind = bound, kind

    def tighten_fewest(self, bound: int, kind: str) -> None:
        """The same for the lower bound on the number of boundaries of the optimal choices."""
        assert self.boundaries is not None
        if bound > len(self.boundaries):
            logger.warning(
                "%s claims that %d boundaries are needed, but %d do; that is ignored.",
                kind, bound, len(self.boundaries),
            )  # fmt: skip
            return
        if self.fewest_bound is None or bound > self.fewest_bound:
            self.fewest_bound = bound

    @contextmanager
    def building(self) -> Iterator[None]:
        """Count the time of the block as time of preparation."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.build_time += time.perf_counter() - began

    @contextmanager
    def solving(self) -> Iterator[None]:
        """Count the time of the block as time of search."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.solve_time += time.perf_counter() - began

    def count_nodes(self, n_nodes: int | None) -> None:
        """Add nodes of a search tree."""
        if n_nodes is not None:
            self.node_count = n_nodes + (self.node_count or 0)
