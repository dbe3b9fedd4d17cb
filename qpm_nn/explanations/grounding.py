"""Whether classes that are alike in reality are alike to the model: pair by pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr

from qpm_nn.explanations.canvas import STYLE
from qpm_nn.explanations.last_layer import LastLayer
from qpm_nn.explanations.lettering import elided, printable
from qpm_nn.explanations.panel import plain_axes, titled_panel
from qpm_nn.explanations.plain import PlainData
from qpm_nn.metrics.checks import as_matrix
from qpm_nn.metrics.grounding import cosines, most_similar_share
from qpm_opt import InvalidInputError

#: Most pairs that are kept as points; the others count for the numbers only.
MOST_POINTS = 2000
#: Most em of a class name in the caption.
_NAME_EM = 16.0
TOP_COLOUR, COLOUR = "#d55e00", "#0072b2"
# Inches.
WIDTH, HEIGHT, LEFT, BELOW = 4.6, 3.4, 0.75, 0.5


@dataclass(frozen=True)
class PairSimilarity(PlainData):
    """Two classes, how alike they are in reality and to the model."""

    first: int
    second: int
    given: float
    model: float


@dataclass(frozen=True)
class GroundingScatter(PlainData):
    """Pairs of classes.

    Attributes
    ----------
    top : tuple of PairSimilarity
        The pairs that are most alike in reality, the most alike first: those of the metric.
    others : tuple of PairSimilarity
        Of the rest, at most 2000: taken evenly, in the order of how alike they are.
    n_pairs : int
        All that there are.
    structural_grounding : float or None
        See :func:`~qpm_nn.metrics.structural_grounding`; None if one of the top pairs has no
        positive similarity, for a share of it then says nothing.
    rank_correlation : float or None
        Spearman's, of all pairs; None if one of the two is constant.
    class_names : tuple of str
    """

    top: tuple[PairSimilarity, ...]
    others: tuple[PairSimilarity, ...]
    n_pairs: int
    structural_grounding: float | None
    rank_correlation: float | None
    class_names: tuple[str, ...]


def grounding_scatter(
    layer: LastLayer, similarity: ArrayLike, *, n_top: int = 25
) -> GroundingScatter:
    """Similarity of classes in the model, cosines of their weights, beside a given one.

    Parameters
    ----------
    layer : LastLayer
    similarity : array of shape (n_classes, n_classes)
        Symmetric, of any kind: :func:`~qpm_nn.metrics.attribute_similarity` of attributes or of
        rows of A, :func:`~qpm_nn.metrics.hierarchy_similarity` of parents.
    n_top : int
        Number of most similar pairs that count for structural grounding, as in the paper.

    Raises
    ------
    InvalidInputError
        If the shape does not fit, a value is NaN or infinite, or ``n_top`` is not positive.
    """
    given = as_matrix("similarity", similarity, layer.n_classes)
    if given.shape[0] != layer.n_classes or not np.allclose(given, given.T):
        raise InvalidInputError(
            f"similarity has shape {given.shape}; a symmetric matrix of {layer.n_classes} classes "
            "was expected."
        )
    model = cosines(layer.weight)
    first, second = np.triu_indices(layer.n_classes, 1)
    truth, found = given[first, second], model[first, second]
    order = np.argsort(-truth, kind="stable")
    rest = order[n_top:]
    if len(rest) > MOST_POINTS:
        rest = rest[np.linspace(0, len(rest) - 1, MOST_POINTS).round().astype(np.intp)]

    def pairs(which: NDArray[np.intp]) -> tuple[PairSimilarity, ...]:
        columns = (part[which].tolist() for part in (first, second, truth, found))
        return tuple(PairSimilarity(*values) for values in zip(*columns, strict=True))

    varies = len(truth) > 1 and np.ptp(truth) > 0 and np.ptp(found) > 1e-12
    means_something = bool(len(truth)) and truth[order[:n_top]].min() > 0
    grounding = most_similar_share(model, given, n_top)
    return GroundingScatter(
        top=pairs(order[:n_top]),
        others=pairs(rest),
        n_pairs=len(truth),
        structural_grounding=grounding if means_something else None,
        rank_correlation=float(spearmanr(truth, found.round(9)).statistic) if varies else None,
        class_names=layer.class_names,
    )


@rc_context(STYLE)
def draw_grounding(scatter: GroundingScatter, similarity_name: str = "given") -> Figure:
    """A dot for each pair of classes; those most alike in reality stand out.

    Parameters
    ----------
    scatter : GroundingScatter
    similarity_name : str
        What the given similarity is of, such as ``attributes``.
    """
    axes = titled_panel(
        "Are classes that are alike also alike to the model?",
        _caption(scatter),
        LEFT,
        WIDTH,
        HEIGHT,
        below=BELOW,
    )
    plain_axes(axes)
    if not scatter.n_pairs:
        axes.axis("off")
        return axes.figure
    levels = sorted({round(pair.model, 6) for pair in (*scatter.top, *scatter.others)})
    gap = min(np.diff(levels), default=0.1)
    rng = np.random.default_rng(0)
    # With equally many features a class there are few levels: dots are spread a little around them.
    spread = 0.25 * gap if len(levels) <= 40 else 0.0
    for pairs, colour, size, alpha in (
        (scatter.others, COLOUR, 7, 0.35),
        (scatter.top, TOP_COLOUR, 26, 0.9),
    ):
        y = np.array([pair.model for pair in pairs])
        y = y + spread * rng.uniform(-1, 1, len(pairs))
        x = [pair.given for pair in pairs]
        axes.scatter(x, y, s=size, color=colour, alpha=alpha, linewidths=0)
    axes.set_xlabel(f"similarity: {elided(printable(similarity_name), 34)}")
    axes.set_ylabel("similarity of the classes' features")
    return axes.figure


def _caption(scatter: GroundingScatter) -> str:
    if not scatter.n_pairs:
        return "There is one class only, hence no pair."
    n_shown = len(scatter.top) + len(scatter.others)
    shown = "all" if n_shown == scatter.n_pairs else f"{n_shown} of"
    text = f"Dots: {shown} {scatter.n_pairs} pairs of classes. "
    text += f"Orange: the {len(scatter.top)} most alike, such as "
    names = [elided(printable(name), _NAME_EM) for name in scatter.class_names]
    pairs = [f"{names[pair.first]} and {names[pair.second]}" for pair in scatter.top[:2]]
    text += "; ".join(pairs) + "."
    if scatter.structural_grounding is not None:
        text += f" Structural grounding {scatter.structural_grounding:.3f}."
    if scatter.rank_correlation is not None:
        text += f" Rank correlation {scatter.rank_correlation:+.3f}."
    return text
