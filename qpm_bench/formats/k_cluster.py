"""Densest k-subgraph problems of the k-cluster library."""

from __future__ import annotations

import os

import numpy as np

from qpm_bench.formats.lines import MOST_FEATURES, Lines, read_pairs, selection_problem
from qpm_opt import Problem

_WEIGHT = 0.5


def read_k_cluster(path: str | os.PathLike[str]) -> Problem:
    """Problem of choosing k vertices of a graph with as many edges among them as possible.

    R is minus the adjacency matrix (n, n), so the objective counts the edges inside.

    The file holds ``n k m``, then m lines ``i j 0.5``, one an edge, with 1-based vertices: the
    entries of a symmetric W with x'Wx edges among the chosen. Another weight is refused.

    Raises
    ------
    InvalidInputError
        If the file is none of these.

    References
    ----------
    Lambert, k-cluster library, CEDRIC/CNAM (format: cedric.cnam.fr/~lamberta/Library).
    """
    lines = Lines(path)
    sizes = lines.words(3, "the sizes n, k and m")
    n = lines.whole(sizes[0], "n", 1, MOST_FEATURES)
    k = lines.whole(sizes[1], "k", 1, n)
    n_edges = lines.whole(sizes[2], "m", 0, n * (n - 1) // 2)
    R = np.zeros((n, n))
    for i, j, weight in read_pairs(lines, n, n_edges, "weight", first=1):
        if weight != _WEIGHT:
            raise lines.error(f"the weight {_WEIGHT} of an edge")
        R[i, j] = R[j, i] = -1.0
    return selection_problem(
        R,
        None,
        k,
        name=lines.path.stem,
        source="k-cluster library (Lambert, CEDRIC/CNAM); R = -(adjacency)",
    )
