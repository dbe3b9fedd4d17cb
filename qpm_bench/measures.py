"""Measures of many runs: means of solving times, performance profiles, spread, noise.

A *solving time* is in seconds, inf for a run that did not solve its instance; one beyond the time
limit counts as such. Those of one run are in :mod:`qpm_bench.traces`.

References
----------
Dolan and Moré, Benchmarking optimization software with performance profiles, Mathematical
Programming 91, 2002, 201-213. Gould and Scott, A note on performance profiles for benchmarking
software, ACM Transactions on Mathematical Software 43(2), 2016, article 15.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qpm_bench.traces import positive_seconds
from qpm_opt import InvalidInputError

FloatArray: TypeAlias = NDArray[np.float64]

#: Seconds that a solving time counts at least in a performance ratio: differences below are those
#: of the clock, and a ratio to 0 has no value.
TIME_FLOOR = 1e-3

#: To be printed with every performance profile of more than two solvers.
GOULD_SCOTT_WARNING = (
    "This profile compares every solver with the best of all solvers shown, not the solvers with "
    "each other: below the best one their order may change when a solver is left out, so compare "
    "two of them by a profile of these two alone (Gould and Scott, 2016)."
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
    limit = positive_seconds(time_limit, "The time limit")
    shift = positive_seconds(shift, "The shift")
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
    limit = positive_seconds(time_limit, "The time limit")
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
    limit = positive_seconds(time_limit, "The time limit")
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
    limit = positive_seconds(time_limit, "The time limit")
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
