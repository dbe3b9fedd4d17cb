"""The command that explains single images of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from qpm_nn.cli import moved_data, nn_extra


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--image", "images", type=int, multiple=True, default=[0], show_default=True)
@click.option(
    "--representative",
    is_flag=True,
    help="Find what the image shares with the most training images of its class.",
)
@click.option("--sampling", help="Of boundaries: segment, reference [segment].")
@click.option("--boundaries", "n_boundaries", type=int, help="To choose from [50].")
@click.option("--method", help="exact, greedy, milp [exact].")
@click.option("--time-limit", type=float, metavar="SECONDS", help="For choosing [10].")
@moved_data
def explain(
    run_dir: Path,
    images: tuple[int, ...],
    representative: bool,
    root: Path | None,
    **options: Any,
) -> None:
    """Explain test images: why this class, why not another, what would change it.

    Figures and their data are written into RUN_DIR/figures/image_I_*. With --representative, those
    of representative interpretations: of the boundaries around the image, the fewest with the most
    training images of its predicted class, and as few others as possible, on its side. qpm report
    then shows them in the report, too.
    """
    with nn_extra():
        from qpm_nn.pipelines.explain import explain as explain_images
        from qpm_nn.progress import ConsoleObserver
    given = {name: value for name, value in options.items() if value is not None}
    if given and not representative:
        option = "boundaries" if "n_boundaries" in given else next(iter(given)).replace("_", "-")
        raise click.UsageError(f"--{option} is of --representative; give both.")
    with ConsoleObserver(Console(stderr=True)) as observer:
        sentences = explain_images(
            run_dir, images, representative=representative, observer=observer, root=root, **given
        )
    stdout = Console(highlight=False, soft_wrap=True)
    for sentence in sentences:
        stdout.print(sentence, markup=False)
