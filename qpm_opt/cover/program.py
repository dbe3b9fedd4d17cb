"""The cover problem as an integer program, for any solver.

With n_s images of the input's class and d_s of other classes whose separator set is s:

    maximise   sum_s n_s y_s
    subject to y_s + p_h <= 1                   for every h in s (an image stays if all of s is out)
               z_s + sum_{h in s} p_h >= 1      for every set of an image of another class
               sum_s d_s z_s <= delta - tau
               p, y, z in {0, 1}

If delta = tau there is no z, and only inclusion-minimal s need a covering row. If exceptions count,
d_s z_s is in the objective and z_s + p_h <= 1 as well. The second stage minimises ``sum_h p_h``
with the objective held.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import sparse

from qpm_opt.cover.problem import CoverProblem, separator_sets
from qpm_opt.cover.reduction import minimal_sets
from qpm_opt.solvers.base import MatrixModel
from qpm_opt.validation import BoolArray, FloatArray


class CoverProgram:
    """Matrix models of a feasible cover problem.

    Parameters
    ----------
    problem : CoverProblem
    lost : ndarray of shape (n_images,), bool
        Images that no feasible region holds; their sets get no column.
    continuous : bool
        Whether the solver takes continuous columns; only p has to be integer then.
    """

    def __init__(self, problem: CoverProblem, lost: BoolArray, *, continuous: bool) -> None:
        images = problem.same & ~lost
        kept = problem.separated[images & problem.separated.any(axis=1)]
        self._images, self._weights = separator_sets(kept)
        self._offset = int(np.count_nonzero(images)) - len(kept)
        self._rows = problem.other_sets.members
        self._exceptions = problem.other_sets.counts
        if not problem.spare:
            self._rows = minimal_sets(problem.other_sets)
            self._exceptions = np.empty(0, dtype=np.intp)
        self._counts_exceptions = problem.count_exceptions and problem.spare > 0
        if problem.count_exceptions:
            self._offset += problem.least_exceptions
        self._spare = problem.spare
        self._n_boundaries = problem.n_boundaries
        self._continuous = continuous

    def most_covered(self) -> MatrixModel:
        """Model of the first stage; its objective is that of the problem."""
        return self._model(self._value(), self._offset, None)

    def fewest_boundaries(self, objective: int) -> MatrixModel:
        """Model of the second stage: maximise minus the number of boundaries."""
        cost = np.zeros(self._n_columns)
        cost[: self._n_boundaries] = -1.0
        return self._model(cost, 0.0, objective)

    def point(self, boundaries: Iterable[int]) -> FloatArray:
        """Best point of the models with these boundaries."""
        p = np.zeros(self._n_boundaries)
        p[list(boundaries)] = 1.0
        kept = [(sets @ p == 0).astype(float) for sets in (self._images, self._rows)]
        return np.concatenate([p, kept[0], kept[1][: self._exceptions.size]])

    def boundaries(self, point: FloatArray) -> list[int]:
        """Boundaries that a point chooses."""
        return np.flatnonzero(point[: self._n_boundaries] > 0.5).tolist()

    @property
    def _n_columns(self) -> int:
        return self._n_boundaries + len(self._images) + self._exceptions.size

    def _value(self) -> FloatArray:
        exceptions = self._exceptions * float(self._counts_exceptions)
        return np.concatenate([np.zeros(self._n_boundaries), self._weights, exceptions])

    def _model(self, cost: FloatArray, offset: float, objective: int | None) -> MatrixModel:
        n, n_images = self._n_boundaries, len(self._images)
        first_z = n + n_images
        blocks = [self._exclusions(self._images, n)]
        if self._counts_exceptions:
            blocks.append(self._exclusions(self._rows, first_z))
        n_exclusions = sum(block.shape[0] for block in blocks)
        cover = np.zeros((len(self._rows), self._n_columns))
        cover[:, :n] = self._rows
        if self._exceptions.size:
            cover[:, first_z:] = np.eye(len(self._rows))
        blocks.append(sparse.csr_array(cover))
        lower = [np.full(n_exclusions, -np.inf), np.ones(len(self._rows))]
        upper = [np.ones(n_exclusions), np.full(len(self._rows), np.inf)]
        if self._exceptions.size:
            budget = np.zeros((1, self._n_columns))
            budget[0, first_z:] = self._exceptions
            blocks.append(sparse.csr_array(budget))
            lower.append(np.array([-np.inf]))
            upper.append(np.array([float(self._spare)]))
        if objective is not None:
            blocks.append(sparse.csr_array(self._value()[None, :]))
            lower.append(np.array([float(objective - self._offset)]))
            upper.append(np.array([np.inf]))
        integer = np.ones(self._n_columns, dtype=bool)
        if self._continuous:
            integer[n:] = False
        nothing = np.empty(0, dtype=np.intp)
        return MatrixModel(
            cost=cost,
            offset=offset,
            quadratic=(nothing, nothing, np.empty(0)),
            matrix=sparse.csr_array(sparse.vstack(blocks, format="csr")),
            row_lower=np.concatenate(lower),
            row_upper=np.concatenate(upper),
            lower=np.zeros(self._n_columns),
            upper=np.ones(self._n_columns),
            integer=integer,
        )

    def _exclusions(self, sets: BoolArray, first: int) -> sparse.csr_array:
        """Rows ``column of the set + p_h <= 1``, one for every member h."""
        which, member = np.nonzero(sets)
        rows = np.arange(which.size)
        return sparse.csr_array(
            (
                np.ones(2 * which.size),
                (np.concatenate([rows, rows]), np.concatenate([member, first + which])),
            ),
            shape=(which.size, self._n_columns),
        )
