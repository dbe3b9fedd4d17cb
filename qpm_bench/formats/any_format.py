"""Which format a file has, by its suffix and what it begins with, and the problem in it.

Suffixes decide for ``.npz`` (a problem or features, by the arrays), ``.qplib`` and ``.opb``.
Anything else is text that begins with sizes: ``n m`` is MDPLIB; of ``n a b`` the number of lines
that follow tells whether a (p-median) or b (k-cluster) counts them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from qpm_bench.formats.diversity import read_max_diversity
from qpm_bench.formats.k_cluster import read_k_cluster
from qpm_bench.formats.lines import Lines
from qpm_bench.formats.opb import read_opb
from qpm_bench.formats.p_median import read_p_median
from qpm_bench.formats.qplib import read_qplib
from qpm_opt import InvalidInputError, Problem

_GRAPHS = (".clq", ".col")


class NotAnInstance(InvalidInputError):  # noqa: N818 - a file of another kind is no fault
    """A file that is of another kind than the instances, such as notes beside them."""


def read_any(path: str | os.PathLike[str], *, n_selected: int, n_per_class: int) -> Problem:
    """Problem of a file of any supported format.

    Parameters
    ----------
    path : path-like
    n_selected, n_per_class : int
        For a file of features, which does not say.

    Raises
    ------
    NotAnInstance
        If the file is of another kind.
    InvalidInputError
        If it is damaged, or could be of several formats.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return _read_arrays(path, n_selected, n_per_class)
    if suffix == ".qplib":
        return read_qplib(path)
    if suffix == ".opb":
        return read_opb(path)
    if suffix in _GRAPHS:
        raise NotAnInstance(
            f"{path} is a graph, not an instance; qpm_bench.formats.read_dimacs reads it."
        )
    return _reader_of_text(path)(path)


def _read_arrays(path: Path, n_selected: int, n_per_class: int) -> Problem:
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = set(archive.files)
    except Exception:  # the reader of problems says what is wrong with it
        names = set()
    if not {"features", "labels"} <= names:
        return Problem.load(path)
    from qpm_opt.constants import load_features, problem_from_features

    table = load_features(path)
    return problem_from_features(
        table.features,
        table.labels,
        locality=table.locality,
        n_selected=n_selected,
        n_per_class=n_per_class,
        name=path.stem,
        source=f"features of {path.name}",
    )


def _reader_of_text(path: Path) -> Callable[[Path], Problem]:
    try:
        lines = Lines(path)
    except InvalidInputError as failure:
        if not path.is_file():
            raise
        raise NotAnInstance(str(failure)) from None
    sizes = lines.next("sizes")
    if len(sizes) not in (2, 3) or not all(word.isascii() and word.isdigit() for word in sizes):
        raise NotAnInstance(
            f"{path} is no instance: a text file that begins with two or three sizes was expected."
        )
    if len(sizes) == 2:
        return read_max_diversity
    n_lines = lines.remaining()
    _, first, second = map(int, sizes)
    if n_lines == first == second:
        raise InvalidInputError(
            f"{path} could be a p-median or a k-cluster instance: {n_lines} lines follow the sizes "
            f"{' '.join(sizes)}; read it with read_p_median or read_k_cluster of qpm_bench.formats "
            "and save the problem."
        )
    # A p-median file that is cut is named as one by its reader: it is the more common format.
    return read_k_cluster if n_lines == second else read_p_median
