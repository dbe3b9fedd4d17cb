"""Who is told how a run goes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

from qpm_nn.pipelines.stages import RunDirectory
from qpm_nn.training import REPORT_INTERVAL, BatchReport, EpochReport
from qpm_nn.training_log import TensorBoardLog, write_epoch
from qpm_opt import Progress


class ImageReport(NamedTuple):
    """How far a stage is that goes through images."""

    n_done: int
    n_images: int
    seconds_left: float


class Observer:
    """Told how a run goes; does nothing itself."""

    def stage(self, name: str) -> None:
        """A stage begins (to run, or to be checked and reused)."""

    def epoch(self, name: str, report: EpochReport) -> None:
        """An epoch of training ended."""

    def batch(self, name: str, report: BatchReport) -> None:
        """An epoch of training has come further; a few times a second."""

    def images(self, report: ImageReport) -> None:
        """Of the images that a stage embeds, extracts from or measures, more are done."""

    def solving(self, progress: Progress) -> None:
        """Incumbent, bound or the number of free features changed."""

    def fitting(self, detail: str) -> None:
        """A sparse layer has come further."""

    def reused(self, name: str) -> None:
        """The outputs of an earlier run of the stage were valid."""


@dataclass(frozen=True)
class OnEpoch:
    """Logs every epoch of a stage, and tells the observer."""

    directory: RunDirectory
    stage: str
    observer: Observer
    tensorboard: TensorBoardLog | None

    def __call__(self, report: EpochReport) -> None:
        """Log an epoch, and tell the observer."""
        self.directory.log(self.stage, "epoch", **report._asdict())
        write_epoch(self.directory / "training.csv", self.stage, report)
        if self.tensorboard is not None:
            self.tensorboard.write(report)
        self.observer.epoch(self.stage, report)


class ImageCounter:
    """Tells an observer how many images of a stage are done: at the end, and now and then before.

    Parameters
    ----------
    observer : Observer
    n_images : int
        In all.
    """

    def __init__(self, observer: Observer, n_images: int) -> None:
        self._observer = observer
        self._n_images = n_images
        self._n_done = 0
        self._start = self._told = time.perf_counter()

    def __call__(self, n_images: int) -> None:
        """So many more are done."""
        # Several devices count as many as the first one has, which has the most.
        self._n_done = min(self._n_done + n_images, self._n_images)
        n_left, now = self._n_images - self._n_done, time.perf_counter()
        if not n_left or now - self._told >= REPORT_INTERVAL:
            self._told = now
            seconds_left = n_left * (now - self._start) / self._n_done
            self._observer.images(ImageReport(self._n_done, self._n_images, seconds_left))
