"""What makes an upper bound checkable: multipliers for every part of the search space.

A proof of the bound B is a tree. Its root is the whole search space (:class:`Region`); every other
node adds to its parent's region one decision, a feature in or out. A node holds certificates, in
order. Each proves, for a reward rho and every selection s of the region as it stands,

    f(s) + sum_j max(rho_j, 0) s_j + sum_j max(-rho_j, 0) (1 - s_j)  <=  value,

and names the features that it decides for the rest of the node (below). A node is closed if some
value is at most B, if its region is empty, if its only selection is no better than B, or if both
its children are closed.

The value of a certificate is computed from its multipliers alone, by weak duality. With
s in {0, 1}^free, sum(s) = m, Y = s s' and x = (1, s), in that order:

1.  Every class is covered by terms whose weights sum to 1. All are valid for any threshold:
    threshold   theta_c <= k t + sum_j (A_cj - t)+ s_j
    pair        theta_c + theta_e <= k (t + v) + (k - 1) u
                + sum_j max(0, A_cj - t, A_ej - v, A_cj + A_ej - t - v - u) s_j
                (u >= 0: classes that share at most k - 1 features because they must differ, so
                only if the problem is ``distinct``; any u: a contrastive pair, which shares k - 1)
    split       theta_c <= k t s_d + sum_j (A_cj - t)+ Y_dj
                + k v (1 - s_d) + sum_j (A_cj - v)+ (s_j - Y_dj)      for a free feature d
                (the threshold inequality on either side of s_d)
    where j runs over the free features and, with s_j = 1 and Y_dj = s_d, those decided in.
2.  Conflicts, for a set K of free features and w >= 0 with sum_(K with i, j) w_K <= R_ij for all
    i, j (the rest of R is left out):   - w sum_(i < j in K) Y_ij <= w (1 - sum_K s).
3.  Rows with a price >= 0 (Boros and Hammer): for whole numbers w_j and a whole level b,
    0 <= (w's - b) (w's - b - 1) / 2
    = sum_(i < j) w_i w_j Y_ij + sum_j w_j (w_j - 2 b - 1) / 2 s_j + b (b + 1) / 2.
4.  Together f(s) + reward <= constant + x' C x for a symmetric C. With N >= 0 off the diagonal
    (``nonnegativity``), x' C x <= x' (C + N) x.
5.  Let T = C + N off the diagonal of the free features, and ``corner``, ``border``, ``diagonal``
    elsewhere. x' T x <= (m + 1) lambda, lambda the largest eigenvalue of T on the vectors
    orthogonal to (m, -1, ..., -1), because x is one of them and |x|^2 = m + 1. What remains,
    (C - T)_00 + sum_j r_j s_j with r_j = (C - T)_jj + 2 (C - T)_0j, is at most the sum of the m
    largest r_j.

If all data are multiples of a power of two, so is f, and a value may be rounded down to one.

Let r* and r' be the m-th and the (m + 1)-th largest r_j. A selection with s_j = 1 has
f(s) <= value - max(rho_j, 0) - (r* - r_j)+; if that is at most B, the certificate may name j among
``out``. One with s_j = 0 has f(s) <= value - max(-rho_j, 0) - (r_j - r')+, likewise for ``into``.

A certificate has either a semidefinite part, then no conflicts; or none: then neither splits nor
rows, R >= 0 on the free features, and x' C x is linear with C_0j = r_j / 2 and T = 0.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qpm_opt.files import replace_on_success
from qpm_opt.problem import Problem
from qpm_opt.proof_file import FORMAT, Multipliers, ProofFile
from qpm_opt.validation import FloatArray, IntArray

#: Factors beyond which products with single precision might overflow or lose digits.
SINGLE_RANGE = (2.0**-64, 2.0**64)


def _none(*shape: int) -> FloatArray:
    return np.zeros(shape)


def _no_indices(*shape: int) -> IntArray:
    return np.zeros(shape, dtype=np.intp)


@dataclass(frozen=True, kw_only=True, eq=False)
class Certificate:
    """Multipliers of one bound. Features are indices of the problem, never of the region.

    Attributes
    ----------
    threshold_class, threshold, threshold_weight : ndarray, (n,)
        Threshold terms: c, t, weight.
    pair_classes, pair_thresholds : ndarray, (n, 2); pair_price, pair_weight : ndarray, (n,)
        Pair terms: (c, e), (t, v), u, weight.
    split_class, split_feature, split_inside, split_outside, split_weight : ndarray, (n,)
        Split terms: c, d, t, v, weight.
    conflict_members : ndarray, (n, 2); conflict_price : ndarray, (n_conflicts,)
        Number of the set in this certificate and a feature of it; w of every set.
    row_members : ndarray, (n, 3); row_level, row_price : ndarray, (n_rows,)
        Number of the row in this certificate, a feature of it, its weight; b and price of each.
    reward : ndarray, (n_free,)
        rho, in the order of the region's free features.
    nonnegativity : ndarray of float32 or float64, (n_free * (n_free - 1) / 2,), or (0,)
        Upper triangle of N, row by row. Empty: no semidefinite part.
    out, into : ndarray
        Free features that are in no, or in every, selection of the region better than B.
    corner : float; border, diagonal : ndarray, (n_free,) or (0,)
        T_00; T_0j; T_jj.
    """

    threshold_class: IntArray = field(default_factory=lambda: _no_indices(0))
    threshold: FloatArray = field(default_factory=lambda: _none(0))
    threshold_weight: FloatArray = field(default_factory=lambda: _none(0))
    pair_classes: IntArray = field(default_factory=lambda: _no_indices(0, 2))
    pair_thresholds: FloatArray = field(default_factory=lambda: _none(0, 2))
    pair_price: FloatArray = field(default_factory=lambda: _none(0))
    pair_weight: FloatArray = field(default_factory=lambda: _none(0))
    split_class: IntArray = field(default_factory=lambda: _no_indices(0))
    split_feature: IntArray = field(default_factory=lambda: _no_indices(0))
    split_inside: FloatArray = field(default_factory=lambda: _none(0))
    split_outside: FloatArray = field(default_factory=lambda: _none(0))
    split_weight: FloatArray = field(default_factory=lambda: _none(0))
    conflict_members: IntArray = field(default_factory=lambda: _no_indices(0, 2))
    conflict_price: FloatArray = field(default_factory=lambda: _none(0))
    row_members: IntArray = field(default_factory=lambda: _no_indices(0, 3))
    row_level: IntArray = field(default_factory=lambda: _no_indices(0))
    row_price: FloatArray = field(default_factory=lambda: _none(0))
    reward: FloatArray
    out: IntArray = field(default_factory=lambda: _no_indices(0))
    into: IntArray = field(default_factory=lambda: _no_indices(0))
    nonnegativity: NDArray[np.floating[Any]] = field(
        default_factory=lambda: np.zeros(0, np.float32)
    )
    corner: float = 0.0
    border: FloatArray = field(default_factory=lambda: _none(0))
    diagonal: FloatArray = field(default_factory=lambda: _none(0))

    def scaled(self, factor: float) -> Certificate:
        """The certificate for the problem with all coefficients multiplied by a power of two."""
        linear = (
            "threshold", "pair_thresholds", "pair_price", "split_inside", "split_outside",
            "conflict_price", "row_price", "reward", "nonnegativity", "corner", "border",
            "diagonal",
        )  # fmt: skip
        certificate = self
        if not SINGLE_RANGE[0] <= factor <= SINGLE_RANGE[1]:
            certificate = replace(self, nonnegativity=self.nonnegativity.astype(np.float64))
        return replace(
            certificate, **{name: getattr(certificate, name) * factor for name in linear}
        )


@dataclass(eq=False)
class ProofNode:
    """One node: its place in the tree and its certificates, in the order in which they apply."""

    parent: int
    """Index of the parent, always smaller than the node's own; -1 for the root."""
    feature: int
    """The feature decided, -1 for the root."""
    selected: bool
    certificates: list[Certificate] = field(default_factory=list)


