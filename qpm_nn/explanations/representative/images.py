"""Feature maps of many images: streamed, or kept where they are few."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qpm_nn.data import ImageSet, Preprocessing
from qpm_nn.explanations.representative.split import NetworkSplit
from qpm_nn.metrics.checks import check_finite
from qpm_opt import InvalidInputError

#: Images per batch; results do not depend on it beyond rounding.
BATCH_SIZE = 64
#: Maps up to this size are kept once they are computed.
KEPT_BYTES = 2**30


class MappedImages:
    """Images with their feature maps and the classes that the network predicts for them.

    Labels are never looked at: whatever a representative interpretation says of classes, it says of
    predicted ones.

    Parameters
    ----------
    split : NetworkSplit
    images : ImageSet or Tensor
        Raw images, or images (n_images, channels, height, width) with values in [0, 1].
    preprocessing : Preprocessing, optional
        Pixels to network inputs; without it a network takes images with values in [0, 1].
    device : torch.device or str
        Where the network is moved to.

    Raises
    ------
    InvalidInputError
        If there are no images, or they are of another shape, type or range.
    """

    def __init__(
        self,
        split: NetworkSplit,
        images: ImageSet | Tensor,
        preprocessing: Preprocessing | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if not len(images):
            raise InvalidInputError("There are no images; at least one was expected.")
        if isinstance(images, Tensor):
            _check_pixels(images)
        self.split = split
        self.images = images
        self.preprocessing = preprocessing
        self.device = torch.device(device)
        split.image_part.to(self.device)
        split.score_part.to(self.device)
        self._kept: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, indices: Sequence[int] | NDArray[np.intp]) -> Tensor:
        """Images (n, channels, height, width) with values in [0, 1]."""
        indices = [int(i) for i in indices]
        if isinstance(self.images, Tensor):
            return self.images[indices].to(self.device)
        return self.images.__getitems__(indices)[0].to(self.device).float() / 255

    def normalise(self, pixels: Tensor) -> Tensor:
        """Network inputs of images with values in [0, 1]."""
        return pixels if self.preprocessing is None else self.preprocessing.normalise(pixels)

    def maps(self, indices: Sequence[int] | NDArray[np.intp]) -> Tensor:
        """Feature maps (n, n_channels, h, w) of some images."""
        chosen = [int(i) for i in indices]
        if self._are_kept and chosen:
            return torch.stack([self._kept[i // BATCH_SIZE][i % BATCH_SIZE] for i in chosen])
        return self.split.maps(self.normalise(self.pixels(chosen)))

    def batches(self) -> Iterator[Tensor]:
        """Feature maps of all images in their order, batch by batch."""
        if self._are_kept:
            yield from self._kept
            return
        kept: list[Tensor] = []
        size = 0
        for start in range(0, len(self), BATCH_SIZE):
            maps = self.split.maps(
                self.normalise(self.pixels(range(start, min(start + BATCH_SIZE, len(self)))))
            )
            size += maps.nbytes
            kept = [*kept, maps] if size <= KEPT_BYTES else []
            yield maps
        if size <= KEPT_BYTES:
            self._kept = kept

    @property
    def _are_kept(self) -> bool:
        return bool(self._kept)

    @cached_property
    @torch.no_grad()
    def scores(self) -> NDArray[np.float64]:
        """Scores before the softmax, (n_images, n_classes).

        Raises
        ------
        InvalidInputError
            If they are not finite, or there is one class only.
        """
        found = torch.cat([self.split.scores(maps) for maps in self.batches()]).cpu().numpy()
        if not np.isfinite(found).all():
            raise InvalidInputError(
                "The network's scores hold NaN or infinite values; finite numbers were expected: "
                "train again with a lower learning rate."
            )
        if found.ndim != 2 or found.shape[1] < 2:
            raise InvalidInputError(
                f"The network's scores have shape {found.shape}; at least two classes were "
                "expected."
            )
        return found

    @cached_property
    def predicted(self) -> NDArray[np.intp]:
        """Class of the largest score, (n_images,); the first of equal ones."""
        return self.scores.argmax(1)


def _check_pixels(images: Tensor) -> None:
    if images.ndim != 4 or not images.is_floating_point():
        raise InvalidInputError(
            f"images has shape {tuple(images.shape)} and type {images.dtype}; floating-point "
            "numbers of shape (n_images, channels, height, width) were expected."
        )
    check_finite("images", images)
    if images.min() < 0 or images.max() > 1:
        raise InvalidInputError(
            f"images go from {float(images.min()):g} to {float(images.max()):g}; values from 0 to "
            "1 were expected: divide by 255."
        )
