"""What a record claims, against verified solutions, proved optima and its own solution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qpm_bench.judge import contradictions, judge
from qpm_bench.outcomes import outcomes
from qpm_bench.records import Record, Status
from qpm_opt import Problem

PROBLEM = Problem(
    np.zeros((0, 4)), np.zeros((4, 4)), [10.0, 6.0, 2.0, 0.0], n_selected=2, n_per_class=0
)
PROVED = replace(PROBLEM, best_known=16.0, proved=True)


def record_of(**fields) -> Record:
    common = {"key": "k", "instance": "one", "instance_sha256": PROBLEM.sha256, "method": "exact"}
    common |= {"solver": "", "seed": 0, "permutation": 0, "threads": 1, "time_limit": 60.0}
    common |= {"start_sha256": "", "status": Status.OK, "selection": [2, 3], "objective": 2.0}
    return Record(**common | {"bound": 16.0, "wall_time": 5.0} | fields)


def judged_of(problem, **fields):
    (judged,) = judge([record_of(**fields)], {"one": problem})
    return judged


def test_a_proved_optimum_refutes_a_bound_that_no_other_run_does():
    assert judged_of(PROBLEM, bound=2.0).record.status is Status.OK
    wrong = judged_of(PROVED, bound=2.0)
    assert wrong.record.status is Status.WRONG
    assert "is below the optimum of the instance 16" in wrong.record.reason
    assert not outcomes([wrong])[0].solved
    # A published value is rounded.
    assert judged_of(PROVED, bound=16.0 - 1e-4).record.status is Status.OK
    # A value that is just the best known proves nothing.
    known = replace(PROBLEM, best_known=16.0)
    assert judged_of(known, bound=2.0).record.status is Status.OK


@pytest.mark.parametrize(
    ("progress", "claim"),
    [
        ([[0.0, 1e6, 16.0]], "the objective"),
        ([[0.0, 2.5, None], [1.0, 2.0, 16.0]], "the objective"),
        ([[0.0, None, 1.0], [1.0, 2.0, 16.0]], "the bound"),
    ],
)
def test_progress_that_was_never_made_is_wrong(progress, claim):
    wrong = judged_of(PROVED, progress=progress).record
    assert wrong.status is Status.WRONG and f"its progress claims {claim}" in wrong.reason


def test_progress_that_was_made_is_not():
    honest = [[0.0, None, None], [0.1, -1.0, None], [0.2, 2.0, 20.0], [1.0, 2.0, 16.0]]
    assert judged_of(PROVED, progress=honest).record.status is Status.OK


@pytest.mark.parametrize(
    "progress", [[{"a": 1, "b": 2, "c": 3}], ["123"], [[1.0]], [[0.0, "x", 20.0]]]
)
def test_progress_that_is_none_is_left_to_its_reader(progress):
    (run,) = outcomes([judged_of(PROVED, progress=progress)])
    assert run.record.status is Status.OK and run.trace_damage and run.trace == []


def test_an_optimum_that_is_beaten_is_named():
    false = replace(PROBLEM, best_known=12.0, proved=True)
    best = record_of(selection=[0, 1], objective=16.0)
    judged = judge([best], {"one": false})
    (sentence,) = contradictions(judged, {"one": false})
    assert "one has a verified solution of 16" in sentence
    assert contradictions(judge([best], {"one": PROVED}), {"one": PROVED}) == []


def test_near_zero_the_largest_coefficient_is_the_measure():
    bias = [10.0, -9.99999, -20.0, -20.0]
    near_zero = replace(PROBLEM, feature_bias=np.array(bias))
    claims = {"instance_sha256": near_zero.sha256, "selection": [0, 1], "objective": 1e-5}
    closed = judged_of(near_zero, bound=1.05e-5, **claims)
    assert closed.relative_gap > 1e-2 and closed.closed
    assert not judged_of(near_zero, bound=1.5e-5, **claims).closed


@pytest.mark.parametrize(
    ("times", "solved"),
    [
        ({"solve_time": 60.5, "wall_time": 70.0}, True),
        ({"solve_time": 60.0, "build_time": 10.0, "wall_time": 75.0}, False),
        ({"wall_time": 5000.0}, False),
    ],
)
def test_a_proof_that_comes_late_counts_as_none(times, solved):
    (run,) = outcomes([judged_of(PROVED, selection=[0, 1], objective=16.0, **times)])
    assert run.solved is solved


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"instance": "../one"}, "no name of a file"),
        ({"instance": "/one"}, "no name of a file"),
        ({"instance": ""}, "no name of a file"),
        ({"threads": -1}, "not positive"),
        ({"peak_memory": -1}, "peak_memory is negative"),
        ({"seed": -1}, "seed is negative"),
    ],
)
def test_records_that_no_run_leaves_are_damaged(fields, message):
    with pytest.raises(ValueError, match=message):
        Record.from_json(record_of(**fields).to_json())


def test_signs_that_no_page_can_show_are_replaced():
    held = Record.from_json(record_of(reason="a\ud800b\x1bc\nd").to_json())
    assert held.reason == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c\nd"
    held.to_json().encode()
