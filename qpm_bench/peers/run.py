"""A run of a peer: its task, its clock, and the best that it has found."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata

from numpy.typing import ArrayLike

from qpm_opt import Assignment, Problem, SolverNotAvailableError
from qpm_opt.assign import assign_within


@dataclass(kw_only=True)
class PeerRun:
    """What a peer is given, and what it hands back.

    Attributes
    ----------
    problem : Problem
    time_limit : float
        Seconds from the moment when the library is loaded.
    threads : int
    seed : int
    assignment : Assignment or None
        The best so far, and its objective.
    objective : float or None
        Of the assignment, recomputed in float64.
    bound : float or None
        Upper bound on the objective of the whole problem, on the library's word.
    progress : list of (time, incumbent, bound)
        Every change of incumbent or bound.
    versions : dict of str
        Of the library, by distribution.
    finished : bool
        Whether the peer came to its own end within the time limit.
    reason : str
        Why there is no assignment.
    """

    problem: Problem
    time_limit: float
    threads: int = 1
    seed: int = 0
    assignment: Assignment | None = None
    objective: float | None = None
    bound: float | None = None
    progress: list[list[float | None]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    finished: bool = False
    reason: str = ""
    _began: float = field(default_factory=time.perf_counter, repr=False)

    @contextlib.contextmanager
    def loading(self, *distributions: str) -> Iterator[None]:
        """Import the peer's library in this block; the clock starts at its end.

        Parameters
        ----------
        *distributions : str
            What the block imports; their versions enter the run.

        Raises
        ------
        SolverNotAvailableError
            If an import fails; the message says what to install.
        """
        try:
            yield
            self.versions |= {name: metadata.version(name) for name in distributions}
        except ImportError as failure:  # also raised for a distribution that is not there
            raise SolverNotAvailableError(
                f"It needs {' and '.join(distributions)}, which cannot be imported: {failure}; "
                "install the extra: pip install '.[peers]'."
            ) from failure
        self._began = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since the clock started."""
        return time.perf_counter() - self._began

    @property
    def left(self) -> float:
        """Seconds until the time limit; 0 after it."""
        return max(0.0, self.time_limit - self.elapsed)

    @property
    def late(self) -> bool:
        """Whether the time limit is over."""
        return self.left == 0.0

    def offer(self, selected: ArrayLike, bound: float | None = None) -> None:
        """A selection that the peer has found, and the bound that it states, if any.

        The selection is assigned exactly. Nothing counts after the time limit.

        Parameters
        ----------
        selected : array of shape (n_selected,), int
        bound : float, optional
            Upper bound on the objective of the whole problem.
        """
        found = None if self.late else assign_within(self.problem, selected, self.left)
        if self.late:
            return
        if found is None:
            self.reason = "what it selected could not be assigned to the classes"
        objective = None if found is None else self.problem.objective(found)
        better = objective is not None and (self.objective is None or objective > self.objective)
        if better:
            self.assignment, self.objective, self.reason = found, objective, ""
        if bound is not None:
            self.bound = bound
        if better or bound is not None:
            self.progress.append([self.elapsed, self.objective, self.bound])
