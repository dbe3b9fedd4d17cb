"""The projected linear bound by a dual simplex method on its multipliers.

From vertex to vertex of :mod:`qpm_opt.bounds.threshold_vertex`: a kink whose multiplier is out of
its range is left, all others are kept, and g falls along the line on which that is possible. The
line is followed across kinks as long as g falls (bound flipping); where it ends, a kink comes to
the vertex. Of all kinks that could be left it is that with the steepest fall per unit length
(steepest edge). A child of a branch and bound starts from the vertex of its parent.

References
----------
Forrest, Goldfarb, Steepest-edge simplex algorithms for linear programming, Math. Prog. 57 (1992).
Maros, A generalized dual phase-2 simplex algorithm, EJOR 149 (2003): the line across kinks.
"""

from __future__ import annotations

import math

import numpy as np

from qpm_opt.bounds.compilation import compiled, entry_point
from qpm_opt.bounds.threshold_pairs import (
    STILL,
    colliding,
    dissolve,
    find_events,
    find_violations,
    free_vectors,
    freedoms_across,
    join,
    keep_labels,
    label,
    leave,
    pin,
    pinned_regions,
    set_frame,
    set_normals,
    turn_at_level,
    turn_from,
    watch,
)
from qpm_opt.bounds.threshold_vertex import (
    Terms,
    Vertex,
    Work,
    add_rows,
    append,
    copy,
    delete,
    entry,
    fill_column,
    fill_row,
    in_both,
    in_first,
    in_second,
    inverse_times,
    invert,
    replace_column,
    replace_row,
    times_inverse,
    turned,
    value_at,
)
from qpm_opt.validation import FloatArray, IntArray

OPTIMAL, ON_TARGET, LIMITED, FAILED = 0, 1, 2, 3
"""How :func:`descend` ends; after FAILED the vertex is of no use as a start."""

TOLERANCE = 1e-9
"""Multipliers may be out of their range by this."""
FLAT = -1e-12
"""Slope from which on g counts as not falling."""
WORTH = 0.5
"""Kinks whose violation is below this share of the largest are not left."""
RESIDUAL, CHECKED_AFTER = 1e-7, 20
"""Error of the system above which the inverse is computed anew, looked at after so many steps."""
MOST_ROUNDS = 5
"""Times that pairs are made anew in one descent."""
MOST_EVENTS = 20_000
"""Kinks crossed in one step, at most."""

UP, DOWN, SINK, RISE, TURN = 1, 2, 3, 4, 5
"""Ways to leave a kink: a pinned threshold goes up or down, q of a feature at the level falls or
grows, a pair turns from one of its kinks."""


@compiled
def prepare(terms: Terms, vertex: Vertex, work: Work, known: FloatArray) -> bool:
    """Derive the rest from a vertex; False if its kinks do not determine it.

    ``known`` is the inverse, if it has been computed for this vertex before, or has another size.
    """
    n = vertex.sizes[0]
    work.place[:] = -1
    for i in range(n):
        work.place[vertex.at_level[i]] = i
        work.q[vertex.at_level[i]] = 0.0
    free = 1
    for c in range(len(vertex.threshold)):
        if vertex.pair_of[c] >= 0:
            continue
        if vertex.is_free[c]:
            if free == n:
                return False
            work.owner[free], work.freedom_of[c] = c, free
            free += 1
        elif vertex.n_above[c] == len(work.q):
            return False
    for pair in range(vertex.sizes[1]):
        label(terms, vertex, work, pair)
        if not set_normals(vertex, work, pair):
            return False
        n_vectors = free_vectors(work, pair)
        if free + n_vectors > n:
            return False
        for i in range(n_vectors):
            work.owner[free], work.freedoms[pair, i] = -1 - pair, free
            copy(work.basis[i], work.vector[free])
            free += 1
        work.n_freedoms[pair] = n_vectors
        if not set_frame(vertex, work, pair):
            return False
    if free != n:
        return False
    if len(known) != n:
        return invert(terms, vertex, work)
    for i in range(n):
        copy(known[i], work.inverse[i])
    return True


