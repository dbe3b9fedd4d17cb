"""Sparse final layers: the elastic-net path, over single weights and over features.

In `extra_info`: points of the path, their largest duality gap, features a class at the end.
"""

from __future__ import annotations

import numpy as np
import pytest

from qpm_nn.sparse import elastic_net_path, select_by_path, select_forward, standardise

N_IMAGES, N_FEATURES, N_CLASSES, N_CONCEPTS = 1000, 256, 50, 40


@pytest.fixture(scope="module")
def table():
    """Features of rectified mixtures of concepts that classes share, as a network's are."""
    rng = np.random.default_rng(0)
    labels = np.arange(N_IMAGES) % N_CLASSES
    concepts = rng.uniform(0.5, 1.5, (N_CLASSES, N_CONCEPTS))
    concepts *= rng.random(concepts.shape) < 0.15
    mixture = rng.normal(size=(N_CONCEPTS, N_FEATURES))
    mixture *= rng.random(mixture.shape) < 0.08
    seen = concepts[labels] + 0.35 * rng.normal(size=(N_IMAGES, N_CONCEPTS))
    features = np.maximum(seen @ mixture + 0.3 * rng.normal(size=(N_IMAGES, N_FEATURES)) - 0.3, 0)
    return standardise(features)[0], labels


@pytest.mark.parametrize("n_features", [N_FEATURES, 30], ids=["all", "selected"])
def test_path(benchmark, table, n_features):
    features, labels = table
    path = benchmark.pedantic(
        elastic_net_path,
        (features[:, :n_features], labels),
        {"max_per_class": 10},
        rounds=1,
    )
    benchmark.extra_info["n_points"] = len(path)
    benchmark.extra_info["gap"] = max(fit.gap for fit in path)
    benchmark.extra_info["n_per_class"] = path[-1].n_per_class


@pytest.mark.parametrize("select", [select_by_path, select_forward])
def test_selection(benchmark, table, select):
    selection = benchmark.pedantic(select, (*table, 30), rounds=1)
    benchmark.extra_info["lambda"] = selection.fit.lambda_
    benchmark.extra_info["gap"] = selection.fit.gap
