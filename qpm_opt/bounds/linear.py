"""The projected linear bound: thresholds, classes that must differ, conflicts of features.

Over the selection s alone a class gains theta_c(s), the sum of its ``n_per_class`` largest
similarities, which is concave in s and the least of its threshold inequalities. A linear program
over the inequalities found so far gives a point s; the inequalities it breaks most are added until
none is left. The bound itself never comes from the linear program: its row duals are averaged to
one threshold for each class (one triple for each pair of classes), which by convexity can only
lower it, and the value is computed anew from these multipliers. Any multipliers give a valid bound,
so a linear program that fails or is cut short costs strength and nothing else.

References
----------
Duran-Mateluna, Ales, Elloumi, An efficient Benders decomposition for the p-median problem, EJOR 308
(2023): the projection, for one feature a class. Padberg, The boolean quadric polytope, Math. Prog.
45 (1989): clique inequalities.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from qpm_opt.bounds.base import Bound
from qpm_opt.bounds.linear_cuts import (
    Cuts,
    averaged,
    colliding_pairs,
    conflict_sets,
    may_collide,
    pair_terms,
    thresholds_at,
)
from qpm_opt.bounds.linear_terms import Multipliers, evaluate, threshold_gain
from qpm_opt.bounds.region import Region
from qpm_opt.validation import FloatArray, IntArray

logger = logging.getLogger(__name__)

MAX_ROUNDS = 100
"""Linear programs of one bound."""
N_STARTS = 8
"""Points at which thresholds are taken before the first linear program."""
N_COLUMNS, COLUMNS_PER_SELECTED = 256, 4
"""Features in the first linear program: so many, and so many for each that is to be selected."""
ACCURACY = 1e-8
"""Violation of all cuts together at which rounds end, relative to the bound."""
NEARLY = 1e4
"""Multiple of that violation below which pairs and conflicts are separated."""
PATIENCE, STALL = 3, 3e-3
"""Rounds end if so many lower the bound by less than this share of its distance to the target."""
FEASIBILITY = 1e-9
"""Tolerance of the linear programs, whose coefficients are scaled to 1."""
SLACK = 1e-3
"""Rows with less slack than this stay, whatever their dual."""


BASIC = 1
"""Status of a basic variable in HiGHS; the others tell at which of its bounds a variable is."""


@dataclass(frozen=True, eq=False)
class Basis:
    """A basis of the simplex method.

    Attributes
    ----------
    features : ndarray of int, (n_features,)
        Ascending indices of the problem.
    columns : ndarray of int8, (n_features + n_classes,)
        Status of the s of each feature and the theta of each class.
    rows : ndarray of int8
        Status of the sum of s, of the thresholds, of the pairs.
    """

    features: IntArray
    columns: NDArray[np.int8]
    rows: NDArray[np.int8]

    def on(self, features: IntArray) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
        """Columns and rows with some of the features alone."""
        kept = np.ones(len(self.columns), dtype=bool)
        kept[: len(self.features)] = np.isin(self.features, features)
        return self.columns[kept], self.rows


@dataclass(frozen=True, eq=False)
class LinearState:
    """Where the bound of a part of a region starts from.

    The basis, if there is one, belongs to the thresholds and pairs of the cuts.
    """

    cuts: Cuts
    multipliers: Multipliers
    basis: Basis | None = None


def linear_bound(
    region: Region,
    *,
    state: LinearState | None = None,
    target: float = -math.inf,
    max_rounds: int = MAX_ROUNDS,
    deadline: float = math.inf,
) -> Bound | None:
    """Upper bound on a region by the projected linear program.

    Parameters
    ----------
    region : Region
        Not empty.
    state : LinearState, optional
        ``Bound.state`` of a region that contains this one.
    target : float
        Stop as soon as the bound is as low as this.
    max_rounds : int
        Linear programs solved at most. Without any, thresholds are those at the points of a few
        steps of the Frank-Wolfe method, or the ones of ``state``.
    deadline : float, optional
        Value of ``time.perf_counter()`` from which no linear program begins or goes on.

    Returns
    -------
    Bound or None
        None if free features have negative similarities, of which this bound knows nothing.
        ``Bound.state`` is a :class:`LinearState`.

    Raises
    ------
    ValueError
        If the region is empty.
    """
    if region.is_empty:
        raise ValueError("The region is empty: no selection is left to bound.")
    if has_similarities(region) and region.similarity.min() < 0.0:
        return None
    rounds = _Rounds(region, state, deadline)
    values = [rounds.form.value]
    while values[-1] > target and len(values) <= max_rounds and region.single is None:
        if time.perf_counter() >= deadline:
            break
        worth_another = rounds.improve(deadline)
        values.append(rounds.form.value)
        stalled = (
            target > -math.inf
            and len(values) > PATIENCE
            and values[-1 - PATIENCE] - values[-1] < STALL * (values[-1] - target)
        )
        if stalled or not worth_another:
            break
    form, multipliers = rounds.form, rounds.multipliers
    return Bound(
        value=form.value,
        certificate=multipliers.certificate(region),
        price_in=form.price_in,
        price_out=form.price_out,
        s=rounds.s,
        state=LinearState(rounds.cuts, multipliers),
    )


def has_similarities(region: Region) -> bool:
    """Whether any two free features have a similarity other than zero."""
    # The second half copies a matrix.
    return len(region.problem.similar_pairs[0]) > 0 and bool(region.similarity.any())


class _Rounds:
    """Cutting planes on one region, with the best multipliers so far.

    Attributes
    ----------
    cuts : Cuts
    multipliers, form : Multipliers, LinearForm
        Those of the lowest value.
    s : ndarray, (n_free,)
        Last point.
    """

    def __init__(self, region: Region, state: LinearState | None, deadline: float) -> None:
        self.region = region
        n, m = len(region.free), region.n_left
        self.s = np.full(n, m / max(n, 1))
        self._may_collide = may_collide(region.problem)
        self._has_conflicts = has_similarities(region)
        if state is None:
            self.cuts = Cuts()
            self._start(deadline)
        else:
            self.cuts = state.cuts.within(region)
            multipliers = _restricted(state.multipliers, region)
            self.multipliers, self.form = multipliers, evaluate(region, multipliers)
        # Features that are worth little at these multipliers join when their price asks for it.
        n_columns = min(n, max(N_COLUMNS, COLUMNS_PER_SELECTED * m))
        self._columns = np.sort(np.argsort(-self.form.gain, kind="stable")[:n_columns])

    def _start(self, deadline: float) -> None:
        """Thresholds at the points of a few steps of the Frank-Wolfe method."""
        n, m = len(self.region.free), self.region.n_left
        n_classes = self.region.problem.n_classes
        every, weight = np.arange(n_classes), np.ones(n_classes)
        for step in range(N_STARTS):
            threshold, _ = thresholds_at(self.region, self.s)
            self.cuts = self.cuts.and_thresholds(every, threshold)
            multipliers = Multipliers(threshold=threshold, threshold_weight=weight)
            form = evaluate(self.region, multipliers)
            if step == 0 or form.value < self.form.value:
                self.multipliers, self.form = multipliers, form
            if time.perf_counter() >= deadline:
                break
            vertex = np.zeros(n)
            vertex[np.argsort(-form.gain, kind="stable")[:m]] = 1.0
            self.s = self.s + 2.0 / (step + 3.0) * (vertex - self.s)

    def improve(self, deadline: float) -> bool:
        """Solve one linear program and cut its point off; return whether another is worth it."""
        program = _Program(self.region, self.cuts, self._columns, self.multipliers.threshold)
        solution = program.solve(deadline)
        if solution is None:
            return False
        multipliers = program.multipliers(solution)
        form = evaluate(self.region, multipliers)
        if form.value < self.form.value:
            self.multipliers, self.form = multipliers, form
        self.s = solution.s
        enter = form.gain > solution.level
        enter[self._columns] = False
        self._columns = np.union1d(self._columns, np.flatnonzero(enter))
        self._purge(solution)
        tolerance = ACCURACY * max(abs(form.value), program.unit)
        broken = self._separate(program, solution, tolerance)
        return broken > tolerance or bool(enter.any())

    def _purge(self, solution: _Solution) -> None:
        """Drop the rows with slack and without price."""
        dual = (solution.threshold_dual, solution.pair_dual, solution.conflict_dual)
        ends = np.cumsum([len(part) for part in dual])[:-1]
        tight = np.split(solution.slack < SLACK, ends)
        keep = [t | (d > 0.0) for t, d in zip(tight, dual, strict=True)]
        self.cuts = self.cuts.kept(*keep)

    def _separate(self, program: _Program, solution: _Solution, tolerance: float) -> float:
        """Add the inequalities broken most; return by how much they are broken together."""
        each = tolerance / (1.0 + self.region.problem.n_classes)
        threshold, value = thresholds_at(self.region, self.s)
        excess = solution.theta - value
        broken = np.flatnonzero(excess > each)
        self.cuts = self.cuts.and_thresholds(broken, threshold[broken])
        total = float(excess[broken].sum())
        if total > NEARLY * tolerance:
            return total  # the other cuts build on thresholds that are nearly right
        if self._may_collide:
            found = colliding_pairs(self.region, self.s)
            if len(found):
                terms, worth = pair_terms(self.region, self.s, found)
                excess = solution.theta[found].sum(axis=1) - worth
                on = excess > each
                self.cuts = self.cuts.and_pairs(found[on], terms[on, :2], terms[on, 2])
                total += float(excess[on].sum())
        if self._has_conflicts:
            sets, excess_of_sets = conflict_sets(
                self.region, self.s, program.first, program.second, solution.products
            )
            self.cuts = replace(self.cuts, conflicts=(*self.cuts.conflicts, *sets))
            total += excess_of_sets
        return total


@dataclass(frozen=True, eq=False)
class _Solution:
    """A point of the linear program and its duals.

    Attributes
    ----------
    s : ndarray, (n_free,); theta : ndarray, (n_classes,); products : ndarray, (n_products,)
    level : float
        Price of one more feature.
    threshold_dual, pair_dual, conflict_dual : ndarray
        One entry for each cut, not negative.
    slack : ndarray
        Of the rows in that order, relative to the unit.
    """

    s: FloatArray
    theta: FloatArray
    products: FloatArray
    level: float
    threshold_dual: FloatArray
    pair_dual: FloatArray
    conflict_dual: FloatArray
    slack: FloatArray


class _Program:
    """The linear program over some features: variables s, theta, and Y_ij within conflict sets.

    theta counts from its value at reference thresholds without free features, and everything is
    divided by ``unit``, so that coefficients are at most 1.
    """

    def __init__(
        self, region: Region, cuts: Cuts, columns: IntArray, reference: FloatArray
    ) -> None:
        self._region, self._cuts, self._reference = region, cuts, reference
        sets = [np.searchsorted(region.free, K) for K in cuts.conflicts]
        self._columns = np.unique(np.concatenate([columns, *sets]))
        corners = [K[np.stack(np.triu_indices(len(K), 1))] for K in sets]
        codes = np.concatenate([i * len(region.free) + j for i, j in corners] or [columns[:0]])
        known, self._product = np.unique(codes, return_inverse=True)
        self.first, self.second = np.divmod(known, max(len(region.free), 1))
        self._sets, self._corner_set = (
            sets,
            np.repeat(np.arange(len(sets)), [i.size for i, _ in corners]),
        )

        k, fixed = region.problem.n_per_class, region.fixed_values
        values, profit = region.values[:, self._columns], region.linear[self._columns]
        gain, upper, self._theta = cuts.inequalities(values, fixed, k)
        self._base = k * reference + threshold_gain(fixed, reference).sum(axis=1)
        self._gain, self._upper = gain, upper - self._theta @ self._base
        self._shift = float(np.median(profit)) if profit.size else 0.0
        self._profit = profit - self._shift
        self.unit = max(gain.max(initial=0.0), np.abs(self._profit).max(initial=0.0)) or 1.0

    def solve(self, deadline: float) -> _Solution | None:
        """The optimum; None if there is none to be had, or not in time."""
        cuts, region = self._cuts, self._region
        n, n_classes, n_products = len(self._columns), len(self._base), len(self.first)
        n_thresholds, n_pairs, n_sets = len(cuts.classes), len(cuts.pairs), len(self._sets)
        members = sparse.csr_array(
            (
                np.ones(sum(map(len, self._sets))),
                (
                    np.repeat(np.arange(n_sets), [len(K) for K in self._sets]),
                    np.searchsorted(
                        self._columns, np.concatenate([*self._sets, self._columns[:0]])
                    ),
                ),
            ),
            shape=(n_sets, n),
        )
        products = sparse.csr_array(
            (-np.ones(len(self._product)), (self._corner_set, self._product)),
            shape=(n_sets, n_products),
        )
        penalty = region.similarity[self.first, self.second]
        lower, upper = np.zeros(n + n_classes + n_products), np.ones(n + n_classes + n_products)
        lower[n : n + n_classes], upper[n : n + n_classes] = -np.inf, np.inf
        upper[n + n_classes :] = np.inf
        options: dict[str, Any] = {
            "primal_feasibility_tolerance": FEASIBILITY,
            "dual_feasibility_tolerance": FEASIBILITY,
        }
        if math.isfinite(deadline):
            options["time_limit"] = max(0.0, deadline - time.perf_counter())
        result = linprog(  # type: ignore[call-overload]  # its stubs know no sparse arrays
            np.concatenate([-self._profit, np.full(n_classes, -self.unit), penalty]) / self.unit,
            A_ub=sparse.block_array(
                [
                    [sparse.csr_array(-self._gain / self.unit), self._theta, None],
                    [members, None, products],
                ],
                format="csr",
            ),
            b_ub=np.concatenate([self._upper / self.unit, np.ones(n_sets)]),
            A_eq=sparse.csr_array(np.arange(len(lower))[None] < n, dtype=np.float64),
            b_eq=[region.n_left],
            bounds=np.column_stack([lower, upper]),
            method="highs-ds",
            options=options,
        )
        if result.status != 0:
            logger.debug("linear program: %s", result.message)
            return None
        s = np.zeros(len(region.free))
        s[self._columns] = np.clip(result.x[:n], 0.0, 1.0)
        dual = np.split(
            np.maximum(-result.ineqlin.marginals, 0.0), [n_thresholds, n_thresholds + n_pairs]
        )
        return _Solution(
            s=s,
            theta=self._base + self.unit * result.x[n : n + n_classes],
            products=result.x[n + n_classes :],
            level=self._shift - self.unit * float(result.eqlin.marginals[0]),
            threshold_dual=dual[0],
            pair_dual=dual[1],
            conflict_dual=self.unit * dual[2],
            slack=result.slack,
        )

    def multipliers(self, solution: _Solution) -> Multipliers:
        """One term for each class and each pair: the means of those in the program."""
        cuts = self._cuts
        used = np.flatnonzero(solution.conflict_dual)
        return replace(
            averaged(cuts, solution.threshold_dual, solution.pair_dual, self._reference),
            conflicts=tuple(cuts.conflicts[i] for i in used),
            conflict_price=self._allowed(solution.conflict_dual)[used],
        )

    def _allowed(self, price: FloatArray) -> FloatArray:
        """Prices of the conflict sets, lowered so that those on a pair sum to at most R_ij."""
        if not len(price):
            return price
        penalty = self._region.similarity[self.first, self.second]
        load = np.bincount(self._product, price[self._corner_set], len(penalty))
        share = np.minimum(1.0, penalty / np.where(load > 0.0, load, 1.0))
        share = np.where(load > penalty, share * (1.0 - 1e-12), 1.0)
        least = np.ones(len(price))
        np.minimum.at(least, self._corner_set, share[self._product])
        return price * least


def _restricted(multipliers: Multipliers, region: Region) -> Multipliers:
    """The same multipliers with conflict sets of free features only."""
    sets = [np.intersect1d(K, region.free, assume_unique=True) for K in multipliers.conflicts]
    on = [i for i, K in enumerate(sets) if len(K) > 1]
    return replace(
        multipliers,
        conflicts=tuple(sets[i] for i in on),
        conflict_price=multipliers.conflict_price[on],
    )
