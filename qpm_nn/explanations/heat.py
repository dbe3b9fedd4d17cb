"""Heat maps whose intensity tells how certain a feature is, whatever images stand beside.

References
----------
CHiQPM: Calibrated Hierarchical Interpretable Image Classification, NeurIPS 2025, eqs. 24 and 25, as
its reference implementation has them, but for the contrast: that one raises maps to a power of the
maximum over the images of a batch, so that an image looks weaker beside a stronger one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from qpm_nn.data import ImageSet
from qpm_nn.explanations.canvas import STYLE, Canvas
from qpm_nn.explanations.colours import feature_colours
from qpm_nn.explanations.examples import Example, predicted_examples
from qpm_nn.explanations.lettering import elided, printable, wrapped
from qpm_nn.explanations.maps import CELL, as_shown, bare_axes, draw_map, up_sampled
from qpm_nn.heads import AssignmentHead, Classifier
from qpm_nn.metrics.checks import as_matrix
from qpm_nn.metrics.contrastiveness import two_modes
from qpm_nn.saving import ClassifierSpec
from qpm_opt import InvalidInputError

FloatArray = NDArray[np.float64]

NAME_SIZE, TEXT_SIZE, CAPTION_SIZE = 10.0, 9.0, 7.5  # points
# Inches.
GAP, GROUP_GAP = 0.12, 0.34
LEFT, RIGHT, TOP, BOTTOM, MIN_WIDTH = 0.25, 0.25, 0.42, 0.12, 5.0
TITLE, VALUE, CAPTION_LINE = 0.42, 0.32, 0.15
CAPTION = (
    "Intensity: how certain the feature is; full at its mean over images in which it is active. "
    "Line: half of full intensity. Frame: the feature belongs to the class. Number: the feature in "
    "standard deviations from its mean; share of the class's logit."
)
#: Added where a class has a feature negatively.
NEGATIVE_CAPTION = " Dashed: it counts against the class."


class ExplainedImage(NamedTuple):
    """An image with the class that it is shown for."""

    c: int
    example: Example


def active_means(features: ArrayLike | Tensor) -> FloatArray:
    """Mean of each feature over the images in which it is active, (n_selected,).

    It is the larger mean of the two normals fitted to the feature. Where that says nothing, because
    the feature is constant or the mean is not positive, it is the mean of the values above 0; if
    there are none, it is 1, a standard deviation.

    Parameters
    ----------
    features : array of shape (n_images, n_selected)
        Normalised features of the training images, as the classifier computes them.

    Raises
    ------
    InvalidInputError
        If a value is NaN or infinite, or there are no images.
    """
    matrix = as_matrix("features", features)
    if not len(matrix):
        raise InvalidInputError("There are no images; at least one was expected.")
    positive = np.maximum(matrix, 0)
    n_positive = (matrix > 0).sum(axis=0)
    means = np.where(n_positive > 0, positive.sum(axis=0) / np.maximum(n_positive, 1), 1.0)
    larger = two_modes(matrix).means.max(axis=1)  # NaN for a constant feature
    return np.where(larger > 0, larger, means)


def certainty(features: ArrayLike, means: ArrayLike) -> FloatArray:
    """Features (..., n_selected) as parts of their active means, from 0 to 1."""
    return np.clip(np.asarray(features, np.float64) / np.asarray(means), 0, 1)


def heat_map(feature_map: NDArray[np.floating], certain: float, gamma: float = 1.0) -> FloatArray:
    """Intensity of a map (height, width), up-sampled to a square: its peak is as it is certain.

    The map goes from 0 to 1 within its image; a constant one is 0.

    Parameters
    ----------
    feature_map : array of shape (height, width)
    certain : float
        Of :func:`certainty`, in [0, 1].
    gamma : float
        Above 1, what is weaker than the peak gets weaker still.

    Raises
    ------
    InvalidInputError
        If the map is not finite or gamma not positive.
    """
    if not gamma > 0:
        raise InvalidInputError(f"gamma is {gamma}; a positive number was expected.")
    feature_map = as_matrix("feature_map", feature_map)
    # In units of the largest value first, so that no difference overflows or vanishes.
    feature_map = feature_map / (np.abs(feature_map).max() or 1)
    span = np.ptp(feature_map)
    scaled = (feature_map - feature_map.min()) / span if span else np.zeros_like(feature_map)
    return certain * up_sampled(scaled) ** gamma


def explained_image(
    classifier: Classifier,
    images: ImageSet,
    i: int,
    spec: ClassifierSpec,
    device: torch.device | str = "cpu",
) -> ExplainedImage:
    """Image ``i``, to be shown for the class that is predicted."""
    ((c, example),) = predicted_examples(classifier, images, [i], spec, device)
    return ExplainedImage(c, example)


@rc_context(STYLE)
def draw_heat_maps(
    head: AssignmentHead,
    class_names: Sequence[str],
    rows: Sequence[tuple[int, Example]],
    means: ArrayLike,
    gamma: float = 1.0,
) -> Figure:
    """Feature maps over images, in the colours of the features: why a class is predicted.

    Columns: the image, the features of the first row's class, the strongest in its image first, and
    those that only classes of other rows have. A frame marks the features of the row's class, a
    dashed one those assigned negatively; below stand the normalised feature and its share of the
    logit, if that is positive.

    Parameters
    ----------
    head : AssignmentHead
    class_names : sequence of str
    rows : sequence of (int, Example)
        Labels and images: of :func:`explained_image` first, then, for example, the strongest images
        (:func:`example_image`) of the other classes in the prediction set.
    means : array of shape (n_selected,)
        Of :func:`active_means`.
    gamma : float
        See :func:`heat_map`.

    Raises
    ------
    InvalidInputError
        If there are no rows, or ``means`` has another shape or values that are not positive.
    """
    weight = head.weight.cpu().numpy()
    means = np.asarray(means, np.float64)
    if means.shape != weight.shape[1:] or not (means > 0).all():
        raise InvalidInputError(
            f"means has shape {means.shape}; {weight.shape[1:]} with positive values was expected."
        )
    if not rows:
        raise InvalidInputError("There are no rows; at least one was expected.")
    groups = _columns(weight, rows)
    selected = head.selected.tolist()
    colours = feature_colours(selected)

    n_maps = sum(map(len, groups))
    total_width = LEFT + CELL + n_maps * (CELL + GAP) + len(groups) * (GROUP_GAP - GAP) + RIGHT
    total_width = max(total_width, MIN_WIDTH)
    caption = CAPTION + ("" if head.negative is None else NEGATIVE_CAPTION)
    lines = wrapped(caption, CAPTION_SIZE, total_width - LEFT - RIGHT)
    bottom = BOTTOM + len(lines) * CAPTION_LINE + 0.12
    row_height = TITLE + CELL + VALUE
    canvas = Canvas(total_width, bottom + len(rows) * row_height + TOP)
    for i, line in enumerate(lines, 1):
        y = BOTTOM + (len(lines) - i) * CAPTION_LINE
        canvas.text(LEFT, y, line, fontsize=CAPTION_SIZE, color="#444444")
    top = canvas.height - TOP
    x = LEFT + CELL + GROUP_GAP
    places = []
    for group in groups:
        for j in group:
            name = f"feature {selected[j]}"
            canvas.text(x + CELL / 2, top + 0.1, name, ha="center", fontsize=TEXT_SIZE)
            canvas.rule(x, top + 0.03, CELL, color=colours[selected[j]], linewidth=4)
            places.append((j, x))
            x += CELL + GAP
        x += GROUP_GAP - GAP
    for r, (c, example) in enumerate(rows):
        y = top - (r + 1) * row_height + VALUE
        _draw_title(canvas, y, class_names[c], example, float(weight[c] @ example.features), not r)
        axes = bare_axes(canvas, LEFT, y)
        axes.imshow(as_shown(example.image), cmap="gray", vmin=0, vmax=1)
        certain = certainty(example.features, means)
        share = _shares(weight[c], example.features)
        for j, x in places:
            axes = bare_axes(canvas, x, y)
            heat = heat_map(example.maps[j], float(certain[j]), gamma)
            draw_map(axes, example.image, heat, colours[selected[j]])
            text = f"{example.features[j]:+.1f}"
            if weight[c, j]:
                line = "-" if weight[c, j] > 0 else "--"
                axes.spines[:].set(color=colours[selected[j]], linewidth=2.5, linestyle=line)
                text += "" if share is None else f"   {share[j]:.0%}"
            axes.set_xlabel(text, fontsize=TEXT_SIZE, labelpad=3)
    return canvas.figure


def _columns(weight: NDArray[np.floating], rows: Sequence[tuple[int, Example]]) -> list[list[int]]:
    """Positions of the features of the first class, the strongest first, and of only the others."""
    c, example = rows[0]
    contribution = weight[c] * example.features
    order = np.argsort(-contribution, kind="stable").tolist()
    others = np.any([weight[other] != 0 for other, _ in rows], axis=0) & (weight[c] == 0)
    strength = np.argsort(-example.features, kind="stable").tolist()
    groups = [[j for j in order if weight[c, j]], [j for j in strength if others[j]]]
    return [group for group in groups if group]


def _shares(weight: NDArray[np.floating], features: NDArray[np.floating]) -> FloatArray | None:
    """Parts of the logit that add up to 1; None if it is not positive."""
    contribution = (weight * features).astype(np.float64)
    logit = contribution.sum()
    return contribution / logit if logit > 0 else None


def _draw_title(
    canvas: Canvas, y: float, name: str, example: Example, logit: float, is_first: bool
) -> None:
    most = (canvas.width - LEFT - RIGHT) * 72 / NAME_SIZE
    name = elided(printable(name), most)
    canvas.text(LEFT, y + CELL + 0.22, name, fontsize=NAME_SIZE, fontweight="bold")
    kind = "prediction" if is_first else "example of the class"
    note = "" if example.is_correct else ", misclassified"
    text = f"{kind}{note}, logit {logit:+.1f}"
    canvas.text(LEFT, y + CELL + 0.06, text, fontsize=CAPTION_SIZE, color="#444444")
