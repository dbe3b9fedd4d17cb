"""Child processes: reuse, limits, deaths, interrupts. No real solver unless it matters."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from qpm_opt.errors import (
    InvalidInputError,
    SolverError,
    SolverNotAvailableError,
    UnsupportedFormulationError,
)
from qpm_opt.result import TerminationCondition
from qpm_opt.solvers import get_solver, process, solve_in_child, solver_availability
from qpm_opt.solvers.base import Availability, SolveOptions
from tests.opt.fake_solvers import market_split, two_columns

FAKES = "tests.opt.fake_solvers"
FAKE = f"{FAKES}:ObedientSolver"
EVENTS = [([1.0, 0.0], 9.0), ([1.0, 1.0], 7.5), ([0.0, 1.0], 8.0)]  # objectives 4, 6, 5


def obey(
    do="nothing", *, name=FAKE, threads=1, time_limit=None, on_event=None, grace=10.0, **orders
):
    options = SolveOptions(
        threads=threads, time_limit=time_limit, solver_options={"do": do, **orders}
    )
    return solve_in_child(name, two_columns(), options, on_event=on_event, grace=grace)


def pid() -> int:
    raw = obey()
    assert raw.termination_condition is TerminationCondition.OPTIMAL
    return raw.node_count


def assert_incumbent_kept(raw, condition):
    assert raw.termination_condition is condition
    assert raw.point.tolist() == [1.0, 1.0]  # the best, not the last
    assert raw.bound == 7.5


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(condition, seconds=20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_a_warm_child_is_reused_for_the_same_solver_and_thread_count():
    first = obey()
    assert first.raw_status == "1"
    assert pid() == first.node_count != os.getpid()
    other = obey(threads=2)
    assert other.raw_status == "2"
    assert other.node_count != first.node_count
    assert pid() == first.node_count


def test_two_threads_use_two_children():
    with ThreadPoolExecutor(2) as executor:
        solves = [executor.submit(obey, "sleep", seconds=0.5) for _ in range(2)]
        assert len({solve.result().node_count for solve in solves}) == 2


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_few_idle_children_are_kept(monkeypatch):
    monkeypatch.setattr(process, "MAX_IDLE", 2)
    pids = [obey(threads=threads).node_count for threads in (1, 2, 3)]
    assert len(process._pool._idle) == 2
    assert [is_running(pid) for pid in pids] == [False, True, True]


def test_events_arrive_in_order_and_start_reaches_the_solver():
    seen = []
    start = np.array([1.0, 0.0])
    options = SolveOptions(solver_options={"events": EVENTS})
    raw = solve_in_child(FAKE, two_columns(), options, start=start, on_event=seen.append)
    assert [event.point.tolist() for event in seen] == [point for point, _ in EVENTS]
    assert [event.bound for event in seen] == [bound for _, bound in EVENTS]
    assert raw.point.tolist() == start.tolist()


def test_bursts_of_bounds_are_thinned():
    seen = []
    obey(events=[(None, 100.0 - i) for i in range(50)], on_event=seen.append)
    assert seen[0].bound == 100.0
    assert len(seen) < 25


def test_what_a_solve_reports_after_its_end_is_not_taken_for_the_next():
    taken = []
    obey(on_event=taken.append, events=EVENTS)
    obey("recall", on_event=taken.append)
    assert len(taken) == len(EVENTS)


def test_an_overrunning_child_is_killed_and_the_incumbent_kept():
    before = pid()
    raw = obey("sleep", seconds=600, events=EVENTS, time_limit=0.1, grace=0.3)
    assert_incumbent_kept(raw, TerminationCondition.TIME_LIMIT)
    assert "killed" in raw.raw_status
    assert not is_running(before)
    assert pid() != before


def test_a_message_that_cannot_be_read_ends_the_job():
    before = pid()
    raw = obey("garble", events=EVENTS)
    assert_incumbent_kept(raw, TerminationCondition.ERROR)
    assert "cannot be read" in raw.raw_status and "lost in transit" in raw.raw_status
    assert not is_running(before)
    assert pid() != before


def test_a_child_within_its_grace_is_not_killed():
    raw = obey("sleep", seconds=0.3, time_limit=0.05, grace=20.0)
    assert raw.termination_condition is TerminationCondition.OPTIMAL


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_child_is_an_error_with_the_incumbent_kept():
    before = pid()
    raw = obey("die", events=EVENTS)
    assert_incumbent_kept(raw, TerminationCondition.ERROR)
    assert raw.raw_status == "process ended with signal 9 (out of memory?)"
    assert pid() != before


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_last_words_of_a_crash_are_reported():
    raw = obey("abort")
    assert raw.raw_status == "process ended with signal 6: assertion failed in the simplex"
    assert raw.point is None and raw.bound is None


def test_a_child_that_died_idle_is_replaced():
    before = pid()
    os.kill(before, signal.SIGTERM)
    assert wait_until(lambda: not is_running(before))
    assert pid() != before


def test_our_exceptions_come_through_and_the_child_lives_on():
    before = pid()
    with pytest.raises(UnsupportedFormulationError, match="no such models here"):
        obey("refuse")
    assert pid() == before


def test_other_exceptions_become_one_line(caplog):
    before = pid()
    with caplog.at_level(logging.DEBUG), pytest.raises(SolverError) as caught:
        obey("stumble")
    assert str(caught.value) == "obedient failed with ZeroDivisionError: two lines"
    assert "Traceback" in caplog.text
    assert pid() == before


def test_an_exception_in_on_event_ends_the_solve():
    before = pid()

    def fail(event):
        raise TimeoutError("the caller's own")

    with pytest.raises(TimeoutError, match="the caller's own"):
        obey("sleep", seconds=600, events=EVENTS, on_event=fail)
    assert not is_running(before)
    assert pid() != before


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_kills_the_child_and_goes_on():
    before = pid()
    seen = []

    def note(event):
        seen.append(event)
        if len(seen) == len(EVENTS):
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        obey("sleep", seconds=600, events=EVENTS, on_event=note)
    assert not is_running(before)
    assert pid() != before


def test_events_received_before_ctrl_c_are_delivered():
    seen = []

    def note(event):
        seen.append(event)
        if len(seen) == 1:
            assert wait_until(lambda: process_with_events().qsize() == 2)
            raise KeyboardInterrupt

    def process_with_events():
        (child,) = set(process._pool._children) - set(process._pool._idle)
        return child._inbox

    with pytest.raises(KeyboardInterrupt):
        obey("sleep", seconds=600, events=EVENTS, on_event=note)
    assert [event.bound for event in seen] == [9.0, 7.5, 8.0]


def test_chatter_reaches_neither_stdout_nor_the_messages(capfd, caplog):
    with caplog.at_level(logging.DEBUG, logger="qpm_opt"):
        raw = obey("chatter", events=EVENTS)
        assert raw.termination_condition is TerminationCondition.OPTIMAL
        assert wait_until(lambda: "written by a library" in caplog.text, 5.0)
    assert capfd.readouterr() == ("", "")


def test_unknown_solvers_are_refused_with_a_hint():
    with pytest.raises(InvalidInputError, match=r"'higs' \(did you mean highs\?\)"):
        solve_in_child("higs", two_columns(), SolveOptions())
    with pytest.raises(InvalidInputError, match="no solver"):
        solver_availability("")
    with pytest.raises(InvalidInputError, match="cannot be loaded"):
        get_solver("no_such_module:Solver")
    with pytest.raises(InvalidInputError, match="no subclass"):
        get_solver("collections:OrderedDict")


def test_missing_packages_are_named_with_what_to_install():
    name = f"{FAKES}:MissingSolver"
    report = solver_availability(name)
    assert report.level is Availability.MISSING and not report.level
    assert "no-such-package" in report.reason and ".[nowhere]" in report.reason
    with pytest.raises(SolverNotAvailableError, match="no-such-package"):
        obey(name=name)


def test_broken_packages_say_why():
    report = solver_availability(f"{FAKES}:BrokenSolver")
    assert report.level is Availability.BROKEN and not report.level
    assert "undefined symbol" in report.reason


def test_a_package_that_takes_its_process_down_is_broken():
    report = solver_availability(f"{FAKES}:DyingSolver")
    assert report.level is Availability.BROKEN
    assert "did not start" in report.reason and "code 3" in report.reason


def run_script(text: str, folder: Path, **kwargs) -> subprocess.Popen:
    """Start a user's script from a folder in which ``import numpy`` would go wrong."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(text))
    trap = folder / "cwd"
    trap.mkdir()
    (trap / "numpy.py").write_text("raise ImportError('taken from the working directory')")
    return subprocess.Popen(
        [sys.executable, str(script)],
        cwd=trap,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        text=True,
        **kwargs,
    )


