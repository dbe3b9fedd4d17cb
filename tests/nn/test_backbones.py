"""Shapes of the maps, what the networks compute, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from torchvision import models

from qpm_nn.backbones import BACKBONES, REDUCIBLE, create_backbone, map_shape
from qpm_opt import InvalidInputError

#: Of images of 224 pixels (299 for Inception-v3): ordinary, and with reduced strides.
SHAPES = {
    "resnet18": ((512, 7, 7), (512, 28, 28)),
    "resnet34": ((512, 7, 7), (512, 28, 28)),
    "resnet50": ((2048, 7, 7), (2048, 28, 28)),
    "resnet101": ((2048, 7, 7), (2048, 28, 28)),
    "resnet_small": ((256, 28, 28), (256, 112, 112)),
    "mobilenet_v1": ((1024, 7, 7), (1024, 28, 28)),
    "inception_v3": ((2048, 8, 8), None),
    "swin_t": ((768, 7, 7), None),
    "swin_s": ((768, 7, 7), None),
    "convnet_tiny": ((128, 224, 224), None),
    "convnet_small": ((256, 56, 56), None),
    "vgg_tiny": ((64, 112, 112), None),
    "vgg_small": ((128, 28, 28), None),
}


def test_the_shapes_of_all_backbones_are_known():
    assert SHAPES.keys() == BACKBONES.keys()
    assert {name for name, shapes in SHAPES.items() if shapes[1]} == set(REDUCIBLE)


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_of_maps(name):
    size = 299 if name == "inception_v3" else 224
    ordinary, reduced = SHAPES[name]
    assert map_shape(name, (3, size, size)) == ordinary
    assert map_shape(name, (1, size, size)) == ordinary
    if reduced:
        assert map_shape(name, (3, size, size), reduced_strides=True) == reduced
    else:
        with pytest.raises(InvalidInputError, match="leave out reduced_strides, or take one of"):
            create_backbone(name, 3, reduced_strides=True)


@pytest.mark.parametrize("size", [28, 64, 128])
def test_the_small_residual_network_keeps_resolution(size):
    assert map_shape("resnet_small", (1, size, size)) == (256, -(-size // 8), -(-size // 8))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("convnet_tiny", 8),
        ("convnet_small", 16),
        ("resnet_small", 16),
        ("mobilenet_v1", 32),
        ("resnet18", 32),
        ("inception_v3", 75),
        ("swin_t", 32),
    ],
)
@pytest.mark.parametrize("n_channels", [1, 3])
def test_maps_are_non_negative_and_images_of_grey_or_colour(name, size, n_channels):
    torch.manual_seed(0)
    backbone = create_backbone(name, n_channels)
    maps = backbone(torch.randn(2, n_channels, size, size))
    assert maps.shape[1:] == map_shape(name, (n_channels, size, size))
    assert (maps >= 0).all() and (maps > 0).any()
    maps.sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


@pytest.mark.parametrize(("name", "size"), [("resnet18", 32), ("inception_v3", 75), ("swin_t", 32)])
def test_pooled_maps_are_what_the_classifier_of_torchvision_sees(name, size):
    torch.manual_seed(0)
    backbone = create_backbone(name, 3).eval()
    options = {"init_weights": False, "transform_input": True} if "inception" in name else {}
    published = models.get_model(name, weights=None, **options).eval()
    published.load_state_dict(backbone.network.state_dict(), strict=False)
    seen = []
    classifier = published.head if name == "swin_t" else published.fc
    classifier.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        published(images)
        pooled = backbone.embed(images).mean((2, 3))
    torch.testing.assert_close(pooled / pooled.abs().max(), seen[0] / pooled.abs().max())


def test_swin_cuts_negative_values_off():
    torch.manual_seed(0)
    backbone = create_backbone("swin_t", 3).eval()
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        signed = backbone.embed(images)
        assert (signed < 0).any()
        assert torch.equal(backbone(images), signed.clamp_min(0))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet_small"])
def test_reduced_strides_change_no_parameter(name):
    with torch.device("meta"):
        shapes = [
            {key: value.shape for key, value in backbone.state_dict().items()}
            for backbone in (create_backbone(name, 3, reduced_strides=r) for r in (False, True))
        ]
    assert shapes[0] == shapes[1]


def test_unusable_backbones_are_refused():
    with pytest.raises(InvalidInputError, match="did you mean convnet_tiny"):
        create_backbone("convnet_tinny", 1)
    with pytest.raises(InvalidInputError, match="have 4 channels; this backbone takes 3"):
        create_backbone("resnet18", 4)
    with pytest.raises(InvalidInputError, match=r"64 x 64 pixels .*; choose another image_size"):
        map_shape("inception_v3", (3, 64, 64))
