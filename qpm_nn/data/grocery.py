"""Grocery Store: photographs of fruit, vegetables and packages, 81 classes of 43 kinds."""

from __future__ import annotations

import csv
from pathlib import Path

from qpm_nn.data.listing import FileList, Layout, Listing, look_up, read_rows
from qpm_opt import InvalidInputError

LAYOUT = Layout(
    name="Grocery Store",
    folders=("grocery", ".", "dataset", "GroceryStoreDataset/dataset"),
    required=("classes.csv", "train.txt", "test.txt"),
    tree="""\
dataset/
    train/Fruit/Apple/Golden-Delicious/*.jpg, ... (or below img128/)
    test/Fruit/Apple/Golden-Delicious/*.jpg, ...
    train.txt  test.txt  classes.csv""",
    source="https://github.com/marcusklasson/GroceryStoreDataset",
)
NAME, NUMBER, COARSE = "Class Name (str)", "Class ID (int)", "Coarse Class Name (str)"


def read_grocery(root: Path, crop: bool = False) -> Listing:
    """Grocery Store, 2,640 training and 2,485 test images, with the coarse class of each.

    The published validation images, of 60 classes only, are not used.

    Raises
    ------
    InvalidInputError
        If files are missing, or contradict one another, or crops are asked for.

    References
    ----------
    Klasson, Zhang, Kjellstrom, A hierarchical grocery store image dataset with visual and semantic
    labels, WACV 2019.
    """
    if crop:
        raise InvalidInputError("Grocery Store has no bounding boxes to crop to; leave out crop.")
    folder = LAYOUT.find(root)
    classes_path = folder / "classes.csv"
    try:
        with classes_path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as failure:
        raise InvalidInputError(f"{classes_path} cannot be read as a table: {failure}") from None
    if not rows or not all(row.get(key) for row in rows for key in (NAME, NUMBER, COARSE)):
        raise InvalidInputError(f"{classes_path} lacks rows with {NAME}, {NUMBER} and {COARSE}.")
    label_of = {row[NUMBER]: label for label, row in enumerate(rows)}
    images = "img128/" if (folder / "img128").is_dir() else ""
    train, test = FileList(), FileList()
    for files, name in ((train, "train.txt"), (test, "test.txt")):
        for path, number, _ in read_rows(folder / name, 3, ","):
            files.add(images + path, look_up(label_of, number, classes_path, "class"))
    return Listing(
        folder,
        train,
        test,
        tuple(row[NAME] for row in rows),
        tuple((row[COARSE],) for row in rows),
    )
