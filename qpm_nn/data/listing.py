"""What the reader of a data set finds out: files, labels, boxes and names, but no pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qpm_nn.data.reading import Box
from qpm_opt import InvalidInputError


@dataclass
class FileList:
    """Image files with their labels, in the order of the set.

    ``paths`` are below the folder of the :class:`Listing`, with slashes; ``boxes`` are empty, or
    one for each file.
    """

    paths: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)

    def add(self, path: str, label: int, box: Box | None = None) -> None:
        """One more file."""
        self.paths.append(path)
        self.labels.append(label)
        if box is not None:
            self.boxes.append(box)

    def take(self, indices: list[int]) -> FileList:
        """The files of these indices."""
        return FileList(
            [self.paths[i] for i in indices],
            [self.labels[i] for i in indices],
            [self.boxes[i] for i in indices] if self.boxes else [],
        )


@dataclass
class Listing:
    """A data set before any pixel is read.

    Attributes
    ----------
    folder : Path
        What the paths start at.
    train, test : FileList
    class_names : tuple of str
        By label.
    hierarchy : tuple of tuples of str
        Names of the parents of each class, the nearest first, by label; empty if there are none.
    trim_bottom : int
        Rows of every image that are no part of the photograph.
    are_drawings : bool
        Whether the images are drawings in dark ink: they are read in grey, with bright ink.
    class_attributes : array of shape (n_classes, n_attributes), optional
        What people see in the images of each class.
    test_masks : FileList, optional
        Images that are not 0 where the object of a test image is, as many; below ``mask_folder``.
    mask_folder : Path
    """

    folder: Path
    train: FileList
    test: FileList
    class_names: tuple[str, ...]
    hierarchy: tuple[tuple[str, ...], ...] = ()
    trim_bottom: int = 0
    are_drawings: bool = False
    class_attributes: NDArray[np.float64] | None = None
    test_masks: FileList | None = None
    mask_folder: Path = Path()


@dataclass(frozen=True)
class Layout:
    """Where the files of a data set are, for finding them and for saying where they should be.

    Attributes
    ----------
    name : str
        As people call the data set.
    folders : tuple of str
        Places below the root to look in; ``"."`` is the root itself.
    required : tuple of str
        Files or folders in there.
    tree : str
        The expected tree, for people.
    source : str
        Where to get it.
    """

    name: str
    folders: tuple[str, ...]
    required: tuple[str, ...]
    tree: str
    source: str

    def find(self, root: Path) -> Path:
        """The folder of the data set.

        Raises
        ------
        InvalidInputError
            If there is none with all that is required; the message shows the tree and its source.
        """
        missing: dict[Path, list[str]] = {}
        for folder in (root / place for place in self.folders):
            missing[folder] = [name for name in self.required if not (folder / name).exists()]
            if not missing[folder]:
                return folder
        nearest = min(missing, key=lambda folder: len(missing[folder]))
        raise self.error(
            f"{self.name} is not in {root} ({', '.join(missing[nearest])} not found in {nearest})"
        )

    def error(self, problem: str) -> InvalidInputError:
        """Error that says what is wrong, what was expected, and where to get it."""
        return InvalidInputError(
            f"{problem}; give as root (--root or the environment variable QPM_DATA) a folder with\n"
            f"{self.tree.rstrip()}\nfrom {self.source}"
        )


def read_rows(path: Path, n_columns: int, separator: str | None = None) -> list[list[str]]:
    """Lines of a text file in columns; the last column takes the rest of its line.

    Parameters
    ----------
    path : Path
    n_columns : int
    separator : str, optional
        Blanks by default.

    Raises
    ------
    InvalidInputError
        If the file cannot be read or a line has too few columns; the message names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as failure:
        raise InvalidInputError(f"{path} cannot be read as text: {failure}") from None
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = [cell.strip() for cell in line.strip().split(separator, n_columns - 1)]
        if len(row) != n_columns or not all(row):
            raise InvalidInputError(
                f"{path}, line {number} is {line!r}; {n_columns} columns were expected."
            )
        rows.append(row)
    return rows


def look_up(table: Mapping[str, Any], key: str, path: Path, what: str) -> Any:
    """Entry of a table that another file refers to.

    Raises
    ------
    InvalidInputError
        If there is none.
    """
    if key not in table:
        raise InvalidInputError(f"{path} has no {what} {key!r}, to which another file refers.")
    return table[key]


def read_numbers(cells: list[str], path: Path) -> list[float]:
    """Numbers of a line.

    Raises
    ------
    InvalidInputError
        If one is none, or not finite.
    """
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        raise InvalidInputError(f"{path}: {' '.join(cells)!r} are no numbers.") from None
    if not all(map(math.isfinite, numbers)):
        raise InvalidInputError(f"{path}: {' '.join(cells)!r} are no finite numbers.")
    return numbers
