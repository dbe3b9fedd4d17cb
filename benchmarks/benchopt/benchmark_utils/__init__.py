"""Solves in child processes: two solvers' packages need not bear each other, and limits hold."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchopt import BaseSolver

from qpm_bench.records import Record, Status
from qpm_bench.runner import add_instances, execute, plan
from qpm_opt import Problem, solver_availability

#: Name of the instance in the folder of a single solve.
INSTANCE = "instance"


def solve_in_child(
    problem: Problem, method: str, solver: str, *, time_limit: float, seed: int
) -> Record:
    """One run of a campaign, alone in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        hashes = add_instances(Path(folder), {INSTANCE: problem})
        (run,) = plan(hashes, [(method, solver)], seeds=[seed], time_limit=time_limit)
        return execute(Path(folder), run)


class ChildSolver(BaseSolver):
    """A method of ``qpm_bench.entrants``; its solver, if it needs one, is the parameter solver."""

    sampling_strategy = "run_once"
    method = ""

    def skip(self, problem, time_limit):
        if self._back_end:
            report = solver_availability(self._back_end)
            if not report.level:
                return True, f"{self._back_end}: {report.reason}"
        return False, None

    def set_objective(self, problem, time_limit):
        self.problem, self.time_limit = problem, time_limit
        self.run_seed = self.get_seed(use_repetition=True) % 2**31

    def run(self, _):
        self.record = solve_in_child(
            self.problem,
            self.method,
            self._back_end,
            time_limit=self.time_limit,
            seed=self.run_seed,
        )
        if self.record.status not in (Status.OK, Status.TIME):
            raise RuntimeError(f"{self.record.entrant}: {self.record.reason}")

    def get_result(self):
        return {"record": self.record}

    @property
    def _back_end(self) -> str:
        # No attribute of the class: benchopt sets no parameter that there is already.
        return getattr(self, "solver", "")
