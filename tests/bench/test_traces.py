"""Measures of a trace against values by hand, the definitions written as loops, invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qpm_bench.traces import (
    primal_dual_gap,
    primal_dual_integral,
    primal_gap,
    primal_integral,
    time_to_first_incumbent,
    time_to_within,
)
from qpm_opt import InvalidInputError, Problem, Progress, solve

INF, NAN = math.inf, math.nan

values = st.floats(-1e6, 1e6)
#: What a run may report: times on a grid of CELL seconds, values in any order, some missing.
CELL = 0.25
known = st.none() | st.integers(-20, 20).map(float)
traces = st.lists(st.tuples(st.integers(0, 40), known, known), max_size=8).map(
    lambda entries: [(CELL * time, *rest) for time, *rest in sorted(entries, key=lambda e: e[0])]
)
limits = st.integers(1, 60).map(lambda cells: CELL * cells)


# Gaps


@pytest.mark.parametrize(
    ("value", "reference", "gap"),
    [
        (90.0, 100.0, 0.1),
        (-100.0, -90.0, 0.1),
        (100.0, 100.0, 0.0),
        (0.0, 0.0, 0.0),
        (-0.0, 0.0, 0.0),
        (0.0, 5.0, 1.0),
        (-5.0, 0.0, 1.0),
        (-1.0, 100.0, 1.0),
        (-1e-200, 1e-200, 1.0),  # the product of the two underflows to 0
        (5e-324, 1e-323, 0.5),
        (None, 100.0, 1.0),
        (None, 0.0, 1.0),
        (101.0, 100.0, 0.0),
        (1.0, -100.0, 0.0),
    ],
)
def test_primal_gap_by_hand(value, reference, gap):
    assert primal_gap(value, reference) == pytest.approx(gap)


@settings(deadline=None)
@given(values, values, values)
def test_primal_gap_falls_as_the_value_rises(first, second, reference):
    low, high = sorted((first, second))
    assert 0.0 <= primal_gap(high, reference) <= primal_gap(low, reference) <= 1.0


@settings(deadline=None)
@given(values, values, st.integers(-20, 20))
def test_primal_gap_does_not_depend_on_the_unit(value, reference, exponent):
    assume(min(abs(value), abs(reference)) > 1e-200)
    unit = 2.0**exponent
    assert primal_gap(unit * value, unit * reference) == primal_gap(value, reference)


@pytest.mark.parametrize(
    ("incumbent", "bound", "gap"),
    [
        (90.0, 100.0, 0.1),
        (-100.0, -90.0, 0.1),
        (100.0, 90.0, 0.1),  # a false bound is no proof
        (7.0, 7.0, 0.0),
        (0.0, 0.0, 0.0),
        (0.0, 3.0, 1.0),
        (-3.0, 3.0, 1.0),
        (None, 3.0, 1.0),
        (3.0, None, 1.0),
        (None, None, 1.0),
    ],
)
def test_primal_dual_gap_by_hand(incumbent, bound, gap):
    assert primal_dual_gap(incumbent, bound) == pytest.approx(gap)


@pytest.mark.parametrize("bad", [NAN, INF, -INF, "much", 10**400])
def test_gaps_refuse_what_is_not_finite(bad):
    for call in (
        lambda: primal_gap(bad, 1.0),
        lambda: primal_gap(None, bad),
        lambda: primal_dual_gap(bad, 1.0),
        lambda: primal_dual_gap(None, bad),
    ):
        with pytest.raises(InvalidInputError, match="finite number was expected"):
            call()
    with pytest.raises(InvalidInputError, match="The reference is None"):
        primal_gap(1.0, None)


# Traces

TRACE = [
    (1.0, None, 200.0),
    (2.0, 50.0, None),
    (4.0, 80.0, 160.0),
    (6.0, 100.0, 100.0),
]


def test_integrals_by_hand():
    # Gaps to 100: 1 up to 2 s, 0.5 up to 4 s, 0.2 up to 6 s.
    assert primal_integral(TRACE, 100.0, time_limit=6.0) == pytest.approx(2 + 2 * 0.5 + 2 * 0.2)
    # Gaps to the bound: 1 up to 2 s, 1 - 50/200 up to 4 s, 1 - 80/160 up to 6 s.
    assert primal_dual_integral(TRACE, time_limit=6.0) == pytest.approx(2 + 2 * 0.75 + 2 * 0.5)


def test_nothing_is_added_once_the_gap_is_closed():
    for limit in (6.0, 1000.0):
        assert primal_integral(TRACE, 100.0, time_limit=limit) == pytest.approx(3.4)
        assert primal_dual_integral(TRACE, time_limit=limit) == pytest.approx(4.5)


def test_a_trace_is_cut_at_the_limit():
    assert primal_integral(TRACE, 100.0, time_limit=3.0) == pytest.approx(2.5)
    assert primal_dual_integral(TRACE, time_limit=3.0) == pytest.approx(2.75)
    assert primal_integral(TRACE, 100.0, time_limit=0.5) == 0.5


def test_the_last_value_holds_until_the_limit():
    assert primal_integral(TRACE, 200.0, time_limit=16.0) == pytest.approx(
        2 + 2 * 0.75 + 2 * 0.6 + 10 * 0.5
    )


@pytest.mark.parametrize("trace", [[], [(1.0, None, None)], [(50.0, 1.0, 1.0)]])
def test_without_an_incumbent_in_time_the_integrals_are_the_limit(trace):
    assert primal_integral(trace, 1.0, time_limit=10.0) == 10.0
    assert primal_dual_integral(trace, time_limit=10.0) == 10.0


def test_reference_at_once_gives_zero():
    assert primal_integral([(0.0, 5.0, None)], 5.0, time_limit=10.0) == 0.0
    assert primal_dual_integral([(0.0, 5.0, 5.0)], time_limit=10.0) == 0.0


def test_worse_and_missing_values_do_not_undo_better_ones():
    trace = [(0.0, 80.0, 120.0), (1.0, 60.0, 200.0), (2.0, None, None)]
    assert primal_integral(trace, 100.0, time_limit=10.0) == pytest.approx(2.0)
    assert primal_dual_integral(trace, time_limit=10.0) == pytest.approx(10 / 3)


def test_of_simultaneous_entries_the_last_holds():
    trace = [(1.0, 10.0, None), (1.0, 50.0, None), (1.0, 100.0, None)]
    assert primal_integral(trace, 100.0, time_limit=10.0) == 1.0


def known_up_to(trace, moment):
    """Best incumbent and bound of all entries up to a moment, straight from the definition."""
    incumbents = [i for time, i, _ in trace if time <= moment and i is not None]
    bounds = [b for time, _, b in trace if time <= moment and b is not None]
    return max(incumbents, default=None), min(bounds, default=None)


@settings(deadline=None)
@given(traces, limits, st.integers(-20, 20))
def test_integrals_equal_the_sum_over_fine_cells(trace, limit, reference):
    # Nothing changes inside a cell, so the value in its middle times its width is its area.
    middles = np.arange(CELL / 2, limit, CELL)
    states = [known_up_to(trace, moment) for moment in middles]
    primal = sum(CELL * primal_gap(incumbent, reference) for incumbent, _ in states)
    both = sum(CELL * primal_dual_gap(incumbent, bound) for incumbent, bound in states)
    assert primal_integral(trace, reference, time_limit=limit) == pytest.approx(primal)
    assert primal_dual_integral(trace, time_limit=limit) == pytest.approx(both)


@settings(deadline=None)
@given(traces, limits, st.integers(1, 20), st.integers(0, 40), known)
def test_one_more_incumbent_never_raises_the_primal_integral(trace, limit, reference, at, value):
    more = sorted([*trace, (CELL * at, value, None)], key=lambda entry: entry[0])
    before = primal_integral(trace, reference, time_limit=limit)
    assert primal_integral(more, reference, time_limit=limit) <= before + 1e-12


@settings(deadline=None)
@given(traces, limits, st.integers(-20, 20))
def test_integrals_scale_with_time(trace, limit, reference):
    slower = [(4 * time, incumbent, bound) for time, incumbent, bound in trace]
    assert primal_integral(slower, reference, time_limit=4 * limit) == 4 * primal_integral(
        trace, reference, time_limit=limit
    )
    assert primal_dual_integral(slower, time_limit=4 * limit) == 4 * primal_dual_integral(
        trace, time_limit=limit
    )


def test_times_to_quality_by_hand():
    assert time_to_first_incumbent(TRACE) == 2.0
    assert time_to_within(TRACE, 100.0, 0.5) == 2.0  # exactly on the edge
    assert time_to_within(TRACE, 100.0, 0.49) == 4.0
    assert time_to_within(TRACE, 100.0, 0.0) == 6.0
    assert time_to_within(TRACE, 101.0, 0.01) == 6.0
    assert time_to_within(TRACE, 101.0, 0.001) == INF
    assert time_to_within([(3.0, -101.0, None)], -100.0, 0.01) == 3.0
    assert time_to_within([(3.0, -101.0, None)], -100.0, 0.001) == INF
    assert time_to_within([(3.0, -1e-9, None), (4.0, 0.0, None)], 0.0, 0.01) == 4.0


@pytest.mark.parametrize("trace", [[], [(1.0, None, 5.0)]])
def test_times_to_quality_without_incumbent(trace):
    assert time_to_first_incumbent(trace) == time_to_within(trace, 1.0, 0.01) == INF


@settings(deadline=None)
@given(traces, st.integers(-20, 20), st.floats(0.0, 0.99), st.floats(0.0, 0.99))
def test_times_to_quality_grow_with_what_is_asked(trace, reference, first, second):
    strict, lenient = sorted((first, second))
    assert (
        time_to_first_incumbent(trace)
        <= time_to_within(trace, reference, lenient)
        <= time_to_within(trace, reference, strict)
    )


def test_progress_of_a_result_and_of_its_file_is_a_trace():
    progress = (Progress(0.5, None, 9.0, 7), Progress(1.0, 4.0, 8.0), Progress(2.0, 8.0, 8.0, 0))
    stored = [list(entry[:3]) for entry in progress]
    for trace in (progress, stored, iter(stored)):
        assert primal_integral(trace, 8.0, time_limit=10.0) == 1.5
    assert primal_dual_integral(progress, time_limit=10.0) == 1.5


def test_a_real_run_is_a_trace():
    rng = np.random.default_rng(0)
    problem = Problem(rng.random((3, 8)), np.zeros((8, 8)), n_selected=4, n_per_class=2)
    result = solve(problem, time_limit=10)
    first = time_to_first_incumbent(result.progress)
    best = time_to_within(result.progress, result.objective, 0.0)
    assert first <= best < INF
    area = primal_integral(result.progress, result.objective, time_limit=1000.0)
    assert first - 1e-9 <= area <= best + 1e-9
    assert primal_dual_integral(result.progress, time_limit=1000.0) >= first - 1e-9


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        ([(2.0, 1.0, None), (1.0, 2.0, None)], "the time 1.0 after 2.0"),
        ([(-1.0, 1.0, None)], "times must ascend from 0"),
        ([(None, 1.0, 1.0)], "A time of the trace is None"),
        ([(NAN, 1.0, 1.0)], "A time of the trace is nan"),
        ([(INF, 1.0, 1.0)], "A time of the trace is inf"),
        ([(1.0, NAN, 1.0)], "An incumbent of the trace, if there is one, is nan"),
        ([(1.0, -INF, 1.0)], "An incumbent of the trace, if there is one, is -inf"),
        ([(1.0, 1.0, INF)], "A bound of the trace, if there is one, is inf"),
        ([(1.0, 1.0)], r"the entry \(1.0, 1.0\)"),
    ],
)
def test_broken_traces_are_refused(trace, message):
    for call in (
        lambda: primal_integral(trace, 1.0, time_limit=10.0),
        lambda: primal_dual_integral(trace, time_limit=10.0),
        lambda: time_to_first_incumbent(trace),
        lambda: time_to_within(trace, 1.0, 0.01),
    ):
        with pytest.raises(InvalidInputError, match=message):
            call()


@pytest.mark.parametrize("share", [-0.01, 1.0, NAN, INF])
def test_impossible_shares_are_refused(share):
    with pytest.raises(InvalidInputError, match="The share is"):
        time_to_within([], 1.0, share)


@pytest.mark.parametrize("limit", [0.0, -1.0, NAN, INF, None])
def test_impossible_limits_are_refused(limit):
    for call in (
        lambda: primal_integral([], 1.0, time_limit=limit),
        lambda: primal_dual_integral([], time_limit=limit),
    ):
        with pytest.raises(InvalidInputError, match="The time limit is"):
            call()
