"""Classes side by side, and the images that stand for them."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from qpm_nn.data import LabelledImages, Preprocessing
from qpm_nn.explanations import (
    Example,
    LastLayer,
    as_svg,
    choose_example,
    closest_pair,
    compare_classes,
    draw_comparison,
    example_image,
    example_images,
    feature_colours,
    predicted_examples,
)
from qpm_nn.heads import AssignmentHead, Classifier
from qpm_nn.saving import ClassifierSpec
from qpm_opt import InvalidInputError

NAMES = ("zero", "one", "two")
SELECTED = [2, 5, 7, 9, 11]
SETS = [[0, 1], [2, 3], [2, 4]]
COLOURS = feature_colours(SELECTED)


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


def example(n_selected=5, seed=0, size=8, channels=3):
    rng = np.random.default_rng(seed)
    shape = (size, size, channels) if channels else (size, size)
    maps = rng.random((n_selected, 2, 2)).astype(np.float32)
    return Example(seed, True, rng.random(shape), rng.normal(size=n_selected), maps)


def layer_of(head, names=NAMES):
    return LastLayer.of(head, names)


def test_closest_pair_shares_most_features(head):
    assert closest_pair(head) == (1, 2)
    assert closest_pair(AssignmentHead([0, 1], np.eye(2, dtype=bool), [0, 0], [1, 1])) == (0, 1)
    with pytest.raises(InvalidInputError, match="one class only"):
        closest_pair(AssignmentHead([0], [[True]], [0], [1]))


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
    found = example_images(classifier, data, [1, 2, 1, 0], spec)
    assert [one.index for one in found] == [1, 2, 1, 4]
    predicted = predicted_examples(classifier, data, [3, 0], spec)
    assert [(c, one.index, one.is_correct) for c, one in predicted] == [(2, 3, False), (2, 0, True)]


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


def test_of_equally_strong_images_the_more_concentrated_one_is_chosen(head, spec):
    flat, spot = np.full((4, 4), 52, np.uint8), np.full((4, 4), 40, np.uint8)
    spot[1, 2] = 232
    assert flat.mean() == spot.mean()
    data = LabelledImages(np.stack([flat, spot])[:, None], np.array([2, 2]))
    assert example_image(Classifier(Channels(), head), data, 2, spec).index == 1


def test_class_without_images(head, spec):
    data = LabelledImages(np.full((1, 1, 4, 4), 9, np.uint8), np.array([2]))
    classifier = Classifier(Channels(), head)
    found = example_images(classifier, data, [0, 2], spec)
    assert found[0] is None and found[1].index == 0
    assert example_images(classifier, data, [0, 1], spec) == (None, None)
    with pytest.raises(InvalidInputError, match="no image of class 0"):
        example_image(classifier, data, 0, spec)
    comparison = compare_classes(layer_of(head), [0, 2], found)
    assert comparison.classes[0].image_index is None and comparison.features[0].values[0] is None
    assert "no image" in as_svg(draw_comparison(comparison, COLOURS))


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(0, 3), st.booleans()), min_size=1))
def test_wrong_images_are_chosen_only_if_all_are_wrong(rows):
    strength, concentration, is_correct = map(np.array, zip(*rows, strict=True))
    best = choose_example(strength, concentration, is_correct)
    allowed = is_correct if is_correct.any() else np.ones(len(rows), bool)
    score = strength * concentration
    assert allowed[best] and score[best] >= score[allowed].max() - 1e-9


def columns(comparison):
    return [(column.kind, column.feature) for column in comparison.features]


def test_two_classes_by_hand(head):
    examples = [example(seed=1), example(seed=2)]
    found = compare_classes(layer_of(head), [1, 2], examples)
    assert columns(found) == [("unique", 9), ("all", 7), ("unique", 11)]
    assert found.features[0].weights == (1, 0)
    assert found.features[1].values == (examples[0].features[2], examples[1].features[2])
    assert found.classes[0].logit == examples[0].features[[2, 3]].sum()
    assert columns(compare_classes(layer_of(head), [2, 1], examples)) == [
        ("unique", 11), ("all", 7), ("unique", 9),
    ]  # fmt: skip
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["classes"][0] == {
        "class_index": 1, "class_name": "one", "image_index": 1, "is_correct": True,
        "logit": found.classes[0].logit,
    }  # fmt: skip


def test_several_classes_with_signs_by_hand():
    layer = LastLayer(
        [[1, 1, 1, 0, 0, 1], [1, 1, 0, 1, 0, -1], [1, 0, 0, 0, -1, 0]], [3, 4, 5, 6, 7, 8]
    )
    found = compare_classes(layer, [0, 1, 2], [None] * 3)
    assert columns(found) == [
        ("all", 3), ("some", 4), ("opposed", 8), ("unique", 5), ("unique", 6), ("unique", 7),
    ]  # fmt: skip
    figure = draw_comparison(found, feature_colours(layer.selected))
    texts = [text.get_text() for text in figure.texts]
    titles = ["shared by all", "shared by some", "opposite signs", "only class 0", "only class 2"]
    assert [text for text in texts if text in titles] == titles
    # Rows of the columns in their order, below the three pictures.
    styles = [axes.spines["left"].get_linestyle() for axes in figure.axes[3:]]
    assert [i for i, style in enumerate(styles) if style == "--"] == [3 * 2 + 1, 3 * 5 + 2]
    assert any("counts against" in text for text in texts)


def test_figure_shows_each_feature_once_for_all_classes(head):
    found = compare_classes(layer_of(head), [1, 2], [example(seed=1), example(seed=2)])
    figure = draw_comparison(found, COLOURS)
    texts = [text.get_text() for text in figure.texts]
    expected = ["only one", "feature 9", "shared", "feature 7", "only two", "feature 11"]
    assert [text for text in texts if text in expected] == expected
    assert len(figure.axes) == 2 * (1 + 3)
    assert [figure.axes[row].get_ylabel() for row in (0, 1)] == ["one", "two"]
    assert [axes.get_xlabel() for axes in figure.axes[2:4]] == [
        f"{value:+.1f}" for value in found.features[0].values
    ]
    frames = [axes.spines["left"].get_edgecolor() for axes in figure.axes[2:4]]
    assert frames[0] != frames[1]  # only the upper class has feature 9
    assert COLOURS[9] in as_svg(figure)


@pytest.mark.parametrize("size, channels", [(8, 0), (8, 3), (1, 0)])
def test_small_grey_images_and_long_names(head, size, channels):
    names = ["x" * 300, "犬" * 90, "US$_{"]
    examples = [example(seed=i, size=size, channels=channels) for i in range(3)]
    found = compare_classes(layer_of(head, names), [0, 1, 2], examples)
    assert "US$_{" in as_svg(draw_comparison(found, COLOURS))


def test_all_features_in_all_classes():
    found = compare_classes(LastLayer(np.ones((2, 3))), [0, 1], [example(3), None])
    assert columns(found) == [("all", 0), ("all", 1), ("all", 2)]
    draw_comparison(found, feature_colours(range(3)))


@pytest.mark.parametrize("classes, n", [([0], 1), ([1, 1], 2), ([0, 3], 2), ([0, 1], 1)])
def test_what_cannot_be_compared_is_refused(head, classes, n):
    with pytest.raises(InvalidInputError, match="expected"):
        compare_classes(layer_of(head), classes, [None] * n)
