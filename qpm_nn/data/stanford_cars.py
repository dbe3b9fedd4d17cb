"""Stanford Cars: photographs of 196 models of cars, with a box around each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from qpm_nn.data.listing import FileList, Layout, Listing
from qpm_nn.data.matlab import read_mat
from qpm_opt import InvalidInputError

PLACES = ("stanford_cars", "StanfordCars/stanford_cars", "StanfordCars", ".")
SPLIT = Layout(
    name="Stanford Cars",
    folders=PLACES,
    required=("cars_train", "cars_test", "devkit/cars_meta.mat", "devkit/cars_train_annos.mat"),
    tree="""\
stanford_cars/
    cars_train/*.jpg
    cars_test/*.jpg
    cars_test_annos_withlabels.mat (or in devkit)
    devkit/cars_meta.mat, cars_train_annos.mat
or
stanford_cars/
    car_ims/*.jpg
    cars_annos.mat""",
    source=(
        "https://ai.stanford.edu/~jkrause/cars/car_dataset.html (gone; "
        "https://github.com/pytorch/vision/issues/7545 says where copies are)"
    ),
)
#: The older archive: all images in one folder, and all annotations in one file.
WHOLE = ("car_ims", "cars_annos.mat")
TEST_LABELS = "cars_test_annos_withlabels.mat"


def read_stanford_cars(root: Path, crop: bool = False) -> Listing:
    """Stanford Cars, 8,144 training and 8,041 test images, in either layout; boxes if ``crop``.

    Raises
    ------
    InvalidInputError
        If files are missing or damaged.

    References
    ----------
    Krause, Stark, Deng, Fei-Fei, 3D object representations for fine-grained categorization, 3dRR
    at ICCV 2013.
    """
    for folder in (root / place for place in PLACES):
        if all((folder / name).exists() for name in WHOLE):
            return _read_whole(folder, crop)
    folder = SPLIT.find(root)
    test_labels = [path for path in (folder, folder / "devkit") if (path / TEST_LABELS).exists()]
    if not test_labels:
        raise SPLIT.error(f"Stanford Cars in {folder} lacks {TEST_LABELS}")
    meta = folder / "devkit" / "cars_meta.mat"
    names = _names(read_mat(meta), meta)
    train, test = FileList(), FileList()
    for files, path, images in (
        (train, folder / "devkit" / "cars_train_annos.mat", "cars_train"),
        (test, test_labels[0] / TEST_LABELS, "cars_test"),
    ):
        if (folder / images / images).is_dir():  # as one copy has it
            images = f"{images}/{images}"
        for record in _records(path, "fname", crop):
            _add(files, record, f"{images}/{record['fname']}", names, path, crop)
    return Listing(folder, train, test, names)


def _read_whole(folder: Path, crop: bool) -> Listing:
    path = folder / "cars_annos.mat"
    names = _names(read_mat(path), path)
    train, test = FileList(), FileList()
    for record in _records(path, "relative_im_path", crop, "test"):
        files = test if record["test"] else train
        _add(files, record, str(record["relative_im_path"]), names, path, crop)
    return Listing(folder, train, test, names)


def _names(content: dict[str, Any], path: Path) -> tuple[str, ...]:
    if "class_names" not in content:
        raise InvalidInputError(f"{path} has no class_names; it is not a file of Stanford Cars.")
    return tuple(str(name) for name in np.atleast_1d(content["class_names"]))


def _records(path: Path, name: str, crop: bool, *more: str) -> Any:
    """Annotations of the images, an array with fields."""
    records = np.atleast_1d(read_mat(path).get("annotations", np.empty(0)))
    edges = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2") if crop else ()
    missing = {name, "class", *more, *edges} - set(records.dtype.names or ())
    if missing:
        raise InvalidInputError(
            f"{path} has no annotations with {', '.join(sorted(missing))}; it is not that of "
            "Stanford Cars (with labels)."
        )
    return records


def _add(
    files: FileList, record: Any, image: str, names: tuple[str, ...], path: Path, crop: bool
) -> None:
    number = int(record["class"])
    if not 1 <= number <= len(names):
        raise InvalidInputError(
            f"{path}: {image} has class {number}; 1 to {len(names)} were expected."
        )
    box = None
    if crop:
        # Matlab counts pixels from 1 and includes both ends.
        left, upper, right, lower = (
            float(record[f"bbox_{edge}"]) for edge in ("x1", "y1", "x2", "y2")
        )
        box = (left - 1, upper - 1, right, lower)
    files.add(image, number - 1, box)
