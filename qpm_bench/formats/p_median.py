"""p-median problems of the OR-Library."""

from __future__ import annotations

import os

import numpy as np
from scipy.sparse.csgraph import csgraph_from_dense, shortest_path

from qpm_bench.formats.lines import MOST_FEATURES, Lines
from qpm_opt import InvalidInputError, Problem


def read_p_median(path: str | os.PathLike[str]) -> Problem:
    """Problem of choosing p vertices of a graph as medians, from an OR-Library file.

    Every vertex is a customer (a class) and a possible median (a feature), so A is minus the
    (n, n) matrix of shortest path lengths in the unit of the costs, R and b are zero, and the
    objective is minus the cost of the p-median. Customers may share a median: ``distinct`` is off.

    The file holds ``n m p``, then m lines ``i j cost`` of undirected edges with 1-based vertices.
    **An edge that is repeated counts with its last cost**: with the smallest one the published
    optima are missed (5718 in the place of 5819 for pmed1).

    Raises
    ------
    InvalidInputError
        If the file is none of these, or its graph is not connected.

    References
    ----------
    Beasley, A note on solving large p-median problems, EJOR 21 (1985) 270-273.
    """
    lines = Lines(path)
    expected = "the sizes n, m and p"
    sizes = lines.words(3, expected)
    n = lines.whole(sizes[0], "n", 1, MOST_FEATURES)
    n_edges = lines.whole(sizes[1], "m", 0, MOST_FEATURES**2)
    n_medians = lines.whole(sizes[2], "p", 1, n)
    cost = np.full((n, n), np.inf)
    for t in range(n_edges):
        words = lines.words(3, f"edge {t + 1} of {n_edges} with i, j and a cost")
        i, j = (lines.whole(word, "a vertex", 1, n) - 1 for word in words[:2])
        value = lines.number(words[2], "a cost")
        if i == j or value < 0.0:
            raise lines.error("an edge between different vertices at a cost of 0 or more")
        cost[i, j] = cost[j, i] = value
    lines.end(f"{n_edges} edges")
    # A free edge is an edge: only infinity marks the pairs without one.
    graph = csgraph_from_dense(cost, null_value=np.inf)
    distance = shortest_path(graph, method="D")
    apart = np.flatnonzero(np.isinf(distance[0]))
    if apart.size:
        raise InvalidInputError(
            f"{path}: there is no path from vertex 1 to vertex {apart[0] + 1}; a connected graph "
            "was expected."
        )
    return Problem(
        0.0 - distance,
        np.zeros((n, n)),
        n_selected=n_medians,
        n_per_class=1,
        distinct=False,
        name=lines.path.stem,
        source="OR-Library p-median (Beasley 1985); A = -(shortest path length)",
    )
