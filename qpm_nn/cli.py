"""Commands of this package, registered in the entry-point group ``qpm.commands``.

Torch is imported when a command runs, not before, so that ``qpm --help`` stays quick.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from qpm_opt.errors import InvalidInputError

if TYPE_CHECKING:
    from qpm_nn.config import RunConfig
    from qpm_nn.pipelines.stages import RunDirectory

EXIT_NO_SOLUTION = 3

#: Option of ``qpm run`` to its place in the settings.
PLACES = {
    "dataset": "data.name",
    "root": "data.root",
    "image_size": "data.image_size",
    "crop": "data.crop",
    "on_corrupt": "data.on_corrupt",
    "normalisation": "data.normalisation",
    "workers": "data.workers",
    "augmentation": "data.augmentation",
    "nested": "data.nested",
    "model": "model",
    "arch": "arch",
    "weights": "weights",
    "reduced_strides": "reduced_strides",
    "frozen": "frozen",
    "seed": "seed",
    "n_selected": "problem.n_selected",
    "n_per_class": "problem.n_per_class",
    "class_similarity": "problem.class_similarity",
    "bias": "problem.bias",
    "bias_scale": "problem.bias_scale",
    "similarity_scale": "problem.similarity_scale",
    "negative": "problem.negative",
    "sparsity": "problem.sparsity",
    "pair_density": "problem.pair_density",
    "pairs": "problem.pairs",
    "alpha": "conformal.alpha",
    "dense_epochs": "dense.epochs",
    "finetune_epochs": "finetune.epochs",
    "method": "solve.method",
    "assignment": "solve.assignment",
    "solver": "solve.solver",
    "time_limit": "solve.time_limit",
    "device": "runtime.device",
    "n_devices": "runtime.n_devices",
    "precision": "runtime.precision",
    "threads": "runtime.threads",
    "compile": "runtime.compile",
    "tensorboard": "runtime.tensorboard",
}

#: Option of what is done with a finished run.
moved_data = click.option(
    "--root",
    type=click.Path(path_type=Path),
    help="Folder of the images, or with the files of the data set, if it has moved since the run.",
)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default="runs/demo", show_default=True)
@click.option("--seed", type=int, default=16, show_default=True)
def demo(out: Path, seed: int) -> None:
    """Run the whole pipeline on scikit-learn's digits, in a minute or two.

    Nothing is downloaded: the images ship with scikit-learn.
    """
    _run({"data": {"name": "digits"}, "seed": seed}, out=out, resume=True)


@click.command()
@click.option("--dataset", metavar="NAME|PATH", help="Name of a data set, or folder of images.")
@click.option("--root", help="Folder with the files of a named data set [QPM_DATA].")
@click.option("--image-size", type=int, help="Side of images, in pixels.")
@click.option("--crop/--no-crop", default=None, help="Crop photographs to their boxes.")
@click.option("--on-corrupt", help="What to do about unreadable images: fail, skip.")
@click.option("--normalisation", help="Mean and std of: dataset, imagenet.")
@click.option("--workers", type=int, help="Processes that read and augment photographs.")
@click.option("--augmentation", help="dataset, none, photographs, imagenet.")
@click.option(
    "--nested/--no-nested",
    default=None,
    help="In a folder of images, classes lie below folders of their parents.",
)
@click.option("--preset", default="", help="Training as published: paper, chiqpm, dino.")
@click.option("--model", help="Kind of model: qpm, dense, glm_saga, sldd, qsenn, chiqpm.")
@click.option("--arch", help="Backbone.")
@click.option("--weights", metavar="imagenet|FILE", help="Weights to begin with [random ones].")
@click.option(
    "--reduced-strides/--no-reduced-strides",
    default=None,
    help="Larger maps: stride 1 in the last two stages of a residual network.",
)
@click.option(
    "--frozen/--no-frozen",
    default=None,
    help="Keep the backbone as it is; train a small adapter on its embeddings.",
)
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="Settings (TOML).")
@click.option(
    "--set",
    "settings",
    metavar="SECTION.NAME=VALUE",
    multiple=True,
    help="Any setting of config.toml, such as dense.learning_rate=0.01; can be given repeatedly. "
    "Options for single settings win over it, it wins over --config.",
)
@click.option("--out", type=click.Path(path_type=Path), help="[runs/DATASET-MODEL-SEED]")
@click.option(
    "--resume/--no-resume",
    default=True,
    show_default=True,
    help="Reuse what is still valid, or remove what the run has made and begin anew.",
)
@click.option("--n-selected", type=int, help="Features in all (p).")
@click.option("--n-per-class", type=int, help="Features of every class (k).")
@click.option("--class-similarity", help="correlation, auroc (qpm).")
@click.option(
    "--bias",
    metavar="NAME|FILE",
    help="locality, centre, class_independence, or a .npy file (n_features,) (qpm).",
)
@click.option("--lambda", "bias_scale", type=float, help="Largest absolute bias (qpm).")
@click.option("--similarity-scale", type=float, help="Largest penalty in R; 0: none (qpm).")
@click.option(
    "--negative/--no-negative", default=None, help="Features may count against a class, too (qpm)."
)
@click.option("--sparsity", help="Features of every class, or on average: equal, average (qpm).")
@click.option("--pair-density", type=float, help="Contrastive pairs for each class (qpm, chiqpm).")
@click.option("--pairs", help="Which are contrastive: closest, disjoint, any (qpm, chiqpm).")
@click.option("--alpha", type=float, help="Miscoverage of prediction sets (chiqpm).")
@click.option("--seed", type=int)
@click.option("--dense-epochs", type=int, help="0: the weights are those of the dense model.")
@click.option("--finetune-epochs", type=int)
@click.option("--method", help="exact, compact, paper, heuristic.")
@click.option("--solver", help="Of compact and paper: highs, cpsat, gurobi, scip.")
@click.option("--time-limit", type=float, metavar="SECONDS", help="For the solver.")
@click.option(
    "--assignment", metavar="SOLUTION", help="Take a solution, as of qpm what-if; do not solve."
)
@click.option("--device", help="auto, cpu, cuda.")
@click.option("--n-devices", type=int, help="Devices that train together.")
@click.option("--precision", help="32-true, bf16-mixed.")
@click.option("--threads", type=int, help="On the CPU; 0: all.")
@click.option("--compile/--no-compile", default=None, help="Compile the backbone for training.")
@click.option("--tensorboard/--no-tensorboard", default=None, help="Write for TensorBoard, too.")
def run(
    config_file: Path | None,
    settings: tuple[str, ...],
    preset: str,
    out: Path | None,
    resume: bool,
    **options: Any,
) -> None:
    """Train, select, assign and fine-tune: images to an interpretable classifier.

    --model dense trains the dense model alone, glm_saga puts a sparse linear layer on its features,
    sldd selects features first and fine-tunes behind such a layer, qsenn does so four times behind
    layers whose weights differ in their signs alone. chiqpm is a qpm whose classes have partners
    that differ in one feature, with prediction sets of the hierarchy that its features make.

    What no option gives comes from --set, then from the configuration file, then from --preset,
    then from the presets of the model and of the data set. A killed run goes on where it was when
    it is started again; whatever other settings have made is made anew.
    """
    from qpm_nn.cli_settings import read_setting
    from qpm_nn.config_layers import read_config

    given: dict[str, Any] = {}
    for name, value in options.items():
        if value is not None:
            *section, key = PLACES[name].split(".")
            (given.setdefault(section[0], {}) if section else given)[key] = value
    file = [] if config_file is None else [read_config(config_file)]
    _run(*file, *map(read_setting, settings), given, preset=preset, out=out, resume=resume)


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--alpha", type=float, help="Miscoverage: 0.1 for a coverage of 90 %.")
@click.option("--method", help="hierarchical, chiqpm, lac, aps, raps, saps.")
@click.option("--share", type=float, help="Part of the test images that calibrates.")
@click.option(
    "--class-conditional/--no-class-conditional",
    default=None,
    help="Cover the images of every class, not only all together.",
)
@click.option("--include-top-1", help="The prediction is in its set: always, if_empty, never.")
@moved_data
def calibrate(run_dir: Path, root: Path | None, **options: Any) -> None:
    """Calibrate prediction sets of the model of a run.

    Part of the test images calibrates, the others measure. The model, loaded by from_pretrained,
    then has predict_set.
    """
    with nn_extra():
        from qpm_nn.pipelines.run import calibrate as calibrate_run
        from qpm_nn.progress import ConsoleObserver
    given = {name: value for name, value in options.items() if value is not None}
    with ConsoleObserver(Console(stderr=True)) as observer:
        directory = calibrate_run(run_dir, observer=observer, root=root, **given)
    _print_lines(_describe_sets(directory))


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@moved_data
def report(run_dir: Path, root: Path | None) -> None:
    """Write the report of a run: one page that needs neither network nor server.

    It has a page for each class, feature and error, and for many images, in RUN_DIR/report.html;
    RUN_DIR/report.json has all that it says as data, RUN_DIR/figures/ its figures.
    """
    with nn_extra():
        from qpm_nn.pipelines.run import report as report_run
        from qpm_nn.progress import ConsoleObserver
    with ConsoleObserver(Console(stderr=True)) as observer:
        directory = report_run(run_dir, observer=observer, root=root)
    click.echo(directory / "report.html")


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="[RUN_DIR/model.onnx]")
def export(run_dir: Path, out: Path | None) -> None:
    """Write the model of a run as an ONNX file, its preprocessing inside.

    It takes raw images, uint8 (n_images, channels, height, width), and gives logits and features.
    """
    with nn_extra():
        from qpm_nn.export import export_onnx
        from qpm_nn.pipelines.base import EXPORTED
        from qpm_nn.pretrained import QPMModel
    from qpm_opt.locking import locked_if_run

    out = out or run_dir / EXPORTED
    with locked_if_run(run_dir, out.parent):
        export_onnx(QPMModel.from_pretrained(run_dir), out)
    click.echo(out)


@contextlib.contextmanager
def nn_extra() -> Iterator[None]:
    """Imports of what the extra ``nn`` brings; one sentence if a package is missing."""
    try:
        yield
    except ModuleNotFoundError as missing:
        raise InvalidInputError(
            f"Networks need the package {missing.name}; install the extra: pip install '.[nn]'."
        ) from None


def _run(*layers: dict[str, Any], preset: str = "", out: Path | None, resume: bool) -> None:
    with nn_extra():
        from qpm_nn.config_layers import make_config
        from qpm_nn.devices import is_follower
        from qpm_nn.pipelines.qpm import NoAssignmentError
        from qpm_nn.pipelines.run import run as run_pipeline
        from qpm_nn.progress import ConsoleObserver
    config = make_config(*layers, preset=preset)
    if out is None:
        name = Path(config.data.name).resolve().name
        out = Path("runs") / f"{name}-{config.model}-{config.seed}"
    stderr = Console(stderr=True)
    try:
        with ConsoleObserver(stderr) as observer:
            directory = run_pipeline(config, out, resume=resume, observer=observer)
    except NoAssignmentError as failure:
        stderr.print(f"Error: {failure}", style="bold red", markup=False)
        sys.exit(EXIT_NO_SOLUTION)
    if not is_follower():
        _report(directory, config)


def _report(directory: RunDirectory, config: RunConfig) -> None:
    """Print what the run has made; a model without selection has less to tell."""
    from qpm_nn.config import MODELS
    from qpm_nn.explanations import closest_pair, explain_class
    from qpm_nn.heads import AssignmentHead, SparseHead
    from qpm_nn.saving import load_classifier

    metrics = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    accuracy = {name: f"{values['accuracy']:.1%}" for name, values in metrics.items()}
    before = accuracy.pop("before_finetuning", None)
    text = ", ".join(f"{value} {MODELS[name]}" for name, value in accuracy.items())
    text += " on test images" + (f" ({before} before fine-tuning)" if before else "")
    lines = {"run": str(directory.path), "accuracy": text}
    classifier, spec = load_classifier(directory / "model.safetensors")
    if (directory / "solution.json").exists():
        solution = json.loads((directory / "solution.json").read_text(encoding="utf-8"))
        lines |= _describe(solution)
    if isinstance(classifier.head, AssignmentHead):
        first, _ = closest_pair(classifier.head)
        lines["in words"] = explain_class(classifier.head, first, spec.class_names)
    elif isinstance(classifier.head, SparseHead):
        sizes = metrics[config.model]
        lines["features"] = (
            f"{sizes['n_features']} in all, {sizes['features_per_class']:.3g} per class on average"
        )
        lines["in words"] = explain_class(classifier.head, 0, spec.class_names)
    _print_lines(lines | _describe_sets(directory))


def _print_lines(lines: dict[str, str]) -> None:
    stdout = Console(highlight=False, soft_wrap=True)
    for name, value in lines.items():
        stdout.print(f"{name:<10} {value}", markup=False)


def _describe_sets(directory: RunDirectory) -> dict[str, str]:
    """What the calibration of a run promises, and what the other test images show.

    Nothing if the run has not calibrated, or somebody else has since.
    """
    from qpm_nn.pretrained import CALIBRATION

    if not ((directory / CALIBRATION).exists() and (directory / "sets.json").exists()):
        return {}
    chosen = json.loads((directory / CALIBRATION).read_text(encoding="utf-8"))["calibration"]
    rows = json.loads((directory / "sets.json").read_text(encoding="utf-8"))
    of_it = [all(row[name] == chosen[name] for name in ("method", "alpha")) for row in rows]
    if not any(of_it):
        return {}
    found = rows[of_it.index(True)]
    text = f"{chosen['method']}, {1 - chosen['alpha']:.1%} demanded"
    if found["n_images"]:
        text += f", {found['coverage']:.1%} covered with {found['mean_size']:.2f} classes"
    text += f" ({found['n_calibration']} images calibrate, {found['n_images']} measure)"
    return {"sets": text}


def _describe(solution: dict[str, Any]) -> dict[str, str]:
    bound, gap = solution["bound"], solution["relative_gap"]
    return {
        "objective": f"{solution['objective']:.6f} ({solution['solution_status']})",
        "bound": "none" if bound is None else f"{bound:.6f} ({solution['bound_kind']})",
        "gap": "unknown" if gap is None else f"{100 * gap:.3g} %",
    }
