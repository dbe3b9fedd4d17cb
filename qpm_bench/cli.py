"""``qpm bench``, registered in the entry-point group ``qpm.commands``."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from qpm_opt.errors import InvalidInputError


@click.command()
@click.option("--suite", default="small", show_default=True, help="Named set of instances.")
@click.option(
    "--instances", type=click.Path(path_type=Path), help="Folder of problem files, in its place."
)
@click.option("--method", "methods", multiple=True, help="[exact, compact; several times]")
@click.option(
    "--solver", "solvers", multiple=True, help="Of compact and paper. [all; several times]"
)
@click.option(
    "--time-limit", type=click.FloatRange(min=0.0, min_open=True), default=60.0, show_default=True,
    metavar="SECONDS", help="For each run.",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--seed", "seeds", type=click.IntRange(min=0), multiple=True, help="[0; several]")
@click.option("--warm-start", is_flag=True, help="All runs on an instance begin from one start.")
@click.option(
    "--memory-limit", type=click.FloatRange(min=0.0, min_open=True), metavar="GIB",
    help="Runs that hold more are killed.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="[bench/SUITE]")
def bench(
    suite: str,
    instances: Path | None,
    methods: tuple[str, ...],
    solvers: tuple[str, ...],
    time_limit: float,
    threads: int,
    seeds: tuple[int, ...],
    warm_start: bool,
    memory_limit: float | None,
    out: Path | None,
) -> None:
    """Run methods and solvers on a suite; judged tables of runs and of methods go to stdout.

    Every run has a process of its own and leaves a record in the folder; what has one is not run
    again, so the same command goes on with a campaign that was stopped.
    """
    try:
        from qpm_bench.runner import WITH_SOLVER, add_instances, campaign, plan
    except ModuleNotFoundError as missing:
        raise InvalidInputError(
            f"Benchmarks need the package {missing.name}; install the extra: pip install "
            "'qpm[bench]'."
        ) from None
    from qpm_bench import suites
    from qpm_bench.instances import read_folder
    from qpm_bench.judge import judge
    from qpm_bench.records import Record
    from qpm_bench.table import runs_table, summary_table
    from qpm_opt import SOLVERS

    problems = suites.suite(suite) if instances is None else read_folder(instances)
    name = suite if instances is None else instances.resolve().name
    folder = out or Path("bench") / name
    entrants = [
        (method, solver)
        for method in methods or ("exact", "compact")
        for solver in ((solvers or tuple(SOLVERS)) if method in WITH_SOLVER else ("",))
    ]
    runs = plan(
        add_instances(folder, problems),
        entrants,
        seeds=seeds or (0,),
        time_limit=time_limit,
        threads=threads,
        warm_start=warm_start,
    )
    stderr = Console(stderr=True)
    stderr.print(f"{len(runs)} runs in {folder}")

    def report(record: Record) -> None:
        solver = f"-{record.solver}" if record.solver else ""
        stderr.print(
            f"{record.instance}  {record.method}{solver}  seed {record.seed}  {record.status}  "
            f"{record.wall_time:.1f} s  {record.reason}",
            highlight=False,
        )

    limit = None if memory_limit is None else int(memory_limit * 2**30)
    records = campaign(folder, runs, memory_limit=limit, on_record=report)
    judged = judge(records, problems)
    click.echo(f"{runs_table(judged)}\n{summary_table(judged)}", nl=False)
