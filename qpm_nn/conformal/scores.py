"""Nonconformity scores of every class for every image: the lower, the better a class conforms.

Any of them gives valid sets; they differ in how large the sets are and what is in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from qpm_nn.hierarchy import shared_depth, sort_features
from qpm_nn.metrics.checks import as_labels, check_finite, check_shape
from qpm_opt import InvalidInputError

#: Activations that are sorted at once: 32 MiB for each tensor of them.
CHUNK = 2**22


def lac(logits: ArrayLike | Tensor) -> Tensor:
    """1 - probability of the class: the smallest sets on average.

    Parameters
    ----------
    logits : Tensor of shape (n_images, n_classes)

    Returns
    -------
    Tensor of shape (n_images, n_classes), float64

    Raises
    ------
    InvalidInputError
        If the shape is another one or a logit is NaN or infinite.

    References
    ----------
    Sadinle, Lei and Wasserman, Least ambiguous set-valued classifiers, JASA 2019. Also named THR.
    """
    return 1 - as_logits(logits).softmax(1)


def aps(logits: ArrayLike | Tensor, uniforms: Tensor | None = None) -> Tensor:
    """Probability of all more probable classes and a part of that of the class itself.

    Sets adapt to how hard an image is and are larger than those of :func:`lac`.

    Parameters
    ----------
    logits : Tensor of shape (n_images, n_classes)
        Of equally probable classes the one with the lower label is the first.
    uniforms : Tensor of shape (n_images,), optional
        The part of each image, independent and uniform on [0, 1]. 1 by default: no randomness, and
        coverage above the target.

    Returns
    -------
    Tensor of shape (n_images, n_classes), float64

    Raises
    ------
    InvalidInputError
        If shapes do not fit, a logit is NaN or infinite, or a part is not in [0, 1].

    References
    ----------
    Romano, Sesia and Candès, Classification with valid and adaptive coverage, NeurIPS 2020.
    """
    ranking = _rank(logits)
    return _cumulative(ranking, _as_uniforms(uniforms, ranking.rank))


def raps(
    logits: ArrayLike | Tensor,
    uniforms: Tensor | None = None,
    *,
    penalty: float = 0.01,
    k_reg: float = 5,
) -> Tensor:
    """:func:`aps` plus ``penalty`` for each rank beyond ``k_reg``, which cuts off long tails.

    The first rank is 1. Other parameters, returned values and errors are those of :func:`aps`.

    References
    ----------
    Angelopoulos et al., Uncertainty sets for image classifiers, ICLR 2021, eq. 4.
    """
    ranking = _rank(logits)
    excess = (ranking.rank - k_reg).clamp_min(0)
    return _cumulative(ranking, _as_uniforms(uniforms, ranking.rank)) + penalty * excess


def saps(
    logits: ArrayLike | Tensor, uniforms: Tensor | None = None, *, weight: float = 0.2
) -> Tensor:
    """Largest probability plus ``weight`` for each further rank: only ranks and one probability.

    The class of rank 1 has a part of its probability, that of rank r > 1 has the whole largest
    probability and ``weight * (r - 2 + part)``. Parameters, returned values and errors are those of
    :func:`aps`.

    References
    ----------
    Huang et al., Conformal prediction for deep classifier via label ranking, ICML 2024, eq. 9.
    """
    probabilities, rank, _ = _rank(logits)
    part = _as_uniforms(uniforms, rank)
    largest = probabilities.amax(1, keepdim=True)
    return torch.where(rank == 1, part * largest, largest + weight * (rank - 2 + part))


def hierarchical(
    features: ArrayLike | Tensor,
    assignment: ArrayLike | Tensor,
    predicted: ArrayLike | Tensor,
    level: int | Tensor,
) -> Tensor:
    """Evidence that the class lacks, among classes that share features with the prediction.

    With d the number of leading features that class c shares with the prediction and E the sum of
    the activations of a class's features, its score at level l is ::

        E(prediction) - E(c)    if d >= l,
        infinity                if d < l.

    Where logits are sums of active features this is the distance of the logits. Like :func:`lac` it
    compares classes with each other, which makes sets far smaller than the evidence for the class
    by itself, the score of the paper (:func:`chiqpm`).

    Parameters
    ----------
    features : Tensor of shape (n_images, n_selected)
        Normalised features; see :func:`~qpm_nn.hierarchy.sort_features`.
    assignment : Tensor of shape (n_classes, n_selected), bool
    predicted : Tensor of shape (n_images,), int
        Label of the predicted class.
    level : int or Tensor of shape (n_classes,), int
        l, from 0 to ``n_per_class``; a tensor has one for each class.

    Returns
    -------
    Tensor of shape (n_images, n_classes), float64
        Finite or plus infinity.

    Raises
    ------
    InvalidInputError
        If shapes do not fit, a feature is not finite, or labels or levels are out of range.
    """
    return _at_level("hierarchical", features, assignment, predicted, level)


def chiqpm(
    features: ArrayLike | Tensor,
    assignment: ArrayLike | Tensor,
    predicted: ArrayLike | Tensor,
    level: int | Tensor,
) -> Tensor:
    """Evidence for the class, negative, among classes that share features with the prediction.

    With d the number of leading features that class c shares with the prediction and f*_j the j-th
    strongest activation of the features of c, its score at level l is ::

        -(f*_{d+1} + f*_{l+1} + ... + f*_d)   if d >= l, without the first term if d = n_per_class,
        infinity                              if d < l.

    Parameters, returned values and errors are those of :func:`hierarchical`.

    References
    ----------
    CHiQPM, NeurIPS 2025, eqs. 10 to 13. There, classes outside of the level score 0, as if they
    conformed like a class without evidence; a threshold of 0 then lets all of them in.
    """
    return _at_level("chiqpm", features, assignment, predicted, level)


def _at_level(
    method: str,
    features: ArrayLike | Tensor,
    assignment: ArrayLike | Tensor,
    predicted: ArrayLike | Tensor,
    level: int | Tensor,
) -> Tensor:
    features, assignment = as_hierarchy_input(features, assignment)
    predicted = torch.from_numpy(as_labels(predicted, len(features), len(assignment)))
    n_per_class = int(assignment[:1].sum())
    levels = torch.as_tensor(level, device=features.device)
    if levels.numel() and not 0 <= int(levels.min()) <= int(levels.max()) <= n_per_class:
        raise InvalidInputError(
            f"level goes from {int(levels.min())} to {int(levels.max())}; 0 to {n_per_class}, the "
            "features of a class, was expected."
        )
    terms = HIERARCHIES[method](features, assignment, predicted.to(features.device))
    return terms.scores(levels.expand(terms.depth.shape))


class HierarchyTerms(NamedTuple):
    """What the scores of a hierarchical method at all levels are made of.

    Attributes
    ----------
    depth : Tensor of shape (n_images, n_classes), int
        Leading features shared with the prediction.
    own : Tensor of shape (n_images, n_classes)
        What the score of a class has at any level,
    common : Tensor of shape (n_images, n_per_class + 1)
        and what the scores of all classes have at a level.
    """

    depth: Tensor
    own: Tensor
    common: Tensor

    def scores(self, levels: Tensor) -> Tensor:
        """Scores of shape (n_images, n_classes), as are the levels."""
        score = self.own + self.common.gather(1, levels)
        return score.masked_fill_(self.depth < levels, torch.inf)

    def scores_at_all_levels(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Depths and scores of one class of each image.

        Parameters
        ----------
        labels : Tensor of shape (n_images,), int

        Returns
        -------
        Tensor of shape (n_images,), int
            Depths.
        Tensor of shape (n_images, n_per_class + 1)
            Scores at levels 0, 1, ...
        """
        depth, own = self.depth.gather(1, labels[:, None]), self.own.gather(1, labels[:, None])
        levels = torch.arange(self.common.shape[1], device=depth.device)
        return depth.squeeze(1), (own + self.common).masked_fill_(depth < levels, torch.inf)


