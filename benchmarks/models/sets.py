"""Coverage and size of prediction sets over many random calibration splits of held-out images."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import betabinom

from qpm_bench.table import Cell, Table
from qpm_nn.conformal import HeldOut, order_statistic
from qpm_nn.hierarchy import shared_depth, sort_features
from qpm_nn.metrics import mean_set_size, set_coverage

#: Names of methods in tables; others are in capitals.
NAMES = {"hierarchical": "hierarchical", "chiqpm": "published, corrected"}
#: Share of the coverages of exact sets that their interval holds.
INTERVAL = 0.95


class Measured(NamedTuple):
    """Coverage and mean size of the sets of some images."""

    coverage: float
    size: float


def over_splits(
    images: HeldOut,
    *,
    n_calibration: int,
    n_splits: int,
    alphas: Sequence[float],
    seed: int = 0,
) -> dict[tuple[float, str], list[Measured]]:
    """Measures of the sets of each split's other images, by alpha and method."""
    found: dict[tuple[float, str], list[Measured]] = {}
    share = n_calibration / len(images.labels)
    for split in range(n_splits):
        calibrating, measuring = images.split(share, seed + split)
        for method in images.methods:
            name = NAMES.get(method, method.upper())
            for calibration in calibrating.calibrate_each(alphas, method=method):
                sets = measuring.predict_set(calibration)
                measured = Measured(set_coverage(sets, measuring.labels), mean_set_size(sets))
                found.setdefault((calibration.alpha, name), []).append(measured)
    return {key: found[key] for key in sorted(found, key=lambda key: -key[0])}


def sets_table(
    found: Mapping[tuple[float, str], Sequence[Measured]], *, n_calibration: int, n_images: int
) -> Table:
    """A row for each coverage and method, with the interval to which exact sets keep.

    It holds 95 % of the coverages of ``n_images`` images by sets that ``n_calibration``
    exchangeable ones have calibrated, if there are no ties (a beta-binomial distribution).
    """
    head = (
        "demanded, %", "method", "covered, %", "exact sets, %", "splits in or above it, %",
        "mean size", "LAC = 1",
    )  # fmt: skip
    rows: list[list[str | Cell]] = []
    for (alpha, method), measured in found.items():
        coverages, sizes = zip(*measured, strict=True)
        m = order_statistic(n_calibration, alpha)
        exact = betabinom(n_images, m, n_calibration + 1 - m)
        low, high = (value / n_images for value in exact.interval(INTERVAL))
        size = statistics.fmean(sizes)
        mean, spread = 100 * statistics.fmean(coverages), 100 * statistics.stdev(coverages)
        rows.append(
            [
                f"{100 * (1 - alpha):.1f}",
                method,
                f"{mean:.1f} ± {spread:.1f}",
                f"{100 * low:.1f} to {100 * high:.1f}",
                f"{100 * statistics.fmean(value >= low - 1e-12 for value in coverages):.0f}",
                f"{size:.2f}",
                f"{size / statistics.fmean(one.size for one in found[alpha, 'LAC']):.2f}",
            ]
        )
    return Table(head, rows)


def levels_table(images: HeldOut) -> Table:
    """Share of the images whose class shares so many leading features with the prediction."""
    assert images.features is not None and images.assignment is not None
    ordered = sort_features(images.features, images.assignment)
    depth = shared_depth(ordered, images.logits.argmax(1))
    own = depth.gather(1, images.labels[:, None])[:, 0]
    levels = range(ordered.features.shape[2], -1, -1)
    shares = [f"{100 * float((own >= n).float().mean()):.1f}" for n in levels]
    return Table(("shared features, at least", *map(str, levels)), [["images, %", *shares]])


def simulated(
    n_images: int = 2000, *, n_classes: int = 30, n_selected: int = 16, k: int = 5, seed: int = 0
) -> HeldOut:
    """Images of classes that are random sets of features, with noise; most are recognised."""
    rng = np.random.default_rng(seed)
    assignment = np.zeros((n_classes, n_selected), dtype=bool)
    for row in assignment:
        row[rng.choice(n_selected, k, replace=False)] = True
    labels = rng.integers(n_classes, size=n_images)
    signal = assignment[labels] * rng.gamma(4.0, 0.5, (n_images, n_selected))
    noise = rng.gamma(1.0, 0.75, (n_images, n_selected))
    features = torch.from_numpy(np.maximum(signal + noise - 1.0, 0.0).astype(np.float32))
    W = torch.from_numpy(assignment)
    return HeldOut(features @ W.float().T, torch.from_numpy(labels), features, W)
