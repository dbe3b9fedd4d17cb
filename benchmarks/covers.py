"""Cover problems like those of representative interpretations, without a network.

Images are points in clusters, each of a class; an image's class is that of the nearest centre, so
scores are piecewise linear as those of a network are. A boundary is the bisector of two centres,
tilted at random about a point on it: no two are parallel, as no two pieces of a network's boundary
are the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qpm_opt import CoverProblem

N_IMAGES, N_DIMENSIONS, CENTRES_PER_CLASS = 5000, 16, 6
#: Standard deviation of a cluster, and of the tilt of a boundary.
SPREAD, TILT = 0.6, 0.5
_BISECTIONS = 30


class CoverSize(NamedTuple):
    n_classes: int
    n_boundaries: int

    def __str__(self) -> str:
        return f"{self.n_classes}x{self.n_boundaries}"


def clustered_cover(
    size: CoverSize, seed: int, *, sampling: str, spare: int = 0, n_images: int = N_IMAGES
) -> CoverProblem:
    """Random problem at the size of the paper.

    Parameters
    ----------
    sampling : {"reference", "segment"}
        Where boundaries come from: from the pieces at random images (eq. 2 of the paper), or from
        where the segments from the input to images of other classes leave the class.
    spare : int
        n_exceptions beyond the least possible.
    """
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(size.n_classes * CENTRES_PER_CLASS, N_DIMENSIONS))
    class_of = np.repeat(np.arange(size.n_classes), CENTRES_PER_CLASS)
    images = centres[rng.integers(len(centres), size=n_images)]
    images = images + SPREAD * rng.normal(size=images.shape)
    classes = class_of[_distances(images, centres).argmin(axis=1)]
    x = int(rng.integers(n_images))
    if sampling == "reference":
        points = images[rng.choice(n_images, size.n_boundaries, replace=False)]
    else:
        rivals = rng.choice(np.flatnonzero(classes != classes[x]), size.n_boundaries, False)
        inside = np.repeat(images[x][None], size.n_boundaries, axis=0)
        outside = images[rivals]
        for _ in range(_BISECTIONS):
            middle = (inside + outside) / 2
            stays = class_of[_distances(middle, centres).argmin(axis=1)] == classes[x]
            inside[stays], outside[~stays] = middle[stays], middle[~stays]
        points = inside
    normals, feet = _boundaries(points, centres, class_of, rng)
    beyond = images @ normals.T > (normals * feet).sum(axis=1)
    separated, same = beyond != beyond[x], classes == classes[x]
    least = CoverProblem(separated, same).least_exceptions
    return CoverProblem(separated, same, least + spare)


def scattered_cover(n_boundaries: int, seed: int, *, n_images: int = N_IMAGES) -> CoverProblem:
    """Points, planes and classes without any structure: harder than what networks give."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(n_images, N_DIMENSIONS))
    normals = rng.normal(size=(n_boundaries, N_DIMENSIONS))
    beyond = images @ normals.T > rng.normal(size=n_boundaries)
    return CoverProblem(beyond != beyond[0], rng.random(n_images) < 0.5)


def _boundaries(points, centres, class_of, rng):
    """Normals, and a point on each plane, of the class boundaries next to some points."""
    distances = _distances(points, centres)
    of_class = np.array([distances[:, class_of == c].min(axis=1) for c in np.unique(class_of)]).T
    first, second = np.argsort(of_class, axis=1)[:, :2].T
    ends = [
        centres[np.where(class_of == c[:, None], distances, np.inf).argmin(axis=1)]
        for c in (first, second)
    ]
    normals = ends[0] - ends[1]
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    from_plane = ((points - (ends[0] + ends[1]) / 2) * normals).sum(axis=1, keepdims=True)
    feet = points - from_plane * normals / lengths**2
    tilt = TILT * lengths / np.sqrt(N_DIMENSIONS) * rng.normal(size=normals.shape)
    return normals + tilt, feet


def _distances(points, centres):
    return ((points[:, None, :] - centres) ** 2).sum(axis=2)
