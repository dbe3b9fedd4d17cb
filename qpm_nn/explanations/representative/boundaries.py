"""Linear boundaries of a network: hyperplanes among feature maps, and on which side images are.

References
----------
Lam et al., Finding representative interpretations on convolutional neural networks, ICCV 2021,
section 4.1, eq. 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qpm_nn.explanations.representative.images import BATCH_SIZE, MappedImages
from qpm_nn.explanations.representative.split import NetworkSplit
from qpm_opt import InvalidInputError
from qpm_opt.errors import unknown_name

#: How boundaries are sampled: where reference images are, or where a segment to one is cut.
SAMPLINGS = ("reference", "segment")
#: Bisections of a segment; each halves what is left of it.
MAX_STEPS = 60
#: A point is on a boundary if its two largest scores differ by this part of the difference at x.
ON_BOUNDARY = 1e-6
#: Values smaller than this part of their terms are rounding errors: the image is on the boundary.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Boundaries:
    """Hyperplanes <W, t> + b = 0 among feature maps t.

    Attributes
    ----------
    normals : Tensor of shape (n_boundaries, n_channels, h, w), float64
        W, not normalised.
    offsets : Tensor of shape (n_boundaries,), float64
        b.
    pairs : array of shape (n_boundaries, 2), int
        The two classes with the largest scores, the first one where the value is positive.
    sources : array of shape (n_boundaries,), int
        The reference images that they come from.
    """

    normals: Tensor
    offsets: Tensor
    pairs: NDArray[np.intp]
    sources: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, chosen: Sequence[int] | NDArray[Any]) -> Boundaries:
        index = np.asarray(chosen, np.intp)
        where = torch.from_numpy(index).to(self.normals.device)
        return Boundaries(
            self.normals[where], self.offsets[where], self.pairs[index], self.sources[index]
        )

    def values(self, maps: Tensor) -> NDArray[np.float64]:
        """<W, t> + b of feature maps, (n_images, n_boundaries), in float64.

        What is not larger than its own rounding error is 0.
        """
        points = maps.double().flatten(1)
        normals = self.normals.flatten(1)
        values = points @ normals.T + self.offsets
        # No less than <W, t>, and where that and b cancel, than b.
        terms = points.norm(dim=1)[:, None] * normals.norm(dim=1)
        values[values.abs() <= ROUNDING * terms] = 0
        return values.cpu().numpy()

    def values_of(self, images: MappedImages) -> NDArray[np.float64]:
        """The same of many images, in batches."""
        return np.concatenate([self.values(maps) for maps in images.batches()])

    def facing(self, maps: Tensor) -> Boundaries:
        """The same hyperplanes with the feature maps (1, n_channels, h, w) on no negative side."""
        flip = self.values(maps)[0] < 0
        sign = torch.from_numpy(np.where(flip, -1.0, 1.0)).to(self.normals.device)
        return replace(
            self,
            normals=self.normals * sign[:, None, None, None],
            offsets=self.offsets * sign,
            pairs=np.where(flip[:, None], self.pairs[:, ::-1], self.pairs),
        )


@dataclass(frozen=True)
class SegmentReport:
    """How the search on segments went.

    Attributes
    ----------
    n_asked, n_found : int
        Segments, and those on which a boundary was reached.
    n_failed : int
        Segments left out, because the cap on the steps ended the search.
    n_steps : int
        Bisections until the last segment was done.
    """

    n_asked: int
    n_found: int
    n_failed: int
    n_steps: int


def boundaries_at(
    split: NetworkSplit, points: Tensor, sources: Sequence[int] | NDArray[np.intp] | None = None
) -> Boundaries:
    """The boundary of the linear piece around each point (eq. 2).

    W is the gradient, b the rest, of the difference of the two largest scores. It is the boundary
    between those two classes as it would go on if the piece did not end; whether it is crossed
    within the piece is another question.

    Parameters
    ----------
    split : NetworkSplit
    points : Tensor of shape (n_points, n_channels, h, w)
        Feature maps.
    sources : sequence of int, optional
        See :class:`Boundaries`; 0, 1, ... by default.
    """
    normals, offsets, pairs = [], [], []
    for part in points.double().split(BATCH_SIZE):
        part = part.detach().requires_grad_()
        scores = split.scores(part)
        # Stable, so that of equal scores the first class leads, as in a prediction.
        first, second = scores.sort(stable=True, dim=1, descending=True).indices[:, :2].T
        rows = torch.arange(len(part), device=part.device)
        margin = scores[rows, first] - scores[rows, second]
        (gradient,) = torch.autograd.grad(margin.sum(), part)
        normals.append(gradient)
        offsets.append((margin - (gradient * part).flatten(1).sum(1)).detach())
        pairs.append(torch.stack([first, second], 1).cpu().numpy())
    n_points = len(points)
    return Boundaries(
        torch.cat(normals) if n_points else points.double(),
        torch.cat(offsets) if n_points else points.new_zeros(0, dtype=torch.float64),
        np.concatenate(pairs) if n_points else np.zeros((0, 2), np.intp),
        np.arange(n_points) if sources is None else np.asarray(sources, np.intp),
    )


def sample_at_references(
    references: MappedImages, n_boundaries: int, rng: np.random.Generator
) -> Boundaries:
    """Boundaries at randomly drawn reference images, as the paper has them.

    At most one for each image; the same for all images to be explained.
    """
    _check_count(n_boundaries)
    n = min(n_boundaries, len(references))
    drawn = np.sort(rng.choice(len(references), n, replace=False))
    return boundaries_at(references.split, references.maps(drawn), drawn)


def sample_on_segments(
    references: MappedImages,
    point: Tensor,
    n_boundaries: int,
    rng: np.random.Generator,
    max_steps: int = MAX_STEPS,
) -> tuple[Boundaries, SegmentReport]:
    """Boundaries around one image, on the ways to randomly drawn images of other classes.

    The segment from psi(x) to psi of the rival is bisected until the two largest scores agree: that
    is a point of the true decision boundary. The authors' code steps back and forth by tenths of
    the segment instead, without a cap on the steps; bisection needs as many steps as there are
    digits, for all segments at once. If a segment crosses boundaries of the class more than once,
    one of the crossings is found, not necessarily the first.

    Parameters
    ----------
    references : MappedImages
    point : Tensor of shape (1, n_channels, h, w)
        psi(x).
    n_boundaries : int
        At most one for each image of another class.
    rng : numpy.random.Generator
    max_steps : int

    Raises
    ------
    InvalidInputError
        If a number is not positive, or all reference images have the class of x.
    """
    _check_count(n_boundaries)
    if max_steps < 1:
        raise InvalidInputError(f"max_steps is {max_steps}; a positive number was expected.")
    split = references.split
    start = point.double()
    with torch.no_grad():
        own = split.scores(start)
    c = int(own.argmax(1))
    rivals = np.flatnonzero(references.predicted != c)
    if not rivals.size:
        raise one_class(c)
    n_asked = min(n_boundaries, len(rivals))
    drawn = np.sort(rng.choice(rivals, n_asked, replace=False))
    direction = references.maps(drawn).double() - start
    best = own.topk(2, 1).values[0]
    tolerance = ON_BOUNDARY * float(best[0] - best[1])
    low = torch.zeros(n_asked, dtype=torch.float64, device=start.device)
    high = torch.ones_like(low)
    is_done = torch.zeros(n_asked, dtype=torch.bool, device=start.device)
    n_steps = 0
    while n_steps < max_steps and not is_done.all():
        n_steps += 1
        open_ = torch.nonzero(~is_done).flatten()
        middle = (low[open_] + high[open_]) / 2
        with torch.no_grad():
            scores = split.scores(start + middle[:, None, None, None] * direction[open_])
        is_own = scores.argmax(1) == c
        low[open_] = torch.where(is_own, middle, low[open_])
        high[open_] = torch.where(is_own, high[open_], middle)
        largest = scores.topk(2, 1).values
        is_done[open_] = is_own & (largest[:, 0] - largest[:, 1] <= tolerance)
    kept = torch.nonzero(is_done).flatten()
    points = start + low[kept][:, None, None, None] * direction[kept]
    found = boundaries_at(split, points, drawn[kept.cpu().numpy()])
    return found, SegmentReport(n_asked, len(found), n_asked - len(found), n_steps)


def check_sampling(sampling: str) -> None:
    """Raise InvalidInputError unless there is such a sampling."""
    if sampling not in SAMPLINGS:
        raise unknown_name("sampling", sampling, SAMPLINGS)


def one_class(c: int) -> InvalidInputError:
    """What to raise if no reference image is of another class than c."""
    return InvalidInputError(
        f"The network predicts class {c} for all reference images, so nothing tells it from "
        "others; add images of other classes."
    )


def _check_count(n_boundaries: int) -> None:
    if n_boundaries < 1:
        raise InvalidInputError(f"n_boundaries is {n_boundaries}; a positive number was expected.")
