"""Multipliers of the semidefinite bound, improved one after the other by compiled code.

With V as it is, an iteration of :mod:`qpm_opt.bounds.semidefinite` wants the multipliers of the
terms and rows at which

    constant + max over X of <E, X> - beta/2 |X|^2,   E = C - V,

is least, where C is linear in their weights, X is nonnegative off the diagonal of Y, and
X_0j = X_j0 = X_jj = s_j lies in [0, 1] with sum m. The maximiser is known at any time: Y_ij is
max(E_ij, 0) / beta, and s_j what its *tie*, (2 E_0j + E_jj) / (3 beta), exceeds a common level by.
So every multiplier in turn goes to the minimum of a parabola above this convex function of it, and
E follows: a nonlinear Gauss-Seidel method, which never makes the function larger.

Everything here is compiled by Numba. Poor multipliers weaken a bound, and never falsify it, as long
as the shares of a class are a convex combination; :meth:`ClassTerms.descend
<qpm_opt.bounds.terms.ClassTerms.descend>` sees to that.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qpm_opt.bounds.compilation import compiled, entry_point
from qpm_opt.validation import BoolArray, FloatArray, IntArray

FLOOR = 1e-3
"""Least curvature of a threshold, times beta: terms without weight go to their minimum at once."""
LONGEST = 10.0
"""Steps of shares are no longer; they lie between 0 and 1."""
MOST_HALVINGS, LEVEL_TOLERANCE = 60, 1e-10
"""Of the search for the level, and for the multipliers of pairs; the sum of s is as exact."""


class Classes(NamedTuple):
    """The classes over the features of a region, free ones first, then those decided in.

    Attributes
    ----------
    similarity, ranked : ndarray, (n_classes, n_features)
        As they are, and the largest of each class first.
    order : ndarray of uint32, (n_classes, n_features)
        Features in the order of ``ranked``.
    """

    similarity: FloatArray
    ranked: FloatArray
    order: NDArray[np.uint32]


class Terms(NamedTuple):
    """Multipliers of the terms, those of :class:`qpm_opt.bounds.terms.ClassTerms`.

    Attributes
    ----------
    threshold : ndarray, (n_classes,)
    split_start : ndarray of int, (n_classes + 1,)
        Where the splits of each class begin.
    split_feature : ndarray of int, (n_splits,)
    inside, outside, share : ndarray, (n_splits,)
    pairs : ndarray of int, (n_pairs, 2)
    pair_threshold : ndarray, (n_pairs, 2)
    pair_price, pair_weight : ndarray, (n_pairs,)
    pair_is_free : ndarray of bool, (n_pairs,)
        Whether the price may be negative.
    left : ndarray, (n_classes,)
        Weight that the pairs leave to each class.
    """

    threshold: FloatArray
    split_start: IntArray
    split_feature: IntArray
    inside: FloatArray
    outside: FloatArray
    share: FloatArray
    pairs: IntArray
    pair_threshold: FloatArray
    pair_price: FloatArray
    pair_weight: FloatArray
    pair_is_free: BoolArray
    left: FloatArray


class Rows(NamedTuple):
    """Rows of :mod:`qpm_opt.bounds.rows`, as sparse weights, levels and prices.

    Attributes
    ----------
    start : ndarray of int, (n_rows + 1,)
    member : ndarray of int, (n_entries,); weight : ndarray, (n_entries,)
    level : ndarray, (n_rows,)
    """

    start: IntArray
    member: IntArray
    weight: FloatArray
    level: FloatArray


class Model(NamedTuple):
    """The function to be minimised, at the multipliers as they are.

    Attributes
    ----------
    E : ndarray, (n_free + 1, n_free + 1)
        Only the part of the products is kept up to date, on both sides of the diagonal.
    tie : ndarray, (n_free,); level : ndarray, (1,)
    beta, n_selected, n_per_class : float
    """

    E: FloatArray
    tie: FloatArray
    level: FloatArray
    beta: float
    n_selected: float
    n_per_class: float


@compiled
def selected(model: Model, j: int) -> float:
    """s_j of a free feature."""
    s_j: float = min(max(model.tie[j] - model.level[0], 0.0), 1.0)
    return s_j


@compiled
def together(model: Model, i: int, j: int) -> float:
    """Y_ij of two free features."""
    Y_ij: float = max(model.E[i + 1, j + 1], 0.0) / model.beta
    return Y_ij


@compiled
def find_level(model: Model) -> None:
    """Newton's method for the level at which s has its sum, halving where that fails."""
    tie, level = model.tie, model.level[0]
    if not abs(level) < math.inf:
        level = 0.0
    low, high, step = -math.inf, math.inf, 1.0
    for _ in range(MOST_HALVINGS):
        total, n_between = 0.0, 0
        for j in range(len(tie)):
            x = tie[j] - level
            total += min(max(x, 0.0), 1.0)
            n_between += (x > 0.0) & (x < 1.0)
        excess = total - model.n_selected
        if abs(excess) <= LEVEL_TOLERANCE * model.n_selected:
            break
        if excess > 0.0:
            low = level
        else:
            high = level
        following = level + excess / max(n_between, 1)
        if n_between == 0:
            following = level + math.copysign(step, excess)
            step *= 2.0
        if following <= low or following >= high:
            if not LEVEL_TOLERANCE * (1.0 + abs(level)) < high - low < math.inf:
                break
            following = (low + high) / 2.0
        level = following
    model.level[0] = level


