"""Figures of a report, drawn from :mod:`qpm_bench.curves`; nothing is computed here.

Entrants differ in colour, dashes and marker at once, so that a grey print and a colour-blind
reader lose nothing. The colours are those of Okabe and Ito, Color universal design, 2008.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from qpm_bench.curves import Profile, ScalingSeries, TraceLine, TracePanel

INK, MUTED, RULE, PAPER = "#000000", "#595959", "#d9d9d9", "#ffffff"
#: Blue, vermillion, bluish green, reddish purple, orange, sky blue, black; yellow is too pale.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK)
_DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))
_MARKERS = "os^DvPX<>*d"
#: Seconds at which axes of time begin at the earliest.
_FIRST = 0.01
#: Markers on a line from one end of the axis to the other.
_N_MARKERS = 4
#: Bounds further away than so many per cent are beyond the picture.
_FARTHEST = 1e4
_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana"],
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.5,
    "lines.markersize": 5.0,
    # Names may have a dollar sign; SVG keeps text as text.
    "text.parse_math": False,
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Look:
    """How an entrant is drawn in all figures; ``place`` in [0, 1) keeps markers apart."""

    colour: str
    dashes: Any
    marker: str
    place: float


def looks(entrants: Iterable[str]) -> dict[str, Look]:
    """A look for each entrant; no two of the first 44 share dashes and marker."""
    return {
        name: Look(
            COLOURS[i % len(COLOURS)],
            _DASHES[i % len(_DASHES)],
            _MARKERS[i % len(_MARKERS)],
            i * (math.sqrt(5.0) - 1.0) / 2.0 % 1.0,
        )
        for i, name in enumerate(entrants)
    }


def as_svg(figure: Figure, name: str) -> str:
    """The figure as SVG, the same at every call; ``name`` keeps references in a page apart."""
    stream = io.StringIO()
    with rc_context(_STYLE | {"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None})
    return stream.getvalue()


def as_png(figure: Figure) -> bytes:
    """The figure as PNG with 200 points an inch."""
    stream = io.BytesIO()
    with rc_context(_STYLE):
        figure.savefig(stream, format="png", dpi=200, bbox_inches="tight")
    return stream.getvalue()


@rc_context(_STYLE)
def draw_profile(profile: Profile, styles: Mapping[str, Look]) -> Figure:
    """Performance profile: step curves over the ratio to the fastest."""
    figure, axes = _one_panel(5.6, 3.6)
    ratios, shares = profile.profile
    end = max(10.0, 1.3 * ratios[-1])
    _log_axis(axes, 1.0, end)
    axes.set_ylim(0.0, 1.03)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))
    axes.set_xlabel("time as a multiple of the fastest entrant's")
    axes.set_ylabel(f"share of {profile.n_tasks} runs solved")
    handles = []
    for entrant, row in zip(profile.entrants, shares, strict=True):
        _steps(axes, ratios, row, 1.0, end, styles[entrant])
        handles.append(_handle(f"{entrant} ({row[-1] * profile.n_tasks:.0f})", styles[entrant]))
    _legend(axes, handles, "entrant (runs solved)")
    return figure


@rc_context(_STYLE)
def draw_traces(panel: TracePanel, styles: Mapping[str, Look]) -> Figure:
    """Bounds over time, and incumbents below them: distances from the best value known."""
    parts = [
        (lines, name)
        for is_bound, name in ((True, "bound"), (False, "incumbent"))
        if (lines := [line for line in panel.lines if line.is_bound is is_bound])
    ]
    height, between = 2.4, 0.25  # inches
    figure = Figure((5.6, height))
    ends = [line.end for line in panel.lines]
    # Before a tenth of the fastest run there is next to nothing.
    first = min(max(10.0 ** math.floor(math.log10(max(min(ends), _FIRST)) - 1.0), _FIRST), 0.1)
    relative = panel.best != 0.0
    for i, (lines, name) in enumerate(parts):
        axes = figure.add_axes((0.0, -i * (1.0 + between / height), 1.0, 1.0))
        _log_axis(axes, first, 1.25 * max(panel.time_limit, 2 * first, *ends))
        largest = max(abs(value) for line in lines for value in line.values)
        linear = 0.01 if relative else 10.0 ** math.floor(math.log10(largest or 1.0) - 4.0)
        _distance_axis(axes, lines, linear, " %" if relative else "")
        axes.set_ylabel(f"{name}, distance from best" + (", in % of it" if relative else ""))
        axes.axhline(0.0, color=INK, linewidth=0.8)
        axes.axvline(panel.time_limit, color=MUTED, linewidth=0.8, linestyle=":")
        for line in lines:
            times = np.maximum(line.times, first)
            _steps(axes, times, line.values, times[0], max(line.end, first), styles[line.entrant])
        if i + 1 < len(parts):
            axes.tick_params(labelbottom=False)
    axes.set_xlabel("seconds since the start of the solve")
    top = figure.axes[0]
    top.set_title(_wrapped(panel.instance, 70))
    entrants = list(dict.fromkeys(line.entrant for line in panel.lines))
    handles = [_handle(entrant, styles[entrant]) for entrant in entrants]
    handles.append(Line2D([], [], color=INK, linewidth=0.8, label=f"best known, {panel.best:.7g}"))
    handles.append(_limit_handle())
    _legend(top, handles)
    return figure


@rc_context(_STYLE)
def draw_scaling(series: Sequence[ScalingSeries], styles: Mapping[str, Look]) -> Figure:
    """A panel for each series: time to solve against a size, both logarithmic."""
    width, height, across, down = 2.9, 2.5, 0.85, 0.95  # inches of panels and between them
    n_columns = min(3, len(series))
    n_rows = math.ceil(len(series) / n_columns)
    total_width, total_height = n_columns * (width + across), n_rows * (height + down)
    figure = Figure((total_width, total_height))
    for i, one in enumerate(series):
        row, column = divmod(i, n_columns)
        left = across + column * (width + across)
        bottom = total_height - (row + 1) * (height + down) + 0.5
        axes = figure.add_axes(
            (left / total_width, bottom / total_height, width / total_width, height / total_height)
        )
        _draw_series(axes, one, styles)
    entrants = list(dict.fromkeys(name for one in series for name in one.points))
    handles = [_handle(name, styles[name]) for name in entrants]
    handles += [
        Line2D([], [], color=MUTED, marker="o", markerfacecolor=PAPER, label="unsolved", ls=""),
        _limit_handle(),
    ]
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.0 + 0.25 / total_width, 1.0),
        handlelength=3.2,
    )  # fmt: skip
    return figure


@rc_context(_STYLE)
def draw_memory(peaks: Mapping[str, Sequence[float]]) -> Figure:
    """A row for each entrant: a dot for each run, a box from five runs on."""
    figure, axes = _one_panel(5.6, 0.5 + 0.27 * len(peaks))
    values = np.concatenate([np.asarray(held) for held in peaks.values()])
    if values.max() > 20.0 * values.min():
        _log_axis(axes, values.min() / 1.15, values.max() * 1.15)
    else:
        axes.set_xlim(0.0, values.max() * 1.05)
    axes.set_xlabel("peak memory of the process and its children, MiB")
    rows = np.arange(len(peaks))
    for row, held in zip(rows, peaks.values(), strict=True):
        spots = row + np.linspace(-0.22, 0.22, len(held)) * (len(held) > 1)
        axes.plot(held, spots, "o", color=COLOURS[0], markersize=3.2, alpha=0.6, mew=0, zorder=2)
        if len(held) >= 5:
            axes.boxplot(
                [held], positions=[row], orientation="horizontal", widths=0.62, showfliers=False,
                manage_ticks=False, zorder=3, medianprops={"color": INK, "linewidth": 1.6},
                boxprops={"color": MUTED}, whiskerprops={"color": MUTED}, capprops={"color": MUTED},
            )  # fmt: skip
        else:
            axes.plot(np.median(held), row, "|", color=INK, markersize=12, mew=1.6, zorder=3)
    axes.set_yticks(rows, [_wrapped(name, 40) for name in peaks])
    axes.set_ylim(len(peaks) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    return figure


def _one_panel(width: float, height: float) -> tuple[Figure, Axes]:
    """A panel of that many inches; labels and legend lie around it, whatever their size."""
    figure = Figure((width, height))
    return figure, figure.add_axes((0.0, 0.0, 1.0, 1.0))


def _draw_series(axes: Axes, series: ScalingSeries, styles: Mapping[str, Look]) -> None:
    axes.set_title(_wrapped(f"{series.family}, {series.fixed}", 36))
    sizes = sorted({size for held in series.points.values() for size, _ in held})
    solved = [time for held in series.points.values() for _, time in held if time < math.inf]
    _log_axis(axes, sizes[0] / 1.25, sizes[-1] * 1.25)
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(FixedLocator([]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:.0f}"))
    axes.set_yscale("log")
    axes.set_ylim(min([*solved, series.time_limit / 10.0]) / 1.5, series.time_limit * 1.6)
    _plain_numbers(axes.yaxis)
    axes.set_xlabel(series.size)
    axes.set_ylabel("seconds to solve")
    axes.axhline(series.time_limit, color=MUTED, linewidth=0.8, linestyle=":")
    for i, (entrant, held) in enumerate(series.points.items()):
        look = styles[entrant]
        # Entrants that reach the limit would hide each other.
        aside = 1.0 + 0.16 * ((i + 0.5) / len(series.points) - 0.5)
        x = np.array([size * aside for size, _ in held])
        y = np.array([min(time, series.time_limit) for _, time in held])
        unsolved = y >= series.time_limit
        for j in range(len(held) - 1):
            # Along the limit there is nothing to see.
            if not unsolved[j : j + 2].all():
                axes.plot(x[j : j + 2], y[j : j + 2], color=look.colour, ls=look.dashes, lw=1.1)
        for is_solved in (True, False):
            chosen = np.array([(time < math.inf) == is_solved for _, time in held])
            face = look.colour if is_solved else PAPER
            axes.plot(x[chosen], y[chosen], look.marker, color=look.colour, markerfacecolor=face)


def _distance_axis(axes: Axes, lines: Sequence[TraceLine], linear: float, unit: str) -> None:
    """Symmetric logarithmic axis around 0, as far as there are values."""
    values = np.array([value for line in lines for value in line.values])
    axes.set_yscale("symlog", linthresh=linear, linscale=0.6)

    def reach(most: float) -> float:
        """The next power of ten, or nothing but the line of the best."""
        if most <= 0.0:
            return 0.3 * linear
        beyond = 10.0 ** math.ceil(math.log10(max(most, linear)) + 1e-9)
        return min(beyond, _FARTHEST) if unit else beyond

    top, bottom = reach(values.max()), reach(-values.min())
    axes.set_ylim(-bottom, 1.3 * top)
    powers = range(round(math.log10(linear)), math.ceil(math.log10(max(top, bottom))) + 1)
    ticks = [10.0**power for power in powers]
    shown = [-tick for tick in ticks if tick <= bottom] + [0.0]
    shown += [tick for tick in ticks if tick <= top]
    axes.yaxis.set_major_locator(FixedLocator(shown))
    axes.yaxis.set_minor_locator(FixedLocator([]))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:+g}{unit}" if value else f"0{unit}")
    )


def _log_axis(axes: Axes, first: float, last: float) -> None:
    axes.set_xscale("log")
    axes.set_xlim(first, last)
    _plain_numbers(axes.xaxis)


def _plain_numbers(axis: Any) -> None:
    """Ticks of a logarithmic axis as 0.1, 1, 10; 2 and 5 as well if it is short."""
    low, high = axis.get_view_interval()
    subs = (1.0,) if high / low > 300.0 else (1.0, 2.0, 5.0) if high / low > 8.0 else range(1, 10)
    axis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _steps(axes: Axes, x: Any, y: Any, start: float, end: float, look: Look) -> None:
    """A step function that is constant from each x on, with a few markers along a log axis."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    axes.step(
        np.append(x, end), np.append(y, y[-1]), where="post", color=look.colour,
        linestyle=look.dashes,
    )  # fmt: skip
    low, high = axes.get_xlim()
    end = max(end, start)
    n_markers = max(1, round(_N_MARKERS * math.log(end / start) / math.log(high / low)))
    spots = start * (end / start) ** ((np.arange(n_markers) + 0.15 + 0.7 * look.place) / n_markers)
    heights = y[np.searchsorted(x, spots, side="right") - 1]
    axes.plot(spots, heights, look.marker, color=look.colour)


def _handle(label: str, look: Look) -> Line2D:
    return Line2D(
        [], [], color=look.colour, linestyle=look.dashes, marker=look.marker,
        label=_wrapped(label, 44),
    )  # fmt: skip


def _limit_handle() -> Line2D:
    return Line2D([], [], color=MUTED, linewidth=0.8, linestyle=":", label="time limit")


def _legend(axes: Axes, handles: list[Line2D], title: str | None = None) -> None:
    """Legend on the right of the panel, where no data are."""
    axes.legend(
        handles=handles, title=title, loc="upper left", bbox_to_anchor=(1.02, 1.0),
        borderaxespad=0.0, handlelength=3.2, alignment="left",
    )  # fmt: skip


def _wrapped(text: str, width: int) -> str:
    return textwrap.fill(" ".join(text.split()), width)
