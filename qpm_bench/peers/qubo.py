"""The problem as a quadratic unconstrained binary program (QUBO), constraints as penalties.

Variables are s_d of the n candidates and W_cd of every class and candidate. Without distinctness
and side constraints, which products of two variables cannot state, the energy to minimise is

    E = - sum_cd A_cd W_cd + sum_{d<e} R_de s_d s_e - sum_d b_d s_d
        + P (sum_d s_d - p)^2 + sum_c Q_c (sum_d W_cd - k)^2 + sum_cd T_c W_cd (1 - s_d).

With |S| = p and k features a class, constants may be subtracted from b and from every row of A;
here each is centred, its largest and smallest entries being h_b and -h_b, h_c and -h_c. So may a
multiple of sum_d s_d - p be added: here (N - M) / 2 of it, N and M being the largest sums of p
entries of a row of max(-R, 0) and of max(R, 0). Then any weights with

    T_c > 2 h_c,   Q_c > h_c,   P > 2 k / (p + 1) sum_c h_c + h_b + (N + M) / 2

do: every point that breaks a constraint has a neighbour of lower energy, so the points of least
energy are the optima.

1. W_cd = 1 without s_d, while a selected feature is free for class c: taking that one instead
   changes A by at most 2 h_c and saves T_c. If none is free and the class has more than k
   features, giving up d saves Q_c + T_c. Else fewer than k <= p features are selected; see 4.
2. W <= s, but a class has not k features: dropping one, or adding a free selected one, saves
   at least Q_c and loses at most h_c. If none is free, again fewer than p features are selected.
3. W <= s with k features a class, but j > 0 too many selected: one of them is used so little that
   exchanging it in all classes which use it loses at most 2 k / (p + 1) sum_c h_c. Giving it up
   saves (2 j - 1) P and loses at most h_b + N (p + j - 1) / p - (N - M) / 2, which is no more
   than h_b + (2 j - 1) (N + M) / 2.
4. Fewer than p selected: adding one saves at least P, loses at most h_b + M + (N - M) / 2, and
   breaks nothing.

The form of the penalties is the usual one (Glover, Kochenberger, Du, Quantum bridge analytics I: a
tutorial on formulating and using QUBO models, 4OR 17 (2019) 335-371); the weights are derived here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qpm_opt import Problem

#: Added to every least weight, relative to the largest coefficient of the problem.
MARGIN = 0.05


@dataclass(frozen=True)
class Qubo:
    """Energies ``offset + linear' x + sum of value x_row x_column`` over binary x.

    Attributes
    ----------
    linear : ndarray of shape (n_variables,)
        Of s of the candidates, then of the rows of W.
    row, column : ndarray of int, shape (n_couplings,)
        Every pair of variables once.
    value : ndarray of shape (n_couplings,)
    offset : float
        Chosen so that energies of feasible points are their objectives with the other sign.
    """

    linear: np.ndarray
    row: np.ndarray
    column: np.ndarray
    value: np.ndarray
    offset: float


def size(problem: Problem) -> tuple[int, int]:
    """Numbers of variables and of couplings of the problem's QUBO."""
    n, C = int(problem.candidates.sum()), problem.n_classes
    return n * (1 + C), n * (n - 1) // 2 * (1 + C) + C * n


def qubo(problem: Problem, strength: float = 1.0) -> Qubo:
    """The QUBO of a problem, distinctness and side constraints left out.

    Parameters
    ----------
    problem : Problem
    strength : float
        Factor of the weights. Below 1 the points of least energy may break constraints.
    """
    candidates = np.flatnonzero(problem.candidates)
    n, C = candidates.size, problem.n_classes
    p, k = problem.n_selected, problem.n_per_class
    A, a_centre, a_half = _centred(problem.class_similarity[:, candidates])
    b, b_centre, b_half = _centred(problem.bias[None, candidates])
    R = problem.feature_similarity[np.ix_(candidates, candidates)]
    N, M = _largest(np.maximum(-R, 0.0), p), _largest(np.maximum(R, 0.0), p)
    margin = MARGIN * problem.scale
    T, Q = strength * (2.0 * a_half + margin), strength * (a_half + margin)
    enough = 2.0 * k / (p + 1) * a_half.sum() + b_half[0] + (N + M) / 2.0
    P = strength * (enough + margin)
    own = (N - M) / 2.0 - b[0]

    first, second = np.triu_indices(n, 1)
    of_class = n + n * np.arange(C)[:, None]  # the first variable of each row of W
    return Qubo(
        linear=np.concatenate(
            [own + P * (1 - 2 * p), (-A + (Q * (1 - 2 * k) + T)[:, None]).ravel()]
        ),
        row=np.concatenate([first, (of_class + first).ravel(), (of_class + np.arange(n)).ravel()]),
        column=np.concatenate([second, (of_class + second).ravel(), np.tile(np.arange(n), C)]),
        value=np.concatenate(
            [R[first, second] + 2.0 * P, np.repeat(2.0 * Q, first.size), np.repeat(-T, n)]
        ),
        offset=float(
            P * p**2 + k**2 * Q.sum() - k * a_centre.sum() - p * (b_centre[0] + (N - M) / 2.0)
        ),
    )


def _centred(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows less the middle of their ranges, the middles, and half the ranges."""
    low, high = rows.min(axis=1), rows.max(axis=1)
    centre = (low + high) / 2.0
    return rows - centre[:, None], centre, (high - low) / 2.0


def _largest(matrix: np.ndarray, p: int) -> float:
    """Largest sum over the rows of their p largest entries."""
    return float(np.sort(matrix, axis=1)[:, -p:].sum(axis=1).max())
