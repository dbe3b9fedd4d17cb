"""Compare methods and solvers on large problems: incumbent, bound, gap, verified or not.

    python benchmarks/compare.py PROBLEM ... --time-limit 600 [--run exact --run compact:cpsat ...]

A PROBLEM is a file, or paper_like:CLASSESxFEATURES:SEED for a generated one (qpm_bench.instances);
with R=0: before it, its features have no similarities.
Prints a row of a Markdown table for every run, as soon as it has ended.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from qpm_bench.instances import paper_like
from qpm_opt import Problem, QPMError, solve, verify

#: Method, and solver where the method uses one.
RUNS = (
    "exact", "compact:highs", "compact:cpsat", "compact:scip", "compact:gurobi", "paper:highs",
)  # fmt: skip


@click.command()
@click.argument("problems", nargs=-1, required=True)
@click.option("--time-limit", type=float, required=True, help="Seconds for each run.")
@click.option("--run", "runs", multiple=True, default=RUNS, help="METHOD or METHOD:SOLVER.")
@click.option("--threads", type=int, help="All usable processors by default.")
@click.option("--out", type=Path, help="Folder for the solutions; a temporary one by default.")
def main(
    problems: tuple[str, ...],
    time_limit: float,
    runs: tuple[str, ...],
    threads: int | None,
    out: Path | None,
) -> None:
    """Run every method on every problem."""
    click.echo(
        "| problem | method | solver | objective | bound | gap | seconds | stopped by | verified |"
    )
    click.echo("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as temporary:
        folder = out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for source in problems:
            problem = _load(source)
            for run in runs:
                row = _row(problem, run, time_limit, threads, folder)
                click.echo(f"| {problem.name or source} | {row} |")


def _load(source: str) -> Problem:
    if source.startswith("R=0:"):
        problem = _load(source.removeprefix("R=0:"))
        none = np.zeros((problem.n_features, problem.n_features))
        return replace(
            problem,
            feature_similarity=none,
            name=f"{problem.name} without R",
            best_known=None,
            proved=False,
        )
    generated = re.fullmatch(r"paper_like:(\d+)x(\d+):(\d+)", source)
    if generated is None:
        return Problem.load(source)
    n_classes, n_features, seed = map(int, generated.groups())
    return paper_like(n_classes, n_features, seed=seed)


def _row(problem: Problem, run: str, limit: float, threads: int | None, folder: Path) -> str:
    method, _, solver = run.partition(":")
    try:
        result = solve(
            problem, method=method, solver=solver or "highs", time_limit=limit, threads=threads
        )
    except QPMError as error:
        return f"{method} | {solver or 'none'} | {error} | | | | | "
    path = folder / f"{problem.name or 'problem'}_{method}_{solver or 'none'}.json"
    result.save(path, problem)
    outcome = verify(problem, path)
    verified = f"yes, bound {outcome.bound_status}" if outcome.accepted else "NO"
    objective, bound, gap = (
        "none" if value is None else form.format(value)
        for value, form in (
            (result.objective, "{:.3f}"),
            (result.bound, "{:.3f}"),
            (result.relative_gap, "{:.2%}"),
        )
    )
    return (
        f"{method} | {solver or 'none'} | {objective} | {bound} | {gap} | {result.wall_time:.1f} | "
        f"{result.termination_condition} | {verified}"
    )


if __name__ == "__main__":
    main()
