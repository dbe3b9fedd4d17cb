"""Options and instances of the benchmarks."""

from __future__ import annotations

import pytest

from qpm_bench.instances import paper_like
from qpm_opt import SOLVERS, Problem, solver_availability


def pytest_addoption(parser):
    group = parser.getgroup("qpm benchmarks")
    group.addoption(
        "--solver",
        default=",".join(SOLVERS),
        help="solvers to benchmark, separated by commas (default: all; missing ones are skipped)",
    )
    group.addoption(
        "--time-limit",
        type=float,
        default=5.0,
        help="seconds for every solve (default: %(default)s)",
    )


def pytest_generate_tests(metafunc):
    if "solver" in metafunc.fixturenames:
        names = metafunc.config.getoption("--solver").split(",")
        unknown = set(names) - set(SOLVERS)
        if unknown:
            raise pytest.UsageError(
                f"--solver names {', '.join(sorted(unknown))}; there are {', '.join(SOLVERS)}"
            )
        metafunc.parametrize("solver", names, indirect=True)


@pytest.fixture
def solver(request) -> str:
    """Name of a solver that runs here, whatever its licence."""
    report = solver_availability(request.param)
    if not report.level:
        pytest.skip(f"{request.param}: {report.level.value}, {report.reason}")
    return request.param


@pytest.fixture
def time_limit(request) -> float:
    """Seconds for a solve."""
    return request.config.getoption("--time-limit")


@pytest.fixture(scope="session")
def large() -> Problem:
    """The size of CUB-200 on a ResNet50: 200 classes, 2048 features, 50 selected, 5 a class."""
    return paper_like(200, 2048)
