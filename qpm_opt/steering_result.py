"""What a solve under demands returns: what they cost, and what is different."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qpm_opt.assignment import Assignment
from qpm_opt.demands import Demands
from qpm_opt.problem import Problem
from qpm_opt.result import (
    CopiedProof,
    Result,
    SolutionStatus,
    TerminationCondition,
    relative_gap,
)
from qpm_opt.validation import BoolArray


class ClassChange(NamedTuple):
    """A class whose features are others than before."""

    label: int
    lost: tuple[int, ...]
    gained: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """Outcome of :func:`qpm_opt.what_if`. Objectives are those of the problem without demands.

    Attributes
    ----------
    demands : Demands
    before : Assignment
        The solution that was there.
    after : Assignment or None
        The best one found that meets the demands.
    objective_before : float
    objective_after : float or None
    bound : float or None
        No solution that meets the demands has a larger objective.
    bound_kind : str or None
        Where the bound comes from; that of a solution file is taken on its word.
    termination_condition : TerminationCondition
        INFEASIBLE if it is proved that no solution meets the demands.
    solution_status : SolutionStatus
        OPTIMAL only if a bound made here meets the objective.
    rejections : tuple of str
        What the independent check of constraints and demands finds wrong; empty unless the status
        is INFEASIBLE.
    bound_before : float or None
        That of the solution file, if it is one of this problem.
    certificate : path or None
        Of the bound before.
    method : str
    options : dict
    wall_time : float
        Seconds of the whole call.
    """

    demands: Demands
    before: Assignment
    after: Assignment | None
    objective_before: float
    objective_after: float | None
    bound: float | None
    bound_kind: str | None
    termination_condition: TerminationCondition
    solution_status: SolutionStatus
    rejections: tuple[str, ...] = ()
    bound_before: float | None = None
    bound_kind_before: str | None = None
    certificate: Path | None = None
    method: str
    options: dict[str, Any] = field(default_factory=dict)
    wall_time: float

    @property
    def cost(self) -> float | None:
        """By how much the objective falls; negative if the solution before was not the best."""
        return (
            None if self.objective_after is None else self.objective_before - self.objective_after
        )

    @property
    def relative_cost(self) -> float | None:
        """The cost as a share of the objective before; inf if only that is 0."""
        if self.cost is None or not self.cost:
            return self.cost
        if not self.objective_before:
            return math.inf
        return self.cost / abs(self.objective_before)

    @property
    def relative_gap(self) -> float | None:
        """Distance of bound and objective, relative to the objective."""
        return relative_gap(self.objective_after, self.bound)

    @property
    def features_lost(self) -> tuple[int, ...]:
        """Features that are no longer selected."""
        return () if self.after is None else _less(self.before.selection, self.after.selection)

    @property
    def features_gained(self) -> tuple[int, ...]:
        """Features that are selected now."""
        return () if self.after is None else _less(self.after.selection, self.before.selection)

    @property
    def class_changes(self) -> tuple[ClassChange, ...]:
        """Classes with other features than before, by label."""
        if self.after is None:
            return ()
        old, new = self.before.matrix, self.after.matrix
        return tuple(
            ClassChange(int(c), _less(old[c], new[c]), _less(new[c], old[c]))
            for c in np.flatnonzero((old != new).any(axis=1))
        )

    def to_dict(self, class_names: Sequence[str] | None = None) -> dict[str, Any]:
        """Everything as JSON; what is unknown is None.

        Parameters
        ----------
        class_names : sequence of str, optional
            Put beside the labels of the classes that change.
        """
        relative = self.relative_cost
        gap = self.relative_gap
        after = self.after
        changes = []
        for change in self.class_changes:
            entry = {"class": change.label, "lost": change.lost, "gained": change.gained}
            if class_names is not None:
                entry["name"] = class_names[change.label]
            changes.append(entry)
        return {
            "format": "qpm-what-if/1",
            "demands": self.demands.to_dict(),
            "objective_before": self.objective_before,
            "objective_after": self.objective_after,
            "cost": self.cost,
            "relative_cost": _finite(relative),
            "bound": self.bound,
            "bound_kind": self.bound_kind,
            "relative_gap": _finite(gap),
            "termination_condition": str(self.termination_condition),
            "solution_status": str(self.solution_status),
            "rejections": list(self.rejections),
            "features_lost": list(self.features_lost),
            "features_gained": list(self.features_gained),
            "class_changes": changes,
            "selection": None if after is None else after.selected.tolist(),
            "assignment": None
            if after is None
            else [after.class_features(c).tolist() for c in range(len(after.matrix))],
            "method": self.method,
            "options": self.options,
            "wall_time": self.wall_time,
        }

    def save_solution(self, path: str | os.PathLike[str], problem: Problem) -> None:
        """Write the solution as one of the problem without demands, as ``qpm verify`` takes it.

        The bound in it is that of the solution before, with its certificate: what was proved of
        the problem still holds, and no assignment that breaks the demands refutes it.

        Raises
        ------
        ValueError
            If there is no solution.
        """
        condition = self.termination_condition
        if condition is TerminationCondition.OPTIMAL:  # under the demands alone
            condition = TerminationCondition.COMPLETED
        Result(
            termination_condition=condition,
            solution_status=SolutionStatus.FEASIBLE,
            assignment=self.after,
            objective=self.objective_after,
            bound=self.bound_before,
            bound_kind=self.bound_kind_before,
            warm_start_objective=self.objective_before,
            method=self.method,
            wall_time=self.wall_time,
            options=self.options | {"demands": self.demands.to_dict()},
            proof=None if self.certificate is None else CopiedProof(self.certificate),
        ).save(path, problem)


def _less(one: BoolArray, other: BoolArray) -> tuple[int, ...]:
    """Indices that are in the first mask alone."""
    return tuple(np.flatnonzero(one & ~other).tolist())


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None