def _lacking_terms(features: Tensor, assignment: Tensor, predicted: Tensor) -> HierarchyTerms:
    """Terms of :func:`hierarchical`, of checked parameters."""
    ordered = sort_features(features, assignment)
    # In this order: classes with equal activations have equal sums.
    evidence = ordered.values.sum(2)
    lacking = evidence.gather(1, predicted[:, None]) - evidence
    common = evidence.new_zeros(len(features), ordered.values.shape[2] + 1)
    return HierarchyTerms(shared_depth(ordered, predicted), lacking, common)


def _evidence_terms(features: Tensor, assignment: Tensor, predicted: Tensor) -> HierarchyTerms:
    """Terms of :func:`chiqpm`, of checked parameters."""
    ordered = sort_features(features, assignment)
    depth = shared_depth(ordered, predicted)
    padded = torch.nn.functional.pad(ordered.values, (0, 1))
    differing = padded.gather(2, depth.unsqueeze(2)).squeeze(2)
    images = torch.arange(len(features), device=features.device)
    # Only leading features that are shared enter a score, and those are the same for all classes.
    leading = ordered.values[images, predicted].cumsum(1)
    leading = torch.nn.functional.pad(leading, (1, 0))
    return HierarchyTerms(depth, -(differing + leading.gather(1, depth)), leading)