@compiled
def mass(model: Model, side: int, d: int, s_d: float, j: int) -> float:
    """Of feature j: s_j (side 0), Y_dj (side 1), or s_j - Y_dj (side 2)."""
    is_in = j >= len(model.tie)
    if side == 0:
        return 1.0 if is_in else selected(model, j)
    if side == 1:
        return s_d if is_in or j == d else together(model, d, j)
    if is_in:
        return 1.0 - s_d
    return 0.0 if j == d else max(selected(model, j) - together(model, d, j), 0.0)


@compiled
def best_near(
    model: Model,
    ranked: FloatArray,
    order: NDArray[np.uint32],
    side: int,
    d: int,
    s_d: float,
    demand: float,
    center: float,
    step: float,
) -> float:
    """Minimiser of demand t + sum_j (ranked_j - t)+ mass_j + (t - center)^2 / (2 step)."""
    above, last = 0.0, math.inf
    for i in range(len(ranked)):
        candidate = center + step * (above - demand)
        if candidate >= ranked[i]:
            return min(candidate, last)
        above += mass(model, side, d, s_d, order[i])
        last = ranked[i]
    return min(center + step * (above - demand), last)


@compiled
def value_of(
    model: Model,
    ranked: FloatArray,
    order: NDArray[np.uint32],
    side: int,
    d: int,
    s_d: float,
    demand: float,
    t: float,
) -> float:
    """Right-hand side: demand t + sum_j (ranked_j - t)+ mass_j."""
    value = demand * t
    for i in range(len(ranked)):
        if ranked[i] <= t:
            break
        value += (ranked[i] - t) * mass(model, side, d, s_d, order[i])
    return value


@compiled
def add_threshold(
    model: Model, ranked: FloatArray, order: NDArray[np.uint32], weight: float, t: float
) -> None:
    """Add a threshold term to E."""
    n, scale = len(model.tie), weight / (3.0 * model.beta)
    for i in range(len(ranked)):
        if ranked[i] <= t:
            break
        j = order[i]
        if j < n:
            model.tie[j] += scale * (ranked[i] - t)


