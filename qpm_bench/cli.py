"""``qpm bench``, registered in the entry-point group ``qpm.commands``."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from qpm_opt.errors import InvalidInputError


@click.group(invoke_without_command=True)
@click.pass_context
@click.option("--suite", default="small", show_default=True, help="Named set of instances.")
@click.option(
    "--instances", type=click.Path(path_type=Path), help="Folder of problem files, in its place."
)
@click.option(
    "--method", "methods", multiple=True,
    help="Of exact, heuristic, compact, projected, paper. [exact, compact; several times]",
)  # fmt: skip
@click.option(
    "--solver", "solvers", multiple=True,
    help="Of compact, projected and paper. [all; several times]",
)  # fmt: skip
@click.option(
    "--time-limit", type=click.FloatRange(min=0.0, min_open=True), default=60.0, show_default=True,
    metavar="SECONDS", help="For each run.",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--seed", "seeds", type=click.IntRange(min=0), multiple=True, help="[0; several]")
@click.option(
    "--permutation", "permutations", type=click.IntRange(min=0), multiple=True,
    help="Order of classes and features; 0 is the file's, others are drawn. [0; several]",
)  # fmt: skip
@click.option("--warm-start", is_flag=True, help="All runs on an instance begin from one start.")
@click.option(
    "--memory-limit", type=click.FloatRange(min=0.0, min_open=True), metavar="GIB",
    help="Runs that hold more are killed.",
)  # fmt: skip
@click.option(
    "--cluster", metavar="ADDRESS",
    help="Dask scheduler whose workers do the runs; they must see the folder.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="[bench/SUITE]")
def bench(
    context: click.Context,
    suite: str,
    instances: Path | None,
    methods: tuple[str, ...],
    solvers: tuple[str, ...],
    time_limit: float,
    threads: int,
    seeds: tuple[int, ...],
    permutations: tuple[int, ...],
    warm_start: bool,
    memory_limit: float | None,
    cluster: str | None,
    out: Path | None,
) -> None:
    """Run methods and solvers on a suite; judged tables of runs and of methods go to stdout.

    Every run has a process of its own and leaves a record in the folder; what has one is not run
    again, so the same command goes on with a campaign that was stopped.
    """
    if context.invoked_subcommand is not None:
        return
    try:
        from qpm_bench.runner import add_instances, campaign, make_starts, plan
    except ModuleNotFoundError as missing:
        raise InvalidInputError(
            f"Benchmarks need the package {missing.name}; install the extra: pip install "
            "'qpm[bench]'."
        ) from None
    from qpm_bench import suites
    from qpm_bench.cluster import concerns, connected
    from qpm_bench.entrants import entrants
    from qpm_bench.instances import read_folder
    from qpm_bench.judge import judge
    from qpm_bench.records import Record
    from qpm_bench.table import runs_table, summary_table
    from qpm_opt import SOLVERS

    stderr = Console(stderr=True)
    executor = None
    if cluster is not None:
        client = context.with_resource(connected(cluster))
        executor = client.get_executor(pure=False)
        for sentence in concerns(client.nthreads()):
            stderr.print(sentence, style="yellow", highlight=False)
    problems = suites.suite(suite) if instances is None else read_folder(instances)
    name = suite if instances is None else instances.resolve().name
    folder = out or Path("bench") / name
    hashes = add_instances(folder, problems)
    runs = plan(
        hashes,
        entrants(methods or ("exact", "compact"), solvers or tuple(SOLVERS)),
        seeds=seeds or (0,),
        permutations=permutations or (0,),
        time_limit=time_limit,
        threads=threads,
        starts=make_starts(folder, hashes) if warm_start else None,
    )
    stderr.print(f"{len(runs)} runs in {folder}")

    def report(record: Record) -> None:
        order = f"  permutation {record.permutation}" if record.permutation else ""
        stderr.print(
            f"{record.instance}  {record.entrant}  seed {record.seed}{order}  {record.status}  "
            f"{record.wall_time:.1f} s  {record.reason}",
            highlight=False,
        )

    limit = None if memory_limit is None else int(memory_limit * 2**30)
    records = campaign(folder, runs, executor=executor, memory_limit=limit, on_record=report)
    judged = judge(records, problems)
    click.echo(f"{runs_table(judged)}\n{summary_table(judged)}", nl=False)
