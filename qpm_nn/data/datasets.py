"""Any ``torch.utils.data.Dataset`` of pairs (image, label) as a set of labelled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset

from qpm_nn.data.images import ImageSet
from qpm_nn.data.reading import as_rgb
from qpm_opt import InvalidInputError

if TYPE_CHECKING:
    from hashlib import _Hash

#: Items whose own labels are compared with those that a data set has as a list.
N_COMPARED = 16


class WrappedDataset(ImageSet):
    """A map-style data set of pairs (image, label), asked at every access.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        Its images are what :func:`as_pixels` takes, all of one size. It must not be random: put
        augmentation into the :class:`~qpm_nn.data.DataModule`.
    workers : int
        Processes that a loader should start.

    Raises
    ------
    InvalidInputError
        If it is not map-style or empty, or an item is no pair of an image and a class index.
    """

    def __init__(self, dataset: Any, workers: int = 0) -> None:
        is_map = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
        if isinstance(dataset, (IterableDataset, Mapping)) or not is_map:
            raise InvalidInputError(
                f"A {type(dataset).__name__} is no map-style data set, with a length and images by "
                "their index; put what it yields into a list."
            )
        if not len(dataset):
            raise InvalidInputError("The data set is empty; it must have images of every class.")
        self.dataset = dataset
        self.workers = workers
        self._indices = np.arange(len(dataset))
        self.labels = _labels(dataset)
        channels, height, width = as_pixels(_pair(dataset, 0)[0], "image 0").shape
        self.shape = channels, height, width

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        images = torch.empty((len(indices), *self.shape), dtype=torch.uint8)
        for row, index in enumerate(indices):
            which = int(self._indices[index])
            pixels = as_pixels(_pair(self.dataset, which)[0], f"image {which}")
            if pixels.shape != self.shape:
                raise InvalidInputError(
                    f"image {which} has shape {pixels.shape}, the first one {self.shape}; all must "
                    "be of one size: resize them in the data set."
                )
            images[row] = torch.from_numpy(pixels)
        return images, self.labels[torch.as_tensor(indices)]

    def subset(self, indices: Sequence[int] | Tensor) -> WrappedDataset:
        """The images of these indices, in this order."""
        chosen = np.asarray(indices)
        part = object.__new__(WrappedDataset)
        part.__dict__.update(self.__dict__)
        part._indices = self._indices[chosen]
        part.labels = self.labels[torch.as_tensor(chosen)]
        return part

    def update_digest(self, digest: _Hash) -> None:
        """Add all pixels, since nothing else is known of such a set: every image is read once."""
        digest.update(repr((len(self), self.shape)).encode())
        for index in range(len(self)):
            digest.update(self[index][0].numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())


def as_pixels(image: Any, what: str) -> NDArray[np.uint8]:
    """An image in 8 bits, channels first.

    Parameters
    ----------
    image : array, Tensor or PIL image
        (height, width) or (channels, height, width), of type uint8, or floating point in [0, 1].
        PIL images become grey or RGB, before white where they are transparent.
    what : str
        To be named in messages.

    Raises
    ------
    InvalidInputError
        If it is anything else.
    """
    # Mode F is floating point in [0, 1].
    if isinstance(image, Image.Image) and image.mode not in ("L", "RGB", "F"):
        image = _converted(image, what)
    pixels = np.asarray(image)
    if pixels.ndim == 3 and not isinstance(image, (Tensor, np.ndarray)):
        pixels = pixels.transpose(2, 0, 1)
    if pixels.ndim == 2:
        pixels = pixels[None]
    if pixels.ndim != 3:
        raise InvalidInputError(
            f"{what} has shape {pixels.shape}; (height, width) or (channels, height, width) was "
            "expected."
        )
    return as_bytes(pixels, what)


def _converted(image: Image.Image, what: str) -> Image.Image:
    """A PIL image of another mode in 8-bit grey or RGB, as files are read."""
    try:
        rgb = as_rgb(image, "white")
    except ValueError as failure:
        raise InvalidInputError(f"{what} cannot be read: {failure}") from None
    is_grey = image.mode in ("1", "LA", "La") or image.mode.startswith("I;16")
    return rgb.convert("L") if is_grey else rgb


def as_bytes(pixels: NDArray[Any], what: str) -> NDArray[np.uint8]:
    """Pixels as uint8; floating point ones in [0, 1] are scaled and rounded.

    Raises
    ------
    InvalidInputError
        If they are of another type, or outside [0, 1].
    """
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise InvalidInputError(
            f"{what} has type {pixels.dtype}; uint8, or floating point in [0, 1], was expected."
        )
    if not ((pixels >= 0) & (pixels <= 1)).all():
        raise InvalidInputError(
            f"{what} has values from {pixels.min():g} to {pixels.max():g}; [0, 1] was expected, "
            "without normalisation."
        )
    return np.rint(pixels * 255).astype(np.uint8)


def as_array(values: Any, what: str) -> NDArray[Any]:
    """Array of anything that is one.

    Raises
    ------
    InvalidInputError
        If it is none, such as a list of lists of different lengths.
    """
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as failure:
        raise InvalidInputError(f"The {what} are no array: {failure}") from None


def class_indices(labels: NDArray[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels of any kind as indices 0, 1, ... in their order, and their names.

    Raises
    ------
    InvalidInputError
        If one is NaN, or they cannot be ordered.
    """
    try:
        missing = np.flatnonzero(labels != labels)  # only NaN differs from itself
        if not missing.size:
            names, indices = np.unique(labels, return_inverse=True)
    except (TypeError, ValueError) as failure:
        raise InvalidInputError(f"The labels cannot be ordered: {failure}") from None
    if missing.size:
        raise InvalidInputError(
            f"The label of image {missing[0]} is {labels[missing[0]]}; leave out images that have "
            "no class."
        )
    return indices.astype(np.int64), tuple(map(str, names))


