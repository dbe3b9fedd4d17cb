"""Gap arithmetic, the solution file, and what the tracker believes."""

from __future__ import annotations

import json
import logging
import math

import numpy as np
import pytest

from qpm_opt.assignment import Assignment
from qpm_opt.problem import Problem
from qpm_opt.result import (
    Progress,
    Result,
    SolutionStatus,
    TerminationCondition,
    absolute_gap,
    meets,
    relative_gap,
)
from qpm_opt.tracking import Tracker


@pytest.mark.parametrize(
    ("objective", "bound", "absolute", "relative"),
    [
        (10.0, 11.0, 1.0, 0.1),
        (-10.0, -9.0, 1.0, 0.1),
        (-1.0, 1.0, 2.0, 2.0),
        (5.0, 5.0, 0.0, 0.0),
        (0.0, 0.0, 0.0, 0.0),
        (0.0, 1.0, 1.0, math.inf),
        (None, 1.0, None, None),
        (1.0, None, None, None),
        (None, None, None, None),
    ],
)
def test_gaps(objective, bound, absolute, relative):
    assert absolute_gap(objective, bound) == absolute
    assert relative_gap(objective, bound) == relative


def test_meets():
    assert meets(100.0, 100.00009, scale=1.0)
    assert not meets(100.0, 100.00011, scale=1.0)
    assert not meets(1e-6, 1.00001e-6, scale=1e-6)
    assert meets(0.0, 0.9e-7, scale=1.0)
    assert not meets(0.0, 1.1e-7, scale=1.0)
    assert not meets(None, 1.0, scale=1.0)
    assert not meets(1.0, None, scale=1.0)


def test_a_result_that_nobody_filled_claims_nothing():
    result = Result(method="compact")
    assert result.termination_condition is TerminationCondition.UNKNOWN
    assert result.solution_status is SolutionStatus.NO_SOLUTION
    assert result.objective is result.bound is result.relative_gap is result.assignment is None
    with pytest.raises(ValueError, match="no assignment"):
        result.save("never written", None)


@pytest.fixture
def problem() -> Problem:
    A = np.array([[3.0, 2, 1], [1, 2, 3]])
    return Problem(A, np.zeros((3, 3)), n_selected=2, n_per_class=1)


def pick(problem, first, second, selected=(0, 2)) -> Assignment:
    return Assignment.from_indices(selected, [[first], [second]], n_features=3)


def test_solution_file_has_the_documented_fields(problem, tmp_path):
    assignment = pick(problem, 0, 2)
    result = Result(
        method="compact", assignment=assignment, objective=6.0, bound=6.0, bound_kind="test"
    )
    result.save(tmp_path / "deep" / "s.json", problem)
    record = json.loads((tmp_path / "deep" / "s.json").read_text())
    documented = (
        "format problem_sha256 selection assignment objective objective_parts bound absolute_gap "
        "relative_gap bound_kind termination_condition solution_status method solver "
        "solver_version build_time solve_time wall_time progress options versions"
    )
    assert set(documented.split()) <= set(record)
    assert record["selection"] == [0, 2]
    assert record["assignment"] == [[0], [2]]
    assert record["objective_parts"] == {"assignment": 6.0, "similarity": 0.0, "bias": 0.0}
    assert "numpy" in record["versions"]
    loaded = Assignment.load(tmp_path / "deep" / "s.json", problem)
    np.testing.assert_array_equal(loaded.matrix, assignment.matrix)
    assert not list((tmp_path / "deep").glob(".s.json*")), "a temporary file was left"


def test_progress_in_the_file_is_time_incumbent_and_bound(problem, tmp_path):
    progress = (Progress(0.1, None, 9.0), Progress(0.2, 6.0, 9.0, n_free=2))
    Result(method="x", assignment=pick(problem, 0, 2), progress=progress).save(
        tmp_path / "s.json", problem
    )
    written = json.loads((tmp_path / "s.json").read_text())["progress"]
    assert written == [[0.1, None, 9.0], [0.2, 6.0, 9.0]]


