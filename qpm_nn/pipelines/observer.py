"""Who is told how a run goes."""

from __future__ import annotations

from dataclasses import dataclass

from qpm_nn.pipelines.stages import RunDirectory
from qpm_nn.training import EpochReport
from qpm_nn.training_log import TensorBoardLog, write_epoch
from qpm_opt import Progress


class Observer:
    """Told how a run goes; does nothing itself."""

    def stage(self, name: str) -> None:
        """A stage begins (to run, or to be checked and reused)."""

    def epoch(self, name: str, report: EpochReport) -> None:
        """An epoch of training ended. Not told when several devices train."""

    def solving(self, progress: Progress) -> None:
        """Incumbent, bound or the number of free features changed."""

    def fitting(self, detail: str) -> None:
        """A sparse layer has come further."""

    def reused(self, name: str) -> None:
        """The outputs of an earlier run of the stage were valid."""


@dataclass(frozen=True)
class OnEpoch:
    """Logs every epoch; a class, because it must be picklable when several devices train."""

    directory: RunDirectory
    stage: str
    observer: Observer | None
    tensorboard: TensorBoardLog | None

    def __call__(self, report: EpochReport) -> None:
        """Log an epoch, and tell the observer."""
        self.directory.log(self.stage, "epoch", **report._asdict())
        write_epoch(self.directory / "training.csv", self.stage, report)
        if self.tensorboard is not None:
            self.tensorboard.write(report)
        if self.observer is not None:
            self.observer.epoch(self.stage, report)
