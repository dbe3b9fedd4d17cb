"""Demands as coefficients of a problem.

A feature that is forbidden is no candidate; one that is required has its b raised by a weight, and
a class that is to have (not to have) a feature has its A there raised (lowered) by it; constants
keep solutions that meet the demands at what they were worth. Every broken demand costs the weight,
so where that exceeds what the objective can differ between solutions, the best one meets all
demands that can be met together.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from qpm_opt.demands import Demands
from qpm_opt.problem import Problem


class ObjectiveRange(NamedTuple):
    """Values between which every objective lies."""

    lower: float
    upper: float


def objective_range(problem: Problem) -> ObjectiveRange:
    """Range of the objective by its terms: each class, b and R on their own."""
    inside = np.flatnonzero(problem.candidates)
    p, k = problem.n_selected, problem.n_per_class
    similar = problem.feature_similarity[np.ix_(inside, inside)][np.triu_indices(inside.size, 1)]
    lower = upper = 0.0
    for values, n in (
        (problem.class_similarity[:, inside], k),
        (problem.bias[None, inside], p),
        (-similar[None], p * (p - 1) // 2),
    ):
        if n and values.size:
            values = np.sort(values, axis=1)
            lower += math.fsum(values[:, :n].flat)
            upper += math.fsum(values[:, -n:].flat)
    return ObjectiveRange(lower, upper)


def weighted(problem: Problem, demands: Demands, weight: float) -> Problem:
    """The problem in which every broken demand costs a weight, and those that are met nothing.

    As many features are selected, and assigned to a class, whatever happens: so what is required
    may be worth more and everything less, such that solutions that meet the demands are worth what
    they were (up to rounding).

    Parameters
    ----------
    problem : Problem
    demands : Demands
        Without ``different``.
    weight : float
        Beyond the difference of any two objectives the optimum breaks no demand unless it must.
    """
    A, b = problem.class_similarity.copy(), problem.bias.copy()
    candidate = problem.candidates.copy()
    candidate[list(demands.forbidden)] = False
    b[list(demands.required)] += weight
    b -= weight * len(demands.required) / problem.n_selected
    for c, d in demands.required_for:
        A[c] -= weight / problem.n_per_class
        A[c, d] += weight
    for c, d in demands.forbidden_for:
        A[c, d] -= weight
    return replace(
        problem,
        class_similarity=A,
        feature_bias=b,
        candidate=candidate,
        best_known=None,
        proved=False,
    )
