"""Measures of runs: gaps and their integrals, means of solving times, performance profiles, spread.

Everything maximises, as :class:`qpm_opt.Problem` does, and every time is in seconds. The gap of
bound and objective is :attr:`qpm_opt.Result.relative_gap`; the gaps here are Berthold's, which lie
in [0, 1] and can therefore be integrated from a moment at which nothing was known.

A *trace* is what :attr:`qpm_opt.Result.progress` holds: entries (time, incumbent, bound) in
ascending time, None where nothing is known. What an entry says holds until the next one, and a
value once known is never lost: the incumbent is the largest so far, the bound the smallest.

A *solving time* is inf for a run that did not solve its instance, and one beyond the time limit
counts as such.

References
----------
Berthold, Measuring the impact of primal heuristics, Operations Research Letters 41(6), 2013,
611-614. Dolan and Moré, Benchmarking optimization software with performance profiles, Mathematical
Programming 91, 2002, 201-213. Gould and Scott, A note on performance profiles for benchmarking
software, ACM Transactions on Mathematical Software 43(2), 2016, article 15.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qpm_opt import InvalidInputError

FloatArray: TypeAlias = NDArray[np.float64]
#: Entries (time, incumbent, bound) or longer, such as those of :class:`qpm_opt.Progress`.
Trace: TypeAlias = Iterable[Sequence[float | None]]
TraceEntry: TypeAlias = tuple[float, float | None, float | None]

#: Seconds that a solving time counts at least in a performance ratio: differences below are those
#: of the clock, and a ratio to 0 has no value.
TIME_FLOOR = 1e-3

#: To be printed with every performance profile of more than two solvers.
GOULD_SCOTT_WARNING = (
    "This profile compares every solver with the best of all solvers shown, not the solvers with "
    "each other: below the best one their order may change when a solver is left out, so compare "
    "two of them by a profile of these two alone (Gould and Scott, 2016)."
)


def primal_gap(value: float | None, reference: float) -> float:
    """Distance from a value up to a reference, relative to the larger magnitude, in [0, 1].

    Parameters
    ----------
    value : float or None
        Objective of an incumbent; None if there is none.
    reference : float
        Objective of the best assignment known.

    Returns
    -------
    float
        0 if the value is the reference or above it, 1 if there is no value or the signs differ,
        else ``(reference - value) / max(|reference|, |value|)``. A value of 0 has gap 1 to a
        positive reference, and a negative value has gap 1 to a reference of 0.

    Raises
    ------
    InvalidInputError
        If value or reference is not finite.

    Notes
    -----
    gamma of Berthold (2013), who measures from an optimum. From any other reference a better value
    would get a positive gap; here it gets 0.
    """
    reference = _finite(reference, "The reference")
    if value is None:
        return 1.0
    value = _finite(value, "The value")
    return 0.0 if value >= reference else _relative_distance(value, reference)


def primal_dual_gap(incumbent: float | None, bound: float | None) -> float:
    """Distance of incumbent and bound, relative to the larger magnitude, in [0, 1].

    Parameters
    ----------
    incumbent, bound : float or None
        None if not known.

    Returns
    -------
    float
        0 if they are equal, 1 if one is unknown or the signs differ, else
        ``|bound - incumbent| / max(|bound|, |incumbent|)``. A bound below the incumbent has a
        positive gap too, so that a false bound does not look like a proof.

    Raises
    ------
    InvalidInputError
        If incumbent or bound is not finite.

    Notes
    -----
    The gap that SCIP integrates: Berthold's with the bound as the reference. It differs from
    :attr:`qpm_opt.Result.relative_gap`, which is relative to the objective and unlimited.
    """
    incumbent, bound = _optional(incumbent, "The incumbent"), _optional(bound, "The bound")
    if incumbent is None or bound is None:
        return 1.0
    return _relative_distance(incumbent, bound)


def primal_integral(trace: Trace, reference: float, *, time_limit: float) -> float:
    """Area under the primal gap of a trace from 0 to the time limit, in seconds.

    Parameters
    ----------
    trace : iterable of (time, incumbent, bound)
        The gap is 1 before the first incumbent. The last one holds until the limit; entries after
        the limit do not count.
    reference : float
        Objective of the best assignment known, the same for all runs that are compared.
    time_limit : float
        Seconds, > 0.

    Returns
    -------
    float
        0 (the reference at once) to ``time_limit`` (no incumbent); divided by the limit, the mean
        primal gap of the run.

    Raises
    ------
    InvalidInputError
        If the trace's times descend, or a number is out of its range or not finite.

    Notes
    -----
    P(T) of Berthold (2013) with T the time limit.
    """
    reference = _finite(reference, "The reference")
    return _integral(trace, lambda incumbent, _: primal_gap(incumbent, reference), time_limit)


def primal_dual_integral(trace: Trace, *, time_limit: float) -> float:
    """Area under the primal-dual gap of a trace from 0 to the time limit, in seconds.

    Needs no reference, and measures the proof as well as the search.

    Parameters
    ----------
    trace : iterable of (time, incumbent, bound)
        The gap is 1 until both are known. The last entry holds until the limit; entries after the
        limit do not count.
    time_limit : float
        Seconds, > 0.

    Returns
    -------
    float
        0 to ``time_limit``.

    Raises
    ------
    InvalidInputError
        If the trace's times descend, or a number is out of its range or not finite.

    Notes
    -----
    P(T) of Berthold (2013) with :func:`primal_dual_gap` in place of the primal gap.
    """
    return _integral(trace, primal_dual_gap, time_limit)


def running_best(trace: Trace) -> list[TraceEntry]:
    """Entries of a trace with the best incumbent and bound up to each.

    Parameters
    ----------
    trace : iterable of (time, incumbent, bound)

    Raises
    ------
    InvalidInputError
        If the trace's times descend, or a number in it is out of its range or not finite.
    """
    entries: list[TraceEntry] = []
    latest = 0.0
    best_incumbent: float | None = None
    best_bound: float | None = None
    for entry in trace:
        if len(entry) < 3:
            raise InvalidInputError(
                f"The trace has the entry {entry!r}; (time, incumbent, bound) was expected."
            )
        time = _finite(entry[0], "A time of the trace")
        if time < latest:
            raise InvalidInputError(
                f"The trace has the time {time} after {latest}; times must ascend from 0."
            )
        incumbent = _optional(entry[1], "An incumbent of the trace")
        bound = _optional(entry[2], "A bound of the trace")
        if incumbent is not None:
            best_incumbent = incumbent if best_incumbent is None else max(best_incumbent, incumbent)
        if bound is not None:
            best_bound = bound if best_bound is None else min(best_bound, bound)
        entries.append((time, best_incumbent, best_bound))
        latest = time
    return entries


def time_to_first_incumbent(trace: Trace) -> float:
    """Seconds until a trace has an incumbent; inf if it never has.

    Parameters
    ----------
    trace : iterable of (time, incumbent, bound)
        All of it counts: what a run found after its time limit, too.

    Raises
    ------
    InvalidInputError
        If the trace's times descend, or a number in it is out of its range or not finite.
    """
    return next(
        (time for time, incumbent, _ in running_best(trace) if incumbent is not None), math.inf
    )


def time_to_within(trace: Trace, reference: float, share: float) -> float:
    """Seconds until the incumbent is within a share of the reference; inf if it never is.

    Parameters
    ----------
    trace : iterable of (time, incumbent, bound)
        All of it counts: what a run found after its time limit, too.
    reference : float
        Objective of the best assignment known.
    share : float
        Relative distance allowed, in [0, 1): 0.01 for one per cent. The incumbent must be at least
        ``reference - share * |reference|``.

    Raises
    ------
    InvalidInputError
        If the trace's times descend, or a number is out of its range or not finite.
    """
    reference = _finite(reference, "The reference")
    share = _finite(share, "The share")
    if not 0.0 <= share < 1.0:
        raise InvalidInputError(f"The share is {share}; a number in [0, 1) was expected.")
    target = reference - share * abs(reference)
    return next(
        (
            time
            for time, incumbent, _ in running_best(trace)
            if incumbent is not None and incumbent >= target
        ),
        math.inf,
    )


def shifted_geometric_mean(times: ArrayLike, *, time_limit: float, shift: float) -> float:
    """Shifted geometric mean of solving times, in seconds; unsolved runs count at the limit.

    Parameters
    ----------
    times : array of shape (n_runs,)
        Solving times, >= 0; inf if unsolved.
    time_limit : float
        Seconds, > 0.
    shift : float
        Seconds, > 0, to be reported with the mean; 10 in Mittelmann's benchmarks. It keeps short
        times, and times of 0, from deciding the mean.

    Returns
    -------
    float
        ``prod(t_i + shift)^(1 / n_runs) - shift``, in [0, time_limit].

    Raises
    ------
    InvalidInputError
        If there are no times, one is NaN or negative, or limit or shift is not positive and finite.

    Notes
    -----
    Achterberg, Constraint Integer Programming, PhD thesis, TU Berlin, 2007.
    """
    limit = _positive(time_limit, "The time limit")
    shift = _positive(shift, "The shift")
    counted = np.minimum(_not_empty(_times(times, 1), "times"), limit)
    # log1p and expm1 stay exact for times that are tiny beside the shift.
    return float(shift * np.expm1(np.log1p(counted / shift).mean()))


def par10(times: ArrayLike, *, time_limit: float) -> float:
    """Mean solving time in seconds with unsolved runs at ten times the limit (PAR10).

    Parameters
    ----------
    times : array of shape (n_runs,)
        Solving times, >= 0; inf if unsolved.
    time_limit : float
        Seconds, > 0.

    Raises
    ------
    InvalidInputError
        If there are no times, one is NaN or negative, or the limit is not positive and finite.

    Notes
    -----
    Penalised average runtime with factor 10; Bischl et al., ASlib: A benchmark library for
    algorithm selection, Artificial Intelligence 237, 2016, 41-58.
    """
    limit = _positive(time_limit, "The time limit")
    array = _not_empty(_times(times, 1), "times")
    return float(np.where(array <= limit, array, 10.0 * limit).mean())


def n_solved(times: ArrayLike, *, time_limit: float) -> int:
    """Number of runs that solved their instance within the limit.

    Parameters
    ----------
    times : array of shape (n_runs,)
        Solving times, >= 0; inf if unsolved.
    time_limit : float
        Seconds, > 0.

    Raises
    ------
    InvalidInputError
        If a time is NaN or negative, or the limit is not positive and finite.
    """
    limit = _positive(time_limit, "The time limit")
    return int(np.count_nonzero(_times(times, 1) <= limit))


def virtual_best(times: ArrayLike) -> FloatArray:
    """Solving times of the virtual best solver: on every instance, those of the fastest solver.

    Parameters
    ----------
    times : array of shape (n_solvers, n_instances)
        Solving times, >= 0; inf if unsolved.

    Returns
    -------
    ndarray of shape (n_instances,)
        Seconds; inf where no solver solves the instance.

    Raises
    ------
    InvalidInputError
        If there is no solver, or a time is NaN or negative.
    """
    best: FloatArray = _not_empty(_times(times, 2), "solvers").min(axis=0)
    return best


def performance_ratios(times: ArrayLike, *, time_limit: float) -> FloatArray:
    """Solving times relative to those of the fastest solver on the same instance.

    Parameters
    ----------
    times : array of shape (n_solvers, n_instances)
        Solving times, >= 0; inf if unsolved. Those below :data:`TIME_FLOOR` count as that.
    time_limit : float
        Seconds, > 0.

    Returns
    -------
    ndarray of shape (n_solvers, n_instances)
        1 for the fastest solver and all that tie with it, inf for an instance that is not solved
        within the limit, by this solver or by any.

    Raises
    ------
    InvalidInputError
        If there is no solver, a time is NaN or negative, or the limit is not positive and finite.

    Notes
    -----
    r_ps of Dolan and Moré (2002), section 2, with r_M = inf.
    """
    limit = _positive(time_limit, "The time limit")
    array = _not_empty(_times(times, 2), "solvers")
    solved = array <= limit
    counted = np.where(solved, np.maximum(array, TIME_FLOOR), np.inf)
    best = np.broadcast_to(counted.min(axis=0), counted.shape)
    ratios: FloatArray = np.full(counted.shape, np.inf)
    np.divide(counted, best, out=ratios, where=solved)
    return ratios


class PerformanceProfile(NamedTuple):
    """Step functions, one a solver, that change at the same ratios and are constant in between.

    Attributes
    ----------
    ratios : ndarray of shape (n_steps,)
        tau, ascending from 1: every performance ratio that occurs.
    shares : ndarray of shape (n_solvers, n_steps)
        rho_s(tau), ascending in [0, 1]: the share of all instances that the solver solves within
        tau times the time of the fastest. The last column is the share that it solves at all.
    """

    ratios: FloatArray
    shares: FloatArray


def performance_profile(times: ArrayLike, *, time_limit: float) -> PerformanceProfile:
    """Performance profile of solvers on the same instances.

    With more than two solvers, print :data:`GOULD_SCOTT_WARNING` beside it.

    Parameters
    ----------
    times : array of shape (n_solvers, n_instances)
        Solving times, >= 0; inf if unsolved. Those below :data:`TIME_FLOOR` count as that.
    time_limit : float
        Seconds, > 0.

    Returns
    -------
    PerformanceProfile
        Instances that nobody solves stay in the denominator of every share.

    Raises
    ------
    InvalidInputError
        If there is no solver or no instance, a time is NaN or negative, or the limit is not
        positive and finite.

    Notes
    -----
    rho_s(tau) of Dolan and Moré (2002), section 2.
    """
    of_runs = performance_ratios(times, time_limit=time_limit)
    n_instances = of_runs.shape[1]
    if n_instances == 0:
        raise InvalidInputError("There are no instances; a profile needs at least one.")
    ratios = np.union1d(of_runs[np.isfinite(of_runs)], [1.0])
    counts = [np.searchsorted(np.sort(row), ratios, side="right") for row in of_runs]
    return PerformanceProfile(ratios, np.array(counts) / n_instances)


class Spread(NamedTuple):
    """Median and range of a measure over repeated runs, in its own unit."""

    median: float
    minimum: float
    maximum: float


def spread(values: ArrayLike) -> Spread:
    """Median and range of a measure over the seeds and permutations of one instance.

    Parameters
    ----------
    values : array of shape (n_runs,)
        Times, gaps or objectives; inf for a time that was never reached. The mean of the two middle
        values is the median of an even number.

    Raises
    ------
    InvalidInputError
        If there are no values, or one is NaN or -inf.
    """
    array = _not_empty(_numbers(values, "values", 1), "values")
    if not (array > -np.inf).all():
        raise InvalidInputError("The values contain NaN or -inf; numbers or inf were expected.")
    return Spread(float(np.median(array)), float(array.min()), float(array.max()))


def relative_noise(times: ArrayLike) -> float:
    """Coefficient of variation of the times of identical runs: what the machine adds to them.

    Parameters
    ----------
    times : array of shape (n_runs,)
        Seconds, finite and >= 0, of at least two runs that differ in nothing.

    Returns
    -------
    float
        Sample standard deviation (n_runs - 1 in the denominator) divided by the mean; 0 if all
        times are equal, those of 0 included.

    Raises
    ------
    InvalidInputError
        If there are fewer than two times, or one is negative or not finite.
    """
    array = _times(times, 1)
    if len(array) < 2:
        raise InvalidInputError(
            f"There are {len(array)} times; noise shows only in two or more identical runs."
        )
    if not np.isfinite(array).all():
        raise InvalidInputError("One of the times is inf; noise is that of runs which all ended.")
    if np.ptp(array) == 0.0:
        return 0.0
    return float(array.std(ddof=1) / array.mean())


def _relative_distance(first: float, second: float) -> float:
    """Berthold's gap of two finite numbers, in [0, 1]."""
    if first == second:
        return 0.0
    if min(first, second) < 0.0 < max(first, second):
        return 1.0
    return abs(first - second) / max(abs(first), abs(second))


