"""Picture of the tree: what stands in it and where."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qpm_nn.explanations import as_svg, class_tree, draw_tree, feature_colours
from qpm_nn.explanations.lettering import elided, listed, printable, width, wrapped
from qpm_nn.explanations.tree_figure import LABEL_SIZE, MEMBER_LINE, MOST_FOLDED, NAME_SIZE
from qpm_opt import InvalidInputError


def random_tree(n_classes, n_selected=12, n_per_class=4, n_members=None, scope="global", seed=0):
    rng = np.random.default_rng(seed)
    W = np.zeros((n_classes, n_selected), dtype=bool)
    for c in range(n_classes):
        W[c, rng.choice(n_selected, n_per_class, replace=False)] = True
    features = np.maximum(rng.normal(0.3, 1, n_selected), 0).astype(np.float32)
    logits = W @ features
    members = None
    if n_members is not None:
        members = torch.zeros(n_classes, dtype=torch.bool)
        members[np.argsort(-logits, kind="stable")[:n_members].copy()] = True
    return class_tree(
        torch.from_numpy(features),
        int(logits.argmax()),
        torch.from_numpy(W),
        100 + torch.arange(n_selected),
        [f"class {c:04d}" for c in range(n_classes)],
        members,
        scope,
    )


COLOURS = feature_colours(range(100, 160))


def names_in(figure):
    """Texts of the rows, from the top."""
    texts = [text for text in figure.axes[0].texts if text.get_va() == "center_baseline"]
    return sorted(texts, key=lambda text: -text.get_position()[1])


def marks_in(figure):
    return {
        round(float(mark.get_offsets()[0][1]), 6)
        for mark in figure.axes[0].collections
        if mark.get_label() == "member"
    }


def words_of(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter() if element.text]


@pytest.mark.parametrize(("n_classes", "scope"), [(5, "global"), (12, "global"), (40, "local")])
def test_every_class_stands_in_the_picture(n_classes, scope):
    tree = random_tree(n_classes, n_members=4, scope=scope)
    shown = " ".join(words_of(as_svg(draw_tree(tree, COLOURS))))
    names = [text.get_text() for text in names_in(draw_tree(tree, COLOURS))]
    assert all(name in shown for name in names)
    n_more = sum(int(name.rpartition("+")[2]) for name in names if "+" in name)
    assert sum(name.count("class") for name in names) + n_more == len(tree.root.classes)


@pytest.mark.parametrize("n_classes", [5, 195])
def test_texts_do_not_overlap_and_are_inside(n_classes):
    figure = draw_tree(random_tree(n_classes, 50, 5, n_members=6), COLOURS)
    names = names_in(figure)
    heights = [text.get_position()[1] for text in names]
    assert min(above - below for above, below in pairwise(heights)) >= 1.5 * NAME_SIZE / 72
    x0, y0, x1, y1 = np.array([text.get_window_extent().extents for text in figure.axes[0].texts]).T
    assert min(x0.min(), y0.min()) >= 0
    assert x1.max() <= figure.bbox.x1 and y1.max() <= figure.bbox.y1
    overlap = (x0[:, None] < x1) & (x1[:, None] > x0) & (y0[:, None] < y1) & (y1[:, None] > y0)
    assert (overlap == np.eye(len(overlap), dtype=bool)).all()
    assert min(text.get_fontsize() for text in figure.axes[0].texts) >= 7
    assert LABEL_SIZE >= 7


def test_prediction_is_bold_at_the_top_and_the_set_is_marked():
    tree = random_tree(12, n_members=3)
    figure = draw_tree(tree, COLOURS)
    names = names_in(figure)
    bold = [text.get_text() for text in names if text.get_fontweight() == "bold"]
    assert bold == [tree.class_names[tree.predicted]] == [names[0].get_text()]
    marks = marks_in(figure)
    marked = " ".join(
        text.get_text() for text in names if round(text.get_position()[1], 6) in marks
    )
    assert {name for name in tree.class_names if name in marked} == {
        tree.class_names[c] for c in tree.prediction_set
    }
    # In a row of several classes none is a member that is not marked.
    assert marked.count("class") == 3
    thick = [line for line in figure.axes[0].patches if line.get_linewidth() > 2]
    assert thick and len(thick) < len(figure.axes[0].patches)
    assert MEMBER_LINE in as_svg(figure)


def test_without_a_set_nothing_is_marked():
    figure = draw_tree(random_tree(12), COLOURS)
    assert not marks_in(figure) and "set" not in " ".join(words_of(as_svg(figure)))


def test_circles_are_as_large_as_activations():
    tree = random_tree(12)
    figure = draw_tree(tree, COLOURS)
    area = {
        float(mark.get_facecolor()[0][0]): mark.get_sizes()[0]
        for mark in figure.axes[0].collections
        if mark.get_zorder() == 5 and len(mark.get_sizes())
    }
    nodes = list(tree.root.children)
    areas = []
    for node in nodes:
        red = int(COLOURS[node.feature][1:3], 16) / 255
        areas.append(next(area[key] for key in area if abs(key - red) < 1e-6))
    expected = np.array([node.activation for node in nodes])
    large = np.array(areas) > 4  # smaller ones would not be seen
    np.testing.assert_allclose(
        (np.array(areas) / areas[0])[large], (expected / expected[0])[large], rtol=1e-5
    )


@pytest.mark.parametrize(("n_members", "max_leaves"), [(None, 10), (6, 10), (30, 10), (6, 1)])
def test_many_classes_are_folded_and_counted(n_members, max_leaves):
    tree = random_tree(195, 50, 5, n_members)
    figure = draw_tree(tree, COLOURS, max_leaves)
    names = [text.get_text() for text in names_in(figure)]
    assert len(names) <= 2 * max_leaves + MOST_FOLDED + 2
    folded = [int(name.split()[1]) for name in names if name.startswith("+ ")]
    shown = " ".join(name for name in names if not name.startswith("+ "))
    n_more = sum(int(word[1:]) for word in shown.split() if word.startswith("+"))
    assert sum(folded) + shown.count("class") + n_more == 195
    assert tree.class_names[tree.predicted] == names[0]
    caption = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert f"{sum(folded)} of 195 classes" in caption
    if n_members and n_members < max_leaves:
        assert all(tree.class_names[c] in shown or n_more for c in tree.prediction_set)


def test_the_most_similar_classes_are_kept():
    # Every class shares another number of leading features with class 0.
    W = torch.zeros(6, 20, dtype=torch.bool)
    for c in range(6):
        W[c, : 5 - c] = True
        W[c, 8 : 8 + c] = True
    values = torch.cat([torch.arange(8, 0, -1), torch.ones(12) / 2])
    tree = class_tree(values, 0, W, torch.arange(20), "abcdef", None, "global")
    names = [text.get_text() for text in names_in(draw_tree(tree, feature_colours(range(20)), 3))]
    assert names == ["a", "b", "c", "+ 2 classes", "f"]


def test_members_outside_a_local_tree_are_named():
    W = torch.eye(3, dtype=torch.bool)
    members = torch.tensor([True, False, True])
    tree = class_tree(torch.ones(3), 0, W, torch.arange(3), ("one", "two", "x & y"), members)
    figure = draw_tree(tree, feature_colours(range(3)))
    texts = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert "not all in this tree: x & y" in texts


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([0.0, 0.0], ("US$ \\frac$x_y$", "日本の鳥")),
        ([1.0, 0.0], ("A" * 300, "Чернобровый & <x>")),
        ([1.0], ("\x00line\nbreak\ud800",)),
    ],
)
def test_few_classes_and_strange_names(values, names, scope):
    W = torch.eye(len(values), dtype=torch.bool)
    selected = torch.arange(len(values))
    tree = class_tree(torch.tensor(values), 0, W, selected, names, None, scope)
    figure = draw_tree(tree, feature_colours(selected.tolist()))
    svg = as_svg(figure)
    assert any(elided(printable(names[0]), 34) in text for text in words_of(svg))
    assert svg == as_svg(figure)


def test_svg_names_keep_references_apart():
    figure = draw_tree(random_tree(5), COLOURS)
    assert as_svg(figure, "one") != as_svg(figure, "two")


def test_max_leaves_is_checked():
    with pytest.raises(InvalidInputError, match="max_leaves is 0"):
        draw_tree(random_tree(5), COLOURS, 0)


def test_names_are_shortened_in_the_middle():
    assert elided("short", 34) == "short"
    long = elided("alphabet_of_the_magi_of_somewhere/character12", 20)
    assert long.startswith("alphabet") and long.endswith("er12") and "…" in long
    assert width(long, 72) <= 20
    assert width("日本", 72) == 2 and width("e\u0301", 72) == width("e", 72)


def test_lists_of_names():
    assert listed(["one", "two", "three"], 34) == "one, two, three"
    assert listed(["one", "two", "three", "four"], 9) == "one, two, +2"
    assert listed(["one", "two", "three", "four"], 8) == "one, +3"
    assert listed(["x" * 100, "two"], 20).endswith(", +1")
    assert width(listed(["x" * 100, "two"], 20), 72) <= 20


def test_running_text_is_wrapped():
    lines = wrapped("many words " * 30, 9, 4)
    assert len(lines) > 3 and " ".join(lines) == ("many words " * 30).strip()
    assert wrapped("日" * 100, 72, 10) == ["日" * 10] * 10


@given(st.text("aWx -犬猫", max_size=80), st.floats(0.5, 4))
def test_lines_keep_all_letters_and_fit(text, inches):
    lines = wrapped(text, 9.0, inches)
    assert "".join("".join(lines).split()) == "".join(text.split())
    for line in lines:
        n_wide = sum(c in "犬猫" for c in line)
        assert 0.61 * (len(line) - n_wide) + n_wide <= inches * 72 / 9.0 + 1e-6
