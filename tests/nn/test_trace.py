"""Course of a solve, out of all that solution files may hold."""

from __future__ import annotations

import json
import math

import pytest

from qpm_nn.explanations import draw_solver_trace, solver_trace
from qpm_opt import InvalidInputError

PROGRESS = [
    [0.5, None, None],
    [1.0, 3.0, math.inf],
    [2.0, 3.0, 9.0],
    [3.0, 5.0, 9.5],
    [4.0, 4.0, 6.0],
]


def test_only_what_is_new_is_kept():
    trace = solver_trace(
        {"progress": PROGRESS, "wall_time": 4.5, "objective": 5.0, "bound": 6.0, "method": "exact"}
    )
    assert trace.incumbents == ((1.0, 3.0), (3.0, 5.0))
    assert trace.bounds == ((2.0, 9.0), (4.0, 6.0))
    assert (trace.end, trace.objective, trace.bound) == (4.5, 5.0, 6.0)
    assert json.loads(json.dumps(trace.to_dict()))["bounds"] == [[2.0, 9.0], [4.0, 6.0]]
    axes = draw_solver_trace(trace).axes[0]
    steps = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    assert steps[0].get_xdata().tolist() == [1.0, 3.0, 4.5]
    assert steps[1].get_ydata().tolist() == [9.0, 6.0, 6.0]


@pytest.mark.parametrize(
    "progress",
    [
        None,
        [],
        [[0.0, 1.0, None]],
        [[0.0, None, -2.0]],
        [[1.0, -math.inf, math.inf]],
        [[1.0, 5.0, 5.0]],
        [[1.0, 5.0, 1e12], [2.0, 5.0, 5.1]],
        [[1.0, 0.0, 0.0], [2.0, 1e-9, None]],
    ],
)
def test_sparse_traces_are_drawn(progress, recwarn):
    trace = solver_trace({"progress": progress, "bound": None})
    assert trace.bound is None and math.isfinite(trace.end)
    figure = draw_solver_trace(trace)
    figure.canvas.draw()
    assert all(math.isfinite(limit) for limit in figure.axes[0].get_ylim())
    assert not recwarn.list


def test_first_bounds_do_not_hide_the_rest():
    trace = solver_trace({"progress": [[1.0, 5.0, 1e12], [2.0, 5.0, 5.1]]})
    assert draw_solver_trace(trace).axes[0].get_ylim()[1] < 10


def test_other_progress_is_refused():
    with pytest.raises(InvalidInputError, match="expected"):
        solver_trace({"progress": [[1.0, 2.0]]})
