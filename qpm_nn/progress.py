"""Progress of a run on stderr: live on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import time

from rich.console import Console
from rich.status import Status
from rich.text import Text

from qpm_nn.pipelines.observer import ImageReport, Observer
from qpm_nn.training import BatchReport, EpochReport
from qpm_opt import Progress
from qpm_opt.progress import format_progress

TITLES = {
    "embeddings": "embed the images",
    "dense": "make the dense model",
    "features": "extract features",
    "problem": "compute the constants",
    "solution": "select and assign features",
    "selection": "select features",
    "layer": "fit the sparse layer",
    "finetune": "fine-tune behind the fixed head",
    "model": "save the model",
    "metrics": "measure",
    "predictions": "model on test images",
    "calibration": "prediction sets",
    "activations": "model on training images",
    "report": "report",
    "figures": "draw",
}
#: Seconds between two lines where there is no terminal.
LINE_INTERVAL = 5.0
#: Between two parts of a line, and before what a terminal has no room for in the line above.
GAP, INDENT = "   ", "    "
#: Columns of the spinner before a line.
SPINNER_WIDTH = 2


def title(stage: str) -> str:
    """What a stage does; those of iterations are called ``<name>_<number>``."""
    name, _, number = stage.partition("_")
    return TITLES[name] + (f" ({number})" if number else "")


class ConsoleObserver(Observer):
    """Shows the progress of stages, epochs and the solver; use as a context manager.

    Parameters
    ----------
    console : rich.console.Console
        Of stderr.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = Status("", console=console)
        self._stage: str | None = None
        self._stage_start = self._last_line = time.perf_counter()
        self._detail = ""

    def __enter__(self) -> ConsoleObserver:
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._status.stop()
        if kind is None:
            self._finish()

    def stage(self, name: str) -> None:
        """Close the line of the stage before and begin one."""
        self._finish()
        self._stage, self._detail, self._stage_start = name, "", time.perf_counter()
        self._status.update(title(name))

    def reused(self, name: str) -> None:
        """Say so in place of a duration."""
        self._detail = "unchanged, reused"

    def epoch(self, name: str, report: EpochReport) -> None:
        """Show the epoch's averages."""
        n_left = report.n_epochs - report.epoch
        left = f"   {_duration(n_left * report.duration)} left" if n_left else ""
        epoch = f"epoch {report.epoch}/{report.n_epochs}"
        self._show(f"{epoch}   {_averages(report)}{left}", is_last=not n_left)

    def batch(self, name: str, report: BatchReport) -> None:
        """Show the averages of the epoch so far."""
        share = report.n_done / report.n_images
        self._show(
            f"epoch {report.epoch}/{report.n_epochs}, {share:.0%}   {_averages(report)}   "
            f"{_duration(report.seconds_left)} left"
        )

    def images(self, report: ImageReport) -> None:
        """Show how many images are done."""
        n_images, n_done = report.n_images, report.n_done
        if n_done == n_images:
            self._show(f"{n_images:,} images", is_last=True)
        else:
            left = _duration(report.seconds_left)
            self._show(f"{n_done:,} of {n_images:,} images   {left} left")

    def solving(self, progress: Progress) -> None:
        """Show incumbent, bound, gap and free features."""
        self._show(format_progress(progress, progress.time).strip())

    def fitting(self, detail: str) -> None:
        """Show how far the fit is."""
        self._show(detail)

    def _show(self, detail: str, is_last: bool = False) -> None:
        self._detail = detail
        self._status.update(Text(self._folded(title(self._stage or "dense"), SPINNER_WIDTH)))
        now = time.perf_counter()
        if not self._console.is_terminal and not is_last:
            if now - self._last_line > LINE_INTERVAL:
                self._console.print(f"    {detail}", highlight=False, soft_wrap=True)
                self._last_line = now

    def _finish(self) -> None:
        if self._stage is not None:
            elapsed = time.perf_counter() - self._stage_start
            done = f"✓ {title(self._stage):<36} {elapsed:6.1f} s"
            text = Text(self._folded(done))
            text.stylize("green", 0, 1)
            text.stylize("dim", len(done))
            self._console.print(text, highlight=False, soft_wrap=True)
            self._stage = None

    def _folded(self, line: str, margin: int = 0) -> str:
        """The line and the detail, which a terminal too narrow for it has broken between parts."""
        width = self._console.width - margin if self._console.is_terminal else math.inf
        lines = [line]
        for part in self._detail.split(GAP):
            if len(lines[-1]) + len(GAP) + len(part) <= width:
                lines[-1] += GAP + part
            else:
                lines.append(INDENT + part)
        return "\n".join(lines)


def _averages(report: EpochReport | BatchReport) -> str:
    return (
        f"loss {report.loss:.3f}   training accuracy {report.accuracy:.3f}   "
        f"{report.images_per_second:.0f} images/s"
    )


def _duration(seconds: float) -> str:
    """Like 12 s, 3:05 min, 2:10 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return "{}:{:02d} h".format(*divmod(minutes, 60))
