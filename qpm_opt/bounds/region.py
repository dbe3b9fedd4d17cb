"""A part of the search space: features decided in or out, the rest free."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qpm_opt.problem import Problem
from qpm_opt.validation import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Region:
    """All selections that hold every feature of ``ones`` and, beside them, only ``free`` features.

    On the region the objective is, with s the indicator of the free features selected,

        constant + sum_c theta_c(s) + linear @ s - s @ similarity @ s / 2,    sum(s) = n_left,

    where theta_c(s) is the sum of the ``n_per_class`` largest similarities of class c over ``ones``
    and s. Distinctness and side constraints are left out.

    Attributes
    ----------
    ones, free : ndarray of int
        Feature indices, ascending and disjoint.
    """

    problem: Problem
    ones: IntArray
    free: IntArray

    @classmethod
    def whole(cls, problem: Problem) -> Region:
        """Every selection of candidates."""
        return cls(problem, np.zeros(0, dtype=np.intp), np.flatnonzero(problem.candidates))

    @property
    def n_left(self) -> int:
        """Free features to be selected."""
        return self.problem.n_selected - len(self.ones)

    @property
    def is_empty(self) -> bool:
        """Whether no selection is left."""
        return not 0 <= self.n_left <= len(self.free)

    @property
    def single(self) -> IntArray | None:
        """The only selection of the region, if there is exactly one."""
        if self.n_left == 0:
            return self.ones
        if self.n_left == len(self.free):
            return np.union1d(self.ones, self.free)
        return None

    @property
    def n_selections(self) -> int:
        """Number of selections of the region."""
        return 0 if self.is_empty else math.comb(len(self.free), self.n_left)

    def with_feature(self, feature: int, selected: bool) -> Region:
        """The part in which a free feature is (or is not) selected."""
        free = self.free[self.free != feature]
        if not selected:
            return Region(self.problem, self.ones, free)
        return Region(self.problem, np.union1d(self.ones, [feature]), free)

    def fixed(self, zeros: IntArray, ones: IntArray) -> Region:
        """The part without the features ``zeros`` and with all of ``ones``."""
        free = np.setdiff1d(self.free, np.union1d(zeros, ones), assume_unique=True)
        return Region(self.problem, np.union1d(self.ones, ones).astype(np.intp), free)

    @cached_property
    def values(self) -> FloatArray:
        """Class similarities of the free features, (n_classes, n_free)."""
        return np.ascontiguousarray(self.problem.class_similarity[:, self.free])

    @cached_property
    def fixed_values(self) -> FloatArray:
        """Class similarities of the features decided in, (n_classes, n_ones)."""
        return np.ascontiguousarray(self.problem.class_similarity[:, self.ones])

    @cached_property
    def similarity(self) -> FloatArray:
        """Similarities among the free features, (n_free, n_free)."""
        R: FloatArray = self.problem.feature_similarity[np.ix_(self.free, self.free)]
        return R

    @cached_property
    def linear(self) -> FloatArray:
        """Bias of each free feature less its similarity to those decided in, (n_free,)."""
        R = self.problem.feature_similarity[np.ix_(self.free, self.ones)]
        reduced: FloatArray = self.problem.bias[self.free] - R.sum(axis=1)
        return reduced

    @cached_property
    def constant(self) -> float:
        """Bias of the features decided in less their similarities among each other."""
        R = self.problem.feature_similarity[np.ix_(self.ones, self.ones)]
        return float(self.problem.bias[self.ones].sum()) - float(R.sum()) / 2
