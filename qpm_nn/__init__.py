"""From images to a problem, and from an assignment to an interpretable classifier.

The public names are loaded when first used, so that the command line can be imported without torch.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = [
    "AssignmentHead",
    "Classifier",
    "ClassifierSpec",
    "DataModule",
    "DenseHead",
    "QPMClassifier",
    "QPMModel",
    "RunConfig",
    "SparseHead",
    "create_backbone",
    "evaluate",
    "explain_class",
    "extract_features",
    "feature_diversity_loss",
    "feature_grounding_loss",
    "load_classifier",
    "load_data",
    "make_config",
    "run",
    "save_classifier",
    "train",
]

# Threads of torch that wait must sleep: when they spin and anything else runs on the machine, small
# networks train ten times slower. Read when torch is loaded; what the user has set stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_MODULES = {
    "AssignmentHead": "heads",
    "Classifier": "heads",
    "ClassifierSpec": "saving",
    "DataModule": "data",
    "DenseHead": "heads",
    "QPMClassifier": "estimator",
    "QPMModel": "pretrained",
    "RunConfig": "config",
    "SparseHead": "heads",
    "create_backbone": "backbones",
    "evaluate": "evaluation",
    "explain_class": "explanations",
    "extract_features": "extraction",
    "feature_diversity_loss": "losses",
    "feature_grounding_loss": "losses",
    "load_classifier": "saving",
    "load_data": "data",
    "make_config": "config_layers",
    "run": "pipelines.run",
    "save_classifier": "saving",
    "train": "training",
}

if TYPE_CHECKING:
    from qpm_nn.backbones import create_backbone
    from qpm_nn.config import RunConfig
    from qpm_nn.config_layers import make_config
    from qpm_nn.data import DataModule, load_data
    from qpm_nn.estimator import QPMClassifier
    from qpm_nn.evaluation import evaluate
    from qpm_nn.explanations import explain_class
    from qpm_nn.extraction import extract_features
    from qpm_nn.heads import AssignmentHead, Classifier, DenseHead, SparseHead
    from qpm_nn.losses import feature_diversity_loss, feature_grounding_loss
    from qpm_nn.pipelines.run import run
    from qpm_nn.pretrained import QPMModel
    from qpm_nn.saving import ClassifierSpec, load_classifier, save_classifier
    from qpm_nn.training import train


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
