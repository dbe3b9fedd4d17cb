"""How a solver went: the best objective found and the bound, over time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from qpm_nn.explanations.canvas import MUTED, STYLE
from qpm_nn.explanations.panel import NAME_SIZE, plain_axes, titled_panel
from qpm_nn.explanations.plain import PlainData
from qpm_opt import InvalidInputError

#: Okabe and Ito (2008).
INCUMBENT, BOUND = "#0072b2", "#d55e00"
#: Times as far from the incumbent as the last bound: what lies beyond is cut off.
_FARTHEST = 8.0
# Inches.
WIDTH, HEIGHT, LEFT, BELOW = 4.6, 2.6, 0.95, 0.5


@dataclass(frozen=True)
class SolverTrace(PlainData):
    """What was known when; each list holds only changes, with times in seconds.

    Attributes
    ----------
    incumbents, bounds : tuple of (time, value)
        Best objective found so far, rising, and bound, falling.
    end : float
        When it stopped.
    objective, bound : float or None
        In the end.
    relative_gap : float or None
    termination_condition, method : str or None
        Of the solution file.
    """

    incumbents: tuple[tuple[float, float], ...]
    bounds: tuple[tuple[float, float], ...]
    end: float
    objective: float | None
    bound: float | None
    relative_gap: float | None
    termination_condition: str | None
    method: str | None


def solver_trace(solution: Mapping[str, Any]) -> SolverTrace:
    """The course of a solve, out of what a solution file holds.

    An incumbent below one before, or a bound above one before, tells nothing new and is left out,
    like what is missing or infinite.

    Parameters
    ----------
    solution : mapping
        Of ``solution.json``; ``progress`` has entries of time, incumbent and bound.

    Raises
    ------
    InvalidInputError
        If an entry of ``progress`` has another form.
    """
    incumbents: list[tuple[float, float]] = []
    bounds: list[tuple[float, float]] = []
    last = 0.0
    for entry in solution.get("progress") or ():
        if len(entry) != 3 or not _is_number(entry[0]):
            raise InvalidInputError(
                f"An entry of progress is {entry!r}; [time, incumbent, bound] was expected."
            )
        time, incumbent, bound = entry
        last = max(last, float(time))
        if _is_number(incumbent) and (not incumbents or incumbent > incumbents[-1][1]):
            incumbents.append((float(time), float(incumbent)))
        if _is_number(bound) and (not bounds or bound < bounds[-1][1]):
            bounds.append((float(time), float(bound)))
    times = [solution.get("wall_time"), last]
    objective, bound, gap = (
        float(value) if _is_number(value := solution.get(name)) else None
        for name in ("objective", "bound", "relative_gap")
    )
    return SolverTrace(
        incumbents=tuple(incumbents),
        bounds=tuple(bounds),
        end=max(float(time) for time in times if _is_number(time)),
        objective=objective,
        bound=bound,
        relative_gap=gap,
        termination_condition=solution.get("termination_condition"),
        method=solution.get("method"),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


@rc_context(STYLE)
def draw_solver_trace(trace: SolverTrace) -> Figure:
    """Steps of the incumbent and the bound over time; the gap is what lies between.

    First bounds that are much weaker than the last are cut off at the top.
    """
    axes = titled_panel(
        "How the selection was found", _caption(trace), LEFT, WIDTH, HEIGHT, right=0.3, below=BELOW
    )
    plain_axes(axes)
    end = trace.end if trace.end > 0 else 1.0
    axes.set_xlim(0, end)
    for points, colour, name in (
        (trace.incumbents, INCUMBENT, "incumbent"),
        (trace.bounds, BOUND, "bound"),
    ):
        if points:
            times = [*(time for time, _ in points), end]
            values = [value for _, value in points]
            style = {"color": colour, "linewidth": 1.8, "label": name}
            axes.step(times, [*values, values[-1]], where="post", **style)
            axes.plot(times[:-1], values, "o", color=colour, markersize=3)
    axes.set(xlabel="seconds", ylabel="objective")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.ticklabel_format(axis="y", useOffset=False)
    if trace.incumbents or trace.bounds:
        _frame(axes, trace)
        axes.legend(loc="best", frameon=False, fontsize=NAME_SIZE)
    else:
        axes.set_yticks([])
        axes.text(end / 2, 0.5, "nothing reported", ha="center", color=MUTED, fontsize=NAME_SIZE)
    return axes.figure


def _frame(axes: Axes, trace: SolverTrace) -> None:
    values = [value for _, value in (*trace.incumbents, *trace.bounds)]
    low, high = min(values), max(values)
    if trace.incumbents and trace.bounds:
        best = trace.incumbents[-1][1]
        near = max(trace.bounds[-1][1] - best, best - low, 1e-9 * abs(best))
        high = min(high, best + _FARTHEST * near)
    room = 0.06 * (high - low) or 0.01 * abs(high) or 1.0
    axes.set_ylim(low - room, high + room)


def _caption(trace: SolverTrace) -> str:
    parts = [f"Method {trace.method}" if trace.method else "", f"{trace.end:.1f} s"]
    if trace.termination_condition:
        parts.append(f"ended by: {trace.termination_condition.replace('_', ' ')}")
    if trace.objective is not None:
        parts.append(f"objective {trace.objective:.6g}")
    parts.append("no bound" if trace.bound is None else f"bound {trace.bound:.6g}")
    if trace.relative_gap is not None:
        parts.append(f"gap {100 * trace.relative_gap:.3g} %")
    return ", ".join(part for part in parts if part) + "."