def _integral(
    trace: Trace, gap: Callable[[float | None, float | None], float], time_limit: float
) -> float:
    """Area under the step function ``gap(incumbent, bound)`` from 0 to the limit."""
    limit = _positive(time_limit, "The time limit")
    area, start, height = 0.0, 0.0, 1.0
    for time, incumbent, bound in running_best(trace):
        if time >= limit:
            break
        area += height * (time - start)
        start, height = time, gap(incumbent, bound)
    return area + height * (limit - start)


def _finite(value: float | None, what: str) -> float:
    """The value as a float, or :class:`InvalidInputError`."""
    try:
        number = math.nan if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InvalidInputError(f"{what} is {value!r}; a finite number was expected.")
    return number


def _optional(value: float | None, what: str) -> float | None:
    """The value as a float, None if it is None, or :class:`InvalidInputError`."""
    return None if value is None else _finite(value, f"{what}, if there is one,")


def _positive(value: float, what: str) -> float:
    """The value as a float above 0, or :class:`InvalidInputError`."""
    number = _finite(value, what)
    if number <= 0.0:
        raise InvalidInputError(f"{what} is {number}; a number of seconds above 0 was expected.")
    return number


def _numbers(values: ArrayLike, what: str, ndim: int) -> FloatArray:
    """Float64 array of that many dimensions, or :class:`InvalidInputError`."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as failure:
        raise InvalidInputError(f"The {what} are not an array of numbers: {failure}") from None
    if array.ndim != ndim:
        raise InvalidInputError(
            f"The {what} have shape {array.shape}; {ndim} dimension(s) were expected."
        )
    return array


def _times(values: ArrayLike, ndim: int) -> FloatArray:
    """Times, 0 to inf, or :class:`InvalidInputError`."""
    array = _numbers(values, "times", ndim)
    bad = array[~(array >= 0.0)]
    if bad.size:
        raise InvalidInputError(
            f"One of the times is {bad[0]}; 0 or more was expected, inf for an unsolved run."
        )
    return array


def _not_empty(array: FloatArray, what: str) -> FloatArray:
    """The array, or :class:`InvalidInputError` if its first dimension is 0."""
    if len(array) == 0:
        raise InvalidInputError(f"There are no {what}; at least one was expected.")
    return array
