"""Saliency maps of features: the map, Integrated Gradients, Grad-CAM."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import nn

from qpm_nn.backbones.convnet import ConvNet
from qpm_nn.backbones.frozen import FrozenBackbone
from qpm_nn.data import LabelledImages, Preprocessing
from qpm_nn.explanations import feature_saliency
from qpm_nn.explanations.baselines import BASELINES, baseline_images
from qpm_nn.heads import AssignmentHead, Classifier, DenseHead
from qpm_opt import InvalidInputError

SELECTED = [1, 4, 5]
MEAN, STD = np.array([0.2, 0.3, 0.1], np.float32), np.array([0.5, 2.0, 0.25], np.float32)
PREPROCESSING = Preprocessing((0.25, 0.5), (0.5, 0.2))


def make_head(**options):
    return AssignmentHead(SELECTED, np.eye(3, dtype=bool), MEAN, STD, **options)


def make_network(seed=0):
    """Images of two channels to six maps of half the size, batch statistics not trivial."""
    torch.manual_seed(seed)
    network = ConvNet(2, [5, 6], [1, 2])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, 0, 0.5)
    return network


@pytest.fixture
def classifier():
    return Classifier(make_network(), make_head())


@pytest.fixture
def images():
    return torch.randn(3, 2, 8, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def captum():
    return pytest.importorskip("captum", reason="NOT CHECKED: captum is missing (extra saliency)")


def values(classifier, images, j):
    with torch.no_grad():
        return classifier.eval().activations(images).features[:, j].numpy()


class Weighted(nn.Module):
    """One map for each of six sets of pixel weights: linear, and of the size of the image."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weights", torch.arange(6 * 2 * 3 * 4.0).view(6, 2, 3, 4) / 10)

    def forward(self, images):
        return (images[:, None] * self.weights).sum(2)


def test_map_of_the_image_size_is_itself():
    classifier = Classifier(Weighted(), make_head())
    images = torch.randn(2, 2, 3, 4)
    found = feature_saliency(classifier, images, 4)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, Weighted()(images)[:, 4], rtol=1e-6)


def test_map_is_up_sampled_within_its_range(classifier, images):
    found = feature_saliency(classifier, images, 5)
    maps = classifier.eval().activations(images).maps[:, 2].detach().numpy()
    assert found.shape == (3, 8, 6) and maps.shape == (3, 4, 3)
    for one, small in zip(found, maps, strict=True):
        assert small.min() <= one.min() <= one.max() <= small.max()
        # The centres of four pixels lie around that of a place of the map.
        coarse = one.reshape(4, 2, 3, 2).mean((1, 3))
        assert np.corrcoef(coarse.ravel(), small.ravel())[0, 1] > 0.95


