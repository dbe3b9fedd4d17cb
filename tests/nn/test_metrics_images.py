"""Metrics that each image has by itself, and their mean in a stream."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qpm_nn import metrics
from qpm_opt import InvalidInputError


def test_accuracy_of_three_images():
    logits = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    assert metrics.accuracy(logits, torch.tensor([1, 1, 1])) == pytest.approx(2 / 3)
    assert metrics.accuracy(logits.numpy(), np.array([1, 1, 1])) == pytest.approx(2 / 3)
    assert metrics.is_correct(logits, torch.tensor([1, 1, 1])).tolist() == [True, False, True]


def test_of_equal_logits_the_first_counts():
    assert metrics.accuracy(torch.zeros(4, 3), torch.tensor([0, 0, 1, 2])) == 0.5


def test_logits_of_a_network_that_diverged_are_refused():
    logits = torch.tensor([[1.0, math.nan]])
    with pytest.raises(InvalidInputError, match="logits holds NaN"):
        metrics.accuracy(logits, torch.tensor([0]))
    with pytest.raises(InvalidInputError, match=r"labels has shape \(2,\)"):
        metrics.accuracy(torch.zeros(1, 2), torch.tensor([0, 1]))


def test_mean_in_a_stream_leaves_undefined_images_out():
    mean = metrics.ImageMean()
    assert math.isnan(mean.compute())
    mean.update(torch.tensor([1.0, math.nan]))
    mean.update(torch.tensor([True, False, True]))
    assert mean.compute() == 0.75
    assert mean.n_images == 4


def test_dependence_by_hand():
    features = torch.tensor([[2.0, -1.0, 5.0], [1.0, 1.0, 0.0], [0.0, 0.0, 7.0]])
    class_weights = torch.tensor([[1.0, 1.0, 0.0], [1.0, -3.0, 1.0], [1.0, 1.0, 0.0]])
    found = metrics.dependence(features, class_weights).tolist()
    assert found[:2] == pytest.approx([2 / 3, 3 / 4])
    assert math.isnan(found[2])  # nothing contributes


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_dependence_is_a_share_and_has_no_scale_and_no_order(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    features, weights = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    found = metrics.dependence(features, weights)
    assert ((found >= 1 / 4) & (found <= 1)).all()
    order = torch.randperm(4, generator=generator)
    other = metrics.dependence(-scale * features[:, order], weights[:, order])
    assert other.tolist() == pytest.approx(found.tolist())


def test_dependence_refuses_what_does_not_fit():
    with pytest.raises(InvalidInputError, match="class_weights has shape"):
        metrics.dependence(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(InvalidInputError, match="NaN"):
        metrics.dependence(torch.full((1, 2), math.nan), torch.ones(1, 2))