@compiled
def find_s(terms: Terms, vertex: Vertex, work: Work) -> int:
    """Fill s of the features at the level; return how many features are used.

    What the freedoms demand of them is left in ``work.scratch[0]``.
    """
    s, place, inverse, owners = work.s, work.place, work.inverse, work.owner
    used, amount = work.used, work.amount
    vectors, region, order = work.vector, work.region, terms.order
    n_above, at_level = vertex.n_above, vertex.at_level
    n, right = vertex.sizes[0], work.scratch[0]
    k, n_used = float(terms.n_per_class), 0
    total = float(terms.n_selected)
    for j in range(len(s)):
        if place[j] >= 0:
            s[j] = 0.0
        used[n_used], amount[n_used] = j, s[j]
        total -= s[j]
        n_used += s[j] > 0.0
    right[0] = total
    for freedom in range(1, n):
        owner = owners[freedom]
        if owner >= 0:
            total = k
            for i in range(n_above[owner]):
                total -= s[order[owner, i]]
        else:
            x, y, z = vectors[freedom, 0], vectors[freedom, 1], vectors[freedom, 2]
            total, labels = x * k + y * k + z * (k - 1.0), region[-1 - owner]
            for i in range(n_used):
                total -= amount[i] * turned(x, y, z, labels[used[i]])
        right[freedom] = total
    for i in range(n):
        total = 0.0
        for r in range(n):
            total += inverse[i, r] * right[r]
        s[at_level[i]] = total
        used[n_used], amount[n_used] = at_level[i], total
        n_used += 1
    return n_used


@compiled
def residual(terms: Terms, vertex: Vertex, work: Work) -> float:
    """By how much s, as just filled, misses what the freedoms demand."""
    n, right, row = vertex.sizes[0], work.scratch[0], work.scratch[1]
    row[:n] = 1.0
    most = 0.0
    for freedom in range(n):
        if freedom > 0:
            fill_row(terms, vertex, work, freedom, row)
        rest = right[freedom]
        for i in range(n):
            rest -= row[i] * work.s[vertex.at_level[i]]
        most = max(most, abs(rest))
    return most


@compiled
def choose(
    terms: Terms, lower: FloatArray, upper: FloatArray, vertex: Vertex, work: Work, n_used: int
) -> tuple[int, int, int, float]:
    """The kink to leave: way, class or pair or place, kink of a pair, violation; way 0 if none."""
    n, s, inverse, at_level, n_above = (
        vertex.sizes[0],
        work.s,
        work.inverse,
        vertex.at_level,
        vertex.n_above,
    )
    place, order, is_free, pair_of = work.place, terms.order, vertex.is_free, vertex.pair_of
    candidates, found = work.candidates, work.violation
    row, product, rows = work.scratch[0], work.scratch[1], work.rows
    best, way, who, kink, worst = 0.0, 0, -1, -1, 0.0
    for i in range(n):
        j = at_level[i]
        violation = max(lower[j] - s[j], s[j] - upper[j])
        if violation > TOLERANCE:
            length = 0.0
            for r in range(n):
                length += inverse[i, r] * inverse[i, r]
            if violation * violation > best * length:
                best = violation * violation / length
                way, who, worst = (SINK if s[j] < lower[j] else RISE), i, violation
    n_found, largest = 0, 0.0
    for c in range(len(vertex.threshold)):
        if pair_of[c] >= 0 or is_free[c]:
            continue
        above = float(terms.n_per_class)
        for i in range(n_above[c]):
            above -= s[order[c, i]]
        beyond = above - s[order[c, n_above[c]]]
        violation = max(-above, beyond)
        if violation > TOLERANCE:
            candidates[n_found, 0] = c
            candidates[n_found, 1] = -UP if -above >= beyond else -DOWN
            found[n_found] = violation
            n_found += 1
    n_found = find_violations(terms, vertex, work, n_used, n_found, TOLERANCE)
    for i in range(n_found):
        largest = max(largest, found[i])
    for i in range(n_found):
        violation, owner, x = found[i], candidates[i, 0], candidates[i, 1]
        if violation < WORTH * largest or violation * violation <= WORTH * best:
            continue
        if x < 0:
            length, n_rows, ranked = 1.0, 0, order[owner]
            for rank in range(n_above[owner] + (1 if x == -DOWN else 0)):
                rows[n_rows] = place[ranked[rank]]
                n_rows += rows[n_rows] >= 0
            add_rows(inverse, n, rows[:n_rows], product)
        else:
            to = turn_from(vertex, work, owner, x)
            length = work.turn[0] ** 2 + work.turn[1] ** 2 + work.turn[2] ** 2
            turn_at_level(vertex, work, owner, x, to, row)
            times_inverse(inverse, n, row, product)
        for r in range(n):
            length += product[r] * product[r]
        if violation * violation > best * length:
            best = violation * violation / length
            way, who, kink, worst = (-x if x < 0 else TURN), owner, x, violation
    return way, who, kink, worst


