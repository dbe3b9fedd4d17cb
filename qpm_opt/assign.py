"""The optimal classes-by-features assignment for features that are already selected.

Without further constraints every class takes its ``n_per_class`` most valuable selected features.
Distinctness turns this into a linear assignment of classes to different sets, solved over short
lists of each class's best sets; side constraints go to a small integer program.
"""

from __future__ import annotations

import logging
import math
import time
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, linear_sum_assignment, milp
from scipy.sparse.csgraph import connected_components

from qpm_opt.errors import InvalidInputError, QPMError
from qpm_opt.problem import Assignment, Problem, equal_classes
from qpm_opt.validation import BoolArray, FloatArray, IntArray

logger = logging.getLogger(__name__)

#: Factor by which a list of sets that proved too short is lengthened.
_GROWTH = 8
_INFEASIBLE = 2  # status of scipy's milp; every other one without an optimum decides nothing
_LARGEST_COST = 2.0**20


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


def assign(
    problem: Problem, selected: ArrayLike, *, time_limit: float | None = None
) -> Assignment | None:
    """Optimal assignment for a given selection.

    Parameters
    ----------
    problem : Problem
    selected : array of shape (n_selected,), int
        Indices of the selected features, in any order.
    time_limit : float, optional
        Seconds. A step of the linear assignment that has begun is finished: up to half a second
        for a thousand classes that all compete.

    Returns
    -------
    Assignment or None
        None if it is proved that no assignment of these features is feasible.

    Raises
    ------
    InvalidInputError
        If ``selected`` is not ``n_selected`` different candidate features.
    UndecidedAssignmentError
        If the time is up or the integer program fails before there is a proof.
    """
    deadline = math.inf if time_limit is None else time.perf_counter() + time_limit
    chosen = _check_selection(problem, selected)
    values = problem.class_similarity[:, chosen]
    k = problem.n_per_class
    try:
        rows = _distinct_sets(values, k, deadline) if problem.distinct else _best_set(values, k)
    except _LateError:
        some = _expand(problem, chosen, _some_distinct_sets(values, k))
        raise UndecidedAssignmentError(
            f"The classes of {problem.n_selected} selected features could not be told apart at the "
            f"least cost within {time_limit} s; raise time_limit.",
            None if problem.violations(some) else some,
        ) from None
    assignment = _expand(problem, chosen, rows)
    # What is optimal without the side constraints and happens to keep them is optimal with them.
    if not (problem.min_classes_per_feature or len(problem.pairs)):
        return assignment
    if not problem.violations(assignment):
        return assignment
    return _assign_by_program(problem, chosen, deadline)


def assign_within(
    problem: Problem, selected: ArrayLike, time_limit: float | None
) -> Assignment | None:
    """The optimal assignment, or a feasible one met in the time given; None proves nothing.

    For those who only look for good assignments; see :func:`assign` for the parameters.
    """
    try:
        return assign(problem, selected, time_limit=time_limit)
    except UndecidedAssignmentError as undecided:
        return undecided.assignment


def top_k_assignment(problem: Problem, selected: ArrayLike) -> Assignment:
    """For each class its ``n_per_class`` most similar features among those selected.

    Optimal for the selection without distinctness and side constraints, which it may break.
    """
    chosen = _check_selection(problem, selected)
    values = problem.class_similarity[:, chosen]
    return _expand(problem, chosen, _best_set(values, problem.n_per_class))


def top_k_value(problem: Problem, selected: ArrayLike) -> float:
    """Sum over the classes of their ``n_per_class`` largest similarities among the selected.

    An upper bound on the assignment part of the objective for this selection, reached by
    :func:`assign` unless distinctness or side constraints bind.
    """
    chosen = _check_selection(problem, selected)
    values = problem.class_similarity[:, chosen]
    return math.fsum(np.take_along_axis(values, _best_set(values, problem.n_per_class), 1).flat)


def is_selection(problem: Problem, selected: ArrayLike) -> bool:
    """Whether ``selected`` holds ``n_selected`` different indices of candidate features."""
    chosen = np.unique(np.asarray(selected))
    return bool(
        np.size(selected) == chosen.size == problem.n_selected
        and np.issubdtype(chosen.dtype, np.integer)
        and chosen[0] >= 0
        and chosen[-1] < problem.n_features
        and problem.candidates[chosen].all()
    )