def test_integrated_gradients_of_a_linear_feature_are_its_terms(captum):
    classifier = Classifier(Weighted(), make_head())
    images, base = torch.randn(2, 2, 3, 4), torch.randn(2, 3, 4)
    found = feature_saliency(
        classifier, images, 4, "integrated_gradients", baseline=base, n_points=1
    )
    terms = ((images - base) * Weighted().weights[4]).sum(1) / (12 * STD[1])
    np.testing.assert_allclose(found, terms, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("relu", [False, True])
def test_integrated_gradients_are_complete(captum, images, baseline, relu):
    images = 3 * images
    classifier = Classifier(make_network(), make_head(relu=relu))
    start = baseline_images(images, baseline, PREPROCESSING)
    for j, feature in enumerate(SELECTED):
        found = feature_saliency(
            classifier,
            images,
            feature,
            "integrated_gradients",
            baseline=baseline,
            n_points=400,
            preprocessing=PREPROCESSING,
        )
        difference = values(classifier, images, j) - values(classifier, start, j)
        scale = np.abs(difference).max()
        assert scale > 1e-3
        np.testing.assert_allclose(found.sum((1, 2)), difference, atol=0.01 * scale)


class Step(nn.Module):
    """Maps that jump where the image's mean leaves 0, as layer normalisation can do."""

    def forward(self, images):
        height = (1000 * images.mean((1, 2, 3), keepdim=True)).tanh()
        return height.expand(-1, 6, 2, 2)


def test_incomplete_integrated_gradients_are_said(captum, caplog):
    images = torch.ones(2, 1, 2, 2)
    classifier = Classifier(Step(), make_head())
    feature_saliency(classifier, images, 4, "integrated_gradients", n_points=5)
    assert (
        "miss up to 100 % of the largest difference" in caplog.text
        and "n_points = 5" in caplog.text
    )
    caplog.clear()
    # Between equal images there is nothing to miss.
    same = {"baseline": images[0], "n_points": 5}
    assert not feature_saliency(classifier, images, 4, "integrated_gradients", **same).any()
    linear = Classifier(Weighted(), make_head())
    feature_saliency(linear, torch.ones(2, 2, 3, 4), 4, "integrated_gradients", n_points=1)
    assert not caplog.text


def test_grad_cam_at_the_end_is_the_map(captum, images):
    classifier = Classifier(make_network(), make_head())
    for j, feature in enumerate(SELECTED):
        found = feature_saliency(classifier, images, feature, "grad_cam")
        own = feature_saliency(classifier, images, feature)
        np.testing.assert_allclose(found, own / (STD[j] * 4 * 3), rtol=1e-4, atol=1e-7)
        named = feature_saliency(classifier, images, feature, "grad_cam", layer="layers.5")
        np.testing.assert_allclose(named, found, rtol=1e-5)


def test_grad_cam_of_an_earlier_layer(captum, images):
    """The formula by plain autograd; the layer has the size of the image."""
    classifier = Classifier(make_network(), make_head()).eval()
    layers = classifier.backbone.layers
    maps = layers[:3](images).detach().requires_grad_()
    feature = classifier.head(layers[3:](maps)).features[:, 1]
    (gradient,) = torch.autograd.grad(feature.sum(), maps)
    cam = (gradient.mean((2, 3), keepdim=True) * maps).sum(1).relu().detach()
    assert (cam == 0).any() and (cam > 0).any()
    found = feature_saliency(classifier, images, 4, "grad_cam", layer="layers.2")
    np.testing.assert_allclose(found, cam, rtol=1e-4, atol=1e-7)


def test_gradients_of_a_feature_that_the_head_rectifies_are_0(captum, images):
    head = AssignmentHead(SELECTED, np.eye(3, dtype=bool), MEAN + 100, STD, relu=True)
    classifier = Classifier(make_network(), head)
    assert feature_saliency(classifier, images, 1).any()
    for method in ("integrated_gradients", "grad_cam"):
        assert not feature_saliency(classifier, images, 1, method).any()


def test_gradients_pass_a_frozen_network(captum, images):
    classifier = Classifier(FrozenBackbone(make_network(), [6]), make_head())
    found = feature_saliency(classifier, images, 4, "integrated_gradients", n_points=400)
    start = torch.zeros_like(images)
    difference = values(classifier, images, 1) - values(classifier, start, 1)
    assert np.abs(difference).max() > 1e-3
    np.testing.assert_allclose(found.sum((1, 2)), difference, atol=1e-3)
    assert feature_saliency(classifier, images, 4, "grad_cam", layer="body.layers.2").any()


@pytest.mark.parametrize("method", ["map", "integrated_gradients", "grad_cam"])
def test_sets_tensors_batches_and_contexts_agree(captum, classifier, method):
    raw = np.random.default_rng(0).integers(0, 256, (70, 2, 8, 6), dtype=np.uint8)
    images = PREPROCESSING(torch.from_numpy(raw))
    options = {"preprocessing": PREPROCESSING}
    if method == "integrated_gradients":
        options["n_points"] = 3
    of_set = feature_saliency(
        classifier, LabelledImages(raw, np.zeros(70, int)), 4, method, **options
    )
    with torch.no_grad():
        of_tensor = feature_saliency(classifier, images, 4, method, **options)
    np.testing.assert_array_equal(of_set, of_tensor)
    alone = feature_saliency(classifier, images[66:67], 4, method, **options)
    np.testing.assert_allclose(alone[0], of_set[66], rtol=1e-3, atol=1e-6)
    assert not images.requires_grad
    assert all(parameter.grad is None for parameter in classifier.parameters())


def test_dense_features_and_images_of_one_pixel(captum):
    classifier = Classifier(make_network(), DenseHead(6, 3))
    image = torch.ones(1, 2, 1, 1)
    own = feature_saliency(classifier, image, 0)
    np.testing.assert_allclose(own[0, 0, 0], values(classifier, image, 0)[0], rtol=1e-6)
    np.testing.assert_allclose(feature_saliency(classifier, image, 0, "grad_cam"), own, rtol=1e-5)
    found = feature_saliency(
        classifier, image, 0, "integrated_gradients", baseline="blurred", n_points=2
    )
    np.testing.assert_allclose(found, 0, atol=1e-6)


def test_without_captum_one_sentence_says_what_to_install(monkeypatch, classifier, images):
    monkeypatch.setitem(sys.modules, "captum", None)
    assert feature_saliency(classifier, images, 4).any()
    for method in ("integrated_gradients", "grad_cam"):
        with pytest.raises(InvalidInputError, match=r"need the package captum.*'\.\[saliency\]'"):
            feature_saliency(classifier, images, 4, method)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature": 2}, "no feature 2; one of 1, 4, 5 was expected"),
        ({"method": "gradcam"}, "no method 'gradcam' .did you mean grad_cam"),
        ({"layer": "layers.2"}, "only grad_cam looks at a layer"),
        ({"n_points": 0}, "n_points is 0"),
        ({"images": torch.zeros(0, 2, 8, 6)}, "no images"),
        ({"images": torch.zeros(2, 8, 6)}, r"shape \(2, 8, 6\)"),
        ({"images": torch.zeros(1, 2, 8, 6, dtype=torch.uint8)}, "give what preprocessing returns"),
        ({"images": torch.full((1, 2, 8, 6), torch.nan)}, "NaN or infinite"),
        (
            {"images": LabelledImages(np.zeros((1, 2, 8, 6), np.uint8), np.zeros(1, int))},
            "give preprocessing",
        ),
    ],
)
def test_bad_input_is_refused(classifier, images, change, message):
    arguments = {"images": images, "feature": 4, **change}
    with pytest.raises(InvalidInputError, match=message):
        feature_saliency(classifier, **arguments)