@compiled
def set_direction(terms: Terms, vertex: Vertex, work: Work, way: int, who: int, kink: int) -> float:
    """Leave a kink and fill the rates of thresholds and prices; return that of the level."""
    n, row, product = vertex.sizes[0], work.scratch[2], work.scratch[3]
    row[:n] = 0.0
    work.threshold_rate[:] = 0.0
    work.price_rate[:] = 0.0
    if way == UP or way == DOWN:
        rate = 1.0 if way == UP else -1.0
        if way == DOWN:
            vertex.n_above[who] += 1
        vertex.is_free[who] = True
        work.threshold_rate[who] = rate
        for i in range(vertex.n_above[who]):
            at = work.place[terms.order[who, i]]
            if at >= 0:
                row[at] = -rate
    elif way == TURN:
        to = turn_from(vertex, work, who, kink)
        turn_at_level(vertex, work, who, kink, to, row)
        for i in range(n):
            row[i] = -row[i]
        leave(vertex, work, who, kink, to)
        work.threshold_rate[vertex.pairs[who, 0]] = work.turn[0]
        work.threshold_rate[vertex.pairs[who, 1]] = work.turn[1]
        work.price_rate[who] = work.turn[2]
    else:
        row[who] = 1.0 if way == SINK else -1.0
    times_inverse(work.inverse, n, row, product)
    threshold_rate, price_rate, pairs = work.threshold_rate, work.price_rate, vertex.pairs
    owners, vectors = work.owner, work.vector
    for freedom in range(1, n):
        owner, rate = owners[freedom], product[freedom]
        if owner >= 0:
            threshold_rate[owner] = rate
        else:
            pair = -1 - owner
            threshold_rate[pairs[pair, 0]] += rate * vectors[freedom, 0]
            threshold_rate[pairs[pair, 1]] += rate * vectors[freedom, 1]
            price_rate[pair] += rate * vectors[freedom, 2]
    return float(product[0])


