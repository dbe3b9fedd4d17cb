"""Projections against the inequality that characterises them: (x - P(x))'(y - P(x)) <= 0."""

from __future__ import annotations

import numpy as np
import pytest

from qpm_opt.bounds.projections import Face, capped_simplex, simplex_rows


@pytest.mark.parametrize("seed", range(20))
def test_simplex(seed):
    rng = np.random.default_rng(seed)
    points, total = 3.0 * rng.normal(size=(4, 6)), float(rng.uniform(0.5, 4.0))
    projected = simplex_rows(points, total)
    assert (projected >= 0.0).all()
    assert projected.sum(axis=1) == pytest.approx([total] * 4)
    for other in total * rng.dirichlet(np.ones(6), size=(30, 4)):
        assert (((points - projected) * (other - projected)).sum(axis=1) <= 1e-12).all()


def test_simplex_leaves_out_what_is_not_there():
    projected = simplex_rows(np.array([[0.4, -np.inf, 0.2]]))
    assert projected[0] == pytest.approx([0.6, 0.0, 0.4])


@pytest.mark.parametrize("seed", range(20))
def test_capped_simplex(seed):
    rng = np.random.default_rng(seed)
    values, total = 2.0 * rng.normal(size=7), int(rng.integers(1, 7))
    projected = capped_simplex(values, float(total))
    assert ((projected >= 0.0) & (projected <= 1.0)).all()
    assert projected.sum() == pytest.approx(total)
    for _ in range(30):
        other = np.isin(np.arange(7), rng.choice(7, total, replace=False)).astype(float)
        assert (values - projected) @ (other - projected) <= 1e-12


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_face(dtype):
    rng = np.random.default_rng(0)
    n, m = 9, 4
    X = rng.normal(size=(n + 1, n + 1))
    X = (X + X.T).astype(dtype)
    face, room = Face(n, m), 1e-4 if dtype == np.float32 else 1e-10
    M = face.project(X)
    assert M @ np.concatenate([[m], -np.ones(n)]) == pytest.approx(np.zeros(n + 1), abs=room)
    assert np.linalg.eigvalsh(M)[0] > -room
    assert np.trace(M) == pytest.approx(m + 1.0, abs=room)
    for _ in range(30):
        s = np.isin(np.arange(n), rng.choice(n, m, replace=False)).astype(float)
        x = np.concatenate([[1.0], s])
        assert ((X - M) * (np.outer(x, x) - M)).sum() <= 30 * room
