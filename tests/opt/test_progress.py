"""The line that tells how a solve goes, on a terminal and elsewhere."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from qpm_opt import progress
from qpm_opt.progress import format_progress, progress_display
from qpm_opt.result import Progress


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (Progress(0.0, None, None), "incumbent -   bound -   gap -"),
        (Progress(0.0, 2.0, None), "incumbent 2.000000   bound -   gap -"),
        (Progress(0.0, 2.0, 3.0), "incumbent 2.000000   bound 3.000000   gap 50.000 %"),
        (
            Progress(0.0, 2.0, 3.0, 208),
            "incumbent 2.000000   bound 3.000000   gap 50.000 %   208 of 1024 features free",
        ),
        (
            Progress(0.0, None, None, 0),
            "incumbent -   bound -   gap -   0 of 1024 features free",
        ),
    ],
)
def test_a_line_holds_what_is_known(state, expected):
    assert format_progress(state, 12.34, 1024) == f"    12.3 s   {expected}"


def test_free_features_are_told_without_their_total():
    line = format_progress(Progress(0.0, None, None, 208), 1.0)
    assert line.endswith("gap -   208 features free")


def test_nothing_is_said_of_a_solve_that_is_refused():
    stream = io.StringIO()
    with pytest.raises(ValueError), progress_display(Console(file=stream), 1024):
        raise ValueError
    assert stream.getvalue() == ""


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_latest_state_is_shown(monkeypatch, is_terminal):
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0.01)
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=is_terminal, width=120)
    with progress_display(console, 1024) as update:
        update(Progress(0.0, 2.0, 3.0, 208))
        deadline = time.monotonic() + 30
        while "208 of 1024 features free" not in stream.getvalue():
            assert time.monotonic() < deadline, stream.getvalue()
            time.sleep(0.01)
        update(Progress(0.1, 2.5, 3.0, 100))
    if not is_terminal:  # the last line is the last state
        assert stream.getvalue().splitlines()[-1].endswith("100 of 1024 features free")
