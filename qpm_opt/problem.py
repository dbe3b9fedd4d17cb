"""The problem, an assignment, and what can be said of the two together without any solver."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from qpm_opt.assignment import Assignment, equal_classes, restore
from qpm_opt.errors import InvalidProblemError, InvalidSolutionError
from qpm_opt.files import replace_on_success
from qpm_opt.pairs import check_least_pairs, check_pairs, contrastive_pairs_of
from qpm_opt.problem_file import read_problem
from qpm_opt.validation import (
    SMALLEST_SCALE,
    BoolArray,
    FloatArray,
    IntArray,
    as_count,
    as_flag,
    as_float,
    as_known_value,
    as_pairs,
    check_symmetric,
)


class ObjectiveParts(NamedTuple):
    """The three terms of the objective; their sum is the objective.

    ``assignment`` is Z_A, ``similarity`` is Z_R (a penalty counts as negative), ``bias`` is Z_B.
    """

    assignment: float
    similarity: float
    bias: float

    @property
    def total(self) -> float:
        """The objective, summed without rounding in between."""
        return math.fsum(self)


class Violation(NamedTuple):
    """One broken constraint: its name and a sentence with the figures."""

    name: str
    message: str


@dataclass(frozen=True, eq=False, repr=False)
class Problem:
    """The binary quadratic program of feature selection and assignment (QPM, section 3.1).

    Maximise ``sum_cd A_cd W_cd - sum_{d<e} R_de s_d s_e + sum_d b_d s_d`` where ``n_selected``
    features are selected, every class is assigned exactly ``n_per_class`` selected features, and no
    two classes get the same ones. Each unordered pair is penalised **once**. The constants are at
    their final scale (see :func:`qpm_opt.constants.compute_constants`).

    Parameters
    ----------
    class_similarity : array of shape (n_classes, n_features)
        A, value of assigning a feature to a class. May have 0 rows (pure selection).
    feature_similarity : array of shape (n_features, n_features)
        R, symmetric with zero diagonal; entries may be negative outside QPM.
    feature_bias : array of shape (n_features,), optional
        b, value of selecting a feature; zeros by default.
    n_selected : int
        p, the number of features selected.
    n_per_class : int
        k, the number of features of every class; 0 if and only if there are no classes.
    distinct : bool
        Whether two classes may not have the same features.
    candidate : array of shape (n_features,), bool, optional
        Features that may be selected; all by default. A constant feature is none.
    min_classes_per_feature : int
        Every selected feature is assigned to at least so many classes.
    contrastive_pairs : array of shape (n_pairs, 2), int, optional
        Pairs of classes that share exactly ``n_per_class - 1`` features (CHiQPM).
    min_contrastive_pairs : int
        At least so many pairs of classes, whichever, share exactly ``n_per_class - 1`` features.
    name, source : str
        What the instance is called and where it comes from.
    best_known : float, optional
        Best objective known from elsewhere; ``proved`` says whether it is proved optimal.

    Raises
    ------
    InvalidProblemError
        One sentence for the first defect found.

    References
    ----------
    Norrenbrock et al., QPM: Discrete Optimization for Globally Interpretable Image Classification,
    ICLR 2025, eqs. 1 to 7. The paper's ``-s'Rs`` with a symmetric R is this problem with R doubled.
    """

    class_similarity: FloatArray
    feature_similarity: FloatArray
    feature_bias: FloatArray | None = None
    n_selected: int = field(kw_only=True)
    n_per_class: int = field(kw_only=True)
    distinct: bool = field(default=True, kw_only=True)
    candidate: BoolArray | None = field(default=None, kw_only=True)
    min_classes_per_feature: int = field(default=0, kw_only=True)
    contrastive_pairs: IntArray | None = field(default=None, kw_only=True)
    min_contrastive_pairs: int = field(default=0, kw_only=True)
    name: str = field(default="", kw_only=True)
    source: str = field(default="", kw_only=True)
    best_known: float | None = field(default=None, kw_only=True)
    proved: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        A = as_float(self.class_similarity, "class_similarity (A)", 2)
        n_classes, n_features = A.shape
        if n_features == 0:
            raise InvalidProblemError("The problem has no features; at least one is needed.")
        R = as_float(self.feature_similarity, "feature_similarity (R)", 2)
        if R.shape != (n_features, n_features):
            raise InvalidProblemError(
                f"feature_similarity (R) has shape {R.shape}, but class_similarity (A) has "
                f"{n_features} features, so ({n_features}, {n_features}) was expected."
            )
        check_symmetric(R)
        bias = np.zeros(n_features) if self.feature_bias is None else self.feature_bias
        b = as_float(bias, "feature_bias (b)", 1)
        if b.shape != (n_features,):
            raise InvalidProblemError(
                f"feature_bias (b) has shape {b.shape}; ({n_features},) was expected."
            )
        candidate = np.ones(n_features, bool) if self.candidate is None else self.candidate
        candidate = np.array(candidate)
        if candidate.shape != (n_features,) or candidate.dtype != bool:
            raise InvalidProblemError(
                f"candidate is {candidate.dtype} of shape {candidate.shape}; "
                f"bool of shape ({n_features},) was expected."
            )
        pairs = np.empty((0, 2)) if self.contrastive_pairs is None else self.contrastive_pairs
        set_field = object.__setattr__  # the dataclass is frozen
        for name, array in (
            ("class_similarity", A),
            ("feature_similarity", R),
            ("feature_bias", b),
            ("candidate", candidate),
            ("contrastive_pairs", as_pairs(pairs, n_classes)),
        ):
            array.setflags(write=False)
            set_field(self, name, array)
        if self.scale < SMALLEST_SCALE:
            raise InvalidProblemError(
                f"The largest magnitude in A, R and b is {self.scale:g}; {SMALLEST_SCALE:g} or "
                "more (or zeros everywhere) was expected: multiply all three."
            )
        for name in (
            "n_selected", "n_per_class", "min_classes_per_feature", "min_contrastive_pairs",
        ):  # fmt: skip
            set_field(self, name, as_count(getattr(self, name), name))
        for name in ("name", "source"):
            if not isinstance(getattr(self, name), str):
                raise InvalidProblemError(f"{name} is {getattr(self, name)!r}; text was expected.")
        for name in ("distinct", "proved"):
            set_field(self, name, as_flag(getattr(self, name), name))
        if self.best_known is not None:
            set_field(self, "best_known", as_known_value(self.best_known, "best_known"))
        self._check_counts()

    def _check_counts(self) -> None:
        p, k, n_candidates = self.n_selected, self.n_per_class, int(self.candidates.sum())
        if p < 1:
            raise InvalidProblemError("n_selected is 0; select at least one feature.")
        if p > n_candidates:
            what = "features" if n_candidates == self.n_features else "candidate features"
            raise InvalidProblemError(
                f"n_selected is {p}, but there are only {n_candidates} {what}; lower n_selected."
            )
        if self.n_classes == 0:
            if k != 0:
                raise InvalidProblemError(
                    f"n_per_class is {k}, but the problem has no classes; give n_per_class=0."
                )
        elif not 1 <= k <= p:
            raise InvalidProblemError(
                f"n_per_class is {k}; it must lie between 1 and n_selected = {p}."
            )
        if self.distinct and self.n_classes > math.comb(p, k) and self.n_classes > 1:
            raise InvalidProblemError(
                f"{self.n_classes} classes cannot all differ: there are only {math.comb(p, k)} "
                f"sets of {k} out of {p} features; raise n_selected or give distinct=False."
            )
        m = self.min_classes_per_feature
        if m > self.n_classes or m * p > k * self.n_classes:
            raise InvalidProblemError(
                f"min_classes_per_feature is {m}: {p} features would need {m * p} assignments to "
                f"different classes, but {self.n_classes} classes of {k} give {k * self.n_classes}."
            )
        check_pairs(self.pairs, p, k, distinct=self.distinct, n_classes=self.n_classes)
        check_least_pairs(self.min_contrastive_pairs, self.n_classes, p, k)

    def __setstate__(self, state: dict[str, Any]) -> None:
        restore(self, state)

    def __repr__(self) -> str:
        return (
            f"<Problem {self.name!r}: {self.n_classes} classes, {self.n_features} features, "
            f"n_selected={self.n_selected}, n_per_class={self.n_per_class}>"
        )

    # The optional constructor arguments are arrays from here on; these say so to the type checker.
    @property
    def bias(self) -> FloatArray:
        """b of shape (n_features,)."""
        assert self.feature_bias is not None
        return self.feature_bias

    @property
    def candidates(self) -> BoolArray:
        """Features that may be selected, bool of shape (n_features,)."""
        assert self.candidate is not None
        return self.candidate

    @property
    def pairs(self) -> IntArray:
        """Contrastive pairs, int of shape (n_pairs, 2)."""
        assert self.contrastive_pairs is not None
        return self.contrastive_pairs

    @property
    def has_side_constraints(self) -> bool:
        """Whether more is demanded of the classes than their sizes and that they differ."""
        return bool(self.min_classes_per_feature or len(self.pairs) or self.min_contrastive_pairs)

    def without_side_constraints(self) -> Problem:
        """The same problem with nothing demanded but sizes, and that classes differ."""
        return replace(
            self, min_classes_per_feature=0, contrastive_pairs=None, min_contrastive_pairs=0
        )

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return int(self.class_similarity.shape[0])

    @property
    def n_features(self) -> int:
        """Number of features to choose from."""
        return int(self.class_similarity.shape[1])

    @cached_property
    def similar_pairs(self) -> tuple[IntArray, IntArray, FloatArray]:
        """Row, column (row < column) and value of every non-zero entry of R's upper triangle."""
        row, col = np.nonzero(np.triu(self.feature_similarity, 1))
        return row, col, self.feature_similarity[row, col]

    @cached_property
    def scale(self) -> float:
        """Largest magnitude in A, R and b; 1.0 if all are zero. Absolute tolerances scale with it.

        An objective may cancel to nearly nothing; rounding is then relative to its terms.
        """
        arrays = (self.class_similarity, self.feature_similarity, self.bias)
        return max(float(np.abs(array).max(initial=0.0)) for array in arrays) or 1.0

    @cached_property
    def sha256(self) -> str:
        """Hash of everything that defines the problem; names and known values do not enter."""
        row, col, value = self.similar_pairs
        digest = hashlib.sha256(b"qpm-problem/1")
        counts = (self.n_classes, self.n_features, self.n_selected, self.n_per_class)
        flags: tuple[int, ...] = (self.distinct, self.min_classes_per_feature)
        if self.min_contrastive_pairs:  # problems without keep the hash they always had
            flags = (*flags, self.min_contrastive_pairs)
        digest.update(repr((counts, flags)).encode())
        arrays = (self.class_similarity, row, col, value, self.bias, self.candidates, self.pairs)
        for array in arrays:
            # + 0.0 turns a negative zero into a zero: equal problems have equal hashes.
            canonical = array + 0.0 if array.dtype == np.float64 else array.astype("<i8")
            digest.update(np.ascontiguousarray(canonical).tobytes())
        return digest.hexdigest()

    @classmethod
    def from_features(cls, features: ArrayLike, labels: ArrayLike, **options: Any) -> Problem:
        """Problem from the pooled features of labelled images.

        A short cut for :func:`qpm_opt.constants.problem_from_features`, which documents the
        arguments.
        """
        from qpm_opt.constants import problem_from_features

        return problem_from_features(features, labels, **options)

    def objective_parts(self, assignment: Assignment) -> ObjectiveParts:
        """Z_A, Z_R and Z_B of an assignment in float64, each summed without rounding in between.

        Raises
        ------
        InvalidSolutionError
            If the assignment has other shapes than the problem.
        """
        self._check_shapes(assignment)
        chosen = assignment.selected
        similarity = self.feature_similarity[np.ix_(chosen, chosen)]
        return ObjectiveParts(
            assignment=math.fsum(self.class_similarity[assignment.matrix]),
            similarity=0.0 - math.fsum(similarity[np.triu_indices(chosen.size, 1)]),
            bias=math.fsum(self.bias[chosen]),
        )

    def objective(self, assignment: Assignment) -> float:
        """Objective Z of an assignment in float64, whether feasible or not."""
        return self.objective_parts(assignment).total

    def violations(self, assignment: Assignment) -> tuple[Violation, ...]:
        """Constraints that an assignment breaks; empty if it is feasible."""
        self._check_shapes(assignment)
        s, W = assignment.selection, assignment.matrix
        found: list[Violation] = []

        def report(name: str, message: str) -> None:
            found.append(Violation(name, message))

        if s.sum() != self.n_selected:
            report("selection_size", f"{s.sum()} features selected, {self.n_selected} demanded.")
        forbidden = np.flatnonzero(s & ~self.candidates)
        if forbidden.size:
            report("candidate", f"feature {forbidden[0]} is selected but is not a candidate.")
        sizes = W.sum(axis=1)
        for c in np.flatnonzero(sizes != self.n_per_class):
            report("class_size", f"class {c} has {sizes[c]} features, not {self.n_per_class}.")
        for c, d in np.argwhere(W & ~s):
            report("unselected", f"class {c} has feature {d}, which is not selected.")
        if self.distinct:
            for group in equal_classes(W):
                classes = ", ".join(map(str, group))
                report("distinct", f"classes {classes} have the same features.")
        if self.min_classes_per_feature:
            uses = W.sum(axis=0)
            for d in np.flatnonzero(s & (uses < self.min_classes_per_feature)):
                report(
                    "feature_use",
                    f"feature {d} is assigned to {uses[d]} classes, "
                    f"at least {self.min_classes_per_feature} demanded.",
                )
        for c, e in self.pairs:
            shared = int((W[c] & W[e]).sum())
            if shared != self.n_per_class - 1:
                report(
                    "contrastive_pair",
                    f"classes {c} and {e} share {shared} features, not {self.n_per_class - 1}.",
                )
        if self.min_contrastive_pairs:
            n_pairs = len(contrastive_pairs_of(W))
            if n_pairs < self.min_contrastive_pairs:
                report(
                    "min_contrastive_pairs",
                    f"{n_pairs} pairs of classes share {self.n_per_class - 1} features, "
                    f"at least {self.min_contrastive_pairs} demanded.",
                )
        return tuple(found)

    def unused_features(self, assignment: Assignment) -> IntArray:
        """Selected features that no class uses: legal, but worth a word to the user."""
        self._check_shapes(assignment)
        return np.flatnonzero(assignment.selection & ~assignment.matrix.any(axis=0))

    def _check_shapes(self, assignment: Assignment) -> None:
        expected = (self.n_classes, self.n_features)
        if assignment.matrix.shape != expected:
            raise InvalidSolutionError(
                f"The assignment is for (classes, features) = {assignment.matrix.shape}, "
                f"the problem has {expected}."
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the problem to an ``.npz`` file (no pickles), atomically.

        R is written as its upper triangle: ``R_row``, ``R_col``, ``R_val`` with row < column.
        """
        row, col, value = self.similar_pairs
        arrays: dict[str, Any] = {
            "A": self.class_similarity,
            "R_row": row.astype(np.int32),
            "R_col": col.astype(np.int32),
            "R_val": value,
            "b": self.bias,
            "n_selected": self.n_selected,
            "n_per_class": self.n_per_class,
            "distinct": self.distinct,
            "name": self.name,
            "source": self.source,
            "best_known": math.nan if self.best_known is None else self.best_known,
            "proved": self.proved,
        }
        if not self.candidates.all():
            arrays["candidate"] = self.candidates
        if self.min_classes_per_feature:
            arrays["min_classes_per_feature"] = self.min_classes_per_feature
        if len(self.pairs):
            arrays["contrastive_pairs"] = self.pairs
        if self.min_contrastive_pairs:
            arrays["min_contrastive_pairs"] = self.min_contrastive_pairs
        with replace_on_success(path) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Problem:
        """Problem from an ``.npz`` file.

        Accepts R dense, R as its upper triangle, and ``R_is_zero``.

        Raises
        ------
        InvalidProblemError
            If the file is missing, is no ``.npz``, lacks an array or holds an invalid problem.
        """
        return cls(**read_problem(path))
