"""Channel weights of Grad-CAM, Grad-CAM++ and Score-CAM, and the map that all methods share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from qpm_nn.explanations.representative import (
    CAMS,
    channel_map,
    grad_cam_plus_plus_weights,
    grad_cam_weights,
    score_cam_weights,
)
from qpm_nn.explanations.representative import cams as cams_module
from qpm_opt import InvalidInputError
from tests.nn.representative_networks import affine_network, mapped, network, random_images

CHOSEN = [0, 5, 9, 2]


@pytest.fixture(scope="module")
def images():
    return mapped(network(), random_images(20))


@pytest.fixture
def package():
    return pytest.importorskip(
        "pytorch_grad_cam", reason="NOT CHECKED: grad-cam is missing (pip install grad-cam)"
    )


def no_pooling():
    """Maps of the size of the images, so that masks need no resizing."""
    model = network()
    torch.manual_seed(5)
    first = [
        torch.nn.Conv2d(1, 3, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Identity(),
        torch.nn.Identity(),
    ]
    return torch.nn.Sequential(*first, *model[5:]).double()


def of_package(package, name, model, layer, images, indices):
    """Weights and maps of the package grad-cam at the predicted classes."""
    methods = {
        "Grad-CAM": package.GradCAM,
        "Grad-CAM++": package.GradCAMPlusPlus,
        "Score-CAM": package.ScoreCAM,
    }
    kept = []

    class Recorded(methods[name]):
        def get_cam_weights(self, *args, **options):
            found = super().get_cam_weights(*args, **options)
            kept.append(np.asarray(found))
            return found

    with Recorded(model=model.eval(), target_layers=[model[layer]]) as method:
        heat = method(input_tensor=images.pixels(indices), targets=None)
    return kept[0], heat


def rescaled(heat):
    """The package scales maps a second time, after it has resized them."""
    least = heat.min((1, 2), keepdims=True)
    return (heat - least) / (heat - least).max((1, 2), keepdims=True)


@pytest.mark.parametrize("name", ["Grad-CAM", "Grad-CAM++"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gradient_methods_against_the_package(package, name, seed):
    model = network(seed)
    images = mapped(model, random_images(20, seed))
    expected, heat = of_package(package, name, model, 4, images, CHOSEN)
    found = CAMS[name](images, CHOSEN)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    maps = channel_map(found, images.maps(CHOSEN), (8, 8))
    shown = [i for i in range(len(CHOSEN)) if maps[i].max() > 0]
    assert shown
    np.testing.assert_allclose(rescaled(maps[shown]), heat[shown], atol=1e-4)


@pytest.mark.parametrize("seed", [0, 1])
def test_score_cam_against_the_package(package, seed):
    """Where no resizing is needed: the package aligns the corners, the article says nothing."""
    model = no_pooling()
    images = mapped(model, random_images(20, seed))
    assert images.split.layer == "1"
    expected, heat = of_package(package, "Score-CAM", model, 1, images, CHOSEN)
    found = score_cam_weights(images, CHOSEN)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert np.ptp(expected) > 1e-3
    maps = channel_map(found, images.maps(CHOSEN), (8, 8))
    np.testing.assert_allclose(rescaled(maps), heat, atol=1e-4)


def gradients(model, pixels, c):
    """Maps and the gradient of the score of class c, through the model itself."""
    maps = model[:5](pixels).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model[5:](maps)[0, c], maps)
    return maps.detach()[0].numpy(), gradient[0].numpy()


def test_grad_cam_by_hand(images):
    model = network()
    found = grad_cam_weights(images, CHOSEN)
    for row, i in zip(found, CHOSEN, strict=True):
        _, gradient = gradients(model, images.pixels([i]), images.predicted[i])
        expected = [sum(float(v) for v in channel.ravel()) / 16 for channel in gradient]
        np.testing.assert_allclose(row, expected, rtol=1e-7, atol=1e-12)


def test_grad_cam_plus_plus_by_hand(images):
    """Eq. 19 of the article, pixel by pixel: alpha = g2 / (2 g2 + sum(A) g3)."""
    model = network()
    found = grad_cam_plus_plus_weights(images, CHOSEN)
    assert found.max() > 0
    for row, i in zip(found, CHOSEN, strict=True):
        maps, gradient = gradients(model, images.pixels([i]), images.predicted[i])
        for k in range(3):
            total = 0.0
            for g in gradient[k].ravel().tolist():
                if g > 0:
                    total += g * g**2 / (2 * g**2 + maps[k].sum() * g**3 + 1e-6)
            assert float(row[k]) == pytest.approx(total, rel=1e-6, abs=1e-12)


def test_score_cam_by_hand(images, monkeypatch):
    """Softmax over the channels of the scores of masked images; masks resized, then scaled."""
    monkeypatch.setattr(cams_module, "BATCH_SIZE", 2)
    model = network()
    found = score_cam_weights(images, CHOSEN)
    for row, i in zip(found, CHOSEN, strict=True):
        pixels = images.pixels([i])
        scores = []
        for channel in model[:5](pixels)[0].detach():
            mask = functional.interpolate(
                channel[None, None], size=(8, 8), mode="bilinear", align_corners=False
            )[0, 0]
            mask = mask - mask.min()
            if mask.max() > 0:
                mask = mask / mask.max()
            scores.append(float(model(pixels * mask)[0, images.predicted[i]].detach()))
        expected = np.exp(scores) / np.exp(scores).sum()
        np.testing.assert_allclose(row, expected, rtol=1e-6)
        assert float(row.sum()) == pytest.approx(1)


def test_affine_head_has_closed_forms():
    model = affine_network()
    images = mapped(model, random_images(20), layer="4")
    weight = model[-1].weight.detach()[images.predicted[CHOSEN]] / 16
    torch.testing.assert_close(grad_cam_weights(images, CHOSEN), weight)
    total = images.maps(CHOSEN).sum((2, 3))
    # All 16 pixels have the same gradient.
    alpha = 1 / (2 + total * weight + 1e-6 / weight**2)
    expected = torch.where(weight > 0, 16 * alpha * weight, 0)
    assert (expected > 0).any() and (expected == 0).any()
    torch.testing.assert_close(grad_cam_plus_plus_weights(images, CHOSEN), expected)


def test_weights_do_not_depend_on_other_images(images):
    for name, method in CAMS.items():
        together = method(images, CHOSEN)
        assert together.shape == (4, 3), name
        each = torch.cat([method(images, [i]) for i in CHOSEN])
        torch.testing.assert_close(together, each)


@pytest.mark.parametrize("name", CAMS)
def test_no_images_no_weights(images, name):
    assert CAMS[name](images, []).shape == (0, 3)


def test_channel_map_by_hand():
    maps = torch.tensor(
        [[[[0.0, 1], [2, 3]], [[1, 1], [0, 2]]], [[[1.0, 1], [1, 1]], [[0, 0], [0, 0]]]]
    )
    found = channel_map(torch.tensor([2.0, -1.0]), maps, (2, 2))
    # 2 A - B = [-1, 1, 4, 4], rectified [0, 1, 4, 4]; the second map is constant.
    np.testing.assert_allclose(found, [[[0, 0.25], [1, 1]], [[0, 0], [0, 0]]])
    each = channel_map(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), maps, (2, 2))
    np.testing.assert_allclose(each, [[[0.5, 0.5], [0, 1]], [[0, 0], [0, 0]]])


def test_channel_map_is_resized_bilinearly():
    maps = torch.tensor([[[[0.0, 1.0]]]])
    found = channel_map(torch.ones(1), maps, (1, 4))
    np.testing.assert_allclose(found, [[[0, 0.25, 0.75, 1]]])
    assert channel_map(torch.ones(1), maps[:0], (1, 4)).shape == (0, 1, 4)


def test_channel_map_does_not_depend_on_the_scale_of_the_weights():
    maps = torch.rand(3, 4, 5, 5)
    weights = torch.randn(4)
    one = channel_map(weights, maps, (9, 9))
    np.testing.assert_allclose(channel_map(1e-8 * weights, maps, (9, 9)), one, atol=1e-6)
    assert one.max() == 1 or one.max() > 0.5


@pytest.mark.parametrize(
    ("weights", "maps", "expected"),
    [
        (torch.ones(3), torch.ones(2, 4, 5, 5), "a weight for each channel of"),
        (torch.ones(1, 4), torch.ones(2, 4, 5, 5), "a weight for each channel of"),
        (torch.ones(4), torch.ones(2, 4), r"maps \(2, 4\)"),
        (torch.full((4,), float("nan")), torch.ones(2, 4, 5, 5), "weights holds NaN"),
        (torch.ones(4), torch.full((2, 4, 5, 5), float("inf")), "maps holds NaN or inf"),
    ],
)
def test_bad_weights_and_maps(weights, maps, expected):
    with pytest.raises(InvalidInputError, match=expected):
        channel_map(weights, maps, (8, 8))
