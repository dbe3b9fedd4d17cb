"""The matrix of classes and features."""

from __future__ import annotations

import json
from itertools import pairwise, permutations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from qpm_nn.explanations import LastLayer, assignment_matrix, draw_assignment, feature_colours
from qpm_nn.metrics import attribute_similarity

SETS = [[0, 1], [2, 3], [2, 4]]
SELECTED = [2, 5, 7, 9, 11]
COLOURS = feature_colours(SELECTED)


def layer_of(sets, n_selected, names=None, selected=None):
    W = np.zeros((len(sets), n_selected))
    for c, own in enumerate(sets):
        W[c, own] = 1
    return LastLayer(W, selected, class_names=names)


def test_order_makes_neighbours_as_alike_as_can_be():
    rng = np.random.default_rng(0)
    for _ in range(10):
        sets = [rng.choice(6, 3, replace=False) for _ in range(5)]
        layer = layer_of(sets, 6)
        order = assignment_matrix(layer).classes
        alike = attribute_similarity(layer.weight)
        # Average linkage joins the most similar pair of all first, so it stays together.
        np.fill_diagonal(alike, -1)
        best = np.argwhere(alike > alike.max() - 1e-9).tolist()
        assert any(abs(order.index(a) - order.index(b)) == 1 for a, b in best)
    # Three pairs of twins in two families: only orders with families and twins together are best.
    sets = [[0, 1, 2], [3, 4, 5], [0, 1, 6], [3, 4, 7], [0, 8, 9]]
    layer = layer_of(sets, 10)
    alike = attribute_similarity(layer.weight)

    def total(order):
        return sum(alike[a, b] for a, b in pairwise(order))

    best = max(total(order) for order in permutations(range(5)))
    assert total(assignment_matrix(layer).classes) == pytest.approx(best)


def test_matrix_holds_exactly_the_signs():
    weight = np.array([[0.5, 0, -2.25], [0, 0, 0], [0, 0, 0.125]])
    found = assignment_matrix(LastLayer(weight, [2, 5, 7], class_names="abc"))
    cells = {
        (name, feature): found.sign[i, j]
        for i, name in enumerate(found.class_names)
        for j, feature in enumerate(found.features)
    }
    assert {cell: sign for cell, sign in cells.items() if sign} == {
        ("a", 2): 1, ("a", 7): -1, ("c", 7): 1,
    }  # fmt: skip
    assert found.is_sparse and dict(zip(found.features, found.uses, strict=True))[7] == 2
    assert json.loads(json.dumps(found.to_dict()))["sign"] == found.sign.tolist()
    figure = draw_assignment(found, feature_colours([2, 5, 7]))
    positive, negative = (
        {
            (found.class_names[int(y)], found.features[int(x)])
            for x, y in marks.get_offsets().tolist()
        }
        for marks in figure.axes[0].collections
    )
    assert positive == {("a", 2), ("c", 7)} and negative == {("a", 7)}
    assert "hollow: negative" in figure.texts[-1].get_text()


def test_cells_have_the_colours_of_their_features():
    layer = layer_of(SETS, 5, ("zero", "one", "two"), SELECTED)
    figure = draw_assignment(assignment_matrix(layer), COLOURS)
    panel, bars = figure.axes
    shown = [int(label.get_text()) for label in panel.get_xticklabels()]
    marks = panel.collections[0]
    for (x, _), colour in zip(marks.get_offsets(), marks.get_facecolors(), strict=True):
        assert to_hex(colour) == COLOURS[shown[int(x)]]
    for feature, bar in zip(shown, bars.patches, strict=True):
        assert to_hex(bar.get_facecolor()) == COLOURS[feature]
        assert bar.get_height() == (2 if feature == 7 else 1)


def test_dollars_in_class_names_are_no_mathematics(tmp_path):
    layer = layer_of(SETS, 5, ("US$ \\frac$", "cat$_$", "plain"), SELECTED)
    draw_assignment(assignment_matrix(layer), COLOURS).savefig(tmp_path / "figure.png")


@pytest.mark.parametrize("n_classes", [1, 2, 45, 310])
def test_names_stay_apart_however_many(n_classes):
    sets = [[c % 20, (c + 1 + c // 20) % 20] for c in range(n_classes)]
    names = [f"alphabet/character{c}" + "x" * 200 * (c == 1) for c in range(n_classes)]
    layer = layer_of(sets, 20, names)
    figure = draw_assignment(assignment_matrix(layer), feature_colours(range(20)))
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(above.y0 >= below.y1 for above, below in pairwise(boxes))
    assert min(box.x0 for box in boxes) >= 0


def test_all_features_for_all_classes():
    matrix = assignment_matrix(LastLayer(np.ones((2, 3))))
    assert (matrix.sign == 1).all() and matrix.uses == (2, 2, 2)
    draw_assignment(matrix, feature_colours(range(3))).canvas.draw()
