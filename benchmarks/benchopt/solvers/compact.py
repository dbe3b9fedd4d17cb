from benchmark_utils import ChildSolver

from qpm_opt import SOLVERS


class Solver(ChildSolver):
    name = method = "compact"
    parameters = {"solver": list(SOLVERS)}
