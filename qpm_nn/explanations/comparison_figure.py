"""Picture of compared classes: where each of their features looks."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qpm_nn.explanations.canvas import INK, MUTED, STYLE, Canvas
from qpm_nn.explanations.comparison import ComparedClass, ComparedClasses, ComparedFeature
from qpm_nn.explanations.lettering import elided, printable, wrapped
from qpm_nn.explanations.maps import CELL, as_shown, bare_axes, draw_map, up_sampled

NAME_SIZE, TITLE_SIZE, TEXT_SIZE, CAPTION_SIZE = 9.5, 10.5, 9.0, 7.5  # points
# Inches.
GAP, GROUP_GAP, ROW_GAP = 0.12, 0.34, 0.34
LEFT, RIGHT, TOP, BOTTOM, CAPTION_LINE, MIN_WIDTH = 0.72, 0.25, 0.95, 0.2, 0.15, 5.0
#: Lines of a class name.
_MOST_LINES = 3
CAPTION = (
    "Frame: the feature belongs to the class. Colour: activation, one scale for each column; "
    "line: half of its maximum. "
    "Number: the feature in standard deviations from its mean, both of the dense model."
)
#: Added where a class has a feature negatively.
NEGATIVE_CAPTION = " Dashed: it counts against the class."


@rc_context(STYLE)
def draw_comparison(comparison: ComparedClasses, colours: Mapping[int, str]) -> Figure:
    """Feature maps of classes over an example image of each, in the colours of the features.

    A row for each class, a column for each feature, first the images. A frame marks the features
    that belong to the row's class, a dashed one those that count against it. The colour of a column
    has one scale for all images; below each map stands the normalised feature, 0 for an average
    image.

    Parameters
    ----------
    comparison : ComparedClasses
    colours : mapping of int to str
        Of all features of the head, by :func:`feature_colours`.
    """
    classes = comparison.classes
    groups = [(title, list(columns)) for title, columns in groupby(
        comparison.features, key=lambda column: _title(column, classes))]  # fmt: skip
    inner = CELL + sum(GROUP_GAP - GAP + len(columns) * (CELL + GAP) for _, columns in groups)
    total_width = max(LEFT + inner + RIGHT, MIN_WIDTH)
    caption = CAPTION
    if any(weight < 0 for column in comparison.features for weight in column.weights):
        caption += NEGATIVE_CAPTION
    lines = wrapped(caption, CAPTION_SIZE, 0.95 * (total_width - LEFT - RIGHT))
    bottom = BOTTOM + len(lines) * CAPTION_LINE + 0.32
    rows = [bottom + i * (CELL + ROW_GAP) for i in reversed(range(len(classes)))]  # lower edges
    top = rows[0] + CELL
    canvas = Canvas(total_width, top + TOP)
    for i, line in enumerate(lines, 1):
        y = BOTTOM + (len(lines) - i) * CAPTION_LINE
        canvas.text(LEFT, y, line, fontsize=CAPTION_SIZE, color=MUTED)
    canvas.text(LEFT + CELL / 2, top + 0.1, "test image", ha="center", fontsize=TEXT_SIZE)
    for y, compared in zip(rows, classes, strict=True):
        _draw_image(bare_axes(canvas, LEFT, y), compared)
    x = LEFT + CELL + GROUP_GAP
    for title, columns in groups:
        span = len(columns) * (CELL + GAP) - GAP
        text = elided(title, span * 72 / TITLE_SIZE)
        style = {"ha": "center", "fontsize": TITLE_SIZE, "fontweight": "bold", "color": INK}
        canvas.text(x + span / 2, top + 0.55, text, **style)
        canvas.rule(x, top + 0.45, span, color=INK, linewidth=1)
        for column in columns:
            _draw_column(canvas, x, rows, column, classes, colours[column.feature])
            name = f"feature {column.feature}"
            canvas.text(x + CELL / 2, top + 0.14, name, ha="center", fontsize=TEXT_SIZE)
            canvas.rule(x, top + 0.07, CELL, color=colours[column.feature], linewidth=4)
            x += CELL + GAP
        x += GROUP_GAP - GAP
    return canvas.figure


def _title(column: ComparedFeature, classes: tuple[ComparedClass, ...]) -> str:
    if column.kind == "unique":
        owner = next(i for i, weight in enumerate(column.weights) if weight)
        return f"only {printable(classes[owner].class_name)}"
    shared = "shared" if len(classes) == 2 else "shared by all"
    return {"all": shared, "some": "shared by some", "opposed": "opposite signs"}[column.kind]


def _draw_image(axes: Axes, compared: ComparedClass) -> None:
    most = 0.75 * _MOST_LINES * CELL * 72 / NAME_SIZE
    lines = wrapped(elided(printable(compared.class_name), most), NAME_SIZE, 0.95 * CELL)
    if compared.example is None:
        axes.text(0.5, 0.5, "no image", ha="center", va="center", fontsize=TEXT_SIZE, color=MUTED)
    else:
        axes.imshow(as_shown(compared.example.image), cmap="gray", vmin=0, vmax=1)
        if not compared.is_correct:
            axes.set_xlabel("misclassified", fontsize=TEXT_SIZE, labelpad=3)
    axes.set_ylabel("\n".join(lines[:_MOST_LINES]), fontsize=NAME_SIZE, fontweight="bold")


def _draw_column(
    canvas: Canvas,
    x: float,
    rows: list[float],
    column: ComparedFeature,
    classes: tuple[ComparedClass, ...],
    colour: str,
) -> None:
    examples = [compared.example for compared in classes]
    highest = max((float(e.maps[column.position].max()) for e in examples if e), default=0.0)
    scale = 1 / highest if highest > 0 else 1.0
    for y, example, weight, value in zip(
        rows, examples, column.weights, column.values, strict=True
    ):
        axes = bare_axes(canvas, x, y)
        if example is not None and value is not None:
            heat = up_sampled(scale * example.maps[column.position])
            draw_map(axes, example.image, heat, colour)
            axes.set_xlabel(f"{value:+.1f}", fontsize=TEXT_SIZE, labelpad=3)
        if weight:
            line = "-" if weight > 0 else "--"
            axes.spines[:].set(color=colour, linewidth=2.5, linestyle=line)
