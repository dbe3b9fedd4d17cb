"""Rows and splits that a solution of the relaxation breaks most, by compiled enumeration."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qpm_opt.bounds.block_descent import Classes
from qpm_opt.bounds.compilation import compiled, entry_point
from qpm_opt.validation import FloatArray, IntArray

TRIANGLE, INCLUSION, COVER = 0, 1, 2
"""Kinds of rows: Y_ij + Y_ih <= s_i + Y_jh, Y_ij <= s_i, and s_i + s_j + s_h <= 1 + Y_ij + ..."""


class Found(NamedTuple):
    """Room for broken rows.

    Attributes
    ----------
    member : ndarray of int, (n, 3); kind : ndarray of int8, (n,)
        The third member of an inclusion means nothing.
    excess : ndarray, (n,)
        By how much they are broken. The rows of one feature are a heap while they are collected,
        the least first.
    """

    member: IntArray
    kind: NDArray[np.int8]
    excess: FloatArray


@compiled
def exchange(found: Found, a: int, b: int) -> None:
    """Let two rows change places."""
    for x in range(3):
        found.member[a, x], found.member[b, x] = found.member[b, x], found.member[a, x]
    found.excess[a], found.excess[b] = found.excess[b], found.excess[a]


@compiled
def keep(found: Found, first: int, n: int, most: int, i: int, j: int, h: int, excess: float) -> int:
    """Put a row into the heap that begins at ``first``, if it is among the ``most``; its size."""
    if n == most and excess <= found.excess[first]:
        return n
    at = n if n < most else 0
    place = first + at
    found.member[place, 0], found.member[place, 1], found.member[place, 2] = i, j, h
    found.excess[place] = excess
    if n < most:
        while at > 0 and found.excess[first + (at - 1) // 2] > found.excess[first + at]:
            exchange(found, first + (at - 1) // 2, first + at)
            at = (at - 1) // 2
        return n + 1
    while True:
        least = at
        for child in range(2 * at + 1, min(2 * at + 3, n)):
            if found.excess[first + child] < found.excess[first + least]:
                least = child
        if least == at:
            return n
        exchange(found, first + at, first + least)
        at = least


@compiled
def marked(found: Found, first: int, n: int, kind: int) -> int:
    """Note the kind of rows, and where the next ones go."""
    for place in range(first, first + n):
        found.kind[place] = kind
    return first + n


@entry_point
def find_narrow(
    X: FloatArray,
    least: float,
    likely: float,
    most_triangles: int,
    most_covers: int,
    near: IntArray,
    found: Found,
) -> int:
    """Rows of two and three features broken by more than ``least``, the worst of each feature.

    Parameters
    ----------
    X : ndarray, (n + 1, n + 1)
    least, likely : float
        Features with less than the latter are in no cover.
    most_triangles, most_covers : int
        Of each feature; as many inclusions as triangles.
    near : ndarray of int, (n,)
        Room.
    found : Found
        Room for all.

    Returns
    -------
    int
        How many there are.
    """
    n, first = len(near), 0
    for i in range(n):
        s = X[0, i + 1]
        if s <= least:
            continue
        beside, n_near = X[i + 1], 0
        for j in range(n):
            if j != i and beside[j + 1] > least:
                near[n_near] = j
                n_near += 1
        kept = 0
        for a in range(n_near):
            j = near[a]
            room, others = beside[j + 1] - s - least, X[j + 1]
            for b in range(a + 1, n_near):
                excess = room + beside[near[b] + 1] - others[near[b] + 1]
                if excess > 0.0:
                    kept = keep(found, first, kept, most_triangles, i, j, near[b], excess + least)
        first, kept = marked(found, first, kept, TRIANGLE), 0
        for a in range(n_near):
            excess = beside[near[a] + 1] - s
            if excess > least:
                kept = keep(found, first, kept, most_triangles, i, near[a], near[a], excess)
        first = marked(found, first, kept, INCLUSION)
    n_near = 0
    for j in range(n):
        if X[0, j + 1] > likely:
            near[n_near] = j
            n_near += 1
    for place in range(n_near):
        i, kept = near[place], 0
        beside = X[i + 1]
        for a in range(place + 1, n_near):
            j = near[a]
            room, others = X[0, i + 1] + X[0, j + 1] - beside[j + 1] - 1.0 - least, X[j + 1]
            for b in range(a + 1, n_near):
                h = near[b] + 1
                excess = room + X[0, h] - beside[h] - others[h]
                if excess > 0.0:
                    kept = keep(found, first, kept, most_covers, i, j, near[b], excess + least)
        first = marked(found, first, kept, COVER)
    return first


@entry_point
def grow_rows(
    weights: NDArray[np.int8],
    s: FloatArray,
    Y: FloatArray,
    most_changes: int,
    least_gain: float,
    image: FloatArray,
    trial: FloatArray,
    level: FloatArray,
    slack: FloatArray,
) -> None:
    """Change rows a weight at a time, up to three features always, then while they get less slack.

    Parameters
    ----------
    weights : ndarray of int8, (n_rows, n)
        In -1, 0, 1; changed.
    s : ndarray, (n,)
    Y : ndarray, (n, n)
        With s on its diagonal.
    most_changes : int
        Of a row.
    least_gain : float
        Of a change of a row of three features or more.
    image, trial : ndarray, (n,)
        Room.
    level, slack : ndarray, (n_rows,)
        Filled: the best level, and (w's - level) (w's - level - 1) / 2.
    """
    n = len(s)
    for row in range(len(weights)):
        w = weights[row]
        mean, square, width = 0.0, 0.0, 0
        image[:] = 0.0
        for j in range(n):
            if w[j] != 0:
                width += 1
                mean += w[j] * s[j]
                for i in range(n):
                    image[i] += w[j] * Y[j, i]
        for j in range(n):
            square += w[j] * image[j]
        at = np.floor(mean)
        slack[row] = (square - (2.0 * at + 1.0) * mean + at * (at + 1.0)) / 2.0
        for _ in range(most_changes):
            best, feature, change = np.inf, 0, 0.0
            for step in (1.0, -1.0):
                for j in range(n):
                    moved, longer = mean + step * s[j], square + 2.0 * step * image[j] + s[j]
                    at = np.floor(moved)
                    trial[j] = (longer - (2.0 * at + 1.0) * moved + at * (at + 1.0)) / 2.0
                for j in range(n):
                    if trial[j] < best and w[j] != step:
                        best, feature, change = trial[j], j, step
            if width >= 3 and best >= slack[row] - least_gain:
                break
            square += 2.0 * change * image[feature] + s[feature]
            mean += change * s[feature]
            for i in range(n):
                image[i] += change * Y[feature, i]
            width += 1 if w[feature] == 0 else -1
            w[feature] += np.int8(change)
            slack[row] = best
        level[row] = np.floor(mean)


@compiled
def threshold_at(
    ranked: FloatArray, order: NDArray[np.uint32], mass: FloatArray, demand: float
) -> float:
    """The highest threshold above which there is no more mass than demanded."""
    total, last = 0.0, len(ranked) - 1
    for i in range(len(ranked)):
        total += mass[order[i]]
        if total >= demand * (1.0 - 1e-12):
            last = i
            break
    t: float = ranked[last]
    return t


@compiled
def gain_above(ranked: FloatArray, order: NDArray[np.uint32], mass: FloatArray, t: float) -> float:
    """What mass has above a threshold."""
    gain = 0.0
    for i in range(len(ranked)):
        if ranked[i] <= t:
            break
        gain += (ranked[i] - t) * mass[order[i]]
    return gain


@entry_point
def value_splits(
    classes: Classes,
    inner: FloatArray,
    outer: FloatArray,
    level: FloatArray,
    k: float,
    inside: FloatArray,
    outside: FloatArray,
    value: FloatArray,
) -> None:
    """The best thresholds and the right-hand side of every split of every class.

    Parameters
    ----------
    classes : Classes
    inner, outer : ndarray, (n_splits, n_features)
        Y_dj and s_j - Y_dj of the features d that classes may be split by.
    level : ndarray, (n_splits,)
        s_d of these.
    k : float
    inside, outside, value : ndarray, (n_classes, n_splits)
        Filled.
    """
    for d in range(len(level)):
        for c in range(len(value)):
            ranked, order = classes.ranked[c], classes.order[c]
            t = threshold_at(ranked, order, inner[d], k * level[d])
            v = threshold_at(ranked, order, outer[d], k * (1.0 - level[d]))
            inside[c, d], outside[c, d] = t, v
            value[c, d] = k * (t * level[d] + v * (1.0 - level[d]))
            value[c, d] += gain_above(ranked, order, inner[d], t)
            value[c, d] += gain_above(ranked, order, outer[d], v)
