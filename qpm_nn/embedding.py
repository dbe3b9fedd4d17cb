"""Embeddings of a data set by a frozen network: computed once, then trained on instead of images.

There is no augmentation on this way: it would need new embeddings in every epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from qpm_nn.backbones.frozen import FrozenBackbone
from qpm_nn.data import (
    AUGMENTATIONS,
    BatchLoader,
    DataModule,
    ImageSet,
    OnImages,
    Preprocessing,
)
from qpm_nn.heads import Classifier
from qpm_opt import InvalidInputError
from qpm_opt.files import replace_on_success

if TYPE_CHECKING:
    from hashlib import _Hash

#: Images per batch; results do not depend on it beyond rounding.
BATCH_SIZE = 64


def write_embeddings(
    path: Path,
    backbone: FrozenBackbone,
    images: ImageSet,
    preprocessing: Preprocessing,
    device: torch.device | str = "cpu",
    on_images: OnImages | None = None,
) -> None:
    """Write the embeddings of all images, in their order, as a ``.npy`` file.

    The array has shape (n_images, n_embeddings, h, w) and half precision. It is written batch by
    batch, under another name until it is whole; a full disk is an ``OSError`` and leaves nothing.

    Raises
    ------
    InvalidInputError
        If an embedding is not finite in half precision.
    """
    backbone = backbone.to(device).eval()
    # No memory map: on a full disk, writing into one kills the process.
    with replace_on_success(path) as temporary, temporary.open("wb") as file:
        for batch, _ in BatchLoader(images, BATCH_SIZE, on_images=on_images):
            found = backbone.embeddings(preprocessing(batch.to(device))).half()
            if not torch.isfinite(found).all():
                raise InvalidInputError(
                    "The embeddings of the frozen backbone exceed half precision; take one whose "
                    "last layer normalises, or check the weights."
                )
            array = found.cpu().numpy()
            if not file.tell():
                header = {
                    "descr": np.lib.format.dtype_to_descr(array.dtype),
                    "fortran_order": False,
                    "shape": (len(images), *array.shape[1:]),
                }
                np.lib.format.write_array_header_1_0(file, header)
            file.write(array.tobytes())


class EmbeddedSet(ImageSet):
    """Embeddings in a file, with the labels of their images.

    Parameters
    ----------
    path : Path
        Of :func:`write_embeddings`.
    labels : Tensor of shape (n_images,), int64
    """

    def __init__(self, path: Path, labels: Tensor) -> None:
        self.path = path
        self.labels = labels
        self._rows = np.arange(len(labels))
        self.shape = self._array().shape[1:]

    def _array(self) -> np.ndarray:
        # Opened at every access: pickling an open one would copy it to every process.
        return np.load(self.path, mmap_mode="r")

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        chosen = np.asarray(indices)
        return torch.from_numpy(self._array()[self._rows[chosen]]), self.labels[chosen]

    def subset(self, indices: Sequence[int] | Tensor) -> EmbeddedSet:
        """The embeddings of these indices, in this order."""
        chosen = np.asarray(indices)
        part = EmbeddedSet(self.path, self.labels[chosen])
        part._rows = self._rows[chosen]
        return part

    def update_digest(self, digest: _Hash) -> None:
        """Add all embeddings and labels."""
        for index in range(len(self)):
            digest.update(self[index][0].numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())


class _AsTheyAre(Preprocessing):
    """Embeddings go into the network unchanged, in its precision."""

    def scale(self, images: Tensor) -> Tensor:
        return images.to(torch.get_default_dtype())

    def normalise(self, images: Tensor) -> Tensor:
        return images


@dataclass(frozen=True)
class EmbeddedData(DataModule):
    """A data set whose images are embeddings, for :func:`trained_part` of a classifier."""

    @classmethod
    def of(cls, data: DataModule, train: Path, test: Path) -> EmbeddedData:
        """The data set with the embeddings in these files in place of its images."""
        return cls(
            data.name,
            EmbeddedSet(train, data.train.labels),
            EmbeddedSet(test, data.test.labels),
            data.class_names,
            AUGMENTATIONS["none"],
            data.hierarchy,
            class_attributes=data.class_attributes,
            test_masks=data.test_masks,
        )

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """None at all."""
        return _AsTheyAre((), ())


def trained_part(classifier: Classifier) -> Classifier:
    """Adapter and head of a classifier with a frozen backbone, sharing their parameters."""
    return Classifier(classifier.backbone.adapter, classifier.head)
