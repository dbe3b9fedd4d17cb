"""Omniglot: handwritten characters, each by twenty drawers; the published drawings or one array."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from qpm_nn.data.augmentation import Augmentation
from qpm_nn.data.base import DataModule
from qpm_nn.data.datasets import as_bytes
from qpm_nn.data.images import LabelledImages
from qpm_nn.data.listing import FileList, Layout, Listing
from qpm_nn.data.photographs import PhotoOptions, make_data_module
from qpm_nn.data.reading import Framing
from qpm_opt import InvalidInputError
from qpm_opt.files import FileKind, read_arrays

logger = logging.getLogger(__name__)

FILE_NAME = "omniglot195_28px.npz"
OMNIGLOT = FileKind(
    "the Omniglot file",
    "give an .npz file with X (3900, 28, 28), y, drawer and class_names",
    InvalidInputError,
    ("X", "y", "drawer", "class_names"),
)
#: Side of the images in pixels, if nothing else is asked for.
SIZE = 28
#: The alphabets of the 195 characters: those of the two published small background sets but
#: Katakana.
ALPHABETS = ("Balinese", "Early_Aramaic", "Greek", "Korean", "Latin", "Sanskrit", "Tagalog")
#: Drawers 1 to 14 are for training, 15 to 20 for testing.
LAST_TRAIN_DRAWER, N_DRAWERS = 14, 20
AUGMENTATION = Augmentation(degrees=15, scale=0.15, shear=0.15, translate=0.08)
#: Ink is dark in the drawings, and bright in the images of this data set.
FRAMING = Framing(invert=True)

SETS = ("images_background", "images_evaluation")
#: Where the sets of drawings may be: below ``omniglot-py`` (torchvision) or ``python`` (the
#: repository of the data set).
PLACES = (
    "omniglot-py",
    ".",
    "python",
    "omniglot",
    "omniglot/omniglot-py",
    "omniglot/python",
)
SOURCE = (
    "https://github.com/brendenlake/omniglot (python/images_background.zip, "
    "python/images_evaluation.zip), or by torchvision.datasets.Omniglot(folder, background, "
    "download=True)"
)
CHARACTERS = Layout(
    name="Omniglot",
    # Last, the root may be the set itself.
    folders=(*(f"{place}/{SETS[0]}" for place in PLACES), "."),
    required=ALPHABETS,
    tree=f"""\
omniglot-py/
    images_background/Balinese/character01/0108_01.png, ...
        and likewise {", ".join(ALPHABETS[1:])}
or
{FILE_NAME}""",
    source=SOURCE,
)
ALL_CHARACTERS = Layout(
    name="Omniglot (all characters)",
    folders=PLACES,
    required=SETS,
    tree="""\
