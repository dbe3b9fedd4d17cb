"""Own images: one folder a class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qpm_nn.data.base import Augmentation, DataModule, LabelledImages
from qpm_opt import InvalidInputError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
#: Without a test folder, one image in so many of each class, by file name, is a test image.
TEST_EVERY = 5


def load_folder(root: Path, image_size: int = 64) -> DataModule:
    """Images below a folder, all brought to ``image_size`` x ``image_size`` pixels in RGB.

    Either ``root/train/<class>/*`` with ``root/test/<class>/*`` (or ``val``), or
    ``root/<class>/*``, of which every fifth image of each class, in the order of the file names,
    becomes a test image.
    The shorter side is resized, the longer one cropped to its centre. All images are held in memory
    (``3 * image_size**2`` bytes each).

    Raises
    ------
    InvalidInputError
        If the folder is missing, a class is empty or in one part only, or an image is damaged.
    """
    if not root.is_dir():
        raise InvalidInputError(
            f"{root} is not a folder; give one that holds train/<class>/ and test/<class>/, or "
            "<class>/, with images in them."
        )
    if image_size < 8:
        raise InvalidInputError(f"image_size is {image_size}; at least 8 pixels are needed.")
    parts = {path.name.lower(): path for path in root.iterdir() if path.is_dir()}
    if "train" in parts:
        train_root = parts["train"]
        test_root = next((parts[name] for name in ("test", "val") if name in parts), None)
        if test_root is None:
            raise InvalidInputError(f"{root} has a folder train but neither test nor val.")
        train_files, test_files = _by_class(train_root), _by_class(test_root)
        if train_files.keys() != test_files.keys():
            odd = min(train_files.keys() ^ test_files.keys())
            raise InvalidInputError(
                f"Class {odd!r} is in only one of {train_root} and {test_root}; both must have "
                "the same classes."
            )
    else:
        files = _by_class(root)
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
    return DataModule(
        name=root.resolve().name,
        train=_load(train_files, image_size),
        test=_load(test_files, image_size),
        class_names=tuple(train_files),
        augmentation=Augmentation(
            degrees=10, scale=0.15, shear=0.1, translate=0.1, flip=True, padding="reflection"
        ),
    )


def _by_class(root: Path) -> dict[str, list[Path]]:
    """Image files of each class folder, classes and files in the order of their names."""
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


def _load(files: dict[str, list[Path]], image_size: int) -> LabelledImages:
    images = [_read(path, image_size) for paths in files.values() for path in paths]
    labels = np.repeat(np.arange(len(files)), [len(paths) for paths in files.values()])
    return LabelledImages(np.stack(images), labels)


def _read(path: Path, image_size: int) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            upright = _as_rgb(ImageOps.exif_transpose(image))
            fitted = ImageOps.fit(upright, (image_size, image_size), Image.Resampling.LANCZOS)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as failure:
        raise InvalidInputError(f"{path} cannot be read as an image: {failure}") from None
    return np.asarray(fitted).transpose(2, 0, 1)


def _as_rgb(image: Image.Image) -> Image.Image:
    """Image in 8-bit RGB: 16 bits scaled down, transparency on white.

    Raises
    ------
    ValueError
        If the range of the values is not known (32 bits, floating point).
    """
    from PIL import Image

    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no fixed range; save it with 8 bits")
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        white = Image.new("RGBA", opaque.size, "white")
        return Image.alpha_composite(white, opaque).convert("RGB")
    return image.convert("RGB")
