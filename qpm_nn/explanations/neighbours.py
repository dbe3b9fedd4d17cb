"""Classes that differ in one feature, as a graph with places for its nodes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import networkx as nx
import numpy as np

from qpm_nn.explanations.last_layer import LastLayer
from qpm_nn.explanations.plain import PlainData
from qpm_nn.metrics.checks import FloatArray
from qpm_nn.metrics.weights import contrastive_pairs

#: Up to so many classes a component is laid out by its path lengths, which takes cubic time.
_MOST_BY_PATHS = 80
#: Steps of the spring model.
_N_STEPS = 60


@dataclass(frozen=True)
class ClassNode(PlainData):
    """A class with partners.

    Attributes
    ----------
    class_index : int
    class_name : str
    x, y : float
        Its place. Neighbours are about 1 apart, the origin is at the lower left.
    component : int
        Which connected part it is in, the largest first.
    degree : int
        How many classes differ from it in one feature.
    """

    class_index: int
    class_name: str
    x: float
    y: float
    component: int
    degree: int


@dataclass(frozen=True)
class ClassEdge(PlainData):
    """Two classes that share all but one feature.

    Attributes
    ----------
    first, second : int
        Classes, the lower first.
    first_feature, second_feature : int
        What only the one or the other has, by its index in the backbone.
    first_sign, second_sign : int
        -1 where that feature counts against its class, else 1.
    """

    first: int
    second: int
    first_feature: int
    second_feature: int
    first_sign: int
    second_sign: int


@dataclass(frozen=True)
class ClassGraph(PlainData):
    """All classes that have a partner.

    Attributes
    ----------
    nodes : tuple of ClassNode
        In the order of the components.
    edges : tuple of ClassEdge
    component_sizes : tuple of int
        The largest first.
    isolated : tuple of int
        Classes that differ from all others in more than one feature.
    width, height : float
        Of the rectangle that holds all nodes.
    """

    nodes: tuple[ClassNode, ...]
    edges: tuple[ClassEdge, ...]
    component_sizes: tuple[int, ...]
    isolated: tuple[int, ...]
    width: float
    height: float


def class_graph(layer: LastLayer) -> ClassGraph:
    """Graph of the classes that differ in one feature; see :func:`contrastive_pairs`.

    Each component is laid out by itself, the same at every call: by path lengths (Kamada and Kawai,
    1989), large ones as springs (Fruchterman and Reingold, 1991). They stand in rows.
    """
    near = contrastive_pairs(layer.weight)
    np.fill_diagonal(near, False)
    graph = nx.Graph()
    graph.add_edges_from(np.argwhere(np.triu(near)).tolist())
    found = [sorted(part) for part in nx.connected_components(graph)]
    components = sorted(found, key=lambda part: (-len(part), part))
    places = [_layout(graph.subgraph(part), part) for part in components]
    offsets, width, height = _in_rows([part.max(axis=0) for part in places])
    nodes = tuple(
        ClassNode(c, layer.class_names[c], float(x), float(y), i, int(graph.degree[c]))
        for i, (part, place, offset) in enumerate(zip(components, places, offsets, strict=True))
        for c, (x, y) in zip(part, place + offset, strict=True)
    )
    return ClassGraph(
        nodes=nodes,
        edges=tuple(_edge(layer, *sorted(edge)) for edge in sorted(map(sorted, graph.edges))),
        component_sizes=tuple(map(len, components)),
        isolated=tuple(np.flatnonzero(~near.any(axis=1)).tolist()),
        width=width,
        height=height,
    )


def _edge(layer: LastLayer, first: int, second: int) -> ClassEdge:
    sign = layer.sign
    own = [
        int(np.flatnonzero((sign[a] != 0) & (sign[a] != sign[b]))[0])
        for a, b in ((first, second), (second, first))
    ]
    return ClassEdge(
        first,
        second,
        int(layer.selected[own[0]]),
        int(layer.selected[own[1]]),
        int(sign[first, own[0]]),
        int(sign[second, own[1]]),
    )


def _layout(graph: nx.Graph, part: list[int]) -> FloatArray:
    """Places (n, 2) of a component, in the positive quadrant; neighbours are about 1 apart."""
    n = len(part)
    if n == 2:
        return np.array([[0.0, 0.0], [1.0, 0.0]])
    ordered = nx.Graph()
    ordered.add_nodes_from(part)
    ordered.add_edges_from(sorted(map(sorted, graph.edges)))
    angles = 2 * math.pi * np.arange(n) / n
    start = {c: np.array([math.cos(a), math.sin(a)]) for c, a in zip(part, angles, strict=True)}
    if ordered.number_of_edges() == n * (n - 1) // 2:
        found = start
    elif n <= _MOST_BY_PATHS:
        found = nx.kamada_kawai_layout(ordered, pos=start)
    else:
        found = nx.spring_layout(
            ordered, pos=start, iterations=_N_STEPS, seed=0, k=2 / math.sqrt(n), method="force"
        )
    places = np.array([found[c] for c in part])
    ends = np.array([(part.index(a), part.index(b)) for a, b in ordered.edges])
    length = np.linalg.norm(places[ends[:, 0]] - places[ends[:, 1]], axis=1)
    # Nodes that are no neighbours need room as well, but a chain has no area.
    usual, room = float(np.median(length)), math.sqrt(np.ptp(places, axis=0).prod() / n)
    scale = 1 / max(min(usual, max(room, 0.5 * usual)), 1e-9)
    places = _along(places * scale)
    return places - places.min(axis=0)


def _along(places: FloatArray) -> FloatArray:
    """Turned so that the longest side lies along x, for names are wide."""
    centred = places - places.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    # Each axis's largest entry positive: its direction is else arbitrary.
    axes = axes * np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])[:, None]
    return centred @ axes.T


def _in_rows(sizes: list[FloatArray]) -> tuple[list[FloatArray], float, float]:
    """Lower left corners of rectangles in rows about as wide as all rows are high."""
    if not sizes:
        return [], 0.0, 0.0
    gap = 1.5
    area = sum((w + gap) * (h + gap) for w, h in sizes)
    most = max(max(float(w) for w, _ in sizes), 1.3 * math.sqrt(area))
    rows: list[list[int]] = []
    used = math.inf
    for i, (w, _) in enumerate(sizes):
        if used + w > most:
            rows.append([])
            used = 0.0
        rows[-1].append(i)
        used += w + gap
    corners: list[FloatArray] = [np.zeros(2) for _ in sizes]
    y = 0.0
    for row in reversed(rows):
        x, tallest = 0.0, max(float(sizes[i][1]) for i in row)
        for i in row:
            corners[i] = np.array([x, y + (tallest - sizes[i][1]) / 2])
            x += float(sizes[i][0]) + gap
        y += tallest + gap
    width = max(float(corner[0] + w) for corner, (w, _) in zip(corners, sizes, strict=True))
    return corners, width, y - gap
