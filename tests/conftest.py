"""Shared by all tests: problems to try, the optional data folder, solvers and which of them ran.

The environment variable QPM_REQUIRE_SOLVERS (names, separated by commas) makes the run fail unless
every solver named passed a test: skipped tests prove nothing.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from dataclasses import replace
from math import comb
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from qpm_opt.problem import Problem
from qpm_opt.solvers import solver_availability

DATA = Path(os.environ.get("QPM_DATA", Path(__file__).parents[2] / "shared" / "data"))


# The same examples in every run of CI: what fails there fails here too.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

REQUIRED_SOLVERS = [n for n in os.environ.get("QPM_REQUIRE_SOLVERS", "").split(",") if n]
_passed: Counter[str] = Counter()


def pytest_collection_modifyitems(items):
    for item in items:
        parameters = getattr(item, "callspec", None)
        if parameters is not None and isinstance(parameters.params.get("solver"), str):
            item.user_properties.append(("solver", parameters.params["solver"]))


def pytest_runtest_logreport(report):
    if report.when == "call" and report.passed:
        _passed.update(value for name, value in report.user_properties if name == "solver")


def pytest_terminal_summary(terminalreporter):
    ran = ", ".join(f"{name} ({count} tests)" for name, count in sorted(_passed.items()))
    terminalreporter.write_line(f"solvers that ran: {ran or 'none'}")
    for name in _missing():
        terminalreporter.write_line(f"required solver did not run: {name}", red=True, bold=True)


def pytest_sessionfinish(session):
    if _missing() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _missing() -> list[str]:
    return [name for name in REQUIRED_SOLVERS if not _passed[name]]


def demand(name: str) -> str:
    """The name, if that solver can be used; else a skip, or a failure if it is required."""
    report = solver_availability(name)
    if not report.level:
        if name in REQUIRED_SOLVERS:
            pytest.fail(f"QPM_REQUIRE_SOLVERS names {name}, but: {report.reason}")
        pytest.skip(f"{name}: {report.reason}")
    return name


@pytest.fixture
def cpsat() -> str:
    return demand("cpsat")


@pytest.fixture(autouse=True)
def _no_handlers_left():
    """Commands run in this process set up logging; the next test must not see it."""
    root = logging.getLogger()
    before, level = set(root.handlers), root.level
    yield
    for handler in set(root.handlers) - before:
        root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with the public instances; set QPM_DATA to use a copy elsewhere."""
    if not DATA.is_dir():
        pytest.skip(f"the public instances are not at {DATA}; set QPM_DATA to their folder")
    return DATA


def random_problem(seed: int, **fixed) -> Problem:
    """Tiny problem of a random shape and kind; ``fixed`` overrides any argument of Problem.

    Over the seeds it covers distinct on and off, k = p, one class, no classes, negative A, zero,
    sparse, dense and negative R, ties, and features that are no candidates.
    """
    rng = np.random.default_rng(seed)
    n_features = int(rng.integers(3, 8))
    p = int(rng.integers(1, n_features + 1))
    k = int(rng.integers(1, p + 1))
    n_classes = int(rng.choice([0, 1, 2, 3, 4], p=[0.05, 0.15, 0.3, 0.3, 0.2]))
    arguments = {
        "n_selected": p,
        "n_per_class": k if n_classes else 0,
        "distinct": bool(rng.integers(2)),
    }
    A = rng.normal(size=(n_classes, n_features))
    if rng.integers(4) == 0:
        A = np.round(2 * A) / 2  # ties
    if rng.integers(4) == 0:
        A -= 3.0  # all values negative
    R = np.triu(rng.random((n_features, n_features)), 1)
    kind = rng.integers(4)
    if kind == 0:
        R[:] = 0.0
    elif kind == 1:
        R[R < 0.7] = 0.0
    elif kind == 2:
        R = np.triu(rng.normal(size=R.shape), 1)
    b = rng.normal(size=n_features) * rng.integers(2)
    if p < n_features and rng.integers(4) == 0:
        arguments["candidate"] = np.arange(n_features) != rng.integers(n_features)
    if n_classes > comb(p, arguments["n_per_class"]):
        arguments["distinct"] = False
    arguments |= fixed
    return Problem(A, R + R.T, b, **arguments)


def scaled(problem: Problem, factor: float) -> Problem:
    """The problem with all coefficients multiplied; objectives scale with them."""
    return replace(
        problem,
        class_similarity=factor * problem.class_similarity,
        feature_similarity=factor * problem.feature_similarity,
        feature_bias=factor * problem.bias,
    )


DEGENERATE = (
    "zero A and R", "zero A", "zero R", "identical classes", "duplicated features", "ties",
    "negative R", "huge R", "huge", "tiny",
)  # fmt: skip


def degenerate(name: str) -> Problem:
    """A tiny problem of a kind, one of DEGENERATE, that breaks what assumes generic data."""
    rng = np.random.default_rng(0)
    n_features = 7
    A = rng.normal(size=(3, n_features))
    R = np.triu(rng.random((n_features, n_features)), 1)
    R += R.T
    if name in ("zero A and R", "zero A"):
        A[:] = 0.0
    if name in ("zero A and R", "zero R"):
        R[:] = 0.0
    if name == "identical classes":
        A[:] = A[0]
    elif name == "duplicated features":
        A[:, 1], R[:, 1], R[1, :] = A[:, 0], R[:, 0], R[0, :]
        R[0, 1] = R[1, 0] = R[1, 1] = 0.0
    elif name == "ties":
        A[:], R[:] = 1.0, 1.0 - np.eye(n_features)
    elif name == "negative R":
        R *= -1.0
    elif name == "huge R":
        R *= 1e8
    problem = Problem(A, R, n_selected=4, n_per_class=2)
    return scaled(problem, {"huge": 1e12, "tiny": 1e-12}.get(name, 1.0))
