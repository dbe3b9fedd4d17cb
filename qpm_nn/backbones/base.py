"""What every backbone is: a module from images to non-negative feature maps."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from qpm_nn.data.base import IMAGENET_MEAN, IMAGENET_STD
from qpm_opt import InvalidInputError


class Backbone(nn.Module):
    """Images to non-negative feature maps. Pooling is the head's business.

    The value of a feature is the mean of its map, so that a map shows all that its feature is made
    of. A negative value would count as evidence against a feature at a place; where a network has
    such values (``signed``), they are cut off, as a ReLU at its end would do.

    Attributes
    ----------
    n_features : int
        Maps for each image.
    signed : bool
        Whether :meth:`embed` gives negative values.
    classification_layers : tuple of str
        Beginnings of the names that weights files have beyond those of ``published_part``; the
        first is that of the linear layer that gives the logits.
    """

    n_features: int
    signed: bool = False
    classification_layers: tuple[str, ...] = ()

    def embed(self, images: Tensor) -> Tensor:
        """Maps (n_images, n_features, h, w) as the network computes them, negative values too."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps (n_images, n_features, h, w), >= 0, of images (n_images, channels, H, W)."""
        maps = self.embed(images)
        return maps.relu() if self.signed else maps

    @property
    def published_part(self) -> nn.Module:
        """The module whose names weights files use."""
        return self

    def convert(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What to make of a file that does not fit ``published_part``; by default nothing else."""
        return tensors

    def classified(self, images: Tensor) -> Tensor:
        """What the network gives its own classification layer, (n_images, n_features)."""
        return self.embed(images).mean((2, 3))

    def published_weights(self, *, classifier: bool = False) -> Mapping[str, Tensor]:
        """Tensors for ``published_part`` from the network's publishers.

        Parameters
        ----------
        classifier : bool
            Whether those of the classification layer must be among them.

        Raises
        ------
        InvalidInputError
            If there are none, or they cannot be downloaded.
        """
        raise InvalidInputError(
            "This backbone has no published weights; leave out weights to train it from scratch, "
            "or give a file."
        )


class PhotoBackbone(Backbone):
    """Network from elsewhere that was made for photographs.

    Its input is RGB with the mean and standard deviation of ImageNet taken out; what the network
    itself expects may differ, and is made from that. Grey images are given to it three times.

    Parameters
    ----------
    network : Module
        Named as published, so that published weights fit it.
    in_channels : int
        1 or 3.
    mean, std : tuple of float
        Of the input that the network was trained with, by channel, on the scale [0, 1].

    Raises
    ------
    InvalidInputError
        If the images have another number of channels.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: nn.Module,
        in_channels: int,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        if in_channels not in (1, 3):
            raise InvalidInputError(
                f"The images have {in_channels} channels; this backbone takes 3 (RGB), or 1 (grey)."
            )
        self.network = network
        self.renormalises = (mean, std) != (IMAGENET_MEAN, IMAGENET_STD)
        scale = torch.tensor(IMAGENET_STD) / torch.tensor(std)
        shift = (torch.tensor(IMAGENET_MEAN) - torch.tensor(mean)) / torch.tensor(std)
        self.register_buffer("scale", scale.view(-1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(-1, 1, 1), persistent=False)

    @property
    def published_part(self) -> nn.Module:
        """The network itself."""
        return self.network

    def prepare(self, images: Tensor) -> Tensor:
        """What the network takes, (n_images, 3, H, W), of images normalised as ImageNet's."""
        images = images.expand(-1, 3, -1, -1)
        return images * self.scale + self.shift if self.renormalises else images
