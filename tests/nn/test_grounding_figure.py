"""Similarity of classes in the model beside a given one."""

from __future__ import annotations

import json

import numpy as np
import pytest

from qpm_nn.explanations import (
    LastLayer,
    draw_grounding,
    grounding_scatter,
)
from qpm_nn.metrics import attribute_similarity, structural_grounding
from qpm_opt import InvalidInputError

LAYER = LastLayer([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 1]], class_names=["a", "US$", "犬"])
GIVEN = np.array([[1, 0.8, 0.1], [0.8, 1, 0.4], [0.1, 0.4, 1]])


def test_pairs_by_hand():
    found = grounding_scatter(LAYER, GIVEN, n_top=2)
    points = [(p.first, p.second, p.given, round(p.model, 9)) for p in (*found.top, *found.others)]
    assert points == [(0, 1, 0.8, 0.5), (1, 2, 0.4, 0.5), (0, 2, 0.1, 0.0)]
    assert found.structural_grounding == pytest.approx(1.0 / 1.2)
    assert found.rank_correlation == pytest.approx(np.sqrt(3) / 2)
    assert json.loads(json.dumps(found.to_dict()))["n_pairs"] == 3
    draw_grounding(found, "US$").canvas.draw()


def test_is_the_metric_of_the_same_pairs():
    rng = np.random.default_rng(0)
    weight, attributes = rng.random((30, 8)), rng.random((30, 5))
    found = grounding_scatter(LastLayer(weight), attribute_similarity(attributes), n_top=7)
    assert found.structural_grounding == structural_grounding(weight, attributes, n_pairs=7)


def test_many_pairs_are_thinned_but_counted():
    rng = np.random.default_rng(0)
    found = grounding_scatter(
        LastLayer(rng.random((100, 6))), attribute_similarity(rng.random((100, 4)))
    )
    assert (len(found.top), len(found.others), found.n_pairs) == (25, 2000, 4950)
    given = [pair.given for pair in (*found.top, *found.others)]
    assert given == sorted(given, reverse=True)
    assert "2025 of 4950" in " ".join(t.get_text() for t in draw_grounding(found).texts)


def test_what_is_not_defined_is_none():
    one = grounding_scatter(LastLayer([[1.0]]), [[1.0]])
    assert (one.n_pairs, one.structural_grounding, one.rank_correlation) == (0, None, None)
    draw_grounding(one)
    flat = grounding_scatter(LAYER, np.zeros((3, 3)))
    assert flat.structural_grounding is None and flat.rank_correlation is None
    draw_grounding(flat).canvas.draw()


@pytest.mark.parametrize("given", [np.zeros((2, 2)), np.full((3, 3), np.nan), np.triu(GIVEN)])
def test_other_matrices_are_refused(given):
    with pytest.raises(InvalidInputError, match="expected"):
        grounding_scatter(LAYER, given)
