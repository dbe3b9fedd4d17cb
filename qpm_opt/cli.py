"""The command ``qpm``. Results go to stdout or files, progress and messages to stderr.

Commands of the other packages are found through the entry-point group ``qpm.commands`` and
imported when they are called: ``qpm solve`` needs neither torch nor a plotting library.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from qpm_opt.errors import (
    InvalidInputError,
    QPMError,
    SolverLicenseError,
    SolverNotAvailableError,
    UnsupportedFormulationError,
)

if TYPE_CHECKING:
    from qpm_opt.result import Result

EXIT_FEASIBLE, EXIT_FAILURE, EXIT_UNUSABLE_INPUT, EXIT_NO_SOLUTION = 0, 1, 2, 3

#: A relative gap above which the bound deserves a word of warning.
WEAK_GAP = 0.05

stdout = Console(soft_wrap=True, highlight=False, markup=False)
stderr = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


class FiniteRange(click.FloatRange):
    """A finite number, 0 or more, or above 0."""

    def __init__(self, *, min_open: bool = False) -> None:
        super().__init__(min=0, min_open=min_open)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Number meant by the text; NaN and infinity are refused."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


SEED = click.IntRange(0, 2**31 - 1)  # what every solver takes


class CommandGroup(click.Group):
    """Built-in commands and those that installed packages register as ``qpm.commands``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, without importing any."""
        return sorted({*super().list_commands(ctx), *_registered()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Built-in command, or the registered one, imported now."""
        command = super().get_command(ctx, cmd_name)
        if command is None and cmd_name in _registered():
            command = _registered()[cmd_name].load()
        return command


#: Commands of this package that have a file of their own.
_OWN = (metadata.EntryPoint("what-if", "qpm_opt.what_if_cli:what_if", "qpm.commands"),)


