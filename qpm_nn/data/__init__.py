"""Data sets by name, a folder of own images, own arrays, or own torch data sets."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from qpm_nn.data.aircraft import read_aircraft
from qpm_nn.data.augmentation import AUGMENTATIONS, Augmentation, PhotographAugmentation
from qpm_nn.data.augmented import AugmentedImages
from qpm_nn.data.base import DataModule, Preprocessing
from qpm_nn.data.cub import read_cub
from qpm_nn.data.digits import load_digits
from qpm_nn.data.files import LabelledFiles
from qpm_nn.data.folder import read_folder
from qpm_nn.data.grocery import read_grocery
from qpm_nn.data.imagenet import read_imagenet
from qpm_nn.data.images import BatchLoader, ImageSet, LabelledImages, OnImages
from qpm_nn.data.listing import Listing
from qpm_nn.data.omniglot import SIZE, load_omniglot, load_omniglot_full
from qpm_nn.data.photographs import PhotoOptions, make_data_module
from qpm_nn.data.reading import Framing, read_image
from qpm_nn.data.stanford_cars import read_stanford_cars
from qpm_nn.data.traveling_birds import read_traveling_birds
from qpm_opt import InvalidInputError
from qpm_opt.errors import unknown_name

__all__ = [
    "AUGMENTATIONS",
    "DATA_SETS",
    "Augmentation",
    "AugmentedImages",
    "BatchLoader",
    "DataModule",
    "Framing",
    "ImageSet",
    "LabelledFiles",
    "LabelledImages",
    "OnImages",
    "PhotographAugmentation",
    "Preprocessing",
    "data_root",
    "load_data",
    "read_image",
]

#: Data sets that are no photographs; the loader takes the folder that holds the files, and how
#: image files are read.
DRAWINGS: dict[str, Callable[[Path, PhotoOptions], DataModule]] = {
    "digits": lambda root, options: load_digits(),
    "omniglot": load_omniglot,
    "omniglot_full": load_omniglot_full,
}
#: Data sets of photographs; the reader takes the folder that holds the files, and whether boxes are
#: needed.
PHOTOGRAPHS: dict[str, Callable[[Path, bool], Listing]] = {
    "aircraft": read_aircraft,
    "cub2011": read_cub,
    "grocery": read_grocery,
    "imagenet": read_imagenet,
    "stanford_cars": read_stanford_cars,
    "traveling_birds": read_traveling_birds,
}
#: All data sets with a name.
DATA_SETS = (*DRAWINGS, *PHOTOGRAPHS)
#: Side of images in pixels, where nothing else is asked for.
IMAGE_SIZE = 64
IMAGE_SIZES = {"omniglot": SIZE, "omniglot_full": SIZE}


def data_root(root: str | os.PathLike[str]) -> Path:
    """Folder with the files of named data sets: the given one, ``QPM_DATA``, or the current one."""
    return Path(root or os.environ.get("QPM_DATA", "."))


def load_data(
    name: str,
    *,
    root: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    crop: bool = False,
    on_corrupt: str = "fail",
    normalisation: str = "dataset",
    memory: float = 1.0,
    workers: int = 4,
    augmentation: str = "dataset",
    nested: bool = False,
) -> DataModule:
    """A data set.

    Parameters
    ----------
    name : str
        One of ``DATA_SETS``, or the path of a folder
        (:func:`~qpm_nn.data.folder.read_folder`).
    root : path, optional
        Where the files of a named data set are; the environment variable ``QPM_DATA`` by default,
        else the current folder.
    image_size : int, optional
        Side of the images in pixels: 28 for Omniglot and 64 for the others by default. Digits and
        the file ``omniglot195_28px.npz`` have their own size.
    crop : bool
        Whether photographs are cropped to the given box around the object, in test images too.
    on_corrupt : {"fail", "skip"}
        What to do about a file that cannot be read: end with its name; or log its name and leave it
        out, for which every image is decoded once at the beginning.
    normalisation : {"dataset", "imagenet"}
        Whether the input of the network has the mean and std of these training images, or those of
        ImageNet, which pretrained networks expect.
    memory : float
        Gigabytes up to which photographs are decoded at the beginning and held; larger sets are
        read from the files in every epoch.
    workers : int
        Processes that read such files, and augment them as photographs; 0: none but this one.
    augmentation : str
        What training images go through: that of the data set (``dataset``), or one of
        ``AUGMENTATIONS``.
    nested : bool
        Whether the classes of a folder of own images are the innermost folders, and those above
        them their parents.

    Raises
    ------
    InvalidInputError
        If the name or an option is unknown, or the files are missing or damaged.
    """
    if augmentation not in ("dataset", *AUGMENTATIONS):
        raise unknown_name("augmentation", augmentation, ("dataset", *AUGMENTATIONS))
    if image_size is None:
        image_size = IMAGE_SIZES.get(name, IMAGE_SIZE)
    options = PhotoOptions(image_size, crop, on_corrupt, normalisation, memory, workers)
    data = _load(name, data_root(root), options, nested)
    if augmentation == "dataset":
        return data
    return replace(data, augmentation=AUGMENTATIONS[augmentation])


def _load(name: str, folder: Path, options: PhotoOptions, nested: bool) -> DataModule:
    if nested and name in DATA_SETS:
        raise InvalidInputError(
            f"nested is for folders of own images, and {name} has a layout of its own; leave it "
            "out."
        )
    crop, normalisation = options.crop, options.normalisation
    if name in PHOTOGRAPHS:
        return make_data_module(name, PHOTOGRAPHS[name](folder, crop), options)
    if name in DRAWINGS:
        if crop or normalisation != "dataset":
            raise InvalidInputError(
                f"{name} is no set of photographs: leave out crop, and the normalisation of "
                "ImageNet."
            )
        return DRAWINGS[name](folder, options)
    if os.sep in name or Path(name).is_dir():
        return make_data_module(
            Path(name).resolve().name, read_folder(Path(name), crop, nested), options
        )
    raise unknown_name("data set or folder", name, DATA_SETS)