#: What the scores of the hierarchical methods are made of, from checked features, assignment and
#: predicted classes.
HIERARCHIES: dict[str, Callable[[Tensor, Tensor, Tensor], HierarchyTerms]] = {
    "hierarchical": _lacking_terms,
    "chiqpm": _evidence_terms,
}


def chunks(n_images: int, n_values: int) -> Iterator[slice]:
    """Ranges of images that have no more than ``CHUNK`` values together, ``n_values`` each."""
    size = max(1, CHUNK // max(1, n_values))
    return (slice(first, first + size) for first in range(0, n_images, size))


def as_logits(values: ArrayLike | Tensor) -> Tensor:
    """Logits of shape (n_images, n_classes) in float64; others raise InvalidInputError."""
    logits = torch.as_tensor(values).detach()
    if logits.ndim != 2 or not logits.shape[1]:
        raise InvalidInputError(
            f"logits has shape {tuple(logits.shape)}; (n_images, n_classes) with at least one "
            "class was expected."
        )
    check_finite("logits", logits)
    return logits.double()


def as_hierarchy_input(
    features: ArrayLike | Tensor | None,
    assignment: ArrayLike | Tensor | None,
    shape: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Features in float64 and the assignment; InvalidInputError if they do not fit.

    ``shape`` is (n_images, n_classes), if known.
    """
    if features is None or assignment is None:
        raise InvalidInputError("The hierarchical method needs features and assignment.")
    features = torch.as_tensor(features).detach().double()
    assignment = torch.as_tensor(assignment).to(features.device)
    if features.ndim != 2 or assignment.ndim != 2 or assignment.dtype != torch.bool:
        raise InvalidInputError(
            f"features has {features.ndim} dimensions, and assignment {assignment.ndim} and type "
            f"{assignment.dtype}; two dimensions each and bool were expected."
        )
    if shape is not None:
        check_shape("features", features, (shape[0], features.shape[1]))
        check_shape("assignment", assignment, (shape[1], assignment.shape[1]))
    return features, assignment


class _Ranking(NamedTuple):
    probabilities: Tensor
    rank: Tensor
    order: Tensor


def _rank(logits: ArrayLike | Tensor) -> _Ranking:
    """Probabilities, ranks from 1 on and the classes by rank, each (n_images, n_classes)."""
    logits = as_logits(logits)
    # Logits, not probabilities: those may tie by rounding.
    order = logits.sort(dim=1, descending=True, stable=True).indices
    ranks = torch.arange(1, logits.shape[1] + 1, device=logits.device)
    rank = torch.empty_like(order).scatter_(1, order, ranks.expand_as(order))
    return _Ranking(logits.softmax(1), rank, order)


def _cumulative(ranking: _Ranking, part: Tensor) -> Tensor:
    """Mass of the classes up to each one, of whose own only a part counts."""
    probabilities, _, order = ranking
    mass = probabilities.gather(1, order).cumsum(1)
    return torch.empty_like(mass).scatter_(1, order, mass) - (1 - part) * probabilities


def _as_uniforms(uniforms: Tensor | None, rank: Tensor) -> Tensor:
    """Column of shape (n_images, 1) or (1, 1)."""
    if uniforms is None:
        return torch.ones(1, 1, dtype=torch.double, device=rank.device)
    part = torch.as_tensor(uniforms, dtype=torch.double, device=rank.device)
    check_shape("uniforms", part, (len(rank),))
    if not ((part >= 0) & (part <= 1)).all():
        raise InvalidInputError("A value of uniforms is not in [0, 1]; all were expected there.")
    return part[:, None]
