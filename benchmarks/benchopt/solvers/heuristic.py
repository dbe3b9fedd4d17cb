from benchmark_utils import ChildSolver


class Solver(ChildSolver):
    name = method = "heuristic"
