"""Which images to explain, and which interpretation serves an image that was not among them.

References
----------
Lam et al., Finding representative interpretations on convolutional neural networks, ICCV 2021,
section 6.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from qpm_nn.explanations.representative.images import MappedImages
from qpm_nn.explanations.representative.interpretation import Interpretation
from qpm_opt import InvalidInputError


@dataclass(frozen=True)
class CentralImages:
    """Images closest to the centres of k-means clusters of feature maps.

    Attributes
    ----------
    indices : array of shape (n_inputs,), int
        Reference images; one may stand for several clusters.
    centres : array of shape (n_inputs, n_dimensions), float32
    """

    indices: NDArray[np.intp]
    centres: NDArray[np.float32]

    def distances(self, images: MappedImages) -> NDArray[np.float64]:
        """Euclidean distances of images to the centres, (n_images, n_inputs)."""
        centres = torch.from_numpy(self.centres).to(images.device)
        return np.concatenate(
            [
                torch.cdist(maps.flatten(1).float(), centres).double().cpu().numpy()
                for maps in images.batches()
            ]
        )


def central_images(references: MappedImages, n_inputs: int, seed: int = 0) -> CentralImages:
    """The reference images nearest to the centres of ``n_inputs`` clusters (Lloyd's k-means).

    Raises
    ------
    InvalidInputError
        If ``n_inputs`` is not from 1 to the number of images.
    """
    if not 1 <= n_inputs <= len(references):
        raise InvalidInputError(
            f"n_inputs is {n_inputs}; 1 to {len(references)}, the number of reference images, was "
            "expected."
        )
    points = torch.cat([maps.flatten(1).float().cpu() for maps in references.batches()]).numpy()
    found = KMeans(n_inputs, n_init=1, max_iter=50, random_state=seed).fit(points)
    centres = found.cluster_centers_.astype(np.float32)
    nearest = CentralImages(np.zeros(n_inputs, np.intp), centres).distances(references).argmin(0)
    return CentralImages(nearest, centres)


@dataclass(frozen=True)
class Served:
    """Which interpretation serves which unseen image.

    Attributes
    ----------
    interpretation : array of shape (n_images,), int
    is_covered : array of shape (n_images,), bool
        Whether the image is in that interpretation's region; otherwise it is just near.
    """

    interpretation: NDArray[np.intp]
    is_covered: NDArray[np.bool_]


def serve(
    interpretations: Sequence[Interpretation], inputs: CentralImages, unseen: MappedImages
) -> Served:
    """Interpretations for unseen images.

    One whose region covers the image; of several those of its predicted class first, then that
    with the nearest centre. If no region covers the image, the interpretation of the nearest
    centre.

    Raises
    ------
    InvalidInputError
        If there is not one interpretation for every centre.
    """
    if len(interpretations) != len(inputs.centres):
        raise InvalidInputError(
            f"There are {len(interpretations)} interpretations and {len(inputs.centres)} centres; "
            "one for each was expected."
        )
    inside = np.concatenate(
        [
            np.stack([one.contains(maps) for one in interpretations], axis=1)
            for maps in unseen.batches()
        ]
    )
    classes = np.array([one.c for one in interpretations])
    is_own = classes == unseen.predicted[:, None]
    # Lower is better: the rank first, then the distance.
    rank = np.where(inside & is_own, 0, np.where(inside, 1, 2))
    best = rank == rank.min(axis=1, keepdims=True)
    distances = np.where(best, inputs.distances(unseen), np.inf)
    chosen = distances.argmin(axis=1)
    return Served(chosen, inside[np.arange(len(unseen)), chosen])
