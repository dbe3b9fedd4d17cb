"""Assignments by small integer programs: side constraints, average sparsity."""

from __future__ import annotations

import logging
import time
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from qpm_opt.assignment import Assignment, UndecidedAssignmentError, equal_classes, expand
from qpm_opt.problem import Problem
from qpm_opt.validation import BoolArray, FloatArray, IntArray

logger = logging.getLogger(__name__)

_INFEASIBLE = 2  # status of scipy's milp; every other one without an optimum decides nothing
_LARGEST_COST = 2.0**20


class UndecidedProgramError(Exception):
    """The time is up or the solver failed; ``used`` keeps all constraints, if it met such a W."""

    def __init__(self, message: str, used: BoolArray | None = None) -> None:
        super().__init__(message)
        self.used = used


def best_sets_of_program(
    values: FloatArray,
    n_per_class: int,
    *,
    pairs: IntArray,
    distinct: bool,
    least_uses: int = 0,
    least_pairs: int = 0,
    deadline: float,
) -> BoolArray | None:
    """W of largest value under all constraints, by integer programs with lazy distinctness.

    Rows that turn out equal and may not be are told apart in the next program.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_columns)
    n_per_class : int
        k, entries of every row.
    pairs : ndarray of shape (n_pairs, 2), int
        Rows that share exactly k - 1.
    distinct : bool
        Whether all rows differ.
    least_uses : int
        Rows that use a column, at least.
    least_pairs : int
        Pairs of rows that share exactly k - 1, at least.
    deadline : float
        Of ``time.perf_counter``.

    Returns
    -------
    ndarray of shape (n_rows, n_columns), bool, or None
        None if it is proved that there is no such W.

    Raises
    ------
    UndecidedProgramError
        If the time is up or the program fails before there is a proof.
    """
    program = _Program(values, n_per_class, pairs, least_uses, least_pairs)
    apart: set[tuple[int, int]] = set()
    while (left := deadline - time.perf_counter()) > 0:
        outcome = program.solve(apart, left)
        if outcome.status == _INFEASIBLE:
            logger.debug("no assignment of the selected features: %s", outcome.message)
            return None
        if outcome.x is None:
            raise UndecidedProgramError(f"Integer program of an assignment: {outcome.message}")
        used: BoolArray = outcome.x[: values.size].reshape(values.shape) > 0.5
        equal = [pair for group in equal_classes(used) for pair in combinations(group, 2)]
        if not distinct:
            equal = [pair for pair in equal if pair in program.listed]
        if not equal:
            if outcome.success:
                return used
            raise UndecidedProgramError(
                f"Integer program of an assignment: {outcome.message}", used
            )
        apart.update(equal)
    raise UndecidedProgramError("The time is up before the integer program has an optimum.")


class _Program:
    """The integer program: columns W, products of the rows of pairs, and what counts pairs."""

    def __init__(
        self, values: FloatArray, k: int, pairs: IntArray, least_uses: int, least_pairs: int
    ) -> None:
        self._values, self._k = values, k
        self._least_uses, self._least_pairs = least_uses, least_pairs
        self.listed = {(c, e) for c, e in np.sort(pairs, axis=1).tolist()}

    def solve(self, apart: set[tuple[int, int]], time_limit: float) -> Any:
        """Outcome of ``scipy.optimize.milp``; the rows of some pairs differ.

        Columns: W; for every listed pair, and every one that may count, the products of its rows;
        for every pair that must differ, by column, whether only the first row has it; for every
        pair that may count, whether it does.
        """
        values, k = self._values, self._k
        (n_rows, p), n_W = values.shape, values.size
        counted = list(combinations(range(n_rows), 2)) if self._least_pairs else []
        multiplied = counted or sorted(self.listed)
        ends = [n_W, n_W + len(multiplied) * p]
        ends += [ends[1] + len(apart) * p, ends[1] + len(apart) * p + len(counted)]
        W, product, only, counts = (
            np.arange(first, last) for first, last in zip([0, *ends[:-1]], ends, strict=True)
        )
        W, product, only = W.reshape(n_rows, p), product.reshape(-1, p), only.reshape(-1, p)
        n = ends[-1]

        def add(
            columns: list[IntArray], coefficients: list[int], lower: float, upper: float
        ) -> None:
            """One row for each column of W of each pair."""
            stacked = np.stack([part.ravel() for part in columns], axis=1)
            if len(stacked):
                constraints.append(_rows(stacked, coefficients, lower, upper, n))

        constraints = [_rows(W, 1, k, k, n), _rows(W.T, 1, self._least_uses, n_rows, n)]
        first, second = (
            (W[list(part)] for part in zip(*multiplied, strict=True))
            if multiplied
            else (W[:0],) * 2
        )
        add([first, product], [1, -1], 0, np.inf)
        add([second, product], [1, -1], 0, np.inf)
        listed = product[[i for i, pair in enumerate(multiplied) if pair in self.listed]]
        if len(listed):
            constraints.append(_rows(listed, 1, k - 1, np.inf, n))
        if counted:
            add([first, second, product], [1, 1, -1], -np.inf, 1)
            of_pair = np.hstack([counts[:, None], product])
            share = np.ones(p + 1)
            share[0] = 1 - k
            constraints += [
                _rows(of_pair, share, 0, np.inf, n),
                _rows(of_pair, 1, -np.inf, k, n),
                _rows(counts[None], 1, self._least_pairs, np.inf, n),
            ]
        if apart:
            first, second = (W[list(part)] for part in zip(*sorted(apart), strict=True))
            add([first, only], [1, -1], 0, np.inf)
            add([second, only], [1, 1], -np.inf, 1)
            constraints.append(_rows(only, 1, 1, np.inf, n))
        cost = np.zeros(n)
        cost[W] = _cost(values)
        integrality = np.ones(n, dtype=int)
        integrality[ends[0] : ends[2]] = 0  # follow from W
        return milp(
            cost,
            integrality=integrality,
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": 0.0, "time_limit": time_limit},
        )


