"""Any problem in the format of QPLIB, exactly; :mod:`qpm_bench.formats.qplib` explains the format.

With F features and C classes, s_d is variable d + 1 and W_cd variable F + c F + d + 1, c and d from
0, all binary. The objective is that of the problem, maximised; the constraints are, in this order
and as far as the problem has them:

1. sum_d s_d = p;
2. sum_d s_d = 0 over the features that are no candidates;
3. sum_d W_cd = k for every class c;
4. W_cd - s_d <= 0 for every c and d;
5. sum_c W_cd - m s_d >= 0 for every d, with m classes for each selected feature;
6. sum_d W_cd W_ed for every contrastive pair (c, e): exactly k - 1;
7. the same for every other pair of classes that must differ: at most k - 1.

Sets of k features differ if and only if they share at most k - 1, so 7 states distinctness exactly;
with 6 or 7 the type is QBQ, otherwise QBL.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import combinations

import numpy as np

from qpm_bench.formats.qplib import COMMENTS
from qpm_opt import InvalidInputError, Problem
from qpm_opt.files import replace_on_success

#: Products in constraints; a file of so many is about 150 MB.
MOST_PRODUCTS = 5_000_000

_INFINITY = "1e+20"


def write_qplib(problem: Problem, path: str | os.PathLike[str]) -> None:
    """Write a problem as a ``.qplib`` file, atomically.

    Every number is written so that reading it gives the same float64. A problem without classes
    comes back from :func:`qpm_bench.formats.read_qplib` as it was, if all features are candidates.

    Raises
    ------
    InvalidInputError
        If the pairs of classes that must differ take more than :data:`MOST_PRODUCTS` products, if
        it is left open which pairs of classes are contrastive, or the path is no file.
    """
    if problem.min_contrastive_pairs:
        raise InvalidInputError(
            "A QPLIB file does not hold min_contrastive_pairs; write .lp or .mps, or drop the "
            "demand from the problem."
        )
    n_products = len(_product_rows(problem)) * problem.n_features
    if n_products > MOST_PRODUCTS:
        raise InvalidInputError(
            f"That {problem.n_classes} classes differ takes {n_products} products in a QPLIB file, "
            f"more than {MOST_PRODUCTS}; write .lp or .mps, which leave that out and say so, or "
            "drop the demand from the problem with distinct=False."
        )
    with replace_on_success(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        stream.writelines(f"{line}\n" for line in _lines(problem))


def _product_rows(problem: Problem) -> dict[tuple[int, int], bool]:
    """Pairs of classes whose common features are limited; True if their number is demanded."""
    rows = {(min(pair), max(pair)): True for pair in problem.pairs.tolist()}
    if problem.distinct:
        for pair in combinations(range(problem.n_classes), 2):
            rows.setdefault(pair, False)
    return rows


def _lines(problem: Problem) -> Iterator[str]:
    F, C = problem.n_features, problem.n_classes
    rows = list(_linear_rows(problem))
    products = _product_rows(problem)
    row, col, similarity = problem.similar_pairs
    # One word, and no comment: that is what the first line is read as.
    yield "_".join(problem.name.split()).lstrip("".join(COMMENTS)) or "unnamed"
    letter, what = ("Q", "quadratic") if products else ("L", "linear")
    yield f"QB{letter} # quadratic objective, binary variables, {what} constraints"
    yield "maximize"
    yield f"{F + C * F} # variables: s_d is d + 1, W_cd is {F} + {F} c + d + 1; c and d from 0"
    yield f"{len(rows) + len(products)} # constraints"
    yield f"{row.size} # terms in the lower triangle of Q"
    for d, e, r in zip(row.tolist(), col.tolist(), similarity.tolist(), strict=True):
        yield f"{e + 1} {d + 1} {-2.0 * r!r}"
    linear = np.concatenate([problem.bias, problem.class_similarity.ravel()])
    yield "0.0 # linear coefficient unless stated"
    yield f"{np.count_nonzero(linear)} # linear coefficients stated"
    for variable in np.flatnonzero(linear).tolist():
        yield f"{variable + 1} {float(linear[variable])!r}"
    yield "0.0 # constant of the objective"
    if products:
        yield f"{len(products) * F} # products in the constraints"
        for number, (c, e) in enumerate(products, start=len(rows) + 1):
            for d in range(F):
                # Halved by the format: the coefficient is 1.
                yield f"{number} {F + e * F + d + 1} {F + c * F + d + 1} 2.0"
    yield f"{sum(len(terms) for terms, _, _ in rows)} # terms in the constraints"
    for number, (terms, _, _) in enumerate(rows, start=1):
        for variable, coefficient in terms:
            yield f"{number} {variable + 1} {float(coefficient)!r}"
    yield f"{_INFINITY} # infinity"
    yield from _sides(problem, rows, products)
    for what in ("x", "y", "z"):
        yield f"0.0 # starting value of {what}"
        yield "0 # others"
    yield "0 # names of variables"
    yield "0 # names of constraints"


#: Terms (0-based variable, coefficient), left and right side; None for infinity.
_Row = tuple[list[tuple[int, int]], int | None, int | None]


def _linear_rows(problem: Problem) -> Iterator[_Row]:
    F, C, k = problem.n_features, problem.n_classes, problem.n_per_class
    yield [(d, 1) for d in range(F)], problem.n_selected, problem.n_selected
    excluded = np.flatnonzero(~problem.candidates).tolist()
    if excluded:
        yield [(d, 1) for d in excluded], 0, 0
    for c in range(C):
        yield [(F + c * F + d, 1) for d in range(F)], k, k
    for c in range(C):
        for d in range(F):
            yield [(F + c * F + d, 1), (d, -1)], None, 0
    m = problem.min_classes_per_feature
    if m:
        for d in range(F):
            yield [*((F + c * F + d, 1) for c in range(C)), (d, -m)], 0, None


def _sides(
    problem: Problem, rows: list[_Row], products: dict[tuple[int, int], bool]
) -> Iterator[str]:
    """Sections of the left and the right sides, each a default and what differs from it."""
    shared = problem.n_per_class - 1
    lefts = [left for _, left, _ in rows] + [
        shared if exact else None for exact in products.values()
    ]
    rights = [right for _, _, right in rows] + [shared] * len(products)
    for what, sides, infinity in (("left", lefts, f"-{_INFINITY}"), ("right", rights, _INFINITY)):
        stated = [(i, side) for i, side in enumerate(sides, start=1) if side is not None]
        yield f"{infinity} # {what} side of a constraint unless stated"
        yield f"{len(stated)} # stated"
        for i, side in stated:
            yield f"{i} {float(side)!r}"
