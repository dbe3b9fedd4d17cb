"""Files on disk: written whole or not at all, read with one clear sentence per defect."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from qpm_opt.errors import (
    InvalidFeaturesError,
    InvalidInputError,
    InvalidProblemError,
    InvalidSolutionError,
)

#: First bytes of an ``.npz`` file and of a single array (``.npy``).
_ARCHIVE_START, _ARRAY_START = b"PK", b"\x93NUMPY"


#: Errors of writing, which do not name the file.
_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
#: How the names of files end that are being written.
_UNFINISHED = ".unfinished"


class replace_on_success:  # noqa: N801 - used as a statement, like contextlib.suppress
    """Context of a temporary path that takes the place of ``path`` if the block succeeds.

    A killed or failed write leaves the old file as it was. A link is written through. What a killed
    one leaves beside it goes with :func:`remove_unfinished`.

    Raises
    ------
    InvalidInputError
        If ``path`` is a folder, a device or anything else that is no file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.realpath(path))

    def __enter__(self) -> Path:
        if self.path.exists() and not self.path.is_file():
            raise InvalidInputError(
                f"{self.path} is a folder or a device; give the name of a regular file."
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(_UNFINISHED, f".{self.path.name}.", self.path.parent)
        os.close(handle)
        self.temporary = Path(name)
        return self.temporary

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        try:
            if isinstance(error, OSError) and error.errno in _WRITING and not error.filename:
                error.filename = str(self.path)
            if kind is None:
                # mkstemp makes private files; a result is as readable as any file of the user.
                umask = os.umask(0)
                os.umask(umask)
                self.temporary.chmod(0o666 & ~umask)
                os.replace(self.temporary, self.path)
        finally:
            self.temporary.unlink(missing_ok=True)


def copy_file(source: Path, target: str | os.PathLike[str]) -> None:
    """Copy what a file holds, all or nothing."""
    with replace_on_success(target) as temporary:
        shutil.copyfile(source, temporary)


def remove_unfinished(folder: Path) -> None:
    """Delete what killed writes left in a folder and those below; nobody may be writing there."""
    for path in folder.rglob(f".*{_UNFINISHED}"):
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class FileKind:
    """A kind of file, for the sentence about one that is none of it.

    Attributes
    ----------
    name : str
        With its article.
    advice : str
        What to give instead.
    error : type
        What is raised about it.
    arrays : tuple of str
        Arrays that an ``.npz`` file of this kind holds, and by which it is known.
    """

    name: str
    advice: str
    error: type[InvalidInputError]
    arrays: tuple[str, ...] = ()


PROBLEM = FileKind(
    "a problem file",
    "give an .npz file with A, R (or R_row, R_col, R_val), b, n_selected and n_per_class, such as "
    "'qpm constants' and Problem.save write",
    InvalidProblemError,
    ("A", "b", "n_selected", "n_per_class"),
)
FEATURES = FileKind(
    "a features file",
    "give an .npz file with features (n_images, n_features), labels (n_images,) and optionally "
    "locality or centre (n_features,)",
    InvalidFeaturesError,
    ("features", "labels"),
)
BIAS = FileKind(
    "a bias file",
    "give a .npy file with one number for each feature, such as numpy.save writes",
    InvalidFeaturesError,
)
SOLUTION = FileKind(
    "a solution file",
    "give a .json file that 'qpm solve' or Result.save wrote",
    InvalidSolutionError,
)
CERTIFICATE = FileKind(
    "a certificate",
    "give the .certificate.npz file that was written beside the solution",
    InvalidSolutionError,
    ("format", "problem_sha256", "bound", "node_parent", "node_feature", "node_selected"),
)
COVER = FileKind(
    "a file of a cover problem",
    "give an .npz file that CoverProblem.save wrote",
    InvalidProblemError,
    ("format", "separated", "same", "n_exceptions", "count_exceptions"),
)


def read_arrays(path: str | os.PathLike[str], kind: FileKind) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz`` file; whatever is wrong with it is raised as ``kind.error``."""
    path = Path(path)
    _check_there(path, kind)
    try:
        if not path.is_file() or _start(path)[:2] != _ARCHIVE_START:
            raise _other_kind(path, kind)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except kind.error:
        raise
    except OSError as failure:
        raise kind.error(f"{path} cannot be read: {failure.strerror or failure}.") from None
    # Damaged bytes come out of zipfile, zlib and the parser of array headers as errors of any kind.
    except Exception as failure:
        reason = " ".join(str(failure).split())
        raise kind.error(
            f"{path} is a damaged .npz file or holds Python objects ({reason}); {kind.advice}."
        ) from None
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise kind.error(f"{path} holds {key!r}, which is no array; every member must be one.")
    missing = [key for key in kind.arrays if key not in arrays]
    if missing:
        if _kind_of_arrays(arrays) is not None:
            raise _other_kind(path, kind)
        raise kind.error(f"{path} lacks {', '.join(missing)}; {kind.advice}.")
    return arrays


def read_array(path: str | os.PathLike[str], kind: FileKind) -> NDArray[Any]:
    """Array of a ``.npy`` file; whatever is wrong with it is raised as ``kind.error``."""
    path = Path(path)
    _check_there(path, kind)
    if not path.is_file():
        raise _other_kind(path, kind)
    try:
        if _start(path) != _ARRAY_START:
            raise _other_kind(path, kind)
        return cast(NDArray[Any], np.load(path, allow_pickle=False))
    except kind.error:
        raise
    # Damaged headers come out of the parser as errors of any kind.
    except Exception as failure:
        raise kind.error(f"{path} is damaged ({failure}); {kind.advice}.") from None


def read_solution(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Content of a solution file, its format and the two index lists checked.

    Raises
    ------
    InvalidSolutionError
        If the file is missing, is no JSON, or lacks what every solution has.
    """
    path = Path(path)
    _check_there(path, SOLUTION)
    if not path.is_file():
        raise _other_kind(path, SOLUTION)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise _other_kind(path, SOLUTION) from None
    except (OSError, ValueError) as failure:
        raise InvalidSolutionError(
            f"{path} cannot be read as JSON ({failure}); {SOLUTION.advice}."
        ) from None
    except RecursionError:
        raise InvalidSolutionError(f"{path} cannot be read: it is nested too deeply.") from None
    if not _is_solution(record):
        raise InvalidSolutionError(
            f'{path} is no solution file: "format" is not "qpm-solution/1"; {SOLUTION.advice}.'
        )
    selection, assignment = record.get("selection"), record.get("assignment")
    if not isinstance(selection, list) or not isinstance(assignment, list):
        raise InvalidSolutionError(
            f"{path} holds no assignment: selection and assignment must be lists of indices."
        )
    if not all(isinstance(features, list) for features in assignment):
        raise InvalidSolutionError(f"{path}: every class in assignment must be a list of indices.")
    return cast(dict[str, Any], record)


def _check_there(path: Path, kind: FileKind) -> None:
    if not path.exists():
        raise kind.error(f"{path} does not exist.")


def _other_kind(path: Path, kind: FileKind) -> InvalidInputError:
    return kind.error(f"{path} is {_description(path)}, not {kind.name}; {kind.advice}.")


def _description(path: Path) -> str:
    """What a file is, by its content."""
    if path.is_dir():
        return "a folder"
    if not path.is_file():
        return "a device or a pipe"
    start = _start(path)
    if not start:
        return "empty"
    if start == _ARRAY_START:
        return "a single array (.npy)"
    if start[:2] == _ARCHIVE_START:
        try:
            with zipfile.ZipFile(path) as archive:
                names = {name.removesuffix(".npy") for name in archive.namelist()}
        except Exception:  # as many kinds as a file can be damaged in
            return "a damaged .npz file"
        kind = _kind_of_arrays(names)
        return "an .npz file of another kind" if kind is None else kind.name
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return "a binary file of another format"
    except (ValueError, RecursionError):
        return "a text file"
    return SOLUTION.name if _is_solution(record) else "a JSON file"


def _start(path: Path) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(len(_ARRAY_START))


def _kind_of_arrays(names: Collection[str]) -> FileKind | None:
    return next(
        (
            k
            for k in (PROBLEM, FEATURES, CERTIFICATE, COVER)
            if all(name in names for name in k.arrays)
        ),
        None,
    )


def _is_solution(record: Any) -> bool:
    return isinstance(record, dict) and record.get("format") == "qpm-solution/1"
