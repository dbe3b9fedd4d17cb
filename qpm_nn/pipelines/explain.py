"""Explanations of single test images of a run: why, why not, and what they share with others."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from qpm_nn.data import DataModule
from qpm_nn.explanations import LastLayer, why_not
from qpm_nn.explanations.lettering import printable
from qpm_nn.explanations.representative import (
    MappedImages,
    case_study,
    draw_case_study,
    interpret,
    rivals_to_rule_out,
    shared_pattern,
    split_network,
)
from qpm_nn.heads import AssignmentHead, Head
from qpm_nn.pipelines.observer import Observer
from qpm_nn.pipelines.results import Pipeline
from qpm_nn.pipelines.run import finished_pipeline
from qpm_nn.report import DrawnFigure, image_figures
from qpm_nn.report.seen import SeenImages
from qpm_opt import InvalidInputError
from qpm_opt.shortening import shortened

#: Images by which a split is tested.
N_TRIED = 8


def explain(
    out: str | os.PathLike[str],
    images: Sequence[int],
    *,
    representative: bool = False,
    observer: Observer | None = None,
    data: DataModule | None = None,
    root: str | os.PathLike[str] | None = None,
    **options: Any,
) -> list[str]:
    """Explain test images of a finished run, with figures and their data in ``figures/``.

    Parameters
    ----------
    out : path
        The run directory.
    images : sequence of int
        Indices of test images.
    representative : bool
        Find representative interpretations among the training images instead. They also serve
        models that use all features for all classes.
    observer, data
        As for :func:`~qpm_nn.pipelines.run.run`.
    root
        As for :func:`~qpm_nn.pipelines.run.calibrate`.
    **options
        ``sampling``, ``n_boundaries``, ``method``, ``time_limit`` of
        :func:`~qpm_nn.explanations.representative.interpret`.

    Returns
    -------
    list of str
        What was found, in sentences.

    Raises
    ------
    InvalidInputError
        If there is no finished run, no such image, or the method cannot serve the network.
    """
    pipeline = finished_pipeline(out, observer, data, root)
    n_images = len(pipeline.data.test)
    for i in images:
        if not 0 <= i < n_images:
            raise InvalidInputError(
                f"There is no test image {i}; 0 to {n_images - 1} were expected."
            )
    with pipeline.finished():
        if representative:
            return _represent(pipeline, images, **options)
        pipeline.seen_stages()
        source = pipeline.report_source()
        seen = SeenImages.of(LastLayer.of(source.head, source.spec.class_names), source.test)
        sentences = []
        for i in images:
            for found in image_figures(source, seen, i, pipeline.device):
                pipeline.write_drawn(found)
            sentences.append(_why(seen, i))
        return sentences


def _why(seen: SeenImages, i: int) -> str:
    names, predicted, label = seen.layer.class_names, int(seen.predicted[i]), int(seen.labels[i])
    verdict = "recognised" if predicted == label else f"it is {_shown(names[label])}"
    text = f"Test image {i} is taken for {_shown(names[predicted])} ({verdict})"
    rival = seen.second(i) if predicted == label else label
    if rival is None:
        return text + "."
    reasons = why_not(seen.layer, seen.features[i], rival, predicted)
    terms = ", ".join(f"feature {one.feature} {one.contribution:+.2f}" for one in reasons.terms)
    return f"{text}, rather than for {_shown(names[rival])}: {terms or 'the biases decide'}."


def _represent(pipeline: Pipeline, images: Sequence[int], **options: Any) -> list[str]:
    classifier, data, names = pipeline.load("model"), pipeline.data, pipeline.spec.class_names
    preprocessing = pipeline.spec.preprocessing
    tried = data.train.__getitems__(range(min(N_TRIED, len(data.train))))[0]
    split = split_network(classifier, preprocessing(tried))
    references, tests = (
        MappedImages(split, part, preprocessing, pipeline.device)
        for part in (data.train, data.test)
    )
    sentences = [f"Boundaries are those behind {split.layer}. {split.notice}".strip()]
    for i in images:
        found = interpret(references, tests.maps([i]), seed=pipeline.config.seed, **options)
        study = case_study(found, tests, i, references, names)
        draw = partial(draw_case_study, study)
        pipeline.write_drawn(DrawnFigure(f"image_{i}_representative", draw, study))
        cover, name = found.cover, _shown(names[found.c])
        proof = (
            "the most that they can"
            if cover.bound == cover.objective
            else f"no choice covers more than {cover.bound}"
        )
        sentences.append(
            f"Test image {i} is taken for {name}. {len(found.boundaries)} of {len(found.sampled)} "
            f"boundaries cover {cover.n_covered_same} ({proof}) of "
            f"{int(found.problem.same.sum())} training images that are taken for it, and "
            f"{cover.n_covered_other} others."
        )
        if _is_plain(classifier.head):
            sentences += _bridge(pipeline, found.c, i, **options)
    return sentences


def _shown(name: str) -> str:
    """The name of a class as sentences have it."""
    return shortened(printable(name))


def _is_plain(head: Head) -> bool:
    return isinstance(head, AssignmentHead) and head.negative is None


def _bridge(
    pipeline: Pipeline,
    c: int,
    i: int,
    *,
    method: str = "exact",
    time_limit: float = 10.0,
    **_: Any,
) -> list[str]:
    """The same questions of the features that the classes are sets of."""
    pipeline.seen_stages()
    source = pipeline.report_source()
    layer = LastLayer.of(source.head, source.spec.class_names)
    training, x = source.training["features"], source.test["features"][i]

    def listed(positions: Sequence[int]) -> str:
        return ", ".join(str(layer.selected[j]) for j in positions) or "none"

    rivals = rivals_to_rule_out(training, layer.weight, c, time_limit)
    predicted = np.argmax(training @ layer.weight.T, axis=1)
    pattern = shared_pattern(training, predicted, x, c, method=method, time_limit=time_limit)
    names = ", ".join(_shown(layer.class_names[rival.c]) for rival in rivals.rivals)
    record = {"rivals": rivals.to_dict(), "pattern": pattern.to_dict()}
    text = json.dumps(record, indent=1) + "\n"
    pipeline.write_text(f"figures/image_{i}_features.json", text)
    fewest = "the fewest possible" if rivals.is_proved else f"at least {rivals.bound} are needed"
    return [
        f"A training image that is ahead of these rivals is taken for "
        f"{_shown(layer.class_names[c])} ({len(rivals.rivals)}, {fewest}): {names or 'none'}.",
        f"{pattern.n_same} of {pattern.n_class} training images that are taken for it, and "
        f"{pattern.n_other} others, have features {listed(pattern.active)} active and "
        f"{listed(pattern.inactive)} inactive, as this image has.",
    ]
