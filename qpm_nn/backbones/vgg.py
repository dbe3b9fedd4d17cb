"""Small plain networks in the manner of VGG, to be trained from scratch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from qpm_nn.backbones.base import Backbone
from qpm_nn.backbones.convnet import convolution


class VGG(Backbone):
    """Stages of two 3 x 3 convolutions with batch normalisation and ReLU; max-pooling between them.

    The last pooling of VGG is missing: what follows the last convolution belongs to the head.

    Parameters
    ----------
    in_channels : int
    widths : sequence of int
        Channels of each stage; the last is ``n_features``.

    References
    ----------
    Simonyan, Zisserman, Very deep convolutional networks for large-scale image recognition, ICLR
    2015.
    """

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for stage, width in enumerate(widths):
            if stage:
                layers.append(nn.MaxPool2d(2))
            for n_in in (in_channels, width):
                layers += [*convolution(n_in, width, 1), nn.ReLU(inplace=True)]
            in_channels = width
        self.layers = nn.Sequential(*layers)
        self.n_features = in_channels

    def embed(self, images: Tensor) -> Tensor:
        """Maps (n_images, n_features, h, w), >= 0."""
        return self.layers(images)
