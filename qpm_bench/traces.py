"""Measures of one run: gaps, their integrals, and when its incumbents came.

Everything maximises, as :class:`qpm_opt.Problem` does, and every time is in seconds. The gap of
bound and objective is :attr:`qpm_opt.Result.relative_gap`; the gaps here are Berthold's, which lie
in [0, 1] and can therefore be integrated from a moment at which nothing was known.

A *trace* is what :attr:`qpm_opt.Result.progress` holds: entries (time, incumbent, bound) in
ascending time, None where nothing is known. What an entry says holds until the next one, and a
value once known is never lost: the incumbent is the largest so far, the bound the smallest.

References
----------
Berthold, Measuring the impact of primal heuristics, Operations Research Letters 41(6), 2013,
611-614.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from qpm_opt import InvalidInputError

#: Entries (time, incumbent, bound) or longer, such as those of :class:`qpm_opt.Progress`.
Trace: TypeAlias = Iterable[Sequence[float | None]]
TraceEntry: TypeAlias = tuple[float, float | None, float | None]


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
        if not isinstance(entry, list | tuple) or len(entry) < 3:
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
    limit = positive_seconds(time_limit, "The time limit")
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


def positive_seconds(value: float, what: str) -> float:
    """The value as a float above 0, or :class:`InvalidInputError`."""
    number = _finite(value, what)
    if number <= 0.0:
        raise InvalidInputError(f"{what} is {number}; a number of seconds above 0 was expected.")
    return number
