"""Pairs of classes that must differ, at the vertices of the projected linear bound.

By a feature with x = A_cj - t and y = A_ej - v a pair gains max(0, x, y, x + y - u). Which of the
four it is, is the region of the feature: 0 none, 1 the first class, 2 the second, 3 both. At a pin
two or more regions meet. The normals of the kinks of a pair and its freedoms are a basis of
(t, v, u).
"""

from __future__ import annotations

import math

import numpy as np

from qpm_opt.bounds.compilation import compiled, entry_point
from qpm_opt.bounds.threshold_vertex import (
    PIVOT,
    Terms,
    Vertex,
    Work,
    copy,
    in_both,
    in_first,
    in_second,
    turned,
)
from qpm_opt.validation import FloatArray, IntArray

ROOM = 0.03
"""Features whose gain exceeds that of another region by less than this share of the largest are
watched for a change of region."""
STILL = 1e-11
"""Rates of change that count as none."""
COLLIDING = 1e-6
"""Excess of what two classes share, from which on they become a pair."""


@compiled
def label(terms: Terms, vertex: Vertex, work: Work, pair: int) -> None:
    """Find the regions of all features of a pair, at a pin the lowest of those that meet."""
    c, e = vertex.pairs[pair, 0], vertex.pairs[pair, 1]
    t, v, u = vertex.threshold[c], vertex.threshold[e], vertex.price[pair]
    first, second, regions = terms.similarity[c], terms.similarity[e], work.region[pair]
    for j in range(len(regions)):
        x, y = first[j] - t, second[j] - v
        region, best = 0, 0.0
        if x > best:
            region, best = 1, x
        if y > best:
            region, best = 2, y
        if x + y - u > best:
            region = 3
        regions[j] = region
    for i in range(vertex.sizes[0]):
        if vertex.region_at_level[pair, i] >= 0:
            work.region[pair, vertex.at_level[i]] = vertex.region_at_level[pair, i]
    for i in range(vertex.n_pins[pair]):
        for region in range(4):
            if vertex.pin_regions[pair, i] >> region & 1:
                work.region[pair, vertex.pin_feature[pair, i]] = region
                break
    watch(terms, vertex, work, pair)


@compiled
def keep_labels(vertex: Vertex, work: Work) -> None:
    """Let the vertex know the regions of its features."""
    for pair in range(vertex.sizes[1]):
        for i in range(vertex.sizes[0]):
            vertex.region_at_level[pair, i] = work.region[pair, vertex.at_level[i]]


@compiled
def watch(terms: Terms, vertex: Vertex, work: Work, pair: int) -> None:
    """Gather the features of a pair that may change their region soon, and those with a gain."""
    c, e = vertex.pairs[pair, 0], vertex.pairs[pair, 1]
    t, v, u = vertex.threshold[c], vertex.threshold[e], vertex.price[pair]
    room = ROOM * max(terms.ranked[c, 0] - t, terms.ranked[e, 0] - v)
    if room <= 0.0:
        room = math.inf
    of_first, of_second, regions = terms.similarity[c], terms.similarity[e], work.region[pair]
    near, active = work.near[pair], work.active[pair]
    n_near = n_active = 0
    for j in range(len(regions)):
        x, y = of_first[j] - t, of_second[j] - v
        largest, least, both = max(x, y), min(x, y), x + y - u
        first, second = max(largest, 0.0), max(min(largest, 0.0), least)
        if both > first:
            first, second = both, first
        elif both > second:
            second = both
        if first - second < room:
            near[n_near] = j
            n_near += 1
        elif regions[j] == 0:
            continue
        active[n_active] = j
        n_active += 1
    work.n_near[pair], work.n_active[pair], work.room[pair] = n_near, n_active, room


@compiled
def set_normals(vertex: Vertex, work: Work, pair: int) -> bool:
    """Find the normals of the kinks of a pair; False if there are more than three."""
    n, frame = 0, work.frame[pair]
    for i in range(vertex.n_pins[pair]):
        base = work.region[pair, vertex.pin_feature[pair, i]]
        for region in range(4):
            if region != base and vertex.pin_regions[pair, i] >> region & 1:
                if n == 3:
                    return False
                frame[n, 0] = in_first(region) - in_first(base)
                frame[n, 1] = in_second(region) - in_second(base)
                frame[n, 2] = in_both(region) - in_both(base)
                work.normal_pin[pair, n], work.normal_region[pair, n] = i, region
                n += 1
    if vertex.is_zero[pair]:
        if n == 3:
            return False
        frame[n] = 0.0
        frame[n, 2] = 1.0
        work.normal_pin[pair, n] = -1
        n += 1
    work.n_normals[pair] = n
    return True