def _certificate(multipliers: Multipliers) -> Certificate:
    held: dict[str, Any] = dict(multipliers)
    return Certificate(**held | {"corner": float(held["corner"].item())})


class Proof:
    """A tree of nodes, the root first."""

    def __init__(self) -> None:
        self.nodes: list[ProofNode] = [ProofNode(-1, -1, False)]

    @classmethod
    def of(cls, content: ProofFile) -> Proof:
        """The proof that a file holds."""
        proof = cls()
        proof.nodes = [
            ProofNode(int(parent), int(feature), bool(selected), [_certificate(c) for c in held])
            for parent, feature, selected, held in zip(
                content.parent, content.feature, content.selected, content.certificates, strict=True
            )
        ]
        return proof

    def branch(self, parent: int, feature: int, sides: tuple[bool, bool]) -> tuple[int, int]:
        """Append both sides of a node and return their indices.

        In one step: an interrupt in between would leave a tree with half a branch.
        """
        first, second = (ProofNode(parent, feature, selected) for selected in sides)
        self.nodes += [first, second]
        return len(self.nodes) - 2, len(self.nodes) - 1

    def scaled(self, factor: float) -> Proof:
        """The proof for the problem with all coefficients multiplied by a power of two."""
        proof = Proof()
        proof.nodes = [
            replace(node, certificates=[c.scaled(factor) for c in node.certificates])
            for node in self.nodes
        ]
        return proof

    def save(self, path: str | os.PathLike[str], problem: Problem, bound: float) -> None:
        """Write the proof that no assignment is better than ``bound``, as an ``.npz`` file.

        Every field of :class:`Certificate` is stored as one array over all certificates, row after
        row; ``<field>_end`` holds where each certificate's rows end. ``certificate_node`` names
        the node of each certificate; ``node_parent``, ``node_feature``, ``node_selected`` the tree.
        """
        owners = [i for i, node in enumerate(self.nodes) for _ in node.certificates]
        held = [certificate for node in self.nodes for certificate in node.certificates]
        arrays = {
            "format": np.array(FORMAT),
            "problem_sha256": np.array(problem.sha256),
            "bound": np.array(float(bound)),
            "node_parent": np.array([node.parent for node in self.nodes]),
            "node_feature": np.array([node.feature for node in self.nodes]),
            "node_selected": np.array([node.selected for node in self.nodes]),
            "certificate_node": np.array(owners, dtype=np.int64),
        }
        for entry in fields(Certificate):
            parts = [np.atleast_1d(getattr(certificate, entry.name)) for certificate in held]
            empty = np.atleast_1d(getattr(Certificate(reward=_none(0)), entry.name))[:0]
            arrays[entry.name] = np.concatenate(parts) if parts else empty
            arrays[f"{entry.name}_end"] = np.cumsum([len(part) for part in parts], dtype=np.int64)
        with replace_on_success(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
