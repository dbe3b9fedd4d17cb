"""Brute force for tiny problems, straight from the definition; shares no code with the package."""

from __future__ import annotations

from itertools import combinations

import numpy as np


def optimum(problem, accepts=lambda selected, rows: True) -> float | None:
    """Optimal objective by enumeration of selections and of class sets; None if infeasible.

    Only what ``accepts``, asked with the selected features and those of every class, counts.
    Distinct classes are enumerated by depth-first search over k-subsets with a bound, so keep
    ``comb(p, k) ** n_classes`` small.
    """
    R = problem.feature_similarity
    b, p, k = problem.feature_bias, problem.n_selected, problem.n_per_class
    best = None
    for selected in combinations(np.flatnonzero(problem.candidate), p):
        fixed = sum(b[d] for d in selected)
        fixed -= sum(R[d, e] for d, e in combinations(selected, 2))
        value = _assignment(problem, selected, k, accepts)
        if value is not None and (best is None or fixed + value > best):
            best = fixed + value
    return best


def _assignment(problem, selected, k, accepts=lambda *_: True) -> float | None:
    A = problem.class_similarity
    subsets = list(combinations(selected, k)) if problem.n_classes else []
    values = [[sum(row[d] for d in subset) for subset in subsets] for row in A]
    order = [sorted(range(len(subsets)), key=lambda t, v=v: -v[t]) for v in values]
    ahead = [0.0] * (problem.n_classes + 1)
    for c in reversed(range(problem.n_classes)):
        ahead[c] = ahead[c + 1] + max(values[c])
    pairs = {tuple(pair) for pair in np.asarray(problem.contrastive_pairs).tolist()}
    best: list[float | None] = [None]

    def descend(c: int, taken: list[int], total: float) -> None:
        if best[0] is not None and total + ahead[c] <= best[0]:
            return
        if c == problem.n_classes:
            uses = [sum(d in subsets[t] for t in taken) for d in selected]
            n_pairs = sum(
                len(set(subsets[t]) & set(subsets[u])) == k - 1 for t, u in combinations(taken, 2)
            )
            enough = not uses or min(uses) >= problem.min_classes_per_feature
            enough &= n_pairs >= problem.min_contrastive_pairs
            if enough and accepts(selected, [subsets[t] for t in taken]):
                best[0] = total
            return
        for t in order[c]:
            if problem.distinct and t in taken:
                continue
            if all(
                len(set(subsets[t]) & set(subsets[taken[e]])) == k - 1
                for e in range(c)
                if (e, c) in pairs
            ):
                descend(c + 1, [*taken, t], total + values[c][t])

    descend(0, [], 0.0)
    return best[0]
