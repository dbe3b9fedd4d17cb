"""What is compared: settings that differ from those of a data set, by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qpm_bench.names import check_name

#: Sizes of explanations beside those of the data set.
N_SELECTED = (20, 30, 40, 75, 100)
N_PER_CLASS = (3, 4, 7, 10)
#: Peak learning rates of fine-tuning beside that of the data set. The first is that of the public
#: code of the QPM paper, the second that of the paper, 100 times its last one of dense training.
RATES = (1e-4, 1.28e-2, 0.2)


def _problem(**changes: Any) -> dict[str, Any]:
    return {"problem": changes}


def _sizes(model: str, setting: str, values: Iterable[int]) -> dict[str, dict[str, Any]]:
    return {
        f"{model} {setting}={value}": {"model": model, "problem": {setting: value}}
        for value in values
    }


VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"model": name} for name in ("dense", "glm_saga", "sldd", "qsenn", "qpm", "chiqpm")},
    "chiqpm disjoint pairs": {"model": "chiqpm", "problem": {"pairs": "disjoint"}},
    "chiqpm any pairs": {"model": "chiqpm", "problem": {"pairs": "any"}},
    "chiqpm without grounding": {"model": "chiqpm", "finetune": {"grounding_weight": 0.0}},
    "qpm without Z_R": _problem(similarity_scale=0.0),
    "qpm without Z_B": _problem(bias_scale=0.0),
    "qpm with Z_A alone": _problem(similarity_scale=0.0, bias_scale=0.0),
    "qpm average": _problem(sparsity="average"),
    "qpm auroc": _problem(class_similarity="auroc"),
    "qpm negative": _problem(negative=True),
    # The first solution of all: greedy, and no more than one descent.
    "qpm first solution": {"solve": {"method": "heuristic", "time_limit": 1e-3}},
    "qpm paper": {"solve": {"method": "paper"}},
    **{f"qpm rate={rate:g}": {"finetune": {"learning_rate": rate}} for rate in RATES},
    **_sizes("qpm", "n_selected", N_SELECTED),
    **_sizes("qpm", "n_per_class", N_PER_CLASS),
    **_sizes("sldd", "n_selected", N_SELECTED),
    **_sizes("sldd", "n_per_class", N_PER_CLASS),
    **_sizes("qsenn", "n_selected", N_SELECTED),
    **_sizes("qsenn", "n_per_class", N_PER_CLASS),
}

#: Tables of the report: the variants that are their rows.
TABLES: dict[str, tuple[str, ...]] = {
    "Models": ("dense", "glm_saga", "sldd", "qsenn", "qpm", "qpm negative", "chiqpm"),
    "Contrastive pairs": (
        "qpm",
        "chiqpm",
        "chiqpm disjoint pairs",
        "chiqpm any pairs",
        "chiqpm without grounding",
    ),
    "Parts of the objective": (
        "qpm",
        "qpm without Z_R",
        "qpm without Z_B",
        "qpm with Z_A alone",
    ),
    "Equal and average sparsity": ("qpm", "qpm average"),
    "What A is made of": ("qpm", "qpm auroc"),
    "Better objectives": ("qpm", "qpm paper", "qpm first solution"),
    "Rates of fine-tuning": ("qpm", *(f"qpm rate={rate:g}" for rate in RATES)),
}


def settings_of(variant: str) -> dict[str, Any]:
    """Settings of a variant, a layer for ``qpm_nn.make_config``.

    Raises
    ------
    InvalidInputError
        If there is no such variant.
    """
    check_name("variant", variant, VARIANTS)
    return VARIANTS[variant]