def _registered() -> dict[str, metadata.EntryPoint]:
    return {entry.name: entry for entry in (*_OWN, *metadata.entry_points(group="qpm.commands"))}


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="qpm", prog_name="qpm")
@click.option("-v", "--verbose", count=True, help="Say more (-vv: everything).")
def qpm(verbose: int) -> None:
    """Interpretable image classifiers by exact feature selection and assignment."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    handler = RichHandler(console=stderr, show_time=False, show_path=False, markup=False)
    logging.basicConfig(level=level, format="%(message)s", handlers=[handler], force=True)


@qpm.command()
@click.argument("problem", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option(
    "--method", default="exact", show_default=True, help="exact, compact, paper, heuristic."
)
@click.option(
    "--solver",
    default="highs",
    show_default=True,
    help="highs, cpsat, gurobi, scip (compact, paper).",
)
@click.option(
    "--formulation", default="compact", show_default=True, help="compact or projected (compact)."
)
@click.option(
    "--time-limit", type=FiniteRange(), metavar="SECONDS", help="For solving; none by default."
)
@click.option(
    "--gap", type=FiniteRange(), default=0.0, show_default=True, help="Relative gap to stop at."
)
@click.option("--threads", type=click.IntRange(1, 1024), help="All usable processors by default.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--warm-start", type=click.Path(path_type=Path), metavar="SOLUTION")
@click.option("--option", "raw", multiple=True, metavar="NAME=VALUE", help="Raw solver option.")
def solve(
    problem: Path,
    out: Path,
    solver: str,
    warm_start: Path | None,
    raw: tuple[str, ...],
    **options: Any,
) -> None:
    """Solve PROBLEM (.npz) and write the solution (.json).

    The solution may replace the one of --warm-start: it is never worse. If the certificate of
    that one holds, its bound and the certificate go over to the new solution.
    """
    from qpm_opt import optimize
    from qpm_opt.problem import Problem
    from qpm_opt.progress import progress_display
    from qpm_opt.solvers import get_solver

    get_solver(solver)  # a misspelt name is wrong even where no solver is used
    instance = Problem.load(problem)
    check_writable(out, problem)
    with progress_display(stderr, instance.n_features) as on_progress:
        result = optimize.solve(
            instance,
            solver=solver,
            warm_start=warm_start,
            solver_options=_raw_options(raw),
            on_progress=on_progress,
            **options,
        )
    if result.assignment is None:
        stderr.print(f"No assignment found: {result.termination_condition}.", style="bold red")
        sys.exit(EXIT_NO_SOLUTION)
    with undisturbed():
        keep = warm_start is not None and _is_no_better(result, out, warm_start)
        written = out if keep else save_or_fall_back(lambda path: result.save(path, instance), out)
    gap = "unknown" if result.relative_gap is None else f"{100 * result.relative_gap:.4g} %"
    bound = "none" if result.bound is None else f"{result.bound:.9g} ({result.bound_kind})"
    if keep:
        bound += "; that in the file that is kept stands as it was"
    stdout.print(f"status     {result.solution_status} ({result.termination_condition})")
    stdout.print(f"objective  {result.objective:.9g}")
    stdout.print(f"bound      {bound}")
    stdout.print(f"gap        {gap}{_caveat(result)}")
    stdout.print(f"time       {result.wall_time:.1f} s")
    unused = instance.unused_features(result.assignment)
    if unused.size and instance.n_classes:
        stdout.print(f"unused     features {', '.join(map(str, unused))} (selected by no class)")
    stdout.print(f"solution   {written}{' (kept: nothing better was found)' if keep else ''}")
    if result.violations or written != out:
        sys.exit(EXIT_FAILURE)


@qpm.command()
@click.argument("problem", type=click.Path(path_type=Path))
@click.argument("solution", type=click.Path(path_type=Path))
@click.option(
    "--search-time",
    type=FiniteRange(),
    default=2.0,
    show_default=True,
    help="Seconds to look for an assignment that refutes the bound.",
)
@click.option("--seed", type=SEED, default=0, show_default=True)
def verify(problem: Path, solution: Path, search_time: float, seed: int) -> None:
    """Check every constraint, the objective and the bound of SOLUTION for PROBLEM.

    A bound is proved by the certificate that SOLUTION names, which must lie in the same folder. A
    bound without one is refused if an assignment beats it and called unproved otherwise.
    """
    from qpm_opt.heuristics import search
    from qpm_opt.problem import Problem
    from qpm_opt.verification import verify as check

    instance = Problem.load(problem)
    outcome = check(
        instance,
        solution,
        challenge=lambda _, given: search(instance, start=given, time_limit=search_time, seed=seed),
    )
    for remark in outcome.remarks:
        stdout.print(f"note: {remark}")
    for rejection in outcome.rejections:
        stdout.print(f"wrong: {rejection}")
    if not outcome.accepted:
        stdout.print(f"rejected  {solution}", style="bold red")
        sys.exit(EXIT_UNUSABLE_INPUT)
    bound = "no bound"
    if outcome.bound is not None:
        bound = f"bound {outcome.bound:.9g} ({outcome.bound_status})"
    stdout.print(f"accepted  {solution}: objective {outcome.objective:.9g}, {bound}")


@qpm.command()
@click.argument("features", type=click.Path(path_type=Path))
@click.option("--n-selected", type=int, required=True, help="Features to select (p).")
@click.option("--n-per-class", type=int, required=True, help="Features of every class (k).")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option(
    "--epsilon", type=float, help="Similarity threshold; tuned by clique search if left out."
)
@click.option(
    "--class-similarity", default="correlation", show_default=True, help="correlation or auroc."
)
@click.option(
    "--bias",
    metavar="NAME|FILE",
    default="locality",
    show_default=True,
    help="locality, centre, class_independence, or a .npy file (n_features,).",
)
@click.option(
    "--lambda", "bias_scale", type=FiniteRange(), help="Largest absolute bias [1 / sqrt(10)]."
)
@click.option(
    "--similarity-scale",
    type=FiniteRange(),
    default=1.0,
    show_default=True,
    help="Largest penalty in R; 0: none.",
)
@click.option(
    "--pair-density",
    type=FiniteRange(),
    default=0.0,
    show_default=True,
    metavar="RHO",
    help="Pairs of classes that differ in one feature, for each class (CHiQPM: 0.5).",
)
@click.option(
    "--pairs",
    default="closest",
    show_default=True,
    help="Which pairs: closest (most similar classes), disjoint (the same, no class twice), or any "
    "(of least cost).",
)
@click.option("--distinct/--no-distinct", default=True, show_default=True)
@click.option("--min-classes-per-feature", type=int, default=0, show_default=True)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the clique search.")
def constants(
    features: Path,
    out: Path,
    epsilon: float | None,
    bias: str,
    bias_scale: float | None,
    **options: Any,
) -> None:
    """Compute A, R and b from FEATURES (.npz: features, labels, optional locality, centre)."""
    from qpm_opt.constants import BIAS_SCALE, load_bias, load_features, problem_from_features

    worth = load_bias(bias)
    table = load_features(features)
    check_writable(out, features)
    instance = problem_from_features(
        table.features,
        table.labels,
        bias=worth,
        bias_scale=BIAS_SCALE if bias_scale is None else bias_scale,
        locality=table.locality,
        centre=table.centre,
        epsilon="auto" if epsilon is None else epsilon,
        name=features.stem,
        **options,
    )
    written = save_or_fall_back(instance.save, out)
    n_pairs = instance.similar_pairs[0].size
    stdout.print(
        f"{instance.n_classes} classes, {instance.n_features} features, "
        f"{int((~instance.candidates).sum())} constant; {n_pairs} pairs penalised"
    )
    stdout.print(f"problem  {written}")
    if written != out:
        sys.exit(EXIT_FAILURE)


@qpm.command()
def solvers() -> None:
    """List the solvers: what is installed, its version, its limits."""
    from qpm_opt.solvers import SOLVERS, solver_availability

    table = Table("solver", "usable", "version", "remark", box=None, pad_edge=False)
    for name in SOLVERS:
        report = solver_availability(name)
        table.add_row(name, report.level.value, report.version or "-", report.reason)
    stdout.print(table)


def check_writable(out: Path, source: Path) -> None:
    """Refuse before the work is done what cannot be written after it."""
    try:
        if out.exists() and out.samefile(source):
            raise InvalidInputError(f"--out {out} would overwrite the input; give another name.")
        if out.exists() and not out.is_file():
            raise InvalidInputError(f"{out} is no regular file; give the name of a file.")
        target = Path(os.path.realpath(out))
        existing = next(parent for parent in target.parents if parent.exists())
        if not existing.is_dir():
            raise InvalidInputError(f"{out} cannot be written: {existing} is not a folder.")
        tempfile.NamedTemporaryFile(dir=existing, prefix=f".{target.name}.").close()
    except OSError as failure:
        raise InvalidInputError(f"{out} cannot be written: {failure.strerror}.") from None


def _is_no_better(result: Result, out: Path, warm_start: Path) -> bool:
    """Whether the result would replace the warm start, lose its bound and gain nothing."""
    from qpm_opt.files import read_solution

    if result.bound is not None or not (out.exists() and out.samefile(warm_start)):
        return False
    held = read_solution(out)
    return held.get("bound") is not None and held.get("objective") == result.objective


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait for what is in hand, and are then too late to change anything."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are for the main thread
        return
    before = {
        number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: set by something else than Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@undisturbed()
def save_or_fall_back(write: Callable[[Path], None], out: Path) -> Path:
    """Write the outcome of the work and return where: somewhere else if ``out`` fails by now."""
    try:
        write(out)
        return out
    except (OSError, InvalidInputError) as failure:
        for folder in (Path(), Path(tempfile.gettempdir())):
            try:
                fallback = folder.absolute() / f"qpm-{time.time_ns()}{out.suffix}"
                write(fallback)
            except OSError:
                continue
            stderr.print(f"Error: {failure} The result is in {fallback}.", style="bold red")
            return fallback
        raise


def _caveat(result: Result) -> str:
    """What a reader might overlook: a bound that says little, or none at all."""
    from qpm_opt.result import TerminationCondition

    if result.bound is not None:
        weak = result.relative_gap is not None and result.relative_gap > WEAK_GAP
        return " (the bound is weak)" if weak else ""
    if result.method in ("paper", "heuristic"):
        return " (no bound: a heuristic)"
    reasons = {
        TerminationCondition.LICENSE_LIMIT: "the licence does not admit the model",
        TerminationCondition.ERROR: "the solver failed",
        TerminationCondition.INTERRUPTED: "interrupted",
    }
    reason = reasons.get(result.termination_condition, "none was found in time")
    return f" (no bound: {reason})"


def _raw_options(pairs: tuple[str, ...]) -> dict[str, bool | int | float | str]:
    options: dict[str, bool | int | float | str] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise InvalidInputError(f"--option {pair!r} is not of the form NAME=VALUE.")
        options[name] = _parse(text)
    return options


def _parse(text: str) -> bool | int | float | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def main() -> NoReturn:
    """Run the command line; errors of ours become one sentence and an exit code."""
    try:
        code = qpm.main(standalone_mode=False)
    except click.ClickException as failure:
        failure.show()
        code = failure.exit_code
    except (click.Abort, KeyboardInterrupt):
        stderr.print("Interrupted.", style="bold red")
        code = EXIT_FAILURE
    except (
        InvalidInputError,
        SolverNotAvailableError,
        SolverLicenseError,
        UnsupportedFormulationError,
    ) as failure:
        stderr.print(f"Error: {failure}", style="bold red")
        code = EXIT_UNUSABLE_INPUT
    except (QPMError, OSError) as failure:
        stderr.print(f"Error: {failure}", style="bold red")
        code = EXIT_FAILURE
    sys.exit(code if isinstance(code, int) else EXIT_FEASIBLE)
