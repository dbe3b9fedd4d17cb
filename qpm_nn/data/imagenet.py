"""ImageNet-1K (ILSVRC 2012), as the archives, Kaggle or torchvision leave it on the disk."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from qpm_nn.data.listing import FileList, Layout, Listing, look_up, read_rows
from qpm_nn.data.matlab import read_mat
from qpm_opt import InvalidInputError

LAYOUT = Layout(
    name="ImageNet-1K",
    folders=(".", "imagenet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC"),
    required=("train", "val"),
    tree="""\
imagenet/
    train/n01440764/*.JPEG, ...
    val/n01440764/*.JPEG, ... or val/ILSVRC2012_val_00000001.JPEG, ... and one of
        LOC_val_solution.csv
        meta.bin
        ILSVRC2012_devkit_t12/data/ with meta.mat, ILSVRC2012_validation_ground_truth.txt
    LOC_synset_mapping.txt (for the names of the classes, if neither of the last two is there)""",
    source="https://image-net.org/download.php or the Kaggle ImageNet challenge",
)
DEVKIT = "ILSVRC2012_devkit_t12/data"


def read_imagenet(root: Path, crop: bool = False) -> Listing:
    """ImageNet-1K, 1,281,167 training images; the 50,000 validation images are for testing.

    Labels follow the WordNet ids in alphabetic order, as those of published weights do. A name that
    two classes share ("crane") gets the id of its class.

    Raises
    ------
    InvalidInputError
        If files are missing, or contradict one another, or crops are asked for.

    References
    ----------
    Russakovsky et al., ImageNet large scale visual recognition challenge, IJCV 115 (2015) 211-252.
    """
    if crop:
        raise InvalidInputError("ImageNet-1K has no boxes for all images; leave out crop.")
    folder = LAYOUT.find(root)
    ids = _folders(folder / "train")
    label_of = {wnid: label for label, wnid in enumerate(ids)}
    places = [folder]
    if folder.name == "CLS-LOC":  # Kaggle's archive has its lists above ILSVRC/Data/CLS-LOC
        places.append(folder.resolve().parents[2])
    train = FileList()
    for wnid, label in label_of.items():
        for name in _images(folder / "train" / wnid):
            train.add(f"train/{wnid}/{name}", label)
    test = FileList()
    if nested := _folders(folder / "val"):
        for wnid in nested:
            label = look_up(label_of, wnid, folder / "train", "folder")
            for name in _images(folder / "val" / wnid):
                test.add(f"val/{wnid}/{name}", label)
    else:
        wnid_of, source = _validation_labels(places)
        for name in _images(folder / "val"):
            label = look_up(label_of, wnid_of(Path(name).stem), folder / "train", "folder")
            test.add(f"val/{name}", label)
        if not test.paths:
            raise LAYOUT.error(f"{folder / 'val'} holds no images for {source}")
    return Listing(folder, train, test, _names(ids, places))


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())


def _images(folder: Path) -> list[str]:
    names = (entry.name for entry in os.scandir(folder))
    suffixes = (".jpeg", ".jpg", ".png")
    return sorted(n for n in names if n.lower().endswith(suffixes) and not n.startswith("."))


def _validation_labels(places: list[Path]) -> tuple[Callable[[str], str], Path]:
    """WordNet id of a validation image by the stem of its file, and the file that says so."""
    for place in places:
        path = place / "LOC_val_solution.csv"
        if path.is_file():
            # ImageId,PredictionString: an id and a box, once or more, separated by blanks.
            known = {image: rest.split()[0] for image, rest in read_rows(path, 2, ",")}
            return partial(look_up, known, path=path, what="image"), path
        path = place / "meta.bin"
        if path.is_file():
            return partial(_numbered, _read_meta_bin(path)[1], path=path), path
        path = place / DEVKIT / "ILSVRC2012_validation_ground_truth.txt"
        if path.is_file():
            wnids = {str(number): wnid for number, wnid, _ in _read_meta_mat(path.parent)}
            in_order = [
                look_up(wnids, row[0], path.parent / "meta.mat", "synset")
                for row in read_rows(path, 1)
            ]
            return partial(_numbered, in_order, path=path), path
    raise LAYOUT.error(f"The images in {places[0] / 'val'} have no labels")


def _numbered(wnids: list[str], stem: str, path: Path) -> str:
    """Entry for ILSVRC2012_val_00000001 and so on, which count from 1."""
    number = stem.rpartition("_")[2]
    if not number.isdecimal() or not 1 <= int(number) <= len(wnids):
        raise InvalidInputError(f"{path} has {len(wnids)} labels, but none for the image {stem}.")
    return wnids[int(number) - 1]


def _names(ids: list[str], places: list[Path]) -> tuple[str, ...]:
    words: dict[str, str] = {}
    for place in places:
        if (place / "LOC_synset_mapping.txt").is_file():
            words = dict(read_rows(place / "LOC_synset_mapping.txt", 2))
        elif (place / "meta.bin").is_file():
            meta = _read_meta_bin(place / "meta.bin")[0]
            words = {wnid: ", ".join(synonyms) for wnid, synonyms in meta.items()}
        elif (place / DEVKIT / "meta.mat").is_file():
            words = {wnid: text for _, wnid, text in _read_meta_mat(place / DEVKIT)}
        if words:
            break
    names = [words.get(wnid, wnid).split(",")[0] for wnid in ids]
    count = Counter(names)
    return tuple(
        name if count[name] == 1 else f"{name} ({wnid})"
        for name, wnid in zip(names, ids, strict=True)
    )


def _read_meta_bin(path: Path) -> Any:
    """What torchvision has made of the development kit: synonyms by id, ids of the images."""
    import pickle

    import torch

    try:
        synonyms, wnids = torch.load(path, weights_only=True)
    except (
        OSError,
        RuntimeError,
        ValueError,
        TypeError,
        EOFError,
        pickle.UnpicklingError,
    ) as failure:
        raise InvalidInputError(
            f"{path} is not the file that torchvision writes: {failure}"
        ) from None
    if not (
        isinstance(synonyms, dict)
        and all(map(_is_list_of_names, synonyms.values()))
        and _is_list_of_names(wnids)
    ):
        raise InvalidInputError(
            f"{path} is not the file that torchvision writes: names by the id of each class, and "
            "the id of each validation image, were expected."
        )
    return synonyms, wnids


def _is_list_of_names(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)


def _read_meta_mat(folder: Path) -> list[tuple[int, str, str]]:
    """Number, WordNet id and synonyms of each synset."""
    path = folder / "meta.mat"
    content = read_mat(path)
    try:
        synsets = content["synsets"]
        return [(int(s["ILSVRC2012_ID"]), str(s["WNID"]), str(s["words"])) for s in synsets]
    except (ValueError, TypeError, KeyError, IndexError) as failure:
        raise InvalidInputError(
            f"{path} is not that of the ImageNet development kit: {failure}"
        ) from None
