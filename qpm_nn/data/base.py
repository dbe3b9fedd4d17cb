"""What every data set hands over: images, names, and how to feed them to a network."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from qpm_nn.data.augmentation import AUGMENTATIONS, AnyAugmentation, PhotographAugmentation
from qpm_nn.data.datasets import WrappedDataset, as_array, class_indices, image_stack
from qpm_nn.data.images import BatchLoader, ImageSet, LabelledImages
from qpm_nn.data.reading import Framing
from qpm_opt import InvalidInputError

#: Where mean and std come from: the training images, or ImageNet, for which weights are published.
NORMALISATIONS = ("dataset", "imagenet")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Images that are not in memory are counted for mean and std up to this number, evenly spaced.
STATISTICS_SAMPLE = 10_000
STATISTICS_BATCH = 64
#: Of images that were no files, too.
AS_IS = Framing()
#: Without test images, one image in so many of each class is one.
TEST_EVERY = 5


@dataclass(frozen=True)
class Preprocessing:
    """Raw images to what the network takes: scaled to [0, 1], then normalised by channel.

    Attributes
    ----------
    mean, std : tuple of float
        By channel, on the scale [0, 1].
    framing : Framing
        How the images were made from files.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    framing: Framing = AS_IS

    @classmethod
    def of(cls, images: ImageSet) -> Preprocessing:
        """Statistics of a training set; of up to 10,000 images if they are not in memory."""
        step = 1
        if not isinstance(images, LabelledImages):
            step = -(-len(images) // STATISTICS_SAMPLE)
        chosen = images.subset(range(0, len(images), step)) if step > 1 else images
        n_channels = images.shape[0]
        n, total, squares = 0, [0] * n_channels, [0] * n_channels
        for batch, _ in BatchLoader(chosen, STATISTICS_BATCH):
            # Exact: all sums are whole numbers below 2**53.
            values = batch.transpose(0, 1).flatten(1).double()
            n += values.shape[1]
            for c in range(n_channels):
                total[c] += int(values[c].sum())
                squares[c] += int(values[c].square().sum())
        mean = tuple(first / n / 255 for first in total)
        variances = (n * second - first**2 for first, second in zip(total, squares, strict=True))
        return cls(mean, tuple(max(math.sqrt(v) / n / 255, 1e-6) for v in variances))

    def scale(self, images: Tensor) -> Tensor:
        """Float images in [0, 1] from uint8 ones.

        Raises
        ------
        InvalidInputError
            If they are of another type: images that are scaled already would be so twice.
        """
        if images.dtype != torch.uint8:
            raise InvalidInputError(
                f"The images have type {images.dtype}; uint8 was expected, not scaled, as "
                "spec.read gives them."
            )
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
class DataModule:
    """A data set, ready for training.

    Attributes
    ----------
    name : str
    train, test : ImageSet
    class_names : tuple of str
        By label.
    augmentation : Augmentation or PhotographAugmentation
        Applied to training images only.
    hierarchy : tuple of tuples of str
        Names of the parents of each class, the nearest first, by label; empty if there are none.
    framing : Framing
        How the images were made from files, for images to come.
    normalisation : {"dataset", "imagenet"}
        Whose mean and std the network's input has.
    class_attributes : array of shape (n_classes, n_attributes), optional
        What people see in the images of each class, for the metric Structural Grounding.
    test_masks : ImageSet, optional
        Not 0 where the object of each test image is, for the metric Plausibility: of one channel
        and any size, framed like the images.
    """

    name: str
    train: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]
    augmentation: AnyAugmentation
    hierarchy: tuple[tuple[str, ...], ...] = ()
    framing: Framing = AS_IS
    normalisation: str = "dataset"
    class_attributes: NDArray[np.float64] | None = field(default=None, compare=False)
    test_masks: ImageSet | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.n_classes < 2:
            raise InvalidInputError(
                f"{self.name} has {self.n_classes} class; at least two are needed to tell apart."
            )
        name, n = Counter(self.class_names).most_common(1)[0]
        if n > 1:
            raise InvalidInputError(
                f"{self.name} has {n} classes named {name!r}; every class needs a name of its own."
            )
        if self.hierarchy and len(self.hierarchy) != self.n_classes:
            raise InvalidInputError(
                f"{self.name} has {self.n_classes} classes, but a hierarchy of "
                f"{len(self.hierarchy)}; the parents of each class were expected."
            )
        if self.train.shape != self.test.shape:
            raise InvalidInputError(
                f"{self.name} has training images of shape {self.train.shape} and test images of "
                f"shape {self.test.shape}; they must be equal."
            )
        if self.normalisation == "imagenet" and self.image_shape[0] != len(IMAGENET_MEAN):
            raise InvalidInputError(
                f"{self.name} has images with {self.image_shape[0]} channels, the mean of ImageNet "
                "is of 3; use the normalisation of the data set."
            )
        if isinstance(self.augmentation, PhotographAugmentation) and self.image_shape[0] not in (
            1,
            3,
        ):
            raise InvalidInputError(
                f"{self.name} has images with {self.image_shape[0]} channels, and photographs have "
                "1 or 3; take another augmentation."
            )
        masks = self.test_masks
        if masks is not None and (masks.shape[0] != 1 or len(masks) != len(self.test)):
            raise InvalidInputError(
                f"{self.name} has {len(masks)} masks of {masks.shape[0]} channels; one of one "
                f"channel for each of its {len(self.test)} test images was expected."
            )
        for part, images in (("training", self.train), ("test", self.test)):
            labels = images.labels.numpy()
            if labels.size and not 0 <= labels.min() <= labels.max() < self.n_classes:
                raise InvalidInputError(
                    f"{self.name} has {part} labels from {labels.min()} to {labels.max()}, but "
                    f"{self.n_classes} class names; labels from 0 to {self.n_classes - 1} were "
                    "expected."
                )
            counts = np.bincount(labels, minlength=self.n_classes)
            if (counts == 0).any():
                empty = self.class_names[int(counts.argmin())]
                raise InvalidInputError(
                    f"Class {empty!r} of {self.name} has no {part} image; add one or remove the "
                    "class."
                )

    @classmethod
    def from_arrays(
        cls,
        images: ArrayLike,
        labels: ArrayLike,
        *,
        test: tuple[ArrayLike, ArrayLike] | None = None,
        class_names: Sequence[str] | None = None,
        name: str = "arrays",
        augmentation: AnyAugmentation = AUGMENTATIONS["none"],
        hierarchy: tuple[tuple[str, ...], ...] = (),
        normalisation: str = "dataset",
    ) -> DataModule:
        """Data set of arrays in memory.

        Parameters
        ----------
        images : array of shape (n, height, width), (n, channels, height, width)
            Or (n, height, width, channels) with 1 or 3 channels; uint8, or floating point in
            [0, 1], which is rounded to 8 bits. With other channels than 1 or 3, figures show their
            mean.
        labels : array of shape (n,)
            Anything that can be ordered: numbers with gaps, or names. No NaN.
        test : tuple of images and labels, optional
            Test images; by default every fifth image of each class.
        class_names : sequence of str, optional
            In the order of the labels; the labels themselves by default.
        name : str
        augmentation : Augmentation or PhotographAugmentation
        hierarchy : tuple of tuples of str
        normalisation : str

        Raises
        ------
        InvalidInputError
            If the arrays do not fit together, or a class has too few images.
        """
        if test is not None and not (isinstance(test, (tuple, list)) and len(test) == 2):
            n = f" of {len(test)}" if isinstance(test, (tuple, list)) else ""
            raise InvalidInputError(
                f"test is a {type(test).__name__}{n}; a pair of images and labels was expected."
            )
        parts = [(images, labels)] + ([] if test is None else [test])
        stacks = [image_stack(part[0]) for part in parts]
        of_parts = [as_array(part[1], "labels") for part in parts]
        for stack, mine in zip(stacks, of_parts, strict=True):
            if mine.shape != (len(stack),):
                raise InvalidInputError(
                    f"There are {len(stack)} images and labels of shape {mine.shape}; a label for "
                    "each image was expected."
                )
        indices, found = class_indices(np.concatenate(of_parts))
        if class_names is not None and len(class_names) != len(found):
            raise InvalidInputError(
                f"There are {len(class_names)} class names and {len(found)} different labels; a "
                "name for each label was expected."
            )
        n_train = len(stacks[0])
        if test is None:
            is_test = rank_in_class(indices) % TEST_EVERY == TEST_EVERY - 1
            sets = [LabelledImages(stacks[0][m], indices[m]) for m in (~is_test, is_test)]
        else:
            sets = [
                LabelledImages(stacks[0], indices[:n_train]),
                LabelledImages(stacks[1], indices[n_train:]),
            ]
        return cls(
            name,
            *sets,
            tuple(found if class_names is None else map(str, class_names)),
            augmentation,
            hierarchy,
            normalisation=normalisation,
        )

    @classmethod
    def from_datasets(
        cls,
        train: Any,
        test: Any,
        class_names: Sequence[str],
        *,
        name: str = "datasets",
        augmentation: AnyAugmentation = AUGMENTATIONS["none"],
        hierarchy: tuple[tuple[str, ...], ...] = (),
        normalisation: str = "dataset",
        workers: int = 0,
    ) -> DataModule:
        """Data set of two map-style torch data sets of pairs (image, label).

        Images are PIL images, arrays or tensors (channels, height, width), uint8 or floating point
        in [0, 1], all of one size; labels are class indices. They are asked for at every access, by
        ``workers`` processes, and must not be random: random changes belong into ``augmentation``.

        Raises
        ------
        InvalidInputError
            If an image or a label is unusable, or a class has no image.
        """
        sets = (WrappedDataset(part, workers) for part in (train, test))
        return cls(
            name,
            *sets,
            tuple(map(str, class_names)),
            augmentation,
            hierarchy,
            normalisation=normalisation,
        )

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.train.shape

    @property
    def augments_while_reading(self) -> bool:
        """Whether training images are augmented one by one, by the processes that read them.

        Photographs are: that takes a processor some milliseconds for each, longer than a GPU needs
        for all the rest. What is held in memory has no such processes.
        """
        is_slow = isinstance(self.augmentation, PhotographAugmentation)
        return is_slow and not isinstance(self.train, LabelledImages)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """What the network's input is made with, to be stored with it."""
        if self.normalisation == "imagenet":
            return Preprocessing(IMAGENET_MEAN, IMAGENET_STD, self.framing)
        return replace(Preprocessing.of(self.train), framing=self.framing)

    @cached_property
    def sha256(self) -> str:
        """Hash of everything that training and evaluation depend on."""
        settings = (self.class_names, asdict(self.augmentation), self.normalisation)
        digest = hashlib.sha256(repr(settings).encode())
        for part in (self.train, self.test):
            part.update_digest(digest)
        return digest.hexdigest()


def rank_in_class(labels: ArrayLike) -> Any:
    """Position of each image among those of its class, from 0; (n_images,)."""
    labels = np.asarray(labels)
    rank = np.empty(labels.size, dtype=int)
    for c in np.unique(labels):
        members = np.flatnonzero(labels == c)
        rank[members] = np.arange(members.size)
    return rank
