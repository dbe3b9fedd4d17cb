"""What competes: our methods, those that need a solver with each of them, and peers."""

from __future__ import annotations

from collections.abc import Iterable

from qpm_bench.names import check_name
from qpm_bench.peers import PEERS
from qpm_opt import SOLVERS, InvalidInputError

#: Methods by the name they have in a campaign; method and formulation of :func:`qpm_opt.solve`.
OURS = {
    "exact": ("exact", "compact"),
    "heuristic": ("heuristic", "compact"),
    "compact": ("compact", "compact"),
    "projected": ("compact", "projected"),
    "paper": ("paper", "compact"),
}
#: Methods that hand models to a solver.
WITH_SOLVER = ("compact", "projected", "paper")


def entrants(methods: Iterable[str], solvers: Iterable[str]) -> list[tuple[str, str]]:
    """Every method, with every solver if it needs one; the solver is empty otherwise.

    Raises
    ------
    InvalidInputError
        For an unknown method or solver.
    """
    chosen = list(solvers)
    found = [
        (method, solver)
        for method in methods
        for solver in (chosen if method in WITH_SOLVER else ("",))
    ]
    for method, solver in found:
        check_entrant(method, solver)
    return found


def check_entrant(method: str, solver: str) -> None:
    """Raise InvalidInputError unless the method exists and takes the solver."""
    check_name("method", method, (*OURS, *PEERS))
    if method in WITH_SOLVER:
        check_name("solver", solver, SOLVERS)
    elif solver:
        raise InvalidInputError(f"The method {method} takes no solver, but {solver} was given.")
