"""Heat maps: certain features are bright, whatever stands beside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from qpm_nn.data import LabelledImages, Preprocessing
from qpm_nn.explanations import (
    Example,
    active_means,
    as_svg,
    certainty,
    draw_heat_maps,
    explained_image,
    feature_colours,
    heat_map,
)
from qpm_nn.heads import AssignmentHead, Classifier
from qpm_nn.saving import ClassifierSpec
from qpm_opt import InvalidInputError

NAMES = ("zero", "US$ one", "two")
SELECTED = [2, 5, 7, 9]
SETS = [[0, 1], [1, 2], [2, 3]]


@pytest.fixture
def head():
    W = np.zeros((3, 4), dtype=bool)
    for c, own in enumerate(SETS):
        W[c, own] = True
    return AssignmentHead(SELECTED, W, np.zeros(4), np.ones(4))


def example(features, seed=0):
    rng = np.random.default_rng(seed)
    maps = rng.random((4, 3, 3)).astype(np.float32)
    return Example(0, True, rng.random((8, 8, 3)), np.array(features, np.float32), maps)


def test_active_mean_is_the_larger_of_two():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(-0.5, 0.2, (300, 2)), rng.normal([3, 30], 0.2, (100, 2))])
    np.testing.assert_allclose(active_means(features), [3, 30], rtol=0.02)
    torch.testing.assert_close(
        torch.from_numpy(active_means(torch.from_numpy(features))),
        torch.from_numpy(active_means(features)),
    )


def test_active_means_where_nothing_can_be_fitted():
    features = np.array([[0.0, 2, -1, -3, 0], [0, 2, -1, -3.5, 4], [0, 2, -1, -4, 0]])
    np.testing.assert_allclose(active_means(features), [1, 2, 1, 1, 4], rtol=1e-2)
    np.testing.assert_array_equal(active_means(features[:1]), [1, 2, 1, 1, 1])


def test_active_means_of_blocks_are_those_of_features():
    features = np.random.default_rng(0).normal(size=(70_000, 3))
    alone = [active_means(features[:, [j]])[0] for j in range(3)]
    np.testing.assert_allclose(active_means(features), alone)


def test_certainty_ends_at_the_active_mean():
    found = certainty([[-1.0, 1, 2, 9]], [2, 2, 2, 2])
    np.testing.assert_array_equal(found, [[0, 0.5, 1, 1]])


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    hnp.arrays(np.float64, (3, 2), elements=finite), st.floats(0, 1), st.sampled_from([0.5, 1, 3])
)
def test_heat_is_between_nothing_and_certainty(feature_map, certain, gamma):
    heat = heat_map(feature_map, certain, gamma)
    assert np.isfinite(heat).all() and heat.min() >= 0 and heat.max() <= certain


def test_peak_is_the_certainty_and_constant_maps_are_nothing():
    feature_map = np.zeros((7, 7))
    feature_map[3, 3] = 5
    assert heat_map(feature_map, 0.4).max() == pytest.approx(0.4, rel=2e-3)
    assert heat_map(feature_map, 0.4, 3).max() == pytest.approx(0.4, rel=1e-2)
    assert heat_map(feature_map, 0.4, 3).sum() < heat_map(feature_map, 0.4).sum()
    np.testing.assert_array_equal(heat_map(feature_map, 0.4), heat_map(10 * feature_map - 3, 0.4))
    assert not heat_map(np.full((7, 7), 5.0), 1.0).any()


def heats(figure):
    """Heat maps of the figure, by their place in it."""
    return [axes.images[1].get_array() for axes in figure.axes if len(axes.images) == 2]


def test_heat_does_not_depend_on_other_rows(head):
    rows = [(0, example([1.0, 0.5, 0, 0])), (1, example([0.0, 50, 50, 0], 1))]
    alone = heats(draw_heat_maps(head, NAMES, rows[:1], np.ones(4)))
    beside = heats(draw_heat_maps(head, NAMES, rows, np.ones(4)))
    assert len(alone) == 2 and len(beside) == 6
    for one, other in zip(alone, beside[:2], strict=True):
        np.testing.assert_array_equal(one, other)


def test_columns_values_shares_and_frames(head):
    rows = [(0, example([1.0, 3, 0.5, 0])), (1, example([-1.0, 2, -0.5, 0], 1))]
    figure = draw_heat_maps(head, NAMES, rows, np.full(4, 2.0))
    titles = [t.get_text() for t in figure.texts if t.get_text().startswith("feature ")]
    assert titles == ["feature 5", "feature 2", "feature 7"]
    below = [axes.get_xlabel().split() for axes in figure.axes]
    assert below == [
        [], ["+3.0", "75%"], ["+1.0", "25%"], ["+0.5"],
        [], ["+2.0", "133%"], ["-1.0"], ["-0.5", "-33%"],
    ]  # fmt: skip
    framed = [axes.spines["left"].get_linewidth() > 2 for axes in figure.axes]
    assert framed == [False, True, True, False, False, True, False, True]
    assert heats(figure)[0].max() > heats(figure)[1].max()
    svg = as_svg(figure)
    assert "US$ one" in svg and svg == as_svg(figure)
    assert feature_colours(SELECTED)[5] in svg


def test_negative_features_are_dashed_and_logits_need_not_be_positive(head):
    negative = np.zeros((3, 4), dtype=bool)
    negative[0, 0] = True
    head = AssignmentHead(SELECTED, head.assignment, np.zeros(4), np.ones(4), negative=negative)
    figure = draw_heat_maps(head, NAMES, [(0, example([3.0, 1, 0, 0]))], np.ones(4))
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "+1.0", "+3.0"]
    assert [axes.spines["left"].get_linestyle() for axes in figure.axes[1:]] == ["-", "--"]
    assert "Dashed" in " ".join(text.get_text() for text in figure.texts)


def test_texts_of_one_feature_are_inside():
    head = AssignmentHead([4], [[True]], [0], [1])
    one = example([1.0] * 4)
    one = one._replace(features=one.features[:1], maps=one.maps[:1])
    figure = draw_heat_maps(head, ["long name " * 40], [(0, one)], [1.0])
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.texts]
    assert all(box.x1 <= figure.bbox.x1 and box.y0 >= 0 for box in boxes)


class Channels(nn.Module):
    """Maps that repeat the image, scaled by the number of the channel."""

    def forward(self, images):
        return images * torch.arange(12.0).view(-1, 1, 1)


def test_explained_image_is_shown_for_its_prediction(head):
    images = np.array([10, 200], np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8)
    data = LabelledImages(images, np.array([2, 1]))
    spec = ClassifierSpec("channels", (1, 4, 4), NAMES, Preprocessing((0.0,), (1.0,)))
    c, found = explained_image(Classifier(Channels(), head), data, 1, spec)
    assert (c, found.index, found.is_correct) == (2, 1, False)
    np.testing.assert_allclose(found.image, 200 / 255)
    np.testing.assert_allclose(found.features, np.array(SELECTED) * 200 / 255, rtol=1e-5)
    assert found.maps.shape == (4, 4, 4)
    draw_heat_maps(head, NAMES, [(c, found)], np.ones(4))


@pytest.mark.parametrize(
    "call",
    [
        lambda head: active_means(np.zeros((0, 3))),
        lambda head: active_means([[np.nan]]),
        lambda head: heat_map(np.zeros((2, 2)), 1.0, 0.0),
        lambda head: heat_map(np.full((2, 2), np.nan), 1.0),
        lambda head: draw_heat_maps(head, NAMES, [], np.ones(4)),
        lambda head: draw_heat_maps(head, NAMES, [(0, example([1.0] * 4))], np.ones(3)),
        lambda head: draw_heat_maps(head, NAMES, [(0, example([1.0] * 4))], np.zeros(4)),
    ],
)
def test_unusable_input(head, call):
    with pytest.raises(InvalidInputError):
        call(head)
