"""Maximum diversity problems of MDPLIB."""

from __future__ import annotations

import os

import numpy as np

from qpm_bench.formats.lines import MOST_FEATURES, Lines, read_pairs, selection_problem
from qpm_opt import Problem


def read_max_diversity(path: str | os.PathLike[str]) -> Problem:
    """Problem of choosing m of n elements with the largest sum of distances among them.

    R is minus the distance matrix (n, n), so the objective is the sum over the chosen pairs, in
    the unit of the distances.

    The file holds ``n m``, then a line ``i j distance`` for each of the n (n - 1) / 2 pairs, with
    0-based elements.

    Raises
    ------
    InvalidInputError
        If the file is none of these; a pair that is missing counts as a defect.

    References
    ----------
    Marti, Gallego, Duarte, A branch and bound algorithm for the maximum diversity problem,
    EJOR 200 (2010) 36-44; the families GKD, MDG and SOM have this format.
    """
    lines = Lines(path)
    sizes = lines.words(2, "the sizes n and m")
    n = lines.whole(sizes[0], "n", 1, MOST_FEATURES)
    n_chosen = lines.whole(sizes[1], "m", 1, n)
    R = np.zeros((n, n))
    for i, j, distance in read_pairs(lines, n, n * (n - 1) // 2, "distance", first=0):
        R[i, j] = R[j, i] = 0.0 - distance
    return selection_problem(
        R,
        None,
        n_chosen,
        name=lines.path.stem,
        source="MDPLIB maximum diversity (Marti, Gallego, Duarte 2010); R = -(distance)",
    )
