"""Why this class, and why not that one: what each feature of an image adds to a logit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from qpm_nn.explanations.canvas import INK, MUTED, RULE, STYLE
from qpm_nn.explanations.last_layer import LastLayer
from qpm_nn.explanations.lettering import printable
from qpm_nn.explanations.panel import EDGE, NAME_SIZE, label_room, titled_panel
from qpm_nn.explanations.plain import PlainData

#: Most features that a figure shows one by one.
MOST_TERMS = 16
# Inches.
ROW, BARS, VALUE, MOST_LABEL = 0.27, 3.4, 0.35, 3.2


@dataclass(frozen=True)
class Term(PlainData):
    """What a feature adds.

    Attributes
    ----------
    feature : int
        By its index in the backbone.
    position : int
        Its column among the selected ones.
    value : float
        The normalised feature.
    weight : float
        Of it in the class; between two classes, the difference of their weights.
    contribution : float
        ``weight * value``.
    """

    feature: int
    position: int
    value: float
    weight: float
    contribution: float


@dataclass(frozen=True)
class Contributions(PlainData):
    """A logit as a sum: ``bias`` and the contributions of ``terms`` add up to ``logit``.

    Attributes
    ----------
    class_index : int
    class_name : str
    terms : tuple of Term
        Of the features with a weight in the class, the largest contribution first.
    bias, logit : float
    """

    class_index: int
    class_name: str
    terms: tuple[Term, ...]
    bias: float
    logit: float


@dataclass(frozen=True)
class WhyNot(PlainData):
    """A class against another: ``bias`` and contributions of ``terms`` add up to ``difference``.

    Attributes
    ----------
    class_index, other_index : int
    class_name, other_name : str
    terms : tuple of Term
        Of the features with different weights in the two, the largest contribution first; what is
        positive speaks for the class, what is negative for the other one.
    n_shared : int
        Features with the same weight in both, other than 0: they decide nothing.
    bias : float
        Difference of the biases.
    difference : float
        Logit of the class less that of the other.
    """

    class_index: int
    class_name: str
    other_index: int
    other_name: str
    terms: tuple[Term, ...]
    n_shared: int
    bias: float
    difference: float


def contributions(layer: LastLayer, features: ArrayLike, c: int) -> Contributions:
    """What each feature of class ``c`` adds to its logit for an image.

    Parameters
    ----------
    layer : LastLayer
    features : array of shape (n_selected,)
        Of the image, as the head normalises them.
    c : int

    Raises
    ------
    InvalidInputError
        If there is no such class or the features do not fit.
    """
    values, c = layer.image(features), layer.class_index(c)
    terms = make_terms(layer, values, layer.weight[c])
    bias = float(layer.bias[c])
    logit = bias + sum(term.contribution for term in terms)
    return Contributions(c, layer.class_names[c], terms, bias, logit)


def why_not(
    layer: LastLayer, features: ArrayLike, other: int | None = None, c: int | None = None
) -> WhyNot:
    """The features that decide between the predicted class of an image and another one.

    Parameters
    ----------
    layer : LastLayer
    features : array of shape (n_selected,)
    other : int, optional
        By default the second-best class: with the largest logit but for ``c``.
    c : int, optional
        Instead of the prediction.

    Raises
    ------
    InvalidInputError
        If there is no such class, or no second one, or both are the same, or the features do not
        fit.
    """
    values = layer.image(features)
    logits = layer.logits(values[None])[0]
    c = int(logits.argmax()) if c is None else layer.class_index(c)
    other = layer.runner_up(logits, c) if other is None else layer.other_class(other, c)
    terms = make_terms(layer, values, layer.weight[c] - layer.weight[other])
    bias = float(layer.bias[c] - layer.bias[other])
    both = (layer.weight[c] == layer.weight[other]) & (layer.weight[c] != 0)
    return WhyNot(
        class_index=c,
        class_name=layer.class_names[c],
        other_index=other,
        other_name=layer.class_names[other],
        terms=terms,
        n_shared=int(both.sum()),
        bias=bias,
        difference=bias + sum(term.contribution for term in terms),
    )


def make_terms(
    layer: LastLayer, values: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[Term, ...]:
    """Terms of the features with a weight, the largest contribution first."""
    contribution = weight * values
    own = np.flatnonzero(weight)
    order = own[np.argsort(-contribution[own], kind="stable")]
    return tuple(
        Term(
            feature=int(layer.selected[j]),
            position=j,
            value=float(values[j]),
            weight=float(weight[j]),
            contribution=float(contribution[j]),
        )
        for j in order.tolist()
    )


@rc_context(STYLE)
def draw_contributions(found: Contributions, colours: Mapping[int, str]) -> Figure:
    """Waterfall from 0 to the logit, a bar for each feature in its colour.

    Parameters
    ----------
    found : Contributions
    colours : mapping of int to str
        Of all features of the head, by :func:`feature_colours`.
    """
    title = f"Why {printable(found.class_name)}?"
    caption = (
        "Bars add up to the logit. In brackets: the feature in standard deviations from its mean"
    )
    caption += ", times its weight." if _has_sizes(found.terms) else "."
    return _waterfall(title, found.terms, found.bias, ("logit", found.logit), colours, caption)


@rc_context(STYLE)
def draw_why_not(found: WhyNot, colours: Mapping[int, str]) -> Figure:
    """Waterfall from 0 to the difference of two logits, a bar for each deciding feature.

    Parameters
    ----------
    found : WhyNot
    colours : mapping of int to str
        Of all features of the head, by :func:`feature_colours`.
    """
    name, other = printable(found.class_name), printable(found.other_name)
    title = f"Why {name}, not {other}?"
    caption = (
        "Bars add up to the difference of the logits; to the right speaks for the first class. In "
        "brackets: the feature in standard deviations from its mean, times the difference of its "
        "weights."
    )
    if found.n_shared:
        n = found.n_shared
        caption += (
            f" {n} feature{'s' if n > 1 else ''} of both decide{'' if n > 1 else 's'} nothing."
        )
    return _waterfall(
        title, found.terms, found.bias, ("difference", found.difference), colours, caption
    )


def _has_sizes(terms: Sequence[Term]) -> bool:
    return any(term.weight != 1 for term in terms)


def _waterfall(
    title: str,
    terms: Sequence[Term],
    bias: float,
    total: tuple[str, float],
    colours: Mapping[int, str],
    caption: str,
) -> Figure:
    steps = _steps(terms, bias, colours)
    labels = [label for label, _, _ in steps] + [total[0]]
    left = label_room(labels, MOST_LABEL)
    height = ROW * len(labels)
    axes = titled_panel(title, caption, left, BARS, height, right=VALUE + EDGE)
    _draw_steps(axes, steps, total[1])
    axes.set_yticks(range(len(labels)), labels, fontsize=NAME_SIZE, color=INK)
    axes.get_yticklabels()[-1].set_fontweight("bold")
    return axes.figure


def _steps(
    terms: Sequence[Term], bias: float, colours: Mapping[int, str]
) -> list[tuple[str, float, str]]:
    """Label, amount and colour of each bar; the smallest contributions in one if there are many."""
    kept = set(range(len(terms)))
    if len(terms) > MOST_TERMS:
        size = np.array([abs(term.contribution) for term in terms])
        kept = set(np.argsort(-size, kind="stable")[: MOST_TERMS - 1].tolist())
    steps = [("bias", bias, MUTED)] if bias else []
    for i, term in enumerate(terms):
        if i in kept:
            factor = "" if term.weight == 1 else f" x {term.weight:+.3g}"
            label = f"feature {term.feature} ({term.value:+.2f}{factor})"
            steps.append((label, term.contribution, colours[term.feature]))
    if len(kept) < len(terms):
        rest = sum(term.contribution for i, term in enumerate(terms) if i not in kept)
        steps.append((f"{len(terms) - len(kept)} smaller ones", rest, MUTED))
    return steps


def _draw_steps(axes: Axes, steps: Sequence[tuple[str, float, str]], total: float) -> None:
    reached = np.cumsum([0.0, *(amount for _, amount, _ in steps)])
    low, high = min(reached.min(), total, 0.0), max(reached.max(), total, 0.0)
    span = high - low or 1.0
    axes.set_xlim(low - 0.02 * span, high + 0.14 * span)
    axes.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
    bars = [*((start, amount, colour) for start, (_, amount, colour)
              in zip(reached, steps, strict=False)), (0.0, total, INK)]  # fmt: skip
    for i, (start, amount, colour) in enumerate(bars):
        axes.barh(i, amount, left=start, height=0.66, color=colour, linewidth=0, zorder=2)
        end = max(start, start + amount)
        weight = "bold" if i == len(steps) else "normal"
        where = (end + 0.012 * span, i)
        axes.text(
            *where, f"{amount:+.2f}", fontsize=NAME_SIZE, va="center", color=INK, weight=weight
        )
        if i < len(steps):
            line = [start + amount] * 2
            axes.plot(line, [i + 0.33, i + 0.67], color=MUTED, linewidth=0.8, zorder=1)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.axhline(len(steps) - 0.5, color=RULE, linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
