"""Photographs that are augmented where they are read, in the processes of a loader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from qpm_nn.data.base import DataModule


class AugmentedImages(Dataset):
    """Training images in [0, 1], each augmented with random numbers of its own.

    These follow from the seed, the epoch and the index of the image, and torch's global generator
    stays where it was. So it makes no difference which process reads an image, after which others.

    Parameters
    ----------
    data : DataModule
        Of which ``augments_while_reading`` says whether that is worth its while.
    seed : int

    Attributes
    ----------
    epoch : int
        To be set before the images of an epoch are read.
    """

    def __init__(self, data: DataModule, seed: int) -> None:
        self.images = data.train
        self.workers = data.train.workers
        self.epoch = 0
        self._seed = seed
        self._preprocessing = data.preprocessing
        self._augmentation = data.augmentation

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        images, labels = self.images.__getitems__(indices)
        images = self._preprocessing.scale(images)
        with _one_thread(), torch.random.fork_rng(devices=()):
            for row, index in enumerate(indices):
                # The last number tells it from the seeds of epochs.
                sequence = np.random.SeedSequence((self._seed, self.epoch, index, 1))
                # torch.manual_seed would seed the devices, too.
                torch.default_generator.manual_seed(int(sequence.generate_state(1)[0]))
                images[row] = self._augmentation(images[row : row + 1])[0]
        return images, labels


@contextmanager
def _one_thread() -> Iterator[None]:
    """As in the processes of a loader: the last digits of a sum depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
