"""From the list of a data set's files to a data set: framing, corrupt files, memory or disk."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace

from qpm_nn.data.augmentation import Augmentation
from qpm_nn.data.base import NORMALISATIONS, DataModule
from qpm_nn.data.files import LabelledFiles
from qpm_nn.data.images import ImageSet
from qpm_nn.data.listing import FileList, Listing
from qpm_nn.data.reading import Framing
from qpm_opt import InvalidInputError
from qpm_opt.errors import unknown_name

logger = logging.getLogger(__name__)

ON_CORRUPT = ("fail", "skip")
GIGABYTE = 2**30
AUGMENTATION = Augmentation(
    degrees=10, scale=0.15, shear=0.1, translate=0.1, flip=True, padding="reflection"
)


@dataclass(frozen=True)
class PhotoOptions:
    """How image files are read; see :func:`~qpm_nn.data.load_data`."""

    image_size: int = 64
    crop: bool = False
    on_corrupt: str = "fail"
    normalisation: str = "dataset"
    memory: float = 1.0
    workers: int = 4

    def __post_init__(self) -> None:
        if self.image_size < 8:
            raise InvalidInputError(
                f"image_size is {self.image_size}; at least 8 pixels are needed."
            )
        if self.on_corrupt not in ON_CORRUPT:
            raise unknown_name("value of on_corrupt", self.on_corrupt, ON_CORRUPT)
        if self.normalisation not in NORMALISATIONS:
            raise unknown_name("normalisation", self.normalisation, NORMALISATIONS)
        if not 0 <= self.memory < math.inf:
            raise InvalidInputError(f"memory is {self.memory}; it must be at least 0 gigabytes.")
        if self.workers < 0:
            raise InvalidInputError(f"workers is {self.workers}; it must be at least 0.")


def make_data_module(name: str, listing: Listing, options: PhotoOptions) -> DataModule:
    """Data set of a listing.

    Cropped images are squashed into a square, whole ones fill it, as in the QPM paper.

    Raises
    ------
    InvalidInputError
        If a class has no image (left), or an image cannot be read and none may be skipped.
    """
    framing = Framing(
        resize="squash" if options.crop else "fill",
        crop=options.crop,
        trim_bottom=listing.trim_bottom,
        invert=listing.are_drawings,
    )
    n_images = len(listing.train.paths) + len(listing.test.paths)
    channels = 1 if listing.are_drawings else 3
    n_bytes = n_images * channels * options.image_size**2
    in_memory = n_bytes <= options.memory * GIGABYTE

    def read(files: FileList) -> tuple[ImageSet, list[int]]:
        """The images, in memory if they fit, and which of the files they are."""
        images = LabelledFiles(
            listing.folder, files, options.image_size, framing, options.workers, channels
        )
        kept = list(range(len(images)))
        if options.on_corrupt == "skip":
            corrupt = _corrupt(images)
            kept = [index for index in kept if index not in corrupt]
            images = images.subset(kept)
        return images.in_memory() if in_memory else images, kept

    train, _ = read(listing.train)
    test, kept = read(listing.test)
    masks: ImageSet | None = None
    if listing.test_masks is not None:
        files = LabelledFiles(
            listing.mask_folder,
            listing.test_masks,
            options.image_size,
            replace(framing, invert=False),
            options.workers,
            channels=1,
            are_masks=True,
        ).subset(kept)
        if options.on_corrupt == "fail" or not _corrupt(files):
            masks = files.in_memory() if in_memory else files
    return DataModule(
        name=name,
        train=train,
        test=test,
        class_names=listing.class_names,
        augmentation=AUGMENTATION,
        hierarchy=listing.hierarchy,
        framing=framing,
        normalisation=options.normalisation,
        class_attributes=listing.class_attributes,
        test_masks=masks,
    )


def _corrupt(images: LabelledFiles) -> set[int]:
    """Indices of the images that cannot be read, after a warning about each."""
    corrupt = set()
    for index, failure in images.failures():
        logger.warning("Skipped: %s", failure)
        corrupt.add(index)
    return corrupt