@compiled
def set_frame(vertex: Vertex, work: Work, pair: int) -> bool:
    """Find the frame of a pair and its inverse; False if kinks and freedoms are no basis."""
    if not set_normals(vertex, work, pair):
        return False
    n, m, inverse = work.n_normals[pair], work.frame[pair], work.frame_inverse[pair]
    if n + work.n_freedoms[pair] != 3:
        return False
    for i in range(work.n_freedoms[pair]):
        copy(work.vector[work.freedoms[pair, i]], m[n + i])
    for i in range(3):
        a, b = (i + 1) % 3, (i + 2) % 3
        for j in range(3):
            x, y = (j + 1) % 3, (j + 2) % 3
            inverse[j, i] = m[a, x] * m[b, y] - m[a, y] * m[b, x]
    determinant = 0.0
    for j in range(3):
        determinant += m[0, j] * inverse[j, 0]
    if abs(determinant) < PIVOT:
        return False
    for i in range(3):
        for j in range(3):
            inverse[i, j] /= determinant
    return True


@compiled
def free_vectors(work: Work, pair: int) -> int:
    """Fill a basis of what the normals of a pair leave free; return its size."""
    n, m, vectors = work.n_normals[pair], work.frame[pair], work.basis
    vectors[:] = 0.0
    if n == 0:
        for i in range(3):
            vectors[i, i] = 1.0
    elif n == 1:
        big = row = 0
        for i in range(1, 3):
            if abs(m[0, i]) > abs(m[0, big]):
                big = i
        for i in range(3):
            if i != big:
                vectors[row, i], vectors[row, big] = 1.0, -m[0, i] / m[0, big]
                row += 1
    elif n == 2:
        for i in range(3):
            x, y = (i + 1) % 3, (i + 2) % 3
            vectors[0, i] = m[0, x] * m[1, y] - m[0, y] * m[1, x]
    return int(3 - n)


@compiled
def turn_from(vertex: Vertex, work: Work, pair: int, kink: int) -> int:
    """What leaving a kink does to t, v, u, as ``work.turn``.

    A kink is a normal, whose region its feature leaves; after those come the pins, whose feature
    leaves the region that it is labelled with for the one that is returned (-1: no pin).
    """
    n, inverse = work.n_normals[pair], work.frame_inverse[pair]
    if kink < n:
        for x in range(3):
            work.turn[x] = inverse[x, kink]
        return -1
    to = -1
    work.turn[:] = 0.0
    for i in range(n):
        if work.normal_pin[pair, i] == kink - n:
            to = work.normal_region[pair, i]
            for x in range(3):
                work.turn[x] -= inverse[x, i]
    return to


@compiled
def leave(vertex: Vertex, work: Work, pair: int, kink: int, to: int) -> None:
    """Remove a kink from the vertex, with what :func:`turn_from` returned."""
    n = work.n_normals[pair]
    if kink < n:
        pin = work.normal_pin[pair, kink]
        if pin < 0:
            vertex.is_zero[pair] = False
            return
        vertex.pin_regions[pair, pin] &= ~(1 << work.normal_region[pair, kink])
    else:
        pin = kink - n
        feature = vertex.pin_feature[pair, pin]
        vertex.pin_regions[pair, pin] &= ~(1 << work.region[pair, feature])
        work.region[pair, feature] = to
    regions = vertex.pin_regions[pair, pin]
    if regions & (regions - 1) == 0:  # one is left: no pin any more
        last = vertex.n_pins[pair] - 1
        vertex.pin_feature[pair, pin] = vertex.pin_feature[pair, last]
        vertex.pin_regions[pair, pin] = vertex.pin_regions[pair, last]
        vertex.n_pins[pair] = last


@compiled
def pinned_regions(vertex: Vertex, pair: int, feature: int) -> int:
    """The regions that meet at a feature, 0 if it is no pin."""
    for i in range(vertex.n_pins[pair]):
        if vertex.pin_feature[pair, i] == feature:
            return int(vertex.pin_regions[pair, i])
    return 0


