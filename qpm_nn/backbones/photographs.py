"""Networks of torchvision, without their classification layers.

References
----------
Norrenbrock et al., QPM, ICLR 2025, appendix C: Resnet50 and Resnet34 with stride 1 in the last two
stages, Inception-v3, Swin Transformers.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torchvision import models

from qpm_nn.backbones.base import PhotoBackbone
from qpm_nn.data.base import IMAGENET_MEAN, IMAGENET_STD
from qpm_opt import InvalidInputError

#: Mean and standard deviation of the input that Inception-v3 was trained with, in each channel.
HALF = (0.5, 0.5, 0.5)


class TorchvisionBackbone(PhotoBackbone):
    """Network of torchvision, with its first published weights.

    The paper takes those: later weights of the same networks have class-specific features.

    Parameters
    ----------
    network : Module
        Without its classification layer.
    in_channels : int
        1 or 3.
    name : str
        Function of ``torchvision.models``.
    mean, std : tuple of float
        See :class:`PhotoBackbone`.
    """

    def __init__(
        self,
        network: nn.Module,
        in_channels: int,
        name: str,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        super().__init__(network, in_channels, mean, std)
        self.name = name

    def published_weights(self, *, classifier: bool = False) -> Mapping[str, Tensor]:
        """ImageNet weights, downloaded if torch has not done so before; of the whole network."""
        published = models.get_model_weights(self.name).IMAGENET1K_V1
        try:
            return published.get_state_dict(progress=False, check_hash=True)
        except (OSError, RuntimeError) as failure:
            raise InvalidInputError(
                f"The weights of {self.name} cannot be downloaded ({failure}); fetch "
                f"{published.url} where there is a network, and give that file as weights."
            ) from None


class ResNet(TorchvisionBackbone):
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
    classification_layers = ("fc.",)

    def __init__(self, in_channels: int, name: str, reduced_strides: bool = False) -> None:
        network = models.get_model(name, weights=None)
        n_features = network.fc.in_features
        del network.fc
        super().__init__(network, in_channels, name)
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


class Inception(TorchvisionBackbone):
    """Inception-v3 without its auxiliary classifier; its maps end in ReLUs."""

    network: models.Inception3
    classification_layers = ("fc.", "AuxLogits.")
    n_features = 2048

    def __init__(self, in_channels: int) -> None:
        network = models.inception_v3(
            weights=None, aux_logits=False, transform_input=False, init_weights=True
        )
        del network.fc, network.avgpool, network.dropout
        super().__init__(network, in_channels, "inception_v3", mean=HALF, std=HALF)

    def embed(self, images: Tensor) -> Tensor:
        """Maps (n_images, n_features, h, w), >= 0."""
        maps = self.prepare(images)
        # Without the classifier the layers are a chain, in the order of their definition.
        for layer in self.network.children():
            maps = layer(maps)
        return maps


class Swin(TorchvisionBackbone):
    """Swin Transformer; its maps end in a layer normalisation, so half of the values are cut off.

    Parameters
    ----------
    in_channels : int
        1 or 3.
    name : str
        Function of ``torchvision.models``.
    """

    network: models.SwinTransformer
    classification_layers = ("head.",)
    signed = True

    def __init__(self, in_channels: int, name: str) -> None:
        network = models.get_model(name, weights=None)
        n_features = network.head.in_features
        del network.head
        super().__init__(network, in_channels, name)
        self.n_features = n_features

    def embed(self, images: Tensor) -> Tensor:
        """Maps (n_images, n_features, h, w), negative values too."""
        network = self.network
        return network.permute(network.norm(network.features(self.prepare(images))))
