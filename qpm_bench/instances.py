"""Instances by name, from a file or from a folder; whatever is known of them comes with them."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

from qpm_bench.formats.any_format import NotAnInstance, read_any
from qpm_bench.generators import paper_like
from qpm_bench.names import check_name
from qpm_bench.registry import Instance, registry
from qpm_opt import InvalidInputError, Problem

__all__ = ["find", "instance", "paper_like", "read_folder", "read_instance"]

logger = logging.getLogger(__name__)


def instance(name: str, folder: Path | None = None) -> Problem:
    """Problem of the registry, its hash checked.

    Parameters
    ----------
    name : str
        Of :func:`qpm_bench.registry.registry`.
    folder : Path, optional
        Where a file ``NAME.npz`` is taken, if it has the hash of the registry, in the place of
        generating the problem again.

    Raises
    ------
    InvalidInputError
        If the name is unknown, the instance is one that is read from its public file, a package is
        missing, or the problem generated here has another hash.
    """
    known = registry()
    check_name("instance", name, known)
    row = known[name]
    if folder is not None and (folder / f"{name}.npz").exists():
        held = Problem.load(folder / f"{name}.npz")
        if held.sha256 == row.sha256:
            return held
    if row.seed is None:
        raise InvalidInputError(
            f"{name} is a public instance ({row.citation}); give the folder with its file with "
            "--instances."
        )
    problem = row.make()
    if problem.sha256 != row.sha256:
        raise InvalidInputError(
            f"The instance {name} generated here has the hash {problem.sha256[:16]}, not "
            f"{row.sha256[:16]} of the registry, so published figures do not belong to it: another "
            "version of a package draws or computes otherwise. Put a file of the instance from "
            f"where it is right (qpm bench export {name} --format npz) into the folder instances "
            "of the campaign, or give it with --instances."
        )
    return problem


def find(problem: Problem) -> Instance | None:
    """The row of the registry with the very data of a problem, whatever its name."""
    return next((row for row in registry().values() if row.sha256 == problem.sha256), None)


def read_instance(
    path: str | os.PathLike[str], *, n_selected: int = 50, n_per_class: int = 5
) -> Problem:
    """Problem of a file in any of the formats of :mod:`qpm_bench.formats.any_format`.

    If the registry has this very problem, what it knows comes with it, unless the file knows more.

    Parameters
    ----------
    path : path-like
    n_selected, n_per_class : int
        For a file of features, which does not say.

    Raises
    ------
    InvalidInputError
        If the file is no instance, or it cannot be told which format it has.
    """
    problem = read_any(path, n_selected=n_selected, n_per_class=n_per_class)
    row = find(problem)
    if row is not None and problem.best_known is None:
        return replace(problem, best_known=row.best_known, proved=row.proved)
    stem = Path(path).stem
    if row is None and stem in registry():
        logger.warning(
            "%s has other data than the instance %s of the registry; what is known of that does "
            "not hold here.", path, stem,
        )  # fmt: skip
    return problem


def read_folder(
    path: str | os.PathLike[str], *, n_selected: int = 50, n_per_class: int = 5
) -> dict[str, Problem]:
    """Problems of all instance files of a folder by file stem, in the order of their names.

    Formats may be mixed. Other files are passed over; a text file that is no instance with a
    warning. The arguments are those of :func:`read_instance`.

    Raises
    ------
    InvalidInputError
        If there is no such folder, it has no instance, two files have the same stem, or a file is
        damaged.
    """
    problems: dict[str, Problem] = {}
    folder = Path(path)
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not file.is_file() or file.name.startswith("."):
            continue
        try:
            problem = read_instance(file, n_selected=n_selected, n_per_class=n_per_class)
        except NotAnInstance as reason:
            logger.warning("Passed over: %s", reason)
            continue
        if file.stem in problems:
            raise InvalidInputError(
                f"{folder} has two instances named {file.stem}, {file.name} is the second; give "
                "one of them another name."
            )
        problems[file.stem] = problem
    if not problems:
        raise InvalidInputError(
            f"{path} is no folder with instances; give one with .npz, .qplib or .opb files or text "
            "files of the OR-Library, the k-cluster library or MDPLIB."
        )
    return problems
