"""Back ends by name, each solve in a child process."""

from qpm_opt.solvers.process import available_solvers, solve_in_child, solver_availability
from qpm_opt.solvers.registry import SOLVERS, get_solver

__all__ = ["SOLVERS", "available_solvers", "get_solver", "solve_in_child", "solver_availability"]
