"""Small copies of public data sets: the layout and the files are real, the images are made up.

Every image has the colour of its class in its box and another one outside.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.io import savemat

#: Colours of the classes; they differ by more than JPEG changes them.
COLOURS = np.array([[220, 30, 30], [30, 200, 30], [30, 30, 220]], dtype=np.uint8)
OUTSIDE = 120
#: Width and height of every image, and the part that shows the class: left, upper, right, lower.
SIZE, BOX = (32, 24), (8, 4, 20, 16)
BIRDS = ("001.Black_footed_Albatross", "007.Parakeet_Auklet", "200.Common_Yellowthroat")
WNIDS = ("n01440764", "n02012849", "n03126707")


def write_image(path: Path, c: int, size: tuple[int, int] = SIZE, box: tuple = BOX) -> None:
    """An image of class c."""
    pixels = np.full((size[1], size[0], 3), OUTSIDE, dtype=np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = COLOURS[c]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format="JPEG", quality=95, subsampling=0)


def write_lines(path: Path, *rows: object) -> None:
    """A text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows))


def write_cub(root: Path, n_train: int = 2, n_test: int = 1) -> Path:
    """CUB_200_2011 with three classes, whose numbers have gaps."""
    folder = root / "CUB_200_2011"
    images, labels, split, boxes = [], [], [], []
    for c, bird in enumerate(BIRDS):
        for i in range(n_train + n_test):
            number, name = len(images) + 1, f"{bird}/{bird[4:]}_{i:04d}_{c}.jpg"
            write_image(folder / "images" / name, c)
            images.append(f"{number} {name}")
            labels.append(f"{number} {int(bird[:3])}")
            split.append(f"{number} {int(i < n_train)}")
            left, upper, right, lower = BOX
            boxes.append(f"{number} {left}.0 {upper}.0 {right - left}.0 {lower - upper}.0")
    write_lines(folder / "images.txt", *images)
    write_lines(folder / "image_class_labels.txt", *labels)
    write_lines(folder / "train_test_split.txt", *split)
    write_lines(folder / "bounding_boxes.txt", *boxes)
    write_lines(folder / "classes.txt", *(f"{int(bird[:3])} {bird}" for bird in BIRDS))
    return folder


def write_segmentations(folder: Path, birds: Path) -> None:
    """A mask for every image of :func:`write_cub`, of its box, grey where few saw the bird."""
    for image in (birds / "images").rglob("*.jpg"):
        pixels = np.zeros((SIZE[1], SIZE[0]), dtype=np.uint8)
        pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
        pixels[BOX[1], BOX[0] : BOX[2]] = 51
        path = folder / image.parent.name / f"{image.stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def write_traveling_birds(root: Path) -> Path:
    """CUB_fixed with the birds of :func:`write_cub`, which is written too."""
    cub = write_cub(root)
    folder = root / "CUB_fixed"
    for c, bird in enumerate(BIRDS):
        for i in range(3):
            part = "train" if i < 2 else "test"
            write_image(folder / part / bird / f"{bird[4:]}_{i:04d}_{c}.jpg", c)
    assert cub.is_dir()
    return folder


CAR_NAMES = ("AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012", "smart fortwo 2012")


def _annotations(rows: list[tuple], name: str, *more: str) -> np.ndarray:
    """Array with the fields of a Matlab struct array."""
    fields = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", name, *more]
    array = np.empty((1, len(rows)), dtype=[(field, object) for field in fields])
    for i, row in enumerate(rows):
        array[0, i] = row
    return array


def write_stanford_cars(root: Path, kind: str = "split") -> Path:
    """Stanford Cars: "split", "nested" (one folder deeper) or "whole" (the older archive)."""
    folder = root / "stanford_cars"
    left, upper, right, lower = BOX
    edges = (left + 1, upper + 1, right, lower)  # Matlab's
    names = np.array([CAR_NAMES], dtype=object)
    if kind == "whole":
        rows = []
        for c in range(3):
            for i in range(3):
                path = f"car_ims/{3 * c + i + 1:06d}.jpg"
                write_image(folder / path, c)
                rows.append((*edges, c + 1, path, int(i == 2)))
        content = _annotations(rows, "relative_im_path", "test")
        savemat(folder / "cars_annos.mat", {"annotations": content, "class_names": names})
        return folder
    (folder / "devkit").mkdir(parents=True)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})
    for part, count, path in (
        ("cars_train", 2, folder / "devkit" / "cars_train_annos.mat"),
        ("cars_test", 1, folder / "cars_test_annos_withlabels.mat"),
    ):
        rows = []
        for c in range(3):
            for _ in range(count):
                name = f"{len(rows) + 1:05d}.jpg"
                write_image(folder / part / (part if kind == "nested" else "") / name, c)
                rows.append((*edges, c + 1, name))
        savemat(path, {"annotations": _annotations(rows, "fname")})
    return folder


VARIANTS = ("707-320", "A300B4", "F/A-18")
FAMILIES = ("Boeing 707", "A300", "F/A-18")
MAKERS = ("Boeing", "Airbus", "McDonnell Douglas")
BANNER = 20


