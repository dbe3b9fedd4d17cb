"""Class-Independence and Correlation against their formulas written out, and in a stream."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qpm_nn import metrics
from qpm_opt import InvalidInputError


def table(seed: int = 0, n_images: int = 30, n_features: int = 4):
    rng = np.random.default_rng(seed)
    labels = np.arange(n_images) % 3
    means = labels[:, None] * np.arange(n_features)
    return rng.normal(size=(n_images, n_features)) + means, labels


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


def test_class_independence_of_one_image_and_of_one_class():
    assert metrics.class_independence([[3.0, 4.0]], [2]) == 1
    assert metrics.class_independence([[3.0], [4.0]], [0, 0]) == 0


def test_class_independence_under_a_large_offset():
    features, labels = table()
    far = metrics.class_independence(features + 1e7, labels)
    assert far == pytest.approx(metrics.class_independence(features, labels), abs=1e-7)
    assert metrics.class_independence(np.full((9, 1), 0.1) + 1e7, np.arange(9) % 3) == 1


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100), st.floats(-10, 10))
def test_class_independence_has_no_scale_no_offset_and_no_order(seed, scale, offset):
    features, labels = table(seed)
    found = metrics.class_independence(features, labels)
    assert 0 <= found <= 1 - 1 / 3 + 1e-12
    rng = np.random.default_rng(seed)
    images, order = rng.permutation(len(labels)), rng.permutation(4)
    other = scale * features[images][:, order] + offset
    assert metrics.class_independence(other, labels[images]) == pytest.approx(found, rel=1e-9)


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


def test_correlation_of_opposite_zero_and_single_features():
    x = np.arange(1.0, 5.0)
    assert metrics.correlation(np.column_stack([x, -x])) == pytest.approx(-1)
    assert metrics.correlation(np.column_stack([x, 0 * x])) == 0
    assert metrics.correlation(x[:, None]) == 0
    assert metrics.correlation([[2.0, 3.0]]) == pytest.approx(1)


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_correlation_has_no_scale_and_no_order(seed, scale):
    features, _ = table(seed)
    found = metrics.correlation(features)
    assert -1 <= found <= 1
    rng = np.random.default_rng(seed)
    other = (features * rng.uniform(0.1, 10, 4) * scale)[:, rng.permutation(4)]
    assert metrics.correlation(rng.permutation(other)) == pytest.approx(found, abs=1e-9)


def test_a_stream_gives_what_all_images_give():
    features, labels = table(3, n_images=50)
    independence, correlation = metrics.ClassIndependence(5, 4), metrics.Correlation(4)
    for rows in (slice(0, 7), slice(7, 7), slice(7, 40), slice(40, 50)):
        batch = torch.from_numpy(features[rows])
        independence.update(batch, torch.from_numpy(labels[rows]))
        correlation.update(batch)
    # Two of the five classes have no image.
    expected = metrics.class_independence(features, labels)
    assert independence.compute() == pytest.approx(expected, rel=1e-12)
    assert correlation.compute() == pytest.approx(metrics.correlation(features), rel=1e-12)


def test_unusable_features_and_labels_are_refused():
    features, labels = table()
    broken = features.copy()
    broken[3, 1] = math.nan
    for metric in (metrics.correlation, lambda f: metrics.class_independence(f, labels)):
        with pytest.raises(InvalidInputError, match=r"features \[3, 1\] is nan"):
            metric(broken)
        with pytest.raises(InvalidInputError, match=r"shape \(30, 0\)"):
            metric(features[:, :0])
    with pytest.raises(InvalidInputError, match="labels has shape"):
        metrics.class_independence(features, labels[:-1])
    with pytest.raises(InvalidInputError, match="whole numbers"):
        metrics.class_independence(features, labels.astype(float))
    with pytest.raises(InvalidInputError, match="0 or more"):
        metrics.class_independence(features, labels - 1)
    with pytest.raises(InvalidInputError, match="no images"):
        metrics.class_independence(features[:0], labels[:0])
    stream = metrics.ClassIndependence(2, 4)
    with pytest.raises(InvalidInputError, match="0 to 1"):
        stream.update(features, labels)
    with pytest.raises(InvalidInputError, match="4 columns"):
        stream.update(features[:, :3], labels)
