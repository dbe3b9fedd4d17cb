"""Tables and plots of trained models: means over seeds, with their standard deviations."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from matplotlib.figure import Figure

from benchmarks.models.records import TrainedModel
from benchmarks.models.variants import TABLES
from qpm_bench.figures import looks
from qpm_bench.table import Cell, Table
from qpm_opt import InvalidInputError

#: Columns of a table: name in ``metrics.json``, head, factor, digits, and whether more is better
#: (None: it is a size).
COLUMNS = (
    ("accuracy", "accuracy", 100, 1, True),
    ("n_features", "features", 1, 0, None),
    ("features_per_class", "features per class", 1, 1, None),
    ("sid@{k}", "SID@{k}", 100, 1, True),
    ("diversity@{k}", "diversity@{k}", 100, 1, True),
    ("class_independence", "class independence", 100, 1, True),
    ("contrastiveness", "contrastiveness", 100, 1, True),
    ("correlation", "correlation", 100, 1, False),
    ("dependence", "dependence", 100, 1, False),
    ("contrastive_pair_share", "classes with a partner", 100, 0, True),
)
#: Of the solution, in the tables where it is what differs.
OBJECTIVES = ("Parts of the objective", "Better objectives", "Contrastive pairs")


def tables(records: Iterable[TrainedModel]) -> str:
    """All tables in Markdown, those of a data set below each other.

    Raises
    ------
    InvalidInputError
        If runs of a variant differ in more than their seeds.
    """
    by_dataset: dict[str, dict[str, list[TrainedModel]]] = {}
    for record in records:
        runs = by_dataset.setdefault(record.dataset, {}).setdefault(record.variant, [])
        if any(run.settings != record.settings or run.seed == record.seed for run in runs):
            raise InvalidInputError(
                f"There are runs of {record.variant} on {record.dataset} that differ in more than "
                "their seeds; give each group a folder of its own, or delete the older lines."
            )
        runs.append(record)
    parts = []
    for dataset, runs in by_dataset.items():
        for title, variants in TABLES.items():
            rows = {variant: runs[variant] for variant in variants if variant in runs}
            if len(rows) > 1:
                table = _table(rows, with_objective=title in OBJECTIVES)
                parts.append(f"## {title}: {dataset}\n\n{table.markdown()}")
    return "\n".join(parts)


def _table(rows: Mapping[str, Sequence[TrainedModel]], *, with_objective: bool) -> Table:
    """A row for each variant; the best of every measure is bold, the dense model aside."""
    k = next(iter(rows.values()))[0].config["problem"]["n_per_class"]
    head, columns = ["model", "seeds"], []
    for name, title, factor, digits, more_is_better in COLUMNS:
        head.append(title.format(k=k))
        values = {row: _values(runs, name.format(k=k), factor) for row, runs in rows.items()}
        columns.append(_column(values, digits, more_is_better))
    if with_objective:
        for key, title, factor in (("objective", "objective", 1), ("relative_gap", "gap, %", 100)):
            head.append(title)
            found = {
                row: [
                    factor * run.solution[key] for run in runs if run.solution.get(key) is not None
                ]
                for row, runs in rows.items()
            }
            columns.append(_column(found, 2, None))
    seeds = [str(len(runs)) for runs in rows.values()]
    return Table(head, list(zip(rows, seeds, *columns, strict=True)))


def _values(runs: Sequence[TrainedModel], name: str, factor: float) -> list[float]:
    found = (run.final.get(name) for run in runs)
    return [factor * value for value in found if value is not None]


def _column(
    values: Mapping[str, Sequence[float]], digits: int, more_is_better: bool | None
) -> list[str | Cell]:
    means = {row: statistics.fmean(found) for row, found in values.items() if found}
    rivals = {row: round(mean, digits) for row, mean in means.items() if row != "dense"}
    best = None
    if more_is_better is not None and len(set(rivals.values())) > 1:
        best = (max if more_is_better else min)(rivals.values())
    cells: list[str | Cell] = []
    for row, found in values.items():
        if not found:
            cells.append("none")
            continue
        text = f"{means[row]:.{digits}f}"
        if len(found) > 1 and (spread := statistics.stdev(found)) > 0.0:
            text += f" ± {spread:.{digits}f}"
        is_best = best is not None and rivals.get(row) == best
        cells.append(Cell(text, "best") if is_best else text)
    return cells


def draw_compactness(records: Sequence[TrainedModel]) -> Figure:
    """Accuracy by the number of features, in all and of each class (figure 7 of the QPM paper)."""
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = {"n_selected": "features in all", "n_per_class": "features of each class"}
    models = list(dict.fromkeys(record.config["model"] for record in records))
    styles = looks(models)
    for axes, (setting, title) in zip(panels, titles.items(), strict=True):
        for model in models:
            points = _points(records, model, setting, lambda run: 100 * run.final["accuracy"])
            if len(points) < 2:
                continue
            look = styles[model]
            axes.plot(
                *zip(*points, strict=True),
                color=look.colour,
                linestyle=look.dashes,
                marker=look.marker,
                label=model,
            )
        axes.set_xlabel(title)
        axes.grid(visible=True, linewidth=0.4)
    panels[0].set_ylabel("accuracy on test images, %")
    if panels[0].lines:
        panels[0].legend(frameon=False)
    return figure


def _points(
    records: Iterable[TrainedModel],
    model: str,
    setting: str,
    value: Callable[[TrainedModel], float],
) -> list[tuple[int, float]]:
    """Means by a setting, over seeds, of the runs that differ in that setting alone."""
    found: dict[int, list[float]] = {}
    for record in records:
        if record.variant == model or record.variant.startswith(f"{model} {setting}="):
            found.setdefault(record.config["problem"][setting], []).append(value(record))
    return sorted((size, statistics.fmean(values)) for size, values in found.items())
