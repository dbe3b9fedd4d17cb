"""The trunk of MobileNetV1: small, and pretrained weights of it are a file of 8 MB."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from qpm_nn.backbones.base import PhotoBackbone
from qpm_nn.backbones.photographs import HALF

#: Output channels and stride of the twelve separable blocks; the last two that halve the size are
#: the last two stages.
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
)
FIRST_OF_LAST_STAGES = 6, 12


class MobileNet(PhotoBackbone):
    """MobileNetV1 of width 1 up to its twelfth separable block; its maps end in a ReLU6.

    Layers have the names of Keras, and what Keras computes: strided convolutions are padded at the
    bottom and on the right only, and the epsilon of the batch normalisations is 0.001.

    Parameters
    ----------
    in_channels : int
        1 or 3.
    reduced_strides : bool
        Whether the last two blocks that halve the size keep it: maps of an 8th instead of a 32nd
        of the image.

    References
    ----------
    Howard et al., MobileNets, arXiv 1704.04861, table 1.
    """

    network: nn.ModuleDict
    n_features = BLOCKS[-1][0]

    def __init__(self, in_channels: int, reduced_strides: bool = False) -> None:
        layers: dict[str, nn.Module] = {}

        def add(name: str, n_in: int, n_out: int, size: int, stride: int, groups: int = 1) -> None:
            padding = size // 2 if stride == 1 else 0
            layers[name] = nn.Conv2d(n_in, n_out, size, stride, padding, groups=groups, bias=False)
            layers[f"{name}_bn"] = nn.BatchNorm2d(n_out, eps=1e-3)

        width = 32
        add("conv1", 3, width, size=3, stride=2)
        for i, (wider, stride) in enumerate(BLOCKS, start=1):
            if reduced_strides and i in FIRST_OF_LAST_STAGES:
                stride = 1
            add(f"conv_dw_{i}", width, width, size=3, stride=stride, groups=width)
            add(f"conv_pw_{i}", width, wider, size=1, stride=1)
            width = wider
        super().__init__(nn.ModuleDict(layers), in_channels, mean=HALF, std=HALF)

    def embed(self, images: Tensor) -> Tensor:
        """Maps (n_images, 1024, h, w), in [0, 6]."""
        maps = self.prepare(images)
        for layer in self.network.values():
            if isinstance(layer, nn.BatchNorm2d):
                maps = functional.relu6(layer(maps))
            elif layer.stride == (1, 1):
                maps = layer(maps)
            else:
                maps = layer(functional.pad(maps, (0, 1, 0, 1)))
        return maps
