"""From features to A and R."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.sizes import LARGE
from qpm_opt.constants import FeatureStatistics, feature_similarity

SIZES = LARGE
N_IMAGES = 1000


@pytest.mark.parametrize("with_locality", [False, True], ids=["features", "locality"])
def test_update(benchmark, size, with_locality):
    """One batch of a stream of images."""
    rng = np.random.default_rng(0)
    features = rng.random((N_IMAGES, size.n_features), dtype=np.float32)
    labels = rng.integers(size.n_classes, size=N_IMAGES)
    locality = rng.random(features.shape, dtype=np.float32) if with_locality else None
    statistics = FeatureStatistics(size.n_classes, size.n_features)
    benchmark(statistics.update, features, labels, locality)
    benchmark.extra_info["n_images"] = N_IMAGES


def test_class_similarity(benchmark, size):
    statistics = FeatureStatistics(size.n_classes, size.n_features)
    features = np.random.default_rng(0).random((N_IMAGES, size.n_features))
    statistics.update(features, np.arange(N_IMAGES) % size.n_classes)
    benchmark(lambda: statistics.class_similarity)


def test_feature_similarity(benchmark, problem):
    benchmark(feature_similarity, problem.class_similarity)
