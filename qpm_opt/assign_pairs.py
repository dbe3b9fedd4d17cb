"""Assignments of selected features under side constraints: contrastive pairs, uses of features.

Pairs couple classes, but only those that pairs connect: every group of connected classes is a small
integer program of its own, two classes alone have a closed form, and groups whose classes turn out
equal are solved again together.
"""

from __future__ import annotations

import time

import networkx as nx
import numpy as np

from qpm_opt.assign_distinct import LateError, best_set, distinct_sets
from qpm_opt.assign_program import UndecidedProgramError, best_sets_of_program
from qpm_opt.assignment import Assignment, UndecidedAssignmentError, equal_classes, expand
from qpm_opt.pair_sets import best_pair_sets
from qpm_opt.pairs import contrastive_pairs_of
from qpm_opt.problem import Problem
from qpm_opt.validation import BoolArray, FloatArray, IntArray

#: The program that chooses its contrastive pairs itself is solved up to so many products; beyond
#: that local search has to do.
MOST_PRODUCTS = 500
#: Changes of a class that are compared at a time, those of least loss.
N_CHANGES = 1024
#: Relative to the largest similarity; smaller gains are rounding.
_TOLERANCE = 1e-9


def assign_constrained(problem: Problem, chosen: IntArray, deadline: float) -> Assignment | None:
    """Optimal assignment under side constraints.

    Parameters
    ----------
    problem : Problem
    chosen : ndarray of shape (n_selected,), int
        Selected features, ascending.
    deadline : float
        Of ``time.perf_counter``.

    Returns
    -------
    Assignment or None
        None if it is proved that there is none.

    Raises
    ------
    UndecidedAssignmentError
        If there is no proof in time, or if it is to be chosen which of many pairs are contrastive:
        then the error holds an assignment that local search found.
    """
    values = problem.class_similarity[:, chosen]
    least_pairs, n_classes = problem.min_contrastive_pairs, problem.n_classes
    n_products = n_classes * (n_classes - 1) // 2 * chosen.size
    used: BoolArray | None
    try:
        if problem.min_classes_per_feature or (least_pairs and n_products <= MOST_PRODUCTS):
            used = best_sets_of_program(
                values,
                problem.n_per_class,
                pairs=problem.pairs,
                distinct=problem.distinct,
                least_uses=problem.min_classes_per_feature,
                least_pairs=least_pairs,
                deadline=deadline,
            )
        else:
            used = _by_groups(problem, values, deadline)
    except UndecidedProgramError as undecided:
        used = undecided.used
        raise UndecidedAssignmentError(
            str(undecided), None if used is None else _feasible(problem, chosen, used)
        ) from None
    if used is None:
        return None
    if (lack := least_pairs - len(contrastive_pairs_of(used))) <= 0:
        assignment = _feasible(problem, chosen, used)
        if assignment is None:
            raise UndecidedAssignmentError("The integer program of an assignment ended with none.")
        return assignment
    raise UndecidedAssignmentError(
        f"{lack} more contrastive pairs are demanded than the best assignment has; how they are "
        f"had at the least cost is not known for {n_classes} classes.",
        _feasible(problem, chosen, with_pairs(problem, values, used)),
    )


def _feasible(problem: Problem, chosen: IntArray, used: BoolArray) -> Assignment | None:
    """W as an assignment, if that breaks nothing."""
    assignment = expand(problem, chosen, used)
    return None if problem.violations(assignment) else assignment


def _by_groups(problem: Problem, values: FloatArray, deadline: float) -> BoolArray | None:
    """Best W that keeps the contrastive pairs; None if there is none.

    Groups of classes that pairs connect are solved as if there were no other classes, and the
    classes without a pair together, by linear assignment. Where classes of different groups are
    then equal, these groups are one; when none are, the relaxation is solved.
    """
    n_classes = problem.n_classes
    links = problem.pairs
    group = _groups(links, n_classes)
    stale = set(group[links.ravel()].tolist())
    used = np.zeros(values.shape, dtype=bool)
    late: dict[bytes, str] = {}  # groups that are not known to be at their best
    while True:
        # Small groups first, which leave time to the large ones.
        for i, g in enumerate(sorted(stale, key=lambda g: int((group == g).sum()))):
            rows = np.flatnonzero(group == g)
            pairs = problem.pairs[group[problem.pairs[:, 0]] == g]
            now = time.perf_counter()
            share = now + (deadline - now) / (len(stale) - i)
            found, message = _one_group(problem, values[rows], np.searchsorted(rows, pairs), share)
            if found is None:
                return None
            used[rows] = found
            if message:
                late[rows.tobytes()] = message
        alone = np.setdiff1d(np.arange(n_classes), links)
        if alone.size:
            used[alone] = _alone(problem, values[alone], deadline)
        equal = equal_classes(used) if problem.distinct else []
        if not equal:
            break
        links = np.concatenate([links, [(g[0], c) for g in equal for c in g[1:]]])
        group = _groups(links, n_classes)
        stale = {int(group[g[0]]) for g in equal}
    for g in np.unique(group):
        rows = np.flatnonzero(group == g)
        if rows.tobytes() in late:
            raise UndecidedProgramError(late[rows.tobytes()], used)
    return used


