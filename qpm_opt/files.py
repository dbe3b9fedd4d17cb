"""Files on disk: written whole or not at all, read with one clear sentence per defect."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qpm_opt.errors import InvalidInputError, InvalidSolutionError


class replace_on_success:  # noqa: N801 - used as a statement, like contextlib.suppress
    """Context of a temporary path that takes the place of ``path`` if the block succeeds.

    A killed or failed write leaves the old file as it was. A link is written through.

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
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        os.close(handle)
        self.temporary = Path(name)
        return self.temporary

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                # mkstemp makes private files; a result is as readable as any file of the user.
                umask = os.umask(0)
                os.umask(umask)
                self.temporary.chmod(0o666 & ~umask)
                os.replace(self.temporary, self.path)
        finally:
            self.temporary.unlink(missing_ok=True)


def read_arrays(
    path: str | os.PathLike[str], error: type[InvalidInputError]
) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz`` file; whatever is wrong with it is raised as ``error``."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            if isinstance(archive, np.ndarray):
                raise error(f"{path} holds a single array; an .npz file was expected.")
            arrays = {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise error(f"{path} does not exist.") from None
    except error:
        raise
    # Damaged bytes come out of zipfile, zlib and the parser of array headers as errors of any kind.
    except Exception as failure:
        reason = " ".join(str(failure).split())
        raise error(f"{path} cannot be read as an .npz file without pickles: {reason}") from None
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise error(f"{path} holds {key!r}, which is no array; every member must be one.")
    return arrays


def read_solution(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Content of a solution file, its format and the two index lists checked.

    Raises
    ------
    InvalidSolutionError
        If the file is missing, is no JSON, or lacks what every solution has.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidSolutionError(f"{path} does not exist.") from None
    except (OSError, ValueError) as failure:
        raise InvalidSolutionError(f"{path} cannot be read as JSON: {failure}") from None
    except RecursionError:
        raise InvalidSolutionError(f"{path} cannot be read: it is nested too deeply.") from None
    if not isinstance(record, dict) or record.get("format") != "qpm-solution/1":
        raise InvalidSolutionError(f'{path} is no solution file: "format" is not "qpm-solution/1".')
    selection, assignment = record.get("selection"), record.get("assignment")
    if not isinstance(selection, list) or not isinstance(assignment, list):
        raise InvalidSolutionError(
            f"{path} holds no assignment: selection and assignment must be lists of indices."
        )
    if not all(isinstance(features, list) for features in assignment):
        raise InvalidSolutionError(f"{path}: every class in assignment must be a list of indices.")
    return record
