"""Each metric against its formula written out, and at its extremes."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch

from qpm_nn import metrics


def table(seed: int = 0, n_images: int = 30, n_features: int = 4):
    rng = np.random.default_rng(seed)
    labels = np.arange(n_images) % 3
    return rng.normal(size=(n_images, n_features)) + labels[:, None] * [0, 1, 2, 3], labels


def test_accuracy():
    logits = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    assert metrics.accuracy(logits, torch.tensor([1, 1, 1])) == pytest.approx(2 / 3)


def test_class_independence_equals_eq_14():
    features, labels = table()
    shares = []
    for column in features.T:
        low = min(column)
        total = sum(value - low for value in column)
        shares.append(
            max(
                sum(v - low for v, label in zip(column, labels, strict=True) if label == c) / total
                for c in range(3)
            )
        )
    assert metrics.class_independence(features, labels) == pytest.approx(
        1 - sum(shares) / len(shares), rel=1e-12
    )


def test_class_independence_of_extreme_features():
    labels = np.arange(6) % 3
    detector = (labels == 1).astype(float)[:, None]
    everywhere = np.array([0, 0, 0, 1, 1, 1.0])[:, None]
    constant = np.full((6, 1), 2.5)
    assert metrics.class_independence(detector, labels) == 0
    assert metrics.class_independence(everywhere, labels) == pytest.approx(2 / 3)
    assert metrics.class_independence(constant, labels) == 1


def test_contrastiveness_equals_the_overlap_of_known_normals():
    quantiles = np.array([statistics.NormalDist().inv_cdf((i + 0.5) / 2000) for i in range(2000)])
    feature = np.concatenate([quantiles, quantiles * 0.5 + 6])[:, None]
    known = statistics.NormalDist(0, 1).overlap(statistics.NormalDist(6, 0.5))
    assert metrics.contrastiveness(feature) == pytest.approx(1 - known, abs=2e-3)
    for scale in (1e-4, 100):
        assert metrics.contrastiveness(scale * (feature - 7)) == pytest.approx(
            metrics.contrastiveness(feature), abs=1e-6
        )


def test_contrastiveness_is_the_mean_and_survives_constants():
    rng = np.random.default_rng(1)
    bimodal = np.repeat([0.0, 1.0], 50) + rng.normal(0, 0.01, 100)
    constant = np.full(100, 3.0)
    assert metrics.contrastiveness(bimodal[:, None]) == pytest.approx(1, abs=1e-6)
    assert metrics.contrastiveness(constant[:, None]) == 0
    both = np.column_stack([bimodal, constant])
    assert metrics.contrastiveness(both) == pytest.approx(0.5, abs=1e-6)
    assert metrics.contrastiveness(np.repeat([0.0, 1.0], 5)[:, None]) == pytest.approx(1)


def test_correlation_equals_eq_18():
    features, _ = table(2)
    largest = []
    for d, first in enumerate(features.T):
        cosines = [
            sum(first * second) / math.sqrt(sum(first**2) * sum(second**2))
            for e, second in enumerate(features.T)
            if e != d
        ]
        largest.append(max(cosines))
    assert metrics.correlation(features) == pytest.approx(sum(largest) / 4, rel=1e-12)


def test_correlation_of_opposite_and_zero_features():
    x = np.arange(1.0, 5.0)
    assert metrics.correlation(np.column_stack([x, -x])) == pytest.approx(-1)
    assert metrics.correlation(np.column_stack([x, 0 * x])) == 0


def literal_sid(maps, weights, k) -> float:
    """Eqs. 15 and 16 for one image."""
    order = sorted(range(len(weights)), key=lambda d: -weights[d])[:k]
    soft = []
    for d in order:
        flat = [v for row in maps[d] for v in row]
        mean = sum(map(abs, flat)) / len(flat)
        exponentials = [math.exp(v / mean) for v in flat]
        soft.append([v / sum(exponentials) for v in exponentials])
    return sum(max(pixel) for pixel in zip(*soft, strict=True)) / k


@pytest.mark.parametrize("k", [1, 2, 3])
def test_sid_equals_the_formulas(k):
    generator = torch.Generator().manual_seed(k)
    maps = torch.rand(3, 5, 2, 4, generator=generator, dtype=torch.float64)
    weights = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    expected = [literal_sid(m, w, k) for m, w in zip(maps.tolist(), weights.tolist(), strict=True)]
    found = metrics.scale_invariant_diversity(maps, weights, k)
    assert found.tolist() == pytest.approx(expected, rel=1e-12)


def test_sid_at_its_extremes():
    k = 3
    weights = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    same = torch.rand(1, 1, 5, 5).expand(1, 4, 5, 5)
    assert metrics.scale_invariant_diversity(same, weights, k).item() == pytest.approx(1 / k)
    disjoint = torch.zeros(1, 4, 5, 5)
    for d in range(4):
        disjoint[0, d, d, d] = 1.0
    assert metrics.scale_invariant_diversity(disjoint, weights, k).item() == pytest.approx(
        1, abs=1e-6
    )
    assert metrics.scale_invariant_diversity(0 * disjoint, weights, k).item() == pytest.approx(
        1 / k
    )
