"""Which test images a report shows, and for what."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from qpm_nn.explanations import choose_example
from qpm_nn.report.seen import SeenImages

#: Images of a report; the examples of all classes are there, however many classes there are.
MAX_IMAGES = 1200
#: Images of a feature, of a confusion, and most of a class beside its example.
N_TOP, N_OF_ERROR, N_OF_CLASS = 6, 3, 5
#: Confusions whose images are shown.
N_ERRORS = 60


class ChosenImages:
    """Test images in the order in which they are chosen, each once.

    Attributes
    ----------
    indices : list of int
        Among the test images.
    """

    def __init__(self) -> None:
        self.indices: list[int] = []
        self._place: dict[int, int] = {}

    def add(self, i: int) -> int:
        """The place of a test image in the report, which then has it."""
        if i not in self._place:
            self._place[i] = len(self.indices)
            self.indices.append(i)
        return self._place[i]

    def add_all(self, images: Iterable[int]) -> list[int]:
        """The places of several images."""
        return [self.add(int(i)) for i in images]

    def __len__(self) -> int:
        return len(self.indices)


def strongest_images(features: NDArray[np.floating], n: int) -> NDArray[np.int64]:
    """Rows with the largest values of every column, (min(n, n_images), n_features)."""
    return np.argsort(-features, axis=0, kind="stable")[:n]


def examples_of_classes(seen: SeenImages) -> list[int | None]:
    """The test image that stands for each class; None if it has none."""
    found: list[int | None] = []
    for c in range(seen.n_classes):
        mine = np.flatnonzero(seen.labels == c)
        if not len(mine):
            found.append(None)
            continue
        strength = seen.features[mine] @ seen.weight[c]
        concentration = seen.locality[mine] @ (seen.weight[c] != 0)
        chosen = choose_example(strength, concentration, seen.predicted[mine] == c)
        found.append(int(mine[chosen]))
    return found


def images_of_classes(seen: SeenImages, n: int) -> list[list[int]]:
    """Up to n images of every class: misclassified ones and clear ones by turns.

    Of the misclassified ones those that the class loses by most come first, of the recognised ones
    those with the largest logits.
    """
    found = []
    for c in range(seen.n_classes):
        mine = np.flatnonzero(seen.labels == c)
        own, predicted = seen.logits[mine, c], seen.predicted[mine]
        right = predicted == c
        lost = seen.logits[mine, predicted] - own
        groups = [
            mine[~right][np.argsort(-lost[~right], kind="stable")].tolist(),
            mine[right][np.argsort(-own[right], kind="stable")].tolist(),
        ]
        turns: list[int] = []
        while len(turns) < n and any(groups):
            for group in groups:
                if group and len(turns) < n:
                    turns.append(group.pop(0))
        found.append(turns)
    return found