def image_stack(images: ArrayLike) -> NDArray[np.uint8]:
    """Images as uint8 of shape (n_images, channels, height, width).

    Raises
    ------
    InvalidInputError
        If they are of another shape or type, or outside [0, 1].
    """
    stack = as_array(images, "images")
    if stack.ndim == 3:
        stack = stack[:, None]
    elif stack.ndim == 4 and stack.shape[1] not in (1, 3) and stack.shape[3] in (1, 3):
        stack = stack.transpose(0, 3, 1, 2)
    if stack.ndim != 4 or 0 in stack.shape:
        raise InvalidInputError(
            f"The images have shape {stack.shape}; (n, height, width), (n, channels, height, "
            "width) or (n, height, width, channels) was expected, with at least one image."
        )
    return as_bytes(stack, "the array of images")


def _labels(dataset: Any) -> Tensor:
    """Labels from ``targets`` or ``labels`` if they are those of the items, else by reading all."""
    some = np.linspace(0, len(dataset) - 1, min(len(dataset), N_COMPARED)).astype(int).tolist()
    if getattr(dataset, "target_transform", None) is None:
        for name in ("targets", "labels"):
            try:
                found = np.asarray(getattr(dataset, name, None))
            except ValueError:  # a list of something else, of different lengths
                continue
            is_list = np.issubdtype(found.dtype, np.integer) and found.shape == (len(dataset),)
            if is_list and all(found[i] == _class_index(_pair(dataset, i)[1], i) for i in some):
                return torch.from_numpy(found.astype(np.int64))
    found = [_class_index(_pair(dataset, i)[1], i) for i in range(len(dataset))]
    return torch.tensor(found, dtype=torch.int64)


def _pair(dataset: Any, index: int) -> tuple[Any, Any]:
    """Image and label of an item; what else there is in it is left out."""
    item = dataset[index]
    if not isinstance(item, (tuple, list)) or len(item) < 2:
        n = f" of {len(item)}" if isinstance(item, (tuple, list)) else ""
        raise InvalidInputError(
            f"Item {index} of the data set is a {type(item).__name__}{n}; a pair of an image and "
            "its label was expected."
        )
    return item[0], item[1]


def _class_index(label: Any, index: int) -> int:
    value = as_array(label.cpu() if isinstance(label, Tensor) else label, f"labels of item {index}")
    is_number = value.size == 1 and value.dtype.kind in "biuf"
    if not is_number or not float(value.item()).is_integer():
        raise InvalidInputError(
            f"The label of image {index} is {label!r}; the index of its class, from 0, was "
            "expected."
        )
    return int(value.item())
