"""The smallest similarity threshold that ``n_selected`` features can all stay below.

Features whose pairwise similarity is below the threshold are a clique of the graph of eq. 11, so
the threshold is found by a search over the distinct similarities with a clique search inside. The
two clique searches, one heuristic and one exact, are of use on their own.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qpm_opt.errors import InvalidInputError
from qpm_opt.validation import BoolArray, FloatArray, IntArray

_PHASES = ("random",) * 50 + ("penalty",) * 50 + ("degree",) * 100  # one entry a round
_PENALTY_DELAY = 2  # rounds of the penalty phase after which penalties fade by one
_STEPS_PER_VERTEX = 10  # of a search whose failure only means: try elsewhere


class EpsilonTuning(NamedTuple):
    """A threshold and features that are pairwise below it.

    ``epsilon`` is an entry of the similarity, or inf if no pair has to be penalised; ``clique``
    holds ``n_selected`` feature indices, ascending; ``proved`` says that no smaller entry works.
    """

    epsilon: float
    clique: IntArray
    proved: bool


class CliqueSearch(NamedTuple):
    """The largest clique found, ascending, and whether the question asked is settled by proof."""

    clique: IntArray
    proved: bool


def tune_epsilon(
    similarity: ArrayLike,
    n_selected: int,
    *,
    candidate: BoolArray | None = None,
    seed: int = 0,
    exact: bool = False,
    time_limit: float | None = None,
) -> EpsilonTuning:
    """Smallest threshold found for which ``n_selected`` features are pairwise below it.

    Bisection over the distinct similarities with :func:`max_clique_heuristic`. A pair is allowed
    if its similarity is < epsilon (eq. 11); the paper's wording, "the highest" such epsilon, is
    reversed: the higher it is, the more pairs are allowed.

    Parameters
    ----------
    similarity : array of shape (n_features, n_features)
        R, symmetric; the diagonal is not looked at.
    n_selected : int
        p, from 1 to the number of candidates.
    candidate : ndarray of shape (n_features,), bool, optional
        Features that may be selected; all by default.
    seed : int
        Without a time limit the result depends on nothing else.
    exact : bool
        Whether to go on with :func:`max_clique_exact` until the threshold is proved the smallest.
    time_limit : float, optional
        Seconds for everything; None is no limit.

    Raises
    ------
    InvalidInputError
        If the shapes do not fit or ``n_selected`` is not in its range.

    References
    ----------
    Norrenbrock et al., ICLR 2025, section 4.1.1.
    """
    deadline = math.inf if time_limit is None else time.perf_counter() + time_limit
    R, features = _candidate_similarity(similarity, n_selected, candidate)
    # Level i allows the pairs up to levels[i]; -inf allows none, which is enough for one feature.
    pairs = R[np.triu_indices(len(R), 1)]
    levels = np.concatenate([[-math.inf], np.unique(pairs), [math.inf]])
    np.fill_diagonal(R, -math.inf)
    clique = np.arange(n_selected)

    def level_of(clique: IntArray) -> int:
        return int(np.searchsorted(levels, R[np.ix_(clique, clique)].max()))

    def remaining() -> float:
        return deadline - time.perf_counter()

    low, high = 0, level_of(clique)
    while low < high and remaining() > 0.0:
        middle = (low + high) // 2
        found = max_clique_heuristic(
            R <= levels[middle],
            target=n_selected,
            start=clique,
            seed=seed,
            n_steps=_STEPS_PER_VERTEX * len(R),
            time_limit=remaining(),
        )
        if found.size >= n_selected:
            clique = found
            high = level_of(clique)
        else:
            low = middle + 1
    proved = high <= 1  # level 0 is enough for one feature only
    while exact and not proved and remaining() > 0.0:
        found, proved = max_clique_exact(
            R <= levels[high - 1], target=n_selected, time_limit=remaining()
        )
        if found.size < n_selected:
            break
        clique = found
        high = level_of(clique)
        proved = high <= 1
    return EpsilonTuning(float(levels[high + 1]), features[clique], proved)


def max_clique_heuristic(
    adjacency: BoolArray,
    *,
    target: int | None = None,
    start: ArrayLike | None = None,
    seed: int = 0,
    n_steps: int = 1_000_000,
    time_limit: float | None = None,
) -> IntArray:
    """Large clique of a graph by local search, vertices ascending.

    Greedy additions, swaps of one vertex where nothing can be added, and restarts, in phases that
    prefer random vertices, rarely used ones and those of high degree: the phased local search of
    Pullan (Journal of Heuristics 12, 2006), with penalties that fade at a fixed rate.

    Parameters
    ----------
    adjacency : ndarray of shape (n_vertices, n_vertices), bool
        Symmetric; the diagonal is not looked at.
    target : int, optional
        Stop at a clique of this size; the result then has exactly ``target`` vertices or fewer.
    start : array of int, optional
        Vertices to start from; those that fit together are kept.
    seed : int
        Without a time limit the result depends on nothing else.
    n_steps : int
        Additions and swaps after which to stop.
    time_limit : float, optional
        Seconds; None is no limit.

    Raises
    ------
    InvalidInputError
        If ``adjacency`` is not boolean, square and symmetric.
    """
    deadline = math.inf if time_limit is None else time.perf_counter() + time_limit
    adjacency = _checked(adjacency)
    n_vertices = len(adjacency)
    target = n_vertices if target is None else min(target, n_vertices)
    if target <= 0:
        return np.empty(0, dtype=np.intp)
    search = _LocalSearch(adjacency, random.Random(seed))
    for v in [] if start is None else np.asarray(start).tolist():
        if search.missing[v] == 0:
            search.add(v)
    degree = adjacency.sum(axis=1)
    penalty = np.zeros(n_vertices)
    best: list[int] = []
    n_penalised = 0
    for phase in itertools.cycle(_PHASES):
        search.improve({"random": None, "penalty": penalty, "degree": -degree}[phase])
        if len(search.clique) > len(best):
            best = search.clique.copy()
        if len(best) >= target or search.n_steps >= n_steps or time.perf_counter() > deadline:
            break
        if phase == "penalty":
            penalty[search.clique] += 1.0
            n_penalised += 1
            if n_penalised % _PENALTY_DELAY == 0:
                np.maximum(penalty - 1.0, 0.0, out=penalty)
            search.restart()
        else:
            search.perturb()
    return np.sort(np.array(best[:target], dtype=np.intp))


def max_clique_exact(
    adjacency: BoolArray, *, target: int | None = None, time_limit: float | None = None
) -> CliqueSearch:
    """Largest clique of a graph by branch and bound, vertices ascending.

    Bounds by greedy colouring with recolouring over bit sets, vertices in degeneracy order.

    Parameters
    ----------
    adjacency : ndarray of shape (n_vertices, n_vertices), bool
        Symmetric; the diagonal is not looked at.
    target : int, optional
        Only decide whether there is a clique of this size.
    time_limit : float, optional
        Seconds; None is no limit.

    Returns
    -------
    CliqueSearch
        ``proved``: the clique is a largest one or, with a target, it has that size or none has.

    Raises
    ------
    InvalidInputError
        If ``adjacency`` is not boolean, square and symmetric.

    References
    ----------
    Tomita et al., A simple and faster branch-and-bound algorithm for finding a maximum clique,
    WALCOM 2010; San Segundo et al., An improved bit parallel exact maximum clique algorithm,
    Optimization Letters 7, 2013.
    """
    deadline = math.inf if time_limit is None else time.perf_counter() + time_limit
    adjacency = _checked(adjacency)
    n_steps = _STEPS_PER_VERTEX * len(adjacency)
    clique = max_clique_heuristic(adjacency, target=target, n_steps=n_steps, time_limit=time_limit)
    goal = len(adjacency) if target is None else target
    if clique.size >= goal:
        return CliqueSearch(clique, proved=True)
    order = _degeneracy_order(adjacency)
    neighbours = _bit_sets(adjacency[np.ix_(order, order)])
    # With a target, smaller cliques are of no interest: what cannot reach it is cut off.
    size_to_beat = clique.size if target is None else target - 1
    members: list[int] = []
    vertices = (1 << len(order)) - 1
    stack = [(vertices, _coloured(vertices, neighbours, size_to_beat))]
    while stack:
        vertices, branches = stack[-1]
        if not branches or len(members) + branches[-1][1] <= size_to_beat:
            stack.pop()
            if stack:
                members.pop()
            continue
        if time.perf_counter() > deadline:
            return CliqueSearch(clique, proved=False)
        v, _ = branches.pop()
        stack[-1] = (vertices ^ (1 << v), branches)
        members.append(v)
        vertices &= neighbours[v]
        if not vertices and len(members) > size_to_beat:
            size_to_beat = len(members)
            clique = np.sort(order[members])
            if size_to_beat >= goal:
                break
        stack.append((vertices, _coloured(vertices, neighbours, size_to_beat - len(members))))
    return CliqueSearch(clique, proved=True)


class _LocalSearch:
    """A clique, and for every vertex the number of members that it is not linked to."""

    def __init__(self, adjacency: BoolArray, rng: random.Random) -> None:
        n_vertices = len(adjacency)
        # On the diagonal, a number that puts members out of reach of additions and swaps.
        member = np.int16(2**14) if n_vertices < 2**14 else np.int32(2**30)
        self.unlinked = (~adjacency).astype(member.dtype)
        np.fill_diagonal(self.unlinked, member)
        self.missing = np.zeros(n_vertices, dtype=member.dtype)
        self.clique: list[int] = []
        self.n_steps = 0
        self._random = rng.random
        self._member = member

    def add(self, v: int) -> None:
        self.clique.append(v)
        self.missing += self.unlinked[v]
        self.n_steps += 1

    def drop(self, members: list[int]) -> None:
        for v in members:
            self.clique.remove(v)
            self.missing -= self.unlinked[v]

    def swap_in(self, v: int) -> None:
        row = self.unlinked[v]
        self.drop([u for u in self.clique if row[u]])
        self.add(v)

    def pick(self, vertices: IntArray, score: NDArray[Any] | None) -> int:
        """A random one of the vertices of lowest score."""
        if score is not None:
            scores = score[vertices]
            vertices = vertices[scores == scores.min()]
        return int(vertices[int(self._random() * vertices.size)])

    def improve(self, score: NDArray[Any] | None) -> None:
        """Add while possible, else swap, until no member is left of the last maximal clique.

        No vertex enters twice, so this ends; the clique never gets smaller.
        """
        used = np.zeros(self.missing.size, dtype=bool)
        plateau: frozenset[int] = frozenset()
        while True:
            vertices = np.flatnonzero((self.missing == 0) & ~used)
            if vertices.size:
                plateau = frozenset()
            else:
                plateau = plateau or frozenset(self.clique)
                vertices = np.flatnonzero((self.missing == 1) & ~used)
                if not vertices.size or plateau.isdisjoint(self.clique):
                    return
            v = self.pick(vertices, score)
            self.swap_in(v)
            used[v] = True

    def perturb(self) -> None:
        """Put a random vertex in, and the members that it is not linked to out."""
        self.swap_in(self.pick(np.flatnonzero(self.missing < self._member), None))

    def restart(self) -> None:
        """Keep only the member that came last."""
        self.drop(self.clique[:-1])


def _coloured(vertices: int, neighbours: list[int], n_free: int) -> list[tuple[int, int]]:
    """Vertices to branch on with their bounds, ascending; the last is to be branched on first.

    A greedy colouring of the bit set ``vertices``. No clique among the vertices of the first
    ``n_free`` colours has more than ``n_free`` members, so these are left out, and a vertex of a
    later colour is moved into one of these where that is possible directly or by moving one other
    vertex (Tomita's Re-NUMBER).
    """
    branches: list[tuple[int, int]] = []
    free_classes: list[int] = []
    n_colours = 0
    while vertices:
        n_colours += 1
        colour, rest = 0, vertices
        while rest:
            bit = rest & -rest
            v = bit.bit_length() - 1
            rest ^= bit
            vertices ^= bit
            if n_colours > n_free:
                if _recolour(v, bit, free_classes, neighbours):
                    continue
                branches.append((v, n_colours))
            colour |= bit
            rest &= ~neighbours[v]
        if n_colours <= n_free:
            free_classes.append(colour)
    return branches


def _recolour(v: int, bit: int, classes: list[int], neighbours: list[int]) -> bool:
    """Put ``v`` into one of the colour classes, moving at most one other vertex, if possible."""
    linked = neighbours[v]
    for i, colour in enumerate(classes):
        conflict = colour & linked
        if not conflict:
            classes[i] |= bit
            return True
        if conflict & (conflict - 1):
            continue
        other = neighbours[conflict.bit_length() - 1]
        for j in range(i + 1, len(classes)):
            if not classes[j] & other:
                classes[j] |= conflict
                classes[i] ^= conflict | bit
                return True
    return False


def _degeneracy_order(adjacency: BoolArray) -> IntArray:
    """Vertices so that each has the lowest degree among itself and those before it."""
    degree = adjacency.sum(axis=1)
    order = np.empty(len(adjacency), dtype=np.intp)
    for i in reversed(range(len(adjacency))):
        v = int(degree.argmin())
        order[i] = v
        degree -= adjacency[v]
        degree[v] = np.iinfo(degree.dtype).max // 2
    return order


def _bit_sets(rows: BoolArray) -> list[int]:
    """Every row as an integer whose bit i is entry i."""
    packed = np.packbits(rows, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


def _checked(adjacency: BoolArray) -> BoolArray:
    """A copy of the adjacency matrix without loops."""
    matrix = np.array(adjacency)
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    if matrix.dtype != bool or not square or (matrix != matrix.T).any():
        raise InvalidInputError(
            f"adjacency is {matrix.dtype} of shape {matrix.shape}; a symmetric boolean matrix was "
            "expected."
        )
    np.fill_diagonal(matrix, False)
    return matrix


def _candidate_similarity(
    similarity: ArrayLike, n_selected: int, candidate: BoolArray | None
) -> tuple[FloatArray, IntArray]:
    """The similarity of the candidates, a copy, and their indices."""
    R = np.asarray(similarity, dtype=np.float64)
    if R.ndim != 2 or R.shape[0] != R.shape[1] or not (R == R.T).all():  # NaN equals nothing
        raise InvalidInputError(
            f"similarity has shape {R.shape} and {np.isnan(R).sum()} NaN; a symmetric matrix "
            "without NaN was expected."
        )
    if candidate is not None and np.shape(candidate) != R.shape[:1]:
        raise InvalidInputError(
            f"candidate has shape {np.shape(candidate)}; {R.shape[:1]} was expected."
        )
    features = np.arange(len(R)) if candidate is None else np.flatnonzero(candidate)
    if not 1 <= n_selected <= features.size:
        raise InvalidInputError(
            f"n_selected is {n_selected}; a number from 1 to {features.size}, the number of "
            "candidate features, was expected."
        )
    return R[np.ix_(features, features)], features