def _check_selection(problem: Problem, selected: ArrayLike) -> IntArray:
    if not is_selection(problem, selected):
        raise InvalidInputError(
            f"selected holds {np.size(selected)} entries, {np.unique(selected).size} of them "
            f"different; {problem.n_selected} different indices of candidate features among the "
            f"{problem.n_features} of the problem were expected."
        )
    return np.sort(np.asarray(selected, dtype=np.intp))


def _expand(problem: Problem, chosen: IntArray, rows: IntArray) -> Assignment:
    """Assignment from positions within ``chosen``, shape (n_classes, n_per_class)."""
    used = np.zeros((problem.n_classes, chosen.size), dtype=bool)
    np.put_along_axis(used, rows, True, axis=1)
    return _expand_used(problem, chosen, used)


def _expand_used(problem: Problem, chosen: IntArray, used: BoolArray) -> Assignment:
    """Assignment from W over the columns ``chosen``, shape (n_classes, n_selected)."""
    selection = np.zeros(problem.n_features, dtype=bool)
    selection[chosen] = True
    matrix = np.zeros((problem.n_classes, problem.n_features), dtype=bool)
    matrix[:, chosen] = used
    return Assignment(selection, matrix)


def _best_set(values: FloatArray, k: int) -> IntArray:
    """Columns of the k largest values of each row, ascending; of equal values the first."""
    return np.sort(np.argsort(-values, axis=1, kind="stable")[:, :k], axis=1)


def _distinct_sets(values: FloatArray, k: int, deadline: float) -> IntArray:
    """k columns for each row, no two rows alike, of maximal total value.

    Every row lists its best sets, and may besides take an imaginary set of its own worth as much as
    the best one it does not list. This relaxes the problem, so a solution without imaginary sets is
    optimal; rows that take one get a longer list.
    """
    n_rows, p = values.shape
    best = _best_set(values, k)
    _, group, size = np.unique(best, axis=0, return_inverse=True, return_counts=True)
    longest = min(n_rows, math.comb(p, k))
    # Powers of two: what _best_sets prepares for a length is of use for many rows.
    length = np.minimum(2 ** np.ceil(np.log2(size[group.ravel()])).astype(np.intp), longest)
    if (length == 1).all():
        return best
    lists = {c: best[c, None] for c in np.flatnonzero(length == 1).tolist()}
    unlisted = np.full(n_rows, -np.inf)  # value of the best set that is not listed
    stale = length > 1
    single = np.flatnonzero(~stale)
    if longest > 1:
        unlisted[single] = _best_sets(values[single], k, 2)[1][:, 1]
    while stale.any():
        for n in np.unique(length[stale]).tolist():
            _check_time(deadline)
            rows = np.flatnonzero(stale & (length == n))
            sets, worth = _best_sets(values[rows], k, min(n + 1, longest))
            lists.update(zip(rows.tolist(), sets[:, :n], strict=True))
            unlisted[rows] = worth[:, n] if n < longest else -np.inf
        taken = _match(values, lists, unlisted, deadline)
        stale = np.array([c not in taken for c in range(n_rows)])
        length[stale] = np.minimum(_GROWTH * length[stale], longest)
    return np.array([taken[c] for c in range(n_rows)])


class _LateError(Exception):
    """The time is up."""


def _check_time(deadline: float) -> None:
    if time.perf_counter() >= deadline:
        raise _LateError


def _some_distinct_sets(values: FloatArray, k: int) -> IntArray:
    """k columns for each row, no two rows alike, at once and without a claim to be the best.

    Rows whose best set is taken by one before them get the best set left of the mean row.
    """
    n_rows, p = values.shape
    rows = _best_set(values, k)
    spare, _ = _best_sets(values.mean(axis=0)[None], k, min(n_rows, math.comb(p, k)))
    spares = iter(spare[0])
    taken: set[bytes] = set()
    for row in rows:
        while row.tobytes() in taken:
            row[:] = next(spares)
        taken.add(row.tobytes())
    return rows


