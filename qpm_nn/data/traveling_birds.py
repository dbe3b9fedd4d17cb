"""TravelingBirds: the birds of CUB-200-2011 before other backgrounds.

Each kind of bird has a background of its own in the training images, and another in the test
images, so a classifier that looks at backgrounds fails.
"""

from __future__ import annotations

from pathlib import Path

from qpm_nn.data import cub
from qpm_nn.data.cub_attributes import find_class_attributes
from qpm_nn.data.folder import images_by_class
from qpm_nn.data.listing import FileList, Layout, Listing, look_up
from qpm_opt import InvalidInputError

LAYOUT = Layout(
    name="TravelingBirds",
    folders=("CUB_fixed", ".", "TravelingBirds/CUB_fixed"),
    required=("train", "test"),
    tree="""\
CUB_fixed/
    train/001.Black_footed_Albatross/*.jpg, ...
    test/001.Black_footed_Albatross/*.jpg, ...
CUB_200_2011/ (for crops: images.txt, bounding_boxes.txt; for metrics: attributes,
    segmentations)""",
    source=(
        "https://github.com/yewsiang/ConceptBottleneck, which names the bundle with CUB_fixed; "
        "boxes from https://www.vision.caltech.edu/datasets/cub_200_2011/"
    ),
)


def read_traveling_birds(root: Path, crop: bool = False) -> Listing:
    """TravelingBirds; of CUB-200-2011 boxes if ``crop``, and attributes and masks if there are any.

    Its images have the names and, as far as boxes go, the sizes of those of CUB-200-2011.

    Raises
    ------
    InvalidInputError
        If files are missing, the two parts differ in their classes, or an image has no box.

    References
    ----------
    Koh, Nguyen, Tang, Mussmann, Pierson, Kim, Liang, Concept bottleneck models, ICML 2020.
    """
    folder = LAYOUT.find(root)
    boxes_path, boxes = folder, {}
    places = [place / "CUB_200_2011" for place in (root, folder / "..", folder / "../..")]
    birds = next((place for place in places if place.is_dir()), None)
    if crop:
        if birds is None:
            raise LAYOUT.error(f"The boxes of TravelingBirds are not beside {folder}")
        boxes_path, boxes = birds / "bounding_boxes.txt", cub.read_boxes(birds)
    parts = {name: images_by_class(folder / name) for name in ("train", "test")}
    names = list(parts["train"])
    if parts["test"].keys() != parts["train"].keys():
        odd = min(parts["train"].keys() ^ parts["test"].keys())
        raise InvalidInputError(f"Class {odd!r} is in only one of train and test of {folder}.")
    listed = {}
    for part, files in parts.items():
        listed[part] = FileList()
        for label, name in enumerate(names):
            for path in files[name]:
                below = path.relative_to(folder / part).as_posix()
                box = look_up(boxes, below, boxes_path, "image") if crop else None
                listed[part].add(f"{part}/{below}", label, box)
    numbers = [name.partition(".")[0] for name in names]  # of folders like 004.Groove_billed_Ani
    attributes, masks, mask_folder = None, None, folder
    if birds is not None:
        attributes = find_class_attributes(birds, numbers)
        mask_folder, masks = cub.find_masks(birds, listed["test"])
    return Listing(
        folder,
        listed["train"],
        listed["test"],
        cub.species(names),
        class_attributes=attributes,
        test_masks=masks,
        mask_folder=mask_folder,
    )
