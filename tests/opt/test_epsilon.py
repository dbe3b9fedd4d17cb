"""Clique searches against enumeration and published clique numbers; the threshold they give."""

from __future__ import annotations

from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qpm_opt.epsilon import max_clique_exact, max_clique_heuristic, tune_epsilon
from qpm_opt.errors import InvalidInputError

# name: published clique number (Second DIMACS Challenge)
DIMACS = {
    "C125.9": 34,
    "brock200_2": 12,
    "brock200_4": 17,
    "c-fat200-1": 12,
    "hamming6-2": 32,
    "johnson8-4-4": 14,
    "keller4": 11,
    "p_hat300-1": 8,
    "p_hat300-3": 36,
    "san200_0.9_1": 70,
}


def random_graph(n_vertices: int, density: float, seed: int) -> np.ndarray:
    upper = np.triu(np.random.default_rng(seed).random((n_vertices, n_vertices)) < density, 1)
    return upper | upper.T


def random_similarity(n_features: int, seed: int, n_values: int | None = None) -> np.ndarray:
    """Symmetric with zero diagonal; few distinct values (zero among them) if asked for."""
    rng = np.random.default_rng(seed)
    R = rng.random((n_features, n_features))
    if n_values is not None:
        R = rng.integers(n_values, size=R.shape) / n_values
    R = np.triu(R, 1)
    return R + R.T


def is_clique(adjacency: np.ndarray, clique: np.ndarray) -> bool:
    return all(adjacency[u, v] for u, v in combinations(clique.tolist(), 2))


def dimacs(data_dir, name: str) -> np.ndarray:
    with np.load(data_dir / "dimacs" / f"{name}.npz") as archive:
        adjacency = np.zeros((int(archive["n"]),) * 2, dtype=bool)
        adjacency[tuple(archive["edges"].T)] = True
    return adjacency | adjacency.T


def clique_number(adjacency: np.ndarray) -> int:
    return max((len(c) for c in nx.find_cliques(nx.from_numpy_array(adjacency))), default=0)


def smallest_workable(R: np.ndarray, n_selected: int) -> float:
    """Smallest entry (or inf) that some selection stays below, by enumeration."""
    values = R[np.triu_indices(len(R), 1)]
    worst = min(
        max((R[u, v] for u, v in combinations(chosen, 2)), default=-np.inf)
        for chosen in combinations(range(len(R)), n_selected)
    )
    return min(values[values > worst], default=np.inf)


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 24), st.floats(0, 1), st.integers(0, 10**6))
def test_exact_search_equals_enumeration(n_vertices, density, seed):
    adjacency = random_graph(n_vertices, density, seed)
    clique, proved = max_clique_exact(adjacency)
    assert proved
    assert is_clique(adjacency, clique)
    assert np.array_equal(clique, np.unique(clique))
    assert clique.size == clique_number(adjacency)


@pytest.mark.parametrize("density", [0.3, 0.6, 0.8, 0.9])
def test_exact_search_branches_correctly(density, monkeypatch):
    """Without the heuristic's help, so that every clique comes out of the branching."""
    monkeypatch.setattr(
        "qpm_opt.epsilon.max_clique_heuristic", lambda *_, **__: np.empty(0, dtype=np.intp)
    )
    for seed in range(10):
        adjacency = random_graph(40, density, seed)
        clique, proved = max_clique_exact(adjacency)
        assert proved and is_clique(adjacency, clique)
        omega = clique_number(adjacency)
        assert clique.size == omega
        assert max_clique_exact(adjacency, target=omega).clique.size == omega
        nothing, proved = max_clique_exact(adjacency, target=omega + 1)
        assert proved and nothing.size == 0


def test_target_decides():
    adjacency = random_graph(60, 0.7, seed=1)
    omega = clique_number(adjacency)
    for target in (1, omega - 1, omega):
        clique, proved = max_clique_exact(adjacency, target=target)
        assert proved and clique.size == target and is_clique(adjacency, clique)
        assert max_clique_heuristic(adjacency, target=target).size == target
    clique, proved = max_clique_exact(adjacency, target=omega + 1)
    assert proved and clique.size <= omega


def test_exact_search_out_of_time_proves_nothing():
    assert not max_clique_exact(random_graph(200, 0.9, seed=0), time_limit=0.0).proved


@pytest.mark.parametrize("n_vertices", [0, 1, 7])
def test_extreme_graphs(n_vertices):
    full = np.ones((n_vertices, n_vertices), dtype=bool)
    for search in (max_clique_heuristic, lambda a: max_clique_exact(a).clique):
        assert np.array_equal(search(full), np.arange(n_vertices))  # loops do not matter
    empty = np.zeros_like(full)
    assert max_clique_exact(empty).clique.size == min(n_vertices, 1)
    assert max_clique_heuristic(empty, n_steps=100).size == min(n_vertices, 1)


def test_heuristic_is_deterministic_and_takes_a_start():
    adjacency = random_graph(80, 0.8, seed=3)
    first, again = (max_clique_heuristic(adjacency, seed=5, n_steps=2000) for _ in range(2))
    assert np.array_equal(first, again)
    assert is_clique(adjacency, first)
    kept = max_clique_heuristic(adjacency, start=first, target=first.size, n_steps=0)
    assert np.array_equal(kept, first)


