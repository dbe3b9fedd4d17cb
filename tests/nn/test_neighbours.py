"""The graph of classes that differ in one feature."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qpm_nn.explanations import LastLayer, as_svg, class_graph, draw_class_graph, feature_colours


def test_edges_by_hand():
    weight = [[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, -1], [0, 0, 1, 1], [0, 1, 0, 0]]
    graph = class_graph(LastLayer(weight, [3, 8, 9, 20]))
    found = {
        (e.first, e.second): (e.first_feature * e.first_sign, e.second_feature * e.second_sign)
        for e in graph.edges
    }
    assert found == {(0, 1): (8, 9), (1, 2): (3, -20), (1, 3): (3, 20), (2, 3): (-20, 20)}
    assert graph.isolated == (4,) and graph.component_sizes == (4,)
    assert {node.class_index: node.degree for node in graph.nodes} == {0: 1, 1: 3, 2: 2, 3: 2}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_agrees_with_sets_and_keeps_nodes_apart(seed):
    rng = np.random.default_rng(seed)
    n_classes, n, k = int(rng.integers(1, 12)), 7, int(rng.integers(1, 4))
    sets = [frozenset(rng.choice(n, k, replace=False).tolist()) for _ in range(n_classes)]
    W = np.array([[float(j in own) for j in range(n)] for own in sets])
    layer = LastLayer(W)
    graph = class_graph(layer)
    expected = {
        (a, b): (*(sets[a] - sets[b]), *(sets[b] - sets[a]))
        for a in range(n_classes)
        for b in range(a)[::-1]
        if len(sets[a] & sets[b]) == k - 1
    }
    found = {(e.second, e.first): (e.second_feature, e.first_feature) for e in graph.edges}
    assert found == expected
    assert sorted([*graph.isolated, *(node.class_index for node in graph.nodes)]) == list(
        range(n_classes)
    )
    places = np.array([(node.x, node.y) for node in graph.nodes]).reshape(-1, 2)
    assert (places >= -1e-9).all() and np.isfinite(places).all()
    assert (places <= np.array([graph.width, graph.height]) + 1e-9).all()
    apart = np.linalg.norm(places[:, None] - places, axis=2) + 9 * np.eye(len(places))
    assert not len(places) or apart.min() > 0.05
    assert class_graph(layer).to_dict() == graph.to_dict()
    json.dumps(graph.to_dict())


def test_figure_colours_halves_by_the_feature_at_that_end():
    layer = LastLayer([[1, 1, 0], [0, 1, 1]], [3, 8, 9], class_names=["US$", "犬" * 60])
    colours = feature_colours([3, 8, 9])
    svg = as_svg(draw_class_graph(class_graph(layer), colours))
    assert colours[3] in svg and colours[9] in svg and colours[8] not in svg and "US$" in svg


@pytest.mark.parametrize("n_classes", [1, 2, 90, 300])
def test_few_and_many_classes_are_drawn(n_classes):
    # A chain: each class has a feature that the next one lacks.
    W = np.zeros((n_classes, n_classes + 1))
    for c in range(n_classes):
        W[c, [c, c + 1]] = 1
    graph = class_graph(LastLayer(W))
    assert len(graph.edges) == n_classes - 1
    figure = draw_class_graph(graph, feature_colours(range(n_classes + 1)))
    figure.canvas.draw()
    assert max(figure.get_size_inches()) < 60


def test_one_feature_a_class_makes_all_classes_partners():
    graph = class_graph(LastLayer(np.eye(120)))
    assert graph.component_sizes == (120,) and len(graph.edges) == 120 * 119 // 2
    draw_class_graph(graph, feature_colours(range(120)))
