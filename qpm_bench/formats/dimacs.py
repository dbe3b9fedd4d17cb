"""Graphs of the DIMACS challenges, in their text form."""

from __future__ import annotations

import os

import numpy as np

from qpm_bench.formats.lines import MOST_FEATURES, Lines


def read_dimacs(path: str | os.PathLike[str]) -> np.ndarray:
    """Adjacency matrix of a ``.clq`` or ``.col`` file, as the clique searches take it.

    The file holds ``p edge n m`` (or ``p col n m``), then lines ``e i j`` with 1-based vertices;
    lines that start with c are comments. Files for colouring name some edges in both directions,
    and their m counts either the lines or the edges: both are taken.

    Returns
    -------
    ndarray of shape (n_vertices, n_vertices), bool
        Symmetric, the diagonal False; for :func:`qpm_opt.epsilon.max_clique_exact`.

    Raises
    ------
    InvalidInputError
        If the file is none of these; the binary form and vertex weights (lines ``n i value``) are
        not supported.

    References
    ----------
    Johnson, Trick (eds.), Cliques, Coloring, and Satisfiability: Second DIMACS Implementation
    Challenge, AMS 1996.
    """
    lines = Lines(path, comments=("c",))
    expected = "the line 'p edge n m'"
    head = lines.words(4, expected)
    if head[0] != "p" or head[1] not in ("edge", "col"):
        raise lines.error(expected)
    n = lines.whole(head[2], "n", 1, MOST_FEATURES)
    n_stated = lines.whole(head[3], "m", 0, MOST_FEATURES**2)
    adjacency = np.zeros((n, n), dtype=bool)
    n_lines = lines.remaining()
    for _ in range(n_lines):
        words = lines.words(3, "an edge 'e i j'")
        if words[0] != "e":
            raise lines.error("an edge 'e i j'")
        i, j = (lines.whole(word, "a vertex", 1, n) - 1 for word in words[1:])
        if i == j:
            raise lines.error("an edge between different vertices")
        adjacency[i, j] = adjacency[j, i] = True
    n_edges = int(adjacency.sum()) // 2
    if n_stated not in (n_lines, n_edges):
        raise lines.error(
            f"an end after {n_stated} edges, not after {n_lines} ({n_edges} different ones),"
        )
    return adjacency
