"""Settings by name: what differs from the defaults, by data set, by model, and as published."""

from __future__ import annotations

from typing import Any

#: Sizes of images and explanations in the QPM paper.
_PUBLISHED = {"data": {"image_size": 224}, "problem": {"n_selected": 50, "n_per_class": 5}}
_OMNIGLOT = {
    "data": {"image_size": 28},
    "dense": {"epochs": 35, "weight_decay": 1e-3},
    "problem": {"n_selected": 50, "n_per_class": 5},
    "finetune": {"epochs": 40},
}
#: What differs from the defaults, by data set. Settings were chosen on images taken out of the
#: training part, never on test images.
PRESETS: dict[str, dict[str, Any]] = {
    "digits": {
        "arch": "convnet_tiny",
        "dense": {"epochs": 20},
        "problem": {"n_selected": 8, "n_per_class": 3},
        "solve": {"time_limit": 20.0},
    },
    "omniglot": _OMNIGLOT,
    "omniglot_full": _OMNIGLOT,
    "aircraft": _PUBLISHED,
    "cub2011": _PUBLISHED,
    "grocery": _PUBLISHED | {"data": {"image_size": 128}},
    "imagenet": _PUBLISHED | {"data": {"image_size": 224, "normalisation": "imagenet"}},
    "stanford_cars": _PUBLISHED,
    "traveling_birds": _PUBLISHED,
}


#: What differs from the defaults, by model. The weight of the grounding loss, its share of the
#: epochs (60 of 70) and the density of pairs are those of CHiQPM.
MODEL_PRESETS: dict[str, dict[str, Any]] = {
    "chiqpm": {
        "problem": {"pair_density": 0.5},
        "finetune": {"grounding_weight": 3.0, "grounding_share": 6 / 7},
    },
}

#: What differs further, by data set and model. CHiQPM is fine-tuned 7/4 times as long as QPM, as in
#: the public code of either.
MODEL_OF_DATA_PRESETS: dict[tuple[str, str], dict[str, Any]] = {
    ("omniglot", "chiqpm"): {"finetune": {"epochs": 70}},
    ("omniglot_full", "chiqpm"): {"finetune": {"epochs": 70}},
}

_PUBLISHED_DENSE = {
    "epochs": 150,
    "batch_size": 16,
    "learning_rate": 5e-3,
    "head_factor": 2.0,
    "schedule": "step",
    "step_epochs": 30,
    "warmup": 0.0,
    "diversity_weight": 0.196,
}

#: Training as published, for runs that ask for it. ``paper`` is that of Norrenbrock et al., QPM,
#: ICLR 2025, appendix C; fine-tuning has its rate, 100 times the last of the dense training.
#: ``chiqpm``, of that model, has its dense training, and fine-tunes as the public code of CHiQPM.
#: ``dino`` is that of Zimmermann et al., DINO-QPM, CVPR Workshops 2026, with the plain AdamW and a
#: cosine in place of one that needs no schedule.
SCHEDULE_PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "data": {"augmentation": "photographs"},
        "dense": _PUBLISHED_DENSE,
        "finetune": {
            "epochs": 40,
            "batch_size": 16,
            "learning_rate": 1.28e-2,
            "momentum": 0.95,
            "schedule": "step",
            "step_epochs": 10,
            "warmup": 0.0,
            "diversity_weight": 0.196,
        },
    },
    "chiqpm": {
        "model": "chiqpm",
        "data": {"augmentation": "photographs"},
        "dense": _PUBLISHED_DENSE,
        "finetune": {
            "epochs": 70,
            "batch_size": 16,
            "learning_rate": 1e-4,
            "momentum": 0.95,
            "schedule": "rounds",
            "step_epochs": 10,
            "warmup": 0.0,
            "diversity_weight": 0.196,
            "grounding_weight": 3.0,
            "grounding_share": 6 / 7,
            "grounding_factor": 2.0,
            "dropout": 0.1,
        },
    },
    "dino": {
        "frozen": True,
        "dense": {
            "optimizer": "adamw",
            "epochs": 25,
            "batch_size": 32,
            "learning_rate": 1e-3,
            "weight_decay": 7e-4,
            "diversity_weight": 0.5,
            "dropout": 0.2,
        },
        "finetune": {
            "optimizer": "adamw",
            "epochs": 25,
            "batch_size": 16,
            "learning_rate": 5e-3,
            "weight_decay": 8e-4,
            "diversity_weight": 1.0,
            "activation_weight": 6.0,
            "dropout": 0.0,
        },
    },
}