def test_an_infinite_gap_is_null_in_the_file(problem, tmp_path):
    result = Result(method="x", assignment=pick(problem, 0, 2), objective=0.0, bound=1.0)
    result.save(tmp_path / "s.json", problem)
    assert json.loads((tmp_path / "s.json").read_text())["relative_gap"] is None


def test_tracker_keeps_the_best_feasible_assignment(problem):
    seen = []
    tracker = Tracker(problem, on_progress=seen.append)
    assert not tracker.offer(pick(problem, 0, 0), "equal classes")
    assert not tracker.offer(pick(problem, 1, 2), "not selected")
    assert tracker.objective is None
    assert tracker.offer(pick(problem, 2, 0), "worst")
    assert tracker.offer(pick(problem, 0, 2), "best")
    assert not tracker.offer(pick(problem, 2, 0), "worst again")
    assert tracker.objective == 6.0
    assert [entry.incumbent for entry in seen] == [2.0, 6.0]
    assert tracker.history == seen


def test_tracker_keeps_the_lowest_true_bound(problem, caplog):
    tracker = Tracker(problem)
    tracker.tighten(9.0, "first")
    tracker.tighten(10.0, "weaker")
    tracker.tighten(None, "none")
    tracker.tighten(math.inf, "infinite")
    tracker.tighten(math.nan, "undefined")
    assert (tracker.bound, tracker.bound_kind) == (9.0, "first")
    tracker.offer(pick(problem, 0, 2), "best")
    with caplog.at_level(logging.WARNING):
        tracker.tighten(5.0, "a liar")
    assert tracker.bound == 9.0
    assert "a liar claims" in caplog.text
    tracker.tighten(6.0 - 1e-12, "rounding")
    assert tracker.bound == 6.0, "a bound is never below the incumbent"
    assert tracker.closed


def test_tracker_drops_a_bound_that_an_incumbent_refutes(problem, caplog):
    tracker = Tracker(problem)
    tracker.tighten(5.0, "a liar")
    with caplog.at_level(logging.WARNING):
        tracker.offer(pick(problem, 0, 2), "best")
    assert tracker.bound is None
    assert tracker.bound_kind is None
    assert "refuted" in caplog.text


def test_tracker_keeps_the_proof_of_its_bound_and_of_no_other(problem):
    tracker = Tracker(problem)
    tracker.tighten(9.0, "first", "a proof")
    tracker.tighten(10.0, "weaker", "another proof")
    assert tracker.proof == "a proof"
    tracker.tighten(8.0, "the word of a solver")
    assert (tracker.bound, tracker.proof) == (8.0, None)
    tracker.tighten(5.0, "a liar", "a false proof")
    tracker.offer(pick(problem, 0, 2), "best")
    assert (tracker.bound, tracker.proof) == (None, None)


def test_tracker_tells_free_features_with_the_next_event_and_by_themselves(problem):
    seen = []
    tracker = Tracker(problem, on_progress=seen.append)
    tracker.tighten(9.0, "first")
    tracker.report_free(3)
    tracker.report_free(3)
    tracker.offer(pick(problem, 0, 2), "best")
    tracker.report_free(2)
    assert [(entry.bound, entry.incumbent, entry.n_free) for entry in seen] == [
        (9.0, None, None), (9.0, None, 3), (9.0, 6.0, 3), (9.0, 6.0, 2),
    ]  # fmt: skip
    assert tracker.history == seen


def test_tracker_clock(problem):
    assert Tracker(problem).remaining is None
    assert not Tracker(problem).expired
    assert Tracker(problem, time_limit=0).expired
    assert 0 < Tracker(problem, time_limit=100).remaining <= 100


def test_tracker_closes_at_the_gap_asked_for(problem):
    tracker = Tracker(problem, gap=0.5)
    tracker.offer(pick(problem, 0, 2), "best")
    tracker.tighten(9.5, "weak")
    assert not tracker.closed
    tracker.tighten(8.9, "good enough")
    assert tracker.closed
