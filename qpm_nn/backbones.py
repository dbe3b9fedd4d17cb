"""Backbones: images to feature maps. Pooling is the head's business."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from qpm_opt.errors import unknown_name


class ConvNet(nn.Module):
    """Plain stack of 3 x 3 convolutions, each with batch normalisation and ReLU.

    Parameters
    ----------
    in_channels : int
    widths : sequence of int
        Channels after each convolution; the last is ``n_features``.
    strides : sequence of int
        Stride of each convolution. Their product divides the image size into the size of the maps.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width, stride in zip(widths, strides, strict=True):
            layers += [
                nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            in_channels = width
        self.layers = nn.Sequential(*layers)
        self.n_features = in_channels

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps (n_images, n_features, h, w), >= 0, of images (n_images, channels, H, W)."""
        return self.layers(images)


#: Every entry takes ``in_channels`` and returns a module with ``n_features`` that maps images to
#: non-negative feature maps.
BACKBONES: dict[str, Callable[[int], nn.Module]] = {
    # Maps of the size of the image: for images of about 8 to 16 pixels.
    "convnet_tiny": partial(ConvNet, widths=(32, 64, 128), strides=(1, 1, 1)),
    # Maps of a quarter of the image: for images of about 28 to 64 pixels.
    "convnet_small": partial(ConvNet, widths=(32, 64, 128, 256, 256), strides=(1, 2, 1, 2, 1)),
}


def create_backbone(name: str, in_channels: int) -> nn.Module:
    """New backbone with random weights.

    Parameters
    ----------
    name : str
        One of ``BACKBONES``.
    in_channels : int
        Channels of the images.

    Raises
    ------
    InvalidInputError
        If the name is unknown; the message lists the known ones, near ones first.
    """
    if name not in BACKBONES:
        raise unknown_name("backbone", name, BACKBONES)
    return BACKBONES[name](in_channels)
