"""Annotations in Matlab's files."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from qpm_opt import InvalidInputError


def read_mat(path: Path) -> dict[str, Any]:
    """Variables of a Matlab file up to version 7, without dimensions of length one.

    Raises
    ------
    InvalidInputError
        If the file cannot be read.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        return loadmat(path, squeeze_me=True)
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError, zlib.error) as why:
        raise InvalidInputError(f"{path} cannot be read as a Matlab file: {why}") from None
