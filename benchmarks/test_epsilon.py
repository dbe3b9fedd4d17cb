"""The threshold on R and the clique searches inside."""

from __future__ import annotations

import numpy as np

from benchmarks.sizes import LARGE
from qpm_opt.constants import feature_similarity
from qpm_opt.epsilon import max_clique_exact, max_clique_heuristic, tune_epsilon

SIZES = LARGE


def random_graph(n_vertices: int, density: float) -> np.ndarray:
    upper = np.triu(np.random.default_rng(0).random((n_vertices, n_vertices)) < density, 1)
    return upper | upper.T


def test_tune_epsilon(benchmark, problem):
    R = feature_similarity(problem.class_similarity)  # before any threshold
    tuned = benchmark.pedantic(tune_epsilon, (R, problem.n_selected))
    benchmark.extra_info["epsilon"] = tuned.epsilon


def test_max_clique_heuristic(benchmark):
    graph = random_graph(1000, 0.8)
    clique = benchmark.pedantic(max_clique_heuristic, (graph,), {"n_steps": 10_000}, rounds=3)
    benchmark.extra_info["clique_size"] = clique.size


def test_max_clique_exact(benchmark):
    clique, proved = benchmark.pedantic(max_clique_exact, (random_graph(200, 0.6),), rounds=3)
    assert proved
    benchmark.extra_info["clique_size"] = clique.size
