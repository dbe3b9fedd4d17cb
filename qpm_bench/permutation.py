"""The same problem with its classes and features in another order, which no optimum depends on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qpm_opt import Assignment, Problem


@dataclass(frozen=True)
class Permutation:
    """An order of classes and of features.

    Attributes
    ----------
    classes : ndarray of int, shape (n_classes,)
        The class that comes at each place.
    features : ndarray of int, shape (n_features,)
    """

    classes: np.ndarray
    features: np.ndarray

    @classmethod
    def of(cls, problem: Problem, seed: int) -> Permutation:
        """That of a seed; 0 leaves everything where it is."""
        if not seed:
            return cls(np.arange(problem.n_classes), np.arange(problem.n_features))
        rng = np.random.default_rng(seed)
        return cls(rng.permutation(problem.n_classes), rng.permutation(problem.n_features))

    def problem(self, original: Problem) -> Problem:
        """The original with its classes and features in this order."""
        pairs = original.contrastive_pairs
        features, classes = self.features, self.classes
        return replace(
            original,
            class_similarity=original.class_similarity[np.ix_(classes, features)],
            feature_similarity=original.feature_similarity[np.ix_(features, features)],
            feature_bias=None if original.feature_bias is None else original.feature_bias[features],
            candidate=None if original.candidate is None else original.candidate[features],
            contrastive_pairs=None if pairs is None else np.argsort(classes)[pairs],
        )

    def assignment(self, original: Assignment) -> Assignment:
        """An assignment of the original as one of the permuted problem."""
        return Assignment(
            original.selection[self.features], original.matrix[np.ix_(self.classes, self.features)]
        )

    def restored(self, permuted: Assignment) -> Assignment:
        """An assignment of the permuted problem as one of the original."""
        features, classes = np.argsort(self.features), np.argsort(self.classes)
        return Assignment(permuted.selection[features], permuted.matrix[np.ix_(classes, features)])