@compiled
def pin(vertex: Vertex, work: Work, pair: int, feature: int, region: int) -> bool:
    """Let a feature be where it meets another region; False if no room is left for a pin."""
    for i in range(vertex.n_pins[pair]):
        if vertex.pin_feature[pair, i] == feature:
            vertex.pin_regions[pair, i] |= 1 << region
            return True
    i = vertex.n_pins[pair]
    if i == 3:
        return False
    vertex.pin_feature[pair, i] = feature
    vertex.pin_regions[pair, i] = 1 << region | 1 << work.region[pair, feature]
    vertex.n_pins[pair] = i + 1
    return True


@compiled
def is_met(speed: float, gap: float, limit: float) -> bool:
    """Whether a gap that shrinks with a speed is closed within a limit."""
    return (speed > STILL) & (max(gap, 0.0) < speed * limit)


@compiled
def find_events(
    terms: Terms,
    vertex: Vertex,
    work: Work,
    pairs: IntArray,
    step: float,
    when: FloatArray,
    event: IntArray,
) -> None:
    """Fill when moving pairs meet their next kinks, and there feature and region that it comes to.

    Feature -1: the price becomes 0. Feature -2: what is near has to be gathered anew.
    """
    threshold, threshold_rate = vertex.threshold, work.threshold_rate
    near, n_near, regions, similarity = work.near, work.n_near, work.region, terms.similarity
    for i in range(len(pairs)):
        pair = pairs[i]
        c, e = vertex.pairs[pair, 0], vertex.pairs[pair, 1]
        d, f, g = threshold_rate[c], threshold_rate[e], work.price_rate[pair]
        t, v, u = threshold[c] + step * d, threshold[e] + step * f, vertex.price[pair]
        first, feature, to = work.room[pair] / (abs(d) + abs(f) + abs(g)), -2, 0
        if g < 0.0 and not vertex.is_zero[pair] and max(u / -g, step) < first:
            first, feature = max(u / -g, step), -1
        u += step * g
        of_first, of_second, labels = similarity[c], similarity[e], regions[pair]
        both, limit = d + f + g, first - step
        for place in range(n_near[pair]):
            j = near[pair, place]
            at, x, y = labels[j], of_first[j] - t, of_second[j] - v
            z = x + y - u
            gain = x * in_first(at) + y * in_second(at) - u * in_both(at)
            loss = turned(d, f, g, at)
            # Without a branch for each region, which would be guessed wrong: most meet none.
            if not (
                is_met(loss, gain, limit)
                | is_met(loss - d, gain - x, limit)
                | is_met(loss - f, gain - y, limit)
                | is_met(loss - both, gain - z, limit)
            ):
                continue
            for region in range(4):
                speed = loss - turned(d, f, g, region)
                gap = gain - x * in_first(region) - y * in_second(region) + u * in_both(region)
                if region != at and is_met(speed, gap, limit):
                    if not pinned_regions(vertex, pair, j) >> region & 1:
                        first, feature, to = step + max(gap, 0.0) / speed, j, region
                        limit = first - step
        when[i], event[i, 0], event[i, 1] = first, feature, to


@entry_point
def join(terms: Terms, vertex: Vertex, work: Work, c: int, e: int) -> bool:
    """Make a pair of two classes, at price 0: g stays the same. False if that makes no frame."""
    pair = vertex.sizes[1]
    vertex.sizes[1] = pair + 1
    vertex.pairs[pair, 0], vertex.pairs[pair, 1] = c, e
    vertex.pair_of[c] = vertex.pair_of[e] = pair
    vertex.price[pair], vertex.is_zero[pair], vertex.n_pins[pair] = 0.0, True, 0
    first = -1 if vertex.is_free[c] else terms.order[c, vertex.n_above[c]]
    second = -1 if vertex.is_free[e] else terms.order[e, vertex.n_above[e]]
    n = 0
    if first >= 0:
        # Its similarity is the threshold of the first class: with or without it in that class.
        above = terms.similarity[e, first] > vertex.threshold[e] and first != second
        vertex.pin_feature[pair, n], vertex.pin_regions[pair, n] = first, 0b1100 if above else 0b11
        n += 1
    if second >= 0 and first == second:
        vertex.pin_regions[pair, 0] |= 0b100
    elif second >= 0:
        above = terms.similarity[c, second] > vertex.threshold[c]
        vertex.pin_feature[pair, n], vertex.pin_regions[pair, n] = (
            second,
            0b1010 if above else 0b101,
        )
        n += 1
    vertex.n_pins[pair] = n
    vertex.region_at_level[pair] = -1
    label(terms, vertex, work, pair)
    work.n_freedoms[pair] = 0
    for side in range(2):
        member = vertex.pairs[pair, side]
        if vertex.is_free[member]:
            vertex.is_free[member] = False
            freedom = work.freedom_of[member]
            work.owner[freedom] = -1 - pair
            work.vector[freedom] = 0.0
            work.vector[freedom, side] = 1.0
            work.freedoms[pair, work.n_freedoms[pair]] = freedom
            work.n_freedoms[pair] += 1
    return set_frame(vertex, work, pair)


