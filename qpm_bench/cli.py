"""``qpm bench``, registered in the entry-point group ``qpm.commands``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import click
from click.core import ParameterSource

from qpm_opt.cli import SEED, FiniteRange, stderr
from qpm_opt.errors import InvalidInputError


def _is_given(context: click.Context, parameter: str) -> bool:
    return context.get_parameter_source(parameter) is ParameterSource.COMMANDLINE


@contextlib.contextmanager
def _bench_extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as missing:
        raise InvalidInputError(
            f"Benchmarks need the package {missing.name}; install the extra: pip install "
            "'.[bench]'."
        ) from None


@click.group(invoke_without_command=True)
@click.pass_context
@click.option("--suite", default="small", show_default=True, help="Named set of instances.")
@click.option(
    "--instances", type=click.Path(path_type=Path),
    help="Folder of instances in any format, in its place.",
)  # fmt: skip
@click.option(
    "--n-selected", type=click.IntRange(min=1), default=50, show_default=True,
    help="For files of features in that folder.",
)  # fmt: skip
@click.option(
    "--n-per-class", type=click.IntRange(min=1), default=5, show_default=True, help="Likewise."
)
@click.option(
    "--method", "methods", multiple=True,
    help="Of exact, heuristic, compact, projected, paper, and the peers (extra peers) "
    "submodular-greedy, pbp-pmedian, simulated-annealing. [exact, compact; several times]",
)  # fmt: skip
@click.option(
    "--solver", "solvers", multiple=True,
    help="Of compact, projected and paper. [all; several times]",
)  # fmt: skip
@click.option(
    "--time-limit", type=FiniteRange(min_open=True), default=60.0, show_default=True,
    metavar="SECONDS", help="For each run.",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True)
@click.option("--seed", "seeds", type=SEED, multiple=True, help="[0; several]")
@click.option(
    "--permutation", "permutations", type=click.IntRange(min=0), multiple=True,
    help="Order of classes and features; 0 is the file's, others are drawn. [0; several]",
)  # fmt: skip
@click.option("--warm-start", is_flag=True, help="All runs on an instance begin from one start.")
@click.option(
    "--memory-limit", type=FiniteRange(min_open=True), metavar="GIB",
    help="Runs that hold more are killed.",
)  # fmt: skip
@click.option(
    "--cluster", metavar="ADDRESS",
    help="Dask scheduler whose workers do the runs; they must see the folder.",
)  # fmt: skip
@click.option(
    "--again", multiple=True, metavar="STATUS",
    help="Repeat runs that ended so, such as MISSING, MEMORY or ERROR. [several]",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="[bench/SUITE]")
def bench(
    context: click.Context,
    suite: str,
    instances: Path | None,
    n_selected: int,
    n_per_class: int,
    methods: tuple[str, ...],
    solvers: tuple[str, ...],
    time_limit: float,
    threads: int,
    seeds: tuple[int, ...],
    permutations: tuple[int, ...],
    warm_start: bool,
    memory_limit: float | None,
    cluster: str | None,
    again: tuple[str, ...],
    out: Path | None,
) -> None:
    """Run methods and solvers on a suite; judged tables of runs and of methods go to stdout.

    Every run has a process of its own and leaves a record in the folder; what has one is not run
    again, so the same command goes on with a campaign that was stopped.
    """
    if context.invoked_subcommand is not None:
        given = [name for name in context.params if _is_given(context, name)]
        if given:
            raise click.UsageError(
                f"qpm bench {context.invoked_subcommand} takes none of the options of a campaign; "
                f"leave out that of {given[0].replace('_', ' ')}."
            )
        return
    if instances is not None and _is_given(context, "suite"):
        raise click.UsageError("Give --suite or --instances, not both.")
    with _bench_extra():
        from qpm_bench.runner import add_instances, campaign, make_starts, plan
    from qpm_bench import suites
    from qpm_bench.cluster import concerns, connected
    from qpm_bench.entrants import entrants
    from qpm_bench.instances import read_folder
    from qpm_bench.judge import contradictions, judge
    from qpm_bench.names import check_name
    from qpm_bench.records import Record, RecordFile, Status
    from qpm_bench.table import runs_table, summary_table
    from qpm_opt import SOLVERS

    for status in again:
        check_name("status", status.upper(), list(Status))
    statuses = [Status(status.upper()) for status in again]
    executor = None
    if cluster is not None:
        client = context.with_resource(connected(cluster))
        executor = client.get_executor(pure=False)
        for sentence in concerns(client.nthreads()):
            stderr.print(sentence, style="yellow")
    name = suite if instances is None else instances.resolve().name
    folder = out or Path("bench") / name
    if instances is None:
        problems = suites.suite(suite, folder / "instances")
    else:
        problems = read_folder(instances, n_selected=n_selected, n_per_class=n_per_class)
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
            f"{record.wall_time:.1f} s  {record.reason}"
        )

    limit = None if memory_limit is None else int(memory_limit * 2**30)
    keys = {run.key for run in runs}
    held = [record for record in RecordFile(folder / "records.jsonl").read() if record.key in keys]
    # Only the judge knows of most that are WRONG.
    repeated = [run.record.key for run in judge(held, problems) if run.record.status in statuses]
    records = campaign(
        folder, runs, executor=executor, memory_limit=limit, again=repeated, on_record=report
    )
    judged = judge(records, problems)
    for sentence in contradictions(judged, problems):
        stderr.print(sentence, style="red")
    click.echo(f"{runs_table(judged)}\n{summary_table(judged)}", nl=False)


@bench.command("instances")
@click.option("--suite", help="Only those of a suite.")
def list_instances(suite: str | None) -> None:
    """List the instances that have a name: sizes, what is known of them, where they come from."""
    from qpm_bench.registry import registry
    from qpm_bench.suites import suite_names
    from qpm_bench.table import instances_table

    known = registry()
    rows = known.values() if suite is None else [known[name] for name in suite_names(suite)]
    click.echo(instances_table(rows), nl=False)


@bench.command()
@click.argument("source", metavar="NAME_OR_FILE")
@click.option("--format", "file_format", required=True, help="Of lp, mps, qplib, npz.")
@click.option("--out", type=click.Path(path_type=Path), help="[NAME.FORMAT]")
def export(source: str, file_format: str, out: Path | None) -> None:
    """Write an instance of the registry, or of a file in any format, for other programs.

    The formats lp and mps hold the linearised model without the demand that classes differ; qplib
    holds all of it, for as many classes and features as fit.
    """
    from qpm_bench.formats import write_instance
    from qpm_bench.instances import instance, read_instance
    from qpm_bench.registry import registry

    is_file = source not in registry() and Path(source).exists()
    problem = read_instance(source) if is_file else instance(source)
    target = out or Path(f"{Path(source).stem if is_file else source}.{file_format}")
    if is_file and target.exists() and target.samefile(source):
        raise InvalidInputError(f"{target} is the file that is read; give another name with --out.")
    write_instance(problem, target, file_format)
    click.echo(target)
    if file_format in ("lp", "mps") and problem.distinct and problem.n_classes > 1:
        stderr.print(
            "note: the file leaves out that no two classes may have the same features; its optimum "
            "is an upper bound of that of the instance."
        )


@bench.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="[DIR/report]")
def report(folder: Path, out: Path | None) -> None:
    """Judge the campaign in DIR: a page, Markdown, CSV and figures.

    The campaign may still be running or have been killed.
    """
    with _bench_extra():
        from qpm_bench.report import write_report
    out = out or folder / "report"
    results = write_report(folder, out)
    for trouble in results.troubles:
        stderr.print(trouble, style="red")
    click.echo(f"{len(results.runs)} runs: {out / 'report.html'}")


@bench.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--runs", "n_runs", type=click.IntRange(min=2), default=5, show_default=True)
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True)
def noise(folder: Path, n_runs: int, threads: int) -> None:
    """Time identical runs and keep the spread for the report of the campaign in DIR."""
    with _bench_extra():
        from qpm_bench.noise import measure_noise
    held = measure_noise(folder, n_runs, threads=threads)
    times = ", ".join(f"{time:.2f}" for time in held["times"])
    click.echo(f"{times} s; standard deviation / mean = {100 * held['relative_noise']:.2g} %")
