"""Figures of a run for papers and slides, each with the data that it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from matplotlib.figure import Figure

from qpm_nn.explanations import (
    LastLayer,
    active_means,
    assignment_matrix,
    class_graph,
    class_tree,
    compare_classes,
    contributions,
    counterfactual,
    draw_assignment,
    draw_class_graph,
    draw_comparison,
    draw_confusions,
    draw_contributions,
    draw_counterfactual,
    draw_feature_histogram,
    draw_grounding,
    draw_heat_maps,
    draw_solver_trace,
    draw_tree,
    draw_why_not,
    example_images,
    explained_image,
    feature_colours,
    feature_profiles,
    grounding_scatter,
    observed_limits,
    solver_trace,
    why_not,
)
from qpm_nn.heads import AssignmentHead
from qpm_nn.report.data import ReportSource
from qpm_nn.report.seen import SeenImages

#: Features and images that have figures of their own.
N_FEATURES, N_IMAGES = 3, 3


class HasRecord(Protocol):
    """Data of a figure."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""


class DrawnFigure(NamedTuple):
    """A figure, its file name without ending, and what it shows."""

    name: str
    draw: Callable[[], Figure]
    data: HasRecord


def report_figures(
    source: ReportSource, device: torch.device | str = "cpu"
) -> Iterator[DrawnFigure]:
    """Figures of the whole model, of its most used features, and of a few images.

    The images are the clearest one of the most frequent mistake, if there is any, and those that
    stand for the two classes that are the most alike.
    """
    layer = LastLayer.of(source.head, source.spec.class_names)
    seen = SeenImages.of(layer, source.test)
    colours = feature_colours(layer.selected.tolist())
    training = source.training["features"]

    matrix = assignment_matrix(layer)
    yield DrawnFigure("assignment", partial(draw_assignment, matrix, colours), matrix)
    graph = class_graph(layer)
    yield DrawnFigure("class_graph", partial(draw_class_graph, graph, colours), graph)
    mistakes = seen.confusions
    yield DrawnFigure("confusions", partial(draw_confusions, mistakes, colours), mistakes)
    if source.solution is not None:
        trace = solver_trace(source.solution)
        yield DrawnFigure("solver_trace", partial(draw_solver_trace, trace), trace)
    if source.similarity is not None and layer.n_classes > 1:
        given, similarity = source.similarity
        scatter = grounding_scatter(layer, similarity)
        yield DrawnFigure("grounding", partial(draw_grounding, scatter, given), scatter)
    most_used = np.argsort(-(layer.weight != 0).sum(axis=0), kind="stable")[:N_FEATURES]
    profiles = feature_profiles(
        layer, training, source.training["labels"], positions=most_used.tolist()
    )
    for profile in profiles:
        yield DrawnFigure(
            f"feature_{profile.feature}",
            partial(draw_feature_histogram, profile, colours),
            profile,
        )
    pair = seen.closest
    examples = example_images(source.classifier, source.data.test, pair, source.spec, device)
    if len(pair) > 1:
        compared = compare_classes(layer, pair, examples)
        yield DrawnFigure("comparison", partial(draw_comparison, compared, colours), compared)
    images = [pair_of.images[0] for pair_of in mistakes.pairs[:1]]
    images += [example.index for example in examples if example is not None]
    for i in list(dict.fromkeys(images))[:N_IMAGES]:
        yield from image_figures(source, seen, i, device)


def image_figures(
    source: ReportSource, seen: SeenImages, i: int, device: torch.device | str = "cpu"
) -> Iterator[DrawnFigure]:
    """Of a test image: why the prediction, why not another, and what would change it."""
    layer, features = seen.layer, seen.features[i]
    colours = feature_colours(layer.selected.tolist())
    predicted, label, second = int(seen.predicted[i]), int(seen.labels[i]), seen.second(i)
    why = contributions(layer, features, predicted)
    name = f"image_{i}"
    if isinstance(source.head, AssignmentHead):
        shown = explained_image(source.classifier, source.data.test, i, source.spec, device)
        means = active_means(source.training["features"])
        maps = partial(draw_heat_maps, source.head, layer.class_names, [shown], means)
        yield DrawnFigure(f"{name}_maps", maps, why)
    yield DrawnFigure(f"{name}_why", partial(draw_contributions, why, colours), why)
    if second is not None:
        not_this = why_not(layer, features, second if label == predicted else label, predicted)
        yield DrawnFigure(f"{name}_why_not", partial(draw_why_not, not_this, colours), not_this)
        limits = observed_limits(source.training["features"])
        changes = counterfactual(layer, features, not_this.other_index, limits)
        draw = partial(draw_counterfactual, changes, colours, layer.class_names)
        yield DrawnFigure(f"{name}_changes", draw, changes)
    if seen.has_hierarchy:
        tree = class_tree(
            torch.from_numpy(source.test["features"][i]),
            predicted,
            source.head.weight.cpu() > 0,
            source.head.selected.cpu(),
            layer.class_names,
        )
        yield DrawnFigure(f"{name}_tree", partial(draw_tree, tree, colours), tree)
