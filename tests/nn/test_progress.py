"""What a run shows on stderr, and how often."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from qpm_nn import progress
from qpm_nn.pipelines import observer as observer_module
from qpm_nn.pipelines.observer import ImageCounter, ImageReport, Observer
from qpm_nn.progress import ConsoleObserver
from qpm_nn.training import BatchReport, EpochReport


class Reports(Observer):
    """Keeps them."""

    def __init__(self):
        self.found = []

    def images(self, report):
        self.found.append(report)


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by as much as is added to its only entry."""
    now = [100.0]
    monkeypatch.setattr(observer_module.time, "perf_counter", lambda: now[0])
    return now


def test_images_are_counted_now_and_then_and_at_the_end(clock):
    reports = Reports()
    count = ImageCounter(reports, 1000)
    for _ in range(10):
        clock[0] += 0.125
        count(64)
    assert [report.n_done for report in reports.found] == [192, 384, 576]
    assert reports.found[-1].seconds_left == pytest.approx(1.125 * 424 / 576)
    count(640)  # several devices may count too many
    assert reports.found[-1] == ImageReport(1000, 1000, 0.0)


def shown(monkeypatch, *calls) -> list[str]:
    """Lines of a stage, without a terminal."""
    monkeypatch.setattr(progress, "LINE_INTERVAL", -1.0)
    text = io.StringIO()
    with ConsoleObserver(Console(file=text, width=200)) as observer:
        observer.stage("dense")
        for method, *arguments in calls:
            getattr(observer, method)(*arguments)
    return [line.strip() for line in text.getvalue().splitlines()]


def test_epochs_are_shown_while_they_run(monkeypatch):
    *lines, end = shown(
        monkeypatch,
        ("batch", "dense", BatchReport(1, 2, 250, 1000, 0.5, 0.75, 100.0)),
        ("epoch", "dense", EpochReport(1, 2, 0.4, 0.8, 0.1, 10.0, 100.0)),
        ("epoch", "dense", EpochReport(2, 2, 0.3, 0.9, 0.1, 10.0, 100.0)),
    )
    assert lines == [
        "epoch 1/2, 25%   loss 0.500   training accuracy 0.750   100 images/s   18 s left",
        "epoch 1/2   loss 0.400   training accuracy 0.800   100 images/s   10 s left",
    ]
    assert end.endswith("epoch 2/2   loss 0.300   training accuracy 0.900   100 images/s")


def test_images_are_shown(monkeypatch):
    line, end = shown(
        monkeypatch,
        ("images", ImageReport(1500, 6000, 90.0)),
        ("images", ImageReport(6000, 6000, 0.0)),
    )
    assert line == "1,500 of 6,000 images   1:30 min left"
    assert end.endswith("6,000 images")


def test_a_narrow_terminal_has_lines_broken_between_their_parts():
    text = io.StringIO()
    terminal = Console(file=text, width=80, force_terminal=True, color_system=None)
    with ConsoleObserver(terminal) as observer:
        observer.stage("finetune")
        observer.epoch("finetune", EpochReport(20, 20, 0.3, 0.9, 0.1, 10.0, 100.0))
    *_, first, second = text.getvalue().split("\r")[-1].splitlines()
    assert first.endswith("s   epoch 20/20   loss 0.300")
    assert second == "    training accuracy 0.900   100 images/s"


@pytest.mark.parametrize("width", [60, 80])
def test_the_live_line_is_never_wider_than_the_terminal(width, monkeypatch):
    terminal = Console(file=io.StringIO(), width=width, force_terminal=True)
    observer = ConsoleObserver(terminal)
    seen = []
    monkeypatch.setattr(observer._status, "update", lambda text: seen.append(str(text)))
    observer.stage("finetune")
    observer.batch("finetune", BatchReport(12, 40, 500, 1000, 31.5, 0.75, 1.0))
    lines = seen[-1].splitlines()
    assert max(map(len, lines)) <= width - 2
    assert lines[-1].endswith("h left")
