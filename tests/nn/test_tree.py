"""The tree of classes that an image makes, against its definition."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qpm_nn.explanations import ClassTrees, class_tree
from qpm_nn.hierarchy import shared_depth, sort_features
from qpm_opt import InvalidInputError

SELECTED = torch.tensor([2, 5, 7, 9, 11])
SETS = [[0, 1, 2], [0, 1, 3], [2, 3, 4], [0, 2, 4]]
NAMES = ("zero", "one", "two", "three")


def assignment_of(sets, n_selected):
    W = torch.zeros(len(sets), n_selected, dtype=torch.bool)
    for c, own in enumerate(sets):
        W[c, own] = True
    return W


ASSIGNMENT = assignment_of(SETS, 5)


def nodes(node, prefix=()):
    """Every node with its list of features."""
    prefix = prefix if node.feature is None else (*prefix, node.feature)
    yield prefix, node
    for child in node.children:
        yield from nodes(child, prefix)


def tree_of(values, predicted=0, scope="local", members=None):
    return class_tree(torch.tensor(values), predicted, ASSIGNMENT, SELECTED, NAMES, members, scope)


def test_classes_part_where_their_features_do():
    tree = tree_of([2.0, 3.0, 1.0, 0.5, 0.25], scope="global")
    found = {prefix: (node.activation, node.leaf) for prefix, node in nodes(tree.root)}
    assert found == {
        (): (None, ()),
        (5,): (3.0, ()),
        (5, 2): (2.0, ()),
        (5, 2, 7): (1.0, (0,)),
        (5, 2, 9): (0.5, (1,)),
        (2,): (2.0, ()),
        (2, 7): (1.0, ()),
        (2, 7, 11): (0.25, (3,)),
        (7,): (1.0, ()),
        (7, 9): (0.5, ()),
        (7, 9, 11): (0.25, (2,)),
    }
    assert [child.feature for child in tree.root.children] == [5, 2, 7]
    assert tree.levels == ((0, 1, 2, 3), (0, 1), (0, 1), (0,))


def test_branches_stop_at_the_first_inactive_feature():
    tree = tree_of([1.0, 0.0, 0.0, -1.0, 0.0], scope="global")
    assert tree.root.leaf == (2,)
    (node,) = tree.root.children
    assert (node.feature, node.leaf, node.children) == (2, (0, 1, 3), ())
    assert tree_of([1.0, 0.0, 0.0, -1.0, 0.0]).root.classes == (0, 1, 3)


def test_without_active_features_only_the_prediction_is_near():
    tree = tree_of([0.0] * 5, predicted=2)
    assert (tree.root.leaf, tree.root.children) == ((2,), ())
    assert tree_of([0.0] * 5, predicted=2, scope="global").root.leaf == (0, 1, 2, 3)


def test_equally_strong_children_stand_by_their_number():
    order = torch.tensor([4, 3, 2, 1, 0])
    tree = class_tree(
        torch.ones(5),
        0,
        assignment_of([[0], [1], [2], [3], [4]], 5),
        order,
        "abcde",
        None,
        "global",
    )
    assert [child.feature for child in tree.root.children] == [0, 1, 2, 3, 4]


def test_prediction_set_marks_paths():
    members = torch.tensor([False, True, True, False])
    tree = tree_of([2.0, 3.0, 1.0, 0.5, 0.25], members=members)
    assert tree.prediction_set == (1, 2) and tree.members_outside == (2,)
    marked = {prefix for prefix, node in nodes(tree.root) if node.has_member}
    assert marked == {(), (5,), (5, 2), (5, 2, 9)}
    path = {prefix for prefix, node in nodes(tree.root) if node.has_prediction}
    assert path == {(), (5,), (5, 2), (5, 2, 7)}
    assert tree_of([1.0] * 5).prediction_set is None


@st.composite
def problems(draw):
    n_selected = draw(st.integers(1, 7))
    n_per_class = draw(st.integers(1, n_selected))
    own = st.permutations(range(n_selected)).map(lambda order: order[:n_per_class])
    sets = draw(st.lists(own, min_size=1, max_size=8))
    level = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0])  # few, so that there are ties
    values = draw(st.lists(level, min_size=n_selected, max_size=n_selected))
    return (
        sets,
        values,
        draw(st.integers(0, len(sets) - 1)),
        draw(st.sampled_from(["local", "global"])),
    )


@given(problems())
def test_definition(problem):
    sets, values, predicted, scope = problem
    W = assignment_of(sets, len(values))
    numbers = torch.arange(len(values)) * 3 + 1
    names = [f"c{c}" for c in range(len(sets))]
    tree = class_tree(torch.tensor(values), predicted, W, numbers, names, None, scope)

    lists = []
    for own in sets:
        active = sorted((d for d in own if values[d] > 0), key=lambda d: (-values[d], d))
        lists.append(tuple(3 * d + 1 for d in active))
    chosen = [
        c
        for c, active in enumerate(lists)
        if scope == "global"
        or c == predicted
        or (active and active[0] == (lists[predicted] or (None,))[0])
    ]
    found = dict(nodes(tree.root))
    expected = {lists[c][:n] for c in chosen for n in range(len(lists[c]) + 1)}
    assert set(found) == expected | {()}
    for prefix, node in found.items():
        assert node.level == len(prefix)
        assert node.classes == tuple(c for c in chosen if lists[c][: len(prefix)] == prefix)
        assert node.leaf == tuple(c for c in chosen if lists[c] == prefix)
        if prefix:
            assert node.activation == values[(node.feature - 1) // 3]
    leaves = [c for node in found.values() for c in node.leaf]
    assert sorted(leaves) == chosen

    depth = shared_depth(sort_features(torch.tensor([values]), W), torch.tensor([predicted]))[0]
    for n, classes in enumerate(tree.levels):
        assert classes == tuple(torch.nonzero(depth >= n).flatten().tolist())
    assert json.loads(json.dumps(tree.to_dict())) == tree.to_dict()


def test_a_batch_is_its_images():
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(6, 5)).astype(np.float32))
    predicted = torch.tensor([0, 1, 2, 3, 0, 1])
    sets = torch.from_numpy(rng.random((6, 4)) < 0.5)
    trees = ClassTrees(features, predicted, ASSIGNMENT, SELECTED, NAMES, sets)
    assert len(trees) == 6
    for i in range(6):
        alone = class_tree(
            features[i], int(predicted[i]), ASSIGNMENT, SELECTED, NAMES, sets[i], "global"
        )
        assert trees.tree(i, "global") == alone


def test_what_json_holds():
    tree = tree_of([2.0, 3.0, 1.0, 0.5, 0.25], members=torch.tensor([True, False, True, False]))
    found = tree.to_dict()
    assert (found["scope"], found["predicted"], found["prediction_set"]) == ("local", 0, [0, 2])
    assert found["levels"] == [[0, 1, 2, 3], [0, 1], [0, 1], [0]]
    first = found["root"]["children"][0]
    assert (first["feature"], first["activation"], first["classes"]) == (5, 3.0, [0, 1])


@pytest.mark.parametrize(
    "change",
    [
        {"predicted": torch.tensor([4])},
        {"predicted": torch.tensor([0, 1])},
        {"selected": SELECTED[:4]},
        {"class_names": NAMES[:3]},
        {"prediction_sets": torch.zeros(1, 3, dtype=torch.bool)},
        {"features": torch.full((1, 5), torch.nan)},
    ],
)
def test_unusable_input(change):
    fitting = {
        "features": torch.zeros(1, 5),
        "predicted": torch.tensor([0]),
        "assignment": ASSIGNMENT,
        "selected": SELECTED,
        "class_names": NAMES,
    }
    with pytest.raises(InvalidInputError):
        ClassTrees(**fitting | change)


def test_unknown_scope():
    with pytest.raises(InvalidInputError, match="nearby"):
        tree_of([1.0] * 5, scope="nearby")
