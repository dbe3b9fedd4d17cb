"""Doubly nonnegative relaxation with terms and rows, by an alternating direction method.

The relaxation is over M = [[1, s'], [s, Y]], of order n + 1 for n free features, m of which are to
be selected: M positive semidefinite, diag(Y) = s, Y e = m s, sum(s) = m, Y >= 0. M annihilates
(m, -e), so one block projects onto that face and the eigenvalues onto the simplex of sum m + 1. The
other block, X, is nonnegative off the diagonal of Y, ties X_0j = X_j0 = X_jj = s_j, and maximises
the terms of the classes (:mod:`qpm_opt.bounds.terms`) less the rows (:mod:`qpm_opt.bounds.rows`);
their multipliers take a few proximal steps each time. With a dual step of length one the multiplier
T of X = M satisfies every condition of a certificate at any iteration, so every iterate gives a
bound (:mod:`qpm_opt.bounds.proof`). Over-relaxation replaces M in the step of X and T, which keeps
that property.

Source: D. Oliveira, H. Wolkowicz, Y. Xu, ADMM for the SDP relaxation of the QAP, Mathematical
Programming Computation 10 (2018); triangle rows as in N. Krislock, J. Malick, F. Roupin, BiqCrunch,
ACM Transactions on Mathematical Software 43 (2017).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qpm_opt.bounds.acceleration import compiled_loops
from qpm_opt.bounds.base import Bound
from qpm_opt.bounds.linear_cuts import may_collide
from qpm_opt.bounds.projections import Face, capped_simplex
from qpm_opt.bounds.proof import Certificate
from qpm_opt.bounds.region import Region
from qpm_opt.bounds.rows import RowPool, Rows
from qpm_opt.bounds.terms import ClassTerms
from qpm_opt.validation import FloatArray, IntArray

#: Iterations between two evaluations of the bound, and between two separations of rows, by NumPy
#: and by compiled loops, which find and price them several times as fast.
PERIOD, REFRESH, QUICK_REFRESH = 20, 60, 20
#: Multiplier steps in an iteration, with and without splits and rows, plus one.
N_INNER, N_THRESHOLD = 2, 8
#: Passes over all multipliers in an iteration, by compiled loops.
N_PASSES = 2
#: Over-relaxation.
RELAXATION = 1.8
#: From this order on iterations are in single precision; bounds never are.
LARGE = 250
#: The penalty changes when one residual is so many times the other, by NumPy and by compiled
#: loops, and by no larger factor than the last at a time.
APART, QUICK_APART, LONGEST = 2.0, 4.0, 1.5
#: Seconds between two reports.
REPORT_EVERY = 5.0
#: Splits of a class.
N_SPLITS = 6
#: Share of the penalty that is left when features are decided: a low one spares the multipliers,
#: which compiled loops adapt sooner.
PENALTY_KEPT, QUICK_PENALTY_KEPT = 0.1, 0.2
#: Terms and rows are added when both residuals, relative to |M|, are lower.
SETTLED = 2e-3
#: Features of which a solution has less are in no core.
CORE_VALUE = 2e-3


@dataclass(frozen=True)
class Effort:
    """When to stop: ``window`` iterations have lowered the bound by less than ``share`` of its gap.

    The gap is that to the cutoff, but at most ``most`` of the bound.
    """

    window: int = 120
    share: float = 0.01
    most: float = 0.01


@dataclass(eq=False)
class State:
    """Iterate and multipliers, to go on from on another region."""

    free: IntArray
    X: FloatArray
    T: FloatArray
    beta: float
    terms: ClassTerms
    rows: RowPool
    refined: bool
    reward: FloatArray | None = None
    """Reward of the free features that the iterate is used to."""

    def spread(self, region: Region, around: FloatArray, places: IntArray) -> State:
        """The same on a larger region, of which no other feature is selected.

        ``places`` are those of this state's features among the features of ``region``, and
        ``around`` is T there, for all that this state does not have. No reward is kept.
        """
        n = len(region.free)
        into = np.zeros(len(places), dtype=bool)
        inside = np.concatenate([[0], places + 1])
        X, T = np.zeros_like(around), around.copy()
        X[np.ix_(inside, inside)] = self.X
        T[np.ix_(inside, inside)] = self.T
        return State(
            region.free,
            X,
            T,
            self.beta,
            self.terms.restricted(region, places, into),
            self.rows.restricted(places, into, n),
            self.refined,
        )


def semidefinite_bound(
    region: Region,
    *,
    cutoff: float = -math.inf,
    closes: Callable[[float], bool] | None = None,
    state: State | None = None,
    start: Certificate | None = None,
    effort: Effort | None = None,
    max_steps: int | None = None,
    deadline: float = math.inf,
    on_bound: Callable[[Bound], object] | None = None,
) -> Bound:
    """Upper bound on the objective over a region.

    Parameters
    ----------
    region : Region
        With at least two free features, of which at least one and not all are to be selected.
    cutoff : float
        Value of interest.
    closes : callable, optional
        Whether a bound is low enough to stop, as any below the cutoff is; by default, if it is
        not above the cutoff.
    state : State, optional
        ``Bound.state`` of a region that has features in common.
    start : Certificate, optional
        Of another bound on the region, whose thresholds and pairs to begin with.
    effort : Effort, optional
    max_steps : int, optional
        Iterations at most.
    deadline : float
        Value of ``time.perf_counter()`` at which to stop with the best bound so far.
    on_bound : callable, optional
        Called with the best bound every few seconds, if it improved.
    """
    effort = effort or Effort()
    closes = closes or (lambda value: value <= cutoff)
    window = effort.window // PERIOD
    iteration = Iteration(region, np.zeros(len(region.free)), state, start)
    began = time.perf_counter()
    best = iteration.value()
    # The last value and the bounds that follow take one eigen-decomposition each, as this one did.
    deadline -= 3.0 * (time.perf_counter() - began)
    held = iteration.snapshot()
    history: list[float] = []  # without the first value, which the iteration leaves behind at first
    reported = time.perf_counter()
    since_refresh = 0
    while (
        not closes(best)
        and (max_steps is None or iteration.n_steps < max_steps)
        and time.perf_counter() < deadline
    ):
        iteration.advance(PERIOD, deadline)
        since_refresh += PERIOD
        value = iteration.value()
        if value < best:
            best = value
            held = iteration.snapshot()
            now = time.perf_counter()
            if on_bound is not None and now - reported > REPORT_EVERY and now < deadline:
                on_bound(iteration.bound(held))
                reported = time.perf_counter()
        history.append(value)
        gap = min(best - cutoff, effort.most * abs(best))
        stalled = (
            len(history) > window
            and history[-1 - window] - min(history[-window:]) < effort.share * gap
        )
        if not iteration.refined:
            if stalled or iteration.settled:
                iteration.refine()
                history, since_refresh = [], 0
        elif stalled:
            break
        elif since_refresh >= (QUICK_REFRESH if iteration.is_quick else REFRESH):
            iteration.refresh()
            since_refresh = 0
    return iteration.bound(held)


def bound_of_core(
    region: Region, state: State, places: IntArray, **limits: Any
) -> tuple[float, State]:
    """Bound on the selections of a core, and the state of the region that comes of it.

    Iterations on a core take a fraction of the time. Its multipliers and those of the other
    features do not fit at first: what was learned shows after a few dozen iterations of the region,
    and without any, its bound may be above that of ``state``.

    Parameters
    ----------
    region : Region
    state : State
        Of a region that contains this one.
    places : ndarray of int
        The core among the free features, larger than the number to be selected.
    **limits
        Of :func:`semidefinite_bound`.
    """
    core = Region(region.problem, region.ones, region.free[places])
    bound = semidefinite_bound(core, state=state, **limits)
    whole = Iteration(region, np.zeros(len(region.free)), state)
    return bound.value, bound.state.spread(region, whole.multiplier, places)


@dataclass(eq=False)
class _Snapshot:
    """Multipliers that give a bound together."""

    T: FloatArray
    terms: ClassTerms
    rows: Rows
    row_price: FloatArray


class Iteration:
    """The alternating direction method on one region."""

    def __init__(
        self,
        region: Region,
        reward: FloatArray,
        state: State | None,
        start: Certificate | None = None,
    ) -> None:
        self.region = region
        self.reward = reward
        self.n, self.m = len(region.free), region.n_left
        self.n_steps = 0
        self.settled = False
        self._beta_to_leave = 0.0
        self._level = np.zeros(1)
        self._C: FloatArray
        self._c: float
        n, m = self.n, self.m
        self._dtype = np.float32 if n >= LARGE else np.float64
        self._face = Face(n, m)
        self._diagonal = np.arange(1, n + 1)
        self._base = np.zeros((n + 1, n + 1))
        self._base[1:, 1:] = region.similarity / -2.0
        gain = (region.linear + reward) / 2.0
        self._base[0, 1:] += gain
        self._base[1:, 0] += gain
        self._constant = region.constant + float(np.maximum(-reward, 0.0).sum())
        if state is None:
            s = np.full(n, m / n)
            self.terms = ClassTerms(region)
            self.terms.start(s)
            if start is not None:
                self.terms.take(start)
            self.rows = RowPool(n)
            self.refined = False
            self._X = np.empty((n + 1, n + 1), self._dtype)
            self._X[1:, 1:] = m * (m - 1) / (n * (n - 1.0))
            self._set_selection(self._X, s)
            self._T = np.zeros((n + 1, n + 1), self._dtype)
            self._build()
            self._T[1:, 1:] = np.maximum(self._C[1:, 1:], 0.0)
            norm = float(np.linalg.norm(self._C[1:, 1:]))
            self._beta = max(0.3 * norm, float(np.abs(self._C).max()), 1e-9) / (m + 1.0)
        else:
            self._resume(state)
        self._M = self._X
        self._primal = self._dual = math.inf
        self.terms.measure()

    def change_reward(self, reward: FloatArray) -> None:
        """Go on with another reward."""
        change = (reward - self.reward) / 2.0
        self._base[0, 1:] += change
        self._base[1:, 0] += change
        self._constant += float((np.maximum(-reward, 0.0) - np.maximum(-self.reward, 0.0)).sum())
        self.reward = reward
        self._build()

    @property
    def is_quick(self) -> bool:
        """Whether compiled loops do their part."""
        return self.rows.is_for_loops

    @property
    def s(self) -> FloatArray:
        """Fractional selection of the last positive semidefinite iterate."""
        s: FloatArray = np.clip(self._M[0, 1:].astype(np.float64), 0.0, 1.0)
        return s

    @property
    def multiplier(self) -> FloatArray:
        """T of the last iterate, which no step changes."""
        return self._T

    def advance(self, n_steps: int, deadline: float) -> None:
        """Iterate, until a deadline at most."""
        for _ in range(n_steps):
            if time.perf_counter() > deadline:
                break
            before = self._X
            self._step()
        else:
            self._primal = float(np.linalg.norm(self._X - self._M))
            self._dual = float(np.linalg.norm(self._X - before))
            self._adapt()
        self.settled = max(self._primal, self._dual) < SETTLED * (1.0 + self.m)

    def _adapt(self) -> None:
        """Keep both residuals of one size."""
        primal, dual = self._primal, self._dual
        apart = QUICK_APART if self.is_quick else APART
        if 0.0 < dual < math.inf and not dual / apart <= primal <= dual * apart:
            self._beta *= min(max(math.sqrt(primal / dual), 1.0 / LONGEST), LONGEST)

    def _step(self) -> None:
        beta = self._dtype(self._beta)
        scaled = self._T / beta
        scaled += self._X
        M = self._face.project(scaled)
        # T - beta (relaxed M); off the ties the new T and X are its excess over C, and the lack.
        V = np.multiply(M, -RELAXATION * beta, dtype=self._dtype)
        V += self._X * ((RELAXATION - 1.0) * beta)
        V += self._T
        X = self._descend(V) if self.is_quick else self._improve(V)
        V += beta * X
        self._T, self._X, self._M = V, X, M
        self.n_steps += 1

    def _descend(self, V: FloatArray) -> FloatArray:
        """X after a descent of the multipliers by compiled loops."""
        loops, i = compiled_loops(), self._diagonal
        assert loops is not None
        E, ties = self._C - V, self._ties(V)
        model = loops.Model(
            E, ties, self._level, self._beta, float(self.m), float(self.terms.n_per_class)
        )
        self.terms.descend(self.rows, model, N_PASSES)
        X = np.maximum(E, 0.0, dtype=self._dtype, casting="same_kind")
        X /= self._dtype(self._beta)
        self._set_selection(X, capped_simplex(ties, float(self.m)))
        # What the ties say of the border of C; the constant is wanted only with a bound.
        E[i, i] = self._C[i, i] - V[i, i]
        E[0, 1:] = E[1:, 0] = (3.0 * self._beta * ties - E[i, i]) / 2.0
        E += V
        self._C = E
        return X

    def _improve(self, V: FloatArray) -> FloatArray:
        """X after steps of the multipliers by NumPy."""
        if not self.refined:
            self._improve_thresholds(V)
        X = self._maximiser(V)
        for i in range(N_INNER - 1 if self.refined else 0):
            if i == 0:  # splits are dear
                self.terms.improve(X[0, 1:], X[1:, 1:], self._beta)
            self.rows.improve(X, self._beta)
            self._build()
            X = self._maximiser(V)
        return X

    def _improve_thresholds(self, V: FloatArray) -> None:
        """Without splits and rows the thresholds see s alone."""
        _, linear, _ = self.terms.cost()
        ties = self._ties(V) - linear / (3.0 * self._beta)
        for _ in range(N_THRESHOLD):
            _, linear, _ = self.terms.cost()
            s = capped_simplex(ties + linear / (3.0 * self._beta), float(self.m))
            self.terms.improve(s, None, self._beta)
        self._build()

    def _ties(self, V: FloatArray) -> FloatArray:
        """What s is without its constraints, at the multipliers as they stand."""
        i = self._diagonal
        border = self._C[0, 1:] - V[0, 1:].astype(np.float64)
        diagonal = self._C[i, i] - V[i, i].astype(np.float64)
        ties: FloatArray = (2.0 * border + diagonal) / (3.0 * self._beta)
        return ties

    def _maximiser(self, V: FloatArray) -> FloatArray:
        """X at the multipliers as they stand."""
        X = np.subtract(self._C, V, dtype=self._dtype)
        np.maximum(X, 0.0, out=X)
        X /= self._dtype(self._beta)
        self._set_selection(X, capped_simplex(self._ties(V), float(self.m)))
        return X

    def _set_selection(self, X: FloatArray, s: FloatArray) -> None:
        X[0, 0] = 1.0
        X[0, 1:] = X[1:, 0] = X[self._diagonal, self._diagonal] = s

    def _build(self) -> None:
        """C and the constant at the multipliers as they stand."""
        constant, linear, products = self.terms.cost()
        C = self._base.copy()
        C[0, 1:] += linear / 2.0
        C[1:, 0] += linear / 2.0
        if products is not None:
            C[1:, 1:] += products
        constant += self.rows.add_cost(C)
        self._C, self._c = C, self._constant + constant

    def refine(self) -> None:
        """Add splits, pairs and rows."""
        self.refined = True
        self.refresh()

    def refresh(self) -> None:
        """Exchange idle splits and rows for those broken now."""
        if may_collide(self.region.problem):
            self.terms.choose_pairs(self.s)
        self.terms.choose_splits(self.s, self._M[1:, 1:], N_SPLITS)
        self.rows.refresh(self._M)
        if not self.is_quick:
            self.terms.measure()
        self._build()

    def value(self) -> float:
        """Bound from the last iterate."""
        self._build()
        T = np.maximum(self._T, self._C)
        T[0] = T[:, 0] = self._T[0]
        T[self._diagonal, self._diagonal] = self._T[self._diagonal, self._diagonal]
        return self._bound_of(self._C, self._c, T)[0]

    def snapshot(self) -> _Snapshot:
        """The multipliers of the last iterate, whose arrays no step changes."""
        return _Snapshot(self._T, self.terms.copy(), self.rows.rows, self.rows.price)

    def bound(self, held: _Snapshot) -> Bound:
        """The bound of multipliers, with its certificate."""
        iterate = self.terms, self.rows, self._C, self._c
        self.terms = held.terms
        self.rows = RowPool(self.n, held.rows, held.row_price)
        self._build()
        upper = np.triu_indices(self.n, 1)
        core = self._C[1:, 1:]
        N = np.maximum((held.T[1:, 1:] - core)[upper], 0.0).astype(np.float32)
        T = held.T.astype(np.float64)
        T[1:, 1:][upper] = core[upper] + N
        T[1:, 1:].T[upper] = T[1:, 1:][upper]
        T[1:, 0] = T[0, 1:]  # single precision is not exactly symmetric
        diagonal = held.T[self._diagonal, self._diagonal].astype(np.float64)
        T[self._diagonal, self._diagonal] = diagonal
        value, r = self._bound_of(self._C, self._c, T)
        rows_held = self.rows
        self.terms, self.rows, self._C, self._c = iterate
        ordered = -np.sort(-r)
        free = self.region.free
        priced = held.row_price > 0.0
        rows = held.rows[priced]
        number = np.repeat(np.arange(len(rows)), rows.width)
        members = np.stack([number, free[rows.weights.indices], rows.weights.data], axis=1)
        certificate = Certificate(
            **held.terms.multipliers(free),
            row_members=members,
            row_level=rows.level,
            row_price=held.row_price[priced],
            reward=self.reward,
            nonnegativity=N,
            corner=float(T[0, 0]),
            border=T[0, 1:].copy(),
            diagonal=diagonal,
        )
        state = State(
            free,
            self._X,
            held.T,
            max(self._beta, self._beta_to_leave),
            held.terms,
            rows_held,
            refined=self.refined,
            reward=self.reward,
        )
        return Bound(
            value=value,
            certificate=certificate,
            price_in=np.maximum(self.reward, 0.0) + np.maximum(ordered[self.m - 1] - r, 0.0),
            price_out=np.maximum(-self.reward, 0.0) + np.maximum(r - ordered[self.m], 0.0),
            s=self.s,
            state=state,
        )

    def _bound_of(self, C: FloatArray, constant: float, T: FloatArray) -> tuple[float, FloatArray]:
        rest = C - T
        r = rest[self._diagonal, self._diagonal] + 2.0 * rest[0, 1:]
        best = -np.sort(-r)[: self.m]
        lambda_ = self._face.largest_eigenvalue(T)
        value = constant + float(rest[0, 0]) + float(best.sum()) + (self.m + 1.0) * lambda_
        size = abs(constant) + float(np.abs(best).sum()) + float(np.linalg.norm(T)) * (self.m + 1.0)
        margin = 16.0 * (self.n + 1) * float(np.finfo(np.float64).eps) * size
        return float(value) + margin, r

    def _resume(self, state: State) -> None:
        """Take over what the regions have in common; with no reward a decision can but help."""
        n, free = self.n, self.region.free
        places = np.full(self.region.problem.n_features, -1, dtype=np.intp)
        places[free] = np.arange(n)
        places = places[state.free]
        into = np.isin(state.free, self.region.ones)
        kept, added = np.flatnonzero(places >= 0), np.flatnonzero(into)
        here = places[kept]
        self.terms = state.terms.restricted(self.region, places, into)
        self.rows = state.rows.restricted(places, into, n)
        self.refined, self._beta = state.refined, state.beta
        if len(kept) < len(places):
            kept_share = QUICK_PENALTY_KEPT if self.is_quick else PENALTY_KEPT
            self._beta, self._beta_to_leave = state.beta * kept_share, state.beta
        self._build()
        old, new = np.concatenate([[0], kept + 1]), np.concatenate([[0], here + 1])
        # Of x' T x with x_d = x_0 for the features decided in, on the rest.
        T = state.T[old].astype(np.float64)
        T[0] += state.T[added + 1].sum(axis=0)
        merged = T[:, added + 1].sum(axis=1)
        T = T[:, old]
        T[:, 0] += merged
        if len(added):
            # |x|^2 has lost a square of x_0 for each.
            face = Face(len(state.free), self.m + len(added))
            T[0, 0] -= len(added) * face.largest_eigenvalue(state.T.astype(np.float64))
        X = state.X[np.ix_(old, old)]
        self._X = np.zeros((n + 1, n + 1), self._dtype)
        self._X[np.ix_(new, new)] = X
        self._X[0, 0] = 1.0
        self._T = self._C.astype(self._dtype)
        self._T[0, 1:] = self._T[1:, 0] = 0.0
        self._T[np.ix_(new, new)] = T
        # What the two blocks of cost matrices differ by goes where it is allowed to.
        common = np.ix_(here + 1, here + 1)
        self._T[common] = np.maximum(self._T[common], self._C[common])
        self._T[here + 1, here + 1] = np.diagonal(T)[1:]
        fresh = np.setdiff1d(np.arange(n), here) + 1
        if len(fresh) and len(here):
            rest = np.diagonal(self._C - self._T)[1:] + 2.0 * (self._C - self._T)[0, 1:]
            level = np.sort(rest[here])[-min(self.m, len(here))]
            self._T[fresh, fresh] = self._C[fresh, fresh] + 2.0 * self._C[0, fresh] - level
