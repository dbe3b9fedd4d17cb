"""Photographs augmented where they are read: the same, whoever reads them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qpm_nn.backbones import create_backbone
from qpm_nn.config import RuntimeConfig, TrainingConfig
from qpm_nn.data import AUGMENTATIONS, AugmentedImages, BatchLoader, DataModule, load_data
from qpm_nn.heads import Classifier, DenseHead
from qpm_nn.training import train


def load(tree, **options) -> DataModule:
    settings = {"image_size": 12, "memory": 0.0, "workers": 0, "augmentation": "photographs"}
    return load_data(str(tree), **settings | options)


def test_which_images_they_are(tree):
    assert load(tree).augments_while_reading
    assert not load(tree, memory=1.0).augments_while_reading
    assert not load(tree, augmentation="dataset").augments_while_reading


def test_an_image_has_random_numbers_of_its_own(tree):
    images = AugmentedImages(load(tree), seed=3)
    state = torch.random.get_rng_state()
    several, labels = images.__getitems__([7, 2, 30])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(labels, images.images.labels[[7, 2, 30]])
    assert several.shape == (3, 3, 12, 12) and several.dtype == torch.float32
    torch.rand(5)
    alone, _ = images.__getitems__([30])
    assert torch.equal(alone[0], several[2])

    others = [AugmentedImages(load(tree), seed=4), AugmentedImages(load(tree), seed=3)]
    others[1].epoch = 1
    for other in others:
        assert not torch.equal(other.__getitems__([30])[0], alone)

    images.images = load(tree).train.subset([30, 30])  # one picture at two places
    first, second = images.__getitems__([0, 1])[0]
    assert not torch.equal(first, second)


@pytest.mark.parametrize("augmentation", ["photographs", "imagenet"])
def test_batches_do_not_depend_on_workers_and_threads(augmentation):
    # Large enough for torch to add up an image in several threads.
    pixels = np.random.default_rng(0).integers(0, 256, (40, 200, 200, 3), dtype=np.uint8)
    pictures = [(image, i % 2) for i, image in enumerate(pixels.transpose(0, 3, 1, 2))]
    found = []
    for workers, threads in ((0, 1), (0, 2), (2, 2)):
        data = DataModule.from_datasets(
            pictures,
            pictures[:2],
            "ab",
            augmentation=AUGMENTATIONS[augmentation],
            workers=workers,
        )
        torch.set_num_threads(threads)
        batches = [images for images, _ in BatchLoader(AugmentedImages(data, seed=1), 16)]
        assert torch.get_num_threads() == threads
        found.append(torch.cat(batches))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def kill(report):
    raise Killed


def test_training_ends_alike_with_any_workers_also_when_it_was_killed(tree, tmp_path):
    def trained(name, workers, on_epoch=None):
        torch.manual_seed(0)
        return train(
            Classifier(create_backbone("convnet_tiny", 3), DenseHead(128, 4, dropout=0.3)),
            load(tree, workers=workers),
            TrainingConfig(epochs=2, batch_size=8, learning_rate=0.05),
            seed=1,
            runtime=RuntimeConfig(device="cpu"),
            checkpoint=tmp_path / name,
            on_epoch=on_epoch,
        ).state_dict()

    whole = trained("whole", 0)
    with pytest.raises(Killed):
        trained("killed", 1, on_epoch=kill)
    for found in (trained("workers", 2), trained("killed", 0)):
        assert all(torch.equal(value, found[name]) for name, value in whole.items())
