"""Training steps of a dense model and of one with a fixed assignment, on random images.

Beside ours stands what one would write without us: a loop in single precision over the same images,
with the same network, loss and optimiser, without augmentation, checkpoints and reports.
"""

from __future__ import annotations

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

#: Sides of the images, in pixels.
SIZES = [16, 32, 64]
N_CLASSES, BATCH_SIZE, N_STEPS = 10, 32, 4


@pytest.fixture
def data(size) -> DataModule:
    rng = np.random.default_rng(0)
    n_images = BATCH_SIZE * N_STEPS
    images = rng.integers(256, size=(n_images, 3, size, size), dtype=np.uint8)
    labelled = LabelledImages(images, np.arange(n_images) % N_CLASSES)
    names = tuple(map(str, range(N_CLASSES)))
    augmentation = Augmentation(degrees=10, scale=0.1, shear=0.1, translate=0.08)
    return DataModule("random", labelled, labelled, names, augmentation)


def classifier(kind: str) -> Classifier:
    torch.manual_seed(0)
    backbone = create_backbone("convnet_small", 3)
    n_features = backbone.n_features
    if kind == "dense":
        return Classifier(backbone, DenseHead(n_features, N_CLASSES))
    p = 20
    features = np.arange(N_CLASSES)[:, None] + np.arange(5)
    assignment = np.zeros((N_CLASSES, p), dtype=bool)
    np.put_along_axis(assignment, features, True, axis=1)
    return Classifier(backbone, AssignmentHead(np.arange(p), assignment, np.zeros(p), np.ones(p)))


@pytest.mark.parametrize("kind", ["dense", "assigned"])
def test_plain_loop(benchmark, data, kind):
    """The same steps by a plain loop."""
    config = TrainingConfig(epochs=1, batch_size=BATCH_SIZE)
    losses = []

    def run(model):
        model.train()
        optimizer = torch.optim.SGD(
            model.parameters(),
            config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=True,
        )
        for i in range(N_STEPS):
            rows = slice(i * BATCH_SIZE, (i + 1) * BATCH_SIZE)
            images, labels = data.train.images[rows], data.train.labels[rows]
            logits, _, maps = model.activations(data.preprocessing(images))
            weights = model.head.weight[logits.argmax(1)]
            loss = functional.cross_entropy(logits, labels)
            loss = loss + config.diversity_weight * feature_diversity_loss(maps, weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())

    benchmark.pedantic(run, setup=lambda: ((classifier(kind),), {}), rounds=3)
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("kind", ["dense", "assigned"])
def test_training_steps(benchmark, data, kind, tmp_path):
    """An epoch of a few steps, with its checkpoint."""
    config = TrainingConfig(epochs=1, batch_size=BATCH_SIZE)
    epochs = []

    def run(model):
        train(
            model,
            data,
            config,
            seed=0,
            runtime=RuntimeConfig(device="cpu"),
            checkpoint=tmp_path / "checkpoint",
            key=str(len(epochs)),  # no epoch resumes from the one before
            on_epoch=epochs.append,
        )

    benchmark.pedantic(run, setup=lambda: ((classifier(kind),), {}), rounds=3)
    assert np.isfinite(epochs[-1].loss)
    benchmark.extra_info.update(
        n_steps=N_STEPS,
        batch_size=BATCH_SIZE,
        seconds_per_step=min(epoch.duration for epoch in epochs) / N_STEPS,
    )
