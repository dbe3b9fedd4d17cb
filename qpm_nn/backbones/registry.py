"""Backbones by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial

import torch

from qpm_nn.backbones.base import Backbone
from qpm_nn.backbones.convnet import ConvNet, SmallResNet
from qpm_nn.backbones.frozen import FrozenBackbone
from qpm_nn.backbones.mobilenet import MobileNet
from qpm_nn.backbones.photographs import Inception, ResNet, Swin
from qpm_nn.backbones.timm_models import PREFIX, TimmBackbone
from qpm_nn.backbones.vgg import VGG
from qpm_nn.backbones.weights import load_weights
from qpm_opt import InvalidInputError
from qpm_opt.errors import unknown_name

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
SWINS = ("swin_t", "swin_s")

#: Every entry takes ``in_channels``.
BACKBONES: dict[str, Callable[..., Backbone]] = {
    # Maps of the size of the image: for images of about 8 to 16 pixels.
    "convnet_tiny": partial(ConvNet, widths=(32, 64, 128), strides=(1, 1, 1)),
    # Maps of a quarter of the image: for images of about 28 to 64 pixels.
    "convnet_small": partial(ConvNet, widths=(32, 64, 128, 256, 256), strides=(1, 2, 1, 2, 1)),
    # Maps of an 8th of the image: for images of about 28 to 128 pixels.
    "resnet_small": partial(SmallResNet, widths=(32, 64, 128, 256)),
    # Maps of half of the image: for images of about 8 to 32 pixels.
    "vgg_tiny": partial(VGG, widths=(32, 64)),
    # Maps of an 8th of the image: for images of about 64 to 128 pixels.
    "vgg_small": partial(VGG, widths=(16, 32, 64, 128)),
    # Maps of a 32nd of the image.
    "mobilenet_v1": MobileNet,
    **{name: partial(ResNet, name=name) for name in RESNETS},
    "inception_v3": Inception,
    **{name: partial(Swin, name=name) for name in SWINS},
}
#: Those that take ``reduced_strides``.
REDUCIBLE = ("resnet_small", "mobilenet_v1", *RESNETS)


def create_backbone(
    name: str,
    in_channels: int,
    *,
    reduced_strides: bool = False,
    weights: str | os.PathLike[str] = "",
    adapter: Sequence[int] = (),
) -> Backbone:
    """New backbone.

    Parameters
    ----------
    name : str
        One of ``BACKBONES``, or ``timm:`` and the name of a model of timm.
    in_channels : int
        Channels of the images.
    reduced_strides : bool
        Whether the last two stages keep the size of the maps (``REDUCIBLE`` only), which makes the
        maps four times as wide and high.
    weights : str or path
        Random ones by default; ``imagenet``: published ones, from the network's publishers; or a
        file (:func:`~qpm_nn.backbones.weights.load_weights`).
    adapter : sequence of int
        Widths of the layers that are trained behind the backbone, which is then frozen
        (:class:`~qpm_nn.backbones.FrozenBackbone`); none by default.

    Raises
    ------
    InvalidInputError
        If the name is unknown (the message lists the known ones, near ones first), or the backbone
        cannot take the images, the strides or the weights.
    """
    backbone = _make(name, in_channels, reduced_strides)
    if weights:
        load_weights(backbone, weights, name)
    return FrozenBackbone(backbone, adapter) if adapter else backbone


def _make(name: str, in_channels: int, reduced_strides: bool) -> Backbone:
    is_of_timm = name.startswith(PREFIX)
    if name not in BACKBONES and not is_of_timm:
        raise unknown_name("backbone", name, [*BACKBONES, f"{PREFIX}NAME"])
    if not reduced_strides:
        if is_of_timm:
            return TimmBackbone(in_channels, name.removeprefix(PREFIX))
        return BACKBONES[name](in_channels)
    if name not in REDUCIBLE:
        raise InvalidInputError(
            f"{name} has no stages whose strides could be reduced; leave out reduced_strides, or "
            f"take one of {', '.join(REDUCIBLE)}."
        )
    return BACKBONES[name](in_channels, reduced_strides=True)


def map_shape(
    name: str,
    image_shape: tuple[int, int, int],
    *,
    reduced_strides: bool = False,
    adapter: Sequence[int] = (),
) -> tuple[int, int, int]:
    """Features, height and width of the maps of a backbone, without computing anything.

    Parameters
    ----------
    name, reduced_strides, adapter
        As for :func:`create_backbone`.
    image_shape : tuple of int
        Channels, height and width.

    Raises
    ------
    InvalidInputError
        If :func:`create_backbone` raises it, or the images are too small.
    """
    channels, height, width = image_shape
    with torch.device("meta"):
        backbone = create_backbone(
            name, channels, reduced_strides=reduced_strides, adapter=adapter
        ).eval()
        try:
            shape = backbone(torch.empty(1, *image_shape)).shape
        except (RuntimeError, AssertionError) as failure:
            reason = str(failure).splitlines()[0].rstrip(".")
            raise InvalidInputError(
                f"{name} cannot take images of {height} x {width} pixels ({reason}); choose "
                "another image_size."
            ) from None
    return shape[1], shape[2], shape[3]
