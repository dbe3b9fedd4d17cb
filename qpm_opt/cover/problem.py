"""The cover problem: which boundaries separate which image from the input."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from qpm_opt.errors import InvalidProblemError
from qpm_opt.files import COVER, read_arrays, replace_on_success
from qpm_opt.validation import BoolArray, IntArray, as_bool, as_count, as_flag

#: Name of the format of a file.
FORMAT = "qpm-cover/1"


class SeparatorSets(NamedTuple):
    """Different sets of boundaries that separate an image from the input, and how many have it.

    Attributes
    ----------
    members : ndarray of shape (n_sets, n_boundaries), bool
        In lexicographic order; none is empty.
    counts : ndarray of shape (n_sets,)
        Images with that set.
    """

    members: BoolArray
    counts: IntArray


@dataclass(frozen=True, eq=False)
class CoverProblem:
    """Largest region around an input that holds few images of other classes.

    A region is the set of points on the input's side of every chosen boundary; an image is covered
    if no chosen boundary separates it from the input. The problem is eq. 3 of Lam et al. (ICCV
    2021), a submodular-cost submodular cover: with A_h the images that boundary h separates,

        maximise   images of the input's class outside of the union of the chosen A_h
        subject to at most ``n_exceptions`` images of other classes outside of it.

    Parameters
    ----------
    separated : array_like of shape (n_images, n_boundaries), bool
        Whether the boundary separates the image from the input.
    same : array_like of shape (n_images,), bool
        Whether the image is predicted as the input's class.
    n_exceptions : int, optional
        delta, the number of images of other classes that the region may hold. The default is tau,
        the number that no boundary can exclude (:attr:`least_exceptions`); with fewer the problem
        is infeasible.
    count_exceptions : bool
        Whether covered images of other classes count in the objective, as eq. 3a literally says.
        With ``n_exceptions`` at tau this adds a constant.

    Raises
    ------
    InvalidProblemError
        If the arrays are not boolean, do not fit together, or a number is no count.
    """

    separated: BoolArray
    same: BoolArray
    n_exceptions: int
    count_exceptions: bool

    def __init__(
        self,
        separated: ArrayLike,
        same: ArrayLike,
        n_exceptions: int | None = None,
        *,
        count_exceptions: bool = False,
    ) -> None:
        matrix = as_bool(separated, "separated", InvalidProblemError)
        classes = as_bool(same, "same", InvalidProblemError)
        if matrix.ndim != 2:
            raise InvalidProblemError(
                f"separated has shape {matrix.shape}; (n_images, n_boundaries) was expected."
            )
        if classes.shape != matrix.shape[:1]:
            raise InvalidProblemError(
                f"same has shape {classes.shape}, but separated has {len(matrix)} rows; one entry "
                "for every image was expected."
            )
        object.__setattr__(self, "separated", matrix)
        object.__setattr__(self, "same", classes)
        delta = self.least_exceptions
        if n_exceptions is not None:
            delta = as_count(n_exceptions, "n_exceptions")
        object.__setattr__(self, "n_exceptions", delta)
        object.__setattr__(self, "count_exceptions", as_flag(count_exceptions, "count_exceptions"))

    @property
    def n_images(self) -> int:
        """Number of reference images."""
        return int(self.separated.shape[0])

    @property
    def n_boundaries(self) -> int:
        """Number of boundaries to choose from."""
        return int(self.separated.shape[1])

    @cached_property
    def least_exceptions(self) -> int:
        """tau: images of other classes that no boundary separates from the input."""
        return int(np.count_nonzero(~self.separated.any(axis=1) & ~self.same))

    @property
    def spare(self) -> int:
        """delta - tau: images of other classes that need not be excluded although they can be."""
        return self.n_exceptions - self.least_exceptions

    @property
    def is_feasible(self) -> bool:
        """Whether delta >= tau; then choosing all boundaries is feasible."""
        return self.spare >= 0

    @property
    def infeasibility(self) -> str:
        """The sentence that says why the problem is infeasible; empty if it is not."""
        if self.is_feasible:
            return ""
        return (
            f"At most {self.n_exceptions} images of other classes may stay, but "
            f"{self.least_exceptions} are on the input's side of every boundary; allow as many, "
            "or give more boundaries."
        )

    @cached_property
    def counted(self) -> BoolArray:
        """Images that count in the objective, of shape (n_images,)."""
        return np.ones(self.n_images, dtype=bool) if self.count_exceptions else self.same

    @cached_property
    def same_sets(self) -> SeparatorSets:
        """Separator sets of the images of the input's class."""
        return separator_sets(self.separated[self.same])

    @cached_property
    def other_sets(self) -> SeparatorSets:
        """Separator sets of the images of other classes."""
        return separator_sets(self.separated[~self.same])

    def covered(self, boundaries: Iterable[int]) -> BoolArray:
        """Images in the region of these boundaries, of shape (n_images,).

        Raises
        ------
        InvalidProblemError
            If there is no such boundary.
        """
        chosen = np.array(list(boundaries), dtype=np.intp)
        if chosen.size and not 0 <= chosen.min() <= chosen.max() < self.n_boundaries:
            raise InvalidProblemError(
                f"boundaries are {chosen.tolist()}; expected indices from 0 to "
                f"{self.n_boundaries - 1}."
            )
        return np.logical_not(self.separated[:, chosen].any(axis=1))

    def counts(self, boundaries: Iterable[int]) -> tuple[int, int]:
        """Covered images of the input's class, and of other classes."""
        covered = self.covered(boundaries)
        return int(np.count_nonzero(covered & self.same)), int(
            np.count_nonzero(covered & ~self.same)
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the problem to an ``.npz`` file (no pickles), atomically."""
        with replace_on_success(path) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(
                stream,
                format=FORMAT,
                separated=self.separated,
                same=self.same,
                n_exceptions=self.n_exceptions,
                count_exceptions=self.count_exceptions,
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CoverProblem:
        """Problem from an ``.npz`` file that :meth:`save` wrote.

        Raises
        ------
        InvalidProblemError
            If the file is missing, is no such file, is of another version or holds an invalid
            problem.
        """
        arrays = read_arrays(path, COVER)
        version = arrays["format"].tolist()
        if version != FORMAT:
            raise InvalidProblemError(
                f"{path} has the format {version!r}; {FORMAT!r} was expected: save the problem "
                "again with this version."
            )
        try:
            return cls(
                arrays["separated"],
                arrays["same"],
                arrays["n_exceptions"].tolist(),
                count_exceptions=arrays["count_exceptions"].tolist(),
            )
        except InvalidProblemError as failure:
            raise InvalidProblemError(f"{path}: {failure}") from None


def separator_sets(separated: BoolArray) -> SeparatorSets:
    """Different nonempty rows of a boolean matrix with their numbers, lexicographically."""
    rows = separated[separated.any(axis=1)]
    if not rows.size:
        return SeparatorSets(
            np.empty((0, separated.shape[1]), dtype=bool), np.empty(0, dtype=np.intp)
        )
    packed = np.packbits(rows, axis=1)
    # One opaque item a row: NumPy sorts these far faster than rows.
    items = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1])))[:, 0]
    _, first, counts = np.unique(items, return_index=True, return_counts=True)
    return SeparatorSets(rows[first], counts)
