"""Quadratic selection in the format of QPLIB.

QPLIB states ``x'Qx / 2 + b0'x + q0`` with a lower triangular Q, whose entries the file lists. Q is
not mirrored: **every entry stands for Q_ij x_i x_j / 2**, off the diagonal as well as on it.
A reader that takes Q for half of a symmetric Hessian doubles the products and misses every optimum.

A problem maximises ``-sum_{d<e} R_de s_d s_e + sum_d b_d s_d``, so with the sign -1 for a
minimisation and 1 for a maximisation, ``R_de = -sign Q_de / 2`` and, as a binary is its own square,
``b_d = sign (b0_d + Q_dd / 2)``.

References
----------
Furini et al., QPLIB: a library of quadratic programming instances, Mathematical Programming
Computation 11 (2019) 237-265, appendix B (the order of the sections); qplib.zib.de/doc.html (Q).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from qpm_bench.formats.lines import LARGEST, MOST_FEATURES, Lines, selection_problem
from qpm_opt import Problem

_VARIABLES = {"C": "continuous", "M": "mixed binary", "I": "integer", "G": "mixed integer"}
_CONSTRAINTS = {"N": "no", "B": "only bound", "D": "quadratic", "C": "quadratic", "Q": "quadratic"}
#: What lines that are passed over begin with.
COMMENTS = ("!", "%", "#")


def read_qplib(path: str | os.PathLike[str]) -> Problem:
    """Problem of a ``.qplib`` file with binary variables and one cardinality equality.

    The objective is quadratic or linear, the only constraint says that the sum of all variables is
    a whole number p. A minimisation becomes the maximisation of the negative: the objective is
    minus the original one. Starting points and names of variables are read over.

    Raises
    ------
    InvalidInputError
        If the file is damaged, or has anything else: variables that are not binary, constraints
        other than the one equality, a constant in the objective. The message names it.
    """
    lines = Lines(path, comments=COMMENTS)
    name = lines.next("the name of the problem")[0]
    kind = _read_type(lines)
    sense = lines.next("the sense, minimize or maximize")[0].lower()
    if sense not in ("minimize", "maximize"):
        raise lines.error("the sense, minimize or maximize,")
    sign = 1.0 if sense == "maximize" else -1.0
    n = _count(lines, "the number of variables", 1, MOST_FEATURES)
    [n_constraints] = _leading(lines, 1, "the number of constraints")
    if n_constraints != "1":
        raise lines.error("exactly one constraint, a cardinality equality,")
    R, b = np.zeros((n, n)), np.zeros(n)
    if kind[0] != "L":
        _read_triangle(lines, n, R, b)
    b += _read_vector(lines, n, "linear coefficient")
    [constant] = _leading(lines, 1, "the constant of the objective")
    if lines.number(constant, "the constant of the objective") != 0.0:
        raise lines.error("no constant in the objective, which a problem cannot hold: 0")
    n_selected = _read_cardinality(lines, n)
    for what, size in (("x", n), ("y", 1), ("z", n)):
        _read_vector(lines, size, f"starting value of {what}")
    for what, size in (("variables", n), ("constraints", 1)):
        _read_entries(lines, size, f"name of {what}", lambda word: word)
    lines.end("the names of constraints")
    return selection_problem(
        0.0 - sign * R,
        0.0 + sign * b,  # + 0.0 makes zeros of negative zeros
        n_selected,
        name=name,
        source=f"QPLIB format (Furini et al. 2019), {sense}; objective = {sign:+.0f} * original",
    )


def _read_type(lines: Lines) -> str:
    """The three letters of the problem type, of which only some are supported."""
    expected = "a problem type such as QBL"
    kind = lines.next(expected)[0].upper()
    if len(kind) != 3 or kind[0] not in "LDCQ":
        raise lines.error(expected)
    if kind[1] != "B":
        what = _VARIABLES.get(kind[1], "unknown")
        raise lines.error(f"a type with binary variables (B), not {what} ones,")
    if kind[2] != "L":
        what = _CONSTRAINTS.get(kind[2], "unknown")
        raise lines.error(f"a type with linear constraints (L), not {what} ones,")
    return kind


def _leading(lines: Lines, count: int, expected: str) -> list[str]:
    """The first words of a line; what follows them is a comment in this format."""
    words = lines.next(expected)
    if len(words) < count:
        raise lines.error(expected)
    return words[:count]


def _count(lines: Lines, what: str, lowest: int, highest: int) -> int:
    [word] = _leading(lines, 1, what)
    return lines.whole(word, what, lowest, highest)


def _read_triangle(lines: Lines, n: int, R: np.ndarray, b: np.ndarray) -> None:
    """Add the products to both triangles of R, the squares to b."""
    what = "an entry 'i j value' of Q's lower triangle"
    seen = np.zeros((n, n), dtype=bool)
    for _ in range(_count(lines, "the number of quadratic terms", 0, n * (n + 1) // 2)):
        words = _leading(lines, 3, what)
        i = lines.whole(words[0], "a variable", 1, n) - 1
        j = lines.whole(words[1], "a variable of the lower triangle", 1, i + 1) - 1
        if seen[i, j]:
            raise lines.error("an entry of Q that was not there before")
        seen[i, j] = True
        value = lines.number(words[2], "an entry of Q")
        if i == j:
            b[i] += value / 2.0
        else:
            R[i, j] = R[j, i] = value / 2.0


def _read_entries(lines: Lines, n: int, what: str, convert: Callable[[str], Any]) -> dict[int, Any]:
    """Entries 'i value' after their number, by 0-based index; none twice."""
    entries: dict[int, Any] = {}
    for _ in range(_count(lines, f"the number of entries: {what}", 0, n)):
        words = _leading(lines, 2, f"an index and a {what}")
        i = lines.whole(words[0], "an index", 1, n) - 1
        if i in entries:
            raise lines.error(f"an index that had no {what} before")
        entries[i] = convert(words[1])
    return entries


def _read_vector(lines: Lines, n: int, what: str, largest: float = LARGEST) -> np.ndarray:
    """Vector (n,) given by a default and the entries that differ from it."""

    def number(word: str) -> float:
        return lines.number(word, f"a {what}", largest)

    [word] = _leading(lines, 1, f"the default {what}")
    vector = np.full(n, number(word))
    for i, value in _read_entries(lines, n, what, number).items():
        vector[i] = value
    return vector


def _read_cardinality(lines: Lines, n: int) -> int:
    """p of the only constraint, sum of all variables = p."""
    n_terms = _count(lines, "the number of terms in the constraint", 0, n)
    if n_terms != n:
        raise lines.error(f"a cardinality equality with a term for each of {n} variables")
    seen = np.zeros(n, dtype=bool)
    for _ in range(n):
        words = _leading(lines, 3, "a term '1 variable coefficient' of the constraint")
        lines.whole(words[0], "constraint 1", 1, 1)
        i = lines.whole(words[1], "a variable", 1, n) - 1
        if seen[i] or lines.number(words[2], "a coefficient") != 1.0:
            raise lines.error("a new variable with the coefficient 1 of a cardinality equality")
        seen[i] = True
    [word] = _leading(lines, 1, "the value for infinity")
    # The files of the library write the largest float64, rounded up: it is read as infinity.
    infinity = lines.number(word, "the value for infinity", np.inf)
    left, right = (
        float(_read_vector(lines, 1, f"{side} side of the constraint", np.inf)[0])
        for side in ("left", "right")
    )
    if left != right or abs(left) >= infinity:
        raise lines.error(f"an equality, but the sides of the constraint are {left} and {right};")
    if not (left.is_integer() and 1 <= left <= n):
        raise lines.error(f"a sum of variables that is a whole number from 1 to {n}")
    return int(left)