@compiled
def add_split(
    model: Model,
    ranked: FloatArray,
    order: NDArray[np.uint32],
    d: int,
    weight: float,
    t: float,
    v: float,
) -> None:
    """Add a split term to E."""
    n, E, third = len(model.tie), model.E, 1.0 / (3.0 * model.beta)
    linear, least = model.n_per_class * (t - v), min(t, v)
    for i in range(len(ranked)):
        if ranked[i] <= least:
            break
        j = order[i]
        inside, outside = max(ranked[i] - t, 0.0), max(ranked[i] - v, 0.0)
        if j >= n:
            linear += inside - outside
        elif j == d:
            linear += inside
        else:
            change = weight * (inside - outside) / 2.0
            E[d + 1, j + 1] += change
            E[j + 1, d + 1] += change
            model.tie[j] += weight * outside * third
    model.tie[d] += weight * linear * third


@compiled
def improve_threshold(classes: Classes, terms: Terms, model: Model, c: int, weight: float) -> None:
    """Move the threshold of a class."""
    ranked, order, t = classes.ranked[c], classes.order[c], terms.threshold[c]
    n_above = 1
    while n_above <= len(ranked) and ranked[n_above - 1] > t:
        n_above += 1
    step = model.beta / (weight * n_above / 3.0 + FLOOR)
    new = best_near(model, ranked, order, 0, 0, 0.0, model.n_per_class, t, step)
    if weight > 0.0 and new != t:
        add_threshold(model, ranked, order, -weight, t)
        add_threshold(model, ranked, order, weight, new)
    terms.threshold[c] = new


@compiled
def improve_split(
    classes: Classes, terms: Terms, model: Model, c: int, i: int, weight: float
) -> None:
    """Move the two thresholds of a split, one after the other."""
    ranked, order, d = classes.ranked[c], classes.order[c], terms.split_feature[i]
    n, k = len(model.tie), model.n_per_class
    for side in range(1, 3):
        t = terms.inside[i] if side == 1 else terms.outside[i]
        n_above, n_alike = 1, 0
        for r in range(len(ranked)):
            if ranked[r] <= t:
                break
            n_above += 1
            n_alike += order[r] >= n or order[r] == d
        s_d = selected(model, d)
        pull = (k - n_alike) ** 2 / 3.0
        other = (n_above - n_alike) * (0.5 if side == 1 else 0.5 + 1.0 / 3.0)
        step = model.beta / (weight * (other + pull) + FLOOR)
        demand = k * (s_d if side == 1 else 1.0 - s_d)
        new = best_near(model, ranked, order, side, d, s_d, demand, t, step)
        if new == t:
            continue
        if weight > 0.0:
            add_split(model, ranked, order, d, -weight, terms.inside[i], terms.outside[i])
        if side == 1:
            terms.inside[i] = new
        else:
            terms.outside[i] = new
        if weight > 0.0:
            add_split(model, ranked, order, d, weight, terms.inside[i], terms.outside[i])


@compiled
def split_value(classes: Classes, terms: Terms, model: Model, c: int, i: int) -> float:
    """Right-hand side of a split term."""
    ranked, order, d = classes.ranked[c], classes.order[c], terms.split_feature[i]
    s_d, k = selected(model, d), model.n_per_class
    inside = value_of(model, ranked, order, 1, d, s_d, k * s_d, terms.inside[i])
    outside = value_of(model, ranked, order, 2, d, s_d, k * (1.0 - s_d), terms.outside[i])
    return inside + outside


@compiled
def distance(classes: Classes, terms: Terms, model: Model, c: int, i: int) -> float:
    """Curvature, times beta, of weight that goes from the threshold of a class to a split."""
    ranked, order, d = classes.ranked[c], classes.order[c], terms.split_feature[i]
    n, t, v, base = len(model.tie), terms.inside[i], terms.outside[i], terms.threshold[c]
    linear, least = model.n_per_class * (t - v), min(base, min(t, v))
    products, singles = 0.0, 0.0
    for r in range(len(ranked)):
        if ranked[r] <= least:
            break
        inside, outside = max(ranked[r] - t, 0.0), max(ranked[r] - v, 0.0)
        plain = max(ranked[r] - base, 0.0)
        if order[r] >= n:
            linear += inside - outside
        elif order[r] == d:
            linear += inside - plain
        else:
            products += (inside - outside) ** 2
            singles += (outside - plain) ** 2
    curvature: float = products / 2.0 + (singles + linear * linear) / 3.0
    return curvature


