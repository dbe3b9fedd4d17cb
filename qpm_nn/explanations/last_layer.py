"""The last layer of a classifier as plain arrays: what all explanations of it are computed from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qpm_nn.heads import AssignmentHead, SparseHead
from qpm_nn.metrics.checks import FloatArray, as_labels, as_matrix
from qpm_opt import InvalidInputError


class LastLayer:
    """Logits are ``features @ weight.T + bias``.

    Parameters
    ----------
    weight : array of shape (n_classes, n_selected)
        Of an assignment 0 or 1, and -1 for what counts against a class.
    selected : array of shape (n_selected,), int, optional
        The features by their index in the backbone, as people see them; 0, 1, ... by default.
    bias : array of shape (n_classes,), optional
        0 by default.
    class_names : sequence of str, optional
        ``class 0``, ``class 1``, ... by default.

    Raises
    ------
    InvalidInputError
        If shapes do not fit, a value is NaN or infinite, or there is no class.
    """

    def __init__(
        self,
        weight: ArrayLike,
        selected: ArrayLike | None = None,
        bias: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.weight: FloatArray = as_matrix("weight", weight)
        n_classes, n_selected = self.weight.shape
        if not n_classes:
            raise InvalidInputError("weight has no rows; one for each class was expected.")
        self.selected: NDArray[np.int64] = np.asarray(
            range(n_selected) if selected is None else selected, np.int64
        )
        if self.selected.shape != (n_selected,) or len(set(self.selected.tolist())) < n_selected:
            raise InvalidInputError(
                f"selected has shape {self.selected.shape}; {n_selected} different features were "
                "expected, one for each column of weight."
            )
        given = np.zeros(n_classes) if bias is None else np.asarray(bias, np.float64)
        if given.shape != (n_classes,) or not np.isfinite(given).all():
            raise InvalidInputError(
                f"bias has shape {given.shape}; {n_classes} finite numbers were expected."
            )
        self.bias: FloatArray = given
        names = [f"class {c}" for c in range(n_classes)] if class_names is None else class_names
        self.class_names: tuple[str, ...] = tuple(map(str, names))
        if len(self.class_names) != n_classes:
            raise InvalidInputError(
                f"There are {len(self.class_names)} class names; {n_classes} were expected, one "
                "for each row of weight."
            )

    @classmethod
    def of(
        cls, head: AssignmentHead | SparseHead, class_names: Sequence[str] | None = None
    ) -> LastLayer:
        """The layer of a head."""
        bias = head.bias.cpu().numpy() if isinstance(head, SparseHead) else None
        return cls(head.weight.cpu().numpy(), head.selected.cpu().numpy(), bias, class_names)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.weight)

    @property
    def sign(self) -> NDArray[np.int64]:
        """Whether a feature counts for a class (1), against it (-1) or not at all (0)."""
        return np.sign(self.weight).astype(np.int64)

    def position(self, feature: int) -> int:
        """Column of a feature by its index in the backbone."""
        (found,) = np.flatnonzero(self.selected == feature)[:1].tolist() or (None,)
        if found is None:
            raise InvalidInputError(
                f"Feature {feature} is not selected; one of {self.selected.tolist()} was expected."
            )
        return int(found)

    def logits(self, features: ArrayLike) -> FloatArray:
        """Logits (n_images, n_classes) of normalised features (n_images, n_selected)."""
        return self.images(features) @ self.weight.T + self.bias

    def images(self, features: ArrayLike) -> FloatArray:
        """Features of images, checked: (n_images, n_selected), float64."""
        return as_matrix("features", features, self.weight.shape[1])

    def image(self, features: ArrayLike) -> FloatArray:
        """Features of one image, checked: (n_selected,), float64."""
        vector = np.asarray(features, np.float64)
        if vector.shape != self.selected.shape or not np.isfinite(vector).all():
            raise InvalidInputError(
                f"features has shape {vector.shape}; {self.selected.shape} finite numbers were "
                "expected, the normalised features of one image."
            )
        return vector

    def labels(self, labels: ArrayLike, n_images: int) -> NDArray[np.intp]:
        """Classes of images, checked."""
        return as_labels(labels, n_images, self.n_classes)

    def class_index(self, c: int) -> int:
        """A class, checked."""
        if not 0 <= c < self.n_classes:
            raise InvalidInputError(
                f"There is no class {c}; 0 to {self.n_classes - 1} were expected."
            )
        return int(c)

    def other_class(self, other: int, c: int) -> int:
        """A class other than ``c``, checked."""
        if self.class_index(other) == c:
            raise InvalidInputError(
                f"Class {c} was compared with itself; another class was expected."
            )
        return int(other)

    def runner_up(self, logits: FloatArray, c: int) -> int:
        """The class other than ``c`` with the largest of the logits (n_classes,)."""
        if self.n_classes < 2:
            raise InvalidInputError("There is one class only; two were expected to compare.")
        return int(np.where(np.arange(self.n_classes) == c, -np.inf, logits).argmax())
