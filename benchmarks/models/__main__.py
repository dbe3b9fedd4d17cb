"""``python -m benchmarks.models``: train models, and lay out what came of it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
import torch

from benchmarks.models import records, report, sets
from benchmarks.models.variants import VARIANTS, settings_of
from qpm_bench.figures import as_svg
from qpm_nn.config_layers import make_config, read_config
from qpm_nn.conformal import ALPHAS, HeldOut
from qpm_nn.saving import load_classifier
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


@models.command(name="sets")
@click.argument("run_dir", type=click.Path(path_type=Path), required=False)
@click.option("--splits", "n_splits", type=click.IntRange(2), default=200, show_default=True)
@click.option(
    "--n-calibration",
    type=click.IntRange(1),
    multiple=True,
    help="Images that calibrate [half of them].",
)
def write_sets(run_dir: Path | None, n_splits: int, n_calibration: tuple[int, ...]) -> None:
    """Print coverage and size of prediction sets over random splits of a run's test images.

    Without RUN_DIR, of simulated images of 30 classes.
    """
    if run_dir is None:
        images = sets.simulated()
    else:
        with np.load(run_dir / "predictions.npz") as arrays:
            said = [torch.from_numpy(arrays[name]) for name in ("logits", "labels", "features")]
        images = HeldOut.of(load_classifier(run_dir / "model.safetensors")[0].head, *said)
    n = len(images.labels)
    if max(n_calibration, default=0) >= n:
        raise InvalidInputError(f"There are {n} images; fewer were expected to calibrate.")
    accuracy = float((images.logits.argmax(1) == images.labels).float().mean())
    click.echo(f"{n} images, {accuracy:.1%} recognised, {n_splits} splits\n")
    if images.assignment is not None:
        click.echo(sets.levels_table(images).markdown())
    for size in n_calibration or (n // 2,):
        found = sets.over_splits(images, n_calibration=size, n_splits=n_splits, alphas=ALPHAS)
        click.echo(f"{size} images calibrate, {n - size} measure\n")
        table = sets.sets_table(found, n_calibration=size, n_images=n - size)
        click.echo(table.markdown())


@models.command(name="variants")
def list_variants() -> None:
    """List the names of all variants."""
    click.echo("\n".join(VARIANTS))


if __name__ == "__main__":
    try:
        models()
    except (QPMError, OSError) as failure:
        sys.exit(f"Error: {failure}")
