from benchmark_utils import ChildSolver

from qpm_opt import SOLVERS


class Solver(ChildSolver):
    name = method = "projected"
    parameters = {"solver": list(SOLVERS)}
