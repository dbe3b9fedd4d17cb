"""Networks of the experiments: a small VGG with a rectified head, as the paper's have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from qpm_nn.backbones import create_backbone
from qpm_nn.config import RuntimeConfig, TrainingConfig
from qpm_nn.data import DataModule, load_data
from qpm_nn.heads import Activations, Classifier
from qpm_nn.training import EpochReport, train

TRAINING = TrainingConfig(learning_rate=0.05, diversity_weight=0.0, dropout=0.3)
#: Backbone, options of the data set and settings of training, by data set.
SETTINGS: dict[str, tuple[str, dict[str, Any], TrainingConfig]] = {
    "digits": ("vgg_tiny", {}, replace(TRAINING, epochs=20)),
    "omniglot": ("vgg_tiny", {}, replace(TRAINING, epochs=40)),
    "grocery": (
        "vgg_small",
        {"image_size": 64, "augmentation": "photographs"},
        replace(TRAINING, epochs=40, batch_size=32),
    ),
}


class MLPHead(nn.Module):
    """Pooling and a perceptron of two hidden layers, as VGG has: not linear, unlike other heads."""

    #: Side of the pooled maps.
    GRID = 4

    def __init__(self, n_features: int, n_classes: int, width: int = 256, dropout: float = 0.3):
        super().__init__()
        self.pool = nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.AdaptiveAvgPool2d(self.GRID))
        self.hidden = nn.Sequential(
            nn.Linear(n_features * self.GRID**2, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.linear = nn.Linear(width, n_classes)

    def forward(self, maps: Tensor) -> Activations:
        features = self.hidden(self.pool(maps).flatten(1))
        return Activations(self.linear(features), features, maps)


def load_network_data(name: str, root: str | None) -> DataModule:
    """The data set, with the options of the experiments."""
    return load_data(name, root=root, workers=0, **SETTINGS[name][1])


def make_network(name: str, data: DataModule) -> Classifier:
    """New network for a data set."""
    arch, _, training = SETTINGS[name]
    backbone = create_backbone(arch, data.image_shape[0])
    return Classifier(
        backbone, MLPHead(backbone.n_features, data.n_classes, dropout=training.dropout)
    )


def train_network(
    name: str, data: DataModule, path: Path, *, seed: int, threads: int = 1
) -> Classifier:
    """Train the network of a data set into a file; a finished or begun one goes on."""
    torch.manual_seed(seed)
    torch.set_num_threads(threads)

    def tell(report: EpochReport) -> None:
        click.echo(
            f"epoch {report.epoch}/{report.n_epochs}  loss {report.loss:.3f}  "
            f"accuracy {report.accuracy:.3f}  {report.duration:.0f} s",
            err=True,
        )

    return train(
        make_network(name, data),
        data,
        SETTINGS[name][2],
        seed=seed,
        runtime=RuntimeConfig(device="cpu", threads=threads),
        checkpoint=path,
        key=f"{name}-{seed}",
        on_epoch=tell,
    )
