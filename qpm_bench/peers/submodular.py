"""Peer ``submodular-greedy``: the greedy algorithm of apricot on the value of a selection.

What apricot is asked to maximise, one feature at a time, over selections S of p candidates:

    f(S) = sum_c (sum of the k largest A_cd, d in S)  -  sum_{d<e in S} R_de  +  sum_{d in S} b_d

where a class takes what there is as long as S has fewer than k features. apricot has no such set
function, so it gets it through its base class for selections: the gains are ours, the algorithm and
its priority queue are apricot's. The smallest entry of A is subtracted from all of A if it is
negative. That changes no choice, as all candidates of a step lose the same, and makes f submodular
if R >= 0: then apricot's lazy greedy finds what plain greedy finds. If an entry of R is negative,
f is not submodular and apricot's plain greedy is used.

f knows nothing of distinctness and side constraints; those are left to the assignment. The time
until apricot ends is short, and nothing is handed out before: a run that meets its limit has no
result. There are no bounds, and neither seed nor threads matter.

References
----------
Schreiber, Bilmes, Noble, apricot: Submodular selection for data summarization in Python, Journal of
Machine Learning Research 21 (2020) 161.
Minoux, Accelerated greedy algorithms for maximizing submodular set functions, 1978 (lazy greedy).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qpm_bench.peers.run import PeerRun


class _LateError(Exception):
    """The time limit is over in the middle of the algorithm."""


def run(task: PeerRun) -> None:
    """Let apricot select; the result is in the run.

    Raises
    ------
    SolverNotAvailableError
        Without apricot.
    """
    with task.loading("apricot-select"):
        import numba

        # apricot would compile the kernels of its own set functions now, which takes seconds.
        numba.config.DISABLE_JIT = True
        from apricot import BaseSelection
    candidates = np.flatnonzero(task.problem.candidates)
    selector = _selector(BaseSelection, task, candidates)
    try:
        selector.fit(np.zeros((candidates.size, 1)))
    except _LateError:
        return
    task.offer(candidates[selector.ranking])
    task.finished = not task.late


def _selector(base: Any, task: PeerRun, candidates: np.ndarray) -> Any:
    """apricot's object for the set function above; its items are the candidates."""
    problem, k = task.problem, task.problem.n_per_class
    A = problem.class_similarity[:, candidates]
    A = A - min(A.min(initial=0.0), 0.0)
    R = problem.feature_similarity[np.ix_(candidates, candidates)]

    class Selection(base):
        def _initialize(self, X: np.ndarray) -> None:
            super()._initialize(X)
            self.own = problem.bias[candidates].copy()  # b less R of those selected
            self.largest = np.zeros((problem.n_classes, k))  # of each class, in no order

        def _calculate_gains(self, X: np.ndarray, idxs: np.ndarray | None = None) -> np.ndarray:
            if task.late:
                raise _LateError
            items = self.idxs if idxs is None else idxs
            least = self.largest.min(axis=1, initial=np.inf, keepdims=True)
            return self.own[items] + np.maximum(A[:, items] - least, 0.0).sum(axis=0)

        def _select_next(self, X: np.ndarray, gain: float, idx: int) -> None:
            super()._select_next(X, gain, idx)
            self.own -= R[idx]
            if k:
                rows, least = np.arange(problem.n_classes), self.largest.argmin(axis=1)
                self.largest[rows, least] = np.maximum(self.largest[rows, least], A[:, idx])

    return Selection(problem.n_selected, optimizer="naive" if (R < 0.0).any() else "lazy")
