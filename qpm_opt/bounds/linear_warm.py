"""The projected linear bound of a leaf and its parts, by a linear program that stays alive.

The program of a leaf begins with its parent's inequalities and basis. From one part of the leaf to
the next only the bounds of s change and inequalities come; the dual simplex method goes on from
its last basis. As in :mod:`qpm_opt.bounds.linear` only row duals are taken from it; the bound is
computed anew from them. HiGHS has a process of its own because it cannot be loaded beside OR-Tools.
The child takes pickled jobs from stdin, answers on stdout, and ends when its stdin is closed.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import pickle
import signal
import subprocess
import time
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from qpm_opt.bounds.base import Bound
from qpm_opt.bounds.linear import BASIC, FEASIBILITY, SLACK, Basis, LinearState
from qpm_opt.bounds.linear_cuts import (
    Cuts,
    averaged,
    colliding_pairs,
    may_collide,
    pair_terms,
    thresholds_at,
)
from qpm_opt.bounds.linear_terms import Multipliers, evaluate, threshold_gain
from qpm_opt.bounds.region import Region
from qpm_opt.child import start_child
from qpm_opt.validation import FloatArray, IntArray

logger = logging.getLogger(__name__)

ACCURACY = 2e-2
"""Violation of all cuts together at which rounds end, as a share of what lies above
the target, or of the bound if that is less."""
MAX_ROUNDS = 2
"""Linear programs of one bound."""
PROBE_ITERATIONS = 50
"""Simplex iterations of a probe."""


class WarmBounds:
    """Bounds on the parts of one region without similarities after the other.

    Nothing can be asked before :meth:`load`.
    """

    is_final = False

    def __init__(self) -> None:
        self._child = _Child()

    def close(self) -> None:
        """End the child process."""
        self._child.close()

    def load(self, region: Region, state: LinearState) -> None:
        """Go over to the parts of another region, which is not empty."""
        self._home, self._pending = region, Cuts()
        self._cuts = replace(state.cuts, conflicts=())
        self._reference = state.multipliers.threshold
        n, n_classes = len(region.free), region.problem.n_classes
        k, t = region.problem.n_per_class, self._reference
        self._base = k * t + threshold_gain(region.fixed_values, t).sum(axis=1)
        gain = threshold_gain(region.values, t)
        self._shift = float(np.median(region.linear))
        profit = region.linear - self._shift
        self._unit = max(gain.max(initial=0.0), np.abs(profit).max(initial=0.0)) or 1.0
        cost = np.concatenate([-profit / self._unit, np.full(n_classes, -1.0)])
        self._is_pair = self._cuts.is_pair
        rows, upper = self._rows(self._cuts)
        basis = None if state.basis is None else state.basis.on(region.free)
        self._child.ask(_Model(cost, n, float(region.n_left), rows, upper, basis))

    def bound(
        self,
        region: Region,
        state: LinearState,
        *,
        target: float = -math.inf,
        deadline: float = math.inf,
    ) -> Bound | None:
        """Bound on a part of the region loaded that is not empty, as by ``linear_bound``.

        None if the program gives no answer, or none in time.
        """
        free = region.free
        s = np.full(len(free), region.n_left / max(len(free), 1))
        multipliers, left = state.multipliers, None
        form = evaluate(region, multipliers)
        look_at_pairs = may_collide(region.problem)
        for i in range(MAX_ROUNDS):
            if form.value <= target or region.single is not None:
                break
            point = self._solve(region, deadline)
            if point is None:
                if i == 0:
                    return None
                left = None
                break
            s = point.s
            value = evaluate(region, point.multipliers)
            if value.value < form.value:
                form, multipliers = value, point.multipliers
            left = point.optimum
            if form.value <= target:
                break
            tolerance = ACCURACY * min(form.value - target, abs(form.value))
            excess = self._separate_thresholds(region, point, tolerance)
            if excess <= tolerance and look_at_pairs:  # once, for their terms are dear
                look_at_pairs = False
                excess = self._separate_pairs(region, point, tolerance)
            if excess <= tolerance:
                break
        return Bound(
            value=form.value,
            certificate=multipliers.certificate(region),
            price_in=form.price_in,
            price_out=form.price_out,
            s=s,
            state=(
                replace(state, multipliers=multipliers)
                if left is None
                else self._left(left, multipliers)
            ),
        )

    def probe(self, region: Region, features: IntArray, deadline: float) -> FloatArray | None:
        """What a few iterations make of the bound with each feature out and in, (n_features, 2).

        Not certified; None if the program gives no answer.
        """
        columns = np.searchsorted(self._home.free, features)
        values = self._child.ask(_Probe(*self._limits(region), columns, _seconds(deadline)))
        if values is None:
            return None
        offset = self._home.constant + self._shift * self._home.n_left + float(self._base.sum())
        bounds: FloatArray = offset - self._unit * cast(FloatArray, values)
        return bounds

    def _limits(self, region: Region) -> tuple[FloatArray, FloatArray]:
        """Least and largest values of the program's variables on a part."""
        into = np.isin(self._home.free, region.ones)
        unknown = np.full(len(self._base), np.inf)
        upper = into | np.isin(self._home.free, region.free)
        return np.concatenate([into, -unknown]), np.concatenate([upper, unknown])

    def _rows(self, cuts: Cuts) -> tuple[sparse.csr_array, FloatArray]:
        """Inequalities as ``rows @ x <= upper``, thresholds before pairs."""
        home = self._home
        gain, upper, theta = cuts.inequalities(
            home.values, home.fixed_values, home.problem.n_per_class
        )
        rows = sparse.hstack([sparse.csr_array(-gain / self._unit), theta], format="csr")
        return rows, (upper - theta @ self._base) / self._unit

    def _solve(self, region: Region, deadline: float) -> _Point | None:
        """Add the inequalities found and solve."""
        seconds = _seconds(deadline)
        if seconds <= 0.0:
            return None
        new, self._pending = self._pending, Cuts()
        self._cuts = self._cuts.and_rows_of(new)
        self._is_pair = np.concatenate([self._is_pair, new.is_pair])
        job = _Solve(*self._limits(region), *self._rows(new), time_limit=seconds)
        optimum = cast("_Optimum | None", self._child.ask(job))
        if optimum is None:
            return None
        home, is_pair, dual = self._home, self._is_pair, optimum.dual
        n = len(home.free)
        return _Point(
            s=np.clip(optimum.x[np.searchsorted(home.free, region.free)], 0.0, 1.0),
            theta=self._base + self._unit * optimum.x[n:],
            multipliers=averaged(self._cuts, dual[~is_pair], dual[is_pair], self._reference),
            optimum=optimum,
        )

    def _left(self, optimum: _Optimum, multipliers: Multipliers) -> LinearState:
        """What a part of the part begins with: the rows that are tight, and those just found."""
        is_pair, new = self._is_pair, self._pending
        tight = (optimum.dual > 0.0) | (optimum.slack < SLACK)
        kept = self._cuts.kept(tight[~is_pair], tight[is_pair], np.zeros(0, dtype=bool))
        of_sum, of_rows = np.split(optimum.rows, [1])
        known = [of_rows[tight & ~is_pair], of_rows[tight & is_pair]]
        found = [np.full(n_new, BASIC, np.int8) for n_new in (len(new.classes), len(new.pairs))]
        rows = np.concatenate([of_sum, known[0], found[0], known[1], found[1]])
        basis = Basis(self._home.free, optimum.columns, rows)
        return LinearState(kept.and_rows_of(new), multipliers, basis)

    def _separate_thresholds(self, region: Region, point: _Point, tolerance: float) -> float:
        """Add what the point breaks; return by how much together."""
        threshold, value = thresholds_at(region, point.s)
        excess = point.theta - value
        broken = np.flatnonzero(excess > tolerance / (1.0 + len(excess)))
        self._pending = self._pending.and_thresholds(broken, threshold[broken])
        return float(excess[broken].sum())

    def _separate_pairs(self, region: Region, point: _Point, tolerance: float) -> float:
        found = colliding_pairs(region, point.s)
        if not len(found):
            return 0.0
        terms, worth = pair_terms(region, point.s, found)
        excess = point.theta[found].sum(axis=1) - worth
        on = excess > tolerance / (1.0 + len(excess))
        self._pending = self._pending.and_pairs(found[on], terms[on, :2], terms[on, 2])
        return float(excess[on].sum())