@compiled
def to_simplex(points: FloatArray, ordered: FloatArray) -> None:
    """Project onto the nonnegative vectors of sum 1, in place; ``ordered`` is room."""
    for i in range(len(points)):
        at = i
        while at > 0 and ordered[at - 1] < points[i]:
            ordered[at] = ordered[at - 1]
            at -= 1
        ordered[at] = points[i]
    total, level = 0.0, 0.0
    for i in range(len(points)):
        total += ordered[i]
        if ordered[i] * (i + 1) > total - 1.0:
            level = (total - 1.0) / (i + 1)
    for i in range(len(points)):
        points[i] = max(points[i] - level, 0.0)


@compiled
def improve_shares(classes: Classes, terms: Terms, model: Model, c: int, room: FloatArray) -> None:
    """One projected step of the shares of the splits of a class and of its threshold."""
    ranked, order = classes.ranked[c], classes.order[c]
    first, n = terms.split_start[c], terms.split_start[c + 1] - terms.split_start[c]
    left, share = terms.left[c], room[0, : n + 1]
    t, k = terms.threshold[c], model.n_per_class
    rest, curvature, spread = 1.0, 0.0, ranked[0] - ranked[len(ranked) - 1]
    for i in range(first, first + n):
        rest -= terms.share[i]
        curvature += distance(classes, terms, model, c, i)
    # Only differences count, and one of LONGEST goes as far as any larger one.
    base, most = value_of(model, ranked, order, 0, 0, 0.0, k, t), 0.0
    for i in range(n):
        share[i + 1] = split_value(classes, terms, model, c, first + i) - base
        most = max(most, abs(share[i + 1]))
    pace = model.beta / (left * curvature + 1e-6 * spread * spread)
    if not pace * most <= LONGEST:
        pace = LONGEST / most
    if not (0.0 < pace < math.inf and most < math.inf):
        return
    share[0] = rest
    for i in range(n):
        share[i + 1] = terms.share[first + i] - pace * share[i + 1]
    to_simplex(share, room[1, : n + 1])
    add_threshold(model, ranked, order, left * (share[0] - rest), t)
    for i in range(n):
        at = first + i
        change = left * (share[i + 1] - terms.share[at])
        terms.share[at] = share[i + 1]
        if change != 0.0:
            d = terms.split_feature[at]
            add_split(model, ranked, order, d, change, terms.inside[at], terms.outside[at])


@compiled
def improve_class(classes: Classes, terms: Terms, model: Model, c: int, room: FloatArray) -> None:
    """Move the thresholds of a class and of its splits, then their shares."""
    first, end, rest = terms.split_start[c], terms.split_start[c + 1], 1.0
    for i in range(first, end):
        rest -= terms.share[i]
    improve_threshold(classes, terms, model, c, terms.left[c] * max(rest, 0.0))
    spread = classes.ranked[c, 0] - classes.ranked[c, classes.ranked.shape[1] - 1]
    if end == first or terms.left[c] <= 0.0 or spread <= 0.0:
        return
    for i in range(first, end):
        improve_split(classes, terms, model, c, i, terms.left[c] * terms.share[i])
    improve_shares(classes, terms, model, c, room)


