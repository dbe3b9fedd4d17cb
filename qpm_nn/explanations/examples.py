"""Images that stand for their classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from qpm_nn.data import ImageSet
from qpm_nn.explanations.maps import as_picture
from qpm_nn.extraction import iterate_activations, spatial_maximum
from qpm_nn.heads import Classifier
from qpm_nn.saving import ClassifierSpec
from qpm_opt import InvalidInputError

FloatArray = NDArray[np.floating]


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


def example_images(
    classifier: Classifier,
    images: ImageSet,
    classes: Sequence[int],
    spec: ClassifierSpec,
    device: torch.device | str = "cpu",
) -> tuple[Example | None, ...]:
    """The image that shows each class best; None for a class without images.

    See :func:`choose_example`. Features count by their weights in the class: what counts against
    the class makes an image weak if it is active.
    """
    of_class = {c: torch.nonzero(images.labels == c).flatten() for c in set(classes)}
    members = [i for c in sorted(of_class) for i in of_class[c].tolist()]
    if not members:
        return tuple(None for _ in classes)
    weight = classifier.head.weight.detach().float().cpu()
    parts = []
    for batch, labels in iterate_activations(
        classifier, images, spec.preprocessing, device, members
    ):
        own = weight[labels]
        strength = (own * batch.features.float().cpu()).sum(1)
        concentration = ((own != 0) * spatial_maximum(batch.maps).cpu()).sum(1)
        parts.append((strength, concentration, batch.logits.argmax(1).cpu() == labels))
    strength, concentration, is_correct = (
        torch.cat(part).numpy() for part in zip(*parts, strict=True)
    )
    position = {i: n for n, i in enumerate(members)}
    best: dict[int, int] = {}
    for c, mine in of_class.items():
        if len(mine):
            rows = [position[i] for i in mine.tolist()]
            chosen = choose_example(strength[rows], concentration[rows], is_correct[rows])
            best[c] = int(mine[chosen])
    examples = predicted_examples(classifier, images, list(best.values()), spec, device)
    found = {c: example for c, (_, example) in zip(best, examples, strict=True)}
    return tuple(found.get(c) for c in classes)


def example_image(
    classifier: Classifier,
    images: ImageSet,
    c: int,
    spec: ClassifierSpec,
    device: torch.device | str = "cpu",
) -> Example:
    """The image that shows class ``c`` best; see :func:`example_images`.

    Raises
    ------
    InvalidInputError
        If the class has no images.
    """
    (found,) = example_images(classifier, images, [c], spec, device)
    if found is None:
        raise InvalidInputError(f"There is no image of class {c}; at least one was expected.")
    return found


def choose_example(
    strength: FloatArray, concentration: FloatArray, is_correct: NDArray[np.bool_]
) -> int:
    """Index of the image that shows a class best, a recognised one if there is any.

    The score is the product of how active the features of the class are and how concentrated their
    maps; the largest counts, of equal ones the first.

    Parameters
    ----------
    strength : array of shape (n_images,)
        Sum of the normalised features of the class.
    concentration : array of shape (n_images,)
        Sum of the maxima of the spatial softmax of their maps.
    is_correct : array of shape (n_images,), bool

    References
    ----------
    The score is that of the reference implementation of QPM. It shifts scores before it sets those
    of wrong images to 0, but by a wrong sign, so that wrong ones may win; here they cannot.
    """
    score = np.asarray(strength, np.float64) * np.asarray(concentration, np.float64)
    positive = score - score.min() + 1
    return int((positive * is_correct if is_correct.any() else positive).argmax())


def predicted_examples(
    classifier: Classifier,
    images: ImageSet,
    indices: Sequence[int],
    spec: ClassifierSpec,
    device: torch.device | str = "cpu",
) -> list[tuple[int, Example]]:
    """The class that is predicted for each of the images, and the image."""
    found: list[tuple[int, Example]] = []
    for batch, labels in iterate_activations(
        classifier, images, spec.preprocessing, device, indices
    ):
        features, maps = (part.float().cpu().numpy() for part in (batch.features, batch.maps))
        predicted = batch.logits.argmax(1).tolist()
        for row, (c, label) in enumerate(zip(predicted, labels.tolist(), strict=True)):
            i = int(indices[len(found)])
            image = as_picture(images[i][0]) / 255
            found.append((c, Example(i, c == label, image, features[row], maps[row])))
    return found
