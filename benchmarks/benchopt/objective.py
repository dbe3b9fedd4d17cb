"""The objective of the program in ``README.md``, recomputed by the judge of ``qpm_bench``."""

from __future__ import annotations

import math

from benchmark_utils import INSTANCE, solve_in_child
from benchopt import BaseObjective

from qpm_bench.judge import judge
from qpm_bench.records import Status
from qpm_bench.traces import primal_gap


class Objective(BaseObjective):
    """``value`` is the negative objective, since benchopt minimises; its plots take the best off.

    ``relative_gap`` is that between objective and bound, ``gap_to_best_known`` that to the
    published or planted optimum of the instance; each is nan where there is none. A solution that
    breaks a constraint has the value inf, ``feasible`` 0 and ``wrong`` 1; ``wrong`` is 1 as well
    for a bound below the run's own solution or an objective that is not that of the solution.
    """

    name = "QPM"
    min_benchopt_version = "1.10"
    sampling_strategy = "run_once"
    # One limit for all solvers, in seconds; each solver is given it.
    parameters = {"time_limit": [10.0]}
    test_config = {"time_limit": 0.5, "dataset": {"name": "suite"}}

    def skip(self, problem):
        if problem is None:
            return True, "give a file: -d 'file[path=problem.npz]'"
        return False, None

    def set_data(self, problem):
        self.problem = problem

    def get_objective(self):
        return {"problem": self.problem, "time_limit": self.time_limit}

    def evaluate_result(self, record):
        (judged,) = judge([record], {INSTANCE: self.problem})
        found, known = judged.objective, self.problem.best_known
        gap = judged.relative_gap
        return {
            "value": math.inf if found is None else -found,
            "feasible": float(found is not None),
            "wrong": float(judged.record.status is Status.WRONG),
            "bound": math.nan if record.bound is None else record.bound,
            "relative_gap": math.nan if gap is None else gap,
            "gap_to_best_known": math.nan if known is None else primal_gap(found, known),
            "certified": float(record.certified),
            "solve_time": math.nan if record.solve_time is None else record.solve_time,
            "peak_memory": float(record.peak_memory),
        }

    def get_one_result(self):
        record = solve_in_child(self.problem, "heuristic", "", time_limit=0.5, seed=0)
        return {"record": record}