def test_a_script_without_a_main_guard_uses_solvers_that_exclude_each_other(tmp_path):
    names = [name for name in ("highs", "cpsat") if solver_availability(name).level]
    script = f"""
        import sys
        from qpm_opt.solvers import available_solvers, solve_in_child
        from qpm_opt.solvers.base import SolveOptions
        from tests.opt.fake_solvers import two_columns
        for name in {names * 2}:
            assert solve_in_child(name, two_columns(), SolveOptions()).point.tolist() == [1, 1]
        available_solvers()
        loaded = [m for m in ("highspy", "ortools", "gurobipy", "pyscipopt") if m in sys.modules]
        assert not loaded, loaded
    """
    run = run_script(script, tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.communicate(timeout=120) == ("", "")
    assert run.returncode == 0


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("name", ["highs", "cpsat", "gurobi", "scip"])
def test_a_solve_ends_with_its_parent(name, tmp_path):
    if not solver_availability(name).level:
        pytest.skip(f"{name} is not available")
    script = f"""
        import os
        from qpm_opt.solvers import process
        from qpm_opt.solvers.base import SolveOptions
        from tests.opt.fake_solvers import market_split, two_columns
        model, start = market_split()
        def tell(event):
            (child,) = process._pool._children
            print(child._process.pid, flush=True)
        process.solve_in_child({name!r}, model, SolveOptions(), start=start, on_event=tell)
    """
    run = run_script(script, tmp_path, stdout=subprocess.PIPE)
    child = int(run.stdout.readline())
    time.sleep(0.3)
    assert is_running(child)
    run.kill()
    run.wait()
    run.stdout.close()
    assert wait_until(lambda: not is_running(child))


def test_a_hanging_child_ends_with_its_parent(tmp_path):
    beat = tmp_path / "beat"
    script = f"""
        from tests.opt.test_process import obey
        obey("beat", file={str(beat)!r})
    """
    run = run_script(script, tmp_path)
    assert wait_until(beat.exists)
    run.kill()
    run.wait()

    def silent() -> bool:
        before = beat.read_text()
        time.sleep(0.3)
        return beat.read_text() == before

    assert wait_until(silent)


def test_no_child_outlives_a_finished_parent(tmp_path):
    script = """
        from tests.opt.test_process import obey
        print(obey().node_count)
    """
    run = run_script(script, tmp_path, stdout=subprocess.PIPE)
    child = int(run.communicate(timeout=60)[0])
    assert run.returncode == 0
    assert wait_until(lambda: not is_running(child))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_children_of_its_own(tmp_path):
    script = """
        import os
        from tests.opt.test_process import obey, pid
        before = pid()
        forked = os.fork()
        if not forked:
            os._exit(pid() == before)
        assert os.waitpid(forked, 0)[1] == 0
        assert pid() == before
    """
    run = run_script(script, tmp_path, stderr=subprocess.DEVNULL)
    assert run.wait(60) == 0


def test_a_process_that_does_not_start_is_an_error(monkeypatch, tmp_path):
    if os.name == "posix":
        python = tmp_path / "python"
        python.write_text("#!/bin/sh\necho no such interpreter >&2\nexit 7\n")
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))
        with pytest.raises(SolverError, match=r"did not start.*code 7: no such interpreter"):
            obey(threads=37)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_real_solver_killed_in_its_solve():
    if not solver_availability("highs").level:
        pytest.skip("highs is not available")
    model, start = market_split()

    def kill(event):
        (child,) = set(process._pool._children) - set(process._pool._idle)
        child._process.kill()

    raw = solve_in_child("highs", model, SolveOptions(), start=start, on_event=kill)
    assert raw.termination_condition is TerminationCondition.ERROR
    assert model.objective(raw.point) == pytest.approx(model.objective(start))
    again = solve_in_child("highs", two_columns(), SolveOptions())
    assert again.point.tolist() == [1.0, 1.0]