def write_aircraft(root: Path) -> Path:
    """FGVC-Aircraft; the banner at the bottom of each image is white."""
    folder = root / "fgvc-aircraft-2013b" / "data"
    lists: dict[str, list[str]] = {}
    boxes = []
    for c in range(3):
        for i in range(3):
            number, part = f"{1000 + 10 * c + i:07d}", "trainval" if i < 2 else "test"
            path = folder / "images" / f"{number}.jpg"
            write_image(path, c, (SIZE[0], SIZE[1] + BANNER))
            pixels = np.asarray(Image.open(path)).copy()
            pixels[SIZE[1] :] = 255
            Image.fromarray(pixels).save(path, quality=95, subsampling=0)
            for level, name in zip(
                ("variant", "family", "manufacturer"),
                (VARIANTS[c], FAMILIES[c], MAKERS[c]),
                strict=True,
            ):
                lists.setdefault(f"images_{level}_{part}.txt", []).append(f"{number} {name}")
            boxes.append(f"{number} {BOX[0] + 1} {BOX[1] + 1} {BOX[2]} {BOX[3]}")
    for name, rows in lists.items():
        write_lines(folder / name, *rows)
    write_lines(folder / "images_box.txt", *boxes)
    write_lines(folder / "variants.txt", *VARIANTS)
    return folder


def write_grocery(root: Path) -> Path:
    """Grocery Store as its repository has it, in the folder dataset."""
    folder = root / "dataset"
    classes = (("Golden-Delicious", "Apple"), ("Pink-Lady", "Apple"), ("Leek", "Leek"))
    header = (
        "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),"
        "Iconic Image Path (str),Product Description Path (str)"
    )
    rows = [f"{name},{c},{kind},{c // 2},/a.jpg,/a.txt" for c, (name, kind) in enumerate(classes)]
    write_lines(folder / "classes.csv", header, *rows)
    for part, count in (("train", 2), ("val", 1), ("test", 1)):
        lines = []
        for c, (name, kind) in enumerate(classes):
            for i in range(count):
                path = f"{part}/Fruit/{kind}/{name}/{name}_{i:03d}.jpg"
                write_image(folder / path, c)
                lines.append(f"{path}, {c}, {c // 2}")
        write_lines(folder / f"{part}.txt", *lines)
    return folder


def write_imagenet(root: Path, kind: str = "nested") -> Path:
    """ImageNet-1K with two cranes.

    The validation images are "nested" in folders; or flat, with their labels in "kaggle" files,
    torchvision's "meta.bin" or the "devkit".
    """
    folder = root / ("ILSVRC/Data/CLS-LOC" if kind == "kaggle" else "imagenet")
    words = ("tench, Tinca tinca", "crane", "crane")
    for c, wnid in enumerate(WNIDS):
        for i in range(2):
            write_image(folder / "train" / wnid / f"{wnid}_{i}.JPEG", c)
    order = (2, 0, 1)  # classes of the validation images
    for i, c in enumerate(order, 1):
        below = WNIDS[c] if kind == "nested" else ""
        write_image(folder / "val" / below / f"ILSVRC2012_val_{i:08d}.JPEG", c)
    if kind in ("nested", "kaggle"):
        top = root if kind == "kaggle" else folder
        rows = (f"{wnid} {text}" for wnid, text in zip(WNIDS, words, strict=True))
        write_lines(top / "LOC_synset_mapping.txt", *rows)
    if kind == "kaggle":
        solutions = (
            f"ILSVRC2012_val_{i:08d},{WNIDS[c]} 1 2 3 4 {WNIDS[c]} 5 6 7 8 "
            for i, c in enumerate(order, 1)
        )
        write_lines(root / "LOC_val_solution.csv", "ImageId,PredictionString", *solutions)
    if kind == "meta.bin":
        synonyms = {w: tuple(text.split(", ")) for w, text in zip(WNIDS, words, strict=True)}
        torch.save((synonyms, [WNIDS[c] for c in order]), folder / "meta.bin")
    if kind == "devkit":
        devkit = folder / "ILSVRC2012_devkit_t12" / "data"
        numbers = (3, 1, 2)  # not in the order of the ids
        write_lines(devkit / "ILSVRC2012_validation_ground_truth.txt", *(numbers[c] for c in order))
        synsets = np.empty((4, 1), dtype=[("ILSVRC2012_ID", object), ("WNID", object),
                                          ("words", object), ("num_children", object)])  # fmt: skip
        for c in range(3):
            synsets[c, 0] = (numbers[c], WNIDS[c], words[c], 0)
        synsets[3, 0] = (1001, "n00001740", "entity", 3)
        savemat(devkit / "meta.mat", {"synsets": synsets})
    return folder


#: Characters of the generated Omniglot: those that `omniglot` takes, then those of `omniglot_full`.
CHARACTERS = (
    "Balinese/character01",
    "Early_Aramaic/character01",
    "Greek/character01",
    "Greek/character02",
    "Korean/character01",
    "Latin/character01",
    "Sanskrit/character01",
    "Tagalog/character01",
    "Angelic/character01",
    "Japanese_(katakana)/character01",
)
#: A drawing is divided into so many cells each way; the ink fills that of the character.
CELLS = 4


def write_omniglot(root: Path) -> Path:
    """Omniglot as torchvision unpacks it: three of the twenty drawers, 105 pixels, ink is black."""
    folder = root / "omniglot-py"
    for c, character in enumerate(CHARACTERS):
        drawing = np.full((105, 105), 255, dtype=np.uint8)
        upper, left = (round(105 * i / CELLS) for i in divmod(c, CELLS))
        drawing[upper : upper + 26, left : left + 26] = 0
        part = "images_evaluation" if character.startswith("Angelic") else "images_background"
        for drawer in (1, 14, 15):
            path = folder / part / character / f"{c + 1:04d}_{drawer:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(drawing).convert("1").save(path)
    return folder
