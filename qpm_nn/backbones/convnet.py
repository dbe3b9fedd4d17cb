"""Small backbones for small images, to be trained from scratch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from qpm_nn.backbones.base import Backbone


class ConvNet(Backbone):
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
            layers += [*convolution(in_channels, width, stride), nn.ReLU(inplace=True)]
            in_channels = width
        self.layers = nn.Sequential(*layers)
        self.n_features = in_channels

    def embed(self, images: Tensor) -> Tensor:
        """Maps (n_images, n_features, h, w), >= 0."""
        return self.layers(images)


class SmallResNet(Backbone):
    """Residual network without the early loss of resolution of those for photographs.

    A 3 x 3 convolution, then stages of two basic blocks; every stage but the first halves the size.

    Parameters
    ----------
    in_channels : int
    widths : sequence of int
        Channels of each stage; the last is ``n_features``.
    reduced_strides : bool
        Whether the last two stages keep the size.
    """

    def __init__(
        self, in_channels: int, widths: Sequence[int], reduced_strides: bool = False
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            *convolution(in_channels, widths[0], 1),
            nn.ReLU(inplace=True),
        ]
        n_halved = len(widths) - 2 if reduced_strides else len(widths)
        before = widths[0]
        for stage, width in enumerate(widths):
            stride = 2 if 0 < stage < n_halved else 1
            shortcut = None
            if (stride, width) != (1, before):
                shortcut = nn.Sequential(
                    nn.Conv2d(before, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
                )
            layers += [BasicBlock(before, width, stride, shortcut), BasicBlock(width, width)]
            before = width
        self.layers = nn.Sequential(*layers)
        self.n_features = before

    def embed(self, images: Tensor) -> Tensor:
        """Maps (n_images, n_features, h, w), >= 0."""
        return self.layers(images)


def convolution(in_channels: int, width: int, stride: int) -> tuple[nn.Module, nn.Module]:
    """3 x 3 convolution without bias, and the batch normalisation after it."""
    return (
        nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
    )
