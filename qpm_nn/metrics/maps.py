"""Metrics of feature maps: where the features of a class look.

All are of each image; :class:`~qpm_nn.metrics.ImageMean` takes their mean in a stream. The papers
report them for the test images.
"""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from qpm_nn.metrics.checks import as_matrix, check_finite, check_shape
from qpm_opt import InvalidInputError


def scale_invariant_diversity(maps: Tensor, class_weights: Tensor, k: int) -> Tensor:
    """SID@k of each image: how different the places are at which its k features look.

    1 if the k maps are concentrated on different pixels, 1/k if they are the same.

    Parameters
    ----------
    maps : Tensor of shape (n_images, n_features, height, width)
    class_weights : Tensor of shape (n_images, n_features)
        Signed weights of each image's predicted class. Those k of its features count that have the
        largest weights; of equal weights the feature with the lower index comes first. A weight of
        0 is none (the published code prefers it to a negative one).
    k : int
        5 in the paper. If the class has more features, the others do not count.

    Returns
    -------
    Tensor of shape (n_images,)
        NaN (not counted by :class:`~qpm_nn.metrics.ImageMean`) if the class has fewer than k
        features. A map that is zero everywhere is spread evenly over all pixels.

    Raises
    ------
    InvalidInputError
        If a value is NaN or infinite, the shapes do not fit or k is not positive.

    References
    ----------
    QPM paper, eqs. 15 and 16.
    """
    chosen = _highest_weighted(maps, class_weights, k)
    mean = chosen.abs().mean(2, keepdim=True).clamp_min(torch.finfo(chosen.dtype).tiny)
    return _covered(chosen / mean, class_weights, k)


def diversity(maps: Tensor, class_weights: Tensor, k: int) -> Tensor:
    """diversity@k of each image: SID@k without dividing the maps by their mean.

    Depends on the scale of the maps: 1/k for small ones, wherever they look. Parameters, returned
    values and errors are those of :func:`scale_invariant_diversity`.

    References
    ----------
    diversity@5 of Norrenbrock et al., Take 5, 2022; QPM paper, table 8.
    """
    return _covered(_highest_weighted(maps, class_weights, k), class_weights, k)


def _highest_weighted(maps: Tensor, class_weights: Tensor, k: int) -> Tensor:
    """Flat maps (n_images, k, n_pixels) of the k features with the largest weights."""
    if k < 1:
        raise InvalidInputError(f"k is {k}; a whole number from 1 on was expected.")
    check_shape("class_weights", class_weights, tuple(maps.shape[:2]))
    check_finite("class_weights", class_weights)
    ranked = class_weights.masked_fill(class_weights == 0, -torch.inf)
    top = ranked.sort(dim=1, descending=True, stable=True).indices[:, :k]
    flat = maps.flatten(2)
    chosen = flat.gather(1, top.unsqueeze(2).expand(-1, -1, flat.shape[2]))
    check_finite("maps", chosen)
    return chosen if chosen.dtype == torch.double else chosen.float()


def _covered(chosen: Tensor, class_weights: Tensor, k: int) -> Tensor:
    """Sum over the pixels of the largest softmax, over k; NaN where there are no k features."""
    covered = functional.softmax(chosen, dim=2).amax(1).sum(1) / k
    return covered.where((class_weights != 0).sum(1) >= k, torch.nan)


def plausibility(
    maps: Tensor, class_weights: Tensor, masks: Tensor, *, dilation: int = 1
) -> Tensor:
    """Share of the evidence for each image's predicted class that lies on the object.

    The evidence is the weighted sum of the maps, less its minimum. Evidence that is spread evenly,
    but for one place, scores about :func:`plausibility_by_chance`: report both.

    Parameters
    ----------
    maps : Tensor of shape (n_images, n_features, height, width)
    class_weights : Tensor of shape (n_images, n_features)
        Signed weights of each image's predicted class.
    masks : Tensor of shape (n_images, mask_height, mask_width)
        Not 0 where the object is; of any size, framed like the images that the network sees. See
        :func:`box_masks` for bounding boxes.
    dilation : int
        By how many cells of the maps the object is widened; 1 in DINO-QPM, 0 for none.

    Returns
    -------
    Tensor of shape (n_images,)
        In [0, 1]; 0 if the evidence is the same everywhere or there is no object.

    Raises
    ------
    InvalidInputError
        If a value is NaN or infinite, the shapes do not fit or ``dilation`` is negative.

    References
    ----------
    Plausibility of Zimmermann, Norrenbrock and Rosenhahn, DINO-QPM, 2026. There, a cell of the
    maps is on the object if the mask, interpolated to the grid of the maps, is positive; here, if
    any of its pixels is.
    """
    check_shape("class_weights", class_weights, tuple(maps.shape[:2]))
    check_shape("masks", masks, (len(maps), *masks.shape[1:3]))
    evidence = torch.einsum("jdhw,jd->jhw", maps, class_weights)
    check_finite("maps * class_weights", evidence)
    evidence = evidence - evidence.amin((1, 2), keepdim=True)
    inside = (evidence * _object_cells(masks, maps.shape[2:], dilation).to(evidence)).sum((1, 2))
    total = evidence.sum((1, 2))
    return (inside / total).where(total > 0, 0.0)


def plausibility_by_chance(masks: Tensor, size: tuple[int, int], *, dilation: int = 1) -> Tensor:
    """Share of the cells of maps of that (height, width) that are on the object, of each image.

    ``masks`` and ``dilation`` are those of :func:`plausibility`.
    """
    return _object_cells(masks, size, dilation).mean((1, 2))


def _object_cells(masks: Tensor, size: tuple[int, int], dilation: int) -> Tensor:
    """1 for cells of the maps with a pixel of the object, 0 for others."""
    if dilation < 0:
        raise InvalidInputError(f"dilation is {dilation}; 0 or more cells were expected.")
    cells = functional.adaptive_max_pool2d((masks != 0).float().unsqueeze(1), size)
    if dilation:
        cells = functional.max_pool2d(cells, 2 * dilation + 1, stride=1, padding=dilation)
    return cells.squeeze(1)


def box_masks(boxes: ArrayLike | Tensor, height: int, width: int) -> Tensor:
    """Masks of bounding boxes, for :func:`plausibility`.

    Parameters
    ----------
    boxes : array of shape (n_images, 4)
        Left edge, upper edge, width and height in pixels, as in CUB-2011's ``bounding_boxes.txt``.
    height, width : int
        Of the image in pixels.

    Returns
    -------
    Tensor of shape (n_images, height, width), bool
        Pixels whose centre is in the box.

    Raises
    ------
    InvalidInputError
        If a value is NaN or infinite or the shape does not fit.
    """
    left, top, box_width, box_height = torch.from_numpy(as_matrix("boxes", boxes, 4)).T[..., None]
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    columns = (x > left) & (x < left + box_width)
    rows = (y > top) & (y < top + box_height)
    return rows.unsqueeze(2) & columns.unsqueeze(1)
