"""Networks of torchvision, without their classification layers.

References
----------
Norrenbrock et al., QPM, ICLR 2025, appendix C: Resnet50 and Resnet34 with stride 1 in the last two
stages, Inception-v3, Swin Transformers.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision import models

from qpm_nn.backbones.base import PhotoBackbone

#: Mean and standard deviation of the input that Inception-v3 was trained with, in each channel.
HALF = (0.5, 0.5, 0.5)


class ResNet(PhotoBackbone):
    """Residual network; its maps end in a ReLU.

    Parameters
    ----------
    in_channels : int
        1 or 3.
    name : str
        Function of ``torchvision.models``.
    reduced_strides : bool
        Whether the last two stages have stride 1, as in the QPM paper: maps of an 8th instead of a
        32nd of the image. No parameter changes its shape.
    """

    network: models.ResNet

    def __init__(self, in_channels: int, name: str, reduced_strides: bool = False) -> None:
        network = models.get_model(name, weights=None)
        n_features = network.fc.in_features
        del network.fc
        super().__init__(network, in_channels)
        self.n_features = n_features
        if reduced_strides:
            for stage in (network.layer3, network.layer4):
                for layer in stage[0].modules():
                    if isinstance(layer, nn.Conv2d):
                        layer.stride = (1, 1)

    def embed(self, images: Tensor) -> Tensor:
        """Maps (n_images, n_features, h, w), >= 0."""
        network = self.network
        x = network.relu(network.bn1(network.conv1(self.prepare(images))))
        x = network.layer2(network.layer1(network.maxpool(x)))
        return network.layer4(network.layer3(x))


class Inception(PhotoBackbone):
    """Inception-v3 without its auxiliary classifier; its maps end in ReLUs."""

    network: models.Inception3
    n_features = 2048

    def __init__(self, in_channels: int) -> None:
        network = models.inception_v3(
            weights=None, aux_logits=False, transform_input=False, init_weights=True
        )
        del network.fc, network.avgpool, network.dropout
        super().__init__(network, in_channels, mean=HALF, std=HALF)

    def embed(self, images: Tensor) -> Tensor:
        """Maps (n_images, n_features, h, w), >= 0."""
        maps = self.prepare(images)
        # Without the classifier the layers are a chain, in the order of their definition.
        for layer in self.network.children():
            maps = layer(maps)
        return maps


class Swin(PhotoBackbone):
    """Swin Transformer; its maps end in a layer normalisation, so half of the values are cut off.

    Parameters
    ----------
    in_channels : int
        1 or 3.
    name : str
        Function of ``torchvision.models``.
    """

    network: models.SwinTransformer
    signed = True

    def __init__(self, in_channels: int, name: str) -> None:
        network = models.get_model(name, weights=None)
        n_features = network.head.in_features
        del network.head
        super().__init__(network, in_channels)
        self.n_features = n_features

    def embed(self, images: Tensor) -> Tensor:
        """Maps (n_images, n_features, h, w), negative values too."""
        network = self.network
        return network.permute(network.norm(network.features(self.prepare(images))))
