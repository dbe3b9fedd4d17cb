"""Cover problems by brute force over all subsets, with Python sets alone; and instances to try."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from qpm_opt import CoverProblem


@dataclass
class Region:
    """What a choice of boundaries covers, as index sets."""

    same: set[int]
    other: set[int]


def region(separated, same, boundaries) -> Region:
    covered = {r for r in range(len(separated)) if not any(separated[r][h] for h in boundaries)}
    of_class = {r for r in range(len(separated)) if same[r]}
    return Region(covered & of_class, covered - of_class)


def subsets(n_boundaries: int):
    for size in range(n_boundaries + 1):
        yield from itertools.combinations(range(n_boundaries), size)


def optimum(problem: CoverProblem) -> tuple[int, int] | None:
    """Best objective, and the fewest boundaries that reach it; None if infeasible."""
    separated, same = problem.separated.tolist(), problem.same.tolist()
    best = None
    for chosen in subsets(problem.n_boundaries):
        found = region(separated, same, chosen)
        if len(found.other) <= problem.n_exceptions:
            objective = len(found.same) + problem.count_exceptions * len(found.other)
            if best is None or objective > best[0]:  # smaller subsets come first
                best = objective, len(chosen)
    return best


def random_cover(seed: int, *, most_boundaries: int = 8, most_images: int = 24) -> CoverProblem:
    """Tiny instance: duplicates, one class, no boundaries, images that nothing separates, ..."""
    rng = np.random.default_rng(seed)
    n_images = int(rng.integers(1, most_images + 1))
    n_boundaries = int(rng.integers(0, most_boundaries + 1))
    separated = rng.random((n_images, n_boundaries)) < rng.choice([0.1, 0.3, 0.5, 0.8, 1.0])
    if n_images > 3 and rng.random() < 0.3:
        separated = separated[rng.integers(n_images // 3, size=n_images)]
    if n_boundaries > 2 and rng.random() < 0.2:
        separated[:, 0] = separated[:, 1]
    same = rng.random(n_images) < rng.choice([0.0, 0.3, 0.5, 0.7, 1.0])
    tau = int(np.count_nonzero(~separated.any(axis=1) & ~same))
    spare = int(rng.choice([0, 0, 1, 2, 5]))
    return CoverProblem(separated, same, tau + spare, count_exceptions=bool(rng.integers(2)))
