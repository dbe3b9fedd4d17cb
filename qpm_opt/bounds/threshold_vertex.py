"""Vertices of the projected linear bound as a function of its multipliers.

Without similarities the bound is a function of one threshold t for every class, of t, v and a price
u >= 0 for every pair of classes that must differ (the terms of :mod:`qpm_opt.bounds.proof`), and of
a level l, the price of one more feature:

    g = sum k t + sum (k - 1) u + p l + sum_j max(lower_j q_j, upper_j q_j),
    q_j = b_j - l + what the terms gain by feature j.

lower_j and upper_j are 0 and 1, both 0 for a feature decided out, both 1 for one decided in. g is
convex and piecewise linear, so its least value is at a vertex, where as many kinks meet as there
are multipliers. The kinks of a vertex are of three kinds:

*   a feature is *at the level*, q_j = 0; its multiplier is s_j, in general a fraction;
*   a threshold is *pinned* to the similarity of a feature, or, in a pair, two or more of the
    regions of :mod:`qpm_opt.bounds.threshold_pairs` meet at a feature;
*   the price of a pair is 0.

Thresholds and prices that these leave free move together with the level. The *freedoms* are the
directions left to one class or pair, and the level; there are as many as features at the level, and
the square matrix of what they change of q (with sign) is kept as its inverse.

Everything here is compiled by Numba. That a vertex is not what it should be weakens the bound that
its multipliers give, and never falsifies it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qpm_opt.bounds.compilation import compiled, entry_point
from qpm_opt.validation import BoolArray, FloatArray, IntArray

PIVOT = 1e-9
"""Least magnitude of a divisor."""


class Terms(NamedTuple):
    """The classes over the features that a vertex may know of.

    A class may stand there several times, each time with a share of its similarities.

    Attributes
    ----------
    similarity : ndarray, (n_classes, n_features)
    ranked : ndarray, (n_classes, n_features)
        The similarities of each class, the largest first.
    order, rank : ndarray of uint32 and int32, (n_classes, n_features)
        Feature at each place of ``ranked``, and place of each feature.
    linear : ndarray, (n_features,)
    n_per_class, n_selected : int
    """

    similarity: FloatArray
    ranked: FloatArray
    order: NDArray[np.uint32]
    rank: NDArray[np.int32]
    linear: FloatArray
    n_per_class: int
    n_selected: int


class Vertex(NamedTuple):
    """Multipliers and the kinks that meet there.

    Attributes
    ----------
    level : ndarray, (1,)
    threshold : ndarray, (n_classes,)
    n_above : ndarray of int, (n_classes,)
        Features whose similarity counts as above the threshold. It is pinned to the next one.
    is_free : ndarray of bool, (n_classes,)
        Whether the threshold is not pinned.
    pair_of : ndarray of int, (n_classes,)
        -1: none, else the two before say nothing.
    pairs : ndarray of int, (n, 2); price : ndarray, (n,)
        Room for every pair there could be.
    is_zero : ndarray of bool, (n,)
        Whether the price is kept at 0.
    n_pins : ndarray of int, (n,); pin_feature, pin_regions : ndarray of int, (n, 3)
        Features at which regions meet, and which regions, bit by bit.
    at_level : ndarray of int, (n_at_most,)
    region_at_level : ndarray of int8, (n, n_at_most)
        Region of each in every pair, which ties leave open; -1 if it is not known.
    sizes : ndarray of int, (2,)
        Number of features at the level and of pairs.
    """

    level: FloatArray
    threshold: FloatArray
    n_above: IntArray
    is_free: BoolArray
    pair_of: IntArray
    pairs: IntArray
    price: FloatArray
    is_zero: BoolArray
    n_pins: IntArray
    pin_feature: IntArray
    pin_regions: IntArray
    at_level: IntArray
    region_at_level: NDArray[np.int8]
    sizes: IntArray

    def copy(self) -> Vertex:
        """One that can be moved on its own."""
        return Vertex(*[array.copy() for array in self])  # type: ignore[arg-type]


class Work(NamedTuple):
    """What is derived from a vertex, and room for steps.

    Attributes
    ----------
    q, s : ndarray, (n_features,)
    place : ndarray of int, (n_features,)
        Place of a feature in ``at_level``, or -1.
    used : ndarray of uint32, (n_features,); amount : ndarray, (n_features,)
        Features with s > 0, those at the level last, and their s.
    inverse : ndarray
        Of the matrix freedoms x features at the level; its first freedom is the level.
    owner : ndarray of int
        Class of every freedom, or -1 - pair.
    vector : ndarray, (n_freedoms, 3)
        What a freedom of a pair does to t, v, u.
    freedom_of : ndarray of int, (n_classes,)
    freedoms : ndarray of int, (n_pairs, 3); n_freedoms : ndarray of int, (n_pairs,)
        Those of every pair.
    region : ndarray of int8, (n_pairs, n_features)
    near, active : ndarray of uint32, (n_pairs, n_features); n_near, n_active : ndarray of int
        Features of a pair that may change their region soon; those, and all with a gain.
    room : ndarray, (n_pairs,)
        How far t, v and u may move together before ``near`` is out of date.
    frame, frame_inverse : ndarray, (n_pairs, 3, 3)
        Normals of the kinks of a pair, then its freedoms.
    n_normals : ndarray of int, (n_pairs,)
    normal_pin, normal_region : ndarray of int, (n_pairs, 3)
        Pin (-1: price) and region of every normal.
    rate : ndarray, (n_features,); threshold_rate : ndarray, (n_classes,); price_rate : ndarray
        Of a step: what q, thresholds and prices change by.
    scratch : ndarray, (4, n_freedoms)
    turn : ndarray, (3,)
        What the kink that is left does to t, v, u of its pair.
    candidates : ndarray of int, (n, 2); violation : ndarray, (n,)
        Kinks that may be left.
    moving : ndarray of int, (n_classes,); until_pin : ndarray, (n_classes,)
        Classes outside pairs that move, and the step at which each meets its next pin.
    moving_pairs : ndarray of int, (n_pairs,); until_event : ndarray, (n_pairs,)
    event : ndarray of int, (n_pairs, 2)
        Pairs that move, the step at which each meets its next kink, and which.
    until_level : ndarray, (n_features,)
        The step at which q of a feature becomes 0.
    taken : ndarray, (n_classes, n_features); some, whole : ndarray of uint64, (n_classes,)
        What the best set of a class at s has of each feature; groups of features of which it has
        something, or one of them whole.
    is_wanted : ndarray of bool, (n_classes,); colliding : ndarray of int, (n_pairs, 2)
    excess : ndarray, (n_pairs,)
        Classes that collide, in pairs, and how much they share.
    matrix : ndarray, (n_freedoms, 2 n_freedoms)
        That to be inverted, and its inverse.
    basis : ndarray, (3, 3); normal : ndarray, (3,); multiplier : ndarray, (6,)
    pinned : ndarray of int, (2,)
        Of one pair.
    rows : ndarray of int, (n_features,)
        Of the inverse, to be summed.
    """

    q: FloatArray
    s: FloatArray
    place: IntArray
    used: NDArray[np.uint32]
    amount: FloatArray
    inverse: FloatArray
    owner: IntArray
    vector: FloatArray
    freedom_of: IntArray
    freedoms: IntArray
    n_freedoms: IntArray
    region: NDArray[np.int8]
    near: NDArray[np.uint32]
    active: NDArray[np.uint32]
    n_near: IntArray
    n_active: IntArray
    room: FloatArray
    frame: FloatArray
    frame_inverse: FloatArray
    n_normals: IntArray
    normal_pin: IntArray
    normal_region: IntArray
    rate: FloatArray
    threshold_rate: FloatArray
    price_rate: FloatArray
    scratch: FloatArray
    turn: FloatArray
    candidates: IntArray
    violation: FloatArray
    moving: IntArray
    until_pin: FloatArray
    moving_pairs: IntArray
    until_event: FloatArray
    event: IntArray
    until_level: FloatArray
    taken: FloatArray
    some: NDArray[np.uint64]
    whole: NDArray[np.uint64]
    is_wanted: BoolArray
    colliding: IntArray
    excess: FloatArray
    matrix: FloatArray
    basis: FloatArray
    normal: FloatArray
    multiplier: FloatArray
    pinned: IntArray
    rows: IntArray


@entry_point
def padded(n: int) -> int:
    """So many numbers fill vectors of the processor; what lies beyond n is not looked at."""
    return (n + 15) & ~15


def most_freedoms(n_classes: int) -> int:
    """Every threshold, the price of every pair, the level, and one while kinks are exchanged."""
    return padded(n_classes + n_classes // 2 + 2)


def _of_features(n_classes: int, n_features: int) -> dict[str, NDArray[Any]]:
    """The arrays of :class:`Work` whose size depends on the number of features."""
    n_pairs = n_classes // 2
    return {
        "q": np.zeros(n_features),
        "s": np.zeros(n_features),
        "place": np.zeros(n_features, dtype=np.int64),
        "used": np.zeros(n_features, dtype=np.uint32),
        "amount": np.zeros(n_features),
        "region": np.zeros((n_pairs, n_features), dtype=np.int8),
        "near": np.zeros((n_pairs, n_features), dtype=np.uint32),
        "active": np.zeros((n_pairs, n_features), dtype=np.uint32),
        "rate": np.zeros(n_features),
        "until_level": np.zeros(n_features),
        "taken": np.zeros((n_classes, n_features)),
        "rows": np.zeros(n_features, dtype=np.int64),
    }


def with_features(work: Work, n_features: int) -> Work:
    """Room for as many classes and another number of features."""
    return work._replace(**_of_features(len(work.freedom_of), n_features))


def new_work(n_classes: int, n_features: int) -> Work:
    """Room for vertices of this size."""
    n_pairs, n_freedoms = n_classes // 2, most_freedoms(n_classes)

    def whole(*shape: int) -> IntArray:
        return np.zeros(shape, dtype=np.int64)

    return Work(
        **_of_features(n_classes, n_features),
        inverse=np.zeros((n_freedoms, n_freedoms)),
        owner=whole(n_freedoms),
        vector=np.zeros((n_freedoms, 3)),
        freedom_of=whole(n_classes),
        freedoms=whole(n_pairs, 3),
        n_freedoms=whole(n_pairs),
        n_near=whole(n_pairs),
        n_active=whole(n_pairs),
        room=np.zeros(n_pairs),
        frame=np.zeros((n_pairs, 3, 3)),
        frame_inverse=np.zeros((n_pairs, 3, 3)),
        n_normals=whole(n_pairs),
        normal_pin=whole(n_pairs, 3),
        normal_region=whole(n_pairs, 3),
        threshold_rate=np.zeros(n_classes),
        price_rate=np.zeros(n_pairs),
        scratch=np.zeros((4, n_freedoms)),
        turn=np.zeros(3),
        candidates=whole(n_classes + 6 * n_pairs, 2),
        violation=np.zeros(n_classes + 6 * n_pairs),
        moving=whole(n_classes),
        until_pin=np.zeros(n_classes),
        moving_pairs=whole(n_pairs),
        until_event=np.zeros(n_pairs),
        event=whole(n_pairs, 2),
        some=np.zeros(n_classes, dtype=np.uint64),
        whole=np.zeros(n_classes, dtype=np.uint64),
        is_wanted=np.zeros(n_classes, dtype=bool),
        colliding=whole(n_pairs, 2),
        excess=np.zeros(n_pairs),
        matrix=np.zeros((n_freedoms, 2 * n_freedoms)),
        basis=np.zeros((3, 3)),
        normal=np.zeros(3),
        multiplier=np.zeros(6),
        pinned=whole(2),
    )


@compiled
def copy(source: NDArray[Any], target: NDArray[Any]) -> None:
    """One row to another; ``target[:] = source`` would allocate, for they may overlap."""
    for i in range(len(source)):
        target[i] = source[i]


@entry_point
def fill_gain(terms: Terms, vertex: Vertex, gain: FloatArray) -> None:
    """Fill what every feature gains: q and the level."""
    similarity, ranked, order = terms.similarity, terms.ranked, terms.order
    copy(terms.linear, gain)
    for c in range(len(vertex.threshold)):
        t = vertex.threshold[c]
        if vertex.pair_of[c] < 0:
            for i in range(len(gain)):  # whatever n_above says: this must be right
                if ranked[c, i] <= t:
                    break
                gain[order[c, i]] += ranked[c, i] - t
    for pair in range(vertex.sizes[1]):
        c, e = vertex.pairs[pair, 0], vertex.pairs[pair, 1]
        t, v, u = vertex.threshold[c], vertex.threshold[e], vertex.price[pair]
        for j in range(len(gain)):
            x, y = similarity[c, j] - t, similarity[e, j] - v
            gain[j] += max(max(x, y), max(0.0, x + y - u))


@compiled
def value_at(
    terms: Terms, lower: FloatArray, upper: FloatArray, vertex: Vertex, q: FloatArray
) -> float:
    """g; also fills q."""
    level, k = vertex.level[0], terms.n_per_class
    fill_gain(terms, vertex, q)
    value = terms.n_selected * level
    for t in vertex.threshold:
        value += k * t
    for pair in range(vertex.sizes[1]):
        value += (k - 1) * vertex.price[pair]
    for j in range(len(q)):
        q[j] -= level
        value += (upper[j] if q[j] > 0.0 else lower[j]) * q[j]
    return float(value)


@compiled
def in_first(region: int) -> float:
    """1.0 if a region of a pair counts the similarity of its first class."""
    return 1.0 if region & 1 else 0.0


@compiled
def in_second(region: int) -> float:
    """1.0 if a region of a pair counts the similarity of its second class."""
    return 1.0 if region & 2 else 0.0


@compiled
def in_both(region: int) -> float:
    """1.0 if a region of a pair counts both, and pays the price."""
    return 1.0 if region == 3 else 0.0


@compiled
def turned(x: float, y: float, z: float, region: int) -> float:
    """What a feature in a region loses when t, v, u of the pair grow by x, y, z."""
    return x * in_first(region) + y * in_second(region) + z * in_both(region)


@compiled
def entry(terms: Terms, vertex: Vertex, work: Work, freedom: int, feature: int) -> float:
    """What a feature loses by a freedom, 1.0 by the level."""
    if freedom == 0:
        return 1.0
    owner = work.owner[freedom]
    if owner >= 0:
        return 1.0 if terms.rank[owner, feature] < vertex.n_above[owner] else 0.0
    x, y, z = work.vector[freedom, 0], work.vector[freedom, 1], work.vector[freedom, 2]
    return turned(x, y, z, work.region[-1 - owner, feature])


@compiled
def fill_row(terms: Terms, vertex: Vertex, work: Work, freedom: int, row: FloatArray) -> None:
    """Row of a freedom of a class or pair."""
    at_level, owner = vertex.at_level, work.owner[freedom]
    if owner >= 0:
        rank, end = terms.rank[owner], vertex.n_above[owner]
        for i in range(vertex.sizes[0]):
            row[i] = 1.0 if rank[at_level[i]] < end else 0.0
        return
    x, y, z = work.vector[freedom, 0], work.vector[freedom, 1], work.vector[freedom, 2]
    region = work.region[-1 - owner]
    for i in range(vertex.sizes[0]):
        row[i] = turned(x, y, z, region[at_level[i]])


@compiled
def fill_column(terms: Terms, vertex: Vertex, work: Work, feature: int, column: FloatArray) -> None:
    """Column of a feature."""
    owners, vectors, region = work.owner, work.vector, work.region
    rank, n_above = terms.rank, vertex.n_above
    column[0] = 1.0
    for freedom in range(1, vertex.sizes[0]):
        owner = owners[freedom]
        if owner >= 0:
            column[freedom] = 1.0 if rank[owner, feature] < n_above[owner] else 0.0
        else:
            x, y, z = vectors[freedom, 0], vectors[freedom, 1], vectors[freedom, 2]
            column[freedom] = turned(x, y, z, region[-1 - owner, feature])


@compiled
def invert(terms: Terms, vertex: Vertex, work: Work) -> bool:
    """Compute the inverse anew; False if the matrix is singular."""
    n, matrix, inverse = vertex.sizes[0], work.matrix, work.inverse
    matrix[0, :n] = 1.0
    for r in range(1, n):
        fill_row(terms, vertex, work, r, matrix[r])
    for r in range(n):
        matrix[r, n : 2 * n] = 0.0
        matrix[r, n + r] = 1.0
    for i in range(n):
        p = i
        for r in range(i + 1, n):
            if abs(matrix[r, i]) > abs(matrix[p, i]):
                p = r
        if abs(matrix[p, i]) < PIVOT:
            return False
        if p != i:
            for x in range(i, 2 * n):
                matrix[p, x], matrix[i, x] = matrix[i, x], matrix[p, x]
        factor = 1.0 / matrix[i, i]
        for x in range(i, 2 * n):
            matrix[i, x] *= factor
        for r in range(n):
            factor = matrix[r, i]
            if r != i and factor != 0.0:
                for x in range(i, 2 * n):
                    matrix[r, x] -= factor * matrix[i, x]
    for i in range(n):
        for r in range(n):
            inverse[i, r] = matrix[i, n + r]
    return True


@compiled
def times_inverse(inverse: FloatArray, n: int, row: FloatArray, product: FloatArray) -> None:
    """``product = row @ inverse``."""
    m = padded(n)
    for r in range(m):
        product[r] = 0.0
    held = -1  # a row that waits for another: two at a time save half of the stores
    for i in range(n):
        if row[i] == 0.0:
            continue
        if held < 0:
            held = i
            continue
        f, g, a, b = row[held], row[i], inverse[held], inverse[i]
        for r in range(m):
            product[r] += f * a[r] + g * b[r]
        held = -1
    if held >= 0:
        f, a = row[held], inverse[held]
        for r in range(m):
            product[r] += f * a[r]


@compiled
def add_rows(inverse: FloatArray, n: int, rows: IntArray, total: FloatArray) -> None:
    """Sum of rows of the inverse."""
    m = padded(n)
    for r in range(m):
        total[r] = 0.0
    first = len(rows) & 3
    for i in range(first):
        a = inverse[rows[i]]
        for r in range(m):
            total[r] += a[r]
    for i in range(first, len(rows), 4):
        a, b, c, d = (
            inverse[rows[i]],
            inverse[rows[i + 1]],
            inverse[rows[i + 2]],
            inverse[rows[i + 3]],
        )
        for r in range(m):
            total[r] += (a[r] + b[r]) + (c[r] + d[r])


@compiled
def inverse_times(inverse: FloatArray, n: int, column: FloatArray, product: FloatArray) -> None:
    """``product = inverse @ column``."""
    for i in range(n):
        total = 0.0
        for r in range(n):
            total += inverse[i, r] * column[r]
        product[i] = total


@compiled
def replace_row(inverse: FloatArray, n: int, row: int, z: FloatArray) -> bool:
    """Replace a row of the matrix; z is the new one times the inverse."""
    if abs(z[row]) < PIVOT:
        return False
    for i in range(n):
        factor = inverse[i, row] / z[row]
        if factor != 0.0:
            for r in range(n):
                inverse[i, r] -= factor * z[r]
        inverse[i, row] = factor
    return True


@compiled
def replace_column(inverse: FloatArray, n: int, column: int, y: FloatArray) -> bool:
    """Replace a column of the matrix; y is the inverse times the new one."""
    if abs(y[column]) < PIVOT:
        return False
    for r in range(n):
        inverse[column, r] /= y[column]
    for i in range(n):
        factor = y[i]
        if i != column and factor != 0.0:
            for r in range(n):
                inverse[i, r] -= factor * inverse[column, r]
    return True


@compiled
def append(inverse: FloatArray, n: int, z: FloatArray, y: FloatArray, corner: float) -> bool:
    """Add a row and a column.

    z is the row times the inverse, y the inverse times the column, ``corner`` the new corner of the
    matrix less the row times y.
    """
    if abs(corner) < PIVOT:
        return False
    for i in range(n):
        factor = y[i] / corner
        if factor != 0.0:
            for r in range(n):
                inverse[i, r] += factor * z[r]
        inverse[i, n] = -factor
    for r in range(n):
        inverse[n, r] = -z[r] / corner
    inverse[n, n] = 1.0 / corner
    return True


@compiled
def delete(inverse: FloatArray, n: int, row: int, column: int) -> bool:
    """Remove a row and a column of the matrix; the last ones take their places."""
    pivot = inverse[column, row]
    if abs(pivot) < PIVOT:
        return False
    for i in range(n):
        factor = inverse[i, row] / pivot
        if i != column and factor != 0.0:
            for r in range(n):
                inverse[i, r] -= factor * inverse[column, r]
    copy(inverse[n - 1], inverse[column])
    for i in range(n - 1):
        inverse[i, row] = inverse[i, n - 1]
    return True
