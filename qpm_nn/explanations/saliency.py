"""Where in an image a feature comes from: its map, Integrated Gradients, Grad-CAM.

References
----------
Sundararajan, Taly, Yan, Axiomatic Attribution for Deep Networks (ICML 2017), eq. 1 and the axiom
of completeness. Selvaraju et al., Grad-CAM (ICCV 2017), eqs. 1 and 2, with a feature in the place
of a class.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qpm_nn.data import BatchLoader, ImageSet, Preprocessing
from qpm_nn.explanations.baselines import baseline_images
from qpm_nn.explanations.maps import smooth
from qpm_nn.extraction import BATCH_SIZE
from qpm_nn.heads import Classifier, DenseHead, Head
from qpm_nn.metrics.checks import check_finite
from qpm_opt import InvalidInputError
from qpm_opt.errors import unknown_name

logger = logging.getLogger(__name__)

#: Largest error of Integrated Gradients, as a part of what they add up to, without a warning.
INCOMPLETE = 0.05
METHODS = ("map", "integrated_gradients", "grad_cam")


def feature_saliency(
    classifier: Classifier,
    images: Tensor | ImageSet,
    feature: int,
    method: str = "map",
    *,
    baseline: str | Tensor = "mean",
    n_points: int = 64,
    layer: str | None = None,
    preprocessing: Preprocessing | None = None,
    device: torch.device | str = "cpu",
) -> NDArray[np.float32]:
    """How much each pixel has to do with the value of a feature, (n_images, height, width).

    The value is the one that the head's linear map sees (:class:`qpm_nn.heads.Activations`), in
    evaluation mode. Where the head rectifies it to 0, its gradients are 0 as well.

    - ``map``: the feature's own map, smoothly up-sampled; no value is beyond those of the map.
    - ``integrated_gradients``: gradients along the straight line from a baseline to the image,
      times the difference, summed over the channels; not up-sampled, of either sign. The pixels of
      an image add up to the feature's value less that of the baseline (completeness), up to the
      error of ``n_points``; a warning is logged where that is above 5 %.
    - ``grad_cam``: the maps of a layer, weighted by the mean gradient of the feature, cut at 0 and
      up-sampled. At the end of the backbone that is the positive part of the feature's own map over
      (standard deviation x places of the map): only an earlier layer tells something new.

    Parameters
    ----------
    classifier : Classifier
    images : Tensor of shape (n_images, channels, height, width), or ImageSet
        A tensor is normalised already; an image set needs ``preprocessing``.
    feature : int
        Counted as in the backbone, and one that the head selects.
    method : {"map", "integrated_gradients", "grad_cam"}
        All but the first need captum (extra ``saliency``).
    baseline : {"mean", "black", "blurred"} or Tensor of shape (channels, height, width)
        Of Integrated Gradients, see :func:`baseline_images`.
    n_points : int
        Of the Gauss-Legendre quadrature of Integrated Gradients.
    layer : str, optional
        Of Grad-CAM: name of a module in the backbone with maps as output, such as ``layers.5``; the
        end of the backbone by default.
    preprocessing : Preprocessing, optional
    device : torch.device or str

    Raises
    ------
    InvalidInputError
        If there is no such feature, method, layer or baseline, images are not as said above or not
        finite, or captum is missing.
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    if n_points < 1:
        raise InvalidInputError(f"n_points is {n_points}; at least 1 was expected.")
    if layer is not None and method != "grad_cam":
        raise InvalidInputError(f"layer is {layer!r}, but only grad_cam looks at a layer.")
    j = feature_position(classifier.head, feature)
    classifier = classifier.to(device).eval()

    def value(batch: Tensor) -> Tensor:
        return classifier.activations(batch).features[:, j]

    found = []
    for batch in network_inputs(images, preprocessing, device):
        if method == "map":
            with torch.no_grad():
                maps = _up_sampled(classifier.activations(batch).maps[:, j], batch)
        elif method == "grad_cam":
            module = _module(classifier.backbone, layer, batch[:1])
            cam = _captum().LayerGradCam(value, module)
            coarse = cam.attribute(batch.requires_grad_(), relu_attributions=True)
            maps = _up_sampled(coarse[:, 0], batch)
        else:
            start = baseline_images(batch, baseline, preprocessing)
            maps = _integrated_gradients(value, batch, start, n_points)
        check_finite("The saliency of the feature", maps)
        found.append(maps.detach().float().cpu().numpy())
    return np.concatenate(found)


