"""What the covers of representative interpretations say of a model whose classes are features.

Behind an assignment head nothing has to be sampled: the boundary between two classes is
(w_a - w_b) f = 0, of at most 2 (k - shared) features, and there is one for each pair. The region of
a class is then the class, and the questions worth asking are others: which rivals have to be ruled
out, and which images do the same few features explain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qpm_nn.explanations.heat import active_means
from qpm_nn.metrics.checks import as_labels, as_matrix
from qpm_opt import InvalidInputError
from qpm_opt.cover import CoverProblem, CoverResult, minimum_set_cover, solve_cover
from qpm_opt.result import SolutionStatus

#: A feature is active above this part of its active mean, as contours in heat maps have it.
ACTIVE = 0.5


@dataclass(frozen=True)
class Rival:
    """A class to be ruled out, and the features in which it differs.

    Attributes
    ----------
    c : int
    n_images : int
        Reference images of other classes in which it is ahead of the predicted class.
    for_prediction, for_rival : list of int
        Positions among the selected features that speak for one of the two classes more than for
        the other. The prediction wins if the former have the larger sum.
    """

    c: int
    n_images: int
    for_prediction: list[int]
    for_rival: list[int]


@dataclass(frozen=True)
class RivalsToRuleOut:
    """The fewest classes that a class has to be ahead of, to be told from all others.

    Attributes
    ----------
    c : int
        The predicted class.
    rivals : list of Rival
        No reference image of another class has a larger score for c than for each of them; those
        ahead in the most images first.
    n_images : int
        Reference images predicted as other classes.
    bound : int or None
        No fewer rivals suffice; None if the time limit came before any bound.
    is_proved : bool
        Whether no fewer rivals suffice than were found.
    """

    c: int
    rivals: list[Rival]
    n_images: int
    bound: int | None
    is_proved: bool

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "class": self.c,
            "n_images_of_others": self.n_images,
            "bound": self.bound,
            "is_proved": self.is_proved,
            "rivals": [
                {
                    "class": rival.c,
                    "n_images": rival.n_images,
                    "for_prediction": rival.for_prediction,
                    "for_rival": rival.for_rival,
                }
                for rival in self.rivals
            ],
        }


@dataclass(frozen=True, eq=False)
class SharedPattern:
    """The largest group of images of a class that the same few features tell from other classes.

    Attributes
    ----------
    c : int
        The predicted class.
    active, inactive : list of int
        Positions among the selected features that are active, or not active, in all of the group.
    covered : array of shape (n_images,), bool
        Reference images with this pattern.
    n_same, n_other : int
        Images that are predicted as the class, and others, with it. The latter have all features
        active that the image has, and no other.
    n_class : int
        Images that are predicted as the class.
    cover : CoverResult
    """

    c: int
    active: list[int]
    inactive: list[int]
    covered: NDArray[np.bool_]
    n_same: int
    n_other: int
    n_class: int
    cover: CoverResult

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "class": self.c,
            "active": self.active,
            "inactive": self.inactive,
            "n_same": self.n_same,
            "n_other": self.n_other,
            "n_class": self.n_class,
            "bound": self.cover.bound,
            "termination_condition": str(self.cover.termination_condition),
        }


def rivals_to_rule_out(
    features: ArrayLike, weight: ArrayLike, c: int, time_limit: float = 10.0
) -> RivalsToRuleOut:
    """The smallest set of rivals that has to be ruled out to single out a class.

    A set cover, solved to proof: an image of another class is excluded by a rival whose score is
    the larger one in it.

    Parameters
    ----------
    features : array of shape (n_images, n_selected)
        Normalised features of the reference images.
    weight : array of shape (n_classes, n_selected)
        Of the head, without a bias.
    c : int
        The class that is predicted.
    time_limit : float
        Seconds.

    Raises
    ------
    InvalidInputError
        If the shapes do not fit, or there is no such class.
    """
    weight = as_matrix("weight", weight)
    features = as_matrix("features", features, weight.shape[1])
    if not 0 <= c < len(weight):
        raise InvalidInputError(
            f"There is no class {c}; labels from 0 to {len(weight) - 1} were expected."
        )
    scores = features @ weight.T
    predicted = scores.argmax(axis=1)
    others = scores[predicted != c]
    # Of equal scores the first class is predicted, so a tie rules out for classes before c only.
    before = np.arange(len(weight)) < c
    is_ahead = np.where(before, others >= others[:, [c]], others > others[:, [c]])
    is_ahead[:, c] = False
    found = minimum_set_cover(is_ahead, time_limit=time_limit)
    difference = weight[c] - weight
    rivals = [
        Rival(
            int(rival),
            int(is_ahead[:, rival].sum()),
            np.flatnonzero(difference[rival] > 0).tolist(),
            np.flatnonzero(difference[rival] < 0).tolist(),
        )
        for rival in (() if found.sets is None else found.sets)
    ]
    rivals.sort(key=lambda rival: (-rival.n_images, rival.c))
    is_proved = found.solution_status is SolutionStatus.OPTIMAL
    return RivalsToRuleOut(c, rivals, len(others), found.bound, is_proved)


def shared_pattern(
    features: ArrayLike,
    predicted: ArrayLike,
    x: ArrayLike,
    c: int,
    *,
    method: str = "exact",
    time_limit: float = 10.0,
) -> SharedPattern:
    """The largest group of images that agree with x in a few features, and no image of others does.

    The maximum pattern around x (Bonates, Hammer, Kogan 2008) with the literals "the feature is
    active as in x". Active is what has at least half of its mean over images in which it is active.

    Parameters
    ----------
    features : array of shape (n_images, n_selected)
        Normalised features of the reference images.
    predicted : array of shape (n_images,), int
    x : array of shape (n_selected,)
        Those of the image to be explained.
    c : int
        Its predicted class.
    method : {"exact", "greedy"}
    time_limit : float
        Seconds.

    Raises
    ------
    InvalidInputError
        If the shapes do not fit or a value is not finite.
    """
    features = as_matrix("features", features)
    own = as_matrix("x", np.atleast_2d(np.asarray(x)), features.shape[1])
    if len(own) != 1:
        raise InvalidInputError(
            f"x has shape {own.shape}; the {features.shape[1]} features of one image were expected."
        )
    labels = as_labels(predicted, len(features))
    thresholds = ACTIVE * active_means(features)
    literals = own[0] >= thresholds
    problem = CoverProblem((features >= thresholds) != literals, labels == c)
    cover = solve_cover(problem, method=method, time_limit=time_limit)
    chosen = np.array(cover.boundaries, np.intp)
    covered = problem.covered(chosen)
    return SharedPattern(
        c,
        chosen[literals[chosen]].tolist(),
        chosen[~literals[chosen]].tolist(),
        covered,
        int((covered & problem.same).sum()),
        int((covered & ~problem.same).sum()),
        int(problem.same.sum()),
        cover,
    )
