"""The fewest changes: against all subsets of features, each with a linear program."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from qpm_nn.explanations import (
    LastLayer,
    counterfactual,
    draw_counterfactual,
    feature_colours,
    observed_limits,
)
from qpm_opt import InvalidInputError

MARGIN = 1e-3


def smallest_by_subsets(weight, bias, features, c, low, high):
    """Number of changed features and their total change; None if nothing leads to class ``c``."""
    n = len(features)
    rivals = [r for r in range(len(weight)) if r != c]
    D = weight[c] - weight[rivals]
    have = D @ features + bias[c] - bias[rivals]
    for size in range(n + 1):
        best = None
        for subset in map(list, combinations(range(n), size)):
            if not size:
                feasible, total = (have >= MARGIN).all(), 0.0
            else:
                part = D[:, subset]
                found = linprog(
                    np.ones(2 * size),
                    A_ub=np.hstack([-part, part]),
                    b_ub=have - MARGIN,
                    bounds=[(0, high[j] - features[j]) for j in subset]
                    + [(0, features[j] - low[j]) for j in subset],
                )
                feasible, total = found.status == 0, found.fun
            if feasible and (best is None or total < best):
                best = total
        if best is not None:
            return size, best
    return None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["binary", "signed", "sparse"]))
def test_agrees_with_all_subsets(seed, kind):
    rng = np.random.default_rng(seed)
    n_classes, n = int(rng.integers(2, 6)), int(rng.integers(2, 6))
    weight = (rng.random((n_classes, n)) < 0.5).astype(float)
    if kind != "binary":
        weight *= rng.choice([-1, 1], weight.shape)
    if kind == "sparse":
        weight *= rng.uniform(0.2, 2, weight.shape)
    bias = rng.normal(size=n_classes) * (kind == "sparse")
    low, high = -rng.random(n), 1 + rng.random(n)
    features = rng.uniform(low, high)
    layer = LastLayer(weight, bias=bias)
    for c in range(n_classes):
        found = counterfactual(layer, features, c, (low, high), margin=MARGIN)
        if found.predicted_index == c:
            assert found.changes == () and found.is_reachable
            continue
        expected = smallest_by_subsets(weight, bias, features, c, low, high)
        assert found.is_reachable == (expected is not None) and found.is_fewest
        if expected is not None:
            assert len(found.changes) == expected[0] and found.is_smallest
            assert found.total_change == pytest.approx(expected[1], abs=1e-4)
            after = features.copy()
            for change in found.changes:
                assert low[change.position] <= change.after <= high[change.position]
                after[change.position] = change.after
            logits = weight @ after + bias
            assert logits.argmax() == c
            assert found.margin == pytest.approx(logits[c] - np.delete(logits, c).max())


LAYER = LastLayer(
    [[1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 1]], [3, 8, 9, 20, 21], class_names="abc"
)
LOW, HIGH = np.zeros(5), np.array([4.0, 4.0, 4.0, 1.0, 1.0])


def test_one_feature_tells_contrastive_classes_apart_by_hand():
    found = counterfactual(LAYER, [3, 3, 1, 0, 0], 1, (LOW, HIGH), margin=0.5)
    (change,) = found.changes
    # Either feature 3 falls by 2.5 or feature 9 rises by 2.5.
    assert change.feature in (3, 9) and found.total_change == pytest.approx(2.5)
    assert found.logits_before == {1: 4.0, 0: 6.0}
    assert found.margin == pytest.approx(0.5)
    assert json.loads(json.dumps(found.to_dict()))["logits_before"] == {"1": 4.0, "0": 6.0}


def test_out_of_reach_is_said_with_who_is_in_the_way():
    features = np.array([3.0, 3, 1, 0, 0])
    found = counterfactual(LAYER, features, 2, (features, HIGH))
    assert found.is_reachable is False and found.blocking == (0, 1) and not found.changes
    text = " ".join(t.get_text() for t in draw_counterfactual(found, {}, "abc").texts)
    assert "a, b would stay ahead" in text


def test_two_classes_together_keep_a_third_away():
    # Class 2 beats each rival for some value of the feature, but not both at once.
    layer = LastLayer([[1.0], [-1.0], [0.0]])
    found = counterfactual(layer, [0.5], 2, ([-1], [1]))
    assert found.is_reachable is False and found.blocking == () and found.is_fewest


def test_twins_are_out_of_reach():
    layer = LastLayer([[1, 0], [1, 0], [0, 1]])
    assert counterfactual(layer, [1, 0], 1, ([0, 0], [9, 9])).blocking == (0,)


def test_values_beyond_the_limits_stay_allowed():
    found = counterfactual(LAYER, [9, 0, 0, 0, 0], 0, (LOW, HIGH))
    assert found.is_reachable and found.changes == ()
    found = counterfactual(LAYER, [9, 0, 0.5, 0, 0], 1, (LOW, HIGH))
    assert [(change.feature, change.high) for change in found.changes] == [(3, 9.0)]


def test_one_class_is_always_predicted():
    assert counterfactual(LastLayer([[1.0]]), [0.0], 0, ([0], [1])).is_reachable


def test_hundreds_of_classes():
    rng = np.random.default_rng(0)
    W = np.zeros((500, 50))
    for row in W:
        row[rng.choice(50, 5, replace=False)] = 1
    features = rng.exponential(size=50)
    found = counterfactual(LastLayer(W), features, 7, (np.zeros(50), np.full(50, 9.0)))
    assert found.is_reachable and found.is_fewest


def test_figure_shows_the_changes():
    layer = LastLayer(LAYER.weight, LAYER.selected, class_names=["a", "b" * 200, "US$"])
    found = counterfactual(layer, [4, 4, 0, 0, 0], 1, (LOW, np.full(5, 9.0)))
    figure = draw_counterfactual(found, feature_colours(LAYER.selected), layer.class_names)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [f"feature {change.feature}" for change in found.changes]
    figure.canvas.draw()
    assert all(text.get_window_extent().x1 <= figure.bbox.x1 for text in figure.texts)


@pytest.mark.parametrize(
    "arguments",
    [
        {"c": 3},
        {"margin": 0.0},
        {"time_limit": -1.0},
        {"limits": (HIGH, LOW)},
        {"limits": (LOW, HIGH[:2])},
        {"limits": (LOW, np.full(5, np.inf))},
    ],
)
def test_what_does_not_fit_is_refused(arguments):
    with pytest.raises(InvalidInputError, match="expected"):
        counterfactual(
            LAYER, **({"features": np.ones(5), "c": 1, "limits": (LOW, HIGH)} | arguments)
        )


def test_limits_are_those_seen():
    low, high = observed_limits([[1, 5], [2, -1]])
    assert low.tolist() == [1, -1] and high.tolist() == [2, 5]
    with pytest.raises(InvalidInputError):
        observed_limits(np.zeros((0, 3)))
