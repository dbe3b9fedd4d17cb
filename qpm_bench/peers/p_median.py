"""Peer ``pbp-pmedian``: p-median problems, and those only, by the package of that name.

What the package is asked to solve: open p of the candidate features so that the cost of serving
every class by its cheapest open one, with costs -A, is least. That is the whole problem if k = 1,
R = 0, b = 0, classes need not differ and there are no side constraints; every other problem is
refused. The package chooses its own algorithm (a reduced model, or Benders decomposition), solves
with HiGHS to a gap of 0, and hands out a result only with a proof of optimality, so the bound is
the value that it proves, on its word. It cannot be stopped at a given second; a proof that comes
after the time limit does not count. It takes no seed; the threads are those of HiGHS.
"""

from __future__ import annotations

from qpm_bench.peers.run import PeerRun
from qpm_opt import Problem, UnsupportedFormulationError


def run(task: PeerRun) -> None:
    """Let pbp-pmedian solve; the result is in the run.

    Raises
    ------
    SolverNotAvailableError
        Without pbp-pmedian.
    UnsupportedFormulationError
        If the problem is no p-median problem.
    """
    problem = task.problem
    lacking = _lacking(problem)
    if lacking:
        raise UnsupportedFormulationError(
            f"pbp-pmedian takes p-median problems only, but {lacking}; use exact or compact."
        )
    with task.loading("pbp-pmedian"):
        import pbp_pmedian

        _set_threads(task.threads)
    candidates = problem.candidates.nonzero()[0]
    value, opened, _, _, _ = pbp_pmedian.solve(
        -problem.class_similarity[:, candidates].T,
        problem.n_selected,
        time_limit=task.time_limit,
        backend="highs",
    )
    if value is not None:
        task.offer(candidates[list(opened)], bound=-value)
    task.finished = not task.late
    if not task.finished:
        task.reason = "no proof within the time limit"
    elif value is None:
        task.reason = "it gave up before the time limit"


def _set_threads(threads: int) -> None:
    """Let HiGHS have so many: the package states none, so those of the first solve remain."""
    import highspy

    first = highspy.Highs()
    first.setOptionValue("output_flag", False)
    first.setOptionValue("threads", threads)
    first.run()


def _lacking(problem: Problem) -> str:
    """What keeps the problem from being a p-median problem; empty if nothing does."""
    what = {
        f"n_per_class is {problem.n_per_class}": problem.n_per_class != 1,
        "R is not zero": problem.feature_similarity.any(),
        "b is not zero": problem.bias.any(),
        "classes must differ": problem.distinct and problem.n_classes > 1,
        "it has side constraints": problem.has_side_constraints,
    }
    return next((reason for reason, holds in what.items() if holds), "")
