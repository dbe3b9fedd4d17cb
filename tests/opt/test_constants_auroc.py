"""Areas under ROC curves against their definition, scikit-learn, and as the constants A."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qpm_opt import Problem
from qpm_opt.constants import (
    auroc,
    compute_constants,
    feature_similarity,
    problem_from_features,
    statistics_from_features,
)
from qpm_opt.errors import InvalidFeaturesError, InvalidInputError

SIZES = {"n_selected": 5, "n_per_class": 2}


def tied_data(seed: int, dtype=np.float32, n_images: int = 40, n_features: int = 9):
    """Few different values, many zeros, and one constant feature."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n_images) % 4)
    features = rng.integers(-3, 6, (n_images, n_features)) + labels[:, None] % 2
    features = np.maximum(features, 0).astype(dtype)
    features[:, 4] = 3
    return features, labels


def by_definition(features, labels) -> np.ndarray:
    """Pairs of an image of the class and one of another, won, or half won if equal."""
    X = np.asarray(features, dtype=np.float64)
    area = np.empty((labels.max() + 1, X.shape[1]))
    for c in range(len(area)):
        inside, outside = X[labels == c, np.newaxis], X[labels != c]
        won = (inside > outside) + 0.5 * (inside == outside)
        area[c] = won.mean(axis=(0, 1))
    return area


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from([np.float16, np.float32, np.float64, np.uint8, np.int64]),
)
def test_equals_the_definition_with_ties(seed, dtype):
    features, labels = tied_data(seed, dtype)
    area = auroc(features, labels)
    np.testing.assert_allclose(area, by_definition(features, labels), rtol=0, atol=1e-15)
    assert (area[:, 4] == 0.5).all()


def test_equals_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(300) % 7)
    features = np.maximum(rng.normal(size=(7, 11))[labels] + rng.normal(size=(300, 11)), 0)
    area = auroc(features, labels)
    for c in range(7):
        for d in range(11):
            expected = metrics.roc_auc_score(labels == c, features[:, d])
            assert area[c, d] == pytest.approx(expected, abs=1e-14)


def test_blocks_of_features_change_nothing(monkeypatch):
    features, labels = tied_data(1)
    whole = auroc(features, labels)
    monkeypatch.setattr("qpm_opt.auroc._BLOCK_BYTES", 56 * 40 * 2)  # two features
    assert np.array_equal(auroc(features, labels), whole)
    monkeypatch.setattr("qpm_opt.auroc._BLOCK_BYTES", 1)
    assert np.array_equal(auroc(features, labels), whole)


def test_only_the_order_of_values_counts():
    features, labels = tied_data(2, np.float64)
    assert np.array_equal(auroc(np.exp(features) - 1e9, labels), auroc(features, labels))
    np.testing.assert_allclose(auroc(-features, labels), 1 - auroc(features, labels), atol=1e-15)


def test_extremes():
    labels = np.array([0, 0, 1, 1])
    features = np.array([[1.0, 0.0], [2.0, -0.0], [3.0, 0.0], [4.0, 0.0]])
    assert auroc(features, labels).tolist() == [[0.0, 0.5], [1.0, 0.5]]
    assert (auroc(features, np.zeros(4, int)) == 0.5).all()  # nothing to compare with


@pytest.mark.parametrize(
    ("features", "labels", "n_classes", "match"),
    [
        (np.array([[0.0, 1.0], [2.0, np.nan]]), [0, 1], None, "Feature 1 of image 1 is nan"),
        (np.array([[0.0, np.inf], [2.0, 1.0]]), [0, 1], None, "Feature 1 of image 0 is inf"),
        (np.ones((2, 2)), [0, 2], None, "Class 1 has no images"),
        (np.ones((2, 2)), [0, 1], 3, "Class 2 has no images"),
        (np.ones((2, 2)), [0], None, "labels has shape"),
        (np.ones(2), [0, 1], None, r"\(n_images, n_features\) was expected"),
        (np.ones((1, 2)), [0], None, "There are 1 images"),
        (np.ones((2, 2), complex), [0, 1], None, "features is complex128"),
    ],
)
def test_unusable_features_are_refused(features, labels, n_classes, match):
    with pytest.raises(InvalidFeaturesError, match=match):
        auroc(features, labels, n_classes=n_classes)


def test_problem_has_centred_areas_at_the_scale_of_correlations():
    features, labels = tied_data(3)
    problem = Problem.from_features(features, labels, class_similarity="auroc", **SIZES)
    centred = by_definition(features, labels) - 0.5
    largest = 1000 / (2 * 4)
    np.testing.assert_allclose(
        problem.class_similarity, centred / np.abs(centred).max() * largest, atol=1e-12
    )
    raw = feature_similarity(centred)
    kept = problem.feature_similarity > 0
    np.testing.assert_allclose(
        problem.feature_similarity, np.where(kept, raw / raw.max(), 0.0), atol=1e-12
    )
    assert not problem.candidates[4] and not problem.class_similarity[:, 4].any()
    correlation = Problem.from_features(features, labels, **SIZES)
    assert problem.sha256 != correlation.sha256


def test_differences_by_rounding_only_do_not_set_the_scale():
    features, labels = tied_data(3, np.float64)
    plain = problem_from_features(features, labels, class_similarity="auroc", **SIZES)
    features[:, 4] = np.where(labels == 1, np.nextafter(0.1, 1), 0.1)
    assert auroc(features, labels)[1, 4] == 1.0
    problem = problem_from_features(features, labels, class_similarity="auroc", **SIZES)
    assert problem.sha256 == plain.sha256


def test_any_matrix_can_be_given():
    features, labels = tied_data(5)
    statistics = statistics_from_features(features, labels)
    named = compute_constants(statistics, **SIZES)
    given = compute_constants(statistics, class_similarity=statistics.class_similarity, **SIZES)
    np.testing.assert_array_equal(given.class_similarity, named.class_similarity)
    areas = compute_constants(statistics, class_similarity=auroc(features, labels) - 0.5, **SIZES)
    problem = problem_from_features(features, labels, class_similarity="auroc", **SIZES)
    np.testing.assert_array_equal(areas.class_similarity, problem.class_similarity)


def test_what_cannot_be_made_is_refused():
    statistics = statistics_from_features(*tied_data(0))
    with pytest.raises(InvalidInputError, match="statistics keep no images; call problem_from"):
        compute_constants(statistics, class_similarity="auroc", **SIZES)
    with pytest.raises(InvalidInputError, match=r"no class_similarity 'auc'.*mean auroc"):
        compute_constants(statistics, class_similarity="auc", **SIZES)
    for matrix in (np.ones((4, 8)), np.full((4, 9), np.nan), np.full((4, 9), "x")):
        with pytest.raises(InvalidFeaturesError, match=r"numbers of shape \(4, 9\) were expected"):
            compute_constants(statistics, class_similarity=matrix, **SIZES)