@compiled
def class_value(classes: Classes, terms: Terms, model: Model, c: int) -> float:
    """Mean right-hand side of the terms of a class."""
    ranked, order, t = classes.ranked[c], classes.order[c], terms.threshold[c]
    value, rest = 0.0, 1.0
    for i in range(terms.split_start[c], terms.split_start[c + 1]):
        value += terms.share[i] * split_value(classes, terms, model, c, i)
        rest -= terms.share[i]
    return value + rest * value_of(model, ranked, order, 0, 0, 0.0, model.n_per_class, t)


@compiled
def add_class(classes: Classes, terms: Terms, model: Model, c: int, weight: float) -> None:
    """Add all terms of a class to E."""
    ranked, order, rest = classes.ranked[c], classes.order[c], 1.0
    for i in range(terms.split_start[c], terms.split_start[c + 1]):
        d, share = terms.split_feature[i], terms.share[i]
        add_split(model, ranked, order, d, weight * share, terms.inside[i], terms.outside[i])
        rest -= share
    add_threshold(model, ranked, order, weight * rest, terms.threshold[c])


@compiled
def pair_excess(a: float, b: float, t: float, v: float, u: float, which: int) -> float:
    """What t (0), v (1) or u (2) is to be compared with, with the other two as they are."""
    if which == 0:
        return max(a, a + b - v - u) - max(b - v, 0.0)
    if which == 1:
        return max(b, a + b - t - u) - max(a - t, 0.0)
    return a + b - t - v - max(max(a - t, b - v), 0.0)


@compiled
def pair_gain(a: float, b: float, t: float, v: float, u: float) -> float:
    """What a feature adds to a pair term."""
    return max(max(a - t, b - v), max(a + b - t - v - u, 0.0))


@compiled
def improve_pair(classes: Classes, terms: Terms, model: Model, i: int, room: FloatArray) -> None:
    """Move the multipliers of a pair, then its weight."""
    c, e = terms.pairs[i, 0], terms.pairs[i, 1]
    first, second = classes.similarity[c], classes.similarity[e]
    n, k, s, third = len(model.tie), model.n_per_class, room[0], 1.0 / (3.0 * model.beta)
    t, v, u = terms.pair_threshold[i, 0], terms.pair_threshold[i, 1], terms.pair_price[i]
    weight = terms.pair_weight[i]
    for j in range(len(first)):
        s[j] = selected(model, j) if j < n else 1.0
    excess, total = room[1], 0.0
    for j in range(len(first)):
        total += s[j]
    for which in range(3):
        center = t if which == 0 else v if which == 1 else u
        demand = k - 1.0 if which == 2 else k
        n_above = 1
        for j in range(len(first)):
            excess[j] = pair_excess(first[j], second[j], t, v, u, which)
            n_above += excess[j] > center
        step = model.beta / (weight * n_above / 3.0 + FLOOR)
        low, high = center - step * demand, center + step * total
        for _ in range(MOST_HALVINGS):
            middle = (low + high) / 2.0
            if middle <= low or middle >= high:
                break
            above = 0.0
            for j in range(len(first)):
                above += s[j] if excess[j] > middle else 0.0
            if (middle - center) / step + demand > above:
                high = middle
            else:
                low = middle
        if which == 0:
            t = high
        elif which == 1:
            v = high
        else:
            u = high if terms.pair_is_free[i] else max(high, 0.0)
    worth, size = k * (t + v) + (k - 1.0) * u, 0.0
    for j in range(len(first)):
        new = pair_gain(first[j], second[j], t, v, u)
        worth += s[j] * new
        size += new * new
    value = class_value(classes, terms, model, c) + class_value(classes, terms, model, e)
    change = model.beta * (value - worth) / (2.0 * size) if size > 0.0 else 0.0
    change = max(-weight, min(change, min(terms.left[c], terms.left[e])))
    for j in range(n):
        old = pair_gain(
            first[j],
            second[j],
            terms.pair_threshold[i, 0],
            terms.pair_threshold[i, 1],
            terms.pair_price[i],
        )
        new = pair_gain(first[j], second[j], t, v, u)
        model.tie[j] += third * ((weight + change) * new - weight * old)
    terms.pair_threshold[i, 0], terms.pair_threshold[i, 1], terms.pair_price[i] = t, v, u
    terms.pair_weight[i] = weight + change
    for half in range(2):
        of = terms.pairs[i, half]
        add_class(classes, terms, model, of, -change)
        terms.left[of] = max(terms.left[of] - change, 0.0)


