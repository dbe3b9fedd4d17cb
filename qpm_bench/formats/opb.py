"""Quadratic selection as a pseudo-Boolean problem, with the scale of QPLIB-PB."""

from __future__ import annotations

import json
import os
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from qpm_bench.formats.lines import LARGEST, MOST_FEATURES, Lines, read_text, selection_problem
from qpm_opt import InvalidInputError, Problem

_HEADER = re.compile(r"\*\s*#variable=\s*(\d{1,9})\s+#constraint=\s*(\d{1,9})\b", re.ASCII)
_COEFFICIENT = re.compile(r"[+-]?\d{1,1000}", re.ASCII)
_VARIABLE = re.compile(r"x(\d+)", re.ASCII)
_SCALE = "objective_function_scale_factor"


def read_opb(path: str | os.PathLike[str]) -> Problem:
    """Problem of an ``.opb`` file with a quadratic objective and one cardinality equality.

    The file minimises a sum of integer coefficients times variables or products of two, where
    ``x1 + ... + xn = p``; variable ``x1`` is the first feature. With C_ij the sum of the
    coefficients of ``x_i x_j`` and c_i that of ``x_i``, R_ij = C_ij / scale, b_i = -c_i / scale,
    and the objective is minus the original one. QPLIB-PB makes integers of the original
    coefficients by a scale that it keeps in a ``.json`` file beside, of the same stem; without
    that file the scale is 1.

    Raises
    ------
    InvalidInputError
        If one of the files is damaged, or has anything else: products of three variables, negated
        variables, other constraints. The message names it.

    References
    ----------
    Roussel, Manquinho, Input/output format and solver requirements for the competitions of
    pseudo-Boolean solvers; QPLIB-PB, github.com/msakai/QPLIB-PB, converts Furini et al., QPLIB,
    Mathematical Programming Computation 11 (2019) 237-265.
    """
    n, n_constraints = _read_header(path)
    if n_constraints != 1:
        raise InvalidInputError(
            f"{path} has {n_constraints} constraints; exactly one, a cardinality equality, was "
            "expected."
        )
    lines = Lines(path, comments=("*",))
    objective = _statement(lines, "the objective 'min: ... ;'")
    if objective[:1] != ["min:"]:
        raise lines.error("the objective 'min: ... ;'")
    scale = _read_scale(Path(path).with_suffix(".json"))
    R, b = _read_objective(lines, objective[1:], n, scale)
    n_selected = _read_cardinality(lines, _statement(lines, "the constraint '... = p ;'"), n)
    lines.end("one objective and one constraint")
    return selection_problem(
        R,
        b,
        n_selected,
        name=lines.path.stem,
        source=f"QPLIB-PB (Furini et al. 2019); objective = -(objective of the file) / {scale}",
    )


def _read_header(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Numbers of variables and constraints of the first line."""
    first = read_text(path).partition("\n")[0]
    match = _HEADER.match(first)
    if match is None or not 1 <= int(match[1]) <= MOST_FEATURES:
        raise InvalidInputError(
            f"{path}, line 1: {first[:60]!r} found; '* #variable= n #constraint= m' with n from 1 "
            f"to {MOST_FEATURES} was expected."
        )
    return int(match[1]), int(match[2])


def _statement(lines: Lines, expected: str) -> list[str]:
    """Words up to a semicolon, which ends a line; a statement may take several lines."""
    words = lines.next(expected)
    while not words[-1].endswith(";"):
        words += lines.next(f"more of {expected}")
    words[-1] = words[-1][:-1]
    if any(";" in word for word in words):
        raise lines.error(f"one statement a line, {expected}")
    return [word for word in words if word]


def _terms(lines: Lines, words: list[str], n: int) -> list[tuple[int, list[int]]]:
    """Coefficients, each with the 0-based variables that it multiplies."""
    terms: list[tuple[int, list[int]]] = []
    for word in words:
        if _COEFFICIENT.fullmatch(word):
            terms.append((int(word), []))
        elif (match := _VARIABLE.fullmatch(word)) and terms:
            terms[-1][1].append(lines.whole(match[1], f"in {word} the variable's number", 1, n) - 1)
        elif word.startswith("~"):
            raise lines.error(f"no negated variable, which is not supported, such as {word}; 'x1'")
        else:
            raise lines.error(f"terms such as '+3 x1 x2' in the place of {word!r}")
    return terms


def _read_objective(
    lines: Lines, words: list[str], n: int, scale: Fraction
) -> tuple[np.ndarray, np.ndarray]:
    """R and b; sums are formed in integers, so that each entry is rounded once."""
    products: dict[tuple[int, int], int] = {}
    for coefficient, variables in _terms(lines, words, n):
        if not 1 <= len(variables) <= 2:
            raise lines.error(
                f"one variable or a product of two in every term, not {len(variables)} variables,"
            )
        i, j = min(variables), max(variables)  # a square of a binary is the binary itself
        products[i, j] = products.get((i, j), 0) + coefficient
    R, b = np.zeros((n, n)), np.zeros(n)
    for (i, j), coefficient in products.items():
        quotient = coefficient / scale
        if abs(quotient) > LARGEST:
            raise lines.error(f"coefficients of at most {LARGEST:g}, once divided by the scale,")
        value = float(quotient)
        if i == j:
            b[i] = 0.0 - value
        else:
            R[i, j] = R[j, i] = value
    return R, b


def _read_cardinality(lines: Lines, words: list[str], n: int) -> int:
    """p of the constraint x1 + ... + xn = p."""
    expected = f"the cardinality equality '+1 x1 ... +1 x{n} = p'"
    if len(words) < 2 or words[-2] != "=":
        raise lines.error(expected)
    terms = _terms(lines, words[:-2], n)
    variables = sorted(v for _, product in terms for v in product)
    plain = all(coefficient == 1 and len(product) == 1 for coefficient, product in terms)
    if not plain or variables != list(range(n)):
        raise lines.error(expected)
    return lines.whole(words[-1], "p of the cardinality equality", 1, n)


def _read_scale(path: Path) -> Fraction:
    """The factor by which the original objective was multiplied; 1 if there is no such file."""
    if not path.exists():
        return Fraction(1)
    try:
        found = _find(json.loads(read_text(path)))
        scale = Fraction(found["numerator"], found["denominator"])
    except (ValueError, TypeError, KeyError, ZeroDivisionError, RecursionError):
        scale = Fraction(0)
    if scale <= 0:
        raise InvalidInputError(
            f"{path} holds no {_SCALE} with a positive numerator and denominator; give the file "
            "that belongs to the .opb file, or remove it."
        )
    return scale


def _find(record: Any) -> Any:
    """The scale factor anywhere in the nested transformations of the record, or None."""
    if not isinstance(record, dict):
        return None
    if _SCALE in record:
        return record[_SCALE]
    return next((f for f in map(_find, record.values()) if f is not None), None)
