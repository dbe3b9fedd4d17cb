"""The solves of one session: planned when tests are collected, each run in a process of its own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.sizes import SMALL
from qpm_bench.entrants import entrants
from qpm_bench.judge import Judged, judge
from qpm_bench.names import check_name
from qpm_bench.records import Record
from qpm_bench.runner import Run, add_instances, execute, plan
from qpm_bench.suites import SUITES, suite
from qpm_opt import SOLVERS, InvalidInputError, Problem

#: The suite that only these benchmarks have: the growing series of solves.
GROWTH = "growth"


class Campaign:
    """Every method, with every solver if it needs one, on every instance of the suites.

    Raises
    ------
    InvalidInputError
        For unknown names, and if two suites have different instances of one name.
    """

    def __init__(
        self,
        suites: Iterable[str],
        methods: Iterable[str],
        solvers: Iterable[str],
        *,
        time_limit: float,
        smoke: bool,
    ) -> None:
        solvers = list(solvers)
        for solver in solvers:
            check_name("solver", solver, SOLVERS)
        competing = entrants(methods, solvers)
        self.problems: dict[str, Problem] = {}
        for name in suites:
            for instance, problem in _instances(name, smoke).items():
                if self.problems.setdefault(instance, problem).sha256 != problem.sha256:
                    raise InvalidInputError(
                        f"The suite {name} has another instance {instance} than a suite before it; "
                        "run them one after the other."
                    )
        hashes = {name: problem.sha256 for name, problem in self.problems.items()}
        self.runs = plan(hashes, competing, time_limit=time_limit)
        self.records: list[Record] = []
        self._folder: Path | None = None

    def use(self, folder: Path) -> None:
        """Keep instances and records in a folder."""
        add_instances(folder, self.problems)
        self._folder = folder

    def label_of(self, record: Record) -> str:
        """Label of the run that left a record."""
        return next(run.label for run in self.runs if run.key == record.key)

    def execute(self, run: Run) -> Record:
        record = execute(self._folder, run)
        self.records.append(record)
        return record

    def judged(self) -> list[Judged]:
        """All records so far, in their order, each against all."""
        return judge(self.records, self.problems)


def _instances(name: str, smoke: bool) -> dict[str, Problem]:
    check_name("suite", name, [GROWTH, *SUITES])
    if name != GROWTH:
        return suite(name)
    problems = (size.problem() for size in (SMALL[:1] if smoke else SMALL))
    return {str(problem.name): problem for problem in problems}