@compiled
def set_rates(
    terms: Terms,
    vertex: Vertex,
    work: Work,
    level_rate: float,
) -> tuple[int, int]:
    """Fill the rates of q, and the classes outside pairs and the pairs that move."""
    rate, n_moving, n_pairs = work.rate, 0, 0
    moving, moving_pairs = work.moving, work.moving_pairs
    order, n_above, pair_of = terms.order, vertex.n_above, vertex.pair_of
    active, n_active, regions = work.active, work.n_active, work.region
    threshold_rate, price_rate, pairs = work.threshold_rate, work.price_rate, vertex.pairs
    rate[:] = -level_rate
    for c in range(len(vertex.threshold)):
        x = threshold_rate[c]
        if pair_of[c] >= 0 or x == 0.0:
            continue
        if abs(x) < STILL:
            threshold_rate[c] = 0.0
            continue
        moving[n_moving] = c
        n_moving += 1
        for i in range(n_above[c]):
            rate[order[c, i]] -= x
    for pair in range(vertex.sizes[1]):
        c, e = pairs[pair, 0], pairs[pair, 1]
        x, y, z = threshold_rate[c], threshold_rate[e], price_rate[pair]
        if abs(x) + abs(y) + abs(z) < STILL:
            threshold_rate[c] = threshold_rate[e] = price_rate[pair] = 0.0
            continue
        moving_pairs[n_pairs] = pair
        n_pairs += 1
        for i in range(n_active[pair]):
            j = active[pair, i]
            region = regions[pair, j]
            rate[j] -= x * in_first(region) + y * in_second(region) + z * in_both(region)
    for i in range(vertex.sizes[0]):
        rate[vertex.at_level[i]] = 0.0
    return n_moving, n_pairs


@compiled
def next_pin(terms: Terms, vertex: Vertex, work: Work, c: int) -> float:
    """The step at which a moving threshold meets the similarity of another feature."""
    rate, place = work.threshold_rate[c], vertex.n_above[c]
    if rate > 0.0:
        place -= 1
    if not 0 <= place < terms.ranked.shape[1]:
        return math.inf
    return float((terms.ranked[c, place] - vertex.threshold[c]) / rate)


@compiled
def until_level(q: float, rate: float, s: float, lower: float, upper: float) -> float:
    """The way until q is 0, by the side on which s says that it is; rounding may have moved it."""
    goes = (rate < 0.0) == (s == upper) and rate != 0.0 and lower != upper
    return max(-q / rate, 0.0) if goes else math.inf


@entry_point
def descend(
    terms: Terms,
    lower: FloatArray,
    upper: FloatArray,
    share: FloatArray,
    class_of: IntArray,
    vertex: Vertex,
    work: Work,
    known: FloatArray,
    max_steps: int,
    target: float,
    with_pairs: bool,
) -> tuple[float, int, int]:
    """Move a vertex to the least value of g.

    Parameters
    ----------
    terms : Terms
    lower, upper : ndarray, (n_features,)
        Whether each feature is free (0, 1), decided out (0, 0) or in (1, 1).
    share : ndarray, (n_classes,); class_of : ndarray of int, (n_classes,)
        What share of which class stands there; says which of them may become pairs.
    vertex : Vertex
    work : Work
    known : ndarray
        What ``work.inverse`` holds after a descent of no steps from this vertex, if known.
    max_steps : int
    target : float
        g at which to stop.
    with_pairs : bool
        Whether classes that collide become pairs.

    Returns
    -------
    value : float
        g, but for rounding.
    n_steps : int
    how : int
        OPTIMAL, ON_TARGET, LIMITED or FAILED. Only after OPTIMAL ``work.s`` is a point of the
        linear program.
    """
    value = value_at(terms, lower, upper, vertex, work.q)
    for j in range(len(work.q)):
        work.s[j] = upper[j] if work.q[j] > 0.0 else lower[j]
    if not prepare(terms, vertex, work, known):
        return value, 0, FAILED
    n_steps = unchecked = n_rounds = 0
    how = LIMITED
    while n_steps < max_steps:
        if value <= target:
            how = ON_TARGET
            break
        n_used = find_s(terms, vertex, work)
        if unchecked == CHECKED_AFTER:
            unchecked = 0
            if residual(terms, vertex, work) > RESIDUAL:
                if not invert(terms, vertex, work):
                    return value, n_steps, FAILED
                n_used = find_s(terms, vertex, work)
        way, who, kink, violation = choose(terms, lower, upper, vertex, work, n_used)
        if way == 0:
            n_joined = 0
            if with_pairs and n_rounds < MOST_ROUNDS:
                n_rounds += 1
                n_joined = join_colliding(terms, vertex, work, share, class_of)
            if n_joined < 0:
                return value, n_steps, FAILED
            if n_joined == 0:
                how = OPTIMAL
                break
            continue
        fallen = step(terms, lower, upper, vertex, work, way, who, kink, violation)
        if math.isnan(fallen):
            return value, n_steps, FAILED
        value -= fallen
        n_steps += 1
        unchecked += 1
    keep_labels(vertex, work)
    return value, n_steps, how


