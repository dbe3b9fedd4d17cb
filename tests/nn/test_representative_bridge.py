"""Rivals to rule out and shared patterns, against all subsets."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qpm_nn.explanations.heat import active_means
from qpm_nn.explanations.representative import bridge, rivals_to_rule_out, shared_pattern
from qpm_opt import InvalidInputError

SEEDS = st.integers(0, 10**6)


def random_assignment(seed, *, ties=False):
    """Features of up to 40 images and a binary assignment of 2 of up to 6 features."""
    rng = np.random.default_rng(seed)
    n_classes, n_selected = int(rng.integers(2, 6)), int(rng.integers(3, 7))
    weight = np.zeros((n_classes, n_selected))
    for row in weight:
        row[rng.choice(n_selected, 2, replace=False)] = 1
    features = rng.normal(size=(int(rng.integers(4, 40)), n_selected))
    if ties:
        features = np.round(features)
    return features, weight


def winner(scores):
    """The first class with the largest score, as a network predicts."""
    return max(range(len(scores)), key=lambda a: (scores[a], -a))


def before(scores, rival, c):
    """Whether the rival wins against c: larger, or as large and earlier."""
    return scores[rival] > scores[c] or (scores[rival] == scores[c] and rival < c)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.booleans())
def test_rivals_are_the_smallest_set_that_singles_the_class_out(seed, ties):
    features, weight = random_assignment(seed, ties=ties)
    n_classes = len(weight)
    scores = [[float(sum(f[w > 0])) for w in weight] for f in features]
    for c in range(n_classes):
        others = [s for s in scores if winner(s) != c]
        smallest = None
        for size in range(n_classes):
            for chosen in itertools.combinations([a for a in range(n_classes) if a != c], size):
                if all(any(before(s, rival, c) for rival in chosen) for s in others):
                    smallest = size
                    break
            if smallest is not None:
                break
        found = rivals_to_rule_out(features, weight, c)
        chosen = [rival.c for rival in found.rivals]
        assert found.is_proved and found.bound == len(chosen) == smallest
        assert found.n_images == len(others)
        assert all(any(before(s, rival, c) for rival in chosen) for s in others)
        # What the class is told by: an image is predicted c exactly if c is ahead of all rivals.
        for s in scores:
            assert (winner(s) == c) == (not any(before(s, rival, c) for rival in chosen))
        for rival in found.rivals:
            assert rival.n_images == sum(before(s, rival.c, c) for s in others)
            assert rival.for_prediction == [
                d for d in range(weight.shape[1]) if weight[c, d] > weight[rival.c, d]
            ]
            assert rival.for_rival == [
                d for d in range(weight.shape[1]) if weight[c, d] < weight[rival.c, d]
            ]
            assert len(rival.for_prediction) == len(rival.for_rival) <= 2
        counts = [rival.n_images for rival in found.rivals]
        assert counts == sorted(counts, reverse=True)
        assert json.loads(json.dumps(found.to_dict()))["n_images_of_others"] == len(others)


def test_one_rival_can_stand_for_two_classes():
    """Whoever has the features of class 2 is ahead of class 0 by class 1, too."""
    weight = [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    features = [[1, 0, 0, 0], [0, 1, 0.5, 0], [0, 0.1, 1, 0.9]]
    found = rivals_to_rule_out(features, weight, 0)
    assert [rival.c for rival in found.rivals] == [1]
    assert found.rivals[0].for_prediction == [0] and found.rivals[0].for_rival == [2]
    assert found.rivals[0].n_images == found.n_images == 2


def test_no_images_of_others_no_rivals():
    found = rivals_to_rule_out([[1.0, 0]], [[1.0, 0], [0, 1]], 0)
    assert found.rivals == [] and found.n_images == 0 and found.is_proved
    empty = rivals_to_rule_out(np.zeros((0, 2)), [[1.0, 0], [0, 1]], 1)
    assert empty.rivals == [] and empty.n_images == 0


@pytest.mark.parametrize(
    ("features", "weight", "c", "expected"),
    [
        ([[1.0, np.nan]], np.eye(2), 0, r"features \[0, 1\] is nan"),
        ([[1.0, 0]], [[1.0, np.inf], [0, 1]], 0, r"weight \[0, 1\] is inf"),
        ([[1.0, 0, 0]], np.eye(2), 0, r"features has shape \(1, 3\)"),
        ([1.0, 0], np.eye(2), 0, r"features has shape \(2,\)"),
        ([[1.0, 0]], np.eye(2), 2, "no class 2; labels from 0 to 1"),
        ([[1.0, 0]], np.eye(2), -1, "no class -1"),
        ([[1.0, 0]], np.zeros((2, 0)), 0, "weight has shape"),
    ],
)
def test_bad_input_for_rivals(features, weight, c, expected):
    with pytest.raises(InvalidInputError, match=expected):
        rivals_to_rule_out(features, weight, c)


def two_levels(seed):
    """Features that are clearly active or not, classes at random or by a feature, and an image."""
    rng = np.random.default_rng(seed)
    n_images, n_selected = int(rng.integers(4, 40)), int(rng.integers(2, 7))
    is_active = rng.random((n_images, n_selected)) < rng.choice([0.3, 0.5, 0.8])
    features = np.where(is_active, 2.0, -0.5) + 0.05 * rng.normal(size=is_active.shape)
    predicted = rng.integers(0, 3, n_images)
    if seed % 2:
        predicted = np.where(rng.random(n_images) < 0.8, is_active[:, 0], predicted)
    return features, predicted.astype(int), int(rng.integers(n_images))


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_pattern_is_the_largest_group(seed):
    features, predicted, i = two_levels(seed)
    x, c = features[i], int(predicted[i])
    thresholds = [0.5 * mean for mean in active_means(features)]
    states = [[f >= t for f, t in zip(row, thresholds, strict=True)] for row in features]
    own = states[i]
    n_images, n_selected = features.shape

    def group(chosen):
        return [r for r in range(n_images) if all(states[r][d] == own[d] for d in chosen)]

    least = sum(predicted[r] != c for r in group(range(n_selected)))
    best = None
    for size in range(n_selected + 1):
        for chosen in itertools.combinations(range(n_selected), size):
            members = group(chosen)
            if sum(predicted[r] != c for r in members) <= least:
                n_same = sum(predicted[r] == c for r in members)
                if best is None or n_same > best[0]:  # the smaller subset comes first
                    best = n_same, size
    found = shared_pattern(features, predicted, x, c)
    assert (found.n_same, len(found.active) + len(found.inactive)) == best
    assert found.n_other == least
    assert found.n_class == sum(predicted == c)
    members = group([*found.active, *found.inactive])
    np.testing.assert_array_equal(np.flatnonzero(found.covered), members)
    assert found.covered[i]
    assert all(own[d] for d in found.active) and not any(own[d] for d in found.inactive)
    greedy = shared_pattern(features, predicted, x, c, method="greedy")
    assert greedy.n_same <= found.n_same == found.cover.bound
    data = json.loads(json.dumps(found.to_dict()))
    assert data["active"] == found.active and data["n_same"] == found.n_same


def test_pattern_by_hand():
    """Active 0 tells class 1 from the rest; feature 1 would cost members."""
    features = [[2, 2], [2, -1], [2.1, 2], [-1, 2], [-1, -1.1], [-1.1, 2.1]]
    found = shared_pattern(features, [1, 1, 1, 0, 0, 2], [2, 2], 1)
    assert found.active == [0] and found.inactive == []
    assert found.covered.tolist() == [True] * 3 + [False] * 3
    assert (found.n_same, found.n_other, found.n_class) == (3, 0, 3)
    absent = shared_pattern(features, [1, 1, 1, 0, 0, 0], [-1, -1], 0)
    assert absent.active == [] and absent.inactive == [0]
    assert absent.n_same == 3


def test_half_of_the_active_mean_is_active(monkeypatch):
    monkeypatch.setattr(bridge, "active_means", lambda features: np.full(1, 2.0))
    found = shared_pattern([[1.0], [2.0], [0.9], [-1.0]], [0, 0, 1, 1], [1.0], 0)
    assert found.active == [0] and found.inactive == []
    assert found.covered.tolist() == [True, True, False, False]


def test_constant_features():
    found = shared_pattern(np.ones((4, 2)), [0, 0, 1, 1], [1.0, 1.0], 0)
    assert found.active == found.inactive == []
    assert (found.n_same, found.n_other) == (2, 2)


@pytest.mark.parametrize(
    ("features", "predicted", "x", "options", "expected"),
    [
        ([[1.0, np.nan], [0, 1]], [0, 1], [1.0, 0], {}, r"features \[0, 1\] is nan"),
        (np.eye(2), [0, 1], [1.0, np.nan], {}, r"x \[0, 1\] is nan"),
        (np.eye(2), [0, 1], [1.0, 0, 0], {}, r"x has shape \(1, 3\)"),
        (np.eye(2), [0, 1], np.eye(2), {}, r"x has shape \(2, 2\)"),
        (np.eye(2), [0, 1, 1], [1.0, 0], {}, r"labels has shape \(3,\)"),
        (np.eye(2), [0.0, 1.5], [1.0, 0], {}, "whole numbers"),
        (np.zeros((0, 2)), [], [1.0, 0], {}, "no images"),
        (np.eye(2), [0, 1], [1.0, 0], {"method": "best"}, "best"),
    ],
)
def test_bad_input_for_patterns(features, predicted, x, options, expected):
    with pytest.raises(InvalidInputError, match=expected):
        shared_pattern(features, predicted, x, 0, **options)
