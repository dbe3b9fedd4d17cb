"""Coverage, size and coherence of prediction sets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qpm_nn.metrics import sets as metrics
from qpm_opt import InvalidInputError

SETS = np.array(
    [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [0, 1, 1, 1],
        [0, 0, 0, 0],
        [1, 0, 1, 0],
    ],
    dtype=bool,
)
LABELS = np.array([0, 2, 2, 0, 0])
NONE = np.zeros((0, 4), dtype=bool)


def test_coverage_and_size_by_hand():
    for sets in (SETS, torch.from_numpy(SETS)):
        assert metrics.set_coverage(sets, torch.from_numpy(LABELS)) == 3 / 5
        assert metrics.mean_set_size(sets) == 8 / 5
        assert metrics.empty_set_share(sets) == 1 / 5


def test_coverage_by_size_by_hand():
    assert metrics.coverage_by_size(SETS, LABELS) == [
        (0, 0, 1, 0.0),
        (1, 1, 1, 1.0),
        (2, 2, 2, 0.5),
        (3, 3, 1, 1.0),
    ]
    expected = [(0, 1, 2, 0.5), (2, 4, 3, 2 / 3)]
    assert metrics.coverage_by_size(SETS, LABELS, largest=[1]) == expected
    assert metrics.coverage_by_size(SETS, LABELS, largest=[1, 4]) == expected
    assert metrics.coverage_by_size(SETS, LABELS, largest=(1, 9, 50)) == expected
    assert metrics.worst_size_coverage(SETS, LABELS) == 0
    assert metrics.worst_size_coverage(SETS, LABELS, min_images=2) == 0.5
    assert metrics.worst_size_coverage(SETS, LABELS, largest=[1]) == 0.5
    assert math.isnan(metrics.worst_size_coverage(SETS, LABELS, min_images=6))


def test_coverage_by_class_by_hand():
    np.testing.assert_array_equal(
        metrics.coverage_by_class(SETS, LABELS), [2 / 3, math.nan, 1 / 2, math.nan]
    )
    assert metrics.worst_class_coverage(SETS, LABELS) == 0.5
    gap = metrics.class_coverage_gap(SETS, LABELS, 0.1)
    assert gap == pytest.approx((0.9 - 2 / 3 + 0.9 - 0.5) / 2)


def test_sets_count_alike_however_large():
    similarity = np.array([[1, 0.5, 0, 0], [0.5, 1, 0.2, 0.4], [0, 0.2, 1, 0.6], [0, 0.4, 0.6, 1]])
    # {0, 1}, {1, 2, 3} and {0, 2}.
    expected = (0.5 + (0.2 + 0.4 + 0.6) / 3 + 0) / 3
    assert metrics.set_coherence(SETS, similarity) == pytest.approx(expected)
    assert metrics.set_coherence(SETS[1:2], similarity) == 0.5
    assert math.isnan(metrics.set_coherence(SETS[[0, 3]], similarity))


@given(hnp.arrays(bool, (6, 4)), st.integers(0, 3))
def test_coherence_is_the_mean_over_pairs(sets, seed):
    attributes = np.random.default_rng(seed).normal(size=(4, 3))

    def cosine(c, d):
        a, b = attributes[c], attributes[d]
        return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))

    each = []
    for row in sets:
        members = np.flatnonzero(row)
        pairs = [cosine(c, d) for c in members for d in members if c < d]
        if pairs:
            each.append(np.mean(pairs))
    found = metrics.set_coherence(sets, metrics.attribute_similarity(attributes))
    assert found == pytest.approx(np.mean(each)) if each else math.isnan(found)


def test_similarity_of_attributes():
    found = metrics.attribute_similarity([[1, 0], [2, 0], [1, 1], [0, 0], [-1, 0]])
    np.testing.assert_allclose(found[0], [1, 1, math.sqrt(0.5), 0, -1])
    assert found[3].tolist() == [0] * 5


def test_similarity_in_a_hierarchy():
    hierarchy = [
        ("small", "gulls", "birds"),
        ("small", "gulls", "birds"),
        ("large", "gulls", "birds"),
        ("small", "terns", "birds"),  # other small ones than the small gulls
        ("birds",),
        ("small", "gulls", "toys"),
        (),
    ]
    found = metrics.hierarchy_similarity(hierarchy)
    np.testing.assert_allclose(found[0], [1, 1, 2 / 3, 1 / 3, 1 / 3, 0, 0])
    np.testing.assert_allclose(found[4], [1 / 3, 1 / 3, 1 / 3, 1 / 3, 1, 0, 0])
    assert np.array_equal(found, found.T)


def test_without_images_nothing_is_defined():
    for value in (
        metrics.set_coverage(NONE, []),
        metrics.mean_set_size(NONE),
        metrics.empty_set_share(NONE),
        metrics.worst_size_coverage(NONE, []),
        metrics.worst_class_coverage(NONE, []),
        metrics.class_coverage_gap(NONE, [], 0.1),
        metrics.set_coherence(NONE, np.eye(4)),
    ):
        assert math.isnan(value)
    assert metrics.coverage_by_size(NONE, []) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda: metrics.set_coverage(SETS[0], LABELS),
        lambda: metrics.set_coverage(SETS, LABELS[:4]),
        lambda: metrics.set_coverage(SETS, LABELS + 2),
        lambda: metrics.mean_set_size(np.zeros((3, 0), dtype=bool)),
        lambda: metrics.coverage_by_size(SETS, LABELS, largest=[2, 1]),
        lambda: metrics.coverage_by_size(SETS, LABELS, largest=[-1]),
        lambda: metrics.class_coverage_gap(SETS, LABELS, 1.0),
        lambda: metrics.set_coherence(SETS, np.eye(3)),
        lambda: metrics.set_coherence(SETS, np.ones((3, 4))),
        lambda: metrics.set_coherence(SETS, np.full((4, 4), math.nan)),
        lambda: metrics.attribute_similarity([[math.inf]]),
        lambda: metrics.hierarchy_similarity([]),
        lambda: metrics.hierarchy_similarity([(), ()]),
    ],
)
def test_unusable_input(call):
    with pytest.raises(InvalidInputError):
        call()
