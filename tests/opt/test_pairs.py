"""Contrastive pairs: which classes are close, which have become partners, what cannot be."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from qpm_opt.constants import problem_from_features
from qpm_opt.errors import InvalidInputError, InvalidProblemError
from qpm_opt.pairs import closest_class_pairs, contrastive_pairs_of, n_pairs_of_density
from qpm_opt.problem import Problem


@pytest.mark.parametrize("n_pairs", [0, 1, 7, 45])
def test_closest_pairs_have_the_least_distances(n_pairs):
    A = np.random.default_rng(n_pairs).normal(size=(10, 6))
    distance = squareform(pdist(A))
    pairs = closest_class_pairs(A, n_pairs)
    assert pairs.shape == (n_pairs, 2)
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert pairs.tolist() == sorted(pairs.tolist())
    expected = np.sort(distance[np.triu_indices(10, 1)])[:n_pairs]
    np.testing.assert_allclose(np.sort(distance[tuple(pairs.T)]), expected)


def closest_disjoint(distance, n_pairs):
    """Word for word: the closest pair, then the closest of the other classes, ..."""
    left, found = set(range(len(distance))), []
    for _ in range(n_pairs):
        pair = min(((c, e) for c in left for e in left if c < e), key=lambda pair: distance[pair])
        left -= set(pair)
        found.append(list(pair))
    return sorted(found)


@pytest.mark.parametrize("n_classes", [10, 11])
@pytest.mark.parametrize("n_pairs", [0, 1, 3, 5])
def test_disjoint_pairs_have_every_class_once(n_classes, n_pairs):
    A = np.random.default_rng(n_pairs).normal(size=(n_classes, 2))
    pairs = closest_class_pairs(A, n_pairs, disjoint=True)
    assert pairs.shape == (n_pairs, 2)
    assert pairs.tolist() == closest_disjoint(squareform(pdist(A)), n_pairs)


def test_equal_rows_are_paired_in_their_order():
    assert closest_class_pairs(np.ones((4, 3)) * 0.1, 2).tolist() == [[0, 1], [0, 2]]
    assert closest_class_pairs(np.zeros((4, 3)), 2, disjoint=True).tolist() == [[0, 1], [2, 3]]
    assert closest_class_pairs(np.zeros((0, 3)), 0).shape == (0, 2)
    assert closest_class_pairs(np.zeros((0, 3)), 0, disjoint=True).shape == (0, 2)
    assert closest_class_pairs(np.zeros((1, 3)), 0).shape == (0, 2)


@pytest.mark.parametrize("n_pairs", [-1, 4])
def test_there_are_not_so_many_pairs(n_pairs):
    with pytest.raises(InvalidInputError, match="3 classes have 3 pairs"):
        closest_class_pairs(np.eye(3), n_pairs)
    with pytest.raises(InvalidInputError, match="3 classes have 1 disjoint pairs"):
        closest_class_pairs(np.eye(3), 2, disjoint=True)


def test_density():
    assert n_pairs_of_density(0.5, 195) == 97
    assert n_pairs_of_density(0.0, 1) == 0
    assert n_pairs_of_density(0.29, 100) == 29
    for density in (-0.1, float("nan"), float("inf"), 1.5):
        with pytest.raises(InvalidInputError, match="density"):
            n_pairs_of_density(density, 3)


def test_pairs_of_an_assignment():
    W = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0]], bool)
    # Equal rows are no pair, nor are rows of different size.
    assert contrastive_pairs_of(W).tolist() == [[0, 1], [1, 2], [1, 3]]
    assert contrastive_pairs_of(np.zeros((3, 4), bool)).shape == (0, 2)


def problem(pairs, n_classes=12, p=4, k=2, **options):
    A = np.zeros((n_classes, 6))
    return Problem(
        A,
        np.zeros((6, 6)),
        n_selected=p,
        n_per_class=k,
        contrastive_pairs=pairs,
        distinct=options.pop("distinct", False),
        **options,
    )


def test_impossible_pairs_are_diagnosed_in_words():
    star = [(0, c) for c in range(1, 6)]
    with pytest.raises(InvalidProblemError, match=r"Class 0 is in 5 .* only 4 sets of 2 out of 4"):
        problem(star, n_classes=6, distinct=True)
    problem(star, n_classes=6)  # its partners may be alike
    clique = [(c, e) for c in range(4) for e in range(c)]
    with pytest.raises(InvalidProblemError, match=r"Classes 0, 1, 2, 3 are all paired .* most 3"):
        problem(clique)
    problem(clique, p=5, k=1)
    problem(clique, p=5)


def features(seed=0, n_classes=6):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_classes), 8)
    centres = rng.normal(size=(n_classes, 12))
    return centres[labels] + 0.5 * rng.normal(size=(labels.size, 12)), labels


def test_density_makes_pairs_of_the_problem():
    options = {"n_selected": 6, "n_per_class": 2, "pair_density": 0.5}
    closest = problem_from_features(*features(), **options)
    assert closest.pairs.tolist() == closest_class_pairs(closest.class_similarity, 3).tolist()
    assert closest.min_contrastive_pairs == 0
    disjoint = problem_from_features(*features(), pairs="disjoint", **options)
    assert sorted(disjoint.pairs.ravel()) == list(range(6))
    any_pairs = problem_from_features(*features(), pairs="any", **options)
    assert any_pairs.min_contrastive_pairs == 3
    assert len(any_pairs.pairs) == 0
    with pytest.raises(InvalidInputError, match="source of pairs"):
        problem_from_features(*features(), pairs="all", **options)
    with pytest.raises(InvalidInputError, match="give them or it"):
        problem_from_features(*features(), contrastive_pairs=[(0, 1)], **options)
