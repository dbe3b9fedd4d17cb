"""Feature Alignment against eqs. 28 to 30 written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qpm_nn import metrics
from qpm_opt import InvalidInputError


def annotated(seed: int = 0, n_images: int = 40, n_features: int = 3, n_attributes: int = 4):
    """Features, present, absent; a third of the labels is not certain."""
    rng = np.random.default_rng(seed)
    state = rng.integers(0, 3, (n_images, n_attributes))
    features = rng.normal(size=(n_images, n_features)) + (state == 1) @ rng.random(
        (n_attributes, n_features)
    )
    return features, state == 1, state == 2


def literal(features, present, absent, j, a, considered=None) -> float:
    """Eq. 30 for feature j and attribute a."""
    column = features[:, j]
    images = [i for i in range(len(column)) if considered is None or considered[i]]
    there = [column[i] for i in images if present[i, a]]
    gone = [column[i] for i in images if absent[i, a]]
    difference = sum(there) / len(there) - sum(gone) / len(gone)
    return len(column) / sum(value - min(column) for value in column) * difference


def test_equals_eq_29():
    features, present, absent = annotated()
    expected = np.mean(
        [max(literal(features, present, absent, j, a) for a in range(4)) for j in range(3)]
    )
    found = metrics.feature_alignment(features, present, absent)
    assert found == pytest.approx(expected, rel=1e-12)


def test_by_hand():
    features = np.array([[4.0], [2.0], [1.0], [1.0]])
    present = np.array([[1], [1], [0], [0]])
    # (3 - 1) by the mean above the minimum, (3 + 1) / 4.
    assert metrics.feature_alignment(features, present) == pytest.approx(2)


def test_local_alignment_equals_eq_30():
    features, present, absent = annotated(n_images=80)
    labels = np.arange(80) % 4
    # Class 0 shares 2, 1, 1 and 0 of its features with classes 0 to 3.
    weights = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1], [0, 0, 1]])
    for n_different, near in ((0, [0]), (1, [0, 1, 2]), (2, [0, 1, 2, 3])):
        found = metrics.local_feature_alignment(
            features, labels, present, absent, weights, 0, n_different
        )
        considered = np.isin(labels, near)
        for a in range(4):
            for j in range(3):
                assert found[a, j] == pytest.approx(
                    literal(features, present, absent, j, a, considered), rel=1e-9
                )
    alignment = metrics.FeatureAlignment(3, 4)
    alignment.update(features, present, absent)
    np.testing.assert_allclose(found, alignment.matrix(), rtol=1e-12)


def test_attributes_that_are_nowhere_present_or_absent_do_not_count():
    features, present, absent = annotated()
    expected = metrics.feature_alignment(features, present, absent)
    column = np.zeros((len(features), 1), bool)
    wider = np.hstack([present, column, ~column]), np.hstack([absent, ~column, column])
    assert metrics.feature_alignment(features, *wider) == pytest.approx(expected)
    alignment = metrics.FeatureAlignment(3, 6)
    alignment.update(features, *wider)
    assert np.isnan(alignment.matrix()[4:]).all()
    assert math.isnan(metrics.feature_alignment(features, column))


def test_constant_features_and_one_image():
    features, present, absent = annotated()
    constant = np.full((len(features), 1), 0.1)
    both = metrics.feature_alignment(np.hstack([features, constant]), present, absent)
    assert both == pytest.approx(metrics.feature_alignment(features, present, absent) * 3 / 4)
    assert math.isnan(metrics.feature_alignment(features[:1], present[:1]))


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100), st.floats(-10, 10))
def test_has_no_scale_no_offset_and_no_order(seed, scale, offset):
    features, present, absent = annotated(seed)
    found = metrics.feature_alignment(features, present, absent)
    rng = np.random.default_rng(seed)
    images, attributes = rng.permutation(len(features)), rng.permutation(4)
    other = scale * features[images][:, rng.permutation(3)] + offset
    masks = [mask[images][:, attributes] for mask in (present, absent)]
    assert metrics.feature_alignment(other, *masks) == pytest.approx(found, rel=1e-7)


def test_a_stream_gives_what_all_images_give():
    features, present, absent = annotated()
    stream = metrics.FeatureAlignment(3, 4)
    for rows in (slice(0, 11), slice(11, 12), slice(12, 40)):
        stream.update(
            *(torch.from_numpy(array[rows]) for array in (features, present, absent)),
        )
    expected = metrics.feature_alignment(features, present, absent)
    assert stream.compute() == pytest.approx(expected, rel=1e-12)


def test_unusable_annotations_are_refused():
    features, present, absent = annotated()
    with pytest.raises(InvalidInputError, match="both present and absent"):
        metrics.feature_alignment(features, present, present)
    with pytest.raises(InvalidInputError, match="absent has shape"):
        metrics.feature_alignment(features, present, absent[:, :2])
    with pytest.raises(InvalidInputError, match="nan"):
        metrics.feature_alignment(features * math.nan, present, absent)
    with pytest.raises(InvalidInputError, match="no images"):
        metrics.FeatureAlignment(3, 4).compute()
    labels = np.zeros(len(features), int)
    with pytest.raises(InvalidInputError, match="class_index is 2"):
        metrics.local_feature_alignment(features, labels, present, None, np.eye(2, 3), 2, 0)
    with pytest.raises(InvalidInputError, match="weights has shape"):
        metrics.local_feature_alignment(features, labels, present, None, np.eye(2), 0, 0)
