"""Confusions, and the features that explain them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpm_nn.explanations import LastLayer, confusions, draw_confusions, feature_colours
from qpm_opt import InvalidInputError

LAYER = LastLayer(
    [[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 1]], [3, 8, 9, 20], class_names=["a", "US$", "犬" * 90]
)
COLOURS = feature_colours(LAYER.selected)
FEATURES = np.array(
    [
        [2.0, 3, 0, 0],  # class 0, recognised
        [2.0, 5, 1, 0],  # class 0, recognised
        [2.0, 0, 1, 0],  # class 0, taken for 1
        [2.0, 1, 4, 0],  # class 0, taken for 1
        [0.0, 0, 1, 3],  # class 1, taken for 2
    ]
)
LABELS = [0, 0, 0, 0, 1]


def test_by_hand():
    found = confusions(LAYER, FEATURES, LABELS)
    assert (found.n_images, found.n_wrong) == (5, 3)
    assert found.share_differ_by_one == 1.0 and found.share_of_pairs == pytest.approx(4 / 6)
    first, second = found.pairs
    assert (first.true, first.predicted, first.count, first.images) == (0, 1, 2, (3, 2))
    assert first.lead == 2.0 and first.differ_by_one
    # Feature 8 of the true class was too weak by 3.5, feature 9 of the wrong one too strong by 2.
    terms = [(t.feature, t.weight, t.mean, t.usual, t.contribution, t.push) for t in first.terms]
    assert terms == [(8, -1, 0.5, 4.0, -0.5, 3.5), (9, 1, 2.5, 0.5, 2.5, 2.0)]
    # No image of class 1 is recognised, so there is nothing usual.
    assert [(t.feature, t.usual, t.push) for t in second.terms] == [
        (20, None, None),
        (3, None, None),
    ]
    assert json.loads(json.dumps(found.to_dict()))["pairs"][0]["images"] == [3, 2]


@given(st.integers(0, 10**6))
def test_terms_add_up_to_the_lead(seed):
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(4, 5)) * (rng.random((4, 5)) < 0.6)
    layer = LastLayer(weight, bias=rng.normal(size=4))
    features, labels = rng.normal(size=(30, 5)), rng.integers(0, 4, 30)
    logits = layer.logits(features)
    found = confusions(layer, features, labels)
    assert sum(pair.count for pair in found.pairs) == found.n_wrong
    assert [pair.count for pair in found.pairs] == sorted(
        (pair.count for pair in found.pairs), reverse=True
    )
    for pair in found.pairs:
        rows = list(pair.images)
        assert (labels[rows] == pair.true).all()
        lead = (logits[rows, pair.predicted] - logits[rows, pair.true]).mean()
        bias = layer.bias[pair.predicted] - layer.bias[pair.true]
        assert lead >= 0 and pair.lead == pytest.approx(lead)
        assert bias + sum(term.contribution for term in pair.terms) == pytest.approx(lead)


def test_predictions_of_the_classifier_count():
    found = confusions(LAYER, FEATURES, LABELS, [2, 0, 0, 0, 1])
    assert [(pair.true, pair.predicted) for pair in found.pairs] == [(0, 2)]
    assert found.share_differ_by_one == 0.0


def test_figures_of_all_sizes():
    found = confusions(LAYER, FEATURES, LABELS)
    figure = draw_confusions(found, COLOURS)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[:2] == ["feature 8, for the truth", "feature 9, for the mistake"]
    figure.canvas.draw()
    assert all(text.get_window_extent().x1 <= figure.bbox.x1 for text in figure.axes[0].texts)
    assert "1 most frequent of 2" in draw_confusions(found, COLOURS, 1).texts[1].get_text()
    none = confusions(LAYER, FEATURES[:2], LABELS[:2])
    assert none.share_differ_by_one is None and none.pairs == ()
    draw_confusions(none, COLOURS)
    empty = confusions(LAYER, np.zeros((0, 4)), np.zeros(0, int))
    assert empty.n_images == 0
    with pytest.raises(InvalidInputError):
        draw_confusions(found, COLOURS, 0)


def test_many_terms_are_cut_to_those_that_moved_most():
    rng = np.random.default_rng(0)
    layer = LastLayer(rng.normal(size=(2, 40)))
    found = confusions(layer, rng.normal(size=(50, 40)), rng.integers(0, 2, 50))
    figure = draw_confusions(found, feature_colours(range(40)))
    assert len(figure.axes[0].get_yticks()) == 6 * len(found.pairs)
