"""The preset ``paper``, number by number; the other presets know no backbones and data sets.

The numbers are those of Norrenbrock et al., QPM, ICLR 2025, section 4 and appendix C.
"""

from __future__ import annotations

import math

import pytest

from qpm_nn.config import TrainingConfig
from qpm_nn.config_layers import make_config
from qpm_nn.data import AUGMENTATIONS
from qpm_nn.presets import SCHEDULE_OF_ARCH_PRESETS, SCHEDULE_OF_DATA_PRESETS

FINE_GRAINED = ("cub2011", "traveling_birds", "stanford_cars")
#: Side of images, stride 1 in the last two stages, beta, and batch size while fine-tuning.
BACKBONES = {
    "resnet34": (224, True, 0.196, 16),
    "resnet50": (224, True, 0.196, 16),
    "inception_v3": (299, False, 0.049, 16),
    "swin_t": (224, False, 0.0245, 8),
    "swin_s": (224, False, 0.0245, 8),
}


def paper(data, arch, *layers):
    return make_config({"data": {"name": data}, "arch": arch}, *layers, preset="paper")


def published_dense(beta, **changes):
    """SGD for 150 epochs; the rate of the last layer is 0.01."""
    settings = {
        "optimizer": "sgd",
        "epochs": 150,
        "batch_size": 16,
        "accumulate": 1,
        "learning_rate": 5e-3,
        "head_factor": 0.01 / 5e-3,
        "schedule": "step",
        "step_epochs": 30,
        "step_factor": 0.4,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 5e-4,
        "warmup": 0.0,
        "diversity_weight": beta,
        "activation_weight": 0.0,
        "grounding_weight": 0.0,
        "dropout": 0.2,
    }
    return TrainingConfig(**settings | changes)


def published_finetuning(beta, batch_size, rate=1.28e-2):
    """40 epochs from a hundred times the last rate of the dense training on."""
    return published_dense(
        beta,
        epochs=40,
        batch_size=batch_size,
        learning_rate=rate,
        head_factor=1.0,  # behind the fixed layer nothing is trained
        step_epochs=10,
        momentum=0.95,
        dropout=0.1,
    )


def test_the_rate_of_fine_tuning_follows_from_the_dense_training():
    dense = published_dense(0.196)
    last = dense.learning_rate * dense.step_factor ** ((dense.epochs - 1) // dense.step_epochs)
    assert 100 * last == pytest.approx(1.28e-2)


@pytest.mark.parametrize("data", FINE_GRAINED)
@pytest.mark.parametrize("arch", BACKBONES)
def test_fine_grained_data(data, arch):
    image_size, reduced_strides, beta, batch_size = BACKBONES[arch]
    config = paper(data, arch)
    assert config.dense == published_dense(beta)
    assert config.finetune == published_finetuning(beta, batch_size)
    assert config.reduced_strides == reduced_strides
    assert config.data.image_size == image_size
    assert config.data.crop == (data != "stanford_cars")
    augmentation = AUGMENTATIONS[config.data.augmentation]
    assert augmentation.flip and augmentation.jitter and augmentation.trivial
    assert augmentation.lighting == 0


def test_imagenet():
    config = paper("imagenet", "resnet50")
    assert config.dense.epochs == 0
    assert config.finetune == published_finetuning(0.196, 16, rate=1.28e-2 / 100)
    assert not config.reduced_strides and not config.data.crop
    assert config.data.image_size == 224
    augmentation = AUGMENTATIONS[config.data.augmentation]
    assert augmentation.lighting and augmentation.flip and augmentation.jitter
    assert not augmentation.trivial


@pytest.mark.parametrize("data", [*FINE_GRAINED, "imagenet"])
def test_sizes_of_the_problem_and_the_first_seed(data):
    config = paper(data, "resnet50")
    assert (config.problem.n_selected, config.problem.n_per_class) == (50, 5)
    assert config.problem.class_similarity == "correlation"
    assert config.problem.bias == "locality"
    assert config.problem.bias_scale == pytest.approx(1 / math.sqrt(10))
    assert config.seed == 16


def test_other_data_and_backbones_are_trained_like_a_resnet():
    for data in ("digits", "omniglot", "elsewhere"):
        config = paper(data, "convnet_small")
        assert config.dense == published_dense(0.196)
        assert config.finetune == published_finetuning(0.196, 16)
        assert not config.reduced_strides


def test_what_is_given_wins_over_the_numbers_of_a_backbone():
    given = {"dense": {"diversity_weight": 0.5}, "data": {"crop": False}, "reduced_strides": False}
    config = paper("cub2011", "resnet50", given)
    assert config.dense.diversity_weight == 0.5
    assert not config.data.crop and not config.reduced_strides
    assert config.finetune.diversity_weight == 0.196
    assert paper("imagenet", "resnet50", {"dense": {"epochs": 2}}).dense.epochs == 2


@pytest.mark.parametrize("preset", ["chiqpm", "dino", ""])
def test_other_presets_know_no_backbones(preset):
    assert {name for name, _ in (*SCHEDULE_OF_ARCH_PRESETS, *SCHEDULE_OF_DATA_PRESETS)} == {"paper"}
    configs = [make_config({"arch": arch}, preset=preset) for arch in ("resnet50", "swin_t")]
    assert configs[0].dense == configs[1].dense and configs[0].finetune == configs[1].finetune
    assert configs[0].dense.nesterov and configs[0].finetune.nesterov
