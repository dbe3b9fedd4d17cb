"""Sets of labelled images of one size, from which training and evaluation take batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from qpm_opt import InvalidInputError

if TYPE_CHECKING:
    from hashlib import _Hash

    from qpm_nn.data.augmented import AugmentedImages


#: Told how many images have been dealt with since the last time.
OnImages = Callable[[int], None]


class ImageSet(Dataset, ABC):
    """Images of one size with their labels, wherever they are.

    Attributes
    ----------
    labels : Tensor of shape (n_images,), int64
        Class indices.
    shape : tuple of int
        Channels, height and width of an image.
    workers : int
        Processes that a loader should start; 0 where images are at hand.
    """

    labels: Tensor
    shape: tuple[int, int, int]
    workers: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int | slice) -> tuple[Tensor, Tensor]:
        if isinstance(index, slice):
            return self.__getitems__(range(*index.indices(len(self))))
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    @abstractmethod
    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images (n, channels, height, width), uint8, and labels (n,): a whole batch at once."""

    @abstractmethod
    def subset(self, indices: Sequence[int] | Tensor) -> ImageSet:
        """The images of these indices, in this order, as a set of the same kind."""

    @abstractmethod
    def update_digest(self, digest: _Hash) -> None:
        """Add to a hash what tells these images and labels from others."""


class LabelledImages(ImageSet):
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
        channels, height, width = self.images.shape[1:]
        self.shape = channels, height, width

    def __getitem__(self, index: int | slice) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        return self.images[indices], self.labels[indices]

    def subset(self, indices: Sequence[int] | Tensor) -> LabelledImages:
        """The images of these indices, in this order."""
        chosen = torch.as_tensor(indices)
        return LabelledImages(self.images[chosen].numpy(), self.labels[chosen].numpy())

    def update_digest(self, digest: _Hash) -> None:
        """Add all pixels and labels."""
        digest.update(repr(tuple(self.images.shape)).encode())
        digest.update(self.images.numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())


class BatchLoader:
    """Batches (images, labels) of a set, read ahead by ``images.workers`` processes.

    The workers draw no random numbers but those of
    :class:`~qpm_nn.data.augmented.AugmentedImages`. What they raise arrives here as it was, a
    sentence instead of the trace of another process.

    Parameters
    ----------
    images : ImageSet or AugmentedImages
    batch_size : int
    sampler : Sampler or sequence of int, optional
        Order of the images; that of the set by default.
    drop_last : bool
        Whether to leave out a last batch that is not full.
    on_images : callable, optional
        Called after every batch, when the next one is asked for.
    """

    def __init__(
        self,
        images: ImageSet | AugmentedImages,
        batch_size: int,
        *,
        sampler: Sampler[int] | Sequence[int] | None = None,
        drop_last: bool = False,
        on_images: OnImages | None = None,
    ) -> None:
        self.batch_size = batch_size
        self._on_images = on_images
        self._loader: DataLoader[Any] = DataLoader(
            _Guarded(images),
            batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=images.workers,
            collate_fn=_whole_batch,
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self._loader:
            if isinstance(batch, InvalidInputError):
                raise batch
            yield batch
            if self._on_images is not None:
                self._on_images(len(batch[1]))


class _Guarded(Dataset):
    """Hands over errors instead of raising them."""

    def __init__(self, images: ImageSet | AugmentedImages) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor] | InvalidInputError:
        try:
            return self.images.__getitems__(indices)
        except InvalidInputError as failure:
            return failure


def _whole_batch(batch: Any) -> Any:
    return batch