@compiled
def is_idle(vertex: Vertex, share: FloatArray, c: int) -> bool:
    """Whether a class is in no pair, or in one at price 0, of which g does not change without it.

    Those of shares stay, for a class has at most one share outside pairs.
    """
    pair = vertex.pair_of[c]
    return bool(pair < 0 or (vertex.is_zero[pair] and share[c] == 1.0))


@compiled
def dissolve(terms: Terms, vertex: Vertex, work: Work, share: FloatArray) -> int:
    """Undo the idle pairs of the classes wanted, so that they may find others.

    Returns how many there were. Everything else has to be derived anew.
    """
    n_dissolved, wanted, pinned = 0, work.is_wanted, work.pinned
    for pair in range(vertex.sizes[1] - 1, -1, -1):
        if not wanted[vertex.pairs[pair, 0]] and not wanted[vertex.pairs[pair, 1]]:
            continue
        pinned[:] = -1
        sound = is_idle(vertex, share, vertex.pairs[pair, 0])
        for i in range(vertex.n_pins[pair]):
            regions = vertex.pin_regions[pair, i]
            for side in range(2):
                # Two regions that differ in one class alone: its threshold is at the feature.
                one = 0b11 if side == 0 else 0b101
                if regions & one == one or regions >> (2 - side) & one == one:
                    sound = sound and pinned[side] < 0
                    pinned[side] = vertex.pin_feature[pair, i]
        n_pinned = (pinned[0] >= 0) + (pinned[1] >= 0)
        n_normals = 0
        for i in range(vertex.n_pins[pair]):
            for region in range(4):
                n_normals += vertex.pin_regions[pair, i] >> region & 1
            n_normals -= 1
        if not sound or n_pinned != n_normals:
            continue
        for side in range(2):
            c, feature = vertex.pairs[pair, side], pinned[side]
            vertex.pair_of[c], vertex.is_free[c] = -1, feature < 0
            if feature >= 0:
                vertex.n_above[c] = terms.rank[c, feature]
                vertex.threshold[c] = terms.similarity[c, feature]
            else:
                vertex.n_above[c] = 0
                for value in terms.ranked[c]:
                    vertex.n_above[c] += value > vertex.threshold[c]
        last = vertex.sizes[1] - 1
        vertex.sizes[1] = last
        if pair != last:
            for side in range(2):
                vertex.pairs[pair, side] = vertex.pairs[last, side]
                vertex.pair_of[vertex.pairs[pair, side]] = pair
            vertex.price[pair], vertex.is_zero[pair] = vertex.price[last], vertex.is_zero[last]
            vertex.n_pins[pair] = vertex.n_pins[last]
            copy(vertex.pin_feature[last], vertex.pin_feature[pair])
            copy(vertex.pin_regions[last], vertex.pin_regions[pair])
            copy(vertex.region_at_level[last], vertex.region_at_level[pair])
        n_dissolved += 1
    return n_dissolved


@compiled
def colliding(
    terms: Terms,
    vertex: Vertex,
    work: Work,
    share: FloatArray,
    class_of: IntArray,
) -> int:
    """Find pairs of classes whose best sets at s share more than they may, the worst first.

    Only different idle classes that stand there with the same share of themselves can be a pair.
    Returns how many there are, of no more than there is room for.
    """
    n_classes, n_features = terms.similarity.shape
    k, s, order = float(terms.n_per_class), work.s, terms.order
    taken, some, whole = work.taken, work.some, work.whole
    found, excess = work.colliding, work.excess
    taken[:] = 0.0
    # What one takes whole and the other not at all is too much already: told by 64 groups.
    some[:] = whole[:] = 0
    for c in range(n_classes):
        left = k
        for i in range(n_features):
            j = order[c, i]
            if s[j] > 0.0:
                taken[c, j] = min(left, s[j])
                left -= taken[c, j]
                bit = np.uint64(1) << np.uint64(j & 63)
                some[c] |= bit
                if taken[c, j] == 1.0:
                    whole[c] |= bit
                if left <= 0.0:
                    break
    n = 0
    for c in range(n_classes):
        if not is_idle(vertex, share, c):
            continue
        for e in range(c + 1, n_classes):
            if whole[c] & ~some[e] or whole[e] & ~some[c] or not is_idle(vertex, share, e):
                continue
            if share[c] != share[e] or class_of[c] == class_of[e]:
                continue
            left, common = k, 0.0
            for i in range(n_features):
                j = order[c, i]
                if taken[c, j] > 0.0:
                    common += min(taken[c, j], taken[e, j])
                    left -= taken[c, j]
                    if left <= 0.0 or common + left <= k - 1.0 + COLLIDING:
                        break
            if common <= k - 1.0 + COLLIDING or n == len(found):
                continue
            place = n
            while place > 0 and excess[place - 1] < common:
                excess[place] = excess[place - 1]
                copy(found[place - 1], found[place])
                place -= 1
            excess[place], found[place, 0], found[place, 1] = common, c, e
            n += 1
    return n