@dataclass(frozen=True, eq=False)
class _Point:
    """A point of the program and the multipliers that its duals give.

    Attributes
    ----------
    s : ndarray, (n_free,); theta : ndarray, (n_classes,)
    multipliers : Multipliers; optimum : _Optimum
    """

    s: FloatArray
    theta: FloatArray
    multipliers: Multipliers
    optimum: _Optimum


def _seconds(deadline: float) -> float:
    return deadline - time.perf_counter()


@dataclass(frozen=True, eq=False)
class _Model:
    """Minimise ``cost @ x`` where the first ``n_summed`` entries of x sum to ``total``.

    ``basis`` is where the simplex method begins: the status of every column and of every row, that
    of the sum before the others.
    """

    cost: FloatArray
    n_summed: int
    total: float
    rows: sparse.csr_array
    upper_of_rows: FloatArray
    basis: tuple[NDArray[np.int8], NDArray[np.int8]] | None


@dataclass(frozen=True, eq=False)
class _Solve:
    """Add ``rows @ x <= upper_of_rows``, solve within lower and upper."""

    lower: FloatArray
    upper: FloatArray
    rows: sparse.csr_array
    upper_of_rows: FloatArray
    time_limit: float


@dataclass(frozen=True, eq=False)
class _Probe:
    """Solve within lower and upper, then for a few iterations with each column at 0 and at 1."""

    lower: FloatArray
    upper: FloatArray
    columns: IntArray
    time_limit: float


