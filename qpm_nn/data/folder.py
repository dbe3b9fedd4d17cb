"""Own images: one folder a class, alone or below folders of its parents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from qpm_nn.data.base import TEST_EVERY
from qpm_nn.data.listing import FileList, Listing
from qpm_opt import InvalidInputError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def read_folder(root: Path, crop: bool = False, nested: bool = False) -> Listing:
    """Images below a folder, whose subfolders are the classes.

    Either ``root/train/<class>/*`` with ``root/test/<class>/*`` (or ``val``), or
    ``root/<class>/*``, of which every fifth image of each class, in the order of the file names,
    becomes a test image. What lies in folders below that of a class belongs to the class, as for
    ``torchvision.datasets.ImageFolder``; unless ``nested``, with which the classes are the
    innermost folders, and those above them their parents (:func:`nested_images`). A nested tree
    cannot be told from one whose classes have their images in subfolders (one a session, say), so
    it has to be asked for.

    Raises
    ------
    InvalidInputError
        If the folder is missing, a class is empty or in one part only, crops are asked for, or
        ``nested`` and there are no parents.
    """
    read = nested_images if nested else images_by_class
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
        train_files, test_files = read(train_root), read(test_root)
        if train_files.keys() != test_files.keys():
            odd = min(train_files.keys() ^ test_files.keys())
            raise InvalidInputError(
                f"Class {odd!r} is in only one of {train_root} and {test_root}; both must have "
                "the same classes."
            )
    else:
        files = read(root)
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
    names = tuple(train_files)
    hierarchy: tuple[tuple[str, ...], ...] = ()
    if nested:
        names, hierarchy = _with_parents(names, root)
    return Listing(root, _listed(train_files, root), _listed(test_files, root), names, hierarchy)


def images_by_class(root: Path) -> dict[str, list[Path]]:
    """Image files of each class folder, classes and files in the order of their names.

    Raises
    ------
    InvalidInputError
        If there are no class folders, or there is no image in one.
    """
    files = {}
    for folder in _folders(root):
        paths = sorted(path for path in folder.rglob("*") if _is_image(path.relative_to(folder)))
        if not paths:
            raise InvalidInputError(
                f"{folder} holds no image ({', '.join(sorted(SUFFIXES))}); add some or remove it."
            )
        files[folder.name] = paths
    if not files:
        raise InvalidInputError(f"{root} holds no class folders; expected {root}/<class>/*.png.")
    return files


def nested_images(root: Path) -> dict[str, list[Path]]:
    """Image files of each innermost folder, by its path below the root, in the order of the names.

    Raises
    ------
    InvalidInputError
        If there are none, a folder is empty, or one holds images beside other folders.
    """
    files = {
        folder.relative_to(root).as_posix(): paths
        for top in _folders(root)
        for folder, paths in _innermost(top)
    }
    if not files:
        raise InvalidInputError(
            f"{root} holds no class folders; expected {root}/<parent>/<class>/*.png."
        )
    return files


def _innermost(folder: Path) -> Iterator[tuple[Path, list[Path]]]:
    files = (path for path in folder.iterdir() if path.is_file())
    images = sorted(path for path in files if _is_image(path.relative_to(folder)))
    below = _folders(folder)
    if bool(images) == bool(below):
        what = "both images and folders" if images else "no image"
        raise InvalidInputError(
            f"{folder} holds {what}; in nested folders every one holds either other folders or the "
            "images of a class."
        )
    if images:
        yield folder, images
    for path in below:
        yield from _innermost(path)


def _with_parents(
    paths: tuple[str, ...], root: Path
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Names and parents of classes; a name that two classes share takes in its parents."""
    if not any("/" in path for path in paths):
        raise InvalidInputError(
            f"{root} has no nested folders: images lie in the first folders below it; leave out "
            "nested."
        )
    split = [path.split("/") for path in paths]
    count = Counter(parts[-1] for parts in split)
    names = tuple(
        parts[-1] if count[parts[-1]] == 1 else path
        for path, parts in zip(paths, split, strict=True)
    )
    return names, tuple(tuple(reversed(parts[:-1])) for parts in split)


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")


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
