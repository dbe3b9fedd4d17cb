"""Contributions add up to logits, and to differences of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpm_nn.explanations import (
    LastLayer,
    as_svg,
    contributions,
    draw_contributions,
    draw_why_not,
    feature_colours,
    why_not,
)
from qpm_nn.heads import AssignmentHead, SparseHead
from qpm_opt import InvalidInputError

LAYER = LastLayer(
    [[1, 1, 0, 0], [0, 1, -1, 0], [0, 0, 1, 1]], [3, 8, 9, 20], class_names=["a", "US$ b", "犬"]
)
IMAGE = [2.0, 0.5, -1.0, 0.25]
COLOURS = feature_colours(LAYER.selected)


def test_terms_of_a_logit_by_hand():
    found = contributions(LAYER, IMAGE, 1)
    assert [(term.feature, term.position, term.contribution) for term in found.terms] == [
        (9, 2, 1.0),
        (8, 1, 0.5),
    ]
    assert (found.class_name, found.bias, found.logit) == ("US$ b", 0.0, 1.5)
    assert json.loads(json.dumps(found.to_dict()))["terms"][0] == {
        "feature": 9, "position": 2, "value": -1.0, "weight": -1.0, "contribution": 1.0,
    }  # fmt: skip


def test_terms_between_two_classes_by_hand():
    # Logits are 2.5, 1.5 and -0.75: class 1 is the second best.
    found = why_not(LAYER, IMAGE)
    assert (found.class_index, found.other_index, found.n_shared) == (0, 1, 1)
    assert [(term.feature, term.weight, term.contribution) for term in found.terms] == [
        (3, 1.0, 2.0),
        (9, 1.0, -1.0),
    ]
    assert found.difference == 1.0
    assert why_not(LAYER, IMAGE, 2, c=1).difference == 2.25


@given(st.integers(0, 10**6))
def test_sums_are_what_the_head_computes(seed):
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(4, 6)) * (rng.random((4, 6)) < 0.5)
    head = SparseHead(range(6), weight, rng.normal(size=4), np.zeros(6), np.ones(6)).eval()
    layer = LastLayer.of(head)
    features = rng.normal(size=6)
    logits = layer.logits(features[None])[0]
    for c in range(4):
        found = contributions(layer, features, c)
        total = found.bias + sum(term.contribution for term in found.terms)
        assert found.logit == pytest.approx(logits[c], abs=1e-6) and total == found.logit
        if c:
            two = why_not(layer, features, c, c=0)
            assert two.difference == pytest.approx(logits[0] - logits[c], abs=1e-6)
            assert two.bias + sum(t.contribution for t in two.terms) == two.difference


def test_bars_of_a_figure_end_where_the_sum_does():
    layer = LastLayer(LAYER.weight, LAYER.selected, [0.5, 0, 0], LAYER.class_names)
    axes = draw_contributions(contributions(layer, IMAGE, 0), COLOURS).axes[0]
    bars = [(bar.get_x(), bar.get_width()) for bar in axes.patches]
    assert bars == [(0, 0.5), (0.5, 2.0), (2.5, 0.5), (0.0, 3.0)]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["bias", "feature 3 (+2.00)", "feature 8 (+0.50)", "logit"]
    assert "US$ b" in as_svg(draw_why_not(why_not(LAYER, IMAGE), COLOURS))


def test_many_terms_are_drawn_as_their_sum():
    rng = np.random.default_rng(0)
    layer = LastLayer(rng.normal(size=(2, 60)), class_names=["x" * 300, "犬" * 80])
    found = contributions(layer, rng.normal(size=60), 0)
    figure = draw_contributions(found, feature_colours(range(60)))
    axes = figure.axes[0]
    assert len(axes.patches) == 17
    assert sum(bar.get_width() for bar in axes.patches[:-1]) == pytest.approx(found.logit)
    figure.canvas.draw()
    for text in figure.texts:
        assert text.get_window_extent().x1 <= figure.bbox.x1


@pytest.mark.parametrize(
    "call",
    [
        lambda: contributions(LAYER, IMAGE, 3),
        lambda: contributions(LAYER, [1, 2, 3], 0),
        lambda: contributions(LAYER, [1, 2, 3, np.nan], 0),
        lambda: why_not(LAYER, IMAGE, 0),
        lambda: why_not(LastLayer([[1.0]]), [1.0]),
        lambda: LastLayer(np.zeros((0, 3))),
        lambda: LastLayer([[1.0, 0.0]], [4, 4]),
        lambda: LastLayer([[1.0]], bias=[np.inf]),
        lambda: LastLayer([[1.0]], class_names=["a", "b"]),
        lambda: LAYER.position(4),
    ],
)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(InvalidInputError, match=r"expected"):
        call()


def test_layer_of_a_signed_head():
    W = np.array([[True, True], [False, True]])
    negative = np.array([[False, True], [False, False]])
    layer = LastLayer.of(AssignmentHead([4, 7], W, [0, 0], [1, 1], negative=negative), ["a", "b"])
    assert layer.weight.tolist() == [[1, -1], [0, 1]] and layer.position(7) == 1
