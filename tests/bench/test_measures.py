"""Measures against values computed by hand, the definitions written as loops, and invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qpm_bench.measures import (
    GOULD_SCOTT_WARNING,
    TIME_FLOOR,
    n_solved,
    par10,
    performance_profile,
    performance_ratios,
    relative_noise,
    shifted_geometric_mean,
    spread,
    virtual_best,
)
from qpm_opt import InvalidInputError

INF, NAN = math.inf, math.nan

values = st.floats(-1e6, 1e6)
seconds = st.floats(0.01, 1e4)


@st.composite
def time_tables(draw, min_solvers=1):
    """Solving times (n_solvers, n_instances) with ties, failures and times beyond 100 s."""
    n_solvers, n_instances = draw(st.integers(min_solvers, 4)), draw(st.integers(1, 5))
    time = st.sampled_from([0.5, 1.0, 1.5, 2.0, 7.0, 100.0, 101.0, INF])
    row = st.lists(time, min_size=n_instances, max_size=n_instances)
    return np.array(draw(st.lists(row, min_size=n_solvers, max_size=n_solvers)))


# Means, counts and the virtual best


def test_shifted_geometric_mean_by_hand():
    # (0 + 10) (30 + 10) = 20 ** 2
    assert shifted_geometric_mean([0.0, 30.0], time_limit=60, shift=10) == pytest.approx(10.0)
    # Unsolved and beyond the limit count 30: (10 * 40 * 40 * 10) ** (1/4) = 20
    times = [0.0, INF, 31.0, 0.0]
    assert shifted_geometric_mean(times, time_limit=30, shift=10) == pytest.approx(10.0)


def test_par10_by_hand():
    assert par10([1.0, 60.0, 61.0, INF], time_limit=60) == (1 + 60 + 600 + 600) / 4


def test_number_solved_by_hand():
    assert n_solved([0.0, 59.0, 60.0, 60.5, INF], time_limit=60) == 3
    assert n_solved([], time_limit=60) == 0


def test_means_of_a_single_or_of_equal_times():
    for times in ([7.0], [7.0] * 5):
        assert shifted_geometric_mean(times, time_limit=60, shift=10) == pytest.approx(7.0)
        assert par10(times, time_limit=60) == 7.0
    assert shifted_geometric_mean([0.0, 0.0], time_limit=60, shift=10) == 0.0
    assert shifted_geometric_mean([INF, INF], time_limit=60, shift=10) == pytest.approx(60.0)
    assert par10([INF], time_limit=60) == 600.0


@settings(deadline=None)
@given(st.lists(seconds | st.just(INF), min_size=1, max_size=8), seconds, seconds)
def test_means_equal_the_naive_loops(times, limit, shift):
    product, penalised = 1.0, 0.0
    for time in times:
        product *= (min(time, limit) + shift) ** (1 / len(times))
        penalised += time if time <= limit else 10 * limit
    mean = shifted_geometric_mean(times, time_limit=limit, shift=shift)
    assert mean == pytest.approx(product - shift, rel=1e-6, abs=1e-8)
    assert par10(times, time_limit=limit) == pytest.approx(penalised / len(times))
    # It lies between the geometric and the arithmetic mean, and below the penalised one.
    counted = np.minimum(times, limit)
    assert np.exp(np.log(counted).mean()) <= mean * (1 + 1e-9)
    assert mean <= counted.mean() * (1 + 1e-9) <= par10(times, time_limit=limit) * (1 + 2e-9)


@settings(deadline=None)
@given(st.lists(seconds, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_means_do_not_depend_on_the_order_and_scale_with_time(times, random):
    mean = shifted_geometric_mean(times, time_limit=50, shift=10)
    slower = [8 * time for time in times]
    assert shifted_geometric_mean(slower, time_limit=400, shift=80) == pytest.approx(8 * mean)
    random.shuffle(times)
    assert shifted_geometric_mean(times, time_limit=50, shift=10) == pytest.approx(mean)


def test_tiny_times_survive_the_shift():
    assert shifted_geometric_mean([1e-12] * 3, time_limit=1, shift=10) == pytest.approx(1e-12)


def test_virtual_best_by_hand():
    best = virtual_best([[1.0, INF, INF, 4.0], [2.0, 3.0, INF, 4.0]])
    assert best.tolist() == [1.0, 3.0, INF, 4.0]
    assert virtual_best([[5.0, INF]]).tolist() == [5.0, INF]
    assert virtual_best(np.empty((2, 0))).shape == (0,)


@settings(deadline=None)
@given(time_tables(), st.randoms(use_true_random=False), st.floats(0.0, 10.0))
def test_a_dominated_solver_and_the_order_leave_the_virtual_best(times, random, delay):
    best = virtual_best(times).tolist()
    assert virtual_best([*times, random.choice(times) + delay]).tolist() == best
    assert virtual_best(random.sample(list(times), len(times))).tolist() == best
    solved = [n_solved(row, time_limit=100) for row in times]
    assert n_solved(best, time_limit=100) >= max(solved)
    assert par10(best, time_limit=100) <= min(par10(row, time_limit=100) for row in times)


# Performance profiles


def test_profile_by_hand():
    times = [
        [1.0, 4.0, INF, INF],  # fastest on the first instance
        [2.0, 2.0, 9.0, 200.0],  # fastest on the second and third; too late on the last
    ]
    assert performance_ratios(times, time_limit=100).tolist() == [
        [1.0, 2.0, INF, INF],
        [2.0, 1.0, 1.0, INF],
    ]
    profile = performance_profile(times, time_limit=100)
    assert profile.ratios.tolist() == [1.0, 2.0]
    assert profile.shares.tolist() == [[0.25, 0.5], [0.5, 0.75]]


def test_tied_solvers_are_all_fastest():
    profile = performance_profile([[3.0, 5.0], [3.0, 5.0], [6.0, 5.0]], time_limit=60)
    assert profile.ratios.tolist() == [1.0, 2.0]
    assert profile.shares.tolist() == [[1.0, 1.0], [1.0, 1.0], [0.5, 1.0]]


def test_profile_of_instances_that_nobody_solves():
    profile = performance_profile([[INF, 101.0], [INF, INF]], time_limit=100)
    assert profile.ratios.tolist() == [1.0]
    assert profile.shares.tolist() == [[0.0], [0.0]]


def test_profile_of_a_single_solver_is_its_share_solved():
    profile = performance_profile([[1.0, 50.0, INF]], time_limit=100)
    assert profile.ratios.tolist() == [1.0]
    assert profile.shares.tolist() == [[2 / 3]]


def test_times_below_the_floor_are_tied():
    ratios = performance_ratios([[0.0], [TIME_FLOOR], [3 * TIME_FLOOR]], time_limit=100)
    assert ratios.ravel().tolist() == pytest.approx([1.0, 1.0, 3.0])


def naive_share(times, solver, tau, limit):
    count = 0
    for instance in range(len(times[0])):
        best = min(row[instance] for row in times)
        own = times[solver][instance]
        count += own <= limit and own / best <= tau
    return count / len(times[0])


@settings(deadline=None)
@given(time_tables())
def test_profile_equals_the_naive_loop(times):
    profile = performance_profile(times, time_limit=100)
    assert profile.shares.shape == (len(times), len(profile.ratios))
    for solver, shares in enumerate(profile.shares):
        for tau, share in zip(profile.ratios, shares, strict=True):
            assert share == naive_share(times, solver, tau, 100)


@settings(deadline=None)
@given(time_tables())
def test_profile_is_a_distribution_function(times):
    ratios, shares = performance_profile(times, time_limit=100)
    assert ratios[0] == 1.0 and (np.diff(ratios) > 0).all() and np.isfinite(ratios).all()
    assert (np.diff(shares, axis=1) >= 0).all()
    n_instances = times.shape[1]
    solved = [n_solved(row, time_limit=100) for row in times]
    assert shares[:, -1].tolist() == [count / n_instances for count in solved]
    # Whatever anybody solves has a fastest solver.
    assert shares[:, 0].sum() >= n_solved(virtual_best(times), time_limit=100) / n_instances - 1e-12


@settings(deadline=None)
@given(time_tables(), st.integers(-3, 10))
def test_profile_does_not_depend_on_the_unit_of_time(times, exponent):
    unit = 2.0**exponent
    profile = performance_profile(times, time_limit=100)
    other = performance_profile(unit * times, time_limit=unit * 100)
    assert other.ratios.tolist() == profile.ratios.tolist()
    assert other.shares.tolist() == profile.shares.tolist()


@settings(deadline=None)
@given(time_tables(), st.randoms(use_true_random=False))
def test_profile_follows_the_order_of_solvers_and_ignores_that_of_instances(times, random):
    profile = performance_profile(times, time_limit=100)
    solvers = random.sample(range(times.shape[0]), times.shape[0])
    instances = random.sample(range(times.shape[1]), times.shape[1])
    other = performance_profile(times[solvers][:, instances], time_limit=100)
    assert other.ratios.tolist() == profile.ratios.tolist()
    assert other.shares.tolist() == profile.shares[solvers].tolist()


@settings(deadline=None)
@given(time_tables())
def test_the_virtual_best_among_the_solvers_has_the_highest_profile(times):
    before = performance_profile(times, time_limit=100)
    after = performance_profile([*times, virtual_best(times)], time_limit=100)
    assert after.ratios.tolist() == before.ratios.tolist()
    assert after.shares[:-1].tolist() == before.shares.tolist()
    assert (after.shares[-1] == after.shares[:, -1].max()).all()


def test_the_warning_is_true():
    """The order of the last two solvers is reversed when the first is left out."""
    times = np.array([[1.0, 1.0, 9.0], [2.0, 2.0, 9.0], [3.0, 3.0, 1.0]])
    of_three = performance_profile(times, time_limit=60).shares[:, 0]
    of_two = performance_profile(times[1:], time_limit=60).shares[:, 0]
    assert of_three[1] < of_three[2]
    assert of_two[0] > of_two[1]
    assert "Gould and Scott" in GOULD_SCOTT_WARNING


# Spread and noise


def test_spread_by_hand():
    assert spread([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
    assert spread([4.0, 1.0, 2.0, 3.0])._asdict() == {"median": 2.5, "minimum": 1.0, "maximum": 4.0}
    assert spread([5.0]) == spread([5.0] * 4) == (5.0, 5.0, 5.0)
    assert spread([-1.0, INF, 2.0]) == (2.0, -1.0, INF)
    assert spread([1.0, INF]) == (INF, 1.0, INF)
    assert spread([INF, INF]) == (INF, INF, INF)


@settings(deadline=None)
@given(st.lists(values, min_size=1, max_size=9))
def test_spread_equals_sorting(numbers):
    ordered = sorted(numbers)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    assert spread(numbers) == pytest.approx((middle, ordered[0], ordered[-1]))


def test_noise_by_hand():
    # Mean 10; squared deviations 1 + 0 + 1 over n - 1 = 2.
    assert relative_noise([9.0, 10.0, 11.0]) == pytest.approx(0.1)
    assert relative_noise([0.0, 0.0]) == 0.0
    assert relative_noise([0.1] * 3) == 0.0


@settings(deadline=None)
@given(st.lists(seconds, min_size=2, max_size=9))
def test_noise_equals_the_naive_loop_in_any_unit(times):
    mean = sum(times) / len(times)
    variance = sum((time - mean) ** 2 for time in times) / (len(times) - 1)
    noise = relative_noise(times)
    assert noise == pytest.approx(math.sqrt(variance) / mean, abs=1e-9)
    assert relative_noise([1000 * time for time in times]) == pytest.approx(noise, abs=1e-9)


# Input that means nothing

OF_RUNS = {
    "mean": lambda times: shifted_geometric_mean(times, time_limit=60, shift=10),
    "par10": lambda times: par10(times, time_limit=60),
    "n_solved": lambda times: n_solved(times, time_limit=60),
    "noise": relative_noise,
}
OF_TABLES = {
    "virtual_best": virtual_best,
    "ratios": lambda times: performance_ratios(times, time_limit=60),
    "profile": lambda times: performance_profile(times, time_limit=60),
}


@pytest.mark.parametrize("measure", OF_RUNS.values(), ids=OF_RUNS)
def test_times_that_mean_nothing_are_refused(measure):
    for bad in (NAN, -1.0, -INF, None):
        with pytest.raises(InvalidInputError, match="One of the times is"):
            measure([1.0, 2.0, bad])
    for shape in (1.0, [[1.0, 2.0]]):
        with pytest.raises(InvalidInputError, match="have shape"):
            measure(shape)
    with pytest.raises(InvalidInputError, match="not an array of numbers"):
        measure(["fast", "slow"])


@pytest.mark.parametrize("measure", OF_TABLES.values(), ids=OF_TABLES)
def test_tables_that_mean_nothing_are_refused(measure):
    for bad in (NAN, -1.0, -INF, None):
        with pytest.raises(InvalidInputError, match="One of the times is"):
            measure([[1.0, 2.0], [3.0, bad]])
    with pytest.raises(InvalidInputError, match="have shape"):
        measure([1.0, 2.0])
    with pytest.raises(InvalidInputError, match="not an array of numbers"):
        measure([[1.0, 2.0], [3.0]])
    with pytest.raises(InvalidInputError, match="There are no solvers"):
        measure(np.empty((0, 3)))


def test_empty_input_has_no_mean_no_profile_and_no_spread():
    for measure in (OF_RUNS["mean"], OF_RUNS["par10"], spread):
        with pytest.raises(InvalidInputError, match="There are no"):
            measure([])
    with pytest.raises(InvalidInputError, match="There are no instances"):
        performance_profile(np.empty((2, 0)), time_limit=60)
    assert performance_ratios(np.empty((2, 0)), time_limit=60).shape == (2, 0)


def test_spread_and_noise_refuse_what_has_no_place_in_them():
    for bad in (NAN, -INF):
        with pytest.raises(InvalidInputError, match="NaN or -inf"):
            spread([1.0, bad])
    for times in ([], [1.0]):
        with pytest.raises(InvalidInputError, match="two or more"):
            relative_noise(times)
    with pytest.raises(InvalidInputError, match="inf"):
        relative_noise([1.0, INF])


@pytest.mark.parametrize("limit", [0.0, -1.0, NAN, INF, None])
def test_impossible_limits_and_shifts_are_refused(limit):
    for call in (
        lambda: shifted_geometric_mean([1.0], time_limit=limit, shift=10),
        lambda: par10([1.0], time_limit=limit),
        lambda: n_solved([1.0], time_limit=limit),
        lambda: performance_ratios([[1.0]], time_limit=limit),
        lambda: performance_profile([[1.0]], time_limit=limit),
    ):
        with pytest.raises(InvalidInputError, match="The time limit is"):
            call()
    with pytest.raises(InvalidInputError, match="The shift is"):
        shifted_geometric_mean([1.0], time_limit=60, shift=limit)
