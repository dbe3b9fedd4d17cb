"""Calibration of prediction sets, and what is kept of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from qpm_nn.config import ConformalMethod, IncludeTop1
from qpm_nn.conformal.rules import (
    DepthRule,
    check_alpha,
    conformal_quantile,
    hierarchical_threshold,
)
from qpm_nn.conformal.scores import (
    HIERARCHIES,
    aps,
    as_hierarchy_input,
    as_logits,
    chunks,
    lac,
    raps,
    saps,
)
from qpm_nn.metrics.checks import as_labels
from qpm_opt import InvalidInputError

#: Parameters of the methods that have any.
PARAMETERS: dict[str, dict[str, float]] = {
    "raps": {"penalty": 0.01, "k_reg": 5},
    "saps": {"weight": 0.2},
}
#: Part of the miscoverage that the choice of the level may use up, see hierarchical_threshold. In
#: the paper the level takes all it can, and the threshold has what is left by chance.
LEVEL_SHARE = {"hierarchical": 0.75, "chiqpm": 1.0}
RANDOMISED: dict[str, Callable[..., Tensor]] = {"aps": aps, "raps": raps, "saps": saps}


@dataclass(frozen=True)
class Calibration:
    """Thresholds for prediction sets of one method and one coverage.

    Attributes
    ----------
    method : str
        ``hierarchical``, ``chiqpm``, ``lac``, ``aps``, ``raps`` or ``saps``.
    alpha : float
        Miscoverage: sets hold the class of a new image with a probability of at least 1 - alpha.
    n_classes, n_calibration : int
        Classes, and calibration points of all of them.
    thresholds : tuple of float
        Largest score of a class in the set; one for all classes or, if ``class_conditional``, one
        for each. Infinite where there are too few calibration points: always in the set. Empty for
        hierarchical methods.
    rules : tuple of DepthRule
        Of hierarchical methods, likewise one or one for each class: thresholds and levels by depth.
        Empty for other methods.
    class_conditional : bool
        Whether the coverage holds for the images of every class and not only for all together.
    include_top_1 : str
        When the prediction is added to a set that lacks it: ``always``, ``if_empty`` (the set) or
        ``never``. Adding only raises the coverage.
    seed : int or None
        Of the random numbers of APS, RAPS and SAPS; None without randomness.
    parameters : dict
        ``penalty`` and ``k_reg`` of RAPS, ``weight`` of SAPS.
    """

    method: ConformalMethod
    alpha: float
    n_classes: int
    n_calibration: int
    thresholds: tuple[float, ...] = ()
    rules: tuple[DepthRule, ...] = ()
    class_conditional: bool = False
    include_top_1: IncludeTop1 = "always"
    seed: int | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        for name, value in (("n_classes", self.n_classes), ("n_calibration", self.n_calibration)):
            if type(value) is not int or value < 1:
                raise InvalidInputError(f"{name} is {value!r}; a whole number was expected.")
        if type(self.class_conditional) is not bool:
            raise InvalidInputError(
                f"class_conditional is {self.class_conditional!r}; True or False was expected."
            )
        _check_settings(self.method, self.include_top_1, self.seed, self.parameters)
        n_rules = self.n_classes if self.class_conditional else 1
        found = len(self.thresholds), len(self.rules)
        expected = (0, n_rules) if self.method in HIERARCHIES else (n_rules, 0)
        if found != expected:
            raise InvalidInputError(
                f"A calibration has {found[0]} thresholds and {found[1]} rules; {expected[0]} and "
                f"{expected[1]} were expected."
            )
        n_levels = {len(values) for rule in self.rules for values in rule}
        if len(n_levels) > 1 or n_levels & {0, 1}:
            raise InvalidInputError(
                "Rules of a calibration are of different or too few depths; a level and a threshold"
                " for each depth, from 0 to the features of a class, were expected."
            )
        levels = [level for rule in self.rules for level in rule.levels]
        if not all(type(level) is int and 0 <= level < max(n_levels) for level in levels):
            raise InvalidInputError(
                "A level of a calibration is no depth; whole numbers from 0 to the features of a "
                "class were expected."
            )
        every = [*self.thresholds, *(t for rule in self.rules for t in rule.thresholds)]
        if not all(type(t) is float and not math.isnan(t) for t in every):
            raise InvalidInputError(
                "A threshold of a calibration is no number; numbers or infinity were expected."
            )

    def to_dict(self) -> dict[str, Any]:
        """The calibration in the types of JSON; an infinite threshold is None."""
        record = asdict(self)
        record["thresholds"] = _finite_or_none(self.thresholds)
        record["rules"] = [
            {"levels": list(rule.levels), "thresholds": _finite_or_none(rule.thresholds)}
            for rule in self.rules
        ]
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Calibration:
        """The calibration of which :meth:`to_dict` made the record.

        Raises
        ------
        InvalidInputError
            If the record lacks something, has something unknown or contradicts itself.
        """
        names = {each.name for each in fields(cls)}
        if set(record) != names:
            raise InvalidInputError(
                f"The record of a calibration has {sorted(record)}; {sorted(names)} was expected."
            )
        if any(set(rule) != set(DepthRule._fields) for rule in record["rules"]):
            raise InvalidInputError(
                f"A rule of a calibration has other entries than {', '.join(DepthRule._fields)}."
            )
        rules = (
            DepthRule(tuple(rule["levels"]), _none_is_infinite(rule["thresholds"]))
            for rule in record["rules"]
        )
        thresholds = _none_is_infinite(record["thresholds"])
        return cls(**{**record, "thresholds": thresholds, "rules": tuple(rules)})


def _finite_or_none(thresholds: Sequence[float]) -> list[float | None]:
    return [None if t == math.inf else t for t in thresholds]


def _none_is_infinite(thresholds: Sequence[float | None]) -> tuple[float, ...]:
    if not isinstance(thresholds, list) or not all(
        type(t) in (float, int, type(None)) for t in thresholds
    ):
        raise InvalidInputError("Thresholds of a calibration are no list of numbers.")
    return tuple(math.inf if t is None else float(t) for t in thresholds)


def calibrate(
    logits: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    alpha: float = 0.1,
    *,
    method: ConformalMethod = "hierarchical",
    features: ArrayLike | Tensor | None = None,
    assignment: ArrayLike | Tensor | None = None,
    class_conditional: bool = False,
    include_top_1: IncludeTop1 = "always",
    seed: int | None = None,
    parameters: Mapping[str, float] | None = None,
) -> Calibration:
    """Calibrate prediction sets.

    The sets of :func:`~qpm_nn.conformal.predict_set` hold the true class with a probability of at
    least 1 - alpha, on average over calibration points and a new image that are exchangeable:
    images that the network has not been trained or selected on, drawn like those to come.

    Parameters
    ----------
    logits : Tensor of shape (n_images, n_classes)
        Of the calibration points. The first largest is the prediction.
    labels : Tensor of shape (n_images,), int
    alpha : float
        Miscoverage, between 0 and 1. With fewer than 1 / alpha - 1 points, all classes are in every
        set.
    method : {'hierarchical', 'chiqpm', 'lac', 'aps', 'raps', 'saps'}
        Score; see the functions of these names.
    features : Tensor of shape (n_images, n_selected), optional
        Normalised features; only hierarchical methods need them and the assignment.
    assignment : Tensor of shape (n_classes, n_selected), bool, optional
        With equally many features for all classes.
    class_conditional : bool
        Calibrate every class with its own points, so that the images of every class are covered.
        Classes with fewer than 1 / alpha - 1 points are in every set.
    include_top_1 : {'always', 'if_empty', 'never'}
        Whether the prediction is in a set whose threshold excludes it. With 'never' sets may be
        empty. The guarantee holds for all three, as adding a class only raises the coverage.
    seed : int, optional
        Randomise APS, RAPS or SAPS, which makes their sets smaller and their coverage exact. By
        default the same image always has the same set.
    parameters : mapping, optional
        ``penalty`` and ``k_reg`` of RAPS, ``weight`` of SAPS. They must not be chosen on the
        calibration points.

    Returns
    -------
    Calibration

    Raises
    ------
    InvalidInputError
        If there are no points, shapes do not fit, labels are out of range, a value is NaN or
        infinite, or a setting is unknown.
    """
    (calibration,) = calibrate_each(
        logits,
        labels,
        (alpha,),
        method=method,
        features=features,
        assignment=assignment,
        class_conditional=class_conditional,
        include_top_1=include_top_1,
        seed=seed,
        parameters=parameters,
    )
    return calibration


def calibrate_each(
    logits: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    alphas: Sequence[float],
    *,
    method: ConformalMethod = "hierarchical",
    features: ArrayLike | Tensor | None = None,
    assignment: ArrayLike | Tensor | None = None,
    class_conditional: bool = False,
    include_top_1: IncludeTop1 = "always",
    seed: int | None = None,
    parameters: Mapping[str, float] | None = None,
) -> tuple[Calibration, ...]:
    """Calibrate for several coverages with scores that are computed once.

    Parameters and errors are those of :func:`calibrate`, with one calibration for each alpha.

    Notes
    -----
    A smaller alpha never has a smaller threshold, so the sets of LAC, APS, RAPS and SAPS only grow
    as alpha falls (but for ``if_empty`` with ``class_conditional``: a set that is empty no longer
    may lose the prediction). Hierarchical sets grow as a rule, but not always: the level falls with
    alpha, and more points at a lower level may have a smaller threshold together. The union of the
    sets of an alpha and of all larger ones only grows, and covers.
    """
    parameters = {**PARAMETERS.get(method, {}), **(parameters or {})}
    _check_settings(method, include_top_1, seed, parameters)
    for alpha in alphas:
        check_alpha(alpha)
    logits = as_logits(logits)
    n_images, n_classes = logits.shape
    labels = torch.from_numpy(as_labels(labels, n_images, n_classes)).to(logits.device)
    if not n_images:
        raise InvalidInputError("There are no calibration points; at least one was expected.")
    groups = (
        [(labels == c).nonzero().squeeze(1) for c in range(n_classes)]
        if class_conditional
        else [torch.arange(n_images, device=logits.device)]
    )
    thresholds: list[dict[str, tuple[Any, ...]]]
    if method in HIERARCHIES:
        depth, scores = _true_class_in_hierarchy(method, logits, labels, features, assignment)
        share = LEVEL_SHARE[method]
        thresholds = [
            {
                "rules": tuple(
                    hierarchical_threshold(depth[group], scores[group], alpha, share)
                    for group in groups
                )
            }
            for alpha in alphas
        ]
    else:
        # Other random numbers than those of images to come, see predict_set.
        uniforms = draw_uniforms(n_images, seed, 0)
        true_class = class_scores(method, logits, uniforms, parameters).gather(1, labels[:, None])
        thresholds = [
            {"thresholds": tuple(conformal_quantile(true_class[group, 0], a) for group in groups)}
            for a in alphas
        ]
    return tuple(
        Calibration(
            method=method,
            alpha=float(alpha),
            n_classes=n_classes,
            n_calibration=n_images,
            class_conditional=class_conditional,
            include_top_1=include_top_1,
            seed=seed,
            parameters=dict(parameters),
            **found,
        )
        for alpha, found in zip(alphas, thresholds, strict=True)
    )


def class_scores(
    method: str, logits: Tensor, uniforms: Tensor | None, parameters: Mapping[str, float]
) -> Tensor:
    """Scores of a method that needs only logits, of shape (n_images, n_classes)."""
    return lac(logits) if method == "lac" else RANDOMISED[method](logits, uniforms, **parameters)


def draw_uniforms(n_images: int, seed: int | None, stream: int) -> Tensor | None:
    """Random numbers of the images, independent for every stream of a seed; None without seed."""
    if seed is None:
        return None
    return torch.from_numpy(np.random.default_rng([seed, stream]).random(n_images))


def _true_class_in_hierarchy(
    method: str,
    logits: Tensor,
    labels: Tensor,
    features: ArrayLike | Tensor | None,
    assignment: ArrayLike | Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Depths and scores at all levels of the true classes."""
    n_images, n_classes = logits.shape
    features, assignment = as_hierarchy_input(features, assignment, (n_images, n_classes))
    labels, predicted = labels.to(features.device), logits.argmax(1).to(features.device)
    found = [
        HIERARCHIES[method](features[part], assignment, predicted[part]).scores_at_all_levels(
            labels[part]
        )
        for part in chunks(n_images, int(assignment.sum()))
    ]
    depths, scores = zip(*found, strict=True)
    return torch.cat(depths).to(logits.device), torch.cat(scores).to(logits.device)


def _check_settings(
    method: str, include_top_1: str, seed: int | None, parameters: Mapping[str, float]
) -> None:
    if method not in get_args(ConformalMethod):
        raise InvalidInputError(
            f"method is {method!r}; one of {', '.join(get_args(ConformalMethod))} was expected."
        )
    if include_top_1 not in get_args(IncludeTop1):
        raise InvalidInputError(
            f"include_top_1 is {include_top_1!r}; one of {', '.join(get_args(IncludeTop1))} was "
            "expected."
        )
    if seed is not None and (method not in RANDOMISED or type(seed) is not int or seed < 0):
        raise InvalidInputError(
            f"seed is {seed} and method is {method}; a seed from 0 on and one of "
            f"{', '.join(RANDOMISED)} were expected: other methods have no randomness."
        )
    known = PARAMETERS.get(method, {})
    if not isinstance(parameters, Mapping) or set(parameters) != set(known):
        raise InvalidInputError(
            f"parameters of {method} are {sorted(parameters)}; {sorted(known)} was expected."
        )
    for name, value in parameters.items():
        if not 0 <= value < math.inf:
            raise InvalidInputError(f"{name} is {value}; a number from 0 on was expected.")
