"""Channel weights of Grad-CAM, Grad-CAM++ and Score-CAM: what RI is compared with.

They are computed at one image and may be reused for others, as Lam et al. (ICCV 2021, section 6.1)
do. ACE, the fourth method of their comparison, has no maintained implementation and is left out.

References
----------
Selvaraju et al., Grad-CAM, ICCV 2017. Chattopadhyay et al., Grad-CAM++, WACV 2018. Wang et al.,
Score-CAM, CVPR Workshops 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from qpm_nn.explanations.representative.channels import normalised, resized
from qpm_nn.explanations.representative.images import BATCH_SIZE, MappedImages

#: Keeps denominators of Grad-CAM++ from 0.
_EPSILON = 1e-6


def grad_cam_weights(images: MappedImages, indices: Sequence[int]) -> Tensor:
    """Spatial means of the gradient of the predicted class's score, (n, n_channels)."""
    return _gradients(images, indices)[1].mean((2, 3))


def grad_cam_plus_plus_weights(images: MappedImages, indices: Sequence[int]) -> Tensor:
    """Sums of the positive gradients of the predicted class's score, weighted by pixel.

    The score itself is taken in the place of its exponential, whose derivatives are multiples of
    the same (eq. 19 of the article).
    """
    maps, gradients = _gradients(images, indices)
    square = gradients.square()
    total = maps.sum((2, 3), keepdim=True)
    shares = square / (2 * square + total * gradients * square + _EPSILON)
    shares = torch.where(gradients != 0, shares, 0)
    return (shares * gradients.relu()).sum((2, 3))


@torch.no_grad()
def score_cam_weights(images: MappedImages, indices: Sequence[int]) -> Tensor:
    """Softmax over the channels of the scores of inputs masked by them, (n, n_channels).

    The score is that of the predicted class, before the softmax over classes; a channel masks the
    network's input after it was resized and then scaled to [0, 1], as in the article.
    """
    split = images.split
    maps = images.maps(indices)
    found = maps.new_empty(maps.shape[:2], dtype=torch.float64)
    for row, i in enumerate(indices):
        inputs = images.normalise(images.pixels([i]))
        masks = normalised(resized(maps[row], tuple(inputs.shape[2:])))
        c = int(images.predicted[i])
        scores = [
            split.scores(split.maps(inputs * part[:, None]))[:, c]
            for part in masks.to(inputs.dtype).split(BATCH_SIZE)
        ]
        found[row] = torch.cat(scores).softmax(0)
    return found


#: By name.
CAMS: dict[str, Callable[[MappedImages, Sequence[int]], Tensor]] = {
    "Grad-CAM": grad_cam_weights,
    "Grad-CAM++": grad_cam_plus_plus_weights,
    "Score-CAM": score_cam_weights,
}


def _gradients(images: MappedImages, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Feature maps, and the gradients of the score of the predicted class at them."""
    maps = images.maps(indices).double().requires_grad_()
    scores = images.split.scores(maps)
    classes = torch.from_numpy(images.predicted[list(indices)]).to(maps.device)
    (gradients,) = torch.autograd.grad(scores.gather(1, classes[:, None]).sum(), maps)
    return maps.detach(), gradients
