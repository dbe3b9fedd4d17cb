"""Shared fixtures: random tiny problems and the optional data folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from qpm_opt.problem import Problem

DATA = Path(os.environ.get("QPM_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with the public instances; set QPM_DATA to use a copy elsewhere."""
    if not DATA.is_dir():
        pytest.skip(f"the public instances are not at {DATA}; set QPM_DATA to their folder")
    return DATA


def random_problem(seed: int, **fixed) -> Problem:
    """Tiny problem of a random shape and kind; ``fixed`` overrides any argument of Problem.

    Over the seeds it covers distinct on and off, k = p, one class, no classes, negative A, zero,
    sparse, dense and negative R, ties, and features that are no candidates.
    """
    rng = np.random.default_rng(seed)
    n_features = int(rng.integers(3, 8))
    p = int(rng.integers(1, n_features + 1))
    k = int(rng.integers(1, p + 1))
    n_classes = int(rng.choice([0, 1, 2, 3, 4], p=[0.05, 0.15, 0.3, 0.3, 0.2]))
    arguments = {
        "n_selected": p,
        "n_per_class": k if n_classes else 0,
        "distinct": bool(rng.integers(2)),
    }
    A = rng.normal(size=(n_classes, n_features))
    if rng.integers(4) == 0:
        A = np.round(2 * A) / 2  # ties
    if rng.integers(4) == 0:
        A -= 3.0  # all values negative
    R = np.triu(rng.random((n_features, n_features)), 1)
    kind = rng.integers(4)
    if kind == 0:
        R[:] = 0.0
    elif kind == 1:
        R[R < 0.7] = 0.0
    elif kind == 2:
        R = np.triu(rng.normal(size=R.shape), 1)
    b = rng.normal(size=n_features) * rng.integers(2)
    if p < n_features and rng.integers(4) == 0:
        arguments["candidate"] = np.arange(n_features) != rng.integers(n_features)
    from math import comb

    if n_classes > comb(p, arguments["n_per_class"]):
        arguments["distinct"] = False
    arguments |= fixed
    return Problem(A, R + R.T, b, **arguments)
