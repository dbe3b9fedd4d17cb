"""Problems small enough for brute force, one for each thing that a solver can get wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from qpm_bench.names import check_name
from qpm_opt import Problem

#: What is special about each kind; the data of all are multiples of 1/8.
KINDS = {
    "plain": "nothing",
    "distinct": "classes with equal values, which must differ all the same",
    "ties": "many equal values",
    "negative": "similarities of both signs and negative values",
    "median": "one feature for each class, which classes may share",
    "selection": "no classes",
    "candidates": "features that may not be selected, the best among them",
    "use": "every selected feature serves at least one class",
    "pairs": "two pairs of classes that share all features but one",
}


def tiny(
    kind: str,
    *,
    n_classes: int,
    n_features: int,
    n_selected: int,
    n_per_class: int,
    seed: int = 0,
    name: str = "",
) -> Problem:
    """Problem of one of :data:`KINDS`.

    Parameters
    ----------
    kind : str
    n_classes, n_features, n_selected, n_per_class : int
        Sizes; "selection" has no classes, "pairs" at least three.
    seed : int
    name : str

    Raises
    ------
    InvalidInputError
        If there is no such kind.
    """
    check_name("kind of tiny problem", kind, KINDS)
    rng = np.random.default_rng(seed)
    A = rng.integers(-4, 25, (n_classes, n_features))
    R = np.triu(rng.integers(1, 17, (n_features, n_features)), 1)
    R[rng.random(R.shape) < 0.4] = 0
    b = rng.integers(-8, 9, n_features)
    options: dict[str, Any] = {"distinct": kind not in ("median", "selection")}
    if kind == "distinct":
        A[1:] = A[0]
    elif kind == "ties":
        A, R, b = A // 16, R // 9, b // 8
    elif kind == "negative":
        A -= 20
        R *= rng.choice([-1, 1], R.shape)
    elif kind == "candidates":
        options["candidate"] = A.sum(axis=0) < np.sort(A.sum(axis=0))[-2]
    elif kind == "use":
        options["min_classes_per_feature"] = 1
    elif kind == "pairs":
        options["contrastive_pairs"] = np.array([[0, 1], [1, 2]])
    return Problem(
        A / 8.0, (R + R.T) / 8.0, b / 8.0, n_selected=n_selected, n_per_class=n_per_class,
        name=name, source=f"generated at random: {KINDS[kind]}", **options,
    )  # fmt: skip
