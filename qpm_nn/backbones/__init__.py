"""Backbones: images to non-negative feature maps."""

from qpm_nn.backbones.base import Backbone
from qpm_nn.backbones.frozen import FrozenBackbone
from qpm_nn.backbones.registry import BACKBONES, REDUCIBLE, create_backbone, map_shape
from qpm_nn.backbones.weights import classification_layer, load_weights, weights_key

__all__ = [
    "BACKBONES",
    "REDUCIBLE",
    "Backbone",
    "FrozenBackbone",
    "classification_layer",
    "create_backbone",
    "load_weights",
    "map_shape",
    "weights_key",
]
