"""Problems that are made around an optimum, with the proof that it is one.

Let t_c be any thresholds and u_dj >= 0 any *shares* of feature d in groups j = 1, ..., p with

1. sum_j u_dj >= g_d = sum_c max(A_cd - t_c, 0) + b_d for every feature d,
2. R_de >= sum_j min(u_dj, u_ej) for every pair of features.

Then no assignment is worth more than k sum_c t_c + sum_j max_d u_dj. A class with the k features K
gains sum_{d in K} A_cd <= k t_c + sum_{d selected} max(A_cd - t_c, 0), so a selection S is worth at
most

    k sum_c t_c + sum_{d in S} g_d - sum_{d < e in S} R_de
        <= k sum_c t_c + sum_j (sum_{d in S} u_dj - sum_{d < e in S} min(u_dj, u_ej)),

and the bracket of group j is at most max_{d in S} u_dj: for values u_1 >= u_2 >= ... the pairs with
the largest alone take away u_2 + u_3 + ... Distinctness is ignored; it only lowers values.

:func:`planted` makes data for which a selection of one feature a group attains the bound. The other
features, *decoys*, unite parts of one to three groups: alone a decoy is often worth more than any
planted feature, and to undo it takes as many exchanges as it has groups. Greedy selection is led
away; the features with the largest column sums of A are nearly all decoys.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from qpm_opt import Assignment, InvalidInputError, Problem

#: All data are whole multiples of this, so every sum is exact and no machine rounds another way.
GRID = 1.0 / 64.0


class Planted(NamedTuple):
    """A problem with its optimal assignment and what proves that it is optimal.

    Attributes
    ----------
    problem : Problem
        Its ``best_known`` is the optimum, ``proved``.
    assignment : Assignment
    thresholds : ndarray of shape (n_classes,)
    shares : ndarray of shape (n_features, n_selected)
    """

    problem: Problem
    assignment: Assignment
    thresholds: np.ndarray
    shares: np.ndarray


def upper_bound(problem: Problem, thresholds: np.ndarray, shares: np.ndarray) -> float:
    """Upper bound that thresholds and shares prove, their conditions checked on the data.

    Raises
    ------
    InvalidInputError
        If a condition does not hold.
    """
    surplus = np.maximum(problem.class_similarity - thresholds[:, np.newaxis], 0.0)
    gain = surplus.sum(axis=0) + problem.bias
    if (shares < 0.0).any() or (shares.sum(axis=1) < gain).any():
        raise InvalidInputError("The shares of a feature are negative or less than its gain.")
    common = _common(shares)
    np.fill_diagonal(common, 0.0)
    if (problem.feature_similarity < common).any():
        raise InvalidInputError("A pair of features is penalised less than its common shares.")
    groups = shares.max(axis=0)
    return float(problem.n_per_class * thresholds.sum() + groups.sum())


def planted(
    n_classes: int,
    n_features: int,
    *,
    n_selected: int,
    n_per_class: int,
    seed: int = 0,
    name: str = "",
) -> Planted:
    """Problem with a known optimum: R > 0, b, and decoys that lead greedy methods away.

    Parameters
    ----------
    n_classes, n_features, n_selected, n_per_class : int
        Sizes C, F, p and k.
    seed : int
    name : str

    Raises
    ------
    InvalidInputError
        If there are no classes, or fewer than n_classes sets of k out of p < F features.
    """
    C, F, p, k = n_classes, n_features, n_selected, n_per_class
    if not (C >= 1 and 1 <= k < p < F and math.comb(p, k) >= C):
        raise InvalidInputError(
            f"There is no planted problem with {C} classes of {k}, {p} selected of {F} features; "
            "expected 1 <= n_per_class < n_selected < n_features and no more classes than sets."
        )
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(F)[:p]
    member = _class_sets(C, p, k, rng)
    threshold = rng.integers(32, 64, C)
    surplus = np.where(member, rng.integers(8, 33, (C, p)), 0)  # of A over the threshold
    value = surplus.sum(axis=0)
    # A planted feature that no class has is worth its bias.
    b = rng.integers(-8, 9, F)
    b[chosen] = np.where(value > 0, rng.integers(0, 9, p), rng.integers(8, 25, p))
    value = value + b[chosen]

    A = threshold[:, np.newaxis] - rng.integers(1, 25, (C, F))
    shares = np.zeros((F, p), dtype=np.int64)
    A[:, chosen] = np.where(member, threshold[:, np.newaxis] + surplus, A[:, chosen])
    shares[chosen, np.arange(p)] = value
    for d in np.setdiff1d(np.arange(F), chosen):
        groups = rng.permutation(p)[: rng.integers(1, min(3, p - 1) + 1)]
        part = surplus[:, groups] * rng.integers(9, 16, len(groups)) // 16
        # A class that has several of the groups pays for one of them only.
        owner = part.argmax(axis=1)
        gained = part.max(axis=1)
        A[:, d] = np.where(gained > 0, threshold + gained, A[:, d])
        shares[d, groups] = np.bincount(owner, gained, len(groups)).astype(np.int64)
        room = value[groups] - shares[d, groups]
        first = room.argmax()
        b[d] = min(b[d], room[first])
        shares[d, groups[first]] += max(b[d], 0)

    R = _common(shares)
    extra = rng.integers(0, 9, (F, F)) * (rng.random((F, F)) < 0.1)
    extra[np.ix_(chosen, chosen)] = 0
    R += np.triu(extra, 1) + np.triu(extra, 1).T
    np.fill_diagonal(R, 0)

    assignment = Assignment.from_indices(
        chosen.tolist(), [chosen[row].tolist() for row in member], n_features=F
    )
    optimum = GRID * float(k * threshold.sum() + value.sum())
    problem = Problem(
        GRID * A, GRID * R, GRID * b, n_selected=p, n_per_class=k, name=name,
        source="generated around its optimum: groups with planted features and decoys",
        best_known=optimum, proved=True,
    )  # fmt: skip
    made = Planted(problem, assignment, GRID * threshold, GRID * shares)
    bound = upper_bound(problem, made.thresholds, made.shares)
    assert not problem.violations(assignment) and problem.objective(assignment) == optimum == bound
    return made


def _class_sets(n_classes: int, p: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """Different k-subsets of the p groups, one a class, as bool of shape (n_classes, p)."""
    member = np.zeros((n_classes, p), dtype=bool)
    taken: set[tuple[int, ...]] = set()
    while len(taken) < n_classes:
        groups = tuple(sorted(rng.permutation(p)[:k].tolist()))
        if groups not in taken:
            member[len(taken), groups] = True
            taken.add(groups)
    return member


def _common(shares: np.ndarray) -> np.ndarray:
    """sum_j min(u_dj, u_ej), shape (n_features, n_features)."""
    common = np.zeros((len(shares), len(shares)), dtype=shares.dtype)
    for group in shares.T:
        common += np.minimum.outer(group, group)
    return common
