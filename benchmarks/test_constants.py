"""From features to A and R."""

from __future__ import annotations

import numpy as np
import pytest

from qpm_opt.constants import FeatureStatistics, feature_similarity

N_CLASSES, N_FEATURES, N_IMAGES = 200, 2048, 1000


@pytest.mark.parametrize("with_locality", [False, True], ids=["features", "locality"])
def test_update(benchmark, with_locality):
    rng = np.random.default_rng(0)
    features = rng.random((N_IMAGES, N_FEATURES), dtype=np.float32)
    labels = rng.integers(N_CLASSES, size=N_IMAGES)
    locality = rng.random(features.shape, dtype=np.float32) if with_locality else None
    statistics = FeatureStatistics(N_CLASSES, N_FEATURES)
    benchmark(statistics.update, features, labels, locality)
    benchmark.extra_info["n_images"] = N_IMAGES


def test_class_similarity(benchmark):
    statistics = FeatureStatistics(N_CLASSES, N_FEATURES)
    rng = np.random.default_rng(0)
    statistics.update(rng.random((N_IMAGES, N_FEATURES)), np.arange(N_IMAGES) % N_CLASSES)
    benchmark(lambda: statistics.class_similarity)


def test_feature_similarity(benchmark, large):
    benchmark(feature_similarity, large.class_similarity)
