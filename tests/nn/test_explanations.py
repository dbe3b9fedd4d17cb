"""Words and figures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from qpm_nn.data import LabelledImages, Preprocessing
from qpm_nn.explanations import (
    closest_pair,
    draw_comparison,
    example_image,
    explain_class,
    shared_features,
)
from qpm_nn.heads import AssignmentHead, Classifier, SparseHead
from qpm_nn.saving import ClassifierSpec

NAMES = ("zero", "one", "two")
SELECTED = [2, 5, 7, 9, 11]
SETS = [[0, 1], [2, 3], [2, 4]]


class Channels(nn.Module):
    """Maps that repeat the image, scaled by the number of the channel."""

    def forward(self, images):
        return images * torch.arange(12.0).view(-1, 1, 1)


@pytest.fixture
def head():
    W = np.zeros((3, 5), dtype=bool)
    for c, features in enumerate(SETS):
        W[c, features] = True
    return AssignmentHead(SELECTED, W, np.zeros(5), np.ones(5))


@pytest.fixture
def spec():
    return ClassifierSpec("channels", (1, 4, 4), NAMES, Preprocessing((0.0,), (1.0,)))


def test_words(head):
    assert explain_class(head, 0, NAMES) == "class zero = features 2, 5"
    assert explain_class(head, 1, NAMES) == (
        "class one = features 7, 9; class two has 11 instead of 9"
    )


@pytest.fixture
def sparse_head():
    weight = np.array([[0.5, 0, -2.25], [0, 0, 0], [0, 0, 0.125]])
    return SparseHead([2, 5, 7], weight, np.zeros(3), np.zeros(3), np.ones(3))


def test_weights_in_words(sparse_head):
    words = [explain_class(sparse_head, c, NAMES) for c in (0, 1)]
    assert words == ["class zero = -2.2 x feature 7, +0.5 x feature 2", "class one = no feature"]


def test_closest_pair_shares_most_features(head):
    assert closest_pair(head) == (1, 2)


def test_closest_pair_of_disjoint_classes():
    head = AssignmentHead([0, 1], np.eye(2, dtype=bool), [0, 0], [1, 1])
    assert closest_pair(head) == (0, 1)


def test_example_is_the_strongest_recognised_image(head, spec):
    # Class two has the largest weights, so only images of class two are recognised.
    brightness = np.array([10, 200, 90, 50, 250], dtype=np.uint8)
    images = np.broadcast_to(brightness[:, None, None, None], (5, 1, 4, 4)).copy()
    data = LabelledImages(images, np.array([2, 1, 2, 1, 0]))
    classifier = Classifier(Channels(), head)
    best = example_image(classifier, data, 2, spec)
    assert (best.index, best.is_correct) == (2, True)
    np.testing.assert_allclose(best.image, 90 / 255)
    np.testing.assert_allclose(best.features, np.array(SELECTED) * 90 / 255, rtol=1e-5)
    wrong = example_image(classifier, data, 1, spec)
    assert (wrong.index, wrong.is_correct) == (1, False)


def test_weaker_recognised_image_is_preferred(head, spec):
    # Negative input turns the order of the logits around: the darkest class wins.
    preprocessing = dataclasses.replace(spec.preprocessing, mean=(0.5,))
    data = LabelledImages(
        np.array([20, 250], dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8),
        np.array([0, 0]),
    )
    spec = dataclasses.replace(spec, preprocessing=preprocessing)
    best = example_image(Classifier(Channels(), head), data, 0, spec)
    assert (best.index, best.is_correct) == (0, True)


def test_comparison_shows_each_feature_once_for_both_classes(head, spec):
    rng = np.random.default_rng(0)
    data = LabelledImages(rng.integers(0, 255, (6, 1, 4, 4), np.uint8), np.arange(6) % 3)
    figure = draw_comparison(Classifier(Channels(), head), data, spec)
    texts = [text.get_text() for text in figure.texts]
    expected = ["only upper", "feature 9", "shared", "feature 7", "only lower", "feature 11"]
    assert [text for text in texts if text in expected] == expected
    assert len(figure.axes) == 2 * (1 + 3)
    assert [figure.axes[row].get_ylabel().split("\n")[0] for row in (0, 1)] == ["one", "two"]
    colour = draw_comparison(
        Classifier(Channels(), head),
        LabelledImages(rng.integers(0, 255, (3, 1, 4, 4), np.uint8), np.arange(3)),
        spec,
        pair=(0, 1),
    )
    assert len(colour.axes) == 2 * (1 + 4)


def test_negative_assignments_in_words_and_figures(head, spec):
    negative = np.zeros((3, 5), dtype=bool)
    negative[1, 2] = negative[0, 1] = True  # class two has feature 7 positively
    head = AssignmentHead(SELECTED, head.assignment, np.zeros(5), np.ones(5), negative=negative)
    assert explain_class(head, 0, NAMES) == "class zero = features 2, -5"
    assert explain_class(head, 1, NAMES) == "class one = features 9, -7"
    assert shared_features(head)[1, 2] == 0
    images = LabelledImages(np.zeros((3, 1, 4, 4), np.uint8), np.arange(3))
    figure = draw_comparison(Classifier(Channels(), head), images, spec, pair=(1, 2))
    texts = [text.get_text() for text in figure.texts]
    features = [text for text in texts if text.startswith("feature ")]
    assert features == ["feature 9", "feature 7", "feature 7", "feature 11"]
    assert "shared" not in texts and "Dashed" in texts[-1]
    styles = [axes.spines["left"].get_linestyle() for axes in figure.axes[2:]]
    assert [i for i, style in enumerate(styles) if style == "--"] == [2]  # feature 7, class one
