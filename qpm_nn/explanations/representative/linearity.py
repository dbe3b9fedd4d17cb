"""Whether the part of a network behind a layer is affine, piecewise linear, or neither."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

import torch
from torch import Tensor, nn

from qpm_opt import InvalidInputError

#: Modules and functions, by name, that are not piecewise linear in evaluation mode.
CURVED = frozenset(
    "CELU ELU GELU GLU GroupNorm Hardswish InstanceNorm1d InstanceNorm2d InstanceNorm3d LayerNorm "
    "LayerNorm2d LocalResponseNorm LogSigmoid LogSoftmax Mish MultiheadAttention RMSNorm SELU "
    "SiLU Sigmoid Softmax Softmax2d Softmin Softplus Softsign Swish Tanh Tanhshrink "
    "batch_norm_update celu cosine_similarity elu exp gelu glu group_norm hardswish instance_norm "
    "layer_norm log log1p log_softmax logsigmoid logsumexp mish norm normalize pow rms_norm rsqrt "
    "scaled_dot_product_attention selu sigmoid silu softmax softplus softsign sqrt square tanh "
    "tanhshrink".split()
)
#: Feature maps at which the second test looks.
N_POINTS = 8
#: Length of a step relative to the feature map, short enough to stay in one linear piece nearly
#: always, and what gradients may differ by: float64 leaves 1e-13, curvature 1e-7.
STEP, TOLERANCE = 1e-6, 1e-10
#: Size of points far from all images, relative to the feature map.
FAR = 1e4
#: Part of the steps that may cross from one piece to another.
CROSSINGS = 0.25


class Linearity(StrEnum):
    """What the part of a network behind a layer is."""

    AFFINE = "affine"
    PIECEWISE_LINEAR = "piecewise linear"
    CURVED = "not piecewise linear"


def curved_operations(operations: Iterable[str]) -> list[str]:
    """Names among the operations that are known not to be piecewise linear, each once."""
    return [name for name in dict.fromkeys(operations) if name in CURVED]


def linearity(scores: nn.Module, maps: Tensor) -> Linearity:
    """What a function is, as far as gradients at some feature maps tell.

    A piecewise linear function has the same gradient at two points close together, to the last
    digits; that of a curved one differs by the distance, however it was written. If the gradients
    at all points are equal, the function is affine.

    Parameters
    ----------
    scores : Module
        Feature maps to scores, of type float64.
    maps : Tensor of shape (n_images, n_channels, height, width)
        Of real images, a few.

    Raises
    ------
    InvalidInputError
        If the maps are not finite, or there are fewer than two scores.
    """
    generator = torch.Generator().manual_seed(0)

    def noise() -> Tensor:
        # By channel, too, for that of single pixels averages out in a pooling.
        drawn = sum(
            torch.randn(shape, generator=generator, dtype=torch.float64)
            for shape in (points.shape, (*points.shape[:2], 1, 1))
        )
        return drawn.to(points.device) * size

    base = maps.detach().double()
    points = base[torch.arange(N_POINTS) % len(base)]
    size = points.square().mean().sqrt()
    if not torch.isfinite(size):
        raise InvalidInputError(
            "The feature maps hold NaN or infinite values; finite numbers were expected: train "
            "again with a lower learning rate."
        )
    if not size:  # dead units only
        size = torch.ones_like(size)
    # Zeros of rectified maps tie in a max-pooling; noise leads away from such corners.
    points = points + noise()
    weights = None
    gradients = []
    # Far away biases play no part any more, and every unit that can switch does.
    for where in (points, points + STEP * noise(), 3 * noise(), FAR * noise()):
        where = where.requires_grad_()
        found = scores(where.clone())  # for the first layer may work in place
        if found.ndim != 2 or found.shape[1] < 2:
            raise InvalidInputError(
                f"The scores have shape {tuple(found.shape)}; (n_images, n_classes) with two "
                "classes or more was expected."
            )
        if weights is None:
            weights = torch.randn(found.shape[1], generator=generator, dtype=torch.float64)
            weights = weights.to(found.device)
        (gradient,) = torch.autograd.grad((found @ weights).sum(), where)
        gradients.append(gradient.flatten(1))
    here, beside, *elsewhere = gradients
    scale = here.norm(dim=1).max().clamp_min(torch.finfo(torch.float64).tiny)
    is_kept = (beside - here).norm(dim=1) <= TOLERANCE * scale
    if is_kept.double().mean() < 1 - CROSSINGS:
        return Linearity.CURVED
    differs = max((part - here[:1]).norm(dim=1).max() for part in (here, beside, *elsewhere))
    return Linearity.AFFINE if differs <= TOLERANCE * scale else Linearity.PIECEWISE_LINEAR


def module_names(module: nn.Module) -> Iterator[str]:
    """Names of the classes of a module and of all in it."""
    return (type(part).__name__ for part in module.modules())