@compiled
def join_colliding(
    terms: Terms, vertex: Vertex, work: Work, share: FloatArray, class_of: IntArray
) -> int:
    """Make pairs of classes that collide; return how many, -1 if the vertex is of no use then."""
    n_found = colliding(terms, vertex, work, share, class_of)
    found, wanted = work.colliding, work.is_wanted
    if n_found == 0:
        return 0
    wanted[:] = False
    for i in range(n_found):
        wanted[found[i, 0]] = wanted[found[i, 1]] = True
    keep_labels(vertex, work)
    if dissolve(terms, vertex, work, share) > 0:
        if not prepare(terms, vertex, work, work.matrix[:0]):
            return -1
    n_joined = 0
    for i in range(n_found):
        c, e = found[i, 0], found[i, 1]
        if vertex.pair_of[c] < 0 and vertex.pair_of[e] < 0:
            if not join(terms, vertex, work, c, e):
                return -1
            n_joined += 1
    return n_joined


@compiled
def step(
    terms: Terms,
    lower: FloatArray,
    upper: FloatArray,
    vertex: Vertex,
    work: Work,
    way: int,
    who: int,
    kink: int,
    violation: float,
) -> float:
    """Leave a kink for the next vertex; return what g falls by, NaN if there is none."""
    n_features = len(work.q)
    rate, q, s = work.rate, work.q, work.s
    moving, at_pin, at_level = work.moving, work.until_pin, work.until_level
    at_event, events = work.until_event, work.event
    level_rate = set_direction(terms, vertex, work, way, who, kink)
    n_moving, n_pairs = set_rates(terms, vertex, work, level_rate)
    moving_pairs = work.moving_pairs[:n_pairs]
    if way == SINK or way == RISE:
        j = vertex.at_level[who]
        rate[j], s[j] = (-1.0, lower[j]) if way == SINK else (1.0, upper[j])
        work.place[j] = -1
    for i in range(n_moving):
        at_pin[i] = next_pin(terms, vertex, work, moving[i])
    find_events(terms, vertex, work, moving_pairs, 0.0, at_event, events)
    place_of = work.place
    for j in range(n_features):
        way_to_level = until_level(q[j], rate[j], s[j], lower[j], upper[j])
        at_level[j] = way_to_level if place_of[j] < 0 else math.inf
    first = int(np.argmin(at_level))

    slope, length, fallen = -violation, 0.0, 0.0
    joins = pinned = in_pair = feature = -1
    region = 0
    for _ in range(MOST_EVENTS):
        when, place, pair_place = at_level[first], -1, -1
        for i in range(n_moving):
            if at_pin[i] < when:
                when, place = at_pin[i], i
        for i in range(n_pairs):
            if at_event[i] < when:
                when, pair_place = at_event[i], i
        if when == math.inf:
            return math.nan
        when = max(when, length)
        fallen -= slope * (when - length)
        length = when
        if pair_place >= 0:
            pair = moving_pairs[pair_place]
            j, to = events[pair_place, 0], events[pair_place, 1]
            if j == -1:
                in_pair = pair
                break
            if j == -2:
                watch_again(terms, vertex, work, pair, length)
            else:
                at = work.region[pair, j]
                jump = pair_rate(vertex, work, pair, at) - pair_rate(vertex, work, pair, to)
                stays = work.place[j] >= 0 or pinned_regions(vertex, pair, j) != 0
                if stays or (s[j] > 0.0 and slope + s[j] * jump >= FLAT):
                    in_pair, feature, region = pair, j, to
                    break
                work.region[pair, j] = to
            one = slice(pair_place, pair_place + 1)
            find_events(terms, vertex, work, moving_pairs[one], length, at_event[one], events[one])
            if j == -2:
                continue
        elif place >= 0:
            c = moving[place]
            jump, goes_up = abs(work.threshold_rate[c]), work.threshold_rate[c] > 0.0
            at = vertex.n_above[c] - 1 if goes_up else vertex.n_above[c]
            j = int(terms.order[c, at])
            if work.place[j] >= 0 or (s[j] > 0.0 and slope + s[j] * jump >= FLAT):
                pinned = c
                vertex.n_above[c] = at
                break
            vertex.n_above[c] = at if goes_up else at + 1
            at_pin[place] = next_pin(terms, vertex, work, c)
        else:
            s[first] = lower[first] + upper[first] - s[first]
            slope += (upper[first] - lower[first]) * abs(rate[first])
            at_level[first] = math.inf
            if slope >= FLAT:
                joins = first
                break
            first = int(np.argmin(at_level))
            continue
        # q_j changes its rate
        slope += s[j] * jump
        here = q[j] + rate[j] * length
        rate[j] += jump
        q[j] = here - rate[j] * length
        at_level[j] = length + until_level(here, rate[j], s[j], lower[j], upper[j])
        if j == first:
            first = int(np.argmin(at_level))
        elif at_level[j] < at_level[first]:
            first = j
    else:
        return math.nan

    vertex.level[0] += length * level_rate
    for i in range(n_moving):
        vertex.threshold[moving[i]] += length * work.threshold_rate[moving[i]]
    for i in range(n_pairs):
        move_pair(vertex, work, moving_pairs[i], length)
    for j in range(n_features):
        q[j] += length * rate[j]
    if pinned >= 0:
        vertex.is_free[pinned] = False
        vertex.threshold[pinned] = terms.ranked[pinned, vertex.n_above[pinned]]
    done = exchange(terms, vertex, work, way, who, joins, pinned, in_pair, feature, region)
    return fallen if done else math.nan