@compiled
def row_slack(rows: Rows, model: Model, r: int) -> float:
    """(w's - b) (w's - b - 1) / 2 by the products."""
    level, member, weight = rows.level[r], rows.member, rows.weight
    slack: float = level * (level + 1.0) / 2.0
    for x in range(rows.start[r], rows.start[r + 1]):
        w = weight[x]
        products, beside = 0.0, model.E[member[x] + 1]
        for y in range(x + 1, rows.start[r + 1]):
            products += weight[y] * max(beside[member[y] + 1], 0.0)
        slack += w * products / model.beta
        slack += w * (w - 2.0 * level - 1.0) / 2.0 * selected(model, member[x])
    return slack


@compiled
def improve_rows(rows: Rows, price: FloatArray, curvature: FloatArray, model: Model) -> None:
    """Move the price of every row."""
    E, member, weight, beta = model.E, rows.member, rows.weight, model.beta
    for r in range(len(price)):
        new = max(price[r] - beta * row_slack(rows, model, r) / curvature[r], 0.0)
        change = new - price[r]
        if change == 0.0:
            continue
        price[r] = new
        for x in range(rows.start[r], rows.start[r + 1]):
            i, w = member[x], weight[x]
            alone = w * (w - 2.0 * rows.level[r] - 1.0) / 2.0
            model.tie[i] += change * alone / (3.0 * beta)
            for y in range(x + 1, rows.start[r + 1]):
                j, product = member[y], change * w * weight[y] / 2.0
                E[i + 1, j + 1] += product
                E[j + 1, i + 1] += product


@entry_point
def descend(
    classes: Classes,
    terms: Terms,
    rows: Rows,
    price: FloatArray,
    curvature: FloatArray,
    model: Model,
    room: FloatArray,
    n_passes: int,
) -> None:
    """Move all multipliers, and E with them.

    Parameters
    ----------
    classes : Classes
    terms : Terms
        Changed in place.
    rows : Rows
    price, curvature : ndarray, (n_rows,)
        The former changes in place; the latter is that of :func:`row_curvature`.
    model : Model
        Changed in place.
    room : ndarray, (2, n)
        For as many numbers as there are features, and splits of a class and one more.
    n_passes : int
    """
    for i in range(n_passes):
        find_level(model)
        for c in range(len(terms.threshold)):
            improve_class(classes, terms, model, c, room)
        if i == 0:  # they are dear
            for p in range(len(terms.pair_weight)):
                improve_pair(classes, terms, model, p, room)
        find_level(model)
        improve_rows(rows, price, curvature, model)


@entry_point
def fill_slack(rows: Rows, model: Model, slack: FloatArray) -> None:
    """The slack of every row, (n_rows,)."""
    for r in range(len(slack)):
        slack[r] = row_slack(rows, model, r)


@entry_point
def add_rows(rows: Rows, price: FloatArray, C: FloatArray) -> None:
    """Add prices times rows to C, a matrix of order n + 1."""
    for r in range(len(price)):
        for x in range(rows.start[r], rows.start[r + 1]):
            i, w = rows.member[x] + 1, rows.weight[x]
            alone = price[r] * w * (w - 2.0 * rows.level[r] - 1.0) / 4.0
            C[0, i] += alone
            C[i, 0] += alone
            for y in range(x + 1, rows.start[r + 1]):
                j, product = rows.member[y] + 1, price[r] * w * rows.weight[y] / 2.0
                C[i, j] += product
                C[j, i] += product