@compiled
def dot(a: FloatArray, b: FloatArray) -> float:
    """Of three numbers each."""
    return float(a[0] * b[0] + a[1] * b[1] + a[2] * b[2])


@compiled
def freedoms_across(
    vertex: Vertex, work: Work, pair: int, normal: FloatArray, n: int, turns: bool
) -> int:
    """Let all freedoms of a pair but one keep a new kink with this normal.

    ``work.turn`` is one of them if the pair turns. Returns the freedom that cannot, -1 if all do.
    """
    out, most = -1, PIVOT
    for i in range(work.n_freedoms[pair]):
        freedom = work.freedoms[pair, i]
        across = abs(dot(normal, work.vector[freedom]))
        if across > most:
            out, most = freedom, across
    if out < 0:
        return -1
    pivot = dot(normal, work.vector[out])
    for place in range(work.n_freedoms[pair]):
        freedom = work.freedoms[pair, place]
        factor = dot(normal, work.vector[freedom]) / pivot
        if freedom != out and factor != 0.0:
            for i in range(3):
                work.vector[freedom, i] -= factor * work.vector[out, i]
            for x in range(n):
                work.inverse[x, out] += factor * work.inverse[x, freedom]
    if turns:
        factor = dot(normal, work.turn) / pivot
        for i in range(3):
            work.turn[i] -= factor * work.vector[out, i]
    return out


@compiled
def find_violations(
    terms: Terms, vertex: Vertex, work: Work, n_used: int, n_found: int, tolerance: float
) -> int:
    """Add the kinks of pairs that may be left, as :func:`turn_from` counts them, to the others.

    Returns the number of candidates.
    """
    k, multiplier = float(terms.n_per_class), work.multiplier
    used, amount, s = work.used, work.amount, work.s
    region, inverse = work.region, work.frame_inverse
    n_normals, normal_pin = work.n_normals, work.normal_pin
    n_pins, pin_feature = vertex.n_pins, vertex.pin_feature
    candidates, violation = work.candidates, work.violation
    for pair in range(vertex.sizes[1]):
        n = n_normals[pair]
        if n == 0:
            continue
        first, second, both, labels = k, k, k - 1.0, region[pair]
        for i in range(n_used):
            at, taken = labels[used[i]], amount[i]
            first -= taken if at & 1 else 0.0
            second -= taken if at & 2 else 0.0
            both -= taken if at == 3 else 0.0
        for i in range(n):
            multiplier[i] = (
                inverse[pair, 0, i] * first
                + inverse[pair, 1, i] * second
                + inverse[pair, 2, i] * both
            )
        for i in range(n_pins[pair]):
            rest = s[pin_feature[pair, i]]
            for x in range(n):
                if normal_pin[pair, x] == i:
                    rest -= multiplier[x]
            multiplier[n + i] = rest
        for x in range(n + n_pins[pair]):
            if -multiplier[x] > tolerance:
                candidates[n_found, 0], candidates[n_found, 1] = pair, x
                violation[n_found] = -multiplier[x]
                n_found += 1
    return n_found


@compiled
def turn_at_level(
    vertex: Vertex, work: Work, pair: int, kink: int, to: int, row: FloatArray
) -> None:
    """Fill what ``work.turn`` makes the features at the level lose."""
    moved = vertex.pin_feature[pair, kink - work.n_normals[pair]] if to >= 0 else -1
    x, y, z = work.turn[0], work.turn[1], work.turn[2]
    region, at_level = work.region[pair], vertex.at_level
    for i in range(vertex.sizes[0]):
        j = at_level[i]
        row[i] = turned(x, y, z, to if j == moved else region[j])
