"""Figure of two contrasted classes: where each of their features looks."""

from __future__ import annotations

import textwrap
from typing import NamedTuple

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from qpm_nn.data import ImageSet
from qpm_nn.explanations.canvas import Canvas
from qpm_nn.explanations.maps import CELL, as_shown, bare_axes, draw_map, up_sampled
from qpm_nn.explanations.words import shared_features
from qpm_nn.extraction import iterate_activations
from qpm_nn.heads import AssignmentHead, Classifier
from qpm_nn.saving import ClassifierSpec

FloatArray = NDArray[np.floating]

#: Colours that stay apart for colour-blind eyes (Okabe and Ito, 2008).
FIRST, SHARED, SECOND = "#0072b2", "#009e73", "#d55e00"
#: Characters of a class name in one line.
NAME_WIDTH = 15
# Inches.
GAP, GROUP_GAP, ROW_GAP = 0.12, 0.34, 0.34
LEFT, RIGHT, TOP, BOTTOM = 0.55, 0.25, 0.95, 0.72
CAPTION = (
    "Frame: the feature belongs to the class. Colour: activation, one scale for each column; "
    "line: half of its maximum.\n"
    "Number: the feature in standard deviations from its mean, both of the dense model."
)
#: Added where a class has a feature negatively.
NEGATIVE_CAPTION = " Dashed: it counts against the class."


class Example(NamedTuple):
    """An image that stands for its class.

    ``index`` into the data set, ``is_correct`` whether the classifier recognises it, ``image``
    (height, width[, 3]) in [0, 1], ``features`` (n_selected,) normalised, ``maps``
    (n_selected, h, w).
    """

    index: int
    is_correct: bool
    image: FloatArray
    features: FloatArray
    maps: FloatArray


def closest_pair(head: AssignmentHead) -> tuple[int, int]:
    """The first two classes that share the most features: ``n_per_class - 1`` if any do."""
    shared = np.triu(shared_features(head) + 1, 1)
    first, second = np.unravel_index(shared.argmax(), shared.shape)
    return int(first), int(second)


def example_image(
    classifier: Classifier,
    images: ImageSet,
    c: int,
    spec: ClassifierSpec,
    device: torch.device | str = "cpu",
) -> Example:
    """Image of class ``c`` with the strongest features of its class, a recognised one if any is.

    Strong means a large sum of the normalised features assigned to the class: its logit.
    """
    members = torch.nonzero(images.labels == c).flatten()
    mine = images.subset(members)
    batches = [
        batch for batch, _ in iterate_activations(classifier, mine, spec.preprocessing, device)
    ]
    logits, features, maps = (
        torch.cat(parts).float().cpu() for parts in zip(*batches, strict=True)
    )
    is_correct = logits.argmax(1) == c
    strength = logits[:, c].masked_fill(~is_correct & is_correct.any(), -torch.inf)
    best = int(strength.argmax())
    image = mine[best][0].permute(1, 2, 0).squeeze(2).numpy() / 255
    return Example(
        int(members[best]),
        bool(is_correct[best]),
        image,
        features[best].numpy(),
        maps[best].numpy(),
    )


@rc_context({"text.parse_math": False})  # a class may be called "US$"
def draw_comparison(
    classifier: Classifier,
    images: ImageSet,
    spec: ClassifierSpec,
    pair: tuple[int, int] | None = None,
    device: torch.device | str = "cpu",
) -> Figure:
    """Feature maps of two classes over an example image of each.

    Columns: the image, the features of only the first class, the shared ones, those of only the
    second. A frame marks the features that belong to the row's class, a dashed one those assigned
    negatively. (One that the classes have with different signs stands in both outer groups.) The
    colour of a column has one scale for both images; below each map stands the normalised feature,
    0 for an average image.

    Parameters
    ----------
    classifier : Classifier
        With an assignment head.
    images : ImageSet
        To take the examples from.
    spec : ClassifierSpec
    pair : tuple of int, optional
        The two classes; :func:`closest_pair` by default.
    device : torch.device or str
    """
    first, second = pair or closest_pair(classifier.head)
    signed = classifier.head.signed_assignment
    sets = [set(np.flatnonzero(signed[c]).tolist()) for c in (first, second)]
    examples = [example_image(classifier, images, c, spec, device) for c in (first, second)]
    selected = classifier.head.selected.tolist()
    groups = [
        ("only upper", FIRST, sorted(sets[0] - sets[1])),
        ("shared", SHARED, sorted(sets[0] & sets[1])),
        ("only lower", SECOND, sorted(sets[1] - sets[0])),
    ]
    groups = [group for group in groups if group[2]]

    n_maps = sum(len(members) for _, _, members in groups)
    width = LEFT + CELL + n_maps * (CELL + GAP) + len(groups) * (GROUP_GAP - GAP) + RIGHT
    rows = [BOTTOM + CELL + ROW_GAP, BOTTOM]  # lower edges
    top = BOTTOM + 2 * CELL + ROW_GAP
    canvas = Canvas(width, top + TOP)
    x = LEFT
    canvas.text(x + CELL / 2, top + 0.1, "test image", ha="center", fontsize=9)
    for y, c, example in zip(rows, (first, second), examples, strict=True):
        axes = bare_axes(canvas, x, y)
        axes.imshow(as_shown(example.image), cmap="gray", vmin=0, vmax=1)
        name = "\n".join(textwrap.wrap(spec.class_names[c].replace("/", "/ "), NAME_WIDTH))
        name += "" if example.is_correct else "\n(misclassified)"
        axes.set_ylabel(name, fontsize=10, fontweight="bold")
    x += CELL + GROUP_GAP
    for title, colour, members in groups:
        span = len(members) * (CELL + GAP) - GAP
        style = {"ha": "center", "fontsize": 11, "fontweight": "bold", "color": colour}
        canvas.text(x + span / 2, top + 0.55, title, **style)
        canvas.rule(x, top + 0.45, span, color=colour, linewidth=2.5)
        for j in members:
            is_negative, i = divmod(j, len(selected))
            highest = max(float(example.maps[i].max()) for example in examples)
            canvas.text(x + CELL / 2, top + 0.1, f"feature {selected[i]}", ha="center", fontsize=9)
            for y, mine, example in zip(rows, sets, examples, strict=True):
                axes = bare_axes(canvas, x, y)
                scale = 1 / highest if highest > 0 else 1
                draw_map(axes, example.image, up_sampled(scale * example.maps[i]), colour)
                if j in mine:
                    line = "--" if is_negative else "-"
                    axes.spines[:].set(color=colour, linewidth=2.5, linestyle=line)
                axes.set_xlabel(f"{example.features[i]:+.1f}", fontsize=9, labelpad=3)
            x += CELL + GAP
        x += GROUP_GAP - GAP
    caption = CAPTION
    if classifier.head.negative is not None:
        caption += NEGATIVE_CAPTION
    canvas.text(LEFT, 0.16, caption, fontsize=7.5, color="#444444", va="bottom")
    return canvas.figure