def test_dense_feature_out_of_range(images):
    classifier = Classifier(make_network(), DenseHead(6, 3))
    with pytest.raises(InvalidInputError, match="no feature 6; one of 0 to 5"):
        feature_saliency(classifier, images, 6)


def test_diverged_network_is_named(classifier, images):
    nn.init.constant_(classifier.backbone.layers[0].weight, torch.nan)
    with pytest.raises(InvalidInputError, match="saliency of the feature holds NaN"):
        feature_saliency(classifier, images, 4)


@pytest.mark.parametrize(
    ("layer", "message"),
    [("layer.2", "no layer 'layer.2'"), ("flat", "shapes .*3, 2"), ("twice", "once, were")],
)
def test_layers_without_maps_are_refused(captum, layer, message):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.flat, self.twice = nn.Identity(), nn.ReLU()

        def forward(self, images):
            maps = self.twice(self.twice(images)).repeat(1, 3, 1, 1)
            return maps + self.flat(maps[:, :3].mean(3)).sum()

    images = torch.ones(1, 2, 2, 2)
    with pytest.raises(InvalidInputError, match=message):
        feature_saliency(Classifier(Odd(), make_head()), images, 4, "grad_cam", layer=layer)


def test_baselines(images):
    assert not baseline_images(images, "mean").any()
    black = baseline_images(images, "black", PREPROCESSING)
    torch.testing.assert_close(black, PREPROCESSING(torch.zeros(3, 2, 8, 6, dtype=torch.uint8)))
    flat = torch.full((1, 2, 8, 6), 0.75)
    torch.testing.assert_close(baseline_images(flat, "blurred"), flat)
    point = torch.zeros(1, 1, 9, 9)
    point[0, 0, 4, 4] = 1
    blurred = baseline_images(point, "blurred")[0, 0]
    # A standard deviation of one pixel: a step costs a factor exp(-1/2), two exp(-2).
    one, two = (blurred[4, 4 + d] / blurred[4, 4] for d in (1, 2))
    assert float(one) == pytest.approx(np.exp(-0.5), rel=1e-3)
    assert float(two) == pytest.approx(np.exp(-2), rel=0.05)
    torch.testing.assert_close(blurred, blurred.T)


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ("white", "no baseline 'white'"),
        ("black", "give preprocessing"),
        (torch.zeros(2, 6, 8), r"shape \(2, 6, 8\)"),
        (torch.full((2, 8, 6), torch.nan), "finite"),
    ],
)
def test_bad_baselines_are_refused(images, baseline, message):
    with pytest.raises(InvalidInputError, match=message):
        baseline_images(images, baseline)
