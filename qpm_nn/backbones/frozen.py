"""A frozen network with a small adapter behind it, which alone is trained.

References
----------
Zimmermann, Norrenbrock, Rosenhahn, DINO-QPM, CVPR Workshops 2026.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from qpm_nn.backbones.base import Backbone


class Adapter(nn.Module):
    """Layers that treat every place of the maps alike: linear, batch normalisation, ReLU.

    Parameters
    ----------
    in_features : int
        Maps of the frozen network.
    widths : sequence of int
        Outputs of each layer.
    """

    def __init__(self, in_features: int, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in widths:
            layers += [
                nn.Conv2d(in_features, width, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            in_features = width
        self.layers = nn.Sequential(*layers)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Maps (n_images, widths[-1], h, w), >= 0, of embeddings (n_images, in_features, h, w)."""
        return self.layers(embeddings)


class FrozenBackbone(Backbone):
    """Frozen network and trained adapter.

    The network stays in evaluation mode and its parameters get no gradients; its maps (the
    embeddings of the patches of an image, negative values included) can be computed once and kept.
    Images may have gradients: saliency needs them.

    Parameters
    ----------
    body : Backbone
        Frozen in place.
    widths : sequence of int
        Of the layers of the adapter; the last is ``n_features``.
    """

    def __init__(self, body: Backbone, widths: Sequence[int]) -> None:
        super().__init__()
        self.body = body.requires_grad_(False).eval()
        self.adapter = Adapter(body.n_features, widths)
        self.n_features = widths[-1]

    def train(self, mode: bool = True) -> FrozenBackbone:
        """Training mode of the adapter alone."""
        super().train(mode)
        self.body.eval()
        return self

    def embeddings(self, images: Tensor) -> Tensor:
        """What the adapter takes, (n_images, body.n_features, h, w)."""
        return self.body.embed(images)

    def embed(self, images: Tensor) -> Tensor:
        """Maps (n_images, n_features, h, w), >= 0."""
        return self.adapter(self.embeddings(images))
