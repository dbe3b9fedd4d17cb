"""Named sets of instances."""

from __future__ import annotations

from collections.abc import Callable

from qpm_bench.instances import paper_like
from qpm_bench.names import check_name
from qpm_opt import Problem


def _paper_like(*sizes: tuple[int, int, int, int], seeds: tuple[int, ...]) -> dict[str, Problem]:
    problems = (
        paper_like(n_classes, n_features, n_selected=p, n_per_class=k, seed=seed)
        for n_classes, n_features, p, k in sizes
        for seed in seeds
    )
    return {str(problem.name): problem for problem in problems}


#: Suites by name; each makes its instances when it is called.
SUITES: dict[str, Callable[[], dict[str, Problem]]] = {
    "tiny": lambda: _paper_like((4, 14, 5, 2), (5, 16, 6, 2), seeds=(0, 1)),
    "small": lambda: _paper_like(
        (5, 16, 6, 2), (10, 30, 8, 3), (10, 60, 10, 3), (20, 100, 12, 4), seeds=(0, 1)
    ),
    "paper": lambda: _paper_like((200, 2048, 50, 5), seeds=(0, 1, 2, 3, 4)),
}


def suite(name: str) -> dict[str, Problem]:
    """Instances of a suite, by name.

    Raises
    ------
    InvalidInputError
        If there is no such suite.
    """
    check_name("suite", name, SUITES)
    return SUITES[name]()
