"""Prediction sets of some images at many coverages, with the trees that explain them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qpm_nn.config import ConformalConfig
from qpm_nn.conformal import HIERARCHIES, Calibration, HeldOut
from qpm_nn.explanations import ClassTrees, TreeNode
from qpm_nn.metrics import mean_set_size, set_coverage

#: Coverages that can be chosen, beside the one that the settings name.
COVERAGES = tuple(n / 200 for n in range(150, 200))


class SetsOfImages:
    """Sets at all coverages of the images that do not calibrate.

    Parameters
    ----------
    held_out : HeldOut
        Of all test images, with a hierarchy.
    config : ConformalConfig
    seed : int
        Of the split into images that calibrate and others.
    """

    def __init__(self, held_out: HeldOut, config: ConformalConfig, *, seed: int) -> None:
        calibrating, measuring = held_out.parts(config.share, seed)
        #: The images whose sets are shown; all calibrate if there is but one.
        self.shown = measuring if len(measuring) else calibrating
        self.held_out = held_out
        self._config = config
        #: That of the model if it is a hierarchical one, so that trees explain the sets.
        self.method = config.method if config.method in HIERARCHIES else "hierarchical"
        alphas = sorted({*(1 - coverage for coverage in COVERAGES), config.alpha}, reverse=True)
        self.initial = alphas.index(config.alpha)
        self._calibrations = held_out.subset(calibrating).calibrate_each(
            alphas,
            method=self.method,
            class_conditional=config.class_conditional,
            include_top_1=config.include_top_1,
        )
        shown = held_out.subset(self.shown)
        self._sets = [shown.predict_set(calibration) for calibration in self._calibrations]
        self._labels = shown.labels
        self._predicted = shown.logits.argmax(1)

    def typical(self, n: int) -> list[int]:
        """Up to n of all test images, of different classes; see :func:`typical_images`."""
        found = typical_images(self._predicted, self._labels, self._sets[self.initial], n)
        return self.shown[found].tolist()

    def record(self, images: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """What the page shows.

        Parameters
        ----------
        images : sequence of (int, int)
            Place of an image among the test images, and in the report.
        """
        return {
            "initial": self.initial,
            "method": self.method,
            "model_method": self._config.method,
            "by_class": self._config.class_conditional,
            "coverages": [
                self._coverage(calibration, sets)
                for calibration, sets in zip(self._calibrations, self._sets, strict=True)
            ],
            "images": [self._image(i, place) for i, place in images],
        }

    def _coverage(self, calibration: Calibration, sets: Tensor) -> dict[str, Any]:
        rules = calibration.rules
        level, threshold = rules[0].level, rules[0].threshold
        return {
            "demanded": 1 - calibration.alpha,
            # Classes that are calibrated each by itself have their own; None is also no limit.
            "level": level if len(rules) == 1 else None,
            "threshold": threshold if len(rules) == 1 and threshold < math.inf else None,
            "mean_size": mean_set_size(sets),
            "covered": set_coverage(sets, self._labels),
            "n_calibration": calibration.n_calibration,
        }

    def _image(self, i: int, place: int) -> dict[str, Any]:
        (row,) = (self.shown == i).nonzero().flatten().tolist()
        members = [sets[row].nonzero().flatten().tolist() for sets in self._sets]
        features, assignment = self.held_out.features, self.held_out.assignment
        assert features is not None and assignment is not None, "the model has a hierarchy"
        # Features go by their places, and names stand elsewhere in the report.
        places = torch.arange(assignment.shape[1])
        names = [""] * len(assignment)
        trees = ClassTrees(features[[i]], self._predicted[[row]], assignment.cpu(), places, names)
        return {
            "image": place,
            # Where a set begins; it holds until the next one does.
            "sets": [
                [k, found, len(found)]
                for k, found in enumerate(members)
                if not k or found != members[k - 1]
            ],
            "local": _nested(trees.tree(0, "local").root),
            "global": _nested(trees.tree(0, "global").root),
        }


def _nested(node: TreeNode) -> list[Any]:
    """A node as [feature or -1, classes that end here, children, activation]."""
    return [
        -1 if node.feature is None else node.feature,
        list(node.leaf),
        [_nested(child) for child in node.children],
        node.activation,
    ]


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
