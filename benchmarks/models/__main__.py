"""``python -m benchmarks.models``: train models, and lay out what came of it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from benchmarks.models import records, report
from benchmarks.models.variants import VARIANTS, settings_of
from qpm_bench.figures import as_svg
from qpm_nn.config import make_config, read_config
from qpm_opt import InvalidInputError, QPMError


@click.group()
def models() -> None:
    """Train models and compare them."""


@models.command()
@click.option("--dataset", required=True, metavar="NAME|PATH")
@click.option("--root", default="", help="Folder with the files of a named data set [QPM_DATA].")
@click.option("--weights", default="", metavar="FILE")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="Settings (TOML).")
@click.option("--variant", "variants", multiple=True, required=True, metavar="NAME")
@click.option("--seed", "seeds", type=int, multiple=True, default=[16], show_default=True)
@click.option("--threads", type=int, default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def run(
    dataset: str,
    root: str,
    weights: str,
    config_file: Path | None,
    variants: tuple[str, ...],
    seeds: tuple[int, ...],
    threads: int,
    out: Path,
) -> None:
    """Train every variant with every seed; what OUT has a record of is not trained again.

    The runs of a seed share a folder, and so the dense model. OUT/DATASET-SEED.jsonl has a line for
    each.
    """
    common = {
        "data": {"name": dataset, "root": root},
        "weights": weights,
        "runtime": {"threads": threads},
    }
    base = {} if config_file is None else read_config(config_file)
    plans = [
        (seed, name, make_config(base, common, settings_of(name), {"seed": seed}))
        for seed in seeds
        for name in variants
    ]
    out.mkdir(parents=True, exist_ok=True)
    for seed, name, config in plans:
        folder = out / f"{Path(dataset).name}-{seed}"
        path = out / f"{folder.name}.jsonl"
        done = records.read([path]) if path.exists() else []
        if any(one.variant == name and one.config == asdict(config) for one in done):
            continue
        record = records.train(name, config, folder)
        records.append(path, record)
        accuracy = {key: value["accuracy"] for key, value in record.metrics.items()}
        click.echo(f"{folder.name}  {name}  {record.seconds:.0f} s  {accuracy}")


@models.command(name="report")
@click.argument("out", type=click.Path(path_type=Path, exists=True))
def write_report(out: Path) -> None:
    """Print the tables of all records in OUT, and write the plots beside them."""
    found = records.read(sorted(out.glob("*.jsonl")))
    if not found:
        raise InvalidInputError(f"{out} has no records; make some with run.")
    click.echo(report.tables(found))
    for dataset in dict.fromkeys(record.dataset for record in found):
        of_dataset = [record for record in found if record.dataset == dataset]
        name = f"compactness-{Path(dataset).name}"
        figure = report.draw_compactness(of_dataset)
        (out / f"{name}.svg").write_text(as_svg(figure, name), encoding="utf-8")


@models.command(name="variants")
def list_variants() -> None:
    """List the names of all variants."""
    click.echo("\n".join(VARIANTS))


if __name__ == "__main__":
    try:
        models()
    except (QPMError, OSError) as failure:
        sys.exit(f"Error: {failure}")