def assign_average(
    problem: Problem, selected: IntArray, *, deadline: float
) -> tuple[Assignment, bool]:
    """Best assignment of a selection if ``n_per_class`` holds on average, and whether it is that.

    Every class has its best feature; the rest are the largest values that are left, whatever their
    classes. Where two classes are then equal, an integer program with lazy distinctness decides:
    rows c and e are not both the set T if ``sum_T (W_c + W_e) - sum_{not T} (W_c + W_e)`` is at
    most ``2 |T| - 1``. Many classes that are much alike need many such rows; if the time is up
    before they are found, some of the classes exchange one feature for another instead.

    Parameters
    ----------
    problem : Problem
    selected : array of shape (n_selected,), int
    deadline : float
        Of ``time.perf_counter``.

    Raises
    ------
    UndecidedAssignmentError
        If the time is up, and no exchanges make all classes differ.
    """
    values = problem.class_similarity[:, selected]
    total = problem.n_per_class * problem.n_classes
    used = np.zeros(values.shape, dtype=bool)
    used[np.arange(problem.n_classes), values.argmax(axis=1)] = True
    others = np.argsort(np.where(used, np.inf, -values), axis=None, kind="stable")
    used.flat[others[: total - problem.n_classes]] = True
    W = np.arange(values.size).reshape(values.shape)
    constraints = [
        _rows(W.reshape(1, -1), 1, total, total, values.size),
        _rows(W, 1, 1, selected.size, values.size),
    ]
    cost = _cost(values).ravel()
    exchanged = _exchanged(values, used) if problem.distinct else used
    while problem.distinct and (groups := equal_classes(used)):
        pairs = [pair for group in groups for pair in combinations(group, 2)]
        sign = np.where(used, 1, -1)
        for c, e in pairs:
            columns = np.concatenate([W[c], W[e]])[None]
            coefficients = np.concatenate([sign[c], sign[e]])
            most = 2 * used[c].sum() - 1
            constraints.append(_rows(columns, coefficients, -np.inf, most, values.size))
        left = deadline - time.perf_counter()
        outcome = (
            None
            if left <= 0
            else milp(
                cost,
                integrality=np.ones(values.size, dtype=int),
                bounds=Bounds(0, 1),
                constraints=constraints,
                options={"mip_rel_gap": 0.0, "time_limit": left},
            )
        )
        if outcome is None or not outcome.success:
            if exchanged is None:
                raise UndecidedAssignmentError("The time is up before all classes differ.")
            return expand(problem, selected, exchanged), False
        used = outcome.x.reshape(values.shape) > 0.5
    return expand(problem, selected, used), True


def _exchanged(values: FloatArray, used: BoolArray) -> BoolArray | None:
    """Rows that differ: each that is there already exchanges one column for another.

    The cheapest exchange is taken that gives a new row; None if a row has no such.
    """
    taken, rows = set(map(bytes, used)), used.copy()
    for group in equal_classes(used):
        for c in group[1:]:
            inside, outside = np.flatnonzero(used[c]), np.flatnonzero(~used[c])
            loss = values[c, inside][:, None] - values[c, outside]
            for place in np.argsort(loss, axis=None, kind="stable"):
                out, into = np.unravel_index(place, loss.shape)
                row = used[c].copy()
                row[inside[out]], row[outside[into]] = False, True
                if bytes(row) not in taken:
                    break
            else:
                return None
            taken.add(bytes(row))
            rows[c] = row
    return rows


def _cost(values: FloatArray) -> FloatArray:
    """Costs of entries, so large that an absolute gap of 1e-6, where HiGHS stops, is small."""
    largest = float(np.abs(values).max(initial=0.0)) or 1.0
    return values / largest * -_LARGEST_COST  # in this order: what is tiny must not overflow


def _rows(
    columns: IntArray, coefficients: ArrayLike, lower: float, upper: float, n_columns: int
) -> LinearConstraint:
    """Rows ``lower <= coefficients @ x[columns] <= upper``; ``columns`` is (n_rows, width)."""
    n_rows, width = columns.shape
    data: FloatArray = np.array(np.broadcast_to(coefficients, columns.shape), dtype=np.float64)
    ends = np.arange(0, columns.size + 1, width)
    matrix = sparse.csr_array(
        (data.ravel(), columns.ravel(), ends), shape=(n_rows, n_columns), dtype=np.float64
    )
    return LinearConstraint(matrix, lower, upper)
