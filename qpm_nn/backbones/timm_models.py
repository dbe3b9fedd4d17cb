"""Any model of timm that computes maps or tokens, without its classification layer."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from types import ModuleType
from typing import Any
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

    Tokens of transformers become a map each; class and register tokens are left out. Vision
    transformers take any image whose sides are multiples of their patches.

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
        self._freeze_what_is_not_used(settings["input_size"])

    def _freeze_what_is_not_used(self, image_shape: tuple[int, int, int]) -> None:
        """Freeze layers behind the pooling: several devices refuse parameters without gradient."""
        twin = copy.deepcopy(self.network).to("meta").train()
        found = twin.forward_features(torch.empty(2, *image_shape, device="meta"))
        self._as_maps(found, *image_shape[1:]).sum().backward()
        for of_twin, parameter in zip(twin.parameters(), self.network.parameters(), strict=True):
            parameter.requires_grad_(of_twin.grad is not None)

    def embed(self, images: Tensor) -> Tensor:
        """Maps (n_images, n_features, h, w), negative values too."""
        found = self.network.forward_features(self.prepare(images))
        return self._as_maps(found, *images.shape[2:])

    def _as_maps(self, found: Any, height: int, width: int) -> Tensor:
        if isinstance(found, Tensor) and found.ndim == 3 and found.shape[2] == self.n_features:
            tokens = found[:, getattr(self.network, "num_prefix_tokens", 0) :]
            # Patches are square, so their grid has the proportions of the image.
            rows = round((tokens.shape[1] * height / width) ** 0.5)
            if rows and tokens.shape[1] % rows == 0:
                return tokens.transpose(1, 2).unflatten(2, (rows, -1))
        elif isinstance(found, Tensor) and found.ndim == 4:
            if found.shape[1] == self.n_features:
                return found
            if found.shape[3] == self.n_features:
                return found.permute(0, 3, 1, 2)
        raise InvalidInputError(
            f"{PREFIX}{self.name} computes no maps of {self.n_features} features, on which "
            "explanations could be shown; take another model."
        )

    def published_weights(self) -> Mapping[str, Tensor]:
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
            return _create(self.name, pretrained=True).state_dict()
        except (OSError, RuntimeError) as failure:
            raise InvalidInputError(
                f"The weights of {PREFIX}{self.name} cannot be had from timm: {failure}"
            ) from None


def _create(name: str, pretrained: bool) -> nn.Module:
    timm = _import_timm()
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() lists them."
        raise InvalidInputError(f"timm {timm.__version__} has no model {name!r}; {hint}")
    options = {"pretrained": pretrained, "num_classes": 0}
    try:
        return timm.create_model(name, dynamic_img_size=True, **options)
    except TypeError:  # not a vision transformer: convolutional networks take any size anyway
        return timm.create_model(name, **options)


def _import_timm() -> ModuleType:
    try:
        import timm
    except ModuleNotFoundError as missing:
        raise InvalidInputError(
            f"Backbones that begin with {PREFIX} need the package {missing.name}; install the "
            "extra: pip install 'qpm[nn,timm]'."
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