def _alone(problem: Problem, values: FloatArray, deadline: float) -> BoolArray:
    """Best W of classes without a pair."""
    k, used = problem.n_per_class, np.zeros(values.shape, dtype=bool)
    try:
        rows = distinct_sets(values, k, deadline) if problem.distinct else best_set(values, k)
    except LateError:
        raise UndecidedProgramError("The time is up before all classes differ.") from None
    np.put_along_axis(used, rows, True, axis=1)
    return used


def _one_group(
    problem: Problem, values: FloatArray, pairs: IntArray, deadline: float
) -> tuple[BoolArray | None, str]:
    """Best W of a group, or any with the reason why it may not be the best; None if none is."""
    if len(values) == 2 and len(pairs) == 1:
        return _two_rows(values, problem.n_per_class), ""
    try:
        used = best_sets_of_program(
            values, problem.n_per_class, pairs=pairs, distinct=problem.distinct, deadline=deadline
        )
    except UndecidedProgramError as undecided:
        used = undecided.used
        if used is None:
            used = some_group(values, pairs, problem)
        if used is None:
            raise
        return used, str(undecided)
    return used, ""


def some_group(values: FloatArray, pairs: IntArray, problem: Problem) -> BoolArray | None:
    """Rows that keep the pairs, found class by class; None if that ends without.

    The class with the most pairs begins with its best set; every next one takes its best among the
    sets beside that of a paired class that are beside all of them. Then every class in turn takes
    the best set that its pairs allow, until none changes.
    """
    k, (n_rows, p) = problem.n_per_class, values.shape
    graph = nx.empty_graph(n_rows)
    graph.add_edges_from(pairs.tolist())
    used = np.zeros((n_rows, p), dtype=bool)
    placed: list[int] = []

    def best_row(c: int) -> BoolArray | None:
        partners = [e for e in graph[c] if e in placed]
        if not partners:
            row = np.zeros(p, dtype=bool)
            row[np.argsort(-values[c], kind="stable")[:k]] = True
            return row
        base = used[partners[0]]
        inside, outside = np.flatnonzero(base), np.flatnonzero(~base)
        rows = np.repeat(base[None], inside.size * outside.size, axis=0)
        every = np.arange(len(rows))
        rows[every, np.repeat(inside, outside.size)] = False
        rows[every, np.tile(outside, inside.size)] = True
        fits = ((rows.astype(int) @ used[partners].T) == k - 1).all(axis=1)
        others = [e for e in placed if e != c]
        if problem.distinct and others:
            fits &= ((rows.astype(int) @ used[others].T) < k).all(axis=1)
        if not fits.any():
            return None
        best: BoolArray = rows[np.argmax(np.where(fits, rows @ values[c], -np.inf))]
        return best

    start = max(graph, key=graph.degree)
    for c in (start, *(c for _, c in nx.bfs_edges(graph, start))):
        row = best_row(c)
        if row is None:
            return None
        used[c] = row
        placed.append(c)
    if len(placed) < n_rows:  # joined for their equal sets alone, not by pairs
        return None
    changed = True
    while changed:
        changed = False
        for c in range(n_rows):
            row = best_row(c)
            gain = 0.0 if row is None else float(values[c] @ row - values[c] @ used[c])
            if row is not None and gain > _TOLERANCE * np.abs(values).max():
                used[c], changed = row, True
    return used


def _groups(pairs: IntArray, n_classes: int) -> IntArray:
    """The number of the group of every class: classes that pairs connect."""
    graph = nx.empty_graph(n_classes)
    graph.add_edges_from(pairs.tolist())
    group = np.empty(n_classes, dtype=np.intp)
    for number, members in enumerate(nx.connected_components(graph)):
        group[list(members)] = number
    return group


def _two_rows(values: FloatArray, k: int) -> BoolArray:
    """Best rows of two classes that share k - 1 columns."""
    best = best_pair_sets(values[:1], values[1:], k)
    used = np.zeros(values.shape, dtype=bool)
    used[:, best.shared[0]] = True
    used[0, best.only_first[0]] = used[1, best.only_second[0]] = True
    return used


