"""Backbones: images to non-negative feature maps."""

from qpm_nn.backbones.base import Backbone
from qpm_nn.backbones.registry import BACKBONES, REDUCIBLE, create_backbone, map_shape

__all__ = ["BACKBONES", "REDUCIBLE", "Backbone", "create_backbone", "map_shape"]
