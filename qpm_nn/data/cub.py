"""CUB-200-2011: photographs of 200 kinds of birds, with a box around each."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from qpm_nn.data.cub_attributes import find_class_attributes
from qpm_nn.data.listing import FileList, Layout, Listing, look_up, read_numbers, read_rows
from qpm_nn.data.reading import Box
from qpm_opt import InvalidInputError

logger = logging.getLogger(__name__)

LAYOUT = Layout(
    name="CUB-200-2011",
    folders=("CUB_200_2011", ".", "cub/CUB_200_2011"),
    required=(
        "images",
        "images.txt",
        "image_class_labels.txt",
        "train_test_split.txt",
        "classes.txt",
    ),
    tree="""\
CUB_200_2011/
    images/001.Black_footed_Albatross/*.jpg, ...
    images.txt  image_class_labels.txt  train_test_split.txt  classes.txt
    bounding_boxes.txt (for crops)
    attributes/class_attribute_labels_continuous.txt (for Structural Grounding)
    segmentations/001.Black_footed_Albatross/*.png, ... (for Plausibility)""",
    source="https://www.vision.caltech.edu/datasets/cub_200_2011/ (CUB_200_2011.tgz, 1.1 GB)",
)


def read_cub(root: Path, crop: bool = False) -> Listing:
    """CUB-200-2011, 5,994 training and 5,794 test images; boxes if ``crop``.

    Attributes of the classes come along if their file is there, masks if their folder is. The
    numbers of the classes may have gaps (a part of the data set); labels follow their order.

    Raises
    ------
    InvalidInputError
        If files are missing, or contradict one another.

    References
    ----------
    Wah, Branson, Welinder, Perona, Belongie, The Caltech-UCSD Birds-200-2011 dataset, technical
    report CNS-TR-2011-001, California Institute of Technology (2011).
    """
    folder = LAYOUT.find(root)
    classes = {number: name for number, name in read_rows(folder / "classes.txt", 2)}
    label_of = {number: label for label, number in enumerate(classes)}
    labels_path = folder / "image_class_labels.txt"
    class_of = dict(read_rows(labels_path, 2))
    split_path = folder / "train_test_split.txt"
    is_train = dict(read_rows(split_path, 2))
    boxes = read_boxes(folder) if crop else {}
    parts = {"1": FileList(), "0": FileList()}
    for image, path in read_rows(folder / "images.txt", 2):
        number = look_up(class_of, image, labels_path, "image")
        label = look_up(label_of, number, folder / "classes.txt", "class")
        part = look_up(is_train, image, split_path, "image")
        if part not in parts:
            raise InvalidInputError(f"{split_path}: image {image} has {part!r}; 0 or 1 expected.")
        box = look_up(boxes, path, folder / "bounding_boxes.txt", "image") if crop else None
        parts[part].add(f"images/{path}", label, box)
    mask_folder, masks = find_masks(folder, parts["0"])
    return Listing(
        folder,
        parts["1"],
        parts["0"],
        species(classes.values()),
        class_attributes=find_class_attributes(folder, list(classes)),
        test_masks=masks,
        mask_folder=mask_folder,
    )


def find_masks(birds: Path, images: FileList) -> tuple[Path, FileList | None]:
    """Segmentations of some images, which come in an archive of their own.

    Parameters
    ----------
    birds : Path
        The folder ``CUB_200_2011``; the archive may have been unpacked in it or beside it.
    images : FileList
        The last two parts of their paths are those of CUB-200-2011.

    Returns
    -------
    folder : Path
    masks : FileList or None
        As many, with the same labels and boxes; None, with a warning if there are any, unless each
        image has one.
    """
    paths = [PurePosixPath(path).with_suffix(".png") for path in images.paths]
    masks = [f"{path.parent.name}/{path.name}" for path in paths]
    for folder in (birds / "segmentations", birds / ".." / "segmentations"):
        if folder.is_dir():
            missing = [path for path in masks if not (folder / path).is_file()]
            if not missing:
                return folder, FileList(masks, images.labels, images.boxes)
            logger.warning(
                "%s has no masks for %d of %d test images (%s, for one); Plausibility is left out.",
                folder, len(missing), len(masks), missing[0],
            )  # fmt: skip
    return birds, None


def read_boxes(folder: Path) -> dict[str, Box]:
    """Box of each image by its path below ``images``.

    Raises
    ------
    InvalidInputError
        If ``images.txt`` or ``bounding_boxes.txt`` is missing or damaged.
    """
    path = folder / "bounding_boxes.txt"
    rows = {row[0]: read_numbers(row[1:], path) for row in read_rows(path, 5)}
    boxes = {}
    for image, name in read_rows(folder / "images.txt", 2):
        left, upper, width, height = look_up(rows, image, path, "image")
        boxes[name] = (left, upper, left + width, upper + height)
    return boxes


def species(folders: Iterable[str]) -> tuple[str, ...]:
    """Names of birds from names of folders: ``001.Black_footed_Albatross``."""
    return tuple(name.partition(".")[2].replace("_", " ") or name for name in folders)
