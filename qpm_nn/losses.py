"""Losses of the training: what makes features look at different places."""

from __future__ import annotations

import torch
from torch import Tensor


def feature_diversity_loss(maps: Tensor, class_weights: Tensor) -> Tensor:
    """Feature diversity loss, in [-1, 0] times the weights; lower is more diverse.

    Every map becomes a distribution over the pixels, scaled by the strength of its feature in the
    image and by its weight for the predicted class. What counts is the strongest feature at each
    pixel, so features gain by lighting up where no other does.

    Parameters
    ----------
    maps : Tensor of shape (n_images, n_features, height, width)
        Feature maps, non-negative.
    class_weights : Tensor of shape (n_images, n_features)
        Weights with which the head maps the features to each image's predicted class.

    Returns
    -------
    Tensor
        Scalar: the mean over the images.

    References
    ----------
    Norrenbrock et al., QPM, ICLR 2025, eqs. 31 and 32 (the loss of the SLDD-Model, 2022). The total
    loss is ``cross entropy + diversity_weight * feature_diversity_loss`` (eq. 33).
    """
    tiny = torch.finfo(maps.dtype).tiny
    flat = maps.flatten(2)
    strength = flat.mean(2)
    strength = strength / strength.amax(1, keepdim=True).clamp_min(tiny)
    importance = class_weights.abs()
    importance = importance / importance.norm(dim=1, keepdim=True).clamp_min(tiny)
    attention = flat.softmax(2) * (strength * importance).unsqueeze(2)
    return -attention.amax(1).sum(1).mean()
