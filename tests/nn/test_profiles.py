"""Profiles of features."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpm_nn.explanations import (
    LastLayer,
    active_means,
    as_svg,
    draw_feature_histogram,
    feature_colours,
    feature_profiles,
)
from qpm_nn.metrics import contrastiveness, two_modes
from qpm_opt import InvalidInputError

LAYER = LastLayer(
    [[1, 1, 0], [0, 1, -1], [0, 0, 1]], [3, 8, 9], class_names=["a", "US$", "犬" * 100]
)
COLOURS = feature_colours(LAYER.selected)
FEATURES = np.array([[1.0, 2, 0], [3, 2, 1], [-1, 4, 0], [0, 5, 0]])
LABELS = np.array([0, 0, 1, 1])


def test_by_hand():
    found = feature_profiles(LAYER, FEATURES, LABELS, n_top=2)
    first, second, third = found
    assert (first.feature, first.position, first.n_images) == (3, 0, 4)
    assert [(c.class_name, c.weight, c.mean) for c in first.classes] == [("a", 1, 2.0)]
    assert [(c.class_index, c.mean) for c in second.classes] == [(0, 2.0), (1, 4.5)]
    assert [(c.class_index, c.weight, c.mean) for c in third.classes] == [(1, -1, 0), (2, 1, None)]
    assert [(t.index, t.label, t.value) for t in first.top_images] == [(1, 0, 3.0), (0, 0, 1.0)]
    assert (first.mean, first.share_active) == (0.75, 0.5)
    # Columns (1, 3, -1, 0), (2, 2, 4, 5) and (0, 1, 0, 0).
    near = [(n.feature, round(n.cosine, 6)) for n in first.nearest]
    assert near == [(9, round(3 / 11**0.5, 6)), (8, round(4 / (11 * 49) ** 0.5, 6))]
    assert sum(first.counts) == 4 and (first.edges[0], first.edges[-1]) == (-1, 3)
    assert first.attributes == ()
    assert json.loads(json.dumps(third.to_dict()))["classes"][1]["mean"] is None


def test_attributes_by_hand():
    present = np.array([[1, 0, 1], [1, 0, 0], [0, 0, 1], [0, 0, 0]], dtype=bool)
    (found,) = feature_profiles(
        LAYER, FEATURES, LABELS, positions=[0], present=present, attribute_names=["x", "y", "z"]
    )
    # Above its minimum the feature is 2, 4, 0, 1: 1.75 on average. No image has attribute y.
    expected = [("x", (3 - 0.5) / 1.75), ("z", (1 - 2.5) / 1.75)]
    assert [(one.name, one.alignment) for one in found.attributes] == [
        (name, pytest.approx(value)) for name, value in expected
    ]
    assert "Best aligned: x" in " ".join(
        text.get_text().replace("\n", " ") for text in draw_feature_histogram(found, COLOURS).texts
    )


@given(st.integers(0, 10**6))
def test_modes_are_those_of_the_metric(seed):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(50, 3)) + 5 * (rng.random((50, 3)) < 0.3)
    features[:, 1] = 2.5
    found = feature_profiles(LAYER, features, rng.integers(0, 3, 50))
    assert np.mean([one.contrastiveness for one in found]) == pytest.approx(
        contrastiveness(features)
    )
    assert found[1].modes == () and found[1].contrastiveness == 0
    assert (len(found[1].counts), sum(found[1].counts)) == (1, 50)
    for one in (found[0], found[2]):
        off, on = one.modes
        assert off.mean <= on.mean and off.weight + on.weight == pytest.approx(1)
        # The mixture has the mean of the data.
        assert off.weight * off.mean + on.weight * on.mean == pytest.approx(one.mean, abs=1e-6)
        if on.mean > 0:
            assert active_means(features)[one.position] == on.mean


def test_modes_keep_the_units_of_the_features():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(-3, 0.5, 300), rng.normal(7, 1, 100)])[:, None]
    found = two_modes(values * 10 + 4)
    order = found.means[0].argsort()
    np.testing.assert_allclose(found.means[0][order], [-26, 74], rtol=0.03)
    np.testing.assert_allclose(found.stds[0][order], [5, 10], rtol=0.15)
    np.testing.assert_allclose(found.weights[0][order], [0.75, 0.25], rtol=0.02)


def test_many_zeros_do_not_hide_the_rest():
    rng = np.random.default_rng(0)
    features = np.where(rng.random((500, 3)) < 0.9, 0, rng.exponential(2, (500, 3)))
    profile = feature_profiles(LAYER, features, rng.integers(0, 3, 500))[2]
    figure = draw_feature_histogram(profile, COLOURS)
    assert figure.axes[0].get_ylim()[1] < profile.counts[0]
    assert f"{profile.counts[0]} images" in as_svg(figure)


def test_few_images_and_constant_features_are_drawn():
    for features in (np.zeros((1, 3)), np.ones((5, 3)), FEATURES[:2]):
        for one in feature_profiles(LAYER, features, np.zeros(len(features), int)):
            draw_feature_histogram(one, COLOURS).canvas.draw()
    alone = feature_profiles(LastLayer([[0.0], [0.0]], [4]), [[1.0], [2.0]], [0, 1])
    assert alone[0].nearest == () and alone[0].classes == ()
    draw_feature_histogram(alone[0], feature_colours([4]))


@pytest.mark.parametrize(
    "changes",
    [
        {"features": np.zeros((0, 3)), "labels": np.zeros(0, int)},
        {"labels": [0, 0, 1, 3]},
        {"positions": [3]},
        {"present": np.zeros((3, 2), bool)},
        {"present": np.zeros((4, 2), bool), "attribute_names": ["x"]},
        {"features": FEATURES * np.nan},
    ],
)
def test_what_does_not_fit_is_refused(changes):
    with pytest.raises(InvalidInputError, match="expected"):
        feature_profiles(LAYER, **({"features": FEATURES, "labels": LABELS} | changes))
