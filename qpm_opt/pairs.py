"""Contrastive pairs: classes that differ in a single feature (CHiQPM)."""

from __future__ import annotations

import math
from fractions import Fraction

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike

from qpm_opt.errors import InvalidInputError, InvalidProblemError
from qpm_opt.validation import BoolArray, IntArray

#: Products of the rows of all pairs of classes up to which a model chooses its contrastive pairs: a
#: million of them take several GiB.
MOST_PAIR_PRODUCTS = 500_000
#: Up to so many maximal cliques of pairs are looked at.
_MOST_CLIQUES = 100_000


def n_pairs_of_density(density: float, n_classes: int, *, disjoint: bool = False) -> int:
    """Number of contrastive pairs for a density rho: ``floor(rho n_classes)``.

    Raises
    ------
    InvalidInputError
        If the density is negative, not finite, or asks for more pairs than there are, or than there
        are ``disjoint`` ones, without a class in two of them.
    """
    most = n_classes // 2 if disjoint else n_classes * (n_classes - 1) // 2
    # As a decimal: 0.29 of 100 are 29.
    wanted = math.floor(Fraction(str(density)) * n_classes) if math.isfinite(density) else -1
    if not 0 <= wanted <= most:
        raise InvalidInputError(
            f"The density of contrastive pairs is {density}; {n_classes} classes have {most} "
            f"{'disjoint ' * disjoint}pairs, so a number from 0 to {most / max(n_classes, 1):g} "
            "was expected."
        )
    return wanted


def closest_class_pairs(
    class_similarity: ArrayLike, n_pairs: int, *, disjoint: bool = False
) -> IntArray:
    """The pairs of classes that are most alike, for ``contrastive_pairs`` of a problem.

    Alike means a small Euclidean distance of the rows of A, over all features (CHiQPM, section on
    contrastive pairs). Of equally distant pairs those of the first classes are taken.

    Parameters
    ----------
    class_similarity : array of shape (n_classes, n_features)
        A, at any scale.
    n_pairs : int
    disjoint : bool
        Whether a pair is passed over if a closer one has one of its classes, so that ``2 n_pairs``
        classes have a partner. Else, as published, a class may be in many pairs, or in none.

    Returns
    -------
    ndarray of shape (n_pairs, 2), int
        Each pair ascending, in lexicographic order.

    Raises
    ------
    InvalidInputError
        If there are not so many pairs.
    """
    A = np.asarray(class_similarity, dtype=np.float64)
    first, second = np.triu_indices(len(A), 1)
    most = len(A) // 2 if disjoint else first.size
    if not 0 <= n_pairs <= most:
        raise InvalidInputError(
            f"n_pairs is {n_pairs}; {len(A)} classes have {most} {'disjoint ' * disjoint}pairs, so "
            "a number from 0 to that was expected."
        )
    # Not by products of rows, whose rounding would order equal rows by chance.
    distance = np.concatenate(
        [np.linalg.norm(A[c + 1 :] - A[c], axis=1) for c in range(len(A))] or [np.empty(0)]
    )
    closest = np.argsort(distance, kind="stable")
    pairs = np.stack([first[closest], second[closest]], axis=1).astype(np.intp)
    pairs = _without_common_classes(pairs, len(A))[:n_pairs] if disjoint else pairs[:n_pairs]
    return pairs[np.lexsort(pairs.T[::-1])]


def _without_common_classes(pairs: IntArray, n_classes: int) -> IntArray:
    """The pairs whose classes are in none of those before that are kept."""
    taken = np.zeros(n_classes, dtype=np.bool_)
    kept = []
    for place, (first, second) in enumerate(pairs.tolist()):
        if not taken[first] and not taken[second]:
            taken[[first, second]] = True
            kept.append(place)
    return pairs[kept]


def contrastive_pairs_of(matrix: BoolArray) -> IntArray:
    """Pairs of classes that have equally many features and share all but one of them.

    Parameters
    ----------
    matrix : ndarray of shape (n_classes, n_features), bool
        W.

    Returns
    -------
    ndarray of shape (n_pairs, 2), int
    """
    W = matrix.astype(np.float64)
    size = W.sum(axis=1)
    alike = (size[:, None] == size) & (W @ W.T == size - 1.0) & (size > 0.0)
    return np.argwhere(np.triu(alike, 1)).astype(np.intp)


def check_pairs(
    pairs: IntArray, n_selected: int, n_per_class: int, *, distinct: bool, n_classes: int
) -> None:
    """Refuse pairs that no assignment can meet, where that shows without a search.

    Sets of k out of p features that differ in one form a Johnson graph: a set has k (p - k)
    neighbours, and at most max(k, p - k) + 1 sets are all neighbours of each other.

    Raises
    ------
    InvalidProblemError
        Naming a class in too many pairs, or too many classes that are all paired.
    """
    if not len(pairs):
        return
    p, k = n_selected, n_per_class
    if k == p:
        raise InvalidProblemError(
            "contrastive_pairs need n_per_class < n_selected: with both equal, all classes "
            "have the same features."
        )
    degree = np.bincount(pairs.ravel(), minlength=n_classes)
    most = k * (p - k)
    if distinct and degree.max() > most:
        c = int(degree.argmax())
        raise InvalidProblemError(
            f"Class {c} is in {degree[c]} contrastive pairs, but only {most} sets of {k} out of "
            f"{p} features differ from its own in one; take it out of some pairs or raise "
            "n_selected."
        )
    graph = nx.Graph(pairs.tolist())
    largest = max(k, p - k) + 1
    for _, clique in zip(range(_MOST_CLIQUES), nx.find_cliques(graph), strict=False):
        if len(clique) > largest:
            named = ", ".join(map(str, sorted(clique)[: largest + 1]))
            raise InvalidProblemError(
                f"Classes {named} are all paired with each other, but at most {largest} sets of "
                f"{k} out of {p} features all differ in one; take some pairs out or raise "
                "n_selected."
            )


def can_choose_pairs(n_classes: int, n_features: int) -> bool:
    """Whether a model of so many candidates can choose which pairs are contrastive."""
    return n_classes * (n_classes - 1) // 2 * n_features <= MOST_PAIR_PRODUCTS


def check_least_pairs(least: int, n_classes: int, n_selected: int, n_per_class: int) -> None:
    """Refuse a number of contrastive pairs that there cannot be.

    At most max(k, p - k) + 1 sets are all neighbours of each other (see :func:`check_pairs`), so by
    Turan's theorem n sets have at most (1 - 1 / that) n^2 / 2 pairs of neighbours.

    Raises
    ------
    InvalidProblemError
    """
    if least and n_per_class == n_selected:
        raise InvalidProblemError(
            f"min_contrastive_pairs is {least}, but with n_per_class = n_selected all classes have "
            "the same features; lower it."
        )
    clique = max(n_per_class, n_selected - n_per_class) + 1
    most = min(
        n_classes * (n_classes - 1) // 2, (clique - 1) * n_classes * n_classes // (2 * clique)
    )
    if least > most:
        raise InvalidProblemError(
            f"min_contrastive_pairs is {least}, but {n_classes} classes with {n_per_class} of "
            f"{n_selected} features have at most {most} such pairs; lower it."
        )
