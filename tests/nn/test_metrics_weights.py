"""Compactness, contrastive pairs, Structural and text grounding, from weights alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qpm_nn import metrics
from qpm_opt import InvalidInputError

WEIGHTS = np.array([[1, 1, 0, 0, 0], [1, 0, 1, 0, 0], [0, 0, 0, 1, 0.5], [0, 0, 0, 0, 0]])


def test_compactness_by_hand():
    weights = WEIGHTS * [1, 1, 1, 0, -1]
    assert metrics.n_features(weights) == 4
    assert metrics.features_per_class(torch.from_numpy(weights)) == 5 / 4
    assert metrics.n_features(0 * weights) == 0


def test_shared_features_have_the_same_sign():
    weights = np.array([[1.0, 2.0, 0.0], [3.0, -1.0, 1.0]])
    assert metrics.shared_features(weights).tolist() == [[2, 1], [1, 3]]


def test_contrastive_pairs_by_hand():
    # Classes 0 and 1 exchange one feature; 2 shares nothing; 3 has nothing.
    assert metrics.contrastive_pair_share(WEIGHTS) == 0.5
    # Equal classes are no pair, and neither are {0, 1} and {0, 1, 2}.
    assert metrics.contrastive_pair_share([[1, 1, 0], [1, 1, 0], [1, 1, 1]]) == 0
    # With one feature each, all different classes are partners.
    assert metrics.contrastive_pair_share(np.eye(3)) == 1
    assert metrics.contrastive_pair_share([[1.0, 1.0]]) == 0
    # A feature with the opposite sign is another one.
    assert metrics.contrastive_pair_share([[1.0, 1.0], [1.0, -1.0]]) == 1


def test_dense_weights_have_no_contrastive_pairs():
    assert metrics.contrastive_pair_share(np.random.default_rng(0).normal(size=(5, 200))) == 0


def literal_grounding(weights, attributes, n_pairs) -> float:
    """Eq. 12."""

    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))

    pairs = [(c, d) for c in range(len(weights)) for d in range(c)]
    pairs.sort(key=lambda pair: -cosine(attributes[pair[0]], attributes[pair[1]]))
    chosen = pairs[:n_pairs]
    return sum(cosine(weights[c], weights[d]) for c, d in chosen) / sum(
        cosine(attributes[c], attributes[d]) for c, d in chosen
    )


@pytest.mark.parametrize("n_pairs", [1, 25, 1000])
def test_structural_grounding_equals_eq_12(n_pairs):
    rng = np.random.default_rng(0)
    weights, attributes = rng.normal(size=(12, 6)), rng.random((12, 30))
    expected = literal_grounding(weights.tolist(), attributes.tolist(), n_pairs)
    found = metrics.structural_grounding(weights, attributes, n_pairs=n_pairs)
    assert found == pytest.approx(expected, rel=1e-12)
    assert metrics.text_grounding(weights, attributes, n_pairs=n_pairs) == found


def test_grounding_by_hand():
    # The most similar pair by attributes is (0, 1), cosine 0.8; its weights share one of two.
    attributes = [[1.0, 0.0, 0.0], [4.0, 3.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    assert metrics.structural_grounding(WEIGHTS, attributes, n_pairs=1) == pytest.approx(0.5 / 0.8)


def test_defaults_are_those_of_the_paper():
    rng = np.random.default_rng(1)
    weights, attributes = rng.normal(size=(60, 6)), rng.random((60, 30))
    assert metrics.structural_grounding(weights, attributes) == pytest.approx(
        literal_grounding(weights.tolist(), attributes.tolist(), 25)
    )
    assert metrics.text_grounding(weights, attributes) == pytest.approx(
        literal_grounding(weights.tolist(), attributes.tolist(), 1250)
    )


def test_classes_without_features_or_attributes_are_similar_to_none():
    attributes = np.ones((4, 2))
    pairs = 1 / 2  # of six pairs only (0, 1) has similar weights
    assert metrics.structural_grounding(WEIGHTS, attributes) == pytest.approx(pairs / 6)
    assert math.isnan(metrics.structural_grounding(WEIGHTS, 0 * attributes))
    assert math.isnan(metrics.structural_grounding(WEIGHTS[:1], attributes[:1]))


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_grounding_has_no_scale_and_no_order(seed, scale):
    rng = np.random.default_rng(seed)
    weights, attributes = rng.integers(0, 2, (9, 6)), rng.random((9, 5))
    found = metrics.structural_grounding(weights, attributes, n_pairs=4)
    assert found >= 0
    classes = rng.permutation(9)
    other = metrics.structural_grounding(
        weights[classes][:, rng.permutation(6)], scale * attributes[classes], n_pairs=4
    )
    assert other == pytest.approx(found)
    assert metrics.structural_grounding(attributes, attributes, n_pairs=4) == pytest.approx(1)


def test_attributes_that_do_not_fit_are_refused():
    with pytest.raises(InvalidInputError, match="attributes has 3 rows, but weights has 4"):
        metrics.structural_grounding(WEIGHTS, np.ones((3, 2)))
    with pytest.raises(InvalidInputError, match="n_pairs is 0"):
        metrics.structural_grounding(WEIGHTS, np.ones((4, 2)), n_pairs=0)
    with pytest.raises(InvalidInputError, match=r"text_embeddings \[0, 0\] is nan"):
        metrics.text_grounding(WEIGHTS, np.full((4, 2), math.nan))
    with pytest.raises(InvalidInputError, match="weights has shape"):
        metrics.n_features(np.ones(3))
