"""``python -m benchmarks.representative``: train a small network, interpret its images, compare."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import torch

from benchmarks.representative.experiments import compare_choices, compare_heat_maps
from benchmarks.representative.networks import SETTINGS, load_network_data, train_network
from benchmarks.representative.tables import choice_table, heat_map_table
from qpm_nn.explanations.representative import (
    SAMPLINGS,
    MappedImages,
    case_study,
    central_images,
    draw_case_study,
    interpret,
    split_network,
)
from qpm_nn.explanations.svg import as_svg
from qpm_opt import QPMError


@click.group()
def representative() -> None:
    """Representative interpretations: greedy and exact choices, class activation maps."""


@representative.command()
@click.option("--dataset", type=click.Choice(list(SETTINGS)), required=True)
@click.option("--root", help="Folder with the files of a named data set [QPM_DATA].")
@click.option("--inputs", "n_inputs", type=int, default=100, show_default=True)
@click.option("--runs", "n_runs", type=int, default=5, show_default=True)
@click.option("--run-inputs", "n_run_inputs", type=int, default=20, show_default=True)
@click.option("--time-limit", type=float, default=10.0, show_default=True)
@click.option("--seed", type=int, default=16, show_default=True)
@click.option("--threads", type=int, default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def run(
    dataset: str,
    root: str | None,
    n_inputs: int,
    n_runs: int,
    n_run_inputs: int,
    time_limit: float,
    seed: int,
    threads: int,
    out: Path,
) -> None:
    """Train a network (or take the one in OUT), and write OUT/DATASET.json and figures."""
    out.mkdir(parents=True, exist_ok=True)
    data = load_network_data(dataset, root)
    network = train_network(
        dataset, data, out / f"{dataset}.checkpoint", seed=seed, threads=threads
    )
    split = split_network(network, data.preprocessing(data.train[:8][0]))
    training, unseen = (
        MappedImages(split, images, data.preprocessing) for images in (data.train, data.test)
    )
    labels = (data.train.labels, data.test.labels)
    accuracy = [
        float((torch.from_numpy(images.predicted) == truth).float().mean())
        for images, truth in zip((training, unseen), labels, strict=True)
    ]
    click.echo(f"{dataset}: accuracy {accuracy[0]:.3f} (training), {accuracy[1]:.3f} (test)")
    record = {
        "dataset": dataset,
        "layer": split.layer,
        "accuracy": accuracy,
        "choices": [
            compare_choices(training, unseen, sampling, n_inputs, time_limit, seed)
            for sampling in SAMPLINGS
        ],
        "heat_maps": [
            compare_heat_maps(training, unseen, sampling, n_run_inputs, time_limit, seed + i)
            for sampling in SAMPLINGS
            for i in range(n_runs)
        ],
    }
    (out / f"{dataset}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    i = int(central_images(training, 1, seed).indices[0])
    study = case_study(
        interpret(training, training.maps([i]), time_limit=time_limit, seed=seed),
        training,
        i,
        training,
        data.class_names,
    )
    figure = draw_case_study(study)
    figure.savefig(out / f"{dataset}.png")
    (out / f"{dataset}.svg").write_text(as_svg(figure, dataset), encoding="utf-8")


@representative.command()
@click.argument("out", type=click.Path(path_type=Path, exists=True))
def report(out: Path) -> None:
    """Print the tables of all records in OUT."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("*.json"))]
    click.echo(choice_table(records))
    click.echo(heat_map_table(records))


if __name__ == "__main__":
    try:
        representative()
    except QPMError as failure:
        sys.exit(f"Error: {failure}")
