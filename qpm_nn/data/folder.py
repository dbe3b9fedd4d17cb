"""Own images: one folder a class."""

from __future__ import annotations

from pathlib import Path

from qpm_nn.data.base import TEST_EVERY
from qpm_nn.data.listing import FileList, Listing
from qpm_opt import InvalidInputError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def read_folder(root: Path, crop: bool = False) -> Listing:
    """Images below a folder, whose subfolders are the classes.

    Either ``root/train/<class>/*`` with ``root/test/<class>/*`` (or ``val``), or
    ``root/<class>/*``, of which every fifth image of each class, in the order of the file names,
    becomes a test image.

    Raises
    ------
    InvalidInputError
        If the folder is missing, a class is empty or in one part only, or crops are asked for.
    """
    if not root.is_dir():
        raise InvalidInputError(
            f"{root} is not a folder; give one that holds train/<class>/ and test/<class>/, or "
            "<class>/, with images in them."
        )
    if crop:
        raise InvalidInputError(f"{root} has no bounding boxes to crop to; leave out crop.")
    parts = {path.name.lower(): path for path in root.iterdir() if path.is_dir()}
    if "train" in parts:
        train_root = parts["train"]
        test_root = next((parts[name] for name in ("test", "val") if name in parts), None)
        if test_root is None:
            raise InvalidInputError(f"{root} has a folder train but neither test nor val.")
        train_files, test_files = images_by_class(train_root), images_by_class(test_root)
        if train_files.keys() != test_files.keys():
            odd = min(train_files.keys() ^ test_files.keys())
            raise InvalidInputError(
                f"Class {odd!r} is in only one of {train_root} and {test_root}; both must have "
                "the same classes."
            )
    else:
        files = images_by_class(root)
        for name, paths in files.items():
            if len(paths) < TEST_EVERY:
                raise InvalidInputError(
                    f"Class {name!r} in {root} has {len(paths)} images; at least {TEST_EVERY} are "
                    "needed to set one aside for testing."
                )
        test_files = {name: paths[TEST_EVERY - 1 :: TEST_EVERY] for name, paths in files.items()}
        train_files = {
            name: [path for i, path in enumerate(paths) if i % TEST_EVERY != TEST_EVERY - 1]
            for name, paths in files.items()
        }
    return Listing(root, _listed(train_files, root), _listed(test_files, root), tuple(train_files))


def images_by_class(root: Path) -> dict[str, list[Path]]:
    """Image files of each class folder, classes and files in the order of their names.

    Raises
    ------
    InvalidInputError
        If there are no class folders, or there is no image in one.
    """
    files = {}
    folders = (path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    for folder in sorted(folders):
        paths = sorted(path for path in folder.rglob("*") if _is_image(path.relative_to(folder)))
        if not paths:
            raise InvalidInputError(
                f"{folder} holds no image ({', '.join(sorted(SUFFIXES))}); add some or remove it."
            )
        files[folder.name] = paths
    if not files:
        raise InvalidInputError(f"{root} holds no class folders; expected {root}/<class>/*.png.")
    return files


def _is_image(path: Path) -> bool:
    """Whether a path below a class folder names an image, and nothing on it is hidden."""
    hidden = any(part.startswith(".") for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden


def _listed(files: dict[str, list[Path]], root: Path) -> FileList:
    listed = FileList()
    for label, paths in enumerate(files.values()):
        for path in paths:
            listed.add(path.relative_to(root).as_posix(), label)
    return listed
