"""Progress of a solve on stderr: live on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.text import Text

from qpm_opt.result import Progress, relative_gap

#: Seconds between two lines where there is no terminal.
LINE_INTERVAL = 5.0


@contextmanager
def progress_display(console: Console, n_features: int) -> Iterator[Callable[[Progress], None]]:
    """Show elapsed time, incumbent, bound, gap and free features while the block runs.

    Parameters
    ----------
    console : rich.console.Console
    n_features : int
        Of the problem.

    Yields
    ------
    callable
        To be called with every new :class:`~qpm_opt.result.Progress`.
    """
    start = time.perf_counter()
    latest = Progress(0.0, None, None)

    def update(progress: Progress) -> None:
        nonlocal latest
        latest = progress

    def line() -> Text:
        return Text(format_progress(latest, time.perf_counter() - start, n_features))

    if console.is_terminal:
        with Live(get_renderable=line, console=console, refresh_per_second=4, transient=True):
            yield update
        return

    done = threading.Event()

    def print_lines() -> None:
        while not done.wait(LINE_INTERVAL):
            console.print(line())

    printer = threading.Thread(target=print_lines, daemon=True)
    printer.start()
    try:
        yield update
    finally:
        done.set()
        printer.join()
    console.print(line())  # if the block failed, its error is the last word


def format_progress(progress: Progress, elapsed: float, n_features: int | None = None) -> str:
    """One line: elapsed seconds, incumbent, bound, gap, and how many features are free if known."""
    gap = relative_gap(progress.incumbent, progress.bound)
    incumbent = "-" if progress.incumbent is None else f"{progress.incumbent:.6f}"
    bound = "-" if progress.bound is None else f"{progress.bound:.6f}"
    percent = "-" if gap is None else f"{100 * gap:.3f} %"
    line = f"{elapsed:8.1f} s   incumbent {incumbent}   bound {bound}   gap {percent}"
    if progress.n_free is None:
        return line
    total = "" if n_features is None else f" of {n_features}"
    return f"{line}   {progress.n_free}{total} features free"
