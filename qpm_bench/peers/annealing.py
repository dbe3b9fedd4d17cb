"""Peer ``simulated-annealing``: the sampler of dwave-samplers on the QUBO of the problem.

What the sampler is asked to minimise is the energy of :mod:`qpm_bench.peers.qubo`, over s and W.
Distinctness and side constraints are not in it, as penalties with products of two variables cannot
state them. Of every read only the selection is kept, and only if it has p features; its classes are
then assigned exactly, by our code and to the peer's advantage: W of a read is never better. Reads
with another number of features are lost.

The settings are those that did best on k-cluster, GKD-b and small paper-like problems, not the
library's own: penalties that surely suffice make barriers that annealing cannot cross. So the
weights begin at those, and every round of reads lowers them by a factor of sqrt(2) if at least half
of its reads had p features, and raises them if not. Temperatures fall geometrically from one at
which any single change is accepted with probability 1/2 (the library's rule) to a twentieth of the
largest coefficient of the problem; the library would end at one that its smallest coefficient
sets. A read has the library's 1000 sweeps. Rounds go on until the next read would not end in time.

QUBOs of more than ``MAX_COUPLINGS`` products are refused: a read of one, which nothing interrupts,
takes several seconds.
Everything runs on one thread, whatever threads are given. There are no bounds.

References
----------
Kirkpatrick, Gelatt, Vecchi, Optimization by simulated annealing, Science 220 (1983) 671-680.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qpm_bench.peers.qubo import Qubo, qubo, size
from qpm_bench.peers.run import PeerRun
from qpm_opt import UnsupportedFormulationError

MAX_COUPLINGS = 1_000_000
READS, SWEEPS = 4, 1000
#: Last temperature, relative to the largest coefficient of the problem.
COLDEST = 0.05


def run(task: PeerRun) -> None:
    """Let the sampler read until the time limit; the result is in the run.

    Raises
    ------
    SolverNotAvailableError
        Without dwave-samplers.
    UnsupportedFormulationError
        If the QUBO is too large.
    """
    problem = task.problem
    n_variables, n_couplings = size(problem)
    if n_couplings > MAX_COUPLINGS:
        raise UnsupportedFormulationError(
            f"The QUBO has {n_variables} variables and {n_couplings} couplings; at most "
            f"{MAX_COUPLINGS} are taken; use exact or heuristic."
        )
    with task.loading("dwave-samplers", "dimod"):
        import dimod
        from dwave.samplers import SimulatedAnnealingSampler
    candidates = np.flatnonzero(problem.candidates)
    seeds = np.random.default_rng(task.seed)
    clock = _ReadClock(task)
    strength, n_reads = 1.0, 0
    while not clock.over():
        form = qubo(problem, strength)
        model = dimod.BinaryQuadraticModel.from_numpy_vectors(
            form.linear, (form.row, form.column, form.value), form.offset, "BINARY"
        )
        reads = SimulatedAnnealingSampler().sample(
            model,
            num_reads=READS,
            num_sweeps=SWEEPS,
            beta_range=(_hottest(form), 1.0 / (COLDEST * problem.scale)),
            seed=int(seeds.integers(2**31)),
            interrupt_function=clock.read_and_over,
        )
        selections = _selections(reads, candidates.size)
        n_reads += len(selections)
        right = selections[selections.sum(axis=1) == problem.n_selected]
        for selection in np.unique(right, axis=0):
            task.offer(candidates[selection])
        lower = 2 * len(right) >= len(selections)
        strength = strength / math.sqrt(2.0) if lower else min(1.0, strength * math.sqrt(2.0))
    if task.assignment is None:
        task.reason = f"none of its {n_reads} reads selected {problem.n_selected} features"


class _ReadClock:
    """Whether another read would end after the time limit, going by the longest so far."""

    def __init__(self, task: PeerRun) -> None:
        self._task = task
        self._longest, self._last = 0.0, task.elapsed

    def over(self) -> bool:
        self._last = self._task.elapsed
        return self._task.left <= self._longest

    def read_and_over(self) -> bool:
        """The same at the end of a read, which is measured."""
        self._longest = max(self._longest, self._task.elapsed - self._last)
        return self.over()


def _hottest(form: Qubo) -> float:
    """Inverse temperature at which any change of one variable has at least probability 1/2."""
    change = np.abs(form.linear)
    for end in (form.row, form.column):
        change += np.bincount(end, np.abs(form.value), minlength=change.size)
    return math.log(2.0) / float(change.max())


def _selections(reads: Any, n_candidates: int) -> np.ndarray:
    """Bool array (n_reads, n_candidates): s of every read."""
    order = np.argsort(np.asarray(reads.variables))[:n_candidates]
    return reads.record.sample[:, order].astype(bool)