@compiled
def pair_rate(vertex: Vertex, work: Work, pair: int, region: int) -> float:
    """What a feature in a region of a moving pair loses."""
    return float(
        work.threshold_rate[vertex.pairs[pair, 0]] * in_first(region)
        + work.threshold_rate[vertex.pairs[pair, 1]] * in_second(region)
        + work.price_rate[pair] * in_both(region)
    )


@compiled
def move_pair(vertex: Vertex, work: Work, pair: int, length: float) -> None:
    """Move t, v and u of a pair."""
    c, e = vertex.pairs[pair, 0], vertex.pairs[pair, 1]
    x, y, z = work.threshold_rate[c], work.threshold_rate[e], work.price_rate[pair]
    vertex.threshold[c] += length * x
    vertex.threshold[e] += length * y
    vertex.price[pair] += length * z
    work.room[pair] -= length * (abs(x) + abs(y) + abs(z))


@compiled
def watch_again(terms: Terms, vertex: Vertex, work: Work, pair: int, length: float) -> None:
    """Gather what is near on the way."""
    move_pair(vertex, work, pair, length)
    watch(terms, vertex, work, pair)
    move_pair(vertex, work, pair, -length)


@compiled
def exchange(
    terms: Terms,
    vertex: Vertex,
    work: Work,
    way: int,
    who: int,
    joins: int,
    pinned: int,
    in_pair: int,
    feature: int,
    region: int,
) -> bool:
    """Bring freedoms, features at the level and the inverse up to date after a step.

    What came is a feature at the level (``joins``), a pinned threshold, or a kink of a pair.
    """
    n, inverse = vertex.sizes[0], work.inverse
    row, product = work.scratch[2], work.scratch[3]
    out, is_back = -1, False  # a freedom that ends; whether what was left has come again
    if pinned >= 0:
        is_back = way <= DOWN and pinned == who
        out = -1 if is_back else work.freedom_of[pinned]
    elif in_pair >= 0:
        normal = work.normal
        if feature < 0:
            vertex.is_zero[in_pair], vertex.price[in_pair] = True, 0.0
            normal[0] = normal[1] = 0.0
            normal[2] = 1.0
        else:
            at = work.region[in_pair, feature]
            normal[0] = in_first(region) - in_first(at)
            normal[1] = in_second(region) - in_second(at)
            normal[2] = in_both(region) - in_both(at)
            if not pin(vertex, work, in_pair, feature, region):
                return False
        turns = way == TURN and who == in_pair
        out = freedoms_across(vertex, work, in_pair, normal, n, turns)
        is_back = out < 0
        if is_back and not turns:
            return False
    sound = True
    if way == SINK or way == RISE:
        if joins >= 0:
            # If it is the one that left, thresholds may have passed it on the way.
            fill_column(terms, vertex, work, joins, row)
            inverse_times(inverse, n, row, product)
            sound = replace_column(inverse, n, who, product)
            vertex.at_level[who] = joins
            work.place[joins] = who
        else:
            sound = delete(inverse, n, out, who)
            forget(work, out)
            move_freedom(work, n - 1, out)
            last = vertex.at_level[n - 1]
            vertex.at_level[who] = last
            vertex.sizes[0] = n - 1
            if who != n - 1:
                work.place[last] = who
    elif not is_back:
        new = out if out >= 0 else n
        if out >= 0:
            forget(work, out)
        if way == TURN:
            work.owner[new] = -1 - who
            copy(work.turn, work.vector[new])
            work.freedoms[who, work.n_freedoms[who]] = new
            work.n_freedoms[who] += 1
        else:
            work.owner[new], work.freedom_of[who] = who, new
        fill_row(terms, vertex, work, new, row)
        times_inverse(inverse, n, row, product)
        if out >= 0:
            sound = replace_row(inverse, n, new, product)
        else:
            column, y = work.scratch[0], work.scratch[1]
            fill_column(terms, vertex, work, joins, column)
            inverse_times(inverse, n, column, y)
            corner = entry(terms, vertex, work, new, joins)
            for i in range(n):
                corner -= row[i] * y[i]
            sound = append(inverse, n, product, y, corner)
            vertex.at_level[n], vertex.sizes[0] = joins, n + 1
            work.place[joins] = n
    if joins >= 0:
        work.q[joins] = 0.0
    if way == TURN and not set_frame(vertex, work, who):
        return False
    if in_pair >= 0 and not set_frame(vertex, work, in_pair):
        return False
    return sound or invert(terms, vertex, work)


@compiled
def forget(work: Work, freedom: int) -> None:
    """Take a freedom from its pair, if it has one."""
    pair = -1 - work.owner[freedom]
    if pair >= 0:
        last = work.n_freedoms[pair] - 1
        for i in range(last):
            if work.freedoms[pair, i] == freedom:
                work.freedoms[pair, i] = work.freedoms[pair, last]
        work.n_freedoms[pair] = last


@compiled
def move_freedom(work: Work, freedom: int, to: int) -> None:
    """Give the last freedom the place of another one."""
    if freedom == to:
        return
    owner = work.owner[freedom]
    work.owner[to] = owner
    copy(work.vector[freedom], work.vector[to])
    if owner >= 0:
        work.freedom_of[owner] = to
        return
    for i in range(work.n_freedoms[-1 - owner]):
        if work.freedoms[-1 - owner, i] == freedom:
            work.freedoms[-1 - owner, i] = to
