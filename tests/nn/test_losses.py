"""The feature diversity loss against the formulas of the paper, written out."""

from __future__ import annotations

import math

import pytest
import torch

from qpm_nn.losses import feature_diversity_loss, feature_grounding_loss


def literal_loss(maps, weights) -> float:
    """Eqs. 31 and 32, sum by sum."""
    total = 0.0
    for image, w in zip(maps.tolist(), weights.tolist(), strict=True):
        n_features, height, width = len(image), len(image[0]), len(image[0][0])
        f = [sum(map(sum, m)) / (height * width) for m in image]
        norm = math.sqrt(sum(value**2 for value in w))
        for i in range(height):
            for j in range(width):
                total -= max(
                    math.exp(image[d][i][j])
                    / sum(math.exp(v) for row in image[d] for v in row)
                    * f[d]
                    / max(f)
                    * abs(w[d])
                    / norm
                    for d in range(n_features)
                )
    return total / len(maps)


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_formulas(seed):
    generator = torch.Generator().manual_seed(seed)
    maps = 3 * torch.rand(4, 5, 3, 2, generator=generator, dtype=torch.float64)
    weights = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    assert feature_diversity_loss(maps, weights).item() == pytest.approx(
        literal_loss(maps, weights), rel=1e-12
    )


def test_disjoint_maps_beat_equal_maps():
    disjoint, equal = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    disjoint[0, 0, 0, 0] = disjoint[0, 1, 1, 1] = 20.0
    equal[0, :, 0, 0] = 20.0
    weights = torch.ones(1, 2)
    assert feature_diversity_loss(disjoint, weights).item() == pytest.approx(-math.sqrt(2))
    assert feature_diversity_loss(equal, weights).item() == pytest.approx(-math.sqrt(0.5))


def test_dead_maps_and_zero_weights_have_finite_gradients():
    maps = torch.zeros(2, 3, 2, 2, requires_grad=True)
    weights = torch.zeros(2, 3, requires_grad=True)
    feature_diversity_loss(maps, weights).backward()
    assert maps.grad.isfinite().all() and weights.grad.isfinite().all()


def test_grounding_by_hand():
    features = torch.tensor([[4.0, 2.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    weights = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]])
    # (0.5 - 3) / 4, no activation at all, and the features of other classes alone.
    expected = ((0.5 - 3) / 4 + 0.0 + 1.0) / 3
    torch.testing.assert_close(feature_grounding_loss(features, weights), torch.tensor(expected))
    published = ((1 - 3) / 4 + 0.0 + 2.0) / 3
    torch.testing.assert_close(
        feature_grounding_loss(features, weights, 2.0), torch.tensor(published)
    )


def test_grounding_cannot_fall_by_scaling_and_has_finite_gradients():
    features = torch.rand(5, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weights = torch.eye(6)[:5] + torch.eye(6).roll(1, 0)[:5]
    loss = feature_grounding_loss(features, weights)
    torch.testing.assert_close(feature_grounding_loss(7 * features, weights), loss)
    loss.backward()
    assert features.grad.isfinite().all()
    everything = torch.ones(5, 6)  # classes that have all features: nothing is outside
    assert -1 <= feature_grounding_loss(features.detach(), everything) < 0
    dead = torch.zeros(2, 6, requires_grad=True)
    feature_grounding_loss(dead, weights[:2]).backward()
    assert dead.grad.isfinite().all()
