"""Weights of a backbone: published ones, or a file."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from qpm_nn.backbones.base import Backbone
from qpm_opt import InvalidInputError

#: The name of the published weights, whatever the backbone.
IMAGENET = "imagenet"
#: Where training programs put the state dict in their checkpoints.
WRAPPERS = ("state_dict", "model")
#: Of Keras to those of torch, with the order of the axes.
KERAS_PARAMETERS: dict[str, tuple[str, tuple[int, ...]]] = {
    "kernel": ("weight", (3, 2, 0, 1)),
    "depthwise_kernel": ("weight", (2, 3, 0, 1)),
    "gamma": ("weight", (0,)),
    "beta": ("bias", (0,)),
    "moving_mean": ("running_mean", (0,)),
    "moving_variance": ("running_var", (0,)),
}
SHOWN = 3
_READ_FAILURES = (
    OSError,
    ValueError,
    TypeError,
    RuntimeError,
    EOFError,
    BadZipFile,
    SafetensorError,
)


def weights_key(weights: str | os.PathLike[str]) -> str:
    """What tells weights from others: a file counts by its content.

    Raises
    ------
    InvalidInputError
        If there is no such file.
    """
    if weights in ("", IMAGENET):
        return str(weights)
    try:
        with Path(weights).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as failure:
        raise InvalidInputError(
            f"The weights {str(weights)!r} cannot be read ({failure.strerror or failure}); "
            f"{IMAGENET!r} or the path of a file was expected."
        ) from None


def load_weights(backbone: Backbone, weights: str | os.PathLike[str], name: str) -> None:
    """Give a backbone the weights of a file, or published ones.

    Nothing of the file is executed. What belongs to a classification layer is ignored.

    Parameters
    ----------
    backbone : Backbone
        Left as it is if the weights do not fit.
    weights : str or path
        ``imagenet``, or a file: safetensors, a state dict saved by torch (also inside a checkpoint
        under ``state_dict`` or ``model``), or a classifier of this package with the same backbone;
        arrays of a convolutional network of Keras as ``.npz``, named ``layer/parameter``.
    name : str
        Of the backbone, for messages.

    Raises
    ------
    InvalidInputError
        If there are no published weights, or no network to get them; if the file is missing or
        damaged, or does not fit the backbone: the message names some of what is missing or too
        much.
    """
    if weights == IMAGENET:
        _fit(backbone, backbone.published_weights(), f"The published weights of {name}", name)
    else:
        tensors = _unwrap(_read(Path(weights)), Path(weights))
        _fit(backbone, _of_backbone(tensors), str(weights), name)


def classification_layer(
    backbone: Backbone, weights: str | os.PathLike[str], name: str, n_classes: int
) -> tuple[Tensor, Tensor]:
    """The layer that gives the logits in the weights of a whole network.

    Parameters
    ----------
    backbone : Backbone
    weights, name
        As for :func:`load_weights`.
    n_classes : int
        Demanded of the layer.

    Returns
    -------
    weight : Tensor of shape (n_classes, n_features)
    bias : Tensor of shape (n_classes,)
        Zeros if the layer has none.

    Raises
    ------
    InvalidInputError
        If there is no such layer for the features of the backbone, or it has other classes.
    """
    tensors: Mapping[str, Tensor]
    if weights == IMAGENET:
        tensors = backbone.published_weights(classifier=True)
        source = f"The published weights of {name}"
    else:
        tensors = _unwrap(_read(Path(weights)), Path(weights))
        source = str(weights)
    prefix = "head.linear."
    if not _is_ours(tensors):
        tensors = _converted(backbone, tensors)
        prefix = (*backbone.classification_layers, "")[0]
    weight, bias = tensors.get(f"{prefix}weight"), tensors.get(f"{prefix}bias")
    if weight is not None and bias is None:
        bias = torch.zeros(len(weight))
    if weight is None or weight.shape != (n_classes, backbone.n_features):
        found = "there is none" if weight is None else f"its weight has shape {(*weight.shape,)}"
        raise InvalidInputError(
            f"{source} cannot be the dense model: a classification layer of {n_classes} classes on "
            f"the {backbone.n_features} features of {name} was expected, but {found}; train the "
            "dense model for at least 1 epoch."
        )
    return weight, bias


def _read(path: Path) -> object:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return dict(_from_keras(name, arrays[name]) for name in arrays.files)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InvalidInputError(f"The weights {path} do not exist.") from None
    except pickle.UnpicklingError:
        raise InvalidInputError(
            f"{path} is damaged, or holds more than tensors; save the state_dict() of the network "
            "alone, with torch.save or as safetensors."
        ) from None
    except _READ_FAILURES as failure:
        raise InvalidInputError(f"{path} cannot be read as weights: {failure}") from None


def _from_keras(name: str, array: NDArray[Any]) -> tuple[str, Tensor]:
    """Name and tensor as torch has them; of an unknown parameter, as they are."""
    layer, _, parameter = name.rpartition("/")
    ours, axes = KERAS_PARAMETERS.get(parameter, ("", None))
    if axes is None or array.ndim != len(axes):
        return name, torch.from_numpy(array)
    return f"{layer}.{ours}", torch.from_numpy(np.ascontiguousarray(array.transpose(axes)))


def _unwrap(found: object, path: Path) -> dict[str, Tensor]:
    """Tensors by the names that a network has when it stands alone."""
    for wrapper in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()):
        raise InvalidInputError(
            f"{path} holds no state dict: a mapping from names to tensors was expected."
        )
    return _without("module.", found)  # of a network that was trained on several devices


def _is_ours(tensors: Mapping[str, Tensor]) -> bool:
    """Whether they are those of a classifier of this package."""
    return bool(tensors) and all(name.startswith(("backbone.", "head.")) for name in tensors)


def _of_backbone(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    if not _is_ours(tensors):
        return tensors
    chosen = {name: t for name, t in tensors.items() if name.startswith("backbone.")}
    return _without("network.", _without("backbone.", chosen))


def _without(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without a prefix that all have."""
    if all(name.startswith(prefix) for name in tensors):
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return dict(tensors)


