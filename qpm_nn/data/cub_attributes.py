"""Attributes of the classes and images of CUB-2011, as annotated by people."""

from __future__ import annotations

import logging
import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qpm_nn.data.listing import look_up, read_rows
from qpm_opt import InvalidInputError

logger = logging.getLogger(__name__)

#: Where the files are in the folder ``CUB_200_2011``.
CLASS_ATTRIBUTES = Path("attributes", "class_attribute_labels_continuous.txt")
IMAGE_ATTRIBUTES = Path("attributes", "image_attribute_labels.txt")
#: Certainties are 1 (not visible), 2 (guessing), 3 (probably) and 4 (definitely).
PROBABLY = 3


class ImageAttributes(NamedTuple):
    """Attributes that people were certain of.

    Attributes
    ----------
    present, absent : ndarray of shape (n_images, n_attributes), bool
        Seen, and seen not to be there; an attribute that people were not certain of is neither.
    """

    present: NDArray[np.bool_]
    absent: NDArray[np.bool_]


def read_class_attributes(root: str | os.PathLike[str]) -> NDArray[np.float64]:
    """Share of the images of each class in which each attribute was seen.

    Parameters
    ----------
    root : path
        The folder ``CUB_200_2011``, with ``attributes/class_attribute_labels_continuous.txt``: a
        line for each class in the order of ``classes.txt``, with percentages separated by blanks.

    Returns
    -------
    ndarray of shape (n_classes, n_attributes)
        In [0, 1]; 200 x 312 for the whole data set.

    Raises
    ------
    InvalidInputError
        If the file is missing or damaged; the message names the line.
    """
    path = Path(root) / CLASS_ATTRIBUTES
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise InvalidInputError(
            f"{path} cannot be read ({error.strerror}); the folder CUB_200_2011 of CUB-2011 was "
            "expected, with its attributes."
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is no text file; percentages were expected.") from error
    rows = [_row(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    lengths = {len(row) for row in rows}
    if len(lengths) != 1:
        raise InvalidInputError(
            f"{path} has lines of {sorted(lengths)} numbers; equally many, and at least one line, "
            "were expected."
        )
    return np.array(rows) / 100


def find_class_attributes(folder: Path, numbers: Sequence[str]) -> NDArray[np.float64] | None:
    """Attributes of the classes of these numbers, from 1 on; None without their file.

    The file may have a line for each of them, or for every class of the whole data set. Otherwise
    there is a warning, and no attributes.

    Raises
    ------
    InvalidInputError
        If the file is damaged.
    """
    if not (folder / CLASS_ATTRIBUTES).exists():
        return None
    found = read_class_attributes(folder)
    if len(found) == len(numbers):
        return found
    if all(number.isdecimal() and 1 <= int(number) <= len(found) for number in numbers):
        return found[[int(number) - 1 for number in numbers]]
    logger.warning(
        "%s has %d lines, which are not those of the %d classes; Structural Grounding is left out.",
        folder / CLASS_ATTRIBUTES, len(found), len(numbers),
    )  # fmt: skip
    return None


def read_image_attributes(
    root: str | os.PathLike[str], *, train: bool = True, least_certainty: int = PROBABLY
) -> ImageAttributes:
    """Attributes of each image, for Feature Alignment.

    Parameters
    ----------
    root : path
        The folder ``CUB_200_2011``, with ``attributes/image_attribute_labels.txt``: lines of image,
        attribute, 0 or 1, and certainty; what follows in a line is ignored.
    train : bool
        Whether of the training images or of the test images, in the order of ``images.txt``, which
        is that of the data set ``cub2011``.
    least_certainty : int
        1 to 4; labels that are less certain count neither as present nor as absent.

    Raises
    ------
    InvalidInputError
        If a file is missing or damaged, or an image has no label for an attribute.

    References
    ----------
    Norrenbrock et al., Q-SENN, AAAI 2024, whose published code takes the certainties 3 and 4.
    """
    folder = Path(root)
    wanted = "1" if train else "0"
    split = folder / "train_test_split.txt"
    is_train = dict(read_rows(split, 2))
    images = [image for image, _ in read_rows(folder / "images.txt", 2)]
    mine = [image for image in images if look_up(is_train, image, split, "image") == wanted]
    row_of = {image: row for row, image in enumerate(mine)}
    path = folder / IMAGE_ATTRIBUTES
    labels = array("i")  # row, attribute, seen and certainty of one after the other
    number = 0
    try:
        with path.open(encoding="ascii") as file:
            for line in file:
                number += 1
                image, attribute, seen, certainty = line.split()[:4]
                if image in row_of:
                    labels.extend((row_of[image], int(attribute) - 1, int(seen), int(certainty)))
    except OSError as error:
        raise InvalidInputError(
            f"{path} cannot be read ({error.strerror}); the folder CUB_200_2011 of CUB-2011 was "
            "expected, with its attributes."
        ) from error
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(
            f"{path}, line {number}: image, attribute, 0 or 1, and certainty were expected."
        ) from error
    rows, attributes, seen, certainties = np.reshape(labels, (-1, 4)).T
    n_attributes = 1 + int(attributes.max(initial=-1))
    found = np.zeros((3, len(row_of), n_attributes), dtype=bool)
    known, present, absent = found
    is_certain = certainties >= least_certainty
    known[rows, attributes] = True
    present[rows, attributes] = is_certain & (seen == 1)
    absent[rows, attributes] = is_certain & (seen == 0)
    if len(rows) != known.size or not known.size or not known.all():
        raise InvalidInputError(
            f"{path} has {len(rows)} labels for {len(row_of)} images and {n_attributes} "
            "attributes; one for each was expected."
        )
    return ImageAttributes(present, absent)


def _row(path: Path, number: int, line: str) -> list[float]:
    try:
        row = [float(word) for word in line.split()]
    except ValueError as error:
        raise InvalidInputError(
            f"{path}, line {number}: {error}; percentages were expected."
        ) from error
    if not all(0 <= value <= 100 for value in row):
        raise InvalidInputError(f"{path}, line {number}: percentages from 0 to 100 were expected.")
    return row
