"""Figure of a representative interpretation: an image and those most like it, with heat maps.

References
----------
Lam et al., Finding representative interpretations on convolutional neural networks, ICCV 2021,
figure 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch.nn import functional

from qpm_nn.explanations.canvas import STYLE, Canvas
from qpm_nn.explanations.lettering import elided, printable, wrapped
from qpm_nn.explanations.maps import CELL, MAP_SIZE, as_picture, as_shown, bare_axes, draw_map
from qpm_nn.explanations.representative.images import MappedImages
from qpm_nn.explanations.representative.interpretation import Interpretation
from qpm_opt import InvalidInputError

#: Name of the format of a case study as JSON.
STUDY_FORMAT = "qpm-representative/1"
#: Similar images beside the input.
N_SIMILAR = 6
#: Sides of a heat map as JSON.
HEAT_SHAPE = (14, 14)
COLOUR = "#d55e00"
#: Frame of the image that is explained.
FRAME = "#0072b2"
TEXT_SIZE, CAPTION_SIZE = 8.5, 7.5  # points
# Inches.
GAP, GROUP_GAP, ROW_GAP, LINE = 0.12, 0.34, 0.28, 0.15
LEFT, RIGHT, TOP, BOTTOM = 0.25, 0.25, 0.62, 0.12


@dataclass(frozen=True, eq=False)
class ShownImage:
    """An image with its heat map.

    Attributes
    ----------
    index : int
        Among the reference images, or those that the input is from.
    distance : float
        Semantic distance to the input (eq. 6); 0 for itself.
    probability : float
        Of the class that is predicted for the input.
    image : array of shape (height, width) or (height, width, 3)
        In [0, 1].
    heat : array of shape (MAP_SIZE, MAP_SIZE)
        In [0, 1].
    """

    index: int
    distance: float
    probability: float
    image: NDArray[np.floating]
    heat: NDArray[np.floating]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: no pixels, the heat map as ``HEAT_SHAPE`` bytes in hexadecimal digits."""
        small = functional.adaptive_avg_pool2d(torch.from_numpy(self.heat)[None], HEAT_SHAPE)
        return {
            "index": self.index,
            "distance": self.distance,
            "probability": self.probability,
            "heat": np.round(255 * small.numpy()).astype(np.uint8).tobytes().hex(),
        }


@dataclass(frozen=True, eq=False)
class CaseStudy:
    """What the figure shows.

    Attributes
    ----------
    interpretation : Interpretation
    class_name : str
        Predicted for the input.
    input : ShownImage
    similar : list of ShownImage
        The most similar covered images other than the input, the nearest first.
    greedy : Interpretation
        What the paper's algorithm makes of the same boundaries, for comparison.
    """

    interpretation: Interpretation
    class_name: str
    input: ShownImage
    similar: list[ShownImage]
    greedy: Interpretation

    def to_dict(self) -> dict[str, Any]:
        """For JSON, without pixels."""
        return {
            "format": STUDY_FORMAT,
            "class_name": self.class_name,
            "input": self.input.to_dict(),
            "similar": [image.to_dict() for image in self.similar],
            "heat_shape": list(HEAT_SHAPE),
            "interpretation": self.interpretation.to_dict(),
            "greedy": {
                "n_covered_same": self.greedy.cover.n_covered_same,
                "n_boundaries": len(self.greedy.boundaries),
            },
        }


def case_study(
    interpretation: Interpretation,
    images: MappedImages,
    i: int,
    references: MappedImages,
    class_names: Sequence[str],
    n_similar: int = N_SIMILAR,
) -> CaseStudy:
    """An image, and the covered reference images that are most similar to it.

    Parameters
    ----------
    interpretation : Interpretation
        Of image ``i`` of ``images``.
    images : MappedImages
        May be the references themselves.
    i : int
    references : MappedImages
    class_names : sequence of str
        Of all classes.
    n_similar : int
        0 or more; there may be fewer.

    Raises
    ------
    InvalidInputError
        If there is no such image, or the number of names or ``n_similar`` is impossible.
    """
    if not 0 <= i < len(images):
        raise InvalidInputError(f"There is no image {i}; 0 to {len(images) - 1} were expected.")
    n_classes = references.scores.shape[1]
    if len(class_names) != n_classes:
        raise InvalidInputError(
            f"There are {len(class_names)} class names; {n_classes} were expected."
        )
    if n_similar < 0:
        raise InvalidInputError(f"n_similar is {n_similar}; 0 or more was expected.")
    nearest, distances = interpretation.nearest(references, n_similar + 1)
    if images is references and i in nearest:
        at = nearest.index(i)
        del nearest[at], distances[at]
    return CaseStudy(
        interpretation,
        class_names[interpretation.c],
        _shown(interpretation, images, i, 0.0),
        [
            _shown(interpretation, references, j, distance)
            for j, distance in list(zip(nearest, distances, strict=True))[:n_similar]
        ],
        interpretation.chosen_anew("greedy"),
    )


