"""Options, sizes, and the tables at the end."""

from __future__ import annotations

import math

import pytest

from benchmarks.campaign import GROWTH, Campaign
from benchmarks.sizes import LARGE
from benchmarks.tables import (
    SOLVES_HEAD,
    aligned,
    growth_of_solves,
    growth_tables,
    solve_cells,
)
from qpm_bench.records import Status
from qpm_opt import SOLVERS, InvalidInputError, Problem

CAMPAIGN = pytest.StashKey[Campaign]()
#: Seconds of the micro-benchmarks, by name and size.
SECONDS = pytest.StashKey[dict[str, dict[str, str]]]()
METHODS = ("exact", "heuristic", "compact", "paper")
#: Seconds for a solve: measured, and as a smoke run.
TIME_LIMIT, SMOKE_TIME_LIMIT = 3.0, 1.0


def pytest_addoption(parser):
    group = parser.getgroup("qpm benchmarks")
    for option, what, default in (
        ("--suite", "suites of instances", GROWTH),
        ("--method", "methods", ",".join(METHODS)),
        ("--solver", "solvers of the methods that need one", ",".join(SOLVERS)),
    ):
        group.addoption(
            option,
            action="append",
            metavar="NAMES",
            help=f"{what}, several times or separated by commas (default: {default})",
        )
    group.addoption(
        "--time-limit",
        type=float,
        metavar="SECONDS",
        help=f"for every solve (default: {TIME_LIMIT:g}; with --benchmark-disable "
        f"{SMOKE_TIME_LIMIT:g})",
    )
    group.addoption(
        "--device", default="cpu", help="of the training steps: cpu or cuda (default: cpu)"
    )


def pytest_configure(config):
    limit = time_limit_of(config)
    if not 0.0 < limit < math.inf:
        raise pytest.UsageError(f"--time-limit is {limit:g}; a positive number was expected.")
    try:
        config.stash[CAMPAIGN] = Campaign(
            names_of(config, "--suite", (GROWTH,)),
            names_of(config, "--method", METHODS),
            names_of(config, "--solver", SOLVERS),
            time_limit=limit,
            smoke=is_smoke(config),
        )
    except InvalidInputError as failure:
        raise pytest.UsageError(str(failure)) from None
    config.stash[SECONDS] = {}


def names_of(config, option, default):
    given = config.getoption(option)
    return [name for value in given for name in value.split(",")] if given else list(default)


def is_smoke(config) -> bool:
    """Everything once, at the smallest size, nothing measured."""
    return config.getoption("--benchmark-disable")


def time_limit_of(config) -> float:
    given = config.getoption("--time-limit")
    if given is not None:
        return given
    return SMOKE_TIME_LIMIT if is_smoke(config) else TIME_LIMIT


def pytest_generate_tests(metafunc):
    config = metafunc.config
    if "run" in metafunc.fixturenames:
        metafunc.parametrize("run", config.stash[CAMPAIGN].runs, ids=lambda run: run.label)
    if "size" in metafunc.fixturenames:
        sizes = metafunc.module.SIZES
        metafunc.parametrize("size", sizes[:1] if is_smoke(config) else sizes, ids=str)


@pytest.fixture(scope="session")
def campaign(request, tmp_path_factory) -> Campaign:
    """The solves of this session, with a folder for their records."""
    planned = request.config.stash[CAMPAIGN]
    planned.use(tmp_path_factory.mktemp("campaign"))
    return planned


@pytest.fixture
def time_limit(request) -> float:
    """Seconds for a solve."""
    return time_limit_of(request.config)


@pytest.fixture
def problem(size) -> Problem:
    """Instance of the size."""
    return size.problem()


@pytest.fixture
def large(request) -> Problem:
    """The largest instance, or a small one in a smoke run."""
    return LARGE[0 if is_smoke(request.config) else -1].problem()


@pytest.fixture(autouse=True)
def _seconds(request, benchmark):
    """Note the least of the times measured at each of several sizes."""
    yield
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and "size" in callspec.params and benchmark.stats:
        size, others = str(callspec.params["size"]), callspec.id.split("-")
        others.remove(size)
        name = request.node.originalname.removeprefix("test_")
        if others:
            name += f"[{'-'.join(others)}]"
        least = f"{benchmark.stats.stats.min:.3g}"
        request.config.stash[SECONDS].setdefault(name, {})[size] = least


def pytest_sessionfinish(session):
    # A solve may be refuted by a later one, when its own test has passed.
    judged = session.config.stash[CAMPAIGN].judged()
    wrong = any(one.record.status is Status.WRONG for one in judged)
    if wrong and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    campaign = config.stash[CAMPAIGN]
    judged = campaign.judged()
    if judged:
        terminalreporter.section("solves")
        rows = [solve_cells(one, campaign.label_of(one.record)) for one in judged]
        head, *lines = aligned(SOLVES_HEAD, rows)
        terminalreporter.write_line(head, bold=True)
        for line, one in zip(lines, judged, strict=True):
            wrong = one.record.status is Status.WRONG
            reason = " ".join(one.record.reason.split())
            terminalreporter.write_line(f"{line}  {reason}".rstrip(), red=wrong, bold=wrong)
    solves = growth_of_solves(judged, campaign.problems)
    tables = list(growth_tables(config.stash[SECONDS] | solves))
    if tables:
        terminalreporter.section("growth: seconds by size; + where time limits left gaps")
    for head, *lines in tables:
        terminalreporter.write_line(head, bold=True)
        for line in lines:
            terminalreporter.write_line(line)