def _match(
    values: FloatArray, lists: dict[int, IntArray], unlisted: FloatArray, deadline: float
) -> dict[int, IntArray]:
    """Best different sets from the lists; rows that would rather take an unlisted one are missing.

    ``lists[c]`` has shape (length, k) and is in order of value; ``unlisted`` has shape (n_rows,).
    Rows that compete for no set, not even through others, are matched apart.
    """
    n_rows = len(values)
    length = np.array([len(lists[c]) for c in range(n_rows)])
    owner = np.repeat(np.arange(n_rows), length)
    sets = np.concatenate([lists[c] for c in range(n_rows)])
    first, identity = _identify(sets, values.shape[1])
    worth = values[owner[:, None], sets].sum(axis=1)
    graph = sparse.csr_array(
        (np.ones(owner.size, dtype=np.int8), (owner, n_rows + identity)),
        shape=(n_rows + first.size,) * 2,
    )
    _, component = connected_components(graph, directed=False)
    n_competing = np.bincount(component[:n_rows], minlength=component.max() + 1)
    taken = {c: lists[c][0] for c in np.flatnonzero(n_competing[component[:n_rows]] == 1).tolist()}
    for label in np.flatnonzero(n_competing > 1):
        _check_time(deadline)
        rows = np.flatnonzero(component[:n_rows] == label)
        # One of as many sets as there are rows is always left over by the other rows.
        short = np.flatnonzero(length[rows] < rows.size)
        entries = np.flatnonzero(component[owner] == label)
        columns, column = np.unique(identity[entries], return_inverse=True)
        table = np.full((rows.size, columns.size + short.size), -np.inf)
        table[np.searchsorted(rows, owner[entries]), column] = worth[entries]
        table[short, columns.size + np.arange(short.size)] = unlisted[rows[short]]
        for r, j in zip(*linear_sum_assignment(table, maximize=True), strict=True):
            if j < columns.size:
                taken[int(rows[r])] = sets[first[columns[j]]]
    return taken


def _identify(sets: IntArray, p: int) -> tuple[IntArray, IntArray]:
    """Number the different rows: first row with each number, and the number of each row.

    Several times faster than ``np.unique`` along an axis.
    """
    code = np.zeros(len(sets), dtype=np.int64)
    for column in sets.T:
        if code.max() >= np.iinfo(np.int64).max // p - 1:  # renumber before it overflows
            code = np.unique(code, return_inverse=True)[1]
        code = code * p + column
    _, first, identity = np.unique(code, return_index=True, return_inverse=True)
    return first, identity


def _best_sets(values: FloatArray, k: int, n_sets: int) -> tuple[IntArray, FloatArray]:
    """The ``n_sets`` most valuable k-sets of columns of each row, in order of value.

    Returns
    -------
    sets : ndarray of shape (n_rows, n_sets, k)
        Columns, ascending within a set.
    worth : ndarray of shape (n_rows, n_sets)
    """
    order = np.argsort(-values, axis=1, kind="stable")
    ranks = _undominated_ranks(values.shape[1], k, n_sets)
    ranked = np.take_along_axis(values, order, 1)
    worth = np.zeros((len(values), len(ranks)))
    for j in range(k):
        worth += ranked[:, ranks[:, j]]
    best = np.argpartition(-worth, n_sets - 1, axis=1)[:, :n_sets]
    by_value = np.argsort(-np.take_along_axis(worth, best, 1), axis=1, kind="stable")
    best = np.take_along_axis(best, by_value, 1)
    sets = np.sort(order[np.arange(len(values))[:, None, None], ranks[best]], axis=2)
    return sets, np.take_along_axis(worth, best, 1)


