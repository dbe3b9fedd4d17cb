"""Images that are decoded when they are needed, for sets that do not fit in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qpm_nn.data.images import ImageSet, LabelledImages
from qpm_nn.data.listing import FileList
from qpm_nn.data.reading import Box, Framing, read_image
from qpm_opt import InvalidInputError

if TYPE_CHECKING:
    from hashlib import _Hash

#: Bytes at the beginning and at the end of a file that go into the hash of a set.
HASHED_BYTES = 65536
#: Files whose content goes into the hash of a set, evenly spaced; of the others only the size.
HASHED_FILES = 20_000
#: Files that are handed to the threads at a time.
BLOCK = 1024


class LabelledFiles(ImageSet):
    """Image files with their labels, decoded and resized at every access.

    Parameters
    ----------
    folder : Path
    files : FileList
        Paths below the folder.
    image_size : int
        Side of the images in pixels.
    framing : Framing
    workers : int
        Processes that a loader should start.
    channels : int
        3: RGB, 1: grey.
    are_masks : bool
        Whether they are resized as masks are.
    """

    def __init__(
        self,
        folder: Path,
        files: FileList,
        image_size: int,
        framing: Framing,
        workers: int = 0,
        channels: int = 3,
        are_masks: bool = False,
    ) -> None:
        self.folder = folder
        self.framing = framing
        self.workers = workers
        self.are_masks = are_masks
        self.shape = (channels, image_size, image_size)
        self.labels = torch.tensor(files.labels, dtype=torch.int64)
        # Arrays, because the reference counts of a million strings would make every worker copy
        # them, page by page.
        self._paths = np.array([os.fsencode(path) for path in files.paths], dtype=np.bytes_)
        self._boxes = np.array(files.boxes) if files.boxes else None

    def path(self, index: int) -> Path:
        """File of an image."""
        return self.folder / os.fsdecode(self._paths[index])

    def read(self, index: int) -> NDArray[np.uint8]:
        """Pixels (channels, size, size) of an image.

        Raises
        ------
        InvalidInputError
            If it cannot be read; the message names the file.
        """
        box: Box | None = None if self._boxes is None else tuple(self._boxes[index].tolist())
        return read_image(self.path(index), self.shape, self.framing, box, is_mask=self.are_masks)

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        images = torch.empty((len(indices), *self.shape), dtype=torch.uint8)
        for row, index in enumerate(indices):
            images[row] = torch.from_numpy(self.read(index).copy())
        return images, self.labels[torch.as_tensor(indices)]

    def subset(self, indices: Sequence[int] | Tensor) -> LabelledFiles:
        """The images of these indices, in this order."""
        chosen = np.asarray(indices)
        part = object.__new__(LabelledFiles)
        part.__dict__.update(self.__dict__)
        part.labels = self.labels[torch.as_tensor(chosen)]
        part._paths = self._paths[chosen]
        part._boxes = None if self._boxes is None else self._boxes[chosen]
        return part

    def in_memory(self) -> LabelledImages:
        """The same images, decoded."""
        images = np.empty((len(self), *self.shape), dtype=np.uint8)
        for row, pixels in enumerate(self._each(self.read)):
            images[row] = pixels
        return LabelledImages(images, self.labels.numpy())

    def failures(self) -> Iterator[tuple[int, InvalidInputError]]:
        """Images that cannot be read, after an attempt at every one of them."""
        for index, failure in enumerate(self._each(self._failure)):
            if failure is not None:
                yield index, failure

    def _each(self, function: Callable[[int], Any]) -> Iterator[Any]:
        """The function of every index, in order, with as many threads as there are workers."""
        with ThreadPoolExecutor(max(1, self.workers)) as pool:
            for start in range(0, len(self), BLOCK):  # a pool holds all that it is given
                yield from pool.map(function, range(start, min(len(self), start + BLOCK)))

    def _failure(self, index: int) -> InvalidInputError | None:
        try:
            self.read(index)
        except InvalidInputError as failure:
            return failure
        return None

    def update_digest(self, digest: _Hash) -> None:
        """Add names, labels, boxes, framing, and what can be had of the files without decoding.

        That is the size of every file, and the first and last 64 kB of up to 20,000 files, evenly
        spaced. Times are left out: they differ between copies. An edit goes unnoticed if it keeps
        the size of a file and touches only its middle, or only files between those.
        """
        step = -(-len(self) // HASHED_FILES)
        for content in self._each(lambda index: self._fingerprint(index, index % step == 0)):
            digest.update(content)
        digest.update(repr((self.shape, self.framing)).encode())
        if self.framing.invert:
            digest.update(b"inverted")
        digest.update(b"\0".join(self._paths.tolist()))
        digest.update(self.labels.numpy().tobytes())
        if self._boxes is not None:
            digest.update(self._boxes.tobytes())

    def _fingerprint(self, index: int, with_content: bool) -> bytes:
        path = self.path(index)
        try:
            size = path.stat().st_size
            found = blake2b(str(size).encode(), digest_size=16)
            if with_content:
                with path.open("rb") as file:
                    found.update(file.read(HASHED_BYTES))
                    file.seek(max(HASHED_BYTES, size - HASHED_BYTES))
                    found.update(file.read(HASHED_BYTES))
        except OSError as failure:
            raise InvalidInputError(
                f"{path} is listed but cannot be read: {failure.strerror}."
            ) from None
        return found.digest()
