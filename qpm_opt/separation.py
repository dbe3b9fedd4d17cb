"""From a point to the valid inequalities it breaks, in the problem's own variables.

Every cut holds for every feasible assignment of the whole problem: none is restricted to features
or classes seen so far, so a bound stays a bound however many of them a model has.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from qpm_opt.assignment import equal_classes
from qpm_opt.problem import Problem
from qpm_opt.validation import BoolArray, FloatArray, IntArray

#: Groups of equal classes up to this size also get the cut of each of their pairs.
PAIRWISE_LIMIT = 12

# Where k units are complete; sums of fractions are not exact.
_FILL_TOLERANCE = 1e-9


class CutKind(enum.StrEnum):
    """What a cut says."""

    THRESHOLD = "threshold"
    """A class gains no more than its best features in the selection."""
    DISTINCTNESS = "distinctness"
    """At most one class of a group has a given set of features."""
    ASSIGNMENT_VALUE = "assignment_value"
    """At this selection the classes gain no more than its exact assignment."""
    INFEASIBLE_SELECTION = "infeasible_selection"
    """This selection has no feasible assignment."""


def _no_indices() -> IntArray:
    return np.empty(0, dtype=np.intp)


def _no_values() -> FloatArray:
    return np.empty(0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Cut:
    """A valid inequality: terms in s, W and theta sum to at most ``upper``.

    Attributes
    ----------
    kind : CutKind
    upper : float
    s_features, s_values : ndarray of shape (n_s_terms,)
        Coefficients of the selection s.
    W_classes, W_features, W_values : ndarray of shape (n_W_terms,)
        Coefficients of the assignment W.
    theta_classes, theta_values : ndarray of shape (n_theta_terms,)
        Coefficients of theta, the value ``A_c . W_c`` of class c.
    """

    kind: CutKind
    upper: float
    s_features: IntArray = field(default_factory=_no_indices)
    s_values: FloatArray = field(default_factory=_no_values)
    W_classes: IntArray = field(default_factory=_no_indices)
    W_features: IntArray = field(default_factory=_no_indices)
    W_values: FloatArray = field(default_factory=_no_values)
    theta_classes: IntArray = field(default_factory=_no_indices)
    theta_values: FloatArray = field(default_factory=_no_values)

    def violation(
        self,
        s: NDArray[np.number] | BoolArray,
        W: NDArray[np.number] | BoolArray | None = None,
        theta: FloatArray | None = None,
    ) -> float:
        """Amount by which a point exceeds ``upper``; a part without terms may be left out.

        Parameters
        ----------
        s : ndarray of shape (n_features,)
        W : ndarray of shape (n_classes, n_features), optional
        theta : ndarray of shape (n_classes,), optional
        """
        total = float(self.s_values @ s[self.s_features])
        if self.W_values.size:
            assert W is not None
            total += float(self.W_values @ W[self.W_classes, self.W_features])
        if self.theta_values.size:
            assert theta is not None
            total += float(self.theta_values @ theta[self.theta_classes])
        return total - self.upper


def threshold_cuts(
    problem: Problem, s: FloatArray, theta: FloatArray, *, tolerance: float = 1e-6
) -> list[Cut]:
    """For each class the threshold cut that a point breaks most, where it breaks one.

    ``theta_c <= k t + sum_d max(A_cd - t, 0) s_d`` holds for every threshold t. By linear
    programming duality the least right-hand side is the value of the best k units of the
    fractional selection, reached at the similarity of the feature that completes them.

    Parameters
    ----------
    s : ndarray of shape (n_features,)
        Selection, fractional or not, with entries in [0, 1] that sum to at least k.
    theta : ndarray of shape (n_classes,)
        Values claimed for the classes; inf asks for the tightest cut at ``s`` in any case.
    tolerance : float
        Least violation, relative to ``max(1, |right-hand side|)``.

    References
    ----------
    Duran-Mateluna, Ales, Elloumi, An efficient Benders decomposition for the p-median problem,
    EJOR 308 (2023), generalised from one feature per class to k.
    """
    if problem.n_classes == 0:
        return []
    threshold, value = _thresholds(problem, s)
    broken = np.flatnonzero(theta > value + tolerance * np.maximum(1.0, np.abs(value)))
    return [_threshold_cut(problem, int(c), float(threshold[c])) for c in broken]


def distinctness_cuts(matrix: BoolArray, n_per_class: int) -> list[Cut]:
    """Cuts that part every group of equal classes.

    If the classes of a group G all have the k-set T, at most one of them may, and every other one
    must lack at least one feature of T: ``sum_{c in G, d in T} W_cd <= |G| k - (|G| - 1)``. Small
    groups also get this cut for each pair, or a later round would find the same pair again.

    Parameters
    ----------
    matrix : ndarray of shape (n_classes, n_features), bool
        W at an integer point; classes that do not have exactly k features are left alone.
    n_per_class : int
        k.
    """
    return [
        _distinctness_cut(np.asarray(classes, dtype=np.intp), features)
        for group, features in _equal_groups(matrix, n_per_class)
        for classes in _subgroups(group)
    ]


def no_good_cut(problem: Problem, selected: IntArray, value: float | None) -> Cut:
    """The cut that states what a selection is worth, where threshold cuts overestimate it.

    At the selection S the thresholds of S allow ``sum_c theta_c`` the top-k value; its exact
    assignment is worth ``loss`` less, since classes must differ, share or use features. With g_c
    the right-hand side of class c at those thresholds, which bounds theta_c everywhere,
    ``sum_c theta_c <= sum_c g_c(s) - loss (1 - sum_{d in S} (1 - s_d))`` is exact at S
    and holds elsewhere.

    Parameters
    ----------
    selected : ndarray of shape (n_selected,)
        S, feature indices.
    value : float or None
        Value Z_A of the exact assignment for S; None if S has no feasible assignment, and the cut
        then forbids S.

    Raises
    ------
    ValueError
        If ``value`` is above what any assignment of S can be worth.
    """
    p = problem.n_selected
    if value is None:
        return Cut(
            kind=CutKind.INFEASIBLE_SELECTION,
            upper=p - 1.0,
            s_features=selected,
            s_values=np.ones(p),
        )
    s = np.zeros(problem.n_features)
    s[selected] = 1.0
    threshold, top = _thresholds(problem, s)
    loss = float(top.sum()) - value
    if loss < -1e-9 * max(1.0, abs(value)):
        raise ValueError(f"The selection is worth at most {top.sum()}, not {value}.")
    loss = max(loss, 0.0)
    gain = np.maximum(problem.class_similarity - threshold[:, None], 0.0).sum(axis=0)
    coefficient = np.where(problem.candidates, loss * s - gain, 0.0)
    features = np.flatnonzero(coefficient)
    return Cut(
        kind=CutKind.ASSIGNMENT_VALUE,
        upper=float(problem.n_per_class * threshold.sum()) + loss * (p - 1),
        s_features=features,
        s_values=coefficient[features],
        theta_classes=np.arange(problem.n_classes),
        theta_values=np.ones(problem.n_classes),
    )


def best_thresholds(
    values: FloatArray, mass: FloatArray, n_per_class: int
) -> tuple[FloatArray, FloatArray]:
    """For each class the tightest threshold at a point, and the right-hand side it gives there.

    Parameters
    ----------
    values : ndarray, (n_classes, n)
        Class similarities of the features present.
    mass : ndarray, (n,)
        Their entries of s, positive.
    n_per_class : int
    """
    if not values.size:
        return np.zeros(len(values)), np.zeros(len(values))
    order = np.argsort(-values, axis=1, kind="stable")
    filled = np.cumsum(mass[order], axis=1)
    enough = np.minimum(n_per_class - _FILL_TOLERANCE, filled[:, -1:])
    last = np.argmax(filled >= enough, axis=1)[:, None]
    threshold = np.take_along_axis(values, np.take_along_axis(order, last, axis=1), axis=1)
    worth = n_per_class * threshold[:, 0] + np.maximum(values - threshold, 0.0) @ mass
    return threshold[:, 0], worth


def _thresholds(problem: Problem, s: FloatArray) -> tuple[FloatArray, FloatArray]:
    support = np.flatnonzero((s > 0) & problem.candidates)
    return best_thresholds(problem.class_similarity[:, support], s[support], problem.n_per_class)


def _threshold_cut(problem: Problem, c: int, threshold: float) -> Cut:
    gain = np.where(problem.candidates, problem.class_similarity[c] - threshold, 0.0)
    features = np.flatnonzero(gain > 0)
    return Cut(
        kind=CutKind.THRESHOLD,
        upper=problem.n_per_class * threshold,
        s_features=features,
        s_values=-gain[features],
        theta_classes=np.array([c]),
        theta_values=np.ones(1),
    )


def _equal_groups(matrix: BoolArray, n_per_class: int) -> Iterator[tuple[list[int], IntArray]]:
    for group in equal_classes(matrix):
        features = np.flatnonzero(matrix[group[0]])
        if features.size == n_per_class:
            yield group, features


def _subgroups(group: list[int]) -> Iterator[tuple[int, ...]]:
    if len(group) > 2:
        yield tuple(group)
    if len(group) <= PAIRWISE_LIMIT:
        yield from combinations(group, 2)


def _distinctness_cut(classes: IntArray, features: IntArray) -> Cut:
    n, k = classes.size, features.size
    return Cut(
        kind=CutKind.DISTINCTNESS,
        upper=float(n * k - (n - 1)),
        W_classes=np.repeat(classes, k),
        W_features=np.tile(features, n),
        W_values=np.ones(n * k),
    )
