"""What every data set hands over: images in memory, names, and how to feed them to a network."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from qpm_opt import InvalidInputError


class LabelledImages(Dataset):
    """Images of one size with their labels, held in memory.

    Parameters
    ----------
    images : array of shape (n_images, channels, height, width), uint8
    labels : array of shape (n_images,), int
        Class indices.
    """

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.integer]) -> None:
        self.images = torch.from_numpy(np.ascontiguousarray(images))
        self.labels = torch.from_numpy(np.asarray(labels, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int | slice) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """A whole batch at once, which spares the loader from stacking single images."""
        return self.images[indices], self.labels[indices]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width


@dataclass(frozen=True)
class Preprocessing:
    """Raw images to what the network takes: scaled to [0, 1], then normalised by channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, images: LabelledImages) -> Preprocessing:
        """Statistics of a training set, on the scale [0, 1]."""
        per_channel = images.images.transpose(0, 1).flatten(1).double() / 255
        std = per_channel.std(1, correction=0).clamp_min(1e-6)
        return cls(tuple(per_channel.mean(1).tolist()), tuple(std.tolist()))

    def scale(self, images: Tensor) -> Tensor:
        """Float images in [0, 1] from uint8 ones."""
        return images.to(torch.get_default_dtype()) / 255

    def normalise(self, images: Tensor) -> Tensor:
        """Images (n_images, channels, height, width) in [0, 1] with mean and std taken out."""
        mean = images.new_tensor(self.mean).view(-1, 1, 1)
        std = images.new_tensor(self.std).view(-1, 1, 1)
        return (images - mean) / std

    def __call__(self, images: Tensor) -> Tensor:
        """Network input of uint8 images."""
        return self.normalise(self.scale(images))


@dataclass(frozen=True)
class Augmentation:
    """Random affine maps, one per image, each parameter uniform around 'no change'.

    Attributes
    ----------
    degrees : float
        Largest rotation to either side.
    scale : float
        Largest relative change of size.
    shear : float
        Largest horizontal or vertical shear, as a factor.
    translate : float
        Largest shift in either direction, as a fraction of the image.
    flip : bool
        Whether to mirror half of the images left to right.
    padding : {"zeros", "reflection"}
        What lies outside the image.
    """

    degrees: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    translate: float = 0.0
    flip: bool = False
    padding: str = "zeros"

    def __call__(self, images: Tensor) -> Tensor:
        """Augmented copy of float images (n_images, channels, height, width).

        Draws from torch's global generator of the CPU, whatever the device of the images.
        """
        n_images = len(images)
        uniform = 2 * torch.rand(7, n_images) - 1
        angle = uniform[0] * math.radians(self.degrees)
        zoom = 1 + self.scale * uniform[1]
        shear_x, shear_y = self.shear * uniform[2], self.shear * uniform[3]
        mirror = torch.where(uniform[6] < 0, -1.0, 1.0) if self.flip else torch.ones(n_images)
        cos, sin = angle.cos() * zoom, angle.sin() * zoom
        theta = torch.stack(
            [
                torch.stack([mirror * (cos - shear_y * sin), shear_x * cos - sin], 1),
                torch.stack([mirror * (sin + shear_y * cos), shear_x * sin + cos], 1),
            ],
            1,
        )
        # affine_grid counts in half images.
        shift = 2 * self.translate * uniform[4:6].T.unsqueeze(2)
        theta = torch.cat([theta, shift], 2).to(images)
        grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
        return functional.grid_sample(images, grid, padding_mode=self.padding, align_corners=False)


@dataclass(frozen=True)
class DataModule:
    """A data set, ready for training.

    Attributes
    ----------
    name : str
    train, test : LabelledImages
    class_names : tuple of str
        By label.
    augmentation : Augmentation
        Applied to training images only.
    """

    name: str
    train: LabelledImages
    test: LabelledImages
    class_names: tuple[str, ...]
    augmentation: Augmentation

    def __post_init__(self) -> None:
        if self.n_classes < 2:
            raise InvalidInputError(
                f"{self.name} has {self.n_classes} class; at least two are needed to tell apart."
            )
        for part, images in (("training", self.train), ("test", self.test)):
            counts = np.bincount(images.labels.numpy(), minlength=self.n_classes)
            if (counts == 0).any():
                empty = self.class_names[int(counts.argmin())]
                raise InvalidInputError(
                    f"Class {empty!r} of {self.name} has no {part} image; add one or remove the "
                    "class."
                )

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.train.shape

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """Scaling and normalisation with the statistics of the training images."""
        return Preprocessing.of(self.train)

    @cached_property
    def sha256(self) -> str:
        """Hash of everything that training and evaluation depend on."""
        digest = hashlib.sha256(repr((self.class_names, asdict(self.augmentation))).encode())
        for part in (self.train, self.test):
            digest.update(repr(tuple(part.images.shape)).encode())
            digest.update(part.images.numpy().tobytes())
            digest.update(part.labels.numpy().tobytes())
        return digest.hexdigest()
