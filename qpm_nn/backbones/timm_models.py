"""Any model of timm that computes maps or tokens, without its classification layer."""

from __future__ import annotations

import difflib
import functools
import sys
from collections.abc import Mapping
from types import ModuleType
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from torch import Tensor, nn

from qpm_nn.backbones.base import PhotoBackbone
from qpm_opt import InvalidInputError

PREFIX = "timm:"
#: Seconds to wait for a sign of the hub.
PATIENCE = 10


class TimmBackbone(PhotoBackbone):
    """Model of timm: the result of its ``forward_features``, as maps, is cut at 0.

    Every entry of the tokens of the patches becomes a map; class and register tokens are left out.
    Vision transformers take any image whose sides are multiples of their patches.

    Parameters
    ----------
    in_channels : int
        1 or 3.
    name : str
        A name that timm knows, with or without the tag of the published weights.

    Raises
    ------
    InvalidInputError
        If timm is not installed, does not know the name, or the model has no maps.
    """

    signed = True

    def __init__(self, in_channels: int, name: str) -> None:
        network = _create(name, pretrained=False)
        settings = network.pretrained_cfg
        super().__init__(network, in_channels, tuple(settings["mean"]), tuple(settings["std"]))
        self.name = name
        self.n_features = network.num_features
        names = settings["classifier"] or ()
        names = (names,) if isinstance(names, str) else names
        self.classification_layers = tuple(f"{layer}." for layer in names)
        for key, parameter in network.named_parameters():
            parameter.requires_grad_(key not in _unused_parameters(name))

    def embed(self, images: Tensor) -> Tensor:
        """Maps (n_images, n_features, h, w), negative values too."""
        return _maps(self.network, self.name, self.prepare(images))

    def convert(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What timm itself makes of files by the authors of the model, such as those of DINOv2."""
        module = sys.modules[_import_timm().models.model_entrypoint(self.name).__module__]
        convert = getattr(module, "checkpoint_filter_fn", None)
        if convert is None:
            return tensors
        try:
            return convert(dict(tensors), self.network)
        except Exception:  # timm does not expect files of other models here
            return tensors

    def classified(self, images: Tensor) -> Tensor:
        """What comes before the classification layer, be it a class token or a mean."""
        return self.network(self.prepare(images))

    def published_weights(self, *, classifier: bool = False) -> Mapping[str, Tensor]:
        """The model's default weights from Hugging Face, or from its cache."""
        from huggingface_hub import constants, try_to_load_from_cache

        repository = self.network.pretrained_cfg.get("hf_hub_id")
        file = constants.SAFETENSORS_SINGLE_FILE
        # timm itself would try again for most of a minute.
        if repository and not constants.HF_HUB_OFFLINE:
            is_cached = isinstance(try_to_load_from_cache(repository, file), str)
            if not is_cached and not _answers(constants.ENDPOINT):
                raise InvalidInputError(
                    f"The weights of {PREFIX}{self.name} cannot be downloaded, {constants.ENDPOINT}"
                    f" does not answer; fetch {constants.ENDPOINT}/{repository}/resolve/main/{file}"
                    " where there is a network, and give that file as weights."
                )
        try:
            return _create(self.name, pretrained=True, classifier=classifier).state_dict()
        except OSError as failure:
            raise InvalidInputError(
                f"The weights of {PREFIX}{self.name} cannot be had from timm: {failure}"
            ) from None


@functools.cache
def _unused_parameters(name: str) -> frozenset[str]:
    """Parameters behind the pooling: training on several devices refuses those without gradient."""
    with torch.device("meta"):
        network = _create(name, pretrained=False).train()
        _maps(network, name, torch.empty(2, *network.pretrained_cfg["input_size"])).sum().backward()
    return frozenset(key for key, value in network.named_parameters() if value.grad is None)


def _maps(network: nn.Module, name: str, images: Tensor) -> Tensor:
    """What a model computes before its pooling, (n_images, num_features, h, w)."""
    found, n_features = network.forward_features(images), network.num_features
    if isinstance(found, Tensor) and found.ndim == 3 and found.shape[2] == n_features:
        tokens = found[:, getattr(network, "num_prefix_tokens", 0) :]
        # Patches are square, so their grid has the proportions of the image.
        height, width = images.shape[2:]
        rows = round((tokens.shape[1] * height / width) ** 0.5)
        if rows and tokens.shape[1] % rows == 0:
            return tokens.transpose(1, 2).unflatten(2, (rows, -1))
    elif isinstance(found, Tensor) and found.ndim == 4:
        if found.shape[1] == n_features:
            return found
        if found.shape[3] == n_features:
            return found.permute(0, 3, 1, 2)
    raise InvalidInputError(
        f"{PREFIX}{name} computes no maps of {n_features} features, on which explanations could be "
        "shown; take another model."
    )


def _create(name: str, pretrained: bool, classifier: bool = False) -> nn.Module:
    timm = _import_timm()
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() lists them."
        raise InvalidInputError(f"timm {timm.__version__} has no model {name!r}; {hint}")
    options = {"pretrained": pretrained} | ({} if classifier else {"num_classes": 0})
    try:
        try:
            return timm.create_model(name, dynamic_img_size=True, **options)
        except TypeError:  # not a vision transformer: convolutional networks take any size anyway
            return timm.create_model(name, **options)
    except RuntimeError as failure:  # no such tag, or no published weights
        raise InvalidInputError(f"timm cannot make the model {name!r}: {failure}") from None


def _import_timm() -> ModuleType:
    try:
        import timm
    except ModuleNotFoundError as missing:
        raise InvalidInputError(
            f"Backbones that begin with {PREFIX} need the package {missing.name}; install the "
            "extra: pip install '.[nn,timm]'."
        ) from None
    return timm


def _answers(address: str) -> bool:
    try:
        urlopen(Request(address, method="HEAD"), timeout=PATIENCE).close()
    except HTTPError:
        return True
    except OSError:
        return False
    return True
