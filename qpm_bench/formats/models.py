"""Any problem as an LP or MPS file for any solver."""

from __future__ import annotations

import os
import shutil
import tempfile
import textwrap
from pathlib import Path

from qpm_opt import InvalidInputError, Problem
from qpm_opt.files import replace_on_success

_COMMENT = {".lp": "\\", ".mps": "*"}


def write_linear_model(problem: Problem, path: str | os.PathLike[str]) -> None:
    """Write the compact model, its products linearised, as ``.lp`` or ``.mps``, atomically.

    The objective is that of the problem, maximised; ``s(d)`` and ``W(c_d)`` are its variables,
    ``y(d_e)`` the product ``s_d s_e``. Distinctness would take a row for every pair of
    classes and every set of features, so it is left out: if it is demanded, the optimum of the file
    is an upper bound of that of the problem, and a comment at the top of the file says so. All else
    is exact.

    Raises
    ------
    InvalidInputError
        If the suffix is another one, or the path is no file.

    References
    ----------
    :func:`qpm_opt.formulation.build_compact` states the model.
    """
    # Importing Pyomo takes longer than reading most instances.
    from qpm_opt.formulation import build_compact, write_model

    suffix = Path(path).suffix.lower()
    if suffix not in _COMMENT:
        raise InvalidInputError(
            f"Cannot write a model to {path}: the suffix is {suffix or 'missing'}; use .lp or .mps."
        )
    with (
        replace_on_success(path) as temporary,
        tempfile.TemporaryDirectory(dir=temporary.parent) as folder,  # a disk that has the room
    ):
        model = Path(folder, f"model{suffix}")
        write_model(build_compact(problem), model)
        with (
            open(temporary, "w", encoding="utf-8") as target,
            open(model, encoding="utf-8") as body,
        ):
            target.writelines(f"{_COMMENT[suffix]} {line}\n" for line in _description(problem))
            shutil.copyfileobj(body, target)


def _description(problem: Problem) -> list[str]:
    """What the file is and what it leaves out, in lines that every reader's buffer takes."""
    about = [
        f"{problem.name or 'unnamed'}: {problem.n_classes} classes, {problem.n_features} features, "
        f"{problem.n_selected} selected, {problem.n_per_class} for each class; linearised",
        f"source: {problem.source or 'not stated'}",
        f"sha256: {problem.sha256}",
    ]
    if problem.distinct and problem.n_classes > 1:
        about.append(
            "LEFT OUT: no two classes may have the same features. The optimum of this file is an "
            "upper bound of the optimum of the problem."
        )
    return [line for text in about for line in textwrap.wrap(" ".join(text.split()), 78)]
