"""From features to A and R."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from benchmarks.conftest import is_smoke
from benchmarks.sizes import LARGE, Size
from qpm_opt.constants import FeatureStatistics, auroc, feature_similarity

SIZES = LARGE
N_IMAGES = 1000  # of a batch
N_RANKED = 6000  # in all, as in CUB-200
N_STREAMED = 100_000


@pytest.fixture
def stream(request) -> tuple[Size, int]:
    """Classes and features of ImageNet on a ResNet50, and images; few of all in a smoke run."""
    return (SIZES[0], N_IMAGES) if is_smoke(request.config) else (Size(1000, 2048), N_STREAMED)


def test_one_pass(benchmark, stream):
    """The statistics of a whole stream of images, and the memory they take at most."""
    size, n_images = stream
    rng = np.random.default_rng(0)
    features = rng.random((N_IMAGES, size.n_features), dtype=np.float32)
    labels = rng.integers(size.n_classes, size=N_IMAGES)

    def whole():
        statistics = FeatureStatistics(size.n_classes, size.n_features)
        for _ in range(n_images // N_IMAGES):
            statistics.update(features, labels, features, -features)
        return statistics

    benchmark.pedantic(whole, rounds=1)
    tracemalloc.start()
    try:
        assert whole().n_images == n_images
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    benchmark.extra_info.update(n_images=n_images, peak_memory=peak)
    assert peak < 2e9


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