@pytest.mark.parametrize(
    "adjacency", [np.ones((2, 3), bool), np.ones((2, 2)), np.triu(np.ones((3, 3), bool))]
)
def test_bad_adjacency_is_refused(adjacency):
    for search in (max_clique_exact, max_clique_heuristic):
        with pytest.raises(InvalidInputError, match="symmetric boolean matrix"):
            search(adjacency)


@pytest.mark.parametrize("name", DIMACS)
def test_heuristic_finds_published_clique_numbers(name, data_dir):
    adjacency = dimacs(data_dir, name)
    clique = max_clique_heuristic(adjacency, target=DIMACS[name])
    assert clique.size == DIMACS[name]
    assert is_clique(adjacency, clique)


@pytest.mark.parametrize("name", DIMACS)
def test_exact_search_proves_published_clique_numbers(name, data_dir):
    clique, proved = max_clique_exact(dimacs(data_dir, name))
    assert proved
    assert clique.size == DIMACS[name]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 9), st.data())
def test_exact_threshold_equals_enumeration(n_features, data):
    n_selected = data.draw(st.integers(1, n_features))
    R = random_similarity(n_features, data.draw(st.integers(0, 10**6)), n_values=4)
    tuned = tune_epsilon(R, n_selected, exact=True)
    assert tuned.proved
    assert tuned.epsilon == smallest_workable(R, n_selected)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 40), st.data())
def test_clique_is_below_the_threshold(n_features, data):
    n_selected = data.draw(st.integers(1, n_features))
    R = random_similarity(n_features, data.draw(st.integers(0, 10**6)))
    tuned = tune_epsilon(R, n_selected)
    assert tuned.clique.size == n_selected == np.unique(tuned.clique).size
    assert all(R[u, v] < tuned.epsilon for u, v in combinations(tuned.clique.tolist(), 2))
    assert tuned.epsilon in R or tuned.epsilon == np.inf


def test_negative_similarities():
    R = random_similarity(9, seed=2) - 0.5
    np.fill_diagonal(R, 0.0)
    for n_selected in (1, 3, 8):
        tuned = tune_epsilon(R, n_selected, exact=True)
        assert tuned.proved and tuned.epsilon == smallest_workable(R, n_selected)


def test_all_features_selected_means_no_penalty():
    tuned = tune_epsilon(random_similarity(6, seed=0), 6)
    assert tuned.epsilon == np.inf
    assert np.array_equal(tuned.clique, np.arange(6))


def test_features_that_are_no_candidates_stay_out():
    R = random_similarity(12, seed=4)
    R[[2, 5]] = R[:, [2, 5]] = 0.0  # would be free
    candidate = ~np.isin(np.arange(12), [2, 5])
    tuned = tune_epsilon(R, 5, candidate=candidate, exact=True)
    assert not np.isin([2, 5], tuned.clique).any()
    assert tuned.epsilon == smallest_workable(R[np.ix_(candidate, candidate)], 5)
    with pytest.raises(InvalidInputError, match="from 1 to 10"):
        tune_epsilon(R, 11, candidate=candidate)


def test_exact_mode_corrects_a_poor_heuristic(monkeypatch):
    R = random_similarity(14, seed=6)
    monkeypatch.setattr(
        "qpm_opt.epsilon.max_clique_heuristic", lambda *_, **__: np.empty(0, dtype=np.intp)
    )
    assert not tune_epsilon(R, 6).proved
    tuned = tune_epsilon(R, 6, exact=True)
    assert tuned.proved and tuned.epsilon == smallest_workable(R, 6)


def test_without_time_there_is_still_a_valid_threshold():
    R = random_similarity(30, seed=0)
    tuned = tune_epsilon(R, 10, exact=True, time_limit=0.0)
    assert not tuned.proved
    assert all(R[u, v] < tuned.epsilon for u, v in combinations(tuned.clique.tolist(), 2))


@pytest.mark.parametrize(
    ("similarity", "match"),
    [
        (np.zeros((2, 3)), "symmetric matrix"),
        (np.triu(np.ones((3, 3))), "symmetric matrix"),
        (np.full((3, 3), np.nan), "NaN"),
        (np.zeros((1, 1)), "from 1 to 1"),
    ],
)
def test_bad_input_is_refused(similarity, match):
    with pytest.raises(InvalidInputError, match=match):
        tune_epsilon(similarity, 2)
    with pytest.raises(InvalidInputError, match="candidate has shape"):
        tune_epsilon(np.zeros((3, 3)), 2, candidate=np.ones(2, bool))


def test_real_instance_beats_the_published_threshold(data_dir):
    with np.load(data_dir / "instances" / "grocery_81x1024_raw.npz") as archive:
        R = np.zeros((1024, 1024))
        R[archive["R_row"], archive["R_col"]] = archive["R_val"]
        candidate = archive["A"].any(axis=0)
    R += R.T
    tuned = tune_epsilon(R, 50, candidate=candidate)
    assert tuned.epsilon <= 0.3008
    chosen = R[np.ix_(tuned.clique, tuned.clique)]
    assert chosen.max() < tuned.epsilon
    assert candidate[tuned.clique].all()