def _integrated_gradients(
    value: Callable[[Tensor], Tensor], images: Tensor, start: Tensor, n_points: int
) -> Tensor:
    """Attributions summed over the channels; a warning where they are far from complete."""
    attributions, error = (
        _captum()
        .IntegratedGradients(value)
        .attribute(
            images,
            start,
            n_steps=n_points,
            internal_batch_size=BATCH_SIZE,
            return_convergence_delta=True,
        )
    )
    maps = attributions.sum(1)
    differences = maps.sum((1, 2)) - error
    part = float(error.abs().max() / differences.abs().max().clamp_min(1e-12))
    if part > INCOMPLETE:
        logger.warning(
            "Integrated Gradients miss up to %.0f %% of the largest difference between image and "
            "baseline with n_points = %d; raise that, or take another baseline: layer "
            "normalisation, for one, jumps at uniform images.",
            100 * part,
            n_points,
        )
    return maps


def feature_position(head: Head, feature: int) -> int:
    """Place of a feature, counted as in the backbone, among those of the head.

    Raises
    ------
    InvalidInputError
        If the head does not have it.
    """
    n_features = head.weight.shape[1]
    known = list(range(n_features)) if isinstance(head, DenseHead) else head.selected.tolist()
    if feature not in known:
        has = f"0 to {n_features - 1}" if isinstance(head, DenseHead) else str(known)[1:-1]
        raise InvalidInputError(f"The head has no feature {feature}; one of {has} was expected.")
    return known.index(feature)


def network_inputs(
    images: Tensor | ImageSet,
    preprocessing: Preprocessing | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[Tensor]:
    """Normalised images (n, channels, height, width) on a device, batch by batch, as copies.

    Raises
    ------
    InvalidInputError
        If there are none, a tensor is not of normalised images, a value is NaN or infinite, or an
        image set comes without ``preprocessing``.
    """
    if not len(images):
        raise InvalidInputError("There are no images; at least one was expected.")
    if isinstance(images, ImageSet):
        if preprocessing is None:
            raise InvalidInputError(
                "An image set has raw images; give preprocessing, as in the classifier's spec."
            )
        for batch, _ in BatchLoader(images, BATCH_SIZE):
            yield preprocessing(batch.to(device))
        return
    if images.ndim != 4 or not images.is_floating_point():
        raise InvalidInputError(
            f"images has shape {tuple(images.shape)} and type {images.dtype}; normalised images "
            "(n_images, channels, height, width) were expected: give what preprocessing returns."
        )
    if not torch.isfinite(images).all():
        raise InvalidInputError("images holds NaN or infinite values; finite ones were expected.")
    for batch in images.split(BATCH_SIZE):
        yield batch.detach().clone().to(device)


def _up_sampled(maps: Tensor, images: Tensor) -> Tensor:
    """Maps (n, h, w) at the size of the images, without the overshooting of the interpolation."""
    height, width = images.shape[2:]
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return smooth(maps, (height, width)).clamp(low, high)


@torch.no_grad()
def _module(backbone: nn.Module, name: str | None, image: Tensor) -> nn.Module:
    """The layer of that name, if it gives maps, once for each image."""
    if name is None:
        module = backbone
    else:
        modules = dict(backbone.named_modules())
        if name not in modules:
            raise unknown_name("layer", name, [known for known in modules if known])
        module = modules[name]
    outputs: list[Any] = []
    hook = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        backbone(image)
    finally:
        hook.remove()
    if len(outputs) != 1 or not isinstance(outputs[0], Tensor) or outputs[0].ndim != 4:
        shapes = [tuple(getattr(output, "shape", ())) for output in outputs]
        raise InvalidInputError(
            f"Layer {name or 'backbone'} gives outputs of shapes {shapes} for an image; maps "
            "(1, channels, height, width), once, were expected: name another layer."
        )
    return module


def _captum() -> Any:
    try:
        from captum import attr
    except ModuleNotFoundError as missing:
        raise InvalidInputError(
            f"Integrated Gradients and Grad-CAM need the package {missing.name}; install the "
            "extra: pip install '.[saliency]'."
        ) from None
    return attr
