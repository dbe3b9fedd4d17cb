"""The arrays of a proof file: a tree of nodes and the multipliers of their certificates.

Only the form is judged here; what the multipliers prove is for :mod:`qpm_opt.proof_check`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qpm_opt.errors import InvalidSolutionError
from qpm_opt.files import CERTIFICATE, read_arrays
from qpm_opt.validation import BoolArray, IntArray

FORMAT = "qpm-proof/2"

#: Arrays of one certificate by the names of the file.
Multipliers = dict[str, NDArray[Any]]

_Kind = type[np.float64] | type[np.floating[Any]] | type[np.int64]


class _Field(NamedTuple):
    """What an array of certificates holds: numbers or indices, columns, the least value."""

    kind: _Kind
    n_columns: int = 0
    least: float = -math.inf


_FIELDS = {
    "threshold_class": _Field(np.int64),
    "threshold": _Field(np.float64),
    "threshold_weight": _Field(np.float64, least=0),
    "pair_classes": _Field(np.int64, 2),
    "pair_thresholds": _Field(np.float64, 2),
    "pair_price": _Field(np.float64),
    "pair_weight": _Field(np.float64, least=0),
    "split_class": _Field(np.int64),
    "split_feature": _Field(np.int64),
    "split_inside": _Field(np.float64),
    "split_outside": _Field(np.float64),
    "split_weight": _Field(np.float64, least=0),
    "conflict_members": _Field(np.int64, 2),
    "conflict_price": _Field(np.float64, least=0),
    "row_members": _Field(np.int64, 3),
    "row_level": _Field(np.int64),
    "row_price": _Field(np.float64, least=0),
    "reward": _Field(np.float64),
    "nonnegativity": _Field(np.floating, least=0),  # by far the largest array: of either precision
    "corner": _Field(np.float64),
    "border": _Field(np.float64),
    "diagonal": _Field(np.float64),
    "out": _Field(np.int64),
    "into": _Field(np.int64),
}


@dataclass(frozen=True, eq=False)
class ProofFile:
    """Content of a proof file; entry i of a list is of node i."""

    problem_sha256: str
    bound: float
    parent: IntArray
    feature: IntArray
    selected: BoolArray
    has_children: BoolArray
    certificates: list[list[Multipliers]]

    @property
    def n_certificates(self) -> int:
        """Certificates of all nodes together."""
        return sum(map(len, self.certificates))


def read_proof(path: str | os.PathLike[str]) -> ProofFile:
    """Content of a proof file (``qpm-proof/2``).

    Raises
    ------
    InvalidSolutionError
        If the file is missing, is no ``.npz``, or its arrays do not fit each other.
    """
    arrays = read_arrays(path, CERTIFICATE)
    if str(arrays["format"]) != FORMAT:
        raise InvalidSolutionError(f"{path} is no proof file: its format is not {FORMAT!r}.")
    names = ["certificate_node", *_FIELDS, *(f"{field}_end" for field in _FIELDS)]
    missing = [name for name in names if name not in arrays]
    if missing:
        raise InvalidSolutionError(f"{path} is a damaged proof: it lacks {', '.join(missing)}.")
    bound = _numbers(arrays, "bound", np.float64, ndim=0)
    parent = _numbers(arrays, "node_parent", np.int64)
    feature = _numbers(arrays, "node_feature", np.int64)
    selected = arrays["node_selected"]
    if selected.dtype != bool or not parent.shape == feature.shape == selected.shape:
        raise InvalidSolutionError(
            f"{path} is a damaged proof: node_parent, node_feature and node_selected (bool) must "
            "have one length."
        )
    _check_tree(parent, feature, selected)
    owner = _numbers(arrays, "certificate_node", np.int64)
    if owner.size and not 0 <= owner.min() <= owner.max() < parent.size:
        raise InvalidSolutionError("certificate_node of the proof names a node that is not there.")
    certificates: list[list[Multipliers]] = [[] for _ in parent]
    for node, multipliers in zip(owner, _certificates(arrays, owner.size), strict=True):
        certificates[node].append(multipliers)
    has_children = np.isin(np.arange(parent.size), parent)
    sha256 = str(arrays["problem_sha256"])
    return ProofFile(sha256, float(bound), parent, feature, selected, has_children, certificates)


def is_proof(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file that calls itself a proof of this format."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return str(archive["format"]) == FORMAT
    except Exception:  # as many kinds as a file can be damaged in
        return False


def _numbers(
    arrays: dict[str, NDArray[Any]],
    name: str,
    kind: _Kind,
    *,
    ndim: int = 1,
) -> NDArray[Any]:
    """The array as one of that kind; refused unless it is one, and finite."""
    array = arrays[name]
    if array.ndim != ndim or array.dtype.kind not in ("iu" if kind is np.int64 else "f"):
        expected = "whole numbers" if kind is np.int64 else "floating point numbers"
        raise InvalidSolutionError(
            f"{name} of the proof is {array.dtype} of shape {array.shape}; {expected} in "
            f"{ndim} dimensions were expected."
        )
    if kind is np.floating:
        kind = np.float32 if array.dtype == np.float32 else np.float64
    with np.errstate(over="ignore"):
        array = array.astype(kind, copy=False)
    if not np.isfinite(array).all():
        raise InvalidSolutionError(f"{name} of the proof holds a number that is not finite.")
    return array


def _check_tree(parent: IntArray, feature: IntArray, selected: BoolArray) -> None:
    """Every node has no children or the two that decide one feature either way."""
    n_nodes = parent.size
    if n_nodes == 0 or parent[0] != -1:
        raise InvalidSolutionError("The tree of the proof does not begin with a root.")
    wrong = np.flatnonzero((parent[1:] < 0) | (parent[1:] >= np.arange(1, n_nodes)))
    if wrong.size:
        raise InvalidSolutionError(
            f"Node {wrong[0] + 1} of the proof names the parent {parent[wrong[0] + 1]}; a node "
            "before it was expected."
        )
    order = 1 + np.argsort(parent[1:], kind="stable")
    pairs = order[: 2 * (order.size // 2)].reshape(-1, 2)
    first, second = pairs[:, 0], pairs[:, 1]
    if (
        order.size % 2
        or (parent[first] != parent[second]).any()
        or np.unique(parent[first]).size < len(pairs)
        or (feature[first] != feature[second]).any()
        or (selected[first] == selected[second]).any()
    ):
        raise InvalidSolutionError(
            "The tree of the proof has gaps: every node must have no children or two, one with "
            "and one without the same feature."
        )


def _certificates(arrays: dict[str, NDArray[Any]], n: int) -> Iterator[Multipliers]:
    parts: dict[str, list[NDArray[Any]]] = {}
    for name, field in _FIELDS.items():
        array = _numbers(arrays, name, field.kind, ndim=2 if field.n_columns else 1)
        if field.n_columns and array.shape[1] != field.n_columns:
            raise InvalidSolutionError(
                f"{name} of the proof has {array.shape[1]} columns, not {field.n_columns}."
            )
        if array.size and array.min() < field.least:
            raise InvalidSolutionError(
                f"{name} of the proof holds {array.min():g}; it may not be negative."
            )
        end = _numbers(arrays, f"{name}_end", np.int64)
        start = np.concatenate([[0], end])
        if len(end) != n or (np.diff(start) < 0).any() or start[-1] != len(array):
            raise InvalidSolutionError(
                f"{name}_end of the proof does not divide {name} among the {n} certificates."
            )
        parts[name] = [array[i:j] for i, j in zip(start, end, strict=False)]
    for i in range(n):
        yield {name: part[i] for name, part in parts.items()}
