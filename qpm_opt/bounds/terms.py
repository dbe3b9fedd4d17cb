"""What the classes gain at most: threshold, pair and split terms and their multipliers.

The gain of a class, theta_c(s), is the least of its threshold inequalities; all terms are those of
:mod:`qpm_opt.bounds.proof`. Right-hand sides are jointly convex in their thresholds, so a convex
combination of several is never better than one term at the mean thresholds (Jensen): every class
needs one threshold, every pair one triple, every split feature one pair of thresholds.

The multipliers are improved by proximal steps at a fractional point (s, Y): a step moves to the
minimiser of right-hand side + (t - t_0)^2 / (2 eta), which is found exactly by one cumulative sum
over the similarities in descending order.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from qpm_opt.bounds.acceleration import compiled_loops
from qpm_opt.bounds.linear_cuts import (
    colliding_pairs,
    is_contrastive,
    pair_terms,
    thresholds_at,
)
from qpm_opt.bounds.linear_terms import pair_gain
from qpm_opt.bounds.projections import simplex_rows
from qpm_opt.bounds.proof import Certificate
from qpm_opt.bounds.region import Region
from qpm_opt.bounds.rows import RowPool
from qpm_opt.validation import BoolArray, FloatArray, IntArray


def proximal_threshold(
    values: FloatArray,
    mass: FloatArray,
    demand: FloatArray,
    center: FloatArray,
    step: FloatArray,
) -> FloatArray:
    """Per row the minimiser of demand t + sum_j (values_j - t)+ mass_j + (t - center)^2 / (2 step).

    Parameters
    ----------
    values : ndarray, (n_rows, n)
        Descending in every row.
    mass : ndarray, (n_rows, n)
        Nonnegative, in the order of ``values``.
    demand, center, step : ndarray, (n_rows,)
        ``step`` is positive.
    """
    rows = np.arange(len(values))
    above = np.zeros((len(values), values.shape[1] + 1))
    np.cumsum(mass, axis=1, out=above[:, 1:])
    # With i values above t, the derivative vanishes at:
    candidate = center[:, None] + step[:, None] * (above - demand[:, None])
    i = np.argmax(candidate[:, :-1] >= values, axis=1)
    none = ~(candidate[rows, i] >= values[rows, i])
    i[none] = values.shape[1]
    highest = np.where(i > 0, values[rows, np.maximum(i - 1, 0)], np.inf)
    moved: FloatArray = np.minimum(candidate[rows, i], highest)
    return moved


def best_threshold(values: FloatArray, mass: FloatArray, demand: FloatArray) -> FloatArray:
    """Per row a minimiser of demand t + sum_j (values_j - t)+ mass_j (arguments as above)."""
    reached = np.cumsum(mass, axis=1) >= demand[:, None] * (1.0 - 1e-12)
    reached[:, -1] = True
    at = np.argmax(reached, axis=1)
    best: FloatArray = values[np.arange(len(values)), at]
    return best


class ClassTerms:
    """Terms that cover every class with total weight 1, over the free features of a region.

    Attributes
    ----------
    threshold : ndarray, (n_classes,)
        Thresholds of the threshold terms.
    classes, features, inside, outside, share : ndarray, (n_splits,)
        Split terms: class, free feature (its place in the region), thresholds, and the share of
        the class it covers; what is left of a class goes to its threshold term.
    pairs : ndarray, (n_pairs, 2); pair_thresholds : ndarray, (n_pairs, 2)
    pair_price, pair_weight : ndarray, (n_pairs,)
        Pair terms; shares are of what they leave of a class.
    """

    def __init__(self, region: Region) -> None:
        self._region = region
        self._k = float(region.problem.n_per_class)
        self._n = len(region.free)
        self._values = region.values
        self._fixed = region.fixed_values
        everything = np.hstack([self._values, self._fixed])
        self._order = np.argsort(-everything, axis=1, kind="stable")
        self._sorted = np.take_along_axis(everything, self._order, axis=1)
        n_classes = len(everything)
        self.threshold = np.zeros(n_classes)
        self.classes = self.features = np.zeros(0, dtype=np.intp)
        self.inside = self.outside = self.share = np.zeros(0)
        self.pairs = np.zeros((0, 2), dtype=np.intp)
        self.pair_thresholds = np.zeros((0, 2))
        self.pair_price = self.pair_weight = np.zeros(0)
        self._curvature = 1.0
        # No threshold lies below as many leading similarities of its class.
        self._depth = self._sorted.shape[1]
        self._cost: tuple[float, FloatArray, FloatArray | None] | None = None

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.threshold)

    @property
    def n_per_class(self) -> int:
        """Features of a class."""
        return self._region.problem.n_per_class

    def start(self, s: FloatArray) -> None:
        """Set the thresholds to the best at s."""
        self.threshold, _ = thresholds_at(self._region, s)

    def take(self, certificate: Certificate) -> None:
        """Take over the thresholds and pairs of another bound on the region."""
        self._cost = None
        self.threshold = self.threshold.copy()
        self.threshold[certificate.threshold_class] = certificate.threshold
        self.pairs = certificate.pair_classes.copy()
        self.pair_thresholds = certificate.pair_thresholds.copy()
        self.pair_price = certificate.pair_price.copy()
        self.pair_weight = certificate.pair_weight.copy()

    def choose_splits(self, s: FloatArray, products: FloatArray, n_per_class: int) -> None:
        """Give every class the splits that lower its bound at (s, Y) most; keep those in use."""
        if not self.n_classes:
            return
        n_ones = self._fixed.shape[1]
        s = np.clip(s, 0.0, 1.0)
        undecided = np.argsort(-s * (1.0 - s), kind="stable")[:MOST_SPLIT_FEATURES]
        undecided = undecided[(s * (1.0 - s))[undecided] > LEAST_UNDECIDED]
        if not len(undecided):
            return
        self._depth = self._sorted.shape[1]
        self._cost = None
        level = s[undecided]
        rows = np.hstack([products[undecided], np.repeat(level[:, None], n_ones, axis=1)])
        rows[np.arange(len(level)), undecided] = level
        all_s = np.concatenate([s, np.ones(n_ones)])
        rows = np.clip(rows, 0.0, np.minimum(level[:, None], all_s))
        classes, features, inside, outside = [], [], [], []
        for c, (t, v, each) in enumerate(self._split_values(rows, all_s - rows, level)):
            mine = np.flatnonzero((self.classes == c) & (self.share > LEAST_SHARE))
            kept = self.features[mine]
            fresh = np.argsort(each, kind="stable")[:n_per_class]
            fresh = fresh[~np.isin(undecided[fresh], kept)][: max(0, n_per_class - len(mine))]
            classes += [c] * (len(mine) + len(fresh))
            features += [*kept, *undecided[fresh]]
            inside += [*self.inside[mine], *t[fresh]]
            outside += [*self.outside[mine], *v[fresh]]
        old = {
            (c, d): share
            for c, d, share in zip(self.classes, self.features, self.share, strict=True)
        }
        first = not len(self.classes)
        self.classes = np.array(classes, dtype=np.intp)
        self.features = np.array(features, dtype=np.intp)
        self.inside, self.outside = np.array(inside), np.array(outside)
        self.share = np.array(
            [old.get(key, 0.0) for key in zip(self.classes, self.features, strict=True)]
        )
        if first:
            counts = np.bincount(self.classes, minlength=self.n_classes)
            self.share = 1.0 / counts[self.classes]

    def _split_values(
        self, inner: FloatArray, outer: FloatArray, level: FloatArray
    ) -> Iterator[tuple[FloatArray, FloatArray, FloatArray]]:
        """Of every class, the best thresholds of splits, inside and outside, and their values.

        Parameters
        ----------
        inner, outer : ndarray, (n_splits, n_features)
            Y_dj and s_j - Y_dj of the features d to be split by.
        level : ndarray, (n_splits,)
            s_d.
        """
        k, loops = self._k, compiled_loops()
        if loops is not None:
            yield from zip(*loops.split_values(self.table, inner, outer, level, k), strict=True)
            return
        for values, order in zip(self._sorted, self._order, strict=True):
            values = np.broadcast_to(values, inner.shape)
            within, without = inner[:, order], outer[:, order]
            t = best_threshold(values, within, k * level)
            v = best_threshold(values, without, k * (1.0 - level))
            each = k * (t * level + v * (1.0 - level))
            each += (np.maximum(values - t[:, None], 0.0) * within).sum(axis=1)
            each += (np.maximum(values - v[:, None], 0.0) * without).sum(axis=1)
            yield t, v, each

    @functools.cached_property
    def table(self) -> Any:
        """The classes as compiled loops take them."""
        loops = compiled_loops()
        assert loops is not None
        return loops.class_table(np.hstack([self._values, self._fixed]), self._order)

    def choose_pairs(self, s: FloatArray) -> None:
        """Add the pairs of classes that lose most at s by what they may share; drop unused ones."""
        s = np.clip(s, 0.0, 1.0)
        kept = self.pair_weight > 0.0
        known = {tuple(pair) for pair in self.pairs[kept].tolist()}
        found = colliding_pairs(self._region, s)
        pairs = np.array([p for p in found.tolist() if tuple(p) not in known], dtype=np.intp)
        if len(pairs):
            terms, worth = pair_terms(self._region, s, pairs)
            _, alone = thresholds_at(self._region, s)
            gain = alone[pairs].sum(axis=1) - worth
            best = np.argsort(-gain, kind="stable")[:MOST_PAIRS]
            best = best[gain[best] > 0.0]
            pairs, terms = pairs[best], terms[best]
        else:
            pairs, terms = self.pairs[:0], np.zeros((0, 3))
        self._cost = None
        self.pairs = np.concatenate([self.pairs[kept], pairs])
        self.pair_thresholds = np.concatenate([self.pair_thresholds[kept], terms[:, :2]])
        self.pair_price = np.concatenate([self.pair_price[kept], terms[:, 2]])
        self.pair_weight = np.concatenate([self.pair_weight[kept], np.zeros(len(pairs))])

    def restricted(self, region: Region, places: IntArray, into: BoolArray) -> ClassTerms:
        """The same terms where features are decided, or on more of them.

        A split by a decided feature becomes the threshold inequality of that side.

        Parameters
        ----------
        region : Region
        places : ndarray, (n_free,)
            The place in it of each free feature of these terms, -1 if it is decided.
        into : ndarray of bool, (n_free,)
            Decided in; the other ones without a place are decided out.
        """
        terms = ClassTerms(region)
        moved = places[self.features]
        gone, c = moved < 0, self.classes
        one_sided = np.where(into[self.features], self.inside, self.outside)
        rest = 1.0 - np.bincount(c, self.share, self.n_classes)
        lost = np.bincount(c[gone], self.share[gone], self.n_classes)
        moment = np.bincount(c[gone], (self.share * one_sided)[gone], self.n_classes)
        mixed = (rest * self.threshold + moment) / np.maximum(rest + lost, ROUNDING)
        terms.threshold = np.where(lost > ROUNDING, mixed, self.threshold)
        keep = ~gone & (self.share > 0.0)
        terms.classes, terms.features = c[keep], moved[keep]
        terms.inside, terms.outside = self.inside[keep], self.outside[keep]
        terms.share = self.share[keep]
        terms.pairs = self.pairs.copy()
        terms.pair_thresholds = self.pair_thresholds.copy()
        terms.pair_price, terms.pair_weight = self.pair_price.copy(), self.pair_weight.copy()
        return terms

    def copy(self) -> ClassTerms:
        """The same terms with multipliers of their own."""
        copied = copy.copy(self)  # no array changes in place
        copied.__dict__.pop("table", None)  # states are many, and make their own if they need it
        return copied

    def multipliers(self, free: IntArray) -> dict[str, Any]:
        """Terms of positive weight, by the field names of a certificate."""
        weight, split_weight = self.weights()
        on, split = np.flatnonzero(weight > 0.0), np.flatnonzero(split_weight > 0.0)
        paired = np.flatnonzero(self.pair_weight > 0.0)
        return {
            "threshold_class": on,
            "threshold": self.threshold[on],
            "threshold_weight": weight[on],
            "pair_classes": self.pairs[paired],
            "pair_thresholds": self.pair_thresholds[paired],
            "pair_price": self.pair_price[paired],
            "pair_weight": self.pair_weight[paired],
            "split_class": self.classes[split],
            "split_feature": free[self.features[split]],
            "split_inside": self.inside[split],
            "split_outside": self.outside[split],
            "split_weight": split_weight[split],
        }

    def left(self) -> FloatArray:
        """What the pairs leave of each class, (n_classes,)."""
        left = np.ones(self.n_classes)
        np.subtract.at(left, self.pairs.ravel(), np.repeat(self.pair_weight, 2))
        left[left < ROUNDING] = 0.0
        return left

    def weights(self) -> tuple[FloatArray, FloatArray]:
        """Weights of threshold terms, (n_classes,), and split terms, (n_splits,)."""
        left = self.left()
        split = self.share * left[self.classes]
        return left * (1.0 - np.bincount(self.classes, self.share, self.n_classes)), split

    def cost(self) -> tuple[float, FloatArray, FloatArray | None]:
        """Right-hand sides as constant + linear @ s + sum_dj products_dj Y_dj.

        ``products``, (n_free, n_free), is symmetric with a zero diagonal; None if there are no
        splits. Not to be changed.
        """
        if self._cost is None:
            self._cost = self._compute_cost()
        return self._cost

    def _compute_cost(self) -> tuple[float, FloatArray, FloatArray | None]:
        k, n = self._k, self._n
        weight, split_weight = self.weights()
        on = np.flatnonzero(weight > 0.0)
        t, w = self.threshold[on, None], weight[on]
        constant = k * float(w @ t[:, 0]) + float(
            w @ np.maximum(self._fixed[on] - t, 0.0).sum(axis=1)
        )
        linear = w @ np.maximum(self._values[on] - t, 0.0)
        if len(self.pairs):
            terms = self.pairs, self.pair_thresholds, self.pair_price
            each = k * self.pair_thresholds.sum(axis=1) + (k - 1.0) * self.pair_price
            each += pair_gain(self._fixed, *terms).sum(axis=1)
            constant += float(self.pair_weight @ each)
            linear += self.pair_weight @ pair_gain(self._values, *terms)
        on = np.flatnonzero(split_weight > 0.0)
        if not len(on):
            return constant, linear, None
        c, d, w = self.classes[on], self.features[on], split_weight[on]
        t, v = self.inside[on, None], self.outside[on, None]
        # Only the leading similarities exceed a threshold; features decided in come after the free.
        order, values = self._order[c, : self._depth], self._sorted[c, : self._depth]
        out = np.maximum(values - v, 0.0)
        difference = np.maximum(values - t, 0.0) - out
        n_all = n + self._fixed.shape[1]
        gain = np.bincount(order.ravel(), (w[:, None] * out).ravel(), n_all)
        table = np.bincount(
            (d[:, None] * n_all + order).ravel(), (w[:, None] * difference).ravel(), n * n_all
        ).reshape(n, n_all)
        constant += k * float(w @ v[:, 0]) + float(gain[n:].sum())
        linear += gain[:n] + np.bincount(d, k * w * (t - v)[:, 0], n)
        linear += table[:, n:].sum(axis=1) + np.diagonal(table)
        products: FloatArray = table[:, :n] / 2.0
        np.fill_diagonal(products, 0.0)
        return constant, linear, products + products.T

    def measure(self) -> None:
        """Note how strongly the thresholds act on each other, for the length of the steps."""
        if self.n_classes:
            above = (self._values > self.threshold[:, None]).astype(np.float64)
            small = above @ above.T if self.n_classes <= self._n else above.T @ above
            self._curvature = max(1.0, float(np.linalg.norm(small, 2)))
            self._depth = min(int(1.5 * self._n_above()) + 16, self._sorted.shape[1])

    def _n_above(self) -> int:
        """Most similarities of a class that are not below one of its thresholds."""
        above = (self._sorted >= self.threshold[:, None]).sum(axis=1)
        least = np.minimum(self.inside, self.outside)
        either = (self._sorted[self.classes] >= least[:, None]).sum(axis=1)
        return max(int(above.max(initial=0)), int(either.max(initial=0)))

    def improve(self, s: FloatArray, products: FloatArray | None, beta: float) -> None:
        """One proximal step of all multipliers at the maximiser of a beta-strongly concave model.

        Parameters
        ----------
        s : ndarray, (n_free,)
        products : ndarray, (n_free, n_free)
            Y with any diagonal; not needed without splits.
        """
        if not self.n_classes:
            return
        self._cost = None
        s = np.maximum(s, 0.0)
        crowded = 1.0 if not len(self.pairs) and not len(self.classes) else CAUTION
        demand = np.full(self.n_classes, self._k)
        step = np.full(self.n_classes, crowded * 3.0 * beta / self._curvature)
        while True:
            masses, values = self._masses(s), self._sorted[:, : self._depth]
            threshold = proximal_threshold(values, masses, demand, self.threshold, step)
            if not self._too_shallow(threshold, slice(None)):
                break
        self.threshold = threshold
        own = np.maximum(values - threshold[:, None], 0.0)
        value = self._k * self.threshold + (own * masses).sum(axis=1)
        if len(self.classes):
            assert products is not None
            value = self._improve_splits(s, products, beta, value)
        if len(self.pairs):
            self._improve_pairs(s, beta, value)

    def descend(self, rows: RowPool, model: Any, n_passes: int) -> None:
        """Let compiled loops move all multipliers, and the prices of rows, to where a model wants.

        Parameters
        ----------
        rows : RowPool
        model : qpm_opt.bounds.block_descent.Model
            At these multipliers; changes with them.
        n_passes : int
        """
        loops = compiled_loops()
        assert loops is not None
        self._cost = None
        counts = np.bincount(self.classes, minlength=self.n_classes)
        terms = loops.Terms(
            threshold=self.threshold.copy(),
            split_start=np.concatenate([[0], np.cumsum(counts)]),
            split_feature=self.features,
            inside=self.inside.copy(),
            outside=self.outside.copy(),
            share=self.share.copy(),
            pairs=self.pairs,
            pair_threshold=self.pair_thresholds.copy(),
            pair_price=self.pair_price.copy(),
            pair_weight=self.pair_weight.copy(),
            pair_is_free=is_contrastive(self._region.problem, self.pairs),
            left=self.left(),
        )
        rows.price = rows.price.copy()
        loops.descend(self.table, terms, rows.table, rows.price, rows.curvature, model, n_passes)
        self.threshold, self.inside, self.outside = terms.threshold, terms.inside, terms.outside
        self._depth = max(self._n_above(), 1)
        # Rounding must not make more than a class of its splits: that would be no bound.
        total = np.bincount(self.classes, terms.share, self.n_classes)
        self.share = terms.share / np.maximum(total, 1.0)[self.classes]
        self.pair_thresholds = terms.pair_threshold
        self.pair_price, self.pair_weight = terms.pair_price, terms.pair_weight

    def _masses(self, s: FloatArray) -> FloatArray:
        everything = np.concatenate([s, np.ones(self._fixed.shape[1])])
        masses: FloatArray = everything[self._order[:, : self._depth]]
        return masses

    def _too_shallow(self, threshold: FloatArray, classes: IntArray | slice) -> bool:
        """Whether a threshold lies below the similarities looked at; then look at all."""
        full = self._sorted.shape[1]
        if self._depth == full or (threshold >= self._sorted[classes, self._depth - 1]).all():
            return False
        self._depth = full
        return True

    def _improve_splits(
        self, s: FloatArray, products: FloatArray, beta: float, value: FloatArray
    ) -> FloatArray:
        """Step of the splits; returns the value of every class at the shares."""
        k, c, d = self._k, self.classes, self.features
        _, weight = self.weights()
        load = np.bincount(d, weight, self._n)[d] + 1e-3
        long = 2.0 * CAUTION * beta
        while True:
            order, values = self._order[c, : self._depth], self._sorted[c, : self._depth]
            # Y_dj for free j, s_d for j = d and for the features decided in.
            inner = np.maximum(products[d[:, None], np.minimum(order, self._n - 1)], 0.0)
            inner = np.where((order == d[:, None]) | (order >= self._n), s[d, None], inner)
            outer = np.maximum(self._masses(s)[c] - inner, 0.0)
            n_in = (values > self.inside[:, None]).sum(axis=1)
            n_out = (values > self.outside[:, None]).sum(axis=1)
            step = long / (n_in * load + 1e-3)
            inside = proximal_threshold(values, inner, k * s[d], self.inside, step)
            step = long / (n_out * load + self._curvature / 3.0)
            outside = proximal_threshold(values, outer, k * (1.0 - s[d]), self.outside, step)
            if not self._too_shallow(np.minimum(inside, outside), c):
                break
        self.inside, self.outside = inside, outside
        high = np.maximum(values - self.inside[:, None], 0.0)
        low = np.maximum(values - self.outside[:, None], 0.0)
        each = k * (self.inside * s[d] + self.outside * (1.0 - s[d]))
        each += (high * inner).sum(axis=1) + (low * outer).sum(axis=1)
        length = ((high - low) ** 2).sum(axis=1) + (low**2).sum(axis=1)
        # The shares of a class and what is left for its threshold term lie on a simplex.
        blocks, members = _blocks(c, self.n_classes)
        scale = np.bincount(c, length, self.n_classes) / np.maximum(
            np.bincount(c, minlength=self.n_classes), 1
        )
        pace = CAUTION * beta / (2.0 * scale + 1e-3)
        table = np.full((self.n_classes, blocks + 1), -np.inf)
        rest = 1.0 - np.bincount(c, self.share, self.n_classes)
        table[:, 0] = rest - pace * value
        table[c, 1 + members] = self.share - pace[c] * each
        table = simplex_rows(table)
        self.share = table[c, 1 + members]
        mean = table[:, 0] * value
        mean += np.bincount(c, self.share * each, self.n_classes)
        return mean

    def _improve_pairs(self, s: FloatArray, beta: float, value: FloatArray) -> None:
        k, everything = self._k, np.hstack([self._values, self._fixed])
        mass = np.concatenate([s, np.ones(self._fixed.shape[1])])
        step = CAUTION * 3.0 * beta / self._curvature
        first, second = everything[self.pairs[:, 0]], everything[self.pairs[:, 1]]
        terms = *self.pair_thresholds.T[:, :, None], self.pair_price[:, None]
        free = is_contrastive(self._region.problem, self.pairs)
        t, v, u = _pair_step(first, second, mass, k, terms, step, free)
        self.pair_thresholds, self.pair_price = np.hstack([t, v]), u[:, 0]
        gain = pair_gain(everything, self.pairs, self.pair_thresholds, self.pair_price)
        worth = k * self.pair_thresholds.sum(axis=1) + (k - 1.0) * self.pair_price + gain @ mass
        pace = CAUTION * beta / (2.0 * (gain**2).sum(axis=1) + 1e-3)
        change = pace * (value[self.pairs].sum(axis=1) - worth)
        self.pair_weight = np.maximum(0.0, self.pair_weight + change)
        # No class is covered more than once.
        for c in np.unique(self.pairs):
            mine = (self.pairs == c).any(axis=1)
            self.pair_weight[mine] /= max(1.0, self.pair_weight[mine].sum())


#: Share of the longest safe step that one of several blocks takes when all of them move at once.
CAUTION = 0.3
#: A class of which less is left is covered by its pairs.
ROUNDING = 1e-12
#: Features that a class may be split by, and how far from 0 and 1 they lie: s (1 - s).
MOST_SPLIT_FEATURES, LEAST_UNDECIDED = 150, 0.02
#: A split with a smaller share makes room for another.
LEAST_SHARE = 0.02
#: Pairs of classes added at a time.
MOST_PAIRS = 40


def _pair_step(
    first: FloatArray,
    second: FloatArray,
    mass: FloatArray,
    k: float,
    terms: tuple[FloatArray, FloatArray, FloatArray],
    step: float,
    free: BoolArray,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """One step of u, t and v in turn, (n_pairs, 1); in each alone a pair is a threshold term.

    Prices u are not negative but where they are ``free``, (n_pairs,).
    """
    t, v, u = terms
    alone = np.maximum(0.0, np.maximum(first - t, second - v))
    u = _step_of_each(first + second - t - v - alone, mass, k - 1.0, u, step)
    u = np.where(free[:, None], u, np.maximum(0.0, u))
    with_t = np.maximum(first, first + second - v - u)
    t = _step_of_each(with_t - np.maximum(0.0, second - v), mass, k, t, step)
    with_v = np.maximum(second, first + second - t - u)
    v = _step_of_each(with_v - np.maximum(0.0, first - t), mass, k, v, step)
    return t, v, u


def _step_of_each(
    values: FloatArray, mass: FloatArray, demand: float, center: FloatArray, step: float
) -> FloatArray:
    order = np.argsort(-values, axis=1, kind="stable")
    values, center = np.take_along_axis(values, order, axis=1), center[:, 0]
    every = np.ones(len(values))
    return proximal_threshold(values, mass[order], demand * every, center, step * every)[:, None]


def _blocks(classes: IntArray, n_classes: int) -> tuple[int, IntArray]:
    """Most entries of a class, and every entry's rank among those of its class."""
    counts = np.bincount(classes, minlength=n_classes)
    order = np.argsort(classes, kind="stable")
    first = np.cumsum(counts) - counts
    rank = np.empty(len(classes), dtype=np.intp)
    rank[order] = np.arange(len(classes)) - first[classes[order]]
    return int(counts.max(initial=0)), rank
