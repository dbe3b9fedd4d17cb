"""Handwritten characters of seven alphabets, read from a local copy."""

from __future__ import annotations

from pathlib import Path

from qpm_nn.data.augmentation import Augmentation
from qpm_nn.data.base import DataModule
from qpm_nn.data.images import LabelledImages
from qpm_opt import InvalidInputError
from qpm_opt.files import FileKind, read_arrays

FILE_NAME = "omniglot195_28px.npz"
OMNIGLOT = FileKind(
    "the Omniglot file",
    "give an .npz file with X (3900, 28, 28), y, drawer and class_names",
    InvalidInputError,
    ("X", "y", "drawer", "class_names"),
)
#: Drawers 1 to 14 are for training, 15 to 20 for testing.
LAST_TRAIN_DRAWER = 14


def load_omniglot(root: Path) -> DataModule:
    """Omniglot, 195 characters of 28 x 28 pixels, ink bright; 2,730 training and 1,170 test images.

    Parameters
    ----------
    root : Path
        Folder that holds ``omniglot195_28px.npz``, itself or in a folder ``omniglot``. The file has
        ``X`` (3900, 28, 28) uint8, ``y`` class indices, ``drawer`` 1 to 20, ``class_names``.

    Raises
    ------
    InvalidInputError
        If the file is missing or is not what it should be.

    References
    ----------
    Lake, Salakhutdinov, Tenenbaum, Human-level concept learning through probabilistic program
    induction, Science 350 (2015) 1332-1338.
    """
    path = next((p for p in (root / FILE_NAME, root / "omniglot" / FILE_NAME) if p.is_file()), None)
    if path is None:
        raise InvalidInputError(
            f"{FILE_NAME} is neither in {root} nor in {root / 'omniglot'}; give its folder as root "
            "(--root) or in the environment variable QPM_DATA."
        )
    arrays = read_arrays(path, OMNIGLOT)
    images, labels, drawer, names = (arrays[key] for key in OMNIGLOT.arrays)
    if images.ndim != 3 or not len(images) == labels.size == drawer.size:
        raise InvalidInputError(
            f"{path}: X has shape {images.shape}, y {labels.shape} and drawer {drawer.shape}; "
            "(n, height, width), (n,) and (n,) were expected."
        )
    is_train = drawer <= LAST_TRAIN_DRAWER
    images = images[:, None]
    return DataModule(
        name="omniglot",
        train=LabelledImages(images[is_train], labels[is_train]),
        test=LabelledImages(images[~is_train], labels[~is_train]),
        class_names=tuple(map(str, names)),
        augmentation=Augmentation(degrees=15, scale=0.15, shear=0.15, translate=0.08),
    )
