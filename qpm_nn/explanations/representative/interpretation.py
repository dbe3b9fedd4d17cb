"""A representative interpretation: few boundaries around an image, shared by many like it.

References
----------
Lam et al., Finding representative interpretations on convolutional neural networks, ICCV 2021.
Choosing the boundaries to proven optimality is the maximum pattern around a point of Bonates,
Hammer, Kogan, Maximum patterns in datasets, Discrete Applied Mathematics 156 (2008).
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qpm_nn.explanations.representative.boundaries import (
    Boundaries,
    SegmentReport,
    boundaries_at,
    check_sampling,
    one_class,
    sample_at_references,
    sample_on_segments,
)
from qpm_nn.explanations.representative.channels import channel_map
from qpm_nn.explanations.representative.images import BATCH_SIZE, MappedImages
from qpm_nn.explanations.representative.split import NetworkSplit
from qpm_nn.metrics.checks import check_finite
from qpm_opt import InvalidInputError
from qpm_opt.cover import CoverProblem, CoverResult, solve_cover

#: Boundaries to choose from, as in all experiments of the paper.
N_BOUNDARIES = 50
TIME_LIMIT = 10.0


@dataclass(frozen=True, eq=False)
class Interpretation:
    """Region around an image, with what it says of other images.

    Attributes
    ----------
    c : int
        Predicted class of the image.
    split : NetworkSplit
    point : Tensor of shape (1, n_channels, h, w)
        psi(x).
    sampled : Boundaries
        All that there were to choose from.
    boundaries : Boundaries
        The chosen ones, psi(x) on their positive sides.
    cover : CoverResult
        How they were chosen: what they cover, the bound, statuses.
    covered : array of shape (n_references,), bool
        Reference images in the region.
    problem : CoverProblem
        What was solved.
    sampling : str
    segments : SegmentReport or None
        With ``sampling="segment"``.
    shown : Boundaries
        Those that make heat maps and distances: the chosen ones, or if there are none, as nothing
        can be ruled out, that of x's own linear piece.
    seconds : float
        For choosing.
    """

    c: int
    split: NetworkSplit
    point: Tensor
    sampled: Boundaries
    boundaries: Boundaries
    cover: CoverResult
    covered: NDArray[np.bool_]
    problem: CoverProblem
    sampling: str
    segments: SegmentReport | None
    shown: Boundaries
    seconds: float

    @property
    def channel_weights(self) -> Tensor:
        """Spatial means of W of each shown boundary, (n_shown, n_channels): alpha of eq. 5."""
        return self.shown.normals.mean((2, 3))

    def chosen_anew(self, method: str, time_limit: float = TIME_LIMIT) -> Interpretation:
        """Another choice of the same boundaries; see :func:`interpret`."""
        return _chosen(
            self.c,
            self.split,
            self.point,
            self.sampled,
            self.problem,
            self.sampling,
            self.segments,
            method,
            time_limit,
        )

    def contains(self, maps: Tensor) -> NDArray[np.bool_]:
        """Whether feature maps (n_images, n_channels, h, w) are in the region.

        What lies on a boundary is on both sides of it.
        """
        self._check(maps)
        return ~separated(self.boundaries, maps, self.point).any(axis=1)

    def distances(self, maps: Tensor) -> NDArray[np.float64]:
        """Semantic distances of images to x, (n_images,): eq. 6, with W not normalised.

        Of images in the region or not; the paper ranks those in it.
        """
        self._check(maps)
        apart = self.shown.values(maps) - self.shown.values(self.point)
        return np.abs(apart).sum(axis=1)

    def heat_maps(self, maps: Tensor, size: tuple[int, int]) -> NDArray[np.float64]:
        """Heat maps (n_images, *size) in [0, 1]: the mean of those of all boundaries.

        The channel weights are those at x for all images; each boundary's map is normalised before
        the mean is taken.
        """
        self._check(maps)
        each = [channel_map(weights, maps, size) for weights in self.channel_weights]
        return np.mean(each, axis=0)

    def nearest(self, references: MappedImages, n: int) -> tuple[list[int], list[float]]:
        """The most similar covered reference images, and their distances, in ascending order."""
        members = np.flatnonzero(self.covered)
        distances = np.concatenate(
            [self.distances(references.maps(part)) for part in _parts(members)] or [np.zeros(0)]
        )
        order = np.argsort(distances, kind="stable")[:n]
        return members[order].tolist(), distances[order].tolist()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        cover, gap = self.cover, self.cover.relative_gap
        return {
            "class": self.c,
            "layer": self.split.layer,
            "sampling": self.sampling,
            "n_sampled": len(self.sampled),
            "segments": None if self.segments is None else asdict(self.segments),
            "boundaries": [
                {"index": int(h), "classes": pair.tolist(), "source": int(source)}
                for h, pair, source in zip(
                    cover.boundaries, self.boundaries.pairs, self.boundaries.sources, strict=True
                )
            ],
            "n_covered_same": cover.n_covered_same,
            "n_same": int(self.problem.same.sum()),
            "n_covered_other": cover.n_covered_other,
            "tau": self.problem.least_exceptions,
            "method": cover.method,
            "bound": cover.bound,
            # Infinite if nothing of the class is covered; JSON has no word for it.
            "relative_gap": gap if gap is None or np.isfinite(gap) else None,
            "has_fewest": cover.has_fewest,
            "termination_condition": str(cover.termination_condition),
            "solution_status": str(cover.solution_status),
            "seconds": self.seconds,
        }

    def _check(self, maps: Tensor) -> None:
        if maps.ndim != 4 or maps.shape[1:] != self.point.shape[1:]:
            raise InvalidInputError(
                f"maps has shape {tuple(maps.shape)}; (n_images, "
                f"{', '.join(map(str, self.point.shape[1:]))}) was expected."
            )
        check_finite("maps", maps)


def interpret(
    references: MappedImages,
    point: Tensor,
    *,
    sampling: str = "segment",
    n_boundaries: int = N_BOUNDARIES,
    method: str = "exact",
    time_limit: float = TIME_LIMIT,
    seed: int = 0,
    boundaries: Boundaries | None = None,
) -> Interpretation:
    """Representative interpretation of an image.

    Parameters
    ----------
    references : MappedImages
        Images to be represented, such as all training images.
    point : Tensor of shape (1, n_channels, h, w)
        psi(x): ``references.maps([i])``, or ``split.maps`` of a new image.
    sampling : {"segment", "reference"}
        Where boundaries are sampled (:func:`sample_on_segments`, :func:`sample_at_references`).
    n_boundaries : int
        How many; |Q|.
    method : {"exact", "greedy"}
        Of :func:`qpm_opt.cover.solve_cover`; ``greedy`` is the paper's algorithm.
    time_limit : float
        Seconds for choosing.
    seed : int
    boundaries : Boundaries, optional
        Sampled before, to be chosen from in the place of new ones.

    Raises
    ------
    InvalidInputError
        If an option is unknown, the point is of another shape or not finite, or all reference
        images have the class of x.
    """
    check_sampling(sampling)
    expected = references.maps([0]).shape
    if point.shape != expected:
        raise InvalidInputError(
            f"point has shape {tuple(point.shape)}; feature maps of shape {tuple(expected)} were "
            "expected."
        )
    check_finite("point", point)
    split = references.split
    with torch.no_grad():
        c = int(split.scores(point).argmax(1))
    if (references.predicted == c).all():
        raise one_class(c)
    segments = None
    if boundaries is None:
        rng = np.random.default_rng(seed)
        if sampling == "segment":
            boundaries, segments = sample_on_segments(references, point, n_boundaries, rng)
        else:
            boundaries = sample_at_references(references, n_boundaries, rng)
    facing = boundaries.facing(point)
    problem = cover_problem(facing, references, point, c)
    return _chosen(c, split, point, facing, problem, sampling, segments, method, time_limit)


def _chosen(
    c: int,
    split: NetworkSplit,
    point: Tensor,
    facing: Boundaries,
    problem: CoverProblem,
    sampling: str,
    segments: SegmentReport | None,
    method: str,
    time_limit: float,
) -> Interpretation:
    start = time.perf_counter()
    cover = solve_cover(problem, method=method, time_limit=time_limit)
    seconds = time.perf_counter() - start
    chosen = facing[list(cover.boundaries)]
    return Interpretation(
        c,
        split,
        point,
        facing,
        chosen,
        cover,
        problem.covered(cover.boundaries),
        problem,
        sampling,
        segments,
        chosen if len(chosen) else boundaries_at(split, point),
        seconds,
    )


def cover_problem(
    boundaries: Boundaries, references: MappedImages, point: Tensor, c: int
) -> CoverProblem:
    """The problem of choosing boundaries: which of them separate which reference image from x.

    Scaling (W, b) changes nothing, and x itself is always covered.
    """
    matrix = np.concatenate([separated(boundaries, maps, point) for maps in references.batches()])
    return CoverProblem(matrix, references.predicted == c)


def separated(boundaries: Boundaries, maps: Tensor, point: Tensor) -> NDArray[np.bool_]:
    """Whether images lie on the other side of a boundary than x, (n_images, n_boundaries).

    What lies on a boundary is on both sides of it.
    """
    own = np.sign(boundaries.values(point))
    return np.sign(boundaries.values(maps)) * own < 0


def _parts(indices: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    starts = range(0, len(indices), BATCH_SIZE)
    return [indices[start : start + BATCH_SIZE] for start in starts]
