"""Contrastiveness: known mixtures, scikit-learn's fits, and features that nothing can split."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.mixture import GaussianMixture

from qpm_nn import metrics
from qpm_nn.metrics.mixture import fit_two_normals
from qpm_opt import InvalidInputError


def standardised(seed: int, n_images: int = 400) -> np.ndarray:
    """Rows: normals at several distances, skewed, with exact zeros, few values, an outlier."""
    rng = np.random.default_rng(seed)
    half = n_images // 2
    rows = [
        np.concatenate([rng.normal(0, 1, half), rng.normal(m, s, n_images - half)])
        for m in (0, 1, 3, 10)
        for s in (0.1, 1, 3)
    ]
    rows += [
        rng.exponential(size=n_images),
        rng.normal(size=n_images).clip(0),
        rng.integers(0, 3, n_images).astype(float),
        np.append(rng.normal(size=n_images - 1), 100.0),
        rng.random(n_images),
    ]
    values = np.array(rows)
    return (values - values.mean(1, keepdims=True)) / values.std(1, keepdims=True)


def best_split(row: np.ndarray) -> np.ndarray:
    """Which values belong to the lower of the two clusters with the least squares; by trying."""
    squares = {
        threshold: sum(
            part.var() * part.size for part in (row[row < threshold], row[row >= threshold])
        )
        for threshold in np.unique(row)[1:]
    }
    return row < min(squares, key=squares.get)


def test_fits_are_those_of_scikit_learn_from_the_best_split():
    values = standardised(0)
    ours = fit_two_normals(torch.from_numpy(values))
    for d, row in enumerate(values):
        lower = best_split(row)
        parts = [row[lower], row[~lower]]
        theirs = GaussianMixture(
            2,
            weights_init=[part.size / row.size for part in parts],
            means_init=[[part.mean()] for part in parts],
            precisions_init=[[[1 / (part.var() + 1e-6)]] for part in parts],
        ).fit(row[:, None])
        assert ours.weights[d].tolist() == pytest.approx(theirs.weights_.tolist(), abs=1e-6)
        assert ours.means[d].tolist() == pytest.approx(theirs.means_.ravel().tolist(), abs=1e-6)
        assert ours.variances[d].tolist() == pytest.approx(
            theirs.covariances_.ravel().tolist(), abs=1e-6
        )


def overlap_by_scikit_learn(column: np.ndarray) -> float:
    """Eq. 13 for one feature, by scikit-learn's own start."""
    scaled = ((column - column.mean()) / column.std())[:, None]
    mixture = GaussianMixture(2, random_state=0).fit(scaled)
    first, second = map(
        statistics.NormalDist, mixture.means_.ravel(), mixture.covariances_.ravel() ** 0.5
    )
    return 1 - first.overlap(second)


def test_the_mean_over_real_features_is_that_of_scikit_learn():
    """Within 2e-3: its k-means starts at random, and ends elsewhere for some features."""
    pixels = load_digits().data
    pixels = pixels[:, pixels.std(0) > 0]
    theirs = np.mean([overlap_by_scikit_learn(column) for column in pixels.T])
    assert metrics.contrastiveness(pixels) == pytest.approx(theirs, abs=2e-3)


def test_equals_the_overlap_of_known_normals():
    quantiles = np.array([statistics.NormalDist().inv_cdf((i + 0.5) / 2000) for i in range(2000)])
    feature = np.concatenate([quantiles, quantiles * 0.5 + 6])[:, None]
    known = statistics.NormalDist(0, 1).overlap(statistics.NormalDist(6, 0.5))
    assert metrics.contrastiveness(feature) == pytest.approx(1 - known, abs=2e-3)
    for scale in (1e-4, 100):
        assert metrics.contrastiveness(scale * (feature - 7)) == pytest.approx(
            metrics.contrastiveness(feature), abs=1e-6
        )


def test_is_the_mean_and_survives_constants():
    rng = np.random.default_rng(1)
    bimodal = np.repeat([0.0, 1.0], 50) + rng.normal(0, 0.01, 100)
    constant = np.full(100, 3.0)
    assert metrics.contrastiveness(bimodal[:, None]) == pytest.approx(1, abs=1e-6)
    assert metrics.contrastiveness(constant[:, None]) == 0
    both = np.column_stack([bimodal, constant, 0 * constant])
    assert metrics.contrastiveness(both) == pytest.approx(1 / 3, abs=1e-6)
    assert metrics.contrastiveness(np.repeat([0.0, 1.0], 5)[:, None]) == pytest.approx(1)


def test_one_and_two_images():
    assert metrics.contrastiveness([[1.0, 2.0]]) == 0
    assert metrics.contrastiveness([[1.0, 2.0], [1.0, 3.0]]) == pytest.approx(0.5)


def test_exact_zeros_make_any_feature_contrastive():
    """As the docstring warns."""
    values = np.abs(np.random.default_rng(0).normal(size=2000))
    assert metrics.contrastiveness(values[:, None]) < 0.85
    values[:400] = 0
    assert metrics.contrastiveness(values[:, None]) > 0.99


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100), st.floats(-10, 10), st.booleans())
def test_has_no_scale_no_offset_and_no_order(seed, scale, offset, mirror):
    features = standardised(seed, n_images=60).T
    found = metrics.contrastiveness(features)
    assert 0 <= found <= 1
    rng = np.random.default_rng(seed)
    other = rng.permutation(scale * features[:, rng.permutation(features.shape[1])] + offset)
    assert metrics.contrastiveness(-other if mirror else other) == pytest.approx(found, abs=1e-5)


def test_a_stream_of_many_features_gives_what_all_images_give():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(100, 1500)).astype(np.float32)
    features[:50] += rng.uniform(0, 5, 1500).astype(np.float32)
    stream = metrics.Contrastiveness(1500)
    for rows in (slice(0, 30), slice(30, 31), slice(31, 100)):
        stream.update(torch.from_numpy(features[rows]))
    assert stream.compute() == metrics.contrastiveness(features)
    halves = [metrics.contrastiveness(half) for half in np.split(features, 2, axis=1)]
    assert stream.compute() == pytest.approx(np.mean(halves), rel=1e-9)


def test_unusable_features_are_refused():
    with pytest.raises(InvalidInputError, match="nan"):
        metrics.contrastiveness([[1.0], [math.nan]])
    with pytest.raises(InvalidInputError, match="no images"):
        metrics.contrastiveness(np.empty((0, 2)))
    with pytest.raises(InvalidInputError, match="no images"):
        metrics.Contrastiveness(2).compute()
