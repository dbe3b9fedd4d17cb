"""Figure of the whole model: which class has which features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from qpm_nn.explanations.canvas import Canvas
from qpm_nn.heads import AssignmentHead, SparseHead

INK = "#1f3552"
NEGATIVE = "#d55e00"
GRID = "#d9dee5"
BAND = "#f3f5f8"
#: Classes between two shaded bands, to guide the eye along the rows.
BAND_HEIGHT = 5
#: Up to so many classes the cells are large.
FEW_CLASSES = 40
# Inches.
BARS, GAP, BOTTOM, TOP, RIGHT, MIN_WIDTH = 0.7, 0.08, 0.75, 0.85, 0.3, 3.2


@rc_context({"text.parse_math": False})  # a class may be called "US$"
def draw_assignment(head: AssignmentHead | SparseHead, class_names: Sequence[str]) -> Figure:
    """Matrix of classes and selected features, the most used feature on the left.

    Above it stands how many classes use each feature. The signs of the weights are shown, not their
    sizes: a high feature with a negative weight speaks against the class. The figure grows with the
    number of classes, so that every name stays legible.
    """
    sign = head.weight.sign().cpu().numpy()
    n_classes, n_selected = sign.shape
    order = np.argsort(-(sign != 0).sum(axis=0), kind="stable")
    sign, features = sign[:, order], head.selected.cpu().numpy()[order]
    uses = (sign != 0).sum(axis=0)

    few = n_classes <= FEW_CLASSES
    cell, font_size = (0.34, 10) if few else (0.14, 5.5)  # inches, points
    left = 0.35 + 0.009 * font_size * max(map(len, class_names))
    width, height = cell * n_selected, cell * n_classes
    top = BOTTOM + height + GAP + BARS
    canvas = Canvas(max(left + width + RIGHT, MIN_WIDTH), top + TOP)
    matrix = canvas.axes(left, BOTTOM, width, height)
    for start in range(BAND_HEIGHT, n_classes, 2 * BAND_HEIGHT):
        matrix.axhspan(
            start - 0.5,
            min(start + BAND_HEIGHT, n_classes) - 0.5,
            color=BAND,
            linewidth=0,
            zorder=0,
        )
    for value, colour in ((1, INK), (-1, NEGATIVE)):
        rows, columns = np.nonzero(sign == value)
        area = (0.72 * 72 * cell) ** 2
        matrix.scatter(columns, rows, s=area, marker="s", color=colour, linewidths=0)
    matrix.set_xlim(-0.5, n_selected - 0.5)
    matrix.set_ylim(n_classes - 0.5, -0.5)
    matrix.set_xticks(np.arange(n_selected + 1) - 0.5, minor=True)
    matrix.set_yticks(np.arange(n_classes + 1) - 0.5, minor=True)
    matrix.grid(which="minor", color=GRID, linewidth=0.5)
    matrix.set_axisbelow(True)
    matrix.set_xticks(range(n_selected), features, fontsize=font_size, rotation=90)
    matrix.set_yticks(range(n_classes), class_names, fontsize=font_size)
    matrix.tick_params(which="both", length=0)
    matrix.spines[:].set_visible(False)
    matrix.set_xlabel("selected feature", fontsize=10)
    matrix.set_ylabel("class", fontsize=10)

    histogram = canvas.axes(left, BOTTOM + height + GAP, width, BARS)
    histogram.bar(range(n_selected), uses, width=0.72, color=INK)
    histogram.set_xlim(matrix.get_xlim())
    histogram.set_xticks([])
    histogram.set_yticks([0, int(uses.max())])
    histogram.tick_params(labelsize=font_size, length=2)
    histogram.spines[["top", "right"]].set_visible(False)
    histogram.set_ylabel("classes", fontsize=10 if few else 8)
    canvas.figure.align_ylabels([matrix, histogram])
    title = f"{n_classes} classes, {n_selected} features\n"
    title += f"{uses.sum() / n_classes:.3g} features per class"
    if isinstance(head, SparseHead):
        title += " on average"
    if (sign < 0).any():
        title += "\norange: negative weight"
    canvas.text(left, top + TOP - 0.2, title, fontsize=10, va="top")
    return canvas.figure
