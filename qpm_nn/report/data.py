"""Everything that a report says, as plain data for ``report.json``, and its pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from time import monotonic
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qpm_nn.config import MODELS, RunConfig
from qpm_nn.conformal import HeldOut
from qpm_nn.data import DataModule
from qpm_nn.explanations import (
    LastLayer,
    active_means,
    feature_colours,
    feature_profiles,
    grounding_scatter,
    observed_limits,
)
from qpm_nn.explanations.lettering import printable
from qpm_nn.heads import AssignmentHead, Classifier, SparseHead
from qpm_nn.report.choice import (
    MAX_IMAGES,
    N_ERRORS,
    N_OF_CLASS,
    N_OF_ERROR,
    N_TOP,
    ChosenImages,
    examples_of_classes,
    images_of_classes,
    strongest_images,
)
from qpm_nn.report.images import (
    draw_images,
    group_record,
    image_record,
    rounded,
    shown_features,
)
from qpm_nn.report.records import class_records, error_records, feature_records, map_record
from qpm_nn.report.regions import RegionsOfImages
from qpm_nn.report.seen import SeenImages
from qpm_nn.report.sets import SetsOfImages
from qpm_nn.report.tables import metrics_table, solution_record
from qpm_nn.saving import ClassifierSpec
from qpm_opt import InvalidInputError

FloatArray = NDArray[np.floating]

FORMAT = "qpm-report/1"
#: An attribute that so many images of a class have is one of the class.
COMMON = 0.5
#: Images whose prediction sets are shown.
N_SETS = 24
#: Maps of all features of the examples are kept while they are so many in all.
MAX_EXAMPLE_MAPS = 60_000
#: Seconds for the fewest changes that would lead to another class: of an image, and in all.
COUNTERFACTUAL_TIME, COUNTERFACTUALS_TIME = 2.0, 30.0


@dataclass(frozen=True)
class ReportSource:
    """What a report is made of.

    Attributes
    ----------
    classifier : Classifier
        With a head that selects features.
    spec : ClassifierSpec
    data : DataModule
    config : RunConfig
    test, training : mapping
        Arrays of ``predictions.npz`` and of ``training_features.npz``.
    metrics : mapping
        ``metrics.json``.
    solution : mapping or None
        ``solution.json``, if an assignment was solved for.
    versions : mapping
        ``versions.json``.
    similarity : (str, array of shape (n_classes, n_classes)) or None
        What classes are alike by, such as attributes, and how much.

    Raises
    ------
    InvalidInputError
        If the head does not select features.
    """

    classifier: Classifier
    spec: ClassifierSpec
    data: DataModule
    config: RunConfig
    test: Mapping[str, NDArray[Any]]
    training: Mapping[str, NDArray[Any]]
    metrics: Mapping[str, Mapping[str, float | None]]
    solution: Mapping[str, Any] | None
    versions: Mapping[str, str]
    similarity: tuple[str, FloatArray] | None

    @cached_property
    def head(self) -> AssignmentHead | SparseHead:
        """The head, which selects."""
        head = self.classifier.head
        if not isinstance(head, AssignmentHead | SparseHead):
            raise InvalidInputError(
                "The model uses all of its features for all classes, so there is nothing to "
                "report; train a model that selects, such as qpm."
            )
        return head


def report_data(
    source: ReportSource,
    device: torch.device | str = "cpu",
    studies: Sequence[Mapping[str, Any]] = (),
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The content of ``report.json``, and the pictures of the page.

    A class is named by its label, a feature by its place among the selected ones, an image by its
    place in ``images``. Case studies are those of :func:`~qpm_nn.report.studies.read_studies`.
    """
    head, config = source.head, source.config
    names = _distinct_names(source.spec.class_names)
    layer = LastLayer.of(head, names)
    seen = SeenImages.of(layer, source.test)
    n_classes, n_selected = seen.weight.shape
    training = source.training["features"]
    means, limits = active_means(training), observed_limits(training)
    held_out = HeldOut.of(
        head, *(torch.from_numpy(source.test[n]) for n in ("logits", "labels", "features"))
    )
    n_features = (seen.weight != 0).sum(axis=1)
    sets = None
    if seen.has_hierarchy and held_out.assignment is not None:
        sets = SetsOfImages(held_out, config.conformal, seed=config.seed)

    chosen = ChosenImages()
    examples = [None if i is None else chosen.add(i) for i in examples_of_classes(seen)]
    tops = [chosen.add_all(of_one) for of_one in strongest_images(seen.features, N_TOP).T]
    of_errors = [
        chosen.add_all(confusion.images[:N_OF_ERROR] if e < N_ERRORS else [])
        for e, confusion in enumerate(seen.confusions.pairs)
    ]
    of_sets = [(i, chosen.add(i)) for i in ([] if sets is None else sets.typical(N_SETS))]
    regions = RegionsOfImages(studies, source.data.train)
    of_regions = chosen.add_all(regions.inputs)
    n_more = min(N_OF_CLASS, max(0, MAX_IMAGES - len(chosen)) // n_classes)
    of_classes = [chosen.add_all(images) for images in images_of_classes(seen, n_more)]
    for example, images in zip(examples, of_classes, strict=True):
        if example is not None and example not in images:
            images.insert(0, example)

    wanted = [shown_features(seen, i) for i in chosen.indices]
    for j, of_one in enumerate(tops):
        for place in of_one:
            wanted[place].add(j)
    for e, of_one in enumerate(of_errors):
        terms = {term.position for term in seen.confusions.pairs[e].terms}
        for place in of_one:
            wanted[place] |= terms
    if n_classes * n_selected <= MAX_EXAMPLE_MAPS:  # any two classes can be compared
        for place in examples:
            if place is not None:
                wanted[place] = set(range(n_selected))
    sizes, order, media = draw_images(
        source.classifier,
        source.spec,
        source.data.test,
        chosen.indices,
        wanted,
        means,
        device,
        n_others=len(regions.training),
    )
    media |= regions.media(sizes.thumbnail)
    end = monotonic() + COUNTERFACTUALS_TIME
    images = [
        image_record(seen, i, limits, min(COUNTERFACTUAL_TIME, end - monotonic())) | {"maps": maps}
        for i, maps in zip(chosen.indices, order, strict=True)
    ]
    if isinstance(head, AssignmentHead) and head.negative is None:
        # Where sets are shown, or else examples: these are the images that are looked at first.
        grouped = [place for _, place in of_sets] or [e for e in examples if e is not None]
        predicted = layer.logits(training).argmax(axis=1)
        for place in grouped[:N_SETS]:
            images[place]["group"] = group_record(seen, images[place], training, predicted)
    colours = list(feature_colours(layer.selected.tolist()).values())
    labels, present = source.training["labels"], None
    if source.data.class_attributes is not None:
        # What most images of a class have, all count as having.
        present = source.data.class_attributes[labels] >= COMMON
    profiles = feature_profiles(layer, training, labels, present=present)
    given, scatter = "", None
    if source.similarity is not None:
        given, similarity = source.similarity
        scatter = grounding_scatter(layer, similarity)
    report = {
        "format": FORMAT,
        "title": f"{MODELS[config.model]} on {printable(source.data.name)}",
        "run": {
            "n_classes": n_classes,
            "n_selected": n_selected,
            "n_per_class": int(n_features[0]) if np.ptp(n_features) == 0 else None,
            "is_assignment": isinstance(head, AssignmentHead),
            "n_train": len(source.data.train),
            "n_test": len(seen.labels),
            "n_errors": seen.confusions.n_wrong,
            "errors_one_feature": seen.confusions.share_differ_by_one,
            "pairs_one_feature": seen.confusions.share_of_pairs,
            "thumbnail": sizes.thumbnail,
            "map_shape": list(sizes.map_shape),
            "settings": {
                "data": printable(source.data.name),
                "model": config.model,
                "backbone": config.arch,
                "seed": config.seed,
            },
        },
        "versions": dict(source.versions),
        "metrics": metrics_table(source.metrics, config.model, source.data.name),
        "solution": None if source.solution is None else solution_record(source.solution),
        "features": rounded(feature_records(seen, profiles, colours, means, tops)),
        "classes": rounded(class_records(seen, source.spec.hierarchy, examples, of_classes)),
        "images": rounded(images),
        "errors": rounded(error_records(seen, of_errors)),
        "map": rounded(map_record(seen, scatter, given)),
        "sets": None if sets is None else rounded(sets.record(of_sets)),
        "regions": rounded(regions.record(of_regions)),
    }
    return report, media


def _distinct_names(class_names: Sequence[str]) -> list[str]:
    """Names in one line; those that would look alike have the label behind them."""
    names = [printable(name) or f"class {c}" for c, name in enumerate(class_names)]
    counts = Counter(names)
    return [f"{name} ({c})" if counts[name] > 1 else name for c, name in enumerate(names)]
