"""From features to A and R."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.sizes import LARGE
from qpm_opt.constants import FeatureStatistics, auroc, feature_similarity

SIZES = LARGE
N_IMAGES = 1000  # of a batch
N_RANKED = 6000  # in all, as in CUB-200


@pytest.mark.parametrize("with_maps", [False, True], ids=["features", "locality-centre"])
def test_update(benchmark, size, with_maps):
    """One batch of a stream of images."""
    rng = np.random.default_rng(0)
    features = rng.random((N_IMAGES, size.n_features), dtype=np.float32)
    labels = rng.integers(size.n_classes, size=N_IMAGES)
    locality = rng.random(features.shape, dtype=np.float32) if with_maps else None
    centre = None if locality is None else -locality
    statistics = FeatureStatistics(size.n_classes, size.n_features)
    benchmark(statistics.update, features, labels, locality, centre)
    benchmark.extra_info["n_images"] = N_IMAGES


def test_merge(benchmark, size):
    """Statistics of one process into those of another."""
    features = np.random.default_rng(0).random((N_IMAGES, size.n_features))
    parts = [FeatureStatistics(size.n_classes, size.n_features) for _ in range(2)]
    for part in parts:
        part.update(features, np.arange(N_IMAGES) % size.n_classes, features, -features)
    benchmark(parts[0].merge, parts[1])


def test_auroc(benchmark, size):
    """ReLU features: many zeros."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((N_RANKED, size.n_features), dtype=np.float32)
    np.maximum(features, 0, out=features)
    benchmark.extra_info["n_images"] = N_RANKED
    benchmark.pedantic(auroc, (features, np.arange(N_RANKED) % size.n_classes), rounds=1)


def test_class_similarity(benchmark, size):
    statistics = FeatureStatistics(size.n_classes, size.n_features)
    features = np.random.default_rng(0).random((N_IMAGES, size.n_features))
    statistics.update(features, np.arange(N_IMAGES) % size.n_classes)
    benchmark(lambda: statistics.class_similarity)


def test_feature_similarity(benchmark, problem):
    benchmark(feature_similarity, problem.class_similarity)
