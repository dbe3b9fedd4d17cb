"""Small networks with random weights and images for them, in double precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qpm_nn.explanations.representative import MappedImages, split_network

N_CLASSES = 4


def random_images(n: int, seed: int = 0, channels: int = 1, side: int = 8) -> Tensor:
    """Images in [0, 1] with a smooth bright spot each, so that predictions differ."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.rand(n, 2, generator=generator, dtype=torch.float64) * side
    grid = torch.arange(side, dtype=torch.float64)
    far = (grid[None, :, None] - place[:, :1, None]) ** 2
    far = far + (grid[None, None, :] - place[:, 1:, None]) ** 2
    noise = torch.rand(n, channels, side, side, generator=generator, dtype=torch.float64)
    return (0.6 * torch.exp(-far / 6)[:, None] + 0.4 * noise).clamp(0, 1)


def convolutional(channels: int = 1) -> list[nn.Module]:
    """Images of 8 pixels to three maps of 4 pixels: modules 0 to 4."""
    return [
        nn.Conv2d(channels, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 3, 3, padding=1),
        nn.ReLU(),
    ]


def network(seed: int = 0, channels: int = 1, n_classes: int = N_CLASSES) -> nn.Sequential:
    """Two convolutions and fully connected layers; all classes are predicted for some images."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        *convolutional(channels),
        nn.Flatten(),
        nn.Linear(48, 10),
        nn.ReLU(),
        nn.Linear(10, n_classes),
    ).double()
    balance(model, random_images(200, 99, channels))
    return model


def affine_network(seed: int = 0) -> nn.Sequential:
    """Two convolutions, global average pooling and one linear layer."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        *convolutional(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, N_CLASSES)
    ).double()
    balance(model, random_images(200, 99))
    return model


@torch.no_grad()
def balance(model: nn.Sequential, images: Tensor) -> None:
    """Standardise the scores over images, or random networks predict one class for all."""
    scores = model(images)
    mean, std = scores.mean(0), scores.std(0)
    model[-1].weight /= std[:, None]
    model[-1].bias.copy_((model[-1].bias - mean) / std)


def mapped(model: nn.Module, images: Tensor, layer: str | None = None) -> MappedImages:
    """Images with their feature maps behind the last convolution, or a named layer."""
    return MappedImages(split_network(model, images[:8], layer), images)
