"""Numbers of a run for its report: metrics beside published ones, and how it was solved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qpm_nn.config import MODELS
from qpm_nn.report.published import DATASETS, PUBLISHED, published_for

#: Names of metrics, which direction is better, and how they are written.
METRICS: dict[str, tuple[str, str, str]] = {
    "accuracy": ("accuracy", "higher", "percent"),
    "n_features": ("features in all", "lower", "integer"),
    "features_per_class": ("features of a class", "lower", "fixed2"),
    "sid@": ("spatial diversity, SID@{}", "higher", "percent"),
    "diversity@": ("diversity@{}", "higher", "percent"),
    "class_independence": ("class-independence", "higher", "percent"),
    "contrastiveness": ("contrastiveness", "higher", "percent"),
    "structural_grounding": ("structural grounding", "higher", "percent"),
    "text_grounding": ("grounding by text", "higher", "percent"),
    "plausibility": ("plausibility", "higher", "percent"),
    "plausibility_by_chance": ("plausibility by chance", "", "percent"),
    "correlation": ("correlation of features", "lower", "percent"),
    "dependence": ("dependence", "lower", "percent"),
    "contrastive_pair_share": ("classes with a contrastive partner", "", "percent"),
}
#: Columns that are no models of their own.
STEPS = {"before_finetuning": "before fine-tuning", "dense": "dense model"}


def metrics_table(
    metrics: Mapping[str, Mapping[str, float | None]], model: str, dataset: str
) -> dict[str, Any]:
    """Rows of metrics, columns of models in the order of ``metrics.json``, the run's own last."""
    names = list(dict.fromkeys(name for values in metrics.values() for name in values))
    names.sort(key=lambda name: list(METRICS).index(_kind(name)) if _kind(name) in METRICS else 99)
    columns = sorted(metrics, key=lambda name: name == model)
    published = published_for(model, dataset)
    return {
        "columns": [STEPS.get(name, MODELS.get(name, name)) for name in columns],
        "rows": [
            _row(name) | {"values": [metrics[column].get(name) for column in columns]}
            for name in names
        ],
        "published": [
            {
                "model": MODELS[key[0]],
                "dataset": DATASETS[key[1]],
                "values": [PUBLISHED[key].get(name) for name in names],
            }
            for key in published
        ],
    }


def _kind(name: str) -> str:
    """Name of a metric without its k."""
    return "".join(name.partition("@")[:2])


def _row(name: str) -> dict[str, str]:
    label, better, style = METRICS.get(_kind(name), (name.replace("_", " "), "", "fixed3"))
    label = label.format(name.partition("@")[2])
    return {"name": name, "label": label, "better": better, "format": style}


def solution_record(solution: Mapping[str, Any]) -> dict[str, Any]:
    """What a solution file says of the search, and its progress."""
    names = (
        "objective",
        "objective_parts",
        "bound",
        "bound_kind",
        "relative_gap",
        "termination_condition",
        "solution_status",
        "method",
        "solver",
        "solver_version",
        "wall_time",
    )
    return {name: solution.get(name) for name in names} | {
        "trace": solution.get("progress", []),
        "has_certificate": solution.get("certificate") is not None,
        "demands": (solution.get("options") or {}).get("demands"),
    }
