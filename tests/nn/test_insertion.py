"""Insertion and deletion curves of features, and their figure."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from qpm_nn.backbones.convnet import ConvNet
from qpm_nn.data import LabelledImages, Preprocessing
from qpm_nn.explanations import FeatureCurves, draw_saliency, insertion_deletion
from qpm_nn.heads import AssignmentHead, Classifier
from qpm_opt import InvalidInputError

SELECTED = [1, 2]


class Channels(nn.Module):
    """Maps that repeat the image, scaled by the number of the channel: features are linear."""

    def forward(self, images):
        return images * torch.arange(3.0).view(-1, 1, 1)


def make_head(mean=0.0):
    return AssignmentHead(SELECTED, np.eye(2, dtype=bool), np.full(2, mean), [0.5, 2])


LINEAR = Classifier(Channels(), make_head())


def image(rows):
    return torch.tensor([[rows]], dtype=torch.float32)


def test_linear_feature_by_hand():
    curves = insertion_deletion(LINEAR, image([[1, 4], [2, 1]]), 2, n_steps=4)
    assert curves.shares == (0, 0.25, 0.5, 0.75, 1)
    np.testing.assert_allclose(curves.insertion, [0, 0.5, 0.75, 0.875, 1])
    np.testing.assert_allclose(curves.deletion, [1, 0.5, 0.25, 0.125, 0])
    assert curves.insertion_area == pytest.approx(0.25 * (0.5 + 0.75 + 0.875 + 0.5))
    assert curves.deletion_area == pytest.approx(0.25 * (0.5 + 0.5 + 0.25 + 0.125))
    assert (curves.feature, curves.saliency, curves.baseline) == (2, "map", "mean")
    assert (curves.n_images, curves.n_active) == (1, 1)


def test_a_baseline_with_something_in_it():
    base = torch.ones(1, 2, 2)
    curves = insertion_deletion(LINEAR, image([[1, 4], [2, 1]]), 2, baseline=base, n_steps=2)
    np.testing.assert_allclose(curves.insertion, [4 / 8, 1, 1])
    np.testing.assert_allclose(curves.deletion, [1, 4 / 8, 4 / 8])
    assert curves.baseline == "given"


def test_ties_go_in_reading_order():
    flat = np.zeros((1, 2, 2))
    curves = insertion_deletion(LINEAR, image([[1, 4], [2, 1]]), 1, flat, n_steps=4)
    np.testing.assert_allclose(curves.insertion, [0, 1 / 8, 5 / 8, 7 / 8, 1])
    np.testing.assert_allclose(curves.deletion, [1, 7 / 8, 3 / 8, 1 / 8, 0])
    partly = np.array([[[0.0, -0.0], [1, 0]]])
    curves = insertion_deletion(LINEAR, image([[1, 4], [2, 1]]), 1, partly, n_steps=4)
    np.testing.assert_allclose(curves.insertion, [0, 2 / 8, 3 / 8, 7 / 8, 1])
    assert curves.saliency == "given"


def test_shares_are_equal_or_single_pixels():
    ten = torch.ones(1, 1, 2, 5)
    assert insertion_deletion(LINEAR, ten, 1, n_steps=4).shares == (0, 0.2, 0.5, 0.7, 1)
    assert len(insertion_deletion(LINEAR, ten, 1, n_steps=999).shares) == 11
    assert insertion_deletion(LINEAR, ten, 1, n_steps=1).shares == (0, 1)


def test_one_pixel():
    curves = insertion_deletion(LINEAR, image([[3.0]]), 1)
    assert (curves.shares, curves.insertion, curves.deletion) == ((0, 1), (0, 1), (1, 0))
    assert curves.insertion_area == curves.deletion_area == 0.5


def test_inactive_images_do_not_count():
    classifier = Classifier(Channels(), make_head(mean=1.0))  # of the map of channel 1
    active = image([[1, 4], [2, 1]])
    images = torch.cat([active, image([[1, 1], [0, 0]]), torch.zeros(1, 1, 2, 2), 3 * active])
    curves = insertion_deletion(classifier, images, 1, n_steps=4)
    assert (curves.n_images, curves.n_active) == (4, 2)
    np.testing.assert_allclose(curves.insertion, [0, 0.5, 0.75, 0.875, 1])
    # Maps that are given keep their images.
    given = np.stack([np.arange(4.0).reshape(2, 2) * sign for sign in (1, 5, 5, -1)])
    curves = insertion_deletion(classifier, images, 1, given, n_steps=4)
    forth, back = np.array([0, 1, 3, 7, 8]) / 8, np.array([0, 1, 5, 7, 8]) / 8
    np.testing.assert_allclose(curves.insertion, (forth + back) / 2)


def test_feature_that_is_0_everywhere_has_no_curves():
    curves = insertion_deletion(LINEAR, torch.zeros(2, 1, 2, 2), 1)
    assert (curves.n_images, curves.n_active) == (2, 0)
    assert curves.insertion is curves.deletion is curves.insertion_area is None
    assert json.loads(json.dumps(curves.to_dict()))["deletion_area"] is None


def test_dictionary_has_everything():
    curves = insertion_deletion(LINEAR, image([[1, 4], [2, 1]]), 2, n_steps=4)
    record = json.loads(json.dumps(curves.to_dict()))
    areas = {name: record.pop(name) for name in ("insertion_area", "deletion_area")}
    tuples = {name: tuple(record.pop(name)) for name in ("shares", "insertion", "deletion")}
    assert FeatureCurves(**record, **tuples) == curves
    assert areas["insertion_area"] == curves.insertion_area


positive = hnp.arrays(np.float32, (1, 3, 4), elements=st.floats(0.125, 8, width=32))


@given(positive, hnp.arrays(np.float64, (1, 3, 4), elements=st.floats(-5, 5)))
def test_no_order_is_better_for_a_linear_feature_than_its_map(pixels, other):
    images = torch.from_numpy(pixels)[None]
    own = insertion_deletion(LINEAR, images, 2)
    rival = insertion_deletion(LINEAR, images, 2, other)
    assert own.insertion_area >= rival.insertion_area - 1e-6
    assert own.deletion_area <= rival.deletion_area + 1e-6


def test_random_order_of_a_linear_feature_is_a_straight_line():
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.random((300, 1, 4, 4)).astype(np.float32))
    curves = insertion_deletion(LINEAR, images, 1, rng.random((300, 4, 4)), n_steps=16)
    np.testing.assert_allclose(curves.insertion, curves.shares, atol=0.02)
    assert insertion_deletion(LINEAR, images, 1).insertion_area > 0.6


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Classifier(ConvNet(2, [4, 3], [1, 2]), make_head(mean=0.01)).eval()


@pytest.fixture
def images():
    return torch.randn(70, 2, 4, 6, generator=torch.Generator().manual_seed(1))


def brute_force(classifier, images, maps, counts):
    """Curves of feature 2, pixel by pixel."""

    def value(picture):
        with torch.no_grad():
            activations = classifier.activations(picture[None])
        return float(activations.maps[0, 1].mean()), float(activations.features[0, 1])

    curves = []
    for picture, saliency in zip(images, maps, strict=True):
        full, normalised = value(picture)
        if normalised <= 0 or full <= 0:
            continue
        pixels = [(y, x) for y in range(4) for x in range(6)]
        pixels.sort(key=lambda pixel: -saliency[pixel])
        inserted, deleted = torch.zeros_like(picture), picture.clone()
        curve, done = [], 0
        for count in counts:
            for y, x in pixels[done:count]:
                inserted[:, y, x] = picture[:, y, x]
                deleted[:, y, x] = 0
            done = count
            curve.append((value(inserted)[0] / full, value(deleted)[0] / full))
        curves.append(curve)
    return len(curves), np.mean(curves, axis=0).T


def test_curves_equal_brute_force(network, images):
    maps = np.random.default_rng(0).integers(0, 5, (70, 4, 6)).astype(float)
    n_active, expected = brute_force(network, images, maps, [0, 4, 9, 14, 19, 24])
    assert 0 < n_active < 70
    curves = insertion_deletion(network, images, 2, maps, n_steps=5)
    assert curves.n_active == n_active
    assert curves.shares == tuple(np.array([0, 4, 9, 14, 19, 24]) / 24)
    np.testing.assert_allclose([curves.insertion, curves.deletion], expected, rtol=1e-4, atol=1e-6)


def test_deletion_is_insertion_of_the_reverse_order(network, images):
    order = np.random.default_rng(0).permuted(np.tile(np.arange(24.0), (70, 1)), axis=1)
    maps = order.reshape(70, 4, 6)
    forth = insertion_deletion(network, images, 2, maps, n_steps=6)
    back = insertion_deletion(network, images, 2, -maps, n_steps=6)
    np.testing.assert_allclose(forth.deletion, back.insertion[::-1], rtol=1e-5)
    assert forth.insertion[-1] == pytest.approx(1) and forth.deletion[0] == pytest.approx(1)


def test_sets_of_images_are_streamed(network):
    preprocessing = Preprocessing((0.5, 0.5), (0.2, 0.3))
    raw = np.random.default_rng(0).integers(0, 256, (70, 2, 4, 6), dtype=np.uint8)
    settings = {"baseline": "black", "n_steps": 3, "preprocessing": preprocessing}
    of_set = insertion_deletion(
        network, LabelledImages(raw, np.zeros(70, int)), 1, "map", **settings
    )
    of_tensor = insertion_deletion(network, preprocessing(torch.from_numpy(raw)), 1, **settings)
    assert of_set == of_tensor and of_set.baseline == "black"


def test_methods_take_their_options(network, images):
    pytest.importorskip("captum", reason="NOT CHECKED: captum is missing (extra saliency)")
    last = insertion_deletion(network, images, 1, "grad_cam", n_steps=3)
    own = insertion_deletion(network, images, 1, n_steps=3)
    assert last.saliency == "grad_cam"
    np.testing.assert_allclose(last.insertion, own.insertion, atol=0.02)
    early = insertion_deletion(network, images, 1, "grad_cam", n_steps=3, layer="layers.2")
    assert early.insertion != last.insertion
    exact = insertion_deletion(network, images, 1, "integrated_gradients", n_steps=3, n_points=8)
    assert exact.insertion_area > own.insertion_area


@pytest.mark.parametrize(
    ("saliency", "change", "message"),
    [
        ("map", {"n_steps": 0}, "n_steps is 0"),
        ("heat", {"images": torch.zeros(1, 1, 2, 2)}, "no method 'heat'"),
        (np.zeros((1, 2, 2)), {"layer": "layers.2"}, "layer cannot be had: the saliency is given"),
        ("map", {"feature": 0}, "no feature 0"),
        ("map", {"baseline": "white"}, "no baseline 'white'"),
        (np.zeros((1, 2, 3)), {}, r"\(1, 2, 3\); \(1, 2, 2\) was expected"),
        (np.zeros((2, 2, 2)), {}, r"\(2, 2, 2\); \(1, height, width\)"),
        (np.full((1, 2, 2), np.nan), {}, "NaN or infinite"),
        ("map", {"images": torch.full((1, 1, 2, 2), torch.inf)}, "NaN or infinite"),
    ],
)
def test_bad_input_is_refused(saliency, change, message):
    arguments = {"images": image([[1, 4], [2, 1]]), "feature": 1, **change}
    with pytest.raises(InvalidInputError, match=message):
        insertion_deletion(LINEAR, saliency=saliency, **arguments)


def test_diverged_network_is_named(network, images):
    nn.init.constant_(network.backbone.layers[0].weight, torch.nan)
    with pytest.raises(InvalidInputError, match="feature holds NaN"):
        insertion_deletion(network, images, 1)


@pytest.fixture
def curves():
    return insertion_deletion(LINEAR, image([[1, 4], [2, 1]]), 2, n_steps=4)


def test_figure_shows_maps_and_curves(curves):
    idle = insertion_deletion(LINEAR, torch.zeros(1, 1, 2, 2), 2)
    picture = np.array([[0.1, 0.9], [0.5, 0.2]])
    maps = {"map": picture, "US$ signed": [[-2, 1], [0, 0]], "nothing": np.zeros((2, 2))}
    figure = draw_saliency(picture, maps, {"one": curves, "idle": idle}, "#0072b2")
    figure.canvas.draw()
    pictures, panels = figure.axes[:4], figure.axes[4:]
    assert [len(axes.images) for axes in pictures] == [1, 2, 3, 2]
    np.testing.assert_allclose(pictures[2].images[1].get_array(), [[0, 0.5], [0, 0]])
    np.testing.assert_allclose(pictures[2].images[2].get_array(), [[1, 0], [0, 0]])
    for axes, values in zip(panels, (curves.insertion, curves.deletion), strict=True):
        (line,) = [line for line in axes.lines if len(line.get_xdata()) == 5]
        np.testing.assert_array_equal(line.get_ydata(), values)
        np.testing.assert_array_equal(line.get_xdata(), curves.shares)
    texts = " ".join(text.get_text() for text in figure.texts)
    assert "0.66 in, 0.34 out" in texts and "active in no image" in texts
    assert "black: negative" in texts and "US$ signed" in texts


def test_figure_of_many_long_names_stays_inside(curves):
    names = ["très long name of a method " * 3, "显著性图" * 20, *map(str, range(6))]
    picture = np.zeros((8, 8, 3))
    maps = dict.fromkeys(names[:3], np.zeros((8, 8)))
    figure = draw_saliency(picture, maps, dict.fromkeys(names, curves), "#0072b2")
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    for text in figure.texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height


def test_figure_refuses_what_does_not_belong_together(curves):
    picture = np.zeros((2, 2))
    other = replace(curves, feature=1)
    for bad in ({}, {"a": curves, "b": other}):
        with pytest.raises(InvalidInputError, match=f"curves of {len(bad)} features"):
            draw_saliency(picture, {}, bad, "#0072b2")
    for heat in (np.zeros((2, 3)), np.full((2, 2), np.nan)):
        with pytest.raises(InvalidInputError, match="Map 'x' has shape"):
            draw_saliency(picture, {"x": heat}, {"a": curves}, "#0072b2")