omniglot-py/
    images_background/Balinese/character01/0108_01.png, ...
    images_evaluation/Angelic/character01/0965_01.png, ...""",
    source=SOURCE,
)


def load_omniglot(root: Path, options: PhotoOptions) -> DataModule:
    """Omniglot: 195 characters of seven alphabets, 2,730 training and 1,170 test images.

    Ink is bright. Drawers 1 to 14 are for training, 15 to 20 for testing; the alphabets are the
    parents of the characters. Made from the published drawings with 28 pixels, the images are those
    of the file ``omniglot195_28px.npz``, bit by bit.

    Parameters
    ----------
    root : Path
        Folder that holds ``omniglot195_28px.npz``, itself or in a folder ``omniglot``: ``X`` (3900,
        28, 28) uint8, ``y`` class indices, ``drawer`` 1 to 20, ``class_names``
        (``<alphabet>/<character>``). Otherwise the folder of the drawings
        ``images_background/<alphabet>/<character>/<number>_<drawer>.png``.
    options : PhotoOptions
        How drawings are read; the images of the file have their own size.

    Raises
    ------
    InvalidInputError
        If neither is there, or it is not what it should be.

    References
    ----------
    Lake, Salakhutdinov, Tenenbaum, Human-level concept learning through probabilistic program
    induction, Science 350 (2015) 1332-1338.
    """
    path = next((p for p in (root / FILE_NAME, root / "omniglot" / FILE_NAME) if p.is_file()), None)
    if path is None:
        folder = CHARACTERS.find(root)
        listing = _read_characters(folder, [folder / name for name in ALPHABETS])
        return _of_drawings("omniglot", listing, options)
    data = _read_file(path)
    if data.image_shape[1:] != (options.image_size, options.image_size):
        logger.warning(
            "%s has images of %d x %d pixels; image_size %d is for the published drawings and is "
            "not used.",
            path,
            *data.image_shape[1:],
            options.image_size,
        )
    return data


def load_omniglot_full(root: Path, options: PhotoOptions) -> DataModule:
    """Omniglot: all 1,623 characters of 50 alphabets, 22,722 training and 9,738 test images.

    The characters of the background and of the evaluation set are classes alike, and are split by
    the drawers as in :func:`load_omniglot`.

    Raises
    ------
    InvalidInputError
        If one of the two sets is missing, or is not what it should be.
    """
    folder = ALL_CHARACTERS.find(root)
    alphabets = [alphabet for name in SETS for alphabet in _folders(folder / name)]
    return _of_drawings("omniglot_full", _read_characters(folder, alphabets), options)


def _read_file(path: Path) -> DataModule:
    arrays = read_arrays(path, OMNIGLOT)
    images, labels, drawer, names = (arrays[key] for key in OMNIGLOT.arrays)
    if images.ndim != 3 or not labels.shape == drawer.shape == images.shape[:1]:
        raise InvalidInputError(
            f"{path}: X has shape {images.shape}, y {labels.shape} and drawer {drawer.shape}; "
            "(n, height, width), (n,) and (n,) were expected."
        )
    for key in ("y", "drawer"):
        if not np.issubdtype(arrays[key].dtype, np.integer):
            raise InvalidInputError(
                f"{path}: {key} has type {arrays[key].dtype}; whole numbers were expected."
            )
    if names.ndim != 1 or names.dtype.kind != "U":
        raise InvalidInputError(
            f"{path}: class_names has type {names.dtype} and shape {names.shape}; a list of names "
            "was expected."
        )
    pixels = as_bytes(images, f"{path}: X")[:, None]
    is_train = drawer <= LAST_TRAIN_DRAWER
    class_names = tuple(map(str, names))
    return DataModule(
        name="omniglot",
        train=LabelledImages(pixels[is_train], labels[is_train]),
        test=LabelledImages(pixels[~is_train], labels[~is_train]),
        class_names=class_names,
        augmentation=AUGMENTATION,
        hierarchy=_hierarchy(class_names),
        framing=FRAMING,
    )


def _of_drawings(name: str, listing: Listing, options: PhotoOptions) -> DataModule:
    return replace(make_data_module(name, listing, options), augmentation=AUGMENTATION)


def _read_characters(folder: Path, alphabets: Iterable[Path]) -> Listing:
    """Drawings of these alphabets, in the order of alphabet, character and drawer."""
    train, test = FileList(), FileList()
    names: list[str] = []
    for alphabet in sorted(alphabets, key=lambda path: path.name):
        characters = _folders(alphabet)
        if not characters:
            raise InvalidInputError(
                f"{alphabet} holds no folders of characters; unpack Omniglot again."
            )
        for character in characters:
            for drawer, path in sorted(map(_drawer_of, _visible(character))):
                files = train if drawer <= LAST_TRAIN_DRAWER else test
                files.add(path.relative_to(folder).as_posix(), len(names))
            names.append(f"{alphabet.name}/{character.name}")
    class_names = tuple(names)
    return Listing(folder, train, test, class_names, _hierarchy(class_names), are_drawings=True)


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in _visible(folder) if path.is_dir())


def _drawer_of(path: Path) -> tuple[int, Path]:
    match = re.fullmatch(r"[0-9]+_([0-9]+)\.png", path.name)
    if match is None or not 1 <= int(match[1]) <= N_DRAWERS:
        raise InvalidInputError(
            f"{path} is no drawing of Omniglot; <number>_<drawer>.png was expected, with a drawer "
            f"from 1 to {N_DRAWERS}, such as 0108_01.png."
        )
    return int(match[1]), path


def _hierarchy(class_names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The alphabet of each character, if the names tell it."""
    if not all("/" in name for name in class_names):
        return ()
    return tuple((name.partition("/")[0],) for name in class_names)
