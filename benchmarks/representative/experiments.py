"""What is measured: greedy against exact choices, and heat maps of unseen images."""

from __future__ import annotations

from typing import Any

import numpy as np

from qpm_nn.explanations.representative import (
    CAMS,
    Interpretation,
    MappedImages,
    agreement,
    central_images,
    interpret,
    reused_heat_maps,
    score_heat_maps,
    serve,
    served_heat_maps,
)
from qpm_opt.result import SolutionStatus

METHODS = ("greedy", "exact")


def compare_choices(
    training: MappedImages,
    unseen: MappedImages,
    sampling: str,
    n_inputs: int,
    time_limit: float,
    seed: int,
) -> dict[str, Any]:
    """Both methods on random training images, each with the same boundaries to choose from."""
    rng = np.random.default_rng(seed)
    inputs = np.sort(rng.choice(len(training), min(n_inputs, len(training)), replace=False))
    rows = []
    for i in inputs.tolist():
        for method, found in _interpret(training, i, sampling, time_limit, seed + i).items():
            shared = agreement(found, unseen)
            rows.append(
                {
                    "input": i,
                    "method": method,
                    "n_covered": found.cover.n_covered_same,
                    "n_same": int(found.problem.same.sum()),
                    "bound": found.cover.bound,
                    "proved": found.cover.solution_status is SolutionStatus.OPTIMAL,
                    "fewest": found.cover.has_fewest,
                    "n_boundaries": len(found.boundaries),
                    "seconds": found.seconds,
                    **{f"unseen_{name}": value for name, value in shared.to_dict().items()},
                }
            )
    return {"rows": rows}


def compare_heat_maps(
    training: MappedImages,
    unseen: MappedImages,
    sampling: str,
    n_inputs: int,
    time_limit: float,
    seed: int,
) -> dict[str, Any]:
    """Average Drop and Increase on unseen images, by interpretations and by reused CAM weights."""
    rng = np.random.default_rng(seed)
    inputs = central_images(training, min(n_inputs, len(training)), seed)
    found: dict[str, list[Interpretation]] = {method: [] for method in METHODS}
    for i in inputs.indices.tolist():
        for method, one in _interpret(training, i, sampling, time_limit, seed + i).items():
            found[method].append(one)
    scores: dict[str, Any] = {}
    for method, interpretations in found.items():
        served = serve(interpretations, inputs, unseen)
        heat = served_heat_maps(interpretations, served, unseen)
        scores[f"RI, {method}"] = score_heat_maps(unseen, heat, rng).to_dict() | {
            "covered": float(served.is_covered.mean())
        }
    nearest = inputs.distances(unseen).argmin(axis=1)
    for name, weights in CAMS.items():
        heat = reused_heat_maps(weights(training, inputs.indices.tolist()), nearest, unseen)
        scores[name] = score_heat_maps(unseen, heat, rng).to_dict()
    chance = rng.random((len(unseen), *unseen.pixels([0]).shape[2:]))
    scores["random pixels"] = score_heat_maps(unseen, chance, rng).to_dict()
    return {"scores": scores}


def _interpret(
    training: MappedImages, i: int, sampling: str, time_limit: float, seed: int
) -> dict[str, Interpretation]:
    """Both choices of the same boundaries around a training image."""
    greedy, exact = METHODS
    found = interpret(
        training,
        training.maps([i]),
        sampling=sampling,
        method=greedy,
        time_limit=time_limit,
        seed=seed,
    )
    return {greedy: found, exact: found.chosen_anew(exact, time_limit)}
