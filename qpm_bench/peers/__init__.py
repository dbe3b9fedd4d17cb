"""Outside methods that compete in campaigns, by name; each imports its library when it runs.

What each is asked to solve, and what is ours about its result, stands in its module. For all of
them the library decides on the selection alone, and :func:`qpm_opt.assign.assign_within` finds the
best assignment for it, distinctness and side constraints included, as it does for our own
heuristic. So no peer loses for an assignment that its library cannot state. The clock starts when
the library is loaded; nothing found after the time limit counts. None takes a start.
"""

from __future__ import annotations

from collections.abc import Callable

from qpm_bench.peers import annealing, p_median, submodular
from qpm_bench.peers.run import PeerRun

#: Functions of a :class:`~qpm_bench.peers.run.PeerRun`, which they fill, by name of the method.
PEERS: dict[str, Callable[[PeerRun], None]] = {
    "submodular-greedy": submodular.run,
    "pbp-pmedian": p_median.run,
    "simulated-annealing": annealing.run,
}
