"""The whole model in one picture: which class has which features, alike ones side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

from qpm_nn.explanations.canvas import STYLE, Canvas
from qpm_nn.explanations.last_layer import LastLayer
from qpm_nn.explanations.lettering import elided, printable, width
from qpm_nn.explanations.plain import PlainData
from qpm_nn.metrics.checks import FloatArray
from qpm_nn.metrics.grounding import cosines

GRID = "#d9dee5"
BAND = "#f3f5f8"
#: Classes between two shaded bands, to guide the eye along the rows.
BAND_HEIGHT = 5
#: Up to so many classes the cells are large; up to so many, every class has its name.
FEW_CLASSES, NAMED_CLASSES = 40, 300
#: Up to so many rows the best order of the leaves is sought; it takes cubic time.
MOST_ORDERED = 1500
#: Most em of a class name.
NAME_EM = 30.0
# Inches.
BARS, GAP, BOTTOM, TOP, RIGHT, MIN_WIDTH = 0.7, 0.08, 0.75, 0.85, 0.3, 3.2


@dataclass(frozen=True, eq=False)
class AssignmentMatrix(PlainData):
    """Signs of the weights, classes and features in the order in which they are drawn.

    Attributes
    ----------
    classes : tuple of int
        Row by row, from top to bottom.
    class_names : tuple of str
        Of the rows.
    features : tuple of int
        Column by column, by their index in the backbone.
    positions : tuple of int
        The same among the selected ones.
    sign : ndarray of shape (n_classes, n_selected)
        1 if the feature counts for the class, -1 against it, else 0.
    uses : tuple of int
        How many classes use the feature of each column.
    is_sparse : bool
        Whether weights are other than 0, 1 and -1.
    """

    classes: tuple[int, ...]
    class_names: tuple[str, ...]
    features: tuple[int, ...]
    positions: tuple[int, ...]
    sign: NDArray[np.int64]
    uses: tuple[int, ...]
    is_sparse: bool


def assignment_matrix(layer: LastLayer) -> AssignmentMatrix:
    """Rows and columns ordered so that alike classes, and alike features, are neighbours.

    Classes are clustered by the cosines of their weights (average linkage), and so are features by
    the cosines of their columns; the tree is turned so that neighbours are as alike as can be (Bar-
    Joseph, Gifford, Jaakkola: Fast optimal leaf ordering for hierarchical clustering, 2001). The
    end with the lower number comes first.
    """
    rows, columns = _leaf_order(layer.weight), _leaf_order(layer.weight.T)
    sign = layer.sign[np.ix_(rows, columns)]
    return AssignmentMatrix(
        classes=tuple(rows.tolist()),
        class_names=tuple(layer.class_names[c] for c in rows),
        features=tuple(layer.selected[columns].tolist()),
        positions=tuple(columns.tolist()),
        sign=sign,
        uses=tuple((sign != 0).sum(axis=0).tolist()),
        is_sparse=bool((np.abs(layer.weight) != np.abs(layer.sign)).any()),
    )


def _leaf_order(vectors: FloatArray) -> NDArray[np.intp]:
    if len(vectors) < 3:
        return np.arange(len(vectors))
    distance = 1 - cosines(vectors).clip(-1, 1)
    np.fill_diagonal(distance, 0)
    # Rounded, so that no machine's last digit decides.
    condensed = squareform(distance.round(9), checks=False)
    tree = linkage(condensed, "average")
    if len(vectors) <= MOST_ORDERED:
        tree = optimal_leaf_ordering(tree, condensed)
    order = leaves_list(tree).astype(np.intp)
    return order if order[0] < order[-1] else order[::-1]


@rc_context(STYLE)
def draw_assignment(matrix: AssignmentMatrix, colours: Mapping[int, str]) -> Figure:
    """Matrix of classes and selected features, each feature in its colour.

    Above it stands how many classes use each feature. The signs of the weights are shown, not their
    sizes: a hollow cell speaks against the class. The figure grows with the number of classes, so
    that every name stays legible; of very many classes only some are named.

    Parameters
    ----------
    matrix : AssignmentMatrix
    colours : mapping of int to str
        Of all features of the head, by :func:`feature_colours`.
    """
    n_classes, n_selected = matrix.sign.shape
    few = n_classes <= FEW_CLASSES
    names = [elided(printable(name), NAME_EM) for name in matrix.class_names]
    cell, font_size = (0.34, 10.0) if few else (0.14, 5.5)  # inches, points
    row = cell if n_classes <= NAMED_CLASSES else 0.03
    left = 0.35 + max(width(name, font_size) for name in names)
    panel_width, height = cell * n_selected, row * n_classes
    top = BOTTOM + height + GAP + BARS
    canvas = Canvas(max(left + panel_width + RIGHT, MIN_WIDTH), top + TOP)
    panel = canvas.axes(left, BOTTOM, panel_width, height)
    if row == cell:
        _draw_cells(panel, matrix, colours, cell)
    else:
        _draw_pixels(panel, matrix, colours)
    panel.set_xlim(-0.5, n_selected - 0.5)
    panel.set_ylim(n_classes - 0.5, -0.5)
    panel.set_xticks(range(n_selected), matrix.features, fontsize=font_size, rotation=90)
    step = 1 if row == cell else int(np.ceil(font_size * 1.2 / 72 / row))
    panel.set_yticks(range(0, n_classes, step), names[::step], fontsize=font_size)
    panel.tick_params(which="both", length=0)
    panel.spines[:].set_visible(False)
    panel.set_xlabel("selected feature", fontsize=10)
    panel.set_ylabel("class", fontsize=10)

    bars = canvas.axes(left, BOTTOM + height + GAP, panel_width, BARS)
    fill = [colours[feature] for feature in matrix.features]
    bars.bar(range(n_selected), matrix.uses, width=0.72, color=fill)
    bars.set_xlim(panel.get_xlim())
    bars.set_xticks([])
    bars.set_yticks(sorted({0, max(matrix.uses)}))
    bars.tick_params(labelsize=font_size, length=2)
    bars.spines[["top", "right"]].set_visible(False)
    bars.set_ylabel("classes", fontsize=10 if few else 8)
    canvas.figure.align_ylabels([panel, bars])
    canvas.text(left, top + TOP - 0.2, _title(matrix), fontsize=10, va="top")
    return canvas.figure


def _draw_cells(
    axes: Axes, matrix: AssignmentMatrix, colours: Mapping[int, str], cell: float
) -> None:
    n_classes, n_selected = matrix.sign.shape
    for start in range(BAND_HEIGHT, n_classes, 2 * BAND_HEIGHT):
        end = min(start + BAND_HEIGHT, n_classes)
        axes.axhspan(start - 0.5, end - 0.5, color=BAND, linewidth=0, zorder=0)
    for value, share in ((1, 0.72), (-1, 0.6)):
        rows, columns = np.nonzero(matrix.sign == value)
        edges = [colours[matrix.features[j]] for j in columns]
        axes.scatter(
            columns,
            rows,
            s=(share * 72 * cell) ** 2,
            marker="s",
            facecolors=edges if value > 0 else "white",
            edgecolors=edges,
            linewidths=0 if value > 0 else 0.12 * 72 * cell,
        )
    axes.set_xticks(np.arange(n_selected + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n_classes + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=GRID, linewidth=0.5)
    axes.set_axisbelow(True)


def _draw_pixels(axes: Axes, matrix: AssignmentMatrix, colours: Mapping[int, str]) -> None:
    """One pixel a cell; what counts against a class is paler, for there is no room for a frame."""
    tint = np.array([to_rgb(colours[feature]) for feature in matrix.features])
    strength = np.select([matrix.sign > 0, matrix.sign < 0], [1.0, 0.4], 0.0)[:, :, None]
    axes.imshow(1 - strength * (1 - tint), aspect="auto", interpolation="nearest")


def _title(matrix: AssignmentMatrix) -> str:
    n_classes, n_selected = matrix.sign.shape
    text = f"{n_classes} classes, {n_selected} features\n"
    text += f"{sum(matrix.uses) / n_classes:.3g} features per class"
    text += " on average" if matrix.is_sparse else ""
    if (matrix.sign < 0).any():
        kind = "hollow" if n_classes <= NAMED_CLASSES else "pale"
        text += f"\n{kind}: negative weight"
    return text