@dataclass(frozen=True, eq=False)
class _Optimum:
    """A solution, with the duals (not negative) and slacks of the rows in order of arrival.

    The basis has a status for every column and for every row, that of the sum before the others.
    """

    x: FloatArray
    dual: FloatArray
    slack: FloatArray
    columns: NDArray[np.int8]
    rows: NDArray[np.int8]


class _Child:
    """The parent's side. Once anything went wrong with the child, all its answers are None."""

    def __init__(self) -> None:
        self._process = start_child(
            __name__, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def ask(self, job: object) -> object:
        if self._process.poll() is not None:
            return None
        jobs, answers = cast(BinaryIO, self._process.stdin), cast(BinaryIO, self._process.stdout)
        try:
            pickle.dump(job, jobs)
            jobs.flush()
            return cast(object, pickle.load(answers))
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):  # ValueError: closed
            logger.warning("The process of the linear programs ended; going on without it.")
            self.close()
            return None
        except BaseException:  # an answer that nobody took would be taken for the next one
            self.close()
            raise

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # a job half written
                cast(BinaryIO, pipe).close()


def main() -> None:
    """Serve one parent until it closes stdin."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    jobs, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the solver prints
    with contextlib.suppress(EOFError):
        program = _Program()
        while True:
            pickle.dump(program.answer(pickle.load(jobs)), answers)
            answers.flush()


class _Program:
    """The linear program, in the child."""

    def __init__(self) -> None:
        import highspy

        self._highspy = highspy
        self._highs: Any = highspy.Highs()
        for option, value in {
            "output_flag": False,
            "threads": 1,
            "presolve": "off",
            "solver": "simplex",
            "simplex_scale_strategy": 0,  # the rows are scaled already
            "primal_feasibility_tolerance": FEASIBILITY,
            "dual_feasibility_tolerance": FEASIBILITY,
        }.items():
            self._highs.setOptionValue(option, value)

    def answer(self, job: object) -> object:
        """Do a job."""
        if isinstance(job, _Model):
            self.load(job)
            return None
        return self.solve(job) if isinstance(job, _Solve) else self.probe(cast(_Probe, job))

    def load(self, model: _Model) -> None:
        highs, n = self._highs, len(model.cost)
        highs.clearModel()
        self._columns, self._upper = np.arange(n, dtype=np.int32), np.array([model.total])
        highs.addVars(n, np.zeros(n), np.ones(n))
        highs.changeColsCost(n, self._columns, model.cost)
        summed = self._columns[: model.n_summed]
        highs.addRow(model.total, model.total, len(summed), summed, np.ones(len(summed)))
        self._add(model.rows, model.upper_of_rows)
        if model.basis is not None:
            self._begin_at(*model.basis)

    def _add(self, rows: sparse.csr_array, upper: FloatArray) -> None:
        n = len(upper)
        if n:
            self._highs.addRows(
                n,
                np.full(n, -np.inf),
                upper,
                rows.nnz,
                rows.indptr[:-1].astype(np.int32),
                rows.indices.astype(np.int32),
                rows.data,
            )
        self._upper = np.concatenate([self._upper, upper])

    def _begin_at(self, columns: NDArray[np.int8], rows: NDArray[np.int8]) -> None:
        basis, status = self._highspy.HighsBasis(), self._highspy.HighsBasisStatus
        basis.col_status = [status(value) for value in columns.tolist()]
        basis.row_status = [status(value) for value in rows.tolist()]
        basis.valid = True
        # Columns that left may have been basic; HiGHS then completes the basis.
        basis.alien = (columns == BASIC).sum() + (rows == BASIC).sum() != len(rows)
        self._highs.setBasis(basis)

    def solve(self, job: _Solve) -> _Optimum | None:
        highs = self._highs
        self._add(job.rows, job.upper_of_rows)
        highs.changeColsBounds(len(self._columns), self._columns, job.lower, job.upper)
        if self._run(job.time_limit) != self._highspy.HighsModelStatus.kOptimal:
            return None
        solution, basis = highs.getSolution(), highs.getBasis()
        return _Optimum(
            np.array(solution.col_value),
            np.maximum(-np.array(solution.row_dual)[1:], 0.0),
            (self._upper - np.array(solution.row_value))[1:],
            np.array([int(status) for status in basis.col_status], dtype=np.int8),
            np.array([int(status) for status in basis.row_status], dtype=np.int8),
        )

    def probe(self, job: _Probe) -> FloatArray | None:
        highs, status_of = self._highs, self._highspy.HighsModelStatus
        highs.changeColsBounds(len(self._columns), self._columns, job.lower, job.upper)
        if self._run(job.time_limit) != status_of.kOptimal:
            return None
        basis = highs.getBasis()
        values = np.full((len(job.columns), 2), -np.inf)
        for i, column in enumerate(job.columns.tolist()):
            for side in (0, 1):
                highs.changeColBounds(column, float(side), float(side))
                status = self._run(job.time_limit, PROBE_ITERATIONS)
                if status == status_of.kInfeasible:
                    values[i, side] = np.inf
                elif status in (status_of.kOptimal, status_of.kIterationLimit):
                    values[i, side] = highs.getInfo().objective_function_value
                highs.changeColBounds(column, job.lower[column], job.upper[column])
                highs.setBasis(basis)
        return values

    def _run(self, time_limit: float, max_iterations: int = 2**31 - 1) -> Any:
        # HiGHS counts the time of all solves.
        self._highs.setOptionValue("time_limit", self._highs.getRunTime() + time_limit)
        self._highs.setOptionValue("simplex_iteration_limit", max_iterations)
        self._highs.run()
        return self._highs.getModelStatus()
