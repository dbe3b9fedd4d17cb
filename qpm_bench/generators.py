"""Seeded problems with the structure of real ones, of any size; data on a grid."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from qpm_opt import InvalidInputError, Problem
from qpm_opt.constants import FeatureStatistics, problem_from_statistics

#: Computed instances of the registry hold multiples of this.
GRID = 2.0**-20

_IMAGES_PER_CLASS = 20
_NOISE = 0.6  # of an attribute in an image; an attribute that is present has strength 1
_CLASSES_AT_ONCE = 50


def paper_like(
    n_classes: int,
    n_features: int,
    *,
    n_selected: int = 50,
    n_per_class: int = 5,
    seed: int = 0,
) -> Problem:
    """Problem whose constants have the structure of those of a fine-grained image data set.

    Classes come in families: those of a family share most of their visual attributes. A feature
    responds to one to three attributes, at its own strength and threshold, as ReLU features do. The
    constants are computed from such features (and a random locality) exactly as from real ones.

    Parameters
    ----------
    n_classes, n_features : int
        Sizes, for example 200 and 2048.
    n_selected, n_per_class : int
        p and k of the problem.
    seed : int
        The problem depends on the arguments and this alone.

    Raises
    ------
    InvalidInputError
        If no problem of these sizes exists.
    """
    if n_classes < 1 or n_features < 1:
        raise InvalidInputError(
            f"n_classes is {n_classes} and n_features is {n_features}; at least 1 was expected."
        )
    rng = np.random.default_rng(seed)
    n_attributes = 16 + 4 * math.ceil(math.sqrt(n_classes))
    attributes = _class_attributes(n_classes, n_attributes, rng)
    directions = _feature_directions(n_features, n_attributes, rng)
    threshold = rng.uniform(0.0, 1.0, n_features)
    statistics = FeatureStatistics(n_classes, n_features)
    for start in range(0, n_classes, _CLASSES_AT_ONCE):
        classes = np.arange(start, min(start + _CLASSES_AT_ONCE, n_classes))
        labels = np.repeat(classes, _IMAGES_PER_CLASS)
        present = attributes[labels]
        present = present + rng.normal(scale=_NOISE, size=present.shape)
        response = present @ directions - threshold
        response += rng.normal(scale=_NOISE, size=response.shape)
        statistics.update(np.maximum(response, 0.0), labels)
    return problem_from_statistics(
        statistics,
        n_selected=n_selected,
        n_per_class=n_per_class,
        locality=rng.beta(2.0, 8.0, n_features),
        seed=seed,
        name=f"paper_like_{n_classes}x{n_features}_{seed}",
        source="generated: class families with sparse attributes, ReLU features",
    )


def on_grid(problem: Problem) -> Problem:
    """The problem with A, R and b rounded to multiples of :data:`GRID`.

    Different builds of NumPy and its linear algebra, and different processors, disagree in the last
    digits of computed constants. Rounded far above those, they agree on the very same problem, and
    objectives are sums without rounding. An entry in the middle between two multiples, as far as
    rounding errors go (one in 10^8), may go either way: the hash of the registry notices.
    """

    def rounded(array: np.ndarray) -> np.ndarray:
        return np.round(array / GRID) * GRID + 0.0

    return replace(
        problem,
        class_similarity=rounded(problem.class_similarity),
        feature_similarity=rounded(problem.feature_similarity),
        feature_bias=rounded(problem.bias),
        source=f"{problem.source}; rounded to multiples of 2^-20",
    )


def _class_attributes(n_classes: int, n_attributes: int, rng: np.random.Generator) -> np.ndarray:
    """0/1 array (n_classes, n_attributes): the family's attributes, a tenth of them changed."""
    n_families = math.ceil(math.sqrt(n_classes))
    families = rng.random((n_families, n_attributes)) < 0.25
    changed = rng.random((n_classes, n_attributes)) < 0.1
    return (families[np.arange(n_classes) % n_families] ^ changed).astype(float)


def _feature_directions(n_features: int, n_attributes: int, rng: np.random.Generator) -> np.ndarray:
    """Weights (n_attributes, n_features) of one to three attributes a feature."""
    chosen = rng.random((n_attributes, n_features)).argsort(axis=0).argsort(axis=0)
    weights = rng.uniform(0.3, 1.0, (n_attributes, n_features))
    return np.where(chosen < rng.integers(1, 4, n_features), weights, 0.0)