def _shown(
    interpretation: Interpretation, images: MappedImages, i: int, distance: float
) -> ShownImage:
    scores = torch.from_numpy(images.scores[i])
    (heat,) = interpretation.heat_maps(images.maps([i]), (MAP_SIZE, MAP_SIZE))
    return ShownImage(
        i,
        distance,
        float(scores.softmax(0)[interpretation.c]),
        as_picture(images.pixels([i])[0]),
        heat,
    )


@rc_context(STYLE)
def draw_case_study(study: CaseStudy) -> Figure:
    """Two rows, images and heat maps: the input in a frame, then the images most like it.

    Under the images stands the probability of the class, under the heat maps the semantic distance
    to the input.
    """
    shown = [study.input, *study.similar]
    n_columns = max(len(shown), 3)
    total = LEFT + n_columns * (CELL + GAP) + GROUP_GAP - 2 * GAP + RIGHT
    lines = wrapped(_caption(study.interpretation), CAPTION_SIZE, total - LEFT - RIGHT)
    lower = BOTTOM + len(lines) * LINE + ROW_GAP
    upper = lower + CELL + ROW_GAP
    canvas = Canvas(total, upper + CELL + TOP)
    for n, line in enumerate(lines, 1):
        y = BOTTOM + (len(lines) - n) * LINE
        canvas.text(LEFT, y, line, fontsize=CAPTION_SIZE, color="#444444")
    name = elided(printable(study.class_name), (total - LEFT - RIGHT) * 72 / 11)
    canvas.text(LEFT, upper + CELL + 0.36, name, fontsize=11, fontweight="bold")
    style = {"fontsize": TEXT_SIZE, "color": "#444444"}
    canvas.text(LEFT, upper + CELL + 0.1, f"image {study.input.index}", **style)
    if study.similar:
        canvas.text(LEFT + CELL + GROUP_GAP, upper + CELL + 0.1, "most similar covered", **style)
    for n, image in enumerate(shown):
        x = LEFT + n * (CELL + GAP) + (GROUP_GAP - GAP if n else 0)
        top, bottom = bare_axes(canvas, x, upper), bare_axes(canvas, x, lower)
        top.imshow(as_shown(image.image), cmap="gray", vmin=0, vmax=1)
        draw_map(bottom, image.image, image.heat, COLOUR)
        top.set_xlabel(f"{image.probability:.1%}", fontsize=TEXT_SIZE, labelpad=3)
        bottom.set_xlabel(f"{image.distance:.3g}", fontsize=TEXT_SIZE, labelpad=3)
        if not n:
            for axes in (top, bottom):
                axes.spines[:].set(color=FRAME, linewidth=2.5)
    return canvas.figure


def _caption(interpretation: Interpretation) -> str:
    cover = interpretation.cover
    n_same = int(interpretation.problem.same.sum())
    n = len(interpretation.boundaries)
    text = (
        f"{n} of {len(interpretation.sampled)} boundaries cover {cover.n_covered_same} of "
        f"{n_same} reference images of the class and {cover.n_covered_other} of others"
    )
    if cover.bound == cover.objective:
        text += "; no choice covers more, proved."
    else:
        text += f"; no choice covers more than {cover.bound}."
    return text + (
        " Under the images: probability of the class. Under the heat maps, which all have the same "
        "channel weights: semantic distance to the image in the frame. Line: half intensity."
    )