def _fit(backbone: Backbone, tensors: Mapping[str, Tensor], source: str, name: str) -> None:
    tensors = _converted(backbone, tensors)
    if faults := _faults(backbone, tensors):
        raise InvalidInputError(
            f"{source} cannot be loaded into {name}: it {', and '.join(faults)}; take the weights "
            "of this architecture."
        )
    expected = backbone.published_part.state_dict()
    known = {key: tensor for key, tensor in tensors.items() if key in expected}
    backbone.published_part.load_state_dict(known, strict=False)


def _converted(backbone: Backbone, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors, in the names of the backbone's own publishers if they do not fit as they are."""
    return backbone.convert(tensors) if _faults(backbone, tensors) else tensors


def _faults(backbone: Backbone, tensors: Mapping[str, Tensor]) -> list[str]:
    """Why tensors do not fit a backbone."""
    expected = backbone.published_part.state_dict()
    extra = [
        key
        for key in tensors
        if key not in expected and not key.startswith(backbone.classification_layers)
    ]
    # Old files lack the counts of batches, which only a momentum of None would need.
    lacking = [
        key for key in expected if key not in tensors and not key.endswith("num_batches_tracked")
    ]
    misshapen = [
        f"{key} of shape {tuple(tensor.shape)} instead of {tuple(expected[key].shape)}"
        for key, tensor in tensors.items()
        if key in expected and tensor.shape != expected[key].shape
    ]
    return [
        f"{verb} {_some(keys)}"
        for verb, keys in (("lacks", lacking), ("has unknown", extra), ("has", misshapen))
        if keys
    ]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
