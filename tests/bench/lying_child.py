"""In the place of ``qpm_bench.child``: ``exact`` calls the first features the best."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from qpm_bench import child
from qpm_opt import Problem
from qpm_opt.assign import assign

if __name__ == "__main__":
    job, outcome = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    if job["method"] == "exact":
        problem = Problem.load(job["problem"])
        assignment = assign(problem, np.arange(problem.n_selected))
        objective = problem.objective(assignment)
        held = {
            "status": "OK",
            "objective": objective,
            "bound": objective,
            "selection": assignment.selected.tolist(),
            "assignment": [row.nonzero()[0].tolist() for row in assignment.matrix],
        }
        outcome.write_text(json.dumps(held))
    else:
        child.main()
