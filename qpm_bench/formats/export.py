"""Any problem in the formats of solvers and libraries, chosen by name."""

from __future__ import annotations

import os
from pathlib import Path

from qpm_bench.formats.models import write_linear_model
from qpm_bench.formats.qplib_writer import write_qplib
from qpm_bench.names import check_name
from qpm_opt import InvalidInputError, Problem

#: What is written, each with the suffix of its name. LP and MPS leave distinctness out.
FORMATS = {
    "lp": write_linear_model,
    "mps": write_linear_model,
    "qplib": write_qplib,
    "npz": Problem.save,
}


def write_instance(problem: Problem, path: str | os.PathLike[str], file_format: str) -> None:
    """Write a problem in one of :data:`FORMATS`, atomically.

    Raises
    ------
    InvalidInputError
        If there is no such format, the path has another suffix, or the format cannot hold the
        problem.
    """
    check_name("format", file_format, FORMATS)
    if Path(path).suffix.lower() != f".{file_format}":
        raise InvalidInputError(
            f"{path} has not the suffix .{file_format} of the format; give such a name."
        )
    FORMATS[file_format](problem, path)
