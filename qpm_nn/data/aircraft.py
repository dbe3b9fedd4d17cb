"""FGVC-Aircraft: photographs of 100 variants of aircraft, with families and manufacturers."""

from __future__ import annotations

from pathlib import Path

from qpm_nn.data.listing import FileList, Layout, Listing, look_up, read_numbers, read_rows

LAYOUT = Layout(
    name="FGVC-Aircraft",
    folders=("fgvc-aircraft-2013b/data", "data", "."),
    required=(
        "images",
        "variants.txt",
        "images_variant_trainval.txt",
        "images_variant_test.txt",
        "images_family_trainval.txt",
        "images_manufacturer_trainval.txt",
    ),
    tree="""\
fgvc-aircraft-2013b/data/
    images/*.jpg
    variants.txt  images_variant_trainval.txt  images_variant_test.txt
    images_family_trainval.txt  images_manufacturer_trainval.txt
    images_box.txt (for crops)""",
    source=(
        "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/ (fgvc-aircraft-2013b.tar.gz, 2.75 GB)"
    ),
)
#: Rows of pixels at the bottom of every image that name the photographer.
BANNER = 20


def read_aircraft(root: Path, crop: bool = False) -> Listing:
    """FGVC-Aircraft, 6,667 training and validation images and 3,333 test images; boxes if ``crop``.

    The hierarchy has the family and the manufacturer of each variant. The banner at the bottom of
    every image, which names the photographer, is cut off.

    Raises
    ------
    InvalidInputError
        If files are missing, or contradict one another.

    References
    ----------
    Maji, Kannala, Rahtu, Blaschko, Vedaldi, Fine-grained visual classification of aircraft,
    arXiv:1306.5151 (2013).
    """
    folder = LAYOUT.find(root)
    names_path = folder / "variants.txt"
    names = tuple(row[0] for row in read_rows(names_path, 1))
    label_of = {name: label for label, name in enumerate(names)}
    boxes_path = folder / "images_box.txt"
    boxes = {}
    if crop:
        for image, *edges in read_rows(boxes_path, 5):
            left, upper, right, lower = read_numbers(edges, boxes_path)
            # Counted from 1, with both ends.
            boxes[image] = (left - 1, upper - 1, right, lower)
    listed = {}
    for part in ("trainval", "test"):
        listed[part] = FileList()
        for image, name in read_rows(folder / f"images_variant_{part}.txt", 2):
            label = look_up(label_of, name, names_path, "variant")
            box = look_up(boxes, image, boxes_path, "image") if crop else None
            listed[part].add(f"images/{image}.jpg", label, box)
    family, manufacturer = (
        dict(read_rows(folder / f"images_{level}_trainval.txt", 2))
        for level in ("family", "manufacturer")
    )
    parents: list[tuple[str, ...]] = [()] * len(names)
    for path, label in zip(listed["trainval"].paths, listed["trainval"].labels, strict=True):
        image = Path(path).stem
        parents[label] = (
            look_up(family, image, folder / "images_family_trainval.txt", "image"),
            look_up(manufacturer, image, folder / "images_manufacturer_trainval.txt", "image"),
        )
    return Listing(
        folder, listed["trainval"], listed["test"], names, tuple(parents), trim_bottom=BANNER
    )
