"""Data sets by name, or a folder of own images."""

from __future__ import annotations

import os
from pathlib import Path

from qpm_nn.data.base import Augmentation, DataModule, LabelledImages, Preprocessing
from qpm_nn.data.digits import load_digits
from qpm_nn.data.folder import load_folder
from qpm_nn.data.omniglot import load_omniglot
from qpm_opt.errors import unknown_name

__all__ = [
    "DATA_SETS",
    "Augmentation",
    "DataModule",
    "LabelledImages",
    "Preprocessing",
    "load_data",
]

#: Loader of each named data set; takes the folder that holds its files.
DATA_SETS = {
    "digits": lambda root: load_digits(),
    "omniglot": load_omniglot,
}


def load_data(
    name: str, *, root: str | os.PathLike[str] | None = None, image_size: int = 64
) -> DataModule:
    """A data set.

    Parameters
    ----------
    name : str
        One of ``DATA_SETS``, or the path of a folder (:func:`~qpm_nn.data.folder.load_folder`).
    root : path, optional
        Where the files of a named data set are; the environment variable ``QPM_DATA`` by default,
        else the current folder.
    image_size : int
        Side of own images in pixels; named data sets have their own size.

    Raises
    ------
    InvalidInputError
        If the name is unknown or the files are missing or damaged.
    """
    if name in DATA_SETS:
        return DATA_SETS[name](Path(root or os.environ.get("QPM_DATA", ".")))
    if os.sep in name or Path(name).is_dir():
        return load_folder(Path(name), image_size)
    raise unknown_name("data set or folder", name, DATA_SETS)
