"""Solvers, separators and models that the tests run in child processes."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from qpm_opt.errors import UnsupportedFormulationError
from qpm_opt.result import TerminationCondition
from qpm_opt.solvers.base import Capability, Event, MatrixModel, RawSolve, Row, Solver


def linear_model(
    cost, matrix, row_lower, row_upper, lower, upper, *, integer=True, offset=0.0, quadratic=()
) -> MatrixModel:
    n = len(cost)
    i, j, values = zip(*quadratic, strict=True) if quadratic else ((), (), ())
    matrix = np.asarray(matrix, dtype=float).reshape(-1, n)
    return MatrixModel(
        np.asarray(cost, dtype=float),
        offset,
        (np.array(i, dtype=np.intp), np.array(j, dtype=np.intp), np.array(values, dtype=float)),
        sparse.csr_array(matrix),
        np.broadcast_to(np.asarray(row_lower, dtype=float), len(matrix)).copy(),
        np.broadcast_to(np.asarray(row_upper, dtype=float), len(matrix)).copy(),
        np.broadcast_to(np.asarray(lower, dtype=float), n).copy(),
        np.broadcast_to(np.asarray(upper, dtype=float), n).copy(),
        np.broadcast_to(np.asarray(integer), n).copy(),
    )


def two_columns() -> MatrixModel:
    return linear_model([1, 2], [], 0, 0, 0, 1, offset=3.0)


def market_split() -> tuple[MatrixModel, np.ndarray]:
    """Equations whose only known solution is planted: points are out of a solver's reach."""
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 100, (6, 60)).astype(float)
    planted = np.tile([0.0, 1.0], 30)
    side = weights @ planted
    return linear_model(rng.random(60), weights, side, side, 0, 1, offset=2.0), planted


class Unreadable:
    """Can be pickled but not unpickled."""

    def __reduce__(self):
        return (_lose, ())


def _lose():
    raise ZeroDivisionError("lost in transit")


class ObedientSolver(Solver):
    """Reports the points and bounds of ``solver_options["events"]``, then does what ``"do"`` says.

    The result tells its process id as the node count and its thread setting as the raw status.
    """

    name = "obedient"
    package = "numpy"
    module = "numpy"
    extra = None
    capabilities = Capability.NONE

    def solve(self, model, options, *, start, separate, report):
        orders = options.solver_options
        self.former, self.report = getattr(self, "report", None), report
        for point, bound in orders.get("events", ()):
            report(Event(None if point is None else np.array(point), bound))
        getattr(self, orders.get("do", "nothing"))(orders)
        return RawSolve(
            TerminationCondition.OPTIMAL,
            os.environ["OMP_NUM_THREADS"],
            point=start,
            node_count=os.getpid(),
        )

    def nothing(self, orders):
        pass

    def sleep(self, orders):
        time.sleep(orders["seconds"])

    def beat(self, orders):
        """Write to a file again and again, for ever."""
        while True:
            Path(orders["file"]).write_text(str(time.monotonic()))
            time.sleep(0.02)

    def chatter(self, orders):
        sys.stdout.write("printed by Python\n")
        sys.stdout.flush()
        os.write(1, b"written by a library\n")

    def die(self, orders):
        os.kill(os.getpid(), signal.SIGKILL)

    def abort(self, orders):
        os.write(2, b"assertion failed in the simplex\n\n")
        os.abort()

    def garble(self, orders):
        """Send what cannot be unpickled, and serve on as if nothing had happened."""
        self.report(Event(Unreadable()))

    def recall(self, orders):
        """Report as if the solve before were still going on."""
        self.former(Event(np.zeros(2), -1.0))

    def refuse(self, orders):
        raise UnsupportedFormulationError("no such models here")

    def stumble(self, orders):
        raise ZeroDivisionError("two\nlines")


class MissingSolver(ObedientSolver):
    name = "missing"
    package = "no-such-package"
    module = "no_such_package"
    extra = "nowhere"

    def solve(self, model, options, *, start, separate, report):
        self.load()


class BrokenSolver(MissingSolver):
    name = "broken"
    package = "numpy"
    module = "tests.opt.broken_package"  # raises ImportError


class DyingSolver(ObedientSolver):
    name = "dying"

    def load(self):
        os._exit(3)


@dataclass(frozen=True)
class AtMost:
    """Separates ``sum of the first n_columns columns <= limit``."""

    n_columns: int
    limit: int

    def __call__(self, x):
        assert np.array_equal(x, np.rint(x))
        if x[: self.n_columns].sum() <= self.limit:
            return []
        return [Row(np.arange(self.n_columns), np.ones(self.n_columns), float(self.limit))]


@dataclass(frozen=True)
class Stumbling:
    """A separator with a bug."""

    def __call__(self, x):
        raise ZeroDivisionError("a bug")
