"""Which features a sparse layer is given: by a group elastic net, in two ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from qpm_nn.sparse.elastic_net import (
    MAX_BISECTIONS,
    ElasticNet,
    ElasticNetFit,
    lambda_sequence,
)
from qpm_opt import InvalidInputError

#: The published SLDD-Model begins its path at this share of lambda_max.
PUBLISHED_START = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSelection:
    """Features, and the fit that chose them.

    Attributes
    ----------
    features : array of shape (n_selected,), int
        Ascending.
    fit : ElasticNetFit
        The last one. ``fit.features`` are more than ``features`` where the path jumps over
        n_selected, and may be fewer after ``select_forward``, which ends when the last one enters.
    """

    features: np.ndarray
    fit: ElasticNetFit


def select_by_path(
    features: ArrayLike,
    labels: ArrayLike,
    n_selected: int,
    *,
    alpha: float = 0.8,
    n_lambdas: int = 100,
    epsilon: float = 1e-3,
    tolerance: float = 1e-6,
) -> FeatureSelection:
    """The features of the first point of the group elastic net's path that uses n_selected.

    The path is refined where it jumps over that number. Where features enter together (duplicates)
    those with the largest weights count.

    Parameters
    ----------
    features, labels, alpha, n_lambdas, epsilon, tolerance
        As for ``elastic_net_path``.
    n_selected : int

    Raises
    ------
    InvalidInputError
        If an argument cannot be used, or the path ends before it uses n_selected features.
    """
    solver = ElasticNet(features, labels, alpha=alpha, grouped=True, tolerance=tolerance)
    _check(n_selected, solver)
    above = solver.lambda_max
    for lambda_ in lambda_sequence(above, n_lambdas=n_lambdas, epsilon=epsilon):
        fit = solver.fit(float(lambda_))
        if len(fit.features) >= n_selected:
            break
        above = fit.lambda_
    else:
        raise InvalidInputError(
            f"The path ends with {len(fit.features)} of {n_selected} features; select fewer, or "
            f"let it go further down than epsilon = {epsilon:g}."
        )
    for _ in range(MAX_BISECTIONS):
        if len(fit.features) == n_selected:
            break
        middle = solver.fit(float(np.sqrt(above * fit.lambda_)))
        if len(middle.features) >= n_selected:
            fit = middle
        else:
            above = middle.lambda_
    norm = np.linalg.norm(fit.weight.toarray(), axis=0)
    chosen = np.argsort(-norm, kind="stable")[:n_selected]
    return FeatureSelection(features=np.sort(chosen), fit=fit)


def select_forward(
    features: ArrayLike,
    labels: ArrayLike,
    n_selected: int,
    *,
    alpha: float = 0.8,
    n_lambdas: int = 100,
    epsilon: float = 1e-3,
    tolerance: float = 1e-6,
    on_feature: Callable[[int], object] | None = None,
) -> FeatureSelection:
    """Features one by one, as the published SLDD-Model chooses them.

    Each round goes down the path with the features chosen so far. At the first lambda at which the
    optimum would use another feature, the one with the largest gradient enters and the next round
    begins. The published code lets one feature enter in a stochastic proximal step, which is the
    same choice made before the fit has converged.

    Parameters
    ----------
    features, labels, alpha, n_lambdas, epsilon, tolerance
        As for ``elastic_net_path``; the path goes from 0.1 lambda_max, not from lambda_max, to
        epsilon times that.
    n_selected : int
    on_feature : callable, optional
        Called with the number of features so far, as each enters.

    Raises
    ------
    InvalidInputError
        If an argument cannot be used, or no feature would enter before n_selected are chosen.

    References
    ----------
    Norrenbrock, Rudolph, Rosenhahn: Take 5: Interpretable Image Classification with a Handful of
    Features (2022), feature selection. Its public code takes lambda_max from features that are not
    standardised although the fit standardises them; here both are the features given.
    """
    solver = ElasticNet(features, labels, alpha=alpha, grouped=True, tolerance=tolerance)
    _check(n_selected, solver)
    sequence = lambda_sequence(
        PUBLISHED_START * solver.lambda_max, n_lambdas=n_lambdas, epsilon=epsilon
    )
    chosen = np.zeros(np.shape(features)[1], bool)
    while chosen.sum() < n_selected:
        for lambda_ in sequence:
            fit = solver.fit(float(lambda_), allowed=chosen)
            slope = np.where(chosen, 0.0, np.linalg.norm(solver.gradient, axis=0))
            if slope.max() > alpha * fit.lambda_:
                chosen[np.argmax(slope)] = True
                if on_feature is not None:
                    on_feature(int(chosen.sum()))
                break
        else:
            raise InvalidInputError(
                f"After {chosen.sum()} of {n_selected} features no other lowers the objective; "
                f"select fewer, or let the path go further down than epsilon = {epsilon:g}."
            )
    return FeatureSelection(features=np.flatnonzero(chosen), fit=fit)


def _check(n_selected: int, solver: ElasticNet) -> None:
    n_features = solver.gradient.shape[1]
    if not 1 <= n_selected <= n_features:
        raise InvalidInputError(
            f"n_selected is {n_selected}; there are {n_features} features to choose from."
        )
