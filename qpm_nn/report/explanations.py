"""Hierarchical explanations of some test images: heat maps, trees, sets at two coverages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from qpm_nn.config import ConformalConfig
from qpm_nn.conformal import Calibration, HeldOut, measure_sets
from qpm_nn.data import ImageSet
from qpm_nn.explanations import (
    ClassTrees,
    LastLayer,
    compare_classes,
    draw_comparison,
    draw_heat_maps,
    draw_tree,
    example_images,
    explained_image,
    feature_colours,
    shared_features,
)
from qpm_nn.heads import Classifier
from qpm_nn.report.page import Block, Heading, Paragraph, Picture, Table, html_page
from qpm_nn.saving import ClassifierSpec

#: Images that are explained, and classes of a set that are shown beside each.
N_IMAGES, N_BESIDE = 3, 2
#: The second coverage misses so many times as many images as the first.
SECOND_ALPHA = 0.5


def explanation_page(
    classifier: Classifier,
    spec: ClassifierSpec,
    images: ImageSet,
    held_out: HeldOut,
    means: ArrayLike,
    config: ConformalConfig,
    *,
    seed: int,
    n_images: int = N_IMAGES,
    device: torch.device | str = "cpu",
) -> str:
    """HTML page about some images of the test set.

    Parameters
    ----------
    classifier : Classifier
        With an assignment of equally many features to all classes.
    spec : ClassifierSpec
    images : ImageSet
    held_out : HeldOut
        Of all these images. Those that do not calibrate are measured and shown.
    means : array of shape (n_selected,)
        Of :func:`~qpm_nn.explanations.active_means` on the training images.
    config : ConformalConfig
        Of the sets; the second coverage misses half as many images.
    seed : int
        Of the split into images that calibrate and others.
    n_images : int
    device : torch.device or str
    """
    options = asdict(config)
    alpha, share = options.pop("alpha"), options.pop("share")
    calibrating, measuring = held_out.parts(share, seed)
    calibrations = held_out.subset(calibrating).calibrate_each(
        (alpha, SECOND_ALPHA * alpha), **options
    )
    sets = [held_out.predict_set(calibration) for calibration in calibrations]
    predicted = held_out.logits.argmax(1)
    shown = measuring if len(measuring) else calibrating
    typical = typical_images(predicted[shown], held_out.labels[shown], sets[0][shown], n_images)
    chosen = shown[typical].tolist()
    page: list[Block] = [
        Paragraph(
            "Each class is a set of features. An image sorts the features of every class by their "
            "activation, and classes whose strongest features agree with those of the prediction "
            "are near to it. A prediction set holds the true class with the probability that is "
            "demanded, on average over images like those that it was calibrated with."
        ),
        _sets_table(calibrations, held_out.subset(shown)),
    ]
    for i in chosen:
        page += _about(
            classifier, spec, images, held_out, i, predicted, sets, calibrations, means, device
        )
    return html_page("Hierarchical explanations", page)


def typical_images(predicted: Tensor, labels: Tensor, sets: Tensor, n: int) -> list[int]:
    """Up to n images of different classes: a wrong one whose class is in the set, then right ones.

    Of the right ones those with sets of several classes come first, sets of two to eight classes
    before larger ones.
    """
    size, right = sets.sum(1), predicted == labels
    covered = sets[torch.arange(len(labels)), labels]
    handy = (size >= 2) & (size <= 8)
    rank = torch.full((len(labels),), 4)
    rank[right] = 3
    rank[right & (size > 1)] = 2
    rank[right & handy] = 1
    order: list[int] = rank.argsort(stable=True).tolist()
    wrong = torch.nonzero(~right & covered & handy).flatten().tolist()
    found: list[int] = []
    seen: set[int] = set()
    for i in [*wrong[:1], *order]:
        classes = {int(labels[i]), int(predicted[i])}
        if len(found) < n and seen.isdisjoint(classes):
            found.append(i)
            seen |= classes
    return found


def _sets_table(calibrations: tuple[Calibration, ...], held_out: HeldOut) -> Table:
    rows = []
    for calibration in calibrations:
        level = str(calibration.levels[0]) if len(calibration.levels) == 1 else "-"
        found = measure_sets(calibration, held_out)
        rows.append(
            [
                f"{1 - calibration.alpha:.1%}",
                level,
                f"{found['mean_size']:.2f}",
                str(calibration.n_calibration),
            ]
        )
    return Table(("coverage demanded", "level", "mean size of sets", "calibration images"), rows)


def _about(
    classifier: Classifier,
    spec: ClassifierSpec,
    images: ImageSet,
    held_out: HeldOut,
    i: int,
    predicted: Tensor,
    sets: list[Tensor],
    calibrations: tuple[Calibration, ...],
    means: ArrayLike,
    device: torch.device | str,
) -> Iterator[Block]:
    """All about one image."""
    names, head = spec.class_names, classifier.head
    label, c = int(held_out.labels[i]), int(predicted[i])
    verdict = "recognised" if c == label else f"taken for {names[c]}"
    yield Heading(f"{names[label]}, {verdict}")
    shown = explained_image(classifier, images, i, spec, device)
    beside = [m for m in sets[0][i].nonzero().flatten().tolist() if m != c][:N_BESIDE]
    examples = example_images(classifier, images, beside, spec, device)
    of_beside = zip(beside, examples, strict=True)
    rows = [shown, *((m, example) for m, example in of_beside if example is not None)]
    yield Picture(
        draw_heat_maps(head, names, rows, means),
        f"Test image {i}: where the features of {names[c]} look, and those of other classes in "
        "the set beside an image of each.",
        photographs=True,
    )
    colours = feature_colours(head.selected.tolist())
    for calibration, of_images in zip(calibrations, sets, strict=True):
        trees = ClassTrees(
            held_out.features[[i]],
            predicted[[i]],
            head.assignment.cpu(),
            head.selected.cpu(),
            names,
            of_images[[i]],
        )
        members = of_images[i].nonzero().flatten().tolist()
        listed = ", ".join(names[m] for m in members[:12])
        listed += "" if len(members) <= 12 else f" and {len(members) - 12} more"
        n = len(members)
        yield Heading(f"{1 - calibration.alpha:.1%} coverage: {n} class{'es' if n != 1 else ''}", 3)
        yield Paragraph(f"In the set: {listed}.")
        yield Picture(
            draw_tree(trees.tree(0, "local"), colours),
            "Classes that share the strongest feature with the prediction.",
        )
        if calibration is calibrations[0]:
            yield Picture(draw_tree(trees.tree(0, "global"), colours), "All classes.")
    shared = shared_features(head)[c]
    shared[c] = -1
    other = int(shared.argmax())
    layer = LastLayer.of(head, names)
    examples = example_images(classifier, images, (c, other), spec, device)
    yield Heading(f"{names[c]} and {names[other]}", 3)
    yield Picture(
        draw_comparison(compare_classes(layer, (c, other), examples), colours),
        f"The class most like {names[c]}, and what tells them apart.",
        photographs=True,
    )
