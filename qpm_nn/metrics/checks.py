"""What metrics take: tensors or arrays, of the expected shape and finite."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from qpm_opt import InvalidInputError

FloatArray = NDArray[np.float64]


def as_matrix(name: str, values: ArrayLike | Tensor, n_columns: int | None = None) -> FloatArray:
    """Finite float64 array of two dimensions, with ``n_columns`` columns if that is given.

    Raises
    ------
    InvalidInputError
        If the shape is another one or a value is NaN or infinite.
    """
    matrix = np.asarray(_on_cpu(values), dtype=np.float64)
    if matrix.ndim != 2 or not matrix.shape[1] or n_columns not in (None, matrix.shape[1]):
        columns = "at least one column" if n_columns is None else f"{n_columns} columns"
        raise InvalidInputError(
            f"{name} has shape {matrix.shape}; two dimensions with {columns} were expected."
        )
    finite = np.isfinite(matrix)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise _not_finite(name, f"[{row}, {column}] is {matrix[row, column]}")
    return matrix


def as_mask(name: str, values: ArrayLike | Tensor, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Bool array of that shape.

    Raises
    ------
    InvalidInputError
        If the shape is another one.
    """
    mask = np.asarray(_on_cpu(values))
    if mask.shape != shape:
        raise InvalidInputError(f"{name} has shape {mask.shape}; {shape} was expected.")
    return mask.astype(bool)


def as_labels(
    values: ArrayLike | Tensor, n_images: int, n_classes: int | None = None
) -> NDArray[np.intp]:
    """Class of every image, 0 to ``n_classes - 1`` if that is given.

    Raises
    ------
    InvalidInputError
        If there are not ``n_images`` labels, or they are no whole numbers or out of range.
    """
    labels = np.asarray(_on_cpu(values))
    if labels.shape != (n_images,) or (n_images and labels.dtype.kind not in "iu"):
        raise InvalidInputError(
            f"labels has shape {labels.shape} and type {labels.dtype}; whole numbers of shape "
            f"({n_images},) were expected."
        )
    if n_images and (labels.min() < 0 or (n_classes is not None and labels.max() >= n_classes)):
        expected = "0 or more" if n_classes is None else f"0 to {n_classes - 1}"
        raise InvalidInputError(
            f"labels go from {labels.min()} to {labels.max()}; {expected} was expected."
        )
    return labels.astype(np.intp)


def check_finite(name: str, values: Tensor) -> None:
    """Raise InvalidInputError if a value of the tensor is NaN or infinite."""
    if not torch.isfinite(values).all():
        raise _not_finite(name, "holds NaN or infinite values")


def check_shape(name: str, values: Tensor, shape: tuple[int, ...]) -> None:
    """Raise InvalidInputError unless the tensor has that shape."""
    if tuple(values.shape) != shape:
        raise InvalidInputError(f"{name} has shape {tuple(values.shape)}; {shape} was expected.")


def _on_cpu(values: ArrayLike | Tensor) -> ArrayLike:
    if not isinstance(values, Tensor):
        return values
    values = values.detach().cpu()
    # NumPy has no bfloat16.
    return values.double().numpy() if values.is_floating_point() else values.numpy()


def _not_finite(name: str, found: str) -> InvalidInputError:
    return InvalidInputError(
        f"{name} {found}; finite numbers were expected: a network that diverged gives such values, "
        "train again with a lower learning rate."
    )
