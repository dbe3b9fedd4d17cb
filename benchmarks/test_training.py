"""Training steps of a dense model and of one with a fixed assignment, on random images.

Beside ours stands what one would write without us: a loop in single precision over the same images,
with the same network, loss and optimiser, without augmentation, checkpoints and reports. With
``--device cuda`` ours computes in bf16 and compiled, and ResNet-50 with reduced strides is measured
at 224 pixels, too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra nn: no torch here")
pytest.importorskip("lightning_fabric", reason="training needs the extra nn: no Fabric here")

from torch.nn import functional  # noqa: E402

from qpm_nn.backbones import create_backbone  # noqa: E402
from qpm_nn.config import RuntimeConfig, TrainingConfig  # noqa: E402
from qpm_nn.data import Augmentation, DataModule, LabelledImages  # noqa: E402
from qpm_nn.heads import AssignmentHead, Classifier, DenseHead  # noqa: E402
from qpm_nn.losses import feature_diversity_loss  # noqa: E402
from qpm_nn.training import train  # noqa: E402

N_CLASSES = 10


class Network(NamedTuple):
    """A network, and the images that it is trained on."""

    side: int
    arch: str = "convnet_small"
    reduced_strides: bool = False
    batch_size: int = 32
    n_steps: int = 4

    def __str__(self) -> str:
        return str(self.side) if self.arch == "convnet_small" else f"{self.arch}@{self.side}"


RESNET = Network(224, "resnet50", reduced_strides=True, batch_size=64, n_steps=20)
SIZES = [Network(16, n_steps=40), Network(32, n_steps=10), Network(64), RESNET]


@pytest.fixture
def runtime(request, size) -> RuntimeConfig:
    device = request.config.getoption("--device")
    if device == "cpu":
        if size is RESNET:
            pytest.skip(
                "ResNet-50 at 224 pixels takes minutes a step on a CPU: give --device cuda."
            )
        return RuntimeConfig(device="cpu")
    return RuntimeConfig(device=device, precision="bf16-mixed", compile=True)


@pytest.fixture
def data(size) -> DataModule:
    rng = np.random.default_rng(0)
    n_images = size.batch_size * size.n_steps
    images = rng.integers(256, size=(n_images, 3, size.side, size.side), dtype=np.uint8)
    labelled = LabelledImages(images, np.arange(n_images) % N_CLASSES)
    names = tuple(map(str, range(N_CLASSES)))
    augmentation = Augmentation(degrees=10, scale=0.1, shear=0.1, translate=0.08)
    return DataModule("random", labelled, labelled, names, augmentation)


def classifier(kind: str, network: Network) -> Classifier:
    torch.manual_seed(0)
    backbone = create_backbone(network.arch, 3, reduced_strides=network.reduced_strides)
    n_features = backbone.n_features
    if kind == "dense":
        return Classifier(backbone, DenseHead(n_features, N_CLASSES))
    p = 20
    features = np.arange(N_CLASSES)[:, None] + np.arange(5)
    assignment = np.zeros((N_CLASSES, p), dtype=bool)
    np.put_along_axis(assignment, features, True, axis=1)
    return Classifier(backbone, AssignmentHead(np.arange(p), assignment, np.zeros(p), np.ones(p)))


@pytest.mark.parametrize("kind", ["dense", "assigned"])
def test_plain_loop(benchmark, data, kind, size, runtime):
    """The same steps by a plain loop."""
    config = TrainingConfig(epochs=1, batch_size=size.batch_size)
    losses = []

    def run(model):
        model.to(runtime.device).train()
        optimizer = torch.optim.SGD(
            model.parameters(),
            config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=True,
        )
        for i in range(size.n_steps):
            rows = slice(i * size.batch_size, (i + 1) * size.batch_size)
            images = data.train.images[rows].to(runtime.device)
            labels = data.train.labels[rows].to(runtime.device)
            logits, _, maps = model.activations(data.preprocessing(images))
            weights = model.head.weight[logits.argmax(1)]
            loss = functional.cross_entropy(logits, labels)
            loss = loss + config.diversity_weight * feature_diversity_loss(maps, weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())

    benchmark.pedantic(
        run, setup=lambda: ((classifier(kind, size),), {}), rounds=5, warmup_rounds=1
    )
    assert np.isfinite(losses).all()
    benchmark.extra_info.update(n_steps=size.n_steps, batch_size=size.batch_size)
    if benchmark.stats:
        benchmark.extra_info["seconds_per_step"] = benchmark.stats.stats.min / size.n_steps


@pytest.mark.parametrize("kind", ["dense", "assigned"])
def test_training_steps(benchmark, data, kind, size, runtime, tmp_path):
    """Epochs of a few steps, with their checkpoints; compiled, the first one compiles."""
    config = TrainingConfig(epochs=3 if runtime.compile else 1, batch_size=size.batch_size)
    epochs = []

    def run(model):
        train(
            model,
            data,
            config,
            seed=0,
            runtime=runtime,
            checkpoint=tmp_path / "checkpoint",
            key=str(len(epochs)),  # no epoch resumes from the one before
            on_epoch=epochs.append,
        )

    benchmark.pedantic(
        run, setup=lambda: ((classifier(kind, size),), {}), rounds=5, warmup_rounds=1
    )
    assert np.isfinite(epochs[-1].loss)
    benchmark.extra_info.update(
        n_steps=size.n_steps,
        batch_size=size.batch_size,
        seconds_per_step=min(epoch.duration for epoch in epochs) / size.n_steps,
    )
