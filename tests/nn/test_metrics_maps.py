"""SID@k, diversity@k and Plausibility against their formulas written out, and at their extremes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qpm_nn import metrics
from qpm_opt import InvalidInputError


def literal(maps, weights, k, *, scaled) -> float:
    """Eqs. 15 and 16 for one image; diversity@k if not scaled."""
    used = [d for d in range(len(weights)) if weights[d] != 0]
    soft = []
    for d in sorted(used, key=lambda d: -weights[d])[:k]:
        flat = [v for row in maps[d] for v in row]
        mean = sum(map(abs, flat)) / len(flat) if scaled else 1
        exponentials = [math.exp(v / mean) for v in flat]
        soft.append([v / sum(exponentials) for v in exponentials])
    return sum(max(pixel) for pixel in zip(*soft, strict=True)) / k


BOTH = [(metrics.scale_invariant_diversity, True), (metrics.diversity, False)]


@pytest.mark.parametrize(("metric", "scaled"), BOTH)
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_equals_the_formulas(metric, scaled, k):
    generator = torch.Generator().manual_seed(k)
    maps = torch.rand(3, 5, 2, 4, generator=generator, dtype=torch.float64)
    weights = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    expected = [
        literal(m, w, k, scaled=scaled)
        for m, w in zip(maps.tolist(), weights.tolist(), strict=True)
    ]
    assert metric(maps, weights, k).tolist() == pytest.approx(expected, rel=1e-12)


def test_two_maps_of_two_pixels_by_hand():
    maps = torch.tensor([[[[2.0, 0.0]], [[0.0, 4.0]]]])
    weights = torch.ones(1, 2)
    # Scaled by their means 1 and 2 both are (2, 0) up to order: softmax e^2 / (e^2 + 1).
    scaled = math.exp(2) / (math.exp(2) + 1)
    assert metrics.scale_invariant_diversity(maps, weights, 2).item() == pytest.approx(scaled)
    plain = (scaled + math.exp(4) / (math.exp(4) + 1)) / 2
    assert metrics.diversity(maps, weights, 2).item() == pytest.approx(plain)


@pytest.mark.parametrize("metric", [metric for metric, _ in BOTH])
def test_extremes(metric):
    k = 3
    weights = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    same = torch.rand(1, 1, 5, 5).expand(1, 4, 5, 5)
    assert metric(same, weights, k).item() == pytest.approx(1 / k)
    disjoint = torch.zeros(1, 4, 5, 5)
    for d in range(4):
        disjoint[0, d, d, d] = 50.0
    assert metric(disjoint, weights, k).item() == pytest.approx(1, abs=1e-6)
    assert metric(0 * disjoint, weights, k).item() == pytest.approx(1 / k)


@pytest.mark.parametrize("metric", [metric for metric, _ in BOTH])
def test_a_class_with_fewer_than_k_features_has_no_value(metric):
    maps = torch.rand(2, 4, 3, 3)
    weights = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]])
    assert metric(maps, weights, 3).isnan().tolist() == [True, False]
    assert metric(maps, weights, 5).isnan().all()


@pytest.mark.parametrize("metric", [metric for metric, _ in BOTH])
def test_ties_and_zeros_among_the_weights(metric):
    maps = torch.rand(1, 4, 3, 3)
    tied = torch.tensor([[1.0, 2.0, 1.0, 1.0]])
    first = torch.tensor([[1.0, 2.0, 0.0, 0.0]])
    assert metric(maps, tied, 2).item() == metric(maps, first, 2).item()
    # A feature that the class does not use is never taken, be the others negative.
    negative = torch.tensor([[0.0, 2.0, -1.0, 0.0]])
    positive = torch.tensor([[0.0, 2.0, 1.0, 0.0]])
    assert metric(maps, negative, 2).item() == metric(maps, positive, 2).item()


@settings(deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1e-6, 0.3, 40.0]))
def test_sid_has_no_scale_and_both_have_no_order(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, 5, 3, 3, generator=generator, dtype=torch.float64)
    weights = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    order = torch.randperm(5, generator=generator)
    for metric, scaled in BOTH:
        found = metric(maps, weights, 3)
        assert ((found >= 1 / 3 - 1e-12) & (found <= 1 + 1e-12)).all()
        other = metric((scale if scaled else 1) * maps[:, order], weights[:, order], 3)
        assert other.tolist() == pytest.approx(found.tolist())


def test_unusable_maps_are_refused():
    maps, weights = torch.rand(1, 3, 2, 2), torch.ones(1, 3)
    with pytest.raises(InvalidInputError, match="k is 0"):
        metrics.diversity(maps, weights, 0)
    with pytest.raises(InvalidInputError, match="class_weights has shape"):
        metrics.diversity(maps, weights[:, :2], 1)
    with pytest.raises(InvalidInputError, match="maps holds NaN"):
        metrics.scale_invariant_diversity(maps * math.nan, weights, 1)
    with pytest.raises(InvalidInputError, match="class_weights holds NaN"):
        metrics.scale_invariant_diversity(maps, weights * math.nan, 1)


def test_half_precision_maps():
    maps, weights = torch.rand(2, 3, 4, 4), torch.ones(2, 3)
    found = metrics.scale_invariant_diversity(maps.bfloat16(), weights, 2)
    exact = metrics.scale_invariant_diversity(maps, weights, 2)
    assert found.tolist() == pytest.approx(exact.tolist(), rel=1e-2)


def test_plausibility_by_hand():
    maps = torch.zeros(1, 2, 1, 4)
    maps[0, 0, 0] = torch.tensor([1.0, 2.0, 3.0, 1.0])
    maps[0, 1, 0] = torch.tensor([0.0, 0.0, 1.0, 0.0])
    weights = torch.tensor([[1.0, 2.0]])
    # Evidence 1 2 5 1, less its minimum 0 1 4 0.
    mask = torch.tensor([[[1, 1, 0, 0]]])
    assert metrics.plausibility(maps, weights, mask, dilation=0).item() == pytest.approx(1 / 5)
    assert metrics.plausibility(maps, weights, mask).item() == pytest.approx(1)
    assert metrics.plausibility_by_chance(mask, (1, 4), dilation=0).item() == 0.5
    assert metrics.plausibility_by_chance(mask, (1, 4)).item() == 0.75


def test_a_cell_is_on_the_object_if_one_of_its_pixels_is():
    mask = torch.zeros(1, 8, 8)
    mask[0, 5, 2] = 1  # row 2, column 1 of a grid of 4 x 4
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 2, 1] = 3.0
    weights = torch.ones(1, 1)
    assert metrics.plausibility(maps, weights, mask, dilation=0).item() == 1
    assert metrics.plausibility_by_chance(mask, (4, 4), dilation=0).item() == 1 / 16
    assert metrics.plausibility_by_chance(mask, (4, 4)).item() == 9 / 16


def test_plausibility_without_evidence_or_object_is_0():
    weights = torch.ones(1, 1)
    everywhere = torch.ones(1, 2, 2)
    assert metrics.plausibility(torch.full((1, 1, 2, 2), 5.0), weights, everywhere).item() == 0
    assert metrics.plausibility(torch.rand(1, 1, 2, 2), weights, 0 * everywhere).item() == 0
    assert metrics.plausibility(torch.rand(1, 1, 2, 2), weights, everywhere).item() == 1


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100), st.floats(-5, 5))
def test_plausibility_has_no_scale_and_no_offset(seed, scale, offset):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(3, 4, 5, 5, generator=generator, dtype=torch.float64)
    weights = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    masks = torch.rand(3, 20, 20, generator=generator) > 0.97
    found = metrics.plausibility(maps, weights, masks)
    assert ((found >= 0) & (found <= 1 + 1e-12)).all()
    other = metrics.plausibility(scale * maps + offset, weights, masks)
    assert other.tolist() == pytest.approx(found.tolist(), abs=1e-9)


def test_masks_of_boxes():
    masks = metrics.box_masks([[1.0, 0.0, 2.0, 1.0], [0.0, 0.0, 4.0, 3.0]], 3, 4)
    assert masks[0].tolist() == [[False, True, True, False], [False] * 4, [False] * 4]
    assert masks[1].all()
    with pytest.raises(InvalidInputError, match="4 columns"):
        metrics.box_masks([[1.0, 2.0]], 3, 4)


def test_masks_that_do_not_fit_are_refused():
    maps, weights = torch.rand(2, 1, 2, 2), torch.ones(2, 1)
    with pytest.raises(InvalidInputError, match="masks has shape"):
        metrics.plausibility(maps, weights, torch.ones(1, 2, 2))
    with pytest.raises(InvalidInputError, match="dilation is -1"):
        metrics.plausibility(maps, weights, torch.ones(2, 2, 2), dilation=-1)
