"""The arrays of a problem file, in any of the forms in which R may stand there."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qpm_opt.errors import InvalidProblemError
from qpm_opt.files import PROBLEM, read_arrays
from qpm_opt.validation import FloatArray, as_flag, as_float


def read_problem(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Arguments of :class:`qpm_opt.Problem` from an ``.npz`` file; the problem checks the rest.

    Raises
    ------
    InvalidProblemError
        If the file is missing, is no ``.npz``, lacks an array, or R is in none of its forms: dense,
        as its upper triangle, or ``R_is_zero``.
    """
    path = Path(path)
    arrays = read_arrays(path, PROBLEM)

    def scalar(key: str, default: Any) -> Any:
        return _scalar(arrays, path, key, default)

    return {
        "class_similarity": arrays["A"],
        "feature_similarity": _read_similarity(arrays, path),
        "feature_bias": arrays["b"],
        "n_selected": scalar("n_selected", 0),
        "n_per_class": scalar("n_per_class", 0),
        "distinct": scalar("distinct", True),
        "candidate": arrays.get("candidate"),
        "min_classes_per_feature": scalar("min_classes_per_feature", 0),
        "contrastive_pairs": arrays.get("contrastive_pairs"),
        "min_contrastive_pairs": scalar("min_contrastive_pairs", 0),
        "name": str(scalar("name", path.stem)),
        "source": str(scalar("source", "")),
        "best_known": scalar("best_known", math.nan),
        "proved": scalar("proved", False),
    }


def _scalar(arrays: Mapping[str, NDArray[Any]], path: Path, key: str, default: Any) -> Any:
    value = arrays.get(key, np.asarray(default))
    if value.ndim:
        raise InvalidProblemError(f"{path}: {key} has shape {value.shape}, not a single value.")
    return value[()]


def _read_similarity(arrays: Mapping[str, NDArray[Any]], path: Path) -> FloatArray:
    if arrays["A"].ndim != 2:
        raise InvalidProblemError(f"{path}: A has shape {arrays['A'].shape}, not two dimensions.")
    n_features = arrays["A"].shape[1]
    if all(key in arrays for key in ("R_row", "R_col", "R_val")):
        row, col, value = arrays["R_row"], arrays["R_col"], arrays["R_val"]
        whole = np.issubdtype(row.dtype, np.integer) and np.issubdtype(col.dtype, np.integer)
        if not whole or row.ndim != 1 or not row.shape == col.shape == value.shape:
            raise InvalidProblemError(
                f"{path}: R_row, R_col and R_val must be index, index and value lists of one "
                f"length; their shapes are {row.shape}, {col.shape}, {value.shape}."
            )
        if row.size and not (0 <= row.min() and (row < col).all() and col.max() < n_features):
            raise InvalidProblemError(
                f"{path}: R_row and R_col must satisfy 0 <= row < col < {n_features}."
            )
        if np.unique(row.astype(np.int64) * n_features + col).size < row.size:
            raise InvalidProblemError(f"{path}: R_row and R_col name a pair twice.")
        dense = np.zeros((n_features, n_features))
        dense[row, col] = as_float(value, f"{path}: R_val", 1)
        return dense + dense.T
    if "R" in arrays:
        if as_flag(_scalar(arrays, path, "R_is_zero", False), f"{path}: R_is_zero"):
            return np.zeros((n_features, n_features))
        return arrays["R"]
    raise InvalidProblemError(f"{path} lacks R; {PROBLEM.advice}.")
