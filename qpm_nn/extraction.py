"""What a classifier sees in a data set: statistics in a stream, and activations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from qpm_nn.config import RuntimeConfig
from qpm_nn.data import BatchLoader, ImageSet, OnImages, Preprocessing
from qpm_nn.devices import gather, gather_rows, launch, make_fabric
from qpm_nn.heads import Activations, Classifier
from qpm_opt.constants import FeatureStatistics

#: Images per batch; results do not depend on it beyond rounding.
BATCH_SIZE = 64


class Extraction(NamedTuple):
    """Pooled features of a data set.

    Attributes
    ----------
    features : ndarray of shape (n_images, n_features), float32
    labels : ndarray of shape (n_images,), int64
    statistics : FeatureStatistics
        Of these features, with their locality and centre.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    statistics: FeatureStatistics


def extract_features(
    classifier: Classifier,
    images: ImageSet,
    preprocessing: Preprocessing,
    *,
    n_classes: int,
    runtime: RuntimeConfig | None = None,
    on_images: OnImages | None = None,
) -> Extraction:
    """Features of all images in their order, without augmentation, in evaluation mode.

    The locality of a feature in an image is the maximum of the spatial softmax of its map (QPM
    paper, eq. 8), its centre tells how far the maximum of the map is from the edges (eq. 26).

    Parameters
    ----------
    classifier : Classifier
    images : ImageSet
    preprocessing : Preprocessing
    n_classes : int
    runtime : RuntimeConfig, optional
        Device and number of devices, each of which takes a part of the images; the CPU by default.
    on_images : callable, optional
        Called after every batch with its number of images, times the number of devices.
    """
    job = partial(_extract, images=images, preprocessing=preprocessing, n_classes=n_classes)
    fabric = make_fabric(runtime or RuntimeConfig(device="cpu"))
    extraction = launch(fabric, job, classifier, tell=on_images)
    assert extraction is not None, "the first device has the result"
    return extraction


def _extract(
    fabric: Fabric,
    classifier: Classifier,
    *,
    images: ImageSet,
    preprocessing: Preprocessing,
    n_classes: int,
    tell: OnImages,
) -> Extraction | None:
    """Features and statistics of all images on the first device, of its part on every other."""
    rank, world_size = fabric.global_rank, fabric.world_size
    # The first device has the largest part, and an image in any case.
    first, end = (-(-len(images) * place // world_size) for place in (rank, rank + 1))
    features: NDArray[np.float32] | None = None
    statistics: FeatureStatistics | None = None
    n_done = 0
    seen = iterate_activations(classifier, images, preprocessing, fabric.device, range(first, end))
    for activations, labels in seen:
        batch = activations.features.float().cpu().numpy()
        if features is None or statistics is None:
            n_rows = len(images) if fabric.is_global_zero else end - first
            features = np.empty((n_rows, batch.shape[1]), np.float32)
            statistics = FeatureStatistics(n_classes, batch.shape[1])
        statistics.update(
            batch,
            labels.numpy(),
            locality=spatial_maximum(activations.maps).cpu().numpy(),
            centre=centre(activations.maps).cpu().numpy(),
        )
        features[n_done : n_done + len(batch)] = batch
        n_done += len(batch)
        if fabric.is_global_zero:
            tell(len(batch) * world_size)
    gather_rows(fabric, features, n_done)
    parts = [part for part in gather(fabric, statistics) if part is not None]
    if not fabric.is_global_zero:
        return None
    for part in parts[1:]:
        parts[0].merge(part)
    assert features is not None, "there are images"
    return Extraction(features, images.labels.clone().numpy(), parts[0])


def pooled_features(
    classifier: Classifier,
    images: ImageSet,
    preprocessing: Preprocessing,
    device: torch.device | str = "cpu",
    on_images: OnImages | None = None,
) -> NDArray[np.float32]:
    """Features as the head normalises them, of all images in their order, in evaluation mode.

    Returns
    -------
    ndarray of shape (n_images, n_selected)
        Means of the maps of the selected channels.
    """
    batches = iterate_activations(classifier, images, preprocessing, device, on_images=on_images)
    pooled = [activations.maps.mean((2, 3)).float().cpu().numpy() for activations, _ in batches]
    return np.concatenate(pooled)


def spatial_maximum(maps: Tensor) -> Tensor:
    """Maximum of the spatial softmax of each map; (n_images, n_features), in (0, 1]."""
    flat = maps.flatten(2).float()
    # The largest softmax value: exp(max) / sum exp = 1 / sum exp(value - max).
    return 1 / (flat - flat.amax(2, keepdim=True)).exp().sum(2)


def centre(maps: Tensor) -> Tensor:
    """``-1 / (1 + d)`` of each map, d pixels from its maximum to the closest edge (eqs. 26, 27).

    A maximum on the edge has -1, one far from it nearly 0. Of several equal maxima the first in
    reading order counts.

    Parameters
    ----------
    maps : Tensor of shape (n_images, n_features, height, width)

    Returns
    -------
    Tensor of shape (n_images, n_features)
        float32, in [-1, 0).
    """
    height, width = maps.shape[2:]
    place = maps.flatten(2).argmax(2)
    y, x = place // width, place % width
    from_sides = torch.minimum(x, width - 1 - x)
    from_ends = torch.minimum(y, height - 1 - y)
    return -1 / (1 + torch.minimum(from_sides, from_ends).float())


@torch.no_grad()
def iterate_activations(
    classifier: Classifier,
    images: ImageSet,
    preprocessing: Preprocessing,
    device: torch.device | str = "cpu",
    indices: Sequence[int] | None = None,
    on_images: OnImages | None = None,
) -> Iterator[tuple[Activations, Tensor]]:
    """Activations (on the device) and labels (on the CPU), batch by batch, in evaluation mode.

    Of all images by default, else of those at ``indices``; ``on_images`` as for
    :class:`~qpm_nn.data.BatchLoader`.
    """
    classifier = classifier.to(device).eval()
    for batch, labels in BatchLoader(images, BATCH_SIZE, sampler=indices, on_images=on_images):
        yield classifier.activations(preprocessing(batch.to(device))), labels