@lru_cache(maxsize=16)
def _undominated_ranks(p: int, k: int, n_sets: int) -> IntArray:
    """Sets of k ranks out of p that fewer than ``n_sets`` other sets dominate.

    A set of ranks (0 is the best) is dominated by those that are nowhere worse, whatever the
    values. The best ``n_sets`` sets of any row are among the ones returned, shape (n, k).
    """
    start = tuple(range(k))
    found, frontier = {start}, [start]
    while frontier:
        reached = []
        for ranks in frontier:
            for j in range(k):
                if ranks[j] + 1 < (ranks[j + 1] if j + 1 < k else p):
                    worse = (*ranks[:j], ranks[j] + 1, *ranks[j + 1 :])
                    if worse not in found and _n_dominating(worse) <= n_sets:
                        found.add(worse)
                        reached.append(worse)
        frontier = reached
    return np.array(sorted(found), dtype=np.intp)


def _n_dominating(ranks: tuple[int, ...]) -> int:
    """Number of increasing integer sequences from 0 that are nowhere larger than ``ranks``."""
    # ways[r]: sequences of the length so far that end with r.
    ways = [1] * (ranks[0] + 1)
    for j, last in enumerate(ranks[1:], start=1):
        total, longer = 0, [0] * (last + 1)
        for r in range(j, last + 1):
            total += ways[r - 1] if r - 1 < len(ways) else 0
            longer[r] = total
        ways = longer
    return sum(ways)


def _assign_by_program(problem: Problem, chosen: IntArray, deadline: float) -> Assignment | None:
    """Optimal assignment under all constraints by integer programming with lazy distinctness.

    Columns: W over the selected features, then for every contrastive pair the products of its rows.
    """
    values = problem.class_similarity[:, chosen]
    k, n_pairs = problem.n_per_class, len(problem.pairs)
    n_columns = values.size + n_pairs * chosen.size
    W = np.arange(values.size).reshape(values.shape)
    product = np.arange(values.size, n_columns).reshape(n_pairs, chosen.size)
    constraints = [
        _rows(W, 1, k, k, n_columns),
        _rows(W.T, 1, problem.min_classes_per_feature, problem.n_classes, n_columns),
    ]
    if n_pairs:
        first, second = W[problem.pairs[:, 0]], W[problem.pairs[:, 1]]
        both = np.stack([first.ravel(), second.ravel(), product.ravel()], axis=1)
        constraints += [
            _rows(both[:, [0, 2]], [1, -1], 0, np.inf, n_columns),
            _rows(both[:, [1, 2]], [1, -1], 0, np.inf, n_columns),
            _rows(both, [1, 1, -1], -np.inf, 1, n_columns),
            _rows(product, 1, k - 1, k - 1, n_columns),
        ]
    cost = np.zeros(n_columns)
    # HiGHS stops at an absolute gap of 1e-6 and has no smaller one here.
    cost[W] = values * (-_LARGEST_COST / (np.abs(values).max() or 1.0))
    integrality = (np.arange(n_columns) < values.size).astype(int)
    while (left := deadline - time.perf_counter()) > 0:
        outcome = milp(
            cost,
            integrality=integrality,
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": 0.0, "time_limit": left},
        )
        if outcome.status == _INFEASIBLE:
            logger.debug("no assignment of the selected features: %s", outcome.message)
            return None
        if outcome.x is None:
            raise UndecidedAssignmentError(f"Integer program of an assignment: {outcome.message}")
        used = outcome.x[W] > 0.5
        groups = equal_classes(used) if problem.distinct else []
        if not groups:
            assignment = _expand_used(problem, chosen, used)
            feasible = not problem.violations(assignment)
            if outcome.success and feasible:
                return assignment
            raise UndecidedAssignmentError(
                f"Integer program of an assignment: {outcome.message}",
                assignment if feasible else None,
            )
        pairs = [pair for group in groups for pair in combinations(group, 2)]
        columns = [np.concatenate([W[c, used[c]], W[e, used[e]]]) for c, e in pairs]
        constraints.append(_rows(np.array(columns), 1, -np.inf, 2 * k - 1, n_columns))
    raise UndecidedAssignmentError("The time is up before the integer program has an optimum.")


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
    cost = values.ravel() * (-_LARGEST_COST / (np.abs(values).max() or 1.0))
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
            return _expand_used(problem, selected, exchanged), False
        used = outcome.x.reshape(values.shape) > 0.5
    return _expand_used(problem, selected, used), True


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
