"""Losses of the training: features that look at different places, and at their own classes."""

from __future__ import annotations

import torch
from torch import Tensor

#: Strongest feature of an image below which the grounding loss is not relative to it any more.
LEAST_STRENGTH = 0.01


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


def feature_grounding_loss(
    features: Tensor, class_weights: Tensor, outside_factor: float = 1.0
) -> Tensor:
    """Feature grounding loss: features of the image's class are to be strong, the others weak.

    The mean of the features that the class does not have less the mean of those that it has,
    relative to the strongest feature of the image, so that it cannot fall by scaling.

    Parameters
    ----------
    features : Tensor of shape (n_images, n_selected)
        Normalised and rectified.
    class_weights : Tensor of shape (n_images, n_selected)
        Rows of W of the true classes: 1 for the features that a class has, else 0.
    outside_factor : float
        Of the mean of the features that the class does not have: 2 in the public code of CHiQPM,
        whose authors call that an error without much effect.

    Returns
    -------
    Tensor
        Scalar: the mean over the images, from -1 to ``outside_factor`` for rectified features.

    References
    ----------
    CHiQPM: Calibrated Hierarchical Interpretable Image Classification, NeurIPS 2025; added to the
    loss with a weight of 3 there.
    """
    own = class_weights.sum(1)
    inside = (class_weights * features).sum(1) / own.clamp_min(1)
    others = class_weights.shape[1] - own
    outside = ((1 - class_weights) * features).sum(1) / others.clamp_min(1)
    strongest = features.abs().amax(1).clamp_min(LEAST_STRENGTH)
    return ((outside_factor * outside - inside) / strongest).mean()
