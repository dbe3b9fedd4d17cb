"""Figure of the hierarchical explanation: from features on the left to class names on the right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from qpm_nn.explanations.canvas import STYLE, Canvas
from qpm_nn.explanations.lettering import listed, printable, width, wrapped
from qpm_nn.explanations.tree import ClassTree, TreeNode
from qpm_opt import InvalidInputError

INK, MUTED, LINE, MEMBER_LINE = "#1f2937", "#5b6470", "#b3bac4", "#0072b2"
#: Points.
NAME_SIZE, LABEL_SIZE, TITLE_SIZE = 9.0, 7.5, 11.0
#: Most em of the names in a row.
NAME_EM = 34.0
#: Most first-level features that are drawn though nothing of theirs is to be shown.
MOST_FOLDED = 20
#: Area in square points at which a circle can still be seen.
SMALLEST = 4.0
# Inches.
ROW, COLUMN, ELBOW, CORNER, RADIUS = 0.25, 1.12, 0.2, 0.06, 0.085
LEFT, RIGHT, TOP, BOTTOM, MIN_WIDTH = 0.3, 0.25, 0.2, 0.16, 5.5
HEADER, NAME_GAP, MARK_GAP = 0.55, 0.25, 0.12
TITLE_LINE, CAPTION_LINE = 0.2, 0.15


class _Kind(IntEnum):
    """Of the classes in a row; what is kept first has the lowest."""

    PREDICTION = 0
    MEMBER = 1
    OTHER = 2
    FOLDED = 3


@dataclass
class _Row:
    """A line of the picture: classes that hang off one node.

    ``depth`` is how many features they share with the prediction.
    """

    kind: _Kind
    classes: tuple[int, ...]
    depth: int
    text: str
    n_members: int
    y: float = 0.0

    @property
    def has_member(self) -> bool:
        return self.n_members > 0


@dataclass
class _Branch:
    """A node and what of it is drawn."""

    node: TreeNode
    rows: list[_Row]
    branches: list[_Branch]
    y: float = 0.0

    @property
    def has_member(self) -> bool:
        """Whether there is one among what is drawn."""
        return any(row.has_member for row in self.all_rows())

    def all_rows(self) -> Iterator[_Row]:
        """Rows of the node and of those below, from top to bottom."""
        for part in self.parts():
            if isinstance(part, _Row):
                yield part
            else:
                yield from part.all_rows()

    def all_branches(self) -> Iterator[_Branch]:
        """The node and those below."""
        yield self
        for branch in self.branches:
            yield from branch.all_branches()

    def parts(self) -> list[_Row | _Branch]:
        """What hangs off the node, from top to bottom: the prediction first."""
        first = [row for row in self.rows if row.kind == _Kind.PREDICTION]
        last = [row for row in self.rows if row.kind != _Kind.PREDICTION]
        branches = sorted(self.branches, key=lambda branch: not branch.node.has_prediction)
        return [*first, *branches, *last]


@rc_context(STYLE)
def draw_tree(tree: ClassTree, colours: Mapping[int, str], max_leaves: int = 40) -> Figure:
    """Tree of the classes as an image sorts them, its prediction at the top.

    A circle is a feature, with its number and activation; classes that are alike to the image stand
    in one row. If there are more than ``max_leaves`` rows, those of the prediction and of the
    prediction set stay, then those of the most similar classes; the others are folded into one row
    for each first-level feature. The figure grows with the number of rows, letters keep their size.

    Parameters
    ----------
    tree : ClassTree
        Of :meth:`ClassTrees.tree` or :func:`class_tree`.
    colours : mapping of int to str
        Of all features of the head, by :func:`feature_colours`.
    max_leaves : int

    Raises
    ------
    InvalidInputError
        If ``max_leaves`` is not positive.
    """
    if max_leaves < 1:
        raise InvalidInputError(f"max_leaves is {max_leaves}; at least 1 was expected.")
    root = _fold(_branch(tree, tree.root, 0), max_leaves)
    rows = list(root.all_rows())
    n_columns = max(branch.node.level for branch in root.all_branches())
    names_x = LEFT + n_columns * COLUMN + RADIUS + NAME_GAP
    longest = max(width(row.text, NAME_SIZE) for row in rows)
    total_width = max(names_x + MARK_GAP + longest + RIGHT, MIN_WIDTH)
    text_width = total_width - LEFT - RIGHT
    title = wrapped(
        f"Prediction: {printable(tree.class_names[tree.predicted])}", TITLE_SIZE, text_width
    )
    subtitle = wrapped(_subtitle(tree), NAME_SIZE, text_width)
    caption = wrapped(_caption(tree, rows), LABEL_SIZE, text_width)

    bottom = BOTTOM + len(caption) * CAPTION_LINE + 0.15
    top = bottom + len(rows) * ROW  # of the rows
    height = top + HEADER + (len(title) + len(subtitle)) * TITLE_LINE + TOP
    for i, row in enumerate(rows):
        row.y = top - (i + 0.5) * ROW
    _centre(root)
    canvas = Canvas(total_width, height)
    axes = canvas.axes(0, 0, total_width, height)
    axes.set(xlim=(0, total_width), ylim=(0, height))
    axes.axis("off")

    y = height - TOP
    for lines, style in (
        (title, {"fontsize": TITLE_SIZE, "fontweight": "bold"}),
        (subtitle, {"fontsize": NAME_SIZE}),
    ):
        for line in lines:
            axes.text(LEFT, y, line, color=INK, va="top", **style)
            y -= TITLE_LINE
    for i, line in enumerate(caption, 1):
        y = BOTTOM + (len(caption) - i) * CAPTION_LINE
        axes.text(LEFT, y, line, fontsize=LABEL_SIZE, color=MUTED, va="bottom")
    _draw_header(axes, tree, n_columns, top)
    strongest = tree.root.children[0].activation if tree.root.children else None
    for branch in root.all_branches():
        _draw_node(axes, branch, colours, strongest)
        for part in branch.parts():
            end = names_x - 0.06 if isinstance(part, _Row) else _x(part.node)
            _draw_edge(axes, branch, part, end)
    for row in rows:
        _draw_row(axes, row, names_x)
    return canvas.figure


def _branch(tree: ClassTree, node: TreeNode, depth: int) -> _Branch:
    """A node with everything below; its classes in one row for each kind."""
    depth = node.level if node.has_prediction else depth
    members = set(tree.prediction_set or ())
    kinds: dict[_Kind, list[int]] = {}
    for c in node.leaf:
        is_prediction = c == tree.predicted
        kind = _Kind.MEMBER if c in members else _Kind.OTHER
        kinds.setdefault(_Kind.PREDICTION if is_prediction else kind, []).append(c)
    rows = []
    for kind, classes in sorted(kinds.items()):
        text = listed([printable(tree.class_names[c]) for c in classes], NAME_EM)
        text += "" if node.level else " (no active feature)"
        n_members = sum(c in members for c in classes)
        rows.append(_Row(kind, tuple(classes), depth, text, n_members))
    return _Branch(node, rows, [_branch(tree, child, depth) for child in node.children])


def _fold(root: _Branch, max_leaves: int) -> _Branch:
    """Keep the most important rows and put the others of each first-level node into one."""
    rows = list(root.all_rows())
    if len(rows) <= max_leaves:
        return root
    kept = sorted(rows, key=lambda row: (row.kind, -row.depth))[:max_leaves]
    # A class that shares nothing with the prediction is no more similar than the others.
    shown = {id(row) for row in kept if row.kind < _Kind.OTHER or row.depth}
    bare = [
        branch for branch in root.branches if not any(id(row) in shown for row in branch.all_rows())
    ]
    rest = bare[MOST_FOLDED - 1 :] if len(bare) > MOST_FOLDED else []
    hidden = {id(branch) for branch in rest}
    folded = replace(
        _without(replace(root, branches=[]), shown),
        branches=[_without(branch, shown) for branch in root.branches if id(branch) not in hidden],
    )
    if rest:
        last = _folded([row for branch in rest for row in branch.all_rows()])
        last.text += f" of {len(rest)} weaker features"
        folded.rows.append(last)
    return folded


def _without(branch: _Branch, shown: set[int]) -> _Branch:
    """The branch with only the rows that are shown, the others in one."""
    hidden = [row for row in branch.all_rows() if id(row) not in shown]
    if len(hidden) < 2:
        return branch  # a class takes no more room than a row that stands for it
    pruned = _pruned(branch, shown)
    pruned.rows.append(_folded(hidden))
    return pruned


def _pruned(branch: _Branch, shown: set[int]) -> _Branch:
    branches = [_pruned(child, shown) for child in branch.branches]
    return replace(
        branch,
        rows=[row for row in branch.rows if id(row) in shown],
        branches=[child for child in branches if child.rows or child.branches],
    )


def _folded(rows: list[_Row]) -> _Row:
    classes = tuple(sorted(c for row in rows for c in row.classes))
    n_members = sum(row.n_members for row in rows)
    text = f"+ {_count(len(classes))}" + (f", {n_members} of the set" if n_members else "")
    return _Row(_Kind.FOLDED, classes, 0, text, n_members)


def _centre(branch: _Branch) -> None:
    """Put nodes in the middle of what hangs off them."""
    for child in branch.branches:
        _centre(child)
    parts = branch.parts()
    branch.y = (parts[0].y + parts[-1].y) / 2


def _x(node: TreeNode) -> float:
    return LEFT + node.level * COLUMN


def _draw_header(axes: Axes, tree: ClassTree, n_columns: int, top: float) -> None:
    for n in range(n_columns + 1):
        axes.text(
            LEFT + n * COLUMN + (RADIUS if n else -0.04),
            top + 0.1,
            f"level {n}\n{len(tree.levels[n]) if n else _count(len(tree.class_names))}",
            fontsize=LABEL_SIZE,
            color=MUTED,
            ha="right" if n else "left",
            va="bottom",
            linespacing=1.3,
        )


def _draw_node(
    axes: Axes, branch: _Branch, colours: Mapping[int, str], strongest: float | None
) -> None:
    node, x, y = branch.node, _x(branch.node), branch.y
    if node.feature is None:
        axes.scatter([x], [y], s=9, color=INK, linewidths=0, zorder=5)
        return
    area = max((2 * 72 * RADIUS) ** 2 * node.activation / strongest, SMALLEST)
    # On a ring of paper, for a small circle would not be seen on a thick line.
    axes.scatter([x], [y], s=(area**0.5 + 3) ** 2, color="white", linewidths=0, zorder=4)
    axes.scatter([x], [y], s=area, color=colours[node.feature], linewidths=0, zorder=5)
    number = f"{node.activation:+.1f}" if node.activation >= 0.05 else "<0.1"
    label = f"{node.feature}  {number}"
    where = (x - RADIUS - 0.03, y + 0.03)
    axes.text(*where, label, fontsize=LABEL_SIZE, color=INK, ha="right", va="bottom", zorder=6)


def _draw_edge(axes: Axes, start: _Branch, part: _Row | _Branch, end: float) -> None:
    x, knee = _x(start.node), _x(start.node) + ELBOW
    points, codes = [(x, start.y)], [Path.MOVETO]
    rise = part.y - start.y
    if abs(rise) > 1e-9:
        corner = max(-CORNER, min(rise, CORNER))
        points += [(knee, start.y), (knee, part.y - corner)]
        points += [(knee, part.y), (knee + abs(corner), part.y)]
        codes += [Path.LINETO, Path.LINETO, Path.CURVE3, Path.CURVE3]
    path = Path([*points, (end, part.y)], [*codes, Path.LINETO])
    is_predicted = (
        part.kind == _Kind.PREDICTION if isinstance(part, _Row) else part.node.has_prediction
    )
    style = {"edgecolor": LINE, "linewidth": 0.9, "zorder": 1}
    if part.has_member:
        style = {"edgecolor": MEMBER_LINE, "linewidth": 2.8, "zorder": 3}
    elif is_predicted:
        style = {"edgecolor": INK, "linewidth": 1.6, "zorder": 2}
    is_folded = isinstance(part, _Row) and part.kind == _Kind.FOLDED
    axes.add_patch(PathPatch(path, facecolor="none", linestyle=":" if is_folded else "-", **style))


def _draw_row(axes: Axes, row: _Row, x: float) -> None:
    if row.has_member:
        axes.scatter([x], [row.y], s=24, color=MEMBER_LINE, linewidths=0, label="member")
    is_folded = row.kind == _Kind.FOLDED
    axes.text(
        x + MARK_GAP,
        row.y,
        row.text,
        fontsize=NAME_SIZE,
        color=MUTED if is_folded else INK,
        fontstyle="italic" if is_folded else "normal",
        fontweight="bold" if row.kind == _Kind.PREDICTION else "normal",
        va="center_baseline",
    )


def _subtitle(tree: ClassTree) -> str:
    n_classes = len(tree.class_names)
    if tree.scope == "global":
        return f"{_count(n_classes)} by their strongest features"
    if not tree.root.children:
        return "No feature of the prediction is active."
    strongest = tree.root.children[0].feature
    return (
        f"{len(tree.root.classes)} of {_count(n_classes)}: those whose strongest feature is "
        f"{strongest} as well"
    )


def _caption(tree: ClassTree, rows: list[_Row]) -> str:
    text = (
        "Numbers: feature, and its activation in standard deviations above its mean; the circle's "
        "area grows with it. Level n: how many classes share the n strongest features with the "
        "prediction (bold)."
    )
    if tree.prediction_set is not None:
        text += f" Thick line and dot: prediction set, {_count(len(tree.prediction_set))}"
        outside = [printable(tree.class_names[c]) for c in tree.members_outside]
        text += f", not all in this tree: {listed(outside, NAME_EM)}." if outside else "."
    n_folded = sum(len(row.classes) for row in rows if row.kind == _Kind.FOLDED)
    if n_folded:
        text += f" Folded (dotted): {n_folded} of {_count(len(tree.root.classes))}."
    return text


def _count(n: int) -> str:
    return "1 class" if n == 1 else f"{n} classes"
