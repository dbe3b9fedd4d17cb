"""Inequalities of the projected linear program, and which of them a point breaks."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from qpm_opt.bounds.linear_terms import Multipliers, pair_gain, threshold_gain
from qpm_opt.bounds.region import Region
from qpm_opt.problem import Problem
from qpm_opt.separation import best_thresholds
from qpm_opt.validation import BoolArray, FloatArray, IntArray

logger = logging.getLogger(__name__)

N_PAIRS = 256
"""Pairs of classes that are looked at in one round."""
N_CONFLICTS, N_SEEDS = 64, 64
"""Conflict sets that enter in one round, and features from which they are grown."""
CONFLICT_LEVELS = (0.5, 0.25, 0.1, 0.0)
"""Sets are grown in the graphs of similarities above these shares of the largest."""
LEAST_OVERLAP, LEAST_CONFLICT = 1e-6, 1e-3
"""Excess from which a pair of classes, or a conflict set, is worth a row."""
_FILL_TOLERANCE = 1e-9  # sums of fractions are not exact


@dataclass(frozen=True, eq=False, kw_only=True)
class Cuts:
    """Inequalities of the linear program, independent of the region.

    Attributes
    ----------
    classes : ndarray of int, (n,); thresholds : ndarray, (n,)
    pairs : ndarray of int, (n_pairs, 2); pair_thresholds : ndarray, (n_pairs, 2)
    pair_price : ndarray, (n_pairs,)
    conflicts : tuple of ndarray of int
        Features of every conflict set, ascending indices of the problem.
    """

    classes: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    thresholds: FloatArray = field(default_factory=lambda: np.zeros(0))
    pairs: IntArray = field(default_factory=lambda: np.zeros((0, 2), dtype=np.intp))
    pair_thresholds: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    pair_price: FloatArray = field(default_factory=lambda: np.zeros(0))
    conflicts: tuple[IntArray, ...] = ()

    @property
    def is_pair(self) -> BoolArray:
        """Of each row of :meth:`inequalities`, whether it is that of a pair."""
        return np.arange(len(self.classes) + len(self.pairs)) >= len(self.classes)

    def and_thresholds(self, classes: IntArray, thresholds: FloatArray) -> Cuts:
        """These and threshold inequalities."""
        return replace(
            self,
            classes=np.concatenate([self.classes, classes]),
            thresholds=np.concatenate([self.thresholds, thresholds]),
        )

    def and_pairs(self, pairs: IntArray, thresholds: FloatArray, price: FloatArray) -> Cuts:
        """These and pair inequalities."""
        return replace(
            self,
            pairs=np.concatenate([self.pairs, pairs]),
            pair_thresholds=np.concatenate([self.pair_thresholds, thresholds]),
            pair_price=np.concatenate([self.pair_price, price]),
        )

    def and_rows_of(self, other: Cuts) -> Cuts:
        """These and the thresholds and pairs of others."""
        return self.and_thresholds(other.classes, other.thresholds).and_pairs(
            other.pairs, other.pair_thresholds, other.pair_price
        )

    def kept(self, threshold: BoolArray, pair: BoolArray, conflict: BoolArray) -> Cuts:
        """Those marked."""
        return Cuts(
            classes=self.classes[threshold],
            thresholds=self.thresholds[threshold],
            pairs=self.pairs[pair],
            pair_thresholds=self.pair_thresholds[pair],
            pair_price=self.pair_price[pair],
            conflicts=tuple(K for K, keep in zip(self.conflicts, conflict, strict=True) if keep),
        )

    def within(self, region: Region) -> Cuts:
        """These, with conflict sets reduced to the free features of the region."""
        sets = (np.intersect1d(K, region.free, assume_unique=True) for K in self.conflicts)
        return replace(self, conflicts=tuple(K for K in sets if len(K) > 1))

    def inequalities(
        self, values: FloatArray, fixed: FloatArray, n_per_class: int
    ) -> tuple[FloatArray, FloatArray, sparse.csr_array]:
        """Those but the conflicts as ``theta <= upper + gain @ s``, thresholds before pairs.

        Parameters
        ----------
        values, fixed : ndarray, (n_classes, n_free), (n_classes, n_ones)
            Similarities of the features that s stands for, and of those decided in.
        n_per_class : int

        Returns
        -------
        gain : ndarray, (n_rows, n_free); upper : ndarray, (n_rows,)
        theta : csr_array, (n_rows, n_classes)
            Which theta are summed.
        """
        k, c, t = n_per_class, self.classes, self.thresholds
        pairs, tv, u = self.pairs, self.pair_thresholds, self.pair_price
        gain = np.concatenate([threshold_gain(values[c], t), pair_gain(values, pairs, tv, u)])
        upper = np.concatenate(
            [
                k * t + threshold_gain(fixed[c], t).sum(axis=1),
                k * tv.sum(axis=1) + (k - 1) * u + pair_gain(fixed, pairs, tv, u).sum(axis=1),
            ]
        )
        row = np.arange(len(upper))
        theta = _incidence(
            np.concatenate([row[: len(c)], np.repeat(row[len(c) :], 2)]),
            np.concatenate([c, pairs.ravel()]),
            (len(upper), len(values)),
        )
        return gain, upper, theta


def averaged(
    cuts: Cuts, threshold_dual: FloatArray, pair_dual: FloatArray, reference: FloatArray
) -> Multipliers:
    """One term for each class and each pair: the means of the inequalities by their duals.

    Parameters
    ----------
    cuts : Cuts
    threshold_dual, pair_dual : ndarray
        Not negative; of the program in which every theta is worth 1.
    reference : ndarray, (n_classes,)
        Thresholds of classes without any.
    """
    n_classes = len(reference)
    weight = np.bincount(cuts.classes, threshold_dual, n_classes)
    mean = np.bincount(cuts.classes, threshold_dual * cuts.thresholds, n_classes)
    threshold = np.where(weight > 0.0, mean / np.where(weight > 0.0, weight, 1.0), reference)
    on = pair_dual > 0.0
    pairs, place = np.unique(cuts.pairs[on], axis=0, return_inverse=True)
    pair_weight = np.bincount(place.ravel(), pair_dual[on], len(pairs))
    terms = np.column_stack([cuts.pair_thresholds, cuts.pair_price])[on]
    mean_terms = np.zeros((len(pairs), 3))
    np.add.at(mean_terms, place.ravel(), pair_dual[on, None] * terms)
    mean_terms /= pair_weight[:, None]
    # Weights of a class sum to 1, but for the tolerance of the linear program.
    load = np.bincount(pairs.ravel(), np.repeat(pair_weight, 2), n_classes)
    pair_weight = pair_weight / np.maximum(load, 1.0)[pairs].max(axis=1, initial=1.0)
    load = np.bincount(pairs.ravel(), np.repeat(pair_weight, 2), n_classes)
    return Multipliers(
        threshold=threshold,
        threshold_weight=np.maximum(1.0 - load, 0.0),
        pairs=pairs,
        pair_thresholds=mean_terms[:, :2],
        pair_price=mean_terms[:, 2],
        pair_weight=pair_weight,
    )


def thresholds_at(region: Region, s: FloatArray) -> tuple[FloatArray, FloatArray]:
    """For each class the tightest threshold at s, and the gain it allows there."""
    return best_thresholds(*_present(region, s), region.problem.n_per_class)


def colliding_pairs(region: Region, s: FloatArray) -> IntArray:
    """Pairs of classes whose best fractional sets at s share what they may not, (n_pairs, 2).

    That is more than k - 1 if classes must differ, and for contrastive pairs also less.
    """
    k, problem = region.problem.n_per_class, region.problem
    _, mass, order, filled = _ranked(region, s)
    taken = np.diff(np.minimum(filled, k), axis=1, prepend=0.0)
    used = np.zeros_like(taken)
    np.put_along_axis(used, order, taken, axis=1)
    shared = np.triu((used / mass) @ used.T, 1)
    excess = shared - (k - 1) if problem.distinct else np.zeros_like(shared)
    c, e = problem.pairs.T
    excess[c, e] = np.abs(shared[c, e] - (k - 1))
    first, second = np.nonzero(excess > LEAST_OVERLAP)
    most = np.argsort(-excess[first, second], kind="stable")[:N_PAIRS]
    return np.stack([first[most], second[most]], axis=1)


def may_collide(problem: Problem) -> bool:
    """Whether there are pair terms: classes that must differ, or contrastive pairs."""
    return problem.n_classes > 1 and (problem.distinct or len(problem.pairs) > 0)


def is_contrastive(problem: Problem, pairs: IntArray) -> BoolArray:
    """Which of some pairs of classes, (n_pairs, 2), are contrastive."""
    n = problem.n_classes
    return np.isin(np.sort(pairs, axis=1) @ [n, 1], problem.pairs @ [n, 1])


def pair_terms(region: Region, s: FloatArray, pairs: IntArray) -> tuple[FloatArray, FloatArray]:
    """Tightest pair terms (t, v, u) at s, (n_pairs, 3), and the gain each allows there.

    One linear program for all pairs: every feature's mass goes to the first class, the second, or
    both, with at most k - 1 to both, or exactly so many for contrastive pairs; its duals are the
    terms. Of the features only those are in it that a class with one unit less elsewhere may want,
    and for contrastive pairs those that both together may.
    """
    k, n_pairs = region.problem.n_per_class, len(pairs)
    values, mass, order, filled = _ranked(region, s)
    wanted = np.zeros(values.shape, dtype=bool)
    before = filled - mass[order]
    np.put_along_axis(wanted, order, before < k + 1, axis=1)
    exact = is_contrastive(region.problem, pairs)
    together = np.zeros((n_pairs, len(mass)), dtype=bool)
    both_values = values[pairs[exact, 0]] + values[pairs[exact, 1]]
    by_both = np.argsort(-both_values, axis=1, kind="stable")
    before = np.cumsum(mass[by_both], axis=1) - mass[by_both]
    of_exact = np.zeros(by_both.shape, dtype=bool)
    np.put_along_axis(of_exact, by_both, before < k + 1, axis=1)
    together[exact] = of_exact
    pair, j = np.nonzero(wanted[pairs[:, 0]] | wanted[pairs[:, 1]] | together)
    reference, _ = best_thresholds(values, mass, k)
    first = (values - reference[:, None])[pairs[pair, 0], j]
    second = (values - reference[:, None])[pairs[pair, 1], j]
    unit = max(float(np.abs(first).max()), float(np.abs(second).max())) or 1.0
    n, entry = len(j), np.arange(len(j))
    only_first, only_second, both = entry, n + entry, 2 * n + entry
    demand = _incidence(
        np.concatenate([pair, pair, n_pairs + pair, n_pairs + pair]),
        np.concatenate([only_first, both, only_second, both]),
        (2 * n_pairs, 3 * n),
    )
    shared = _incidence(pair, both, (n_pairs, 3 * n))
    limit = _incidence(np.tile(entry, 3), np.arange(3 * n), (n, 3 * n))
    result = linprog(  # type: ignore[call-overload]  # its stubs know no sparse arrays
        -np.concatenate([first, second, first + second]) / unit,
        A_ub=sparse.vstack([shared[~exact], limit]),
        b_ub=np.concatenate([np.full((~exact).sum(), k - 1.0), mass[j]]),
        A_eq=sparse.vstack([demand, shared[exact]]),
        b_eq=np.concatenate([np.full(2 * n_pairs, float(k)), np.full(exact.sum(), k - 1.0)]),
        method="highs-ds",
    )
    if result.status != 0:
        logger.debug("pair terms: %s", result.message)
        return np.zeros((n_pairs, 3)), np.full(n_pairs, np.inf)
    dual = -unit * result.eqlin.marginals
    thresholds = reference[pairs] + dual[: 2 * n_pairs].reshape(2, n_pairs).T
    price = np.empty(n_pairs)
    price[exact] = dual[2 * n_pairs :]
    price[~exact] = np.maximum(-unit * result.ineqlin.marginals[: (~exact).sum()], 0.0)
    worth = k * thresholds.sum(axis=1) + (k - 1) * price
    worth = worth + pair_gain(values, pairs, thresholds, price) @ mass
    return np.column_stack([thresholds, price]), worth


def conflict_sets(
    region: Region, s: FloatArray, first: IntArray, second: IntArray, products: FloatArray
) -> tuple[list[IntArray], float]:
    """Sets K of features with R > 0 among them and sum_K s - sum_(i < j in K) Y_ij > 1.

    Parameters
    ----------
    s : ndarray, (n_free,)
    first, second : ndarray of int, (n_products,)
        Pairs i, j (places in the region) whose product Y_ij is in the linear program.
    products : ndarray, (n_products,)
        Y_ij; those of other pairs are 0.

    Returns
    -------
    sets : list of ndarray of int
        Ascending indices of the problem.
    excess : float
        By how much the sum exceeds 1, times the least similarity in the set, over all sets.
    """
    support = np.flatnonzero(s > _FILL_TOLERANCE)
    Y = np.zeros((len(s), len(s)))
    Y[first, second] = Y[second, first] = products
    Y, R, mass = (
        Y[np.ix_(support, support)],
        region.similarity[np.ix_(support, support)],
        s[support],
    )
    found: dict[bytes, tuple[float, IntArray]] = {}
    for level in CONFLICT_LEVELS:
        linked = level * R.max(initial=0.0) < R
        for seed in np.argsort(-mass, kind="stable")[:N_SEEDS].tolist():
            members, excess = _grown(seed, linked, mass, Y)
            if excess > LEAST_CONFLICT:
                K = np.sort(region.free[support[members]])
                least = R[np.ix_(members, members)][np.triu_indices(len(members), 1)].min()
                found.setdefault(K.tobytes(), (excess * float(least), K))
    best = sorted(found.values(), key=lambda entry: -entry[0])[:N_CONFLICTS]
    return [K for _, K in best], sum(worth for worth, _ in best)


def _grown(
    seed: int, linked: BoolArray, mass: FloatArray, Y: FloatArray
) -> tuple[list[int], float]:
    """A set grown greedily from one feature, and sum s - sum Y - 1 of it."""
    members, excess = [seed], mass[seed] - 1.0
    gain = np.where(linked[seed], mass - Y[seed], -np.inf)
    while gain.size and gain[best := int(np.argmax(gain))] > 0.0:
        members.append(best)
        excess += gain[best]
        gain = np.where(linked[best], gain - Y[best], -np.inf)
    return members, float(excess)


def _present(region: Region, s: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Similarities and masses of the features present at s, those decided in included."""
    support = np.flatnonzero(s > 0.0)
    values = np.concatenate([region.values[:, support], region.fixed_values], axis=1)
    return values, np.concatenate([s[support], np.ones(len(region.ones))])


def _ranked(region: Region, s: FloatArray) -> tuple[FloatArray, FloatArray, IntArray, FloatArray]:
    """What is present at s, its order in every class, and the mass up to each in that order."""
    values, mass = _present(region, s)
    order = np.argsort(-values, axis=1, kind="stable")
    return values, mass, order, np.cumsum(mass[order], axis=1)


def _incidence(row: IntArray, column: IntArray, shape: tuple[int, int]) -> sparse.csr_array:
    return sparse.csr_array((np.ones(len(row)), (row, column)), shape=shape)
