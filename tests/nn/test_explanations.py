"""Words and figures."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from qpm_nn.data import LabelledImages, Preprocessing
from qpm_nn.explanations import (
    closest_pair,
    draw_assignment,
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


def test_assignment_figure_tells_signs_apart(sparse_head):
    matrix = draw_assignment(sparse_head, NAMES).axes[0]
    features = [int(label.get_text()) for label in matrix.get_xticklabels()]
    positive, negative = (
        {(NAMES[int(row)], features[int(column)]) for column, row in marks.get_offsets()}
        for marks in matrix.collections
    )
    assert positive == {("zero", 2), ("two", 7)} and negative == {("zero", 7)}
    assert features[0] == 7


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
    assert "negative" in draw_assignment(head, NAMES).texts[-1].get_text()
    images = LabelledImages(np.zeros((3, 1, 4, 4), np.uint8), np.arange(3))
    figure = draw_comparison(Classifier(Channels(), head), images, spec, pair=(1, 2))
    texts = [text.get_text() for text in figure.texts]
    features = [text for text in texts if text.startswith("feature ")]
    assert features == ["feature 9", "feature 7", "feature 7", "feature 11"]
    assert "shared" not in texts and "Dashed" in texts[-1]
    styles = [axes.spines["left"].get_linestyle() for axes in figure.axes[2:]]
    assert [i for i, style in enumerate(styles) if style == "--"] == [2]  # feature 7, class one


def test_assignment_figure_marks_exactly_the_assigned_cells(head):
    figure = draw_assignment(head, NAMES)
    matrix = figure.axes[0]
    features = [int(label.get_text()) for label in matrix.get_xticklabels()]
    marks = {
        (NAMES[int(row)], features[int(column)])
        for column, row in matrix.collections[0].get_offsets()
    }
    assert marks == {(NAMES[c], SELECTED[d]) for c in range(3) for d in SETS[c]}
    assert features[0] == 7  # the only one that two classes use


def test_dollars_in_class_names_are_no_mathematics(head, tmp_path):
    figure = draw_assignment(head, ("US$ \\frac$", "cat$_$", "plain"))
    figure.savefig(tmp_path / "figure.png")


def test_assignment_figure_of_many_classes_keeps_names_apart():
    n_classes = 45
    W = np.zeros((n_classes, 20), dtype=bool)
    for c in range(n_classes):
        W[c, [c % 20, (c + 1 + c // 20) % 20]] = True
    names = [f"alphabet/character{c}" for c in range(n_classes)]
    figure = draw_assignment(AssignmentHead(range(20), W, np.zeros(20), np.ones(20)), names)
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(above.y0 >= below.y1 for above, below in pairwise(boxes))
    assert min(box.x0 for box in boxes) >= 0
