"""``python -m benchmarks.representative``: train a small network, interpret its images, compare."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.representative.experiments import compare_choices, compare_heat_maps
from benchmarks.representative.networks import SETTINGS, load_network_data, train_network
from benchmarks.representative.records import Record, read_record
from benchmarks.representative.tables import choice_table, heat_map_table
from qpm_nn.explanations.canvas import any_letters
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

#: Interpretations of an experiment, as the article has them; it has no more than four classes.
INPUTS_PER_CLASS, MOST_INPUTS = 10, 100


@click.group()
def representative() -> None:
    """Representative interpretations: greedy and exact choices, class activation maps."""


@representative.command()
@click.option("--dataset", type=click.Choice(list(SETTINGS)), required=True)
@click.option("--root", help="Folder with the files of a named data set [QPM_DATA].")
@click.option(
    "--explained",
    "n_explained",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Training images whose choices of boundaries are compared.",
)
@click.option(
    "--inputs",
    "n_inputs",
    type=click.IntRange(1),
    multiple=True,
    help="Interpretations that heat maps of unseen images are taken from; as often as you like "
    f"[{INPUTS_PER_CLASS} a class, at most {MOST_INPUTS}].",
)
@click.option("--runs", "n_runs", type=click.IntRange(0), default=5, show_default=True)
@click.option("--time-limit", type=float, default=10.0, show_default=True)
@click.option("--seed", type=int, default=16, show_default=True)
@click.option("--threads", type=int, default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def run(
    dataset: str,
    root: str | None,
    n_explained: int,
    n_inputs: tuple[int, ...],
    n_runs: int,
    time_limit: float,
    seed: int,
    threads: int,
    out: Path,
) -> None:
    """Train a network (or take the one in OUT), and write OUT/DATASET.json and figures.

    After a kill it goes on with the epoch or the part that it was at; parts that are in the file
    are not measured again, so that more runs or numbers of inputs can be added.
    """
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
    digest = hashlib.sha256()
    for values in network.state_dict().values():
        digest.update(values.numpy().tobytes())
    record = Record(
        out / f"{dataset}.json",
        {
            "dataset": dataset,
            "layer": split.layer,
            "accuracy": accuracy,
            "network": digest.hexdigest(),
        },
    )
    numbers = n_inputs or (min(INPUTS_PER_CLASS * data.n_classes, MOST_INPUTS),)
    parts: list[tuple[str, Callable[..., dict[str, Any]], str, int, int]] = [
        ("choices", compare_choices, sampling, n_explained, seed) for sampling in SAMPLINGS
    ] + [
        ("heat_maps", compare_heat_maps, sampling, n, seed + i)
        for n in numbers
        for sampling in SAMPLINGS
        for i in range(n_runs)
    ]
    for kind, compare, sampling, n, its_seed in parts:
        settings: dict[str, Any] = {
            "sampling": sampling, "n_inputs": n, "time_limit": time_limit, "seed": its_seed
        }  # fmt: skip
        is_new = record.measure(kind, settings, partial(compare, training, unseen, **settings))
        done = "measured" if is_new else "was there"
        click.echo(f"{kind}: {sampling}, {n} inputs, seed {its_seed}: {done}", err=True)
    i = int(central_images(training, 1, seed).indices[0])
    study = case_study(
        interpret(training, training.maps([i]), time_limit=time_limit, seed=seed),
        training,
        i,
        training,
        data.class_names,
    )
    figure = draw_case_study(study)
    with any_letters():
        figure.savefig(out / f"{dataset}.png")
    (out / f"{dataset}.svg").write_text(as_svg(figure, dataset), encoding="utf-8")


@representative.command()
@click.argument("out", type=click.Path(path_type=Path, exists=True))
def report(out: Path) -> None:
    """Print the tables of all records in OUT."""
    records = [read_record(path) for path in sorted(out.glob("*.json"))]
    click.echo(choice_table(records))
    click.echo(heat_map_table(records))


if __name__ == "__main__":
    try:
        representative()
    except QPMError as failure:
        sys.exit(f"Error: {failure}")
