"""k columns for each row, no two rows alike: a linear assignment of rows to different sets."""

from __future__ import annotations

import math
import time
from functools import lru_cache

import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components

from qpm_opt.validation import FloatArray, IntArray

#: Factor by which a list of sets that proved too short is lengthened.
_GROWTH = 8


def best_set(values: FloatArray, k: int) -> IntArray:
    """Columns of the k largest values of each row, ascending; of equal values the first."""
    return np.sort(np.argsort(-values, axis=1, kind="stable")[:, :k], axis=1)


def distinct_sets(values: FloatArray, k: int, deadline: float) -> IntArray:
    """k columns for each row, no two rows alike, of maximal total value.

    Every row lists its best sets, and may besides take an imaginary set of its own worth as much as
    the best one it does not list. This relaxes the problem, so a solution without imaginary sets is
    optimal; rows that take one get a longer list.
    """
    n_rows, p = values.shape
    best = best_set(values, k)
    _, group, size = np.unique(best, axis=0, return_inverse=True, return_counts=True)
    longest = min(n_rows, math.comb(p, k))
    # Powers of two: what best_sets prepares for a length is of use for many rows.
    length = np.minimum(2 ** np.ceil(np.log2(size[group.ravel()])).astype(np.intp), longest)
    if (length == 1).all():
        return best
    lists = {c: best[c, None] for c in np.flatnonzero(length == 1).tolist()}
    unlisted = np.full(n_rows, -np.inf)  # value of the best set that is not listed
    stale = length > 1
    single = np.flatnonzero(~stale)
    if longest > 1:
        unlisted[single] = best_sets(values[single], k, 2)[1][:, 1]
    while stale.any():
        for n in np.unique(length[stale]).tolist():
            _check_time(deadline)
            rows = np.flatnonzero(stale & (length == n))
            sets, worth = best_sets(values[rows], k, min(n + 1, longest))
            lists.update(zip(rows.tolist(), sets[:, :n], strict=True))
            unlisted[rows] = worth[:, n] if n < longest else -np.inf
        taken = _match(values, lists, unlisted, deadline)
        stale = np.array([c not in taken for c in range(n_rows)])
        length[stale] = np.minimum(_GROWTH * length[stale], longest)
    return np.array([taken[c] for c in range(n_rows)])


class LateError(Exception):
    """The time is up."""


def _check_time(deadline: float) -> None:
    if time.perf_counter() >= deadline:
        raise LateError


def some_distinct_sets(values: FloatArray, k: int) -> IntArray:
    """k columns for each row, no two rows alike, at once and without a claim to be the best.

    Rows whose best set is taken by one before them get the best set left of the mean row.
    """
    n_rows, p = values.shape
    rows = best_set(values, k)
    spare, _ = best_sets(values.mean(axis=0)[None], k, min(n_rows, math.comb(p, k)))
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


def best_sets(values: FloatArray, k: int, n_sets: int) -> tuple[IntArray, FloatArray]:
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
