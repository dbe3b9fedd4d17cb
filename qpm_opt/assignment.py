"""Which features are selected, and which classes have which of them."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qpm_opt.errors import InvalidSolutionError, QPMError
from qpm_opt.files import read_solution
from qpm_opt.validation import BoolArray, IntArray, as_bool

if TYPE_CHECKING:
    from qpm_opt.problem import Problem


@dataclass(frozen=True, eq=False)
class Assignment:
    """A selection of features and an assignment of selected features to classes.

    Parameters
    ----------
    selection : ndarray of shape (n_features,), bool
        s, True where the feature is selected.
    matrix : ndarray of shape (n_classes, n_features), bool
        W, True where the feature is assigned to the class.

    Raises
    ------
    InvalidSolutionError
        If the shapes do not fit each other or the arrays are not boolean (0/1).
    """

    selection: BoolArray
    matrix: BoolArray

    def __post_init__(self) -> None:
        selection = as_bool(self.selection, "selection")
        matrix = as_bool(self.matrix, "matrix")
        if selection.ndim != 1 or matrix.ndim != 2 or matrix.shape[1] != selection.size:
            raise InvalidSolutionError(
                f"selection of shape {selection.shape} and matrix of shape {matrix.shape} do not "
                "fit; expected (n_features,) and (n_classes, n_features)."
            )
        object.__setattr__(self, "selection", selection)
        object.__setattr__(self, "matrix", matrix)

    def __setstate__(self, state: dict[str, Any]) -> None:
        restore(self, state)

    @classmethod
    def from_indices(
        cls, selected: Iterable[int], class_features: Sequence[Iterable[int]], *, n_features: int
    ) -> Assignment:
        """Assignment from the selected feature indices and one set of indices per class.

        Raises
        ------
        InvalidSolutionError
            If an index is not in ``range(n_features)`` or stands twice in one set.
        """
        selection = np.zeros(n_features, dtype=bool)
        matrix = np.zeros((len(class_features), n_features), dtype=bool)
        _mark(selection, selected, "selection")
        for c, features in enumerate(class_features):
            _mark(matrix[c], features, f"class {c}")
        return cls(selection, matrix)

    @property
    def selected(self) -> IntArray:
        """Indices of the selected features, ascending."""
        return np.flatnonzero(self.selection)

    def class_features(self, c: int) -> IntArray:
        """Indices of the features of class ``c``, ascending."""
        return np.flatnonzero(self.matrix[c])

    @classmethod
    def load(cls, path: str | os.PathLike[str], problem: Problem | int) -> Assignment:
        """Assignment held in a solution file (``qpm-solution/1``).

        Parameters
        ----------
        path : path
        problem : Problem or int
            The problem, for its shapes, or just the number of features.

        Raises
        ------
        InvalidSolutionError
            If the file is missing, damaged, of another format or of another shape.
        """
        record = read_solution(path)
        if isinstance(problem, int):
            n_features = problem
        else:
            n_features = problem.n_features
            if len(record["assignment"]) != problem.n_classes:
                raise InvalidSolutionError(
                    f"{path} assigns features to {len(record['assignment'])} classes, the problem "
                    f"has {problem.n_classes}; use a solution of this problem."
                )
        return cls.from_indices(record["selection"], record["assignment"], n_features=n_features)


def equal_classes(matrix: BoolArray) -> list[list[int]]:
    """Groups (two or more) of classes with equal rows, each ascending."""
    groups: dict[bytes, list[int]] = {}
    for c, row in enumerate(np.packbits(matrix, axis=1)):
        groups.setdefault(row.tobytes(), []).append(c)
    return [group for group in groups.values() if len(group) > 1]


def _mark(row: BoolArray, indices: Iterable[int], what: str) -> None:
    for d in indices:
        if isinstance(d, bool | np.bool_) or not isinstance(d, int | np.integer):
            raise InvalidSolutionError(
                f"{what} holds {reprlib.repr(d)}; feature indices are whole numbers."
            )
        if not 0 <= d < row.size:
            raise InvalidSolutionError(
                f"{what} holds feature {d}, outside the {row.size} features of the problem."
            )
        if row[d]:
            raise InvalidSolutionError(f"{what} holds feature {d} twice.")
        row[d] = True


def restore(instance: Problem | Assignment, state: dict[str, Any]) -> None:
    """Fill an unpickled instance; pickling has forgotten that its arrays are read-only."""
    for name, value in state.items():
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
        object.__setattr__(instance, name, value)


def expand(problem: Problem, chosen: IntArray, used: BoolArray) -> Assignment:
    """Assignment from W over the columns ``chosen``, shape (n_classes, n_selected)."""
    selection = np.zeros(problem.n_features, dtype=bool)
    selection[chosen] = True
    matrix = np.zeros((problem.n_classes, problem.n_features), dtype=bool)
    matrix[:, chosen] = used
    return Assignment(selection, matrix)


class UndecidedAssignmentError(QPMError, RuntimeError):
    """Neither an optimal assignment was found nor was it proved that there is none.

    Attributes
    ----------
    assignment : Assignment or None
        A feasible assignment of the selection, if one was met.
    """

    def __init__(self, message: str, assignment: Assignment | None = None) -> None:
        super().__init__(message)
        self.assignment = assignment