def with_pairs(problem: Problem, values: FloatArray, used: BoolArray) -> BoolArray:
    """W changed class by class until enough pairs share k - 1 columns, at little loss.

    Local search: among the changes that put a class beside another, the one that loses least for
    each pair won; then changes that win value, as long as pairs enough are left. Classes in listed
    pairs stay as they are. It may end short of the pairs demanded.

    Parameters
    ----------
    problem : Problem
    values : ndarray of shape (n_classes, n_selected)
    used : ndarray of shape (n_classes, n_selected), bool
        W without enough pairs.
    """
    least, tolerance = problem.min_contrastive_pairs, _TOLERANCE * np.abs(values).max(initial=0.0)
    changes = _Changes(values, used, np.setdiff1d(np.arange(len(used)), problem.pairs))
    n_changes = N_CHANGES
    while True:
        used = changes.used
        n_pairs = len(contrastive_pairs_of(used))
        c, rows, loss = changes.cheapest(n_changes, distinct=problem.distinct)
        won = _n_partners(rows, used, c) - _n_partners(used[c], used, c)
        if n_pairs < least:
            rate = np.where(won > 0, loss / np.clip(won, 1, least - n_pairs), np.inf)
        else:
            rate = np.where((loss < -tolerance) & (n_pairs + won >= least), loss, np.inf)
        if np.isfinite(rate.min(initial=np.inf)):
            best = int(np.argmin(rate))
            changes.apply(int(c[best]), rows[best])
            n_changes = N_CHANGES
        elif n_pairs < least and n_changes < changes.n:
            n_changes *= 8
        else:
            return used


class _Changes:
    """Changes of one class each: sets that differ in one column from that of another class.

    Of the columns of the other class one of the two worst goes, one of the two best comes; all as
    the class that changes values them.

    Parameters
    ----------
    values : ndarray of shape (n_classes, n_selected)
    used : ndarray of shape (n_classes, n_selected), bool
        W, with equally many columns for all classes.
    movable : ndarray of int
        Classes that may change.
    """

    def __init__(self, values: FloatArray, used: BoolArray, movable: IntArray) -> None:
        self.used = used.copy()
        self._values, self._movable = values[movable], movable
        n_classes, p = used.shape
        k = int(used[0].sum())
        self._n_in, self._n_out = min(2, k), min(2, p - k)
        # Sets are told apart by the sum of their codes, exact in float64.
        codes = np.random.default_rng(0).integers(2**40, size=(p,))
        self._codes = codes.astype(np.float64)
        shape = (len(movable), n_classes)
        self._going = np.zeros((*shape, self._n_in), dtype=np.intp)
        self._coming = np.zeros((*shape, self._n_out), dtype=np.intp)
        self._base = np.zeros(shape)
        for e in range(n_classes):
            self._look_at(e)

    def _look_at(self, e: int) -> None:
        """Note what goes and comes in the columns of class e."""
        mine, worth = self.used[e], self._values
        inside, outside = np.flatnonzero(mine), np.flatnonzero(~mine)
        self._base[:, e] = worth[:, mine].sum(axis=1)
        worst = np.argsort(worth[:, inside], axis=1, kind="stable")[:, : self._n_in]
        best = np.argsort(-worth[:, outside], axis=1, kind="stable")[:, : self._n_out]
        self._going[:, e], self._coming[:, e] = inside[worst], outside[best]

    @property
    def n(self) -> int:
        """Number of changes."""
        return int(self._going.size * self._n_out)

    def apply(self, c: int, row: BoolArray) -> None:
        """Give class c another row."""
        self.used[c] = row
        self._look_at(c)

    def cheapest(self, n: int, *, distinct: bool) -> tuple[IntArray, BoolArray, FloatArray]:
        """The n changes of least loss: classes, new rows, (n, n_selected), and loss."""
        own = np.arange(len(self._movable))
        going = np.take_along_axis(self._values[:, None, :], self._going, 2)
        coming = np.take_along_axis(self._values[:, None, :], self._coming, 2)
        now = self._base[own, self._movable, None]
        loss = (now - self._base)[:, :, None, None]
        loss = loss + going[:, :, :, None] - coming[:, :, None, :]
        loss[own, self._movable] = np.inf
        flat = loss.ravel()
        least = np.argpartition(flat, min(n, flat.size) - 1)[:n] if own.size else own
        least = least[np.isfinite(flat[least])]
        m, e, i, j = np.unravel_index(least, loss.shape)
        out, into = self._going[m, e, i], self._coming[m, e, j]
        if distinct:
            held = self.used @ self._codes
            new = ~np.isin(held[e] - self._codes[out] + self._codes[into], held)
            least, m, e, out, into = (part[new] for part in (least, m, e, out, into))
        rows = self.used[e]
        rows[np.arange(len(e)), out] = False
        rows[np.arange(len(e)), into] = True
        return self._movable[m], rows, flat[least]


def _n_partners(rows: BoolArray, used: BoolArray, own: IntArray) -> IntArray:
    """With how many rows of W, but that of its own class, each row shares all columns but one."""
    shared = rows.astype(np.float32) @ used.T.astype(np.float32)
    shared[np.arange(len(rows)), own] = -1.0
    partners: IntArray = (shared == rows.sum(axis=1, keepdims=True) - 1).sum(axis=1)
    return partners
