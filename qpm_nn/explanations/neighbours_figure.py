"""Picture of the classes that differ in one feature."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from qpm_nn.explanations.canvas import INK, STYLE
from qpm_nn.explanations.lettering import elided, printable
from qpm_nn.explanations.neighbours import ClassGraph, ClassNode
from qpm_nn.explanations.panel import NAME_SIZE, titled_panel

#: Up to so many classes each has its name; of more, one of each group.
MOST_NAMES = 250
#: Up to so many edges have the numbers of their features.
_MOST_NUMBERED = 40
_NAME_EM = 15.0
# Inches: between neighbours, and around all.
STEP, SMALL_STEP, MARGIN, MIN_WIDTH = 1.15, 0.3, 0.55, 4.5
_FEW = 60


@rc_context(STYLE)
def draw_class_graph(graph: ClassGraph, colours: Mapping[int, str]) -> Figure:
    """Lines between classes that differ in one feature, each half in the colour of what is there.

    The half of a line next to a class has the colour of the feature that only this class has.

    Parameters
    ----------
    graph : ClassGraph
    colours : mapping of int to str
        Of all features of the head, by :func:`feature_colours`.
    """
    n = len(graph.nodes)
    step = STEP if n <= _FEW else max(SMALL_STEP, STEP * (_FEW / n) ** 0.5)
    width, height = graph.width * step + 2 * MARGIN, graph.height * step + 2 * MARGIN
    panel_width = max(width, MIN_WIDTH)
    n_classes = n + len(graph.isolated)
    axes = titled_panel(
        f"{n} of {n_classes} classes differ from another one in a single feature",
        _caption(graph),
        0.2,
        panel_width,
        height if n else 0.1,
    )
    axes.axis("off")
    if not n:
        return axes.figure
    spare = (panel_width - width) / 2
    axes.set_xlim((-MARGIN - spare) / step, graph.width + (MARGIN + spare) / step)
    axes.set_ylim(-MARGIN / step, graph.height + MARGIN / step)
    places = {node.class_index: np.array([node.x, node.y]) for node in graph.nodes}
    halves, tints = [], []
    for edge in graph.edges:
        a, b = places[edge.first], places[edge.second]
        middle = (a + b) / 2
        halves += [np.stack([a, middle]), np.stack([middle, b])]
        tints += [colours[edge.first_feature], colours[edge.second_feature]]
        if len(graph.edges) <= _MOST_NUMBERED:
            for end, feature, sign in (
                (a, edge.first_feature, edge.first_sign),
                (b, edge.second_feature, edge.second_sign),
            ):
                x, y = 0.6 * middle + 0.4 * end
                axes.text(
                    x,
                    y,
                    f"{'-' if sign < 0 else ''}{feature}",
                    fontsize=NAME_SIZE - 2.5,
                    color=colours[feature],
                    ha="center",
                    va="center",
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
                    zorder=3,
                )
    many = len(graph.edges) > 20 * n
    line = {
        "linewidths": 0.4 if many else 2.2 if n <= MOST_NAMES else 1.2,
        "alpha": 0.3 if many else 1.0,
    }
    axes.add_collection(LineCollection(halves, colors=tints, zorder=1, **line))
    x, y = np.array([places[node.class_index] for node in graph.nodes]).T
    axes.scatter(x, y, s=14 if n <= _FEW else 8, color=INK, linewidths=0, zorder=4)
    _draw_names(graph, step, axes)
    return axes.figure


def _draw_names(graph: ClassGraph, step: float, axes: Axes) -> None:
    size = NAME_SIZE - 1 if len(graph.nodes) <= _FEW else 5.0
    most = min(_NAME_EM, 1.35 * step * 72 / size)
    named = graph.nodes
    if len(named) > MOST_NAMES:
        first: dict[int, ClassNode] = {}
        for node in sorted(named, key=lambda node: (-node.degree, node.class_index)):
            first.setdefault(node.component, node)
        named, most = tuple(first.values()), _NAME_EM
    for node in named:
        axes.annotate(
            elided(printable(node.class_name), most),
            (node.x, node.y),
            (0, -4),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=size,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.75},
            zorder=5,
        )


def _caption(graph: ClassGraph) -> str:
    if not graph.nodes:
        return "All classes differ from one another in more than one feature."
    text = "Half a line: the feature that only the class at this end has, in its colour. "
    sizes = graph.component_sizes
    text += f"{len(sizes)} connected group{'s' if len(sizes) > 1 else ''}, "
    text += f"the largest of {sizes[0]}."
    n = len(graph.isolated)
    if n:
        text += f" Not shown: {n} class{'es' if n > 1 else ''} without such a partner."
    if len(graph.nodes) > MOST_NAMES:
        text += " Named: the class of each group with the most partners."
    return text
