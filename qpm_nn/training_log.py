"""Averages of the epochs of a run as a table, and for TensorBoard."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path
from typing import Any

from qpm_nn.training import EpochReport
from qpm_opt import InvalidInputError
from qpm_opt.files import replace_on_success

logger = logging.getLogger(__name__)

#: Of the file with a row for each epoch.
COLUMNS = ("stage", *EpochReport._fields)


def write_epoch(path: Path, stage: str, report: EpochReport) -> None:
    """Put the row of an epoch into a CSV file; later epochs of the stage were of another run.

    The file is replaced as a whole, so that a killed run leaves no half of a row.
    """
    rows = [
        row for row in _read_rows(path) if row["stage"] != stage or int(row["epoch"]) < report.epoch
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    writer.writerow({"stage": stage, **report._asdict()})
    with replace_on_success(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of the epochs until now; none, with a warning, if the file is another table."""
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
        # Versions may differ in the other columns.
        is_ours = {"stage", "epoch"} <= set(reader.fieldnames or ())
        if is_ours and all(int(row["epoch"]) > 0 for row in rows):
            return rows
    except (TypeError, ValueError, csv.Error):
        pass
    logger.warning("%s is no table of epochs; it begins anew.", path)
    return []


class TensorBoardLog:
    """Loss, accuracy, learning rate and images a second of a stage, for TensorBoard.

    Parameters
    ----------
    folder : Path
        Made at the first epoch.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def write(self, report: EpochReport) -> None:
        """Add an epoch; what an earlier run wrote of this and later ones is hidden."""
        if self._writer is None:
            self._writer = summary_writer()(str(self._folder), purge_step=report.epoch)
        for name in ("loss", "accuracy", "learning_rate", "images_per_second"):
            self._writer.add_scalar(name, getattr(report, name), report.epoch)
        self._writer.flush()
        if report.epoch == report.n_epochs:
            self._writer.close()


def summary_writer() -> Any:
    """The class that writes files of TensorBoard.

    Raises
    ------
    InvalidInputError
        If the package tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InvalidInputError(
            "Files for TensorBoard need the package tensorboard; install the extra: pip install "
            "'.[tensorboard]'."
        ) from None
    return SummaryWriter
