"""Logs of epochs: rows of what counts, also after a run that was killed or begun anew."""

from __future__ import annotations

import csv
import sys

import pytest

from qpm_nn.training import EpochReport
from qpm_nn.training_log import COLUMNS, TensorBoardLog, summary_writer, write_epoch
from qpm_opt import InvalidInputError


def report(epoch: int, loss: float = 0.5) -> EpochReport:
    return EpochReport(epoch, 3, loss, 0.25, 0.1, 2.0, 64.0)


def rows(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_epoch_has_one_row(tmp_path):
    path = tmp_path / "training.csv"
    for stage in ("dense", "finetune"):
        for epoch in (1, 2, 3):
            write_epoch(path, stage, report(epoch))
    assert [(row["stage"], row["epoch"]) for row in rows(path)] == [
        (stage, str(epoch)) for stage in ("dense", "finetune") for epoch in (1, 2, 3)
    ]
    assert tuple(rows(path)[0]) == COLUMNS
    assert float(rows(path)[0]["loss"]) == 0.5 and float(rows(path)[0]["accuracy"]) == 0.25


def test_epochs_of_an_earlier_run_make_way(tmp_path):
    path = tmp_path / "training.csv"
    for epoch in (1, 2, 3):
        write_epoch(path, "dense", report(epoch))
    write_epoch(path, "finetune", report(1))
    write_epoch(path, "dense", report(2, loss=0.75))
    found = [(row["stage"], row["epoch"], float(row["loss"])) for row in rows(path)]
    assert found == [("dense", "1", 0.5), ("finetune", "1", 0.5), ("dense", "2", 0.75)]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a,b\n1,2\n",
        b"epoch\n1\n",
        b"stage,epoch\ndense\n",
        b"stage,epoch\ndense,x\n",
        b"stage,epoch\ndense," + 5000 * b"9" + b"\n",
        b"\xff\n",
    ],
)
def test_another_table_makes_way(tmp_path, caplog, content):
    path = tmp_path / "training.csv"
    path.write_bytes(content)
    write_epoch(path, "dense", report(1))
    write_epoch(path, "dense", report(2))
    assert [(row["stage"], row["epoch"]) for row in rows(path)] == [("dense", "1"), ("dense", "2")]
    assert [r.levelname for r in caplog.records if "no table of epochs" in r.message] == ["WARNING"]


def test_rows_with_other_columns_stay(tmp_path, caplog):
    path = tmp_path / "training.csv"
    path.write_text("stage,epoch,loss,temperature\ndense,1,0.75,20\n")
    write_epoch(path, "dense", report(2))
    assert [(row["epoch"], row["loss"]) for row in rows(path)] == [("1", "0.75"), ("2", "0.5")]
    assert tuple(rows(path)[0]) == COLUMNS and not caplog.records


def test_tensorboard_reads_what_was_written(tmp_path):
    pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = TensorBoardLog(tmp_path / "dense")
    for epoch in (1, 2, 3):
        log.write(report(epoch, loss=1.0 / epoch))
    events = EventAccumulator(str(tmp_path / "dense"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [
        (epoch, pytest.approx(1.0 / epoch)) for epoch in (1, 2, 3)
    ]


def test_without_tensorboard_it_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InvalidInputError, match="the package tensorboard; install the extra"):
        summary_writer()
