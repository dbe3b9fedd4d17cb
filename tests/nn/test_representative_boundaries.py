"""Hyperplanes of a network's linear pieces, and images on their sides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from qpm_nn.data import LabelledImages, Preprocessing
from qpm_nn.explanations.representative import (
    MappedImages,
    boundaries_at,
    cover_problem,
    interpret,
    sample_at_references,
    sample_on_segments,
    split_network,
)
from qpm_nn.explanations.representative import images as images_module
from qpm_nn.explanations.representative.boundaries import Boundaries
from qpm_opt import InvalidInputError
from tests.nn.representative_networks import N_CLASSES, mapped, network, random_images


@pytest.fixture(scope="module")
def references():
    return mapped(network(), random_images(90))


def margins(split, maps):
    """Largest minus second largest score, and the two classes, without the code under test."""
    with torch.no_grad():
        scores = split.score_part(maps.clone()).numpy()
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=1)
    return ranked[:, 0] - ranked[:, 1], order[:, :2]


def test_the_random_network_predicts_all_classes(references):
    """Or the tests here would say little."""
    assert np.bincount(references.predicted, minlength=N_CLASSES).min() >= 5


def test_values_at_the_sampled_points_are_the_margins(references):
    maps = references.maps(range(90))
    found = boundaries_at(references.split, maps)
    expected, pairs = margins(references.split, maps)
    np.testing.assert_allclose(np.diag(found.values(maps)), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(found.pairs, pairs)
    np.testing.assert_array_equal(found.sources, np.arange(90))


def test_normals_are_the_change_of_the_margin_in_the_piece(references):
    """Finite differences: within a piece they are exact."""
    point = references.maps([7])
    found = boundaries_at(references.split, point)
    a, b = found.pairs[0]
    rng = torch.Generator().manual_seed(0)
    for _ in range(5):
        step = 1e-6 * torch.randn(point.shape, generator=rng, dtype=torch.float64)
        with torch.no_grad():
            there = references.split.score_part(point + step)[0]
        assert found.values(point + step)[0, 0] == pytest.approx(
            float(there[a] - there[b]), rel=1e-7
        )


def test_values_by_hand():
    normals = torch.tensor([1.0, 2.0, 0.0, -1.0], dtype=torch.float64).view(1, 1, 2, 2)
    plane = Boundaries(normals, torch.tensor([0.5]).double(), np.array([[2, 0]]), np.array([9]))
    maps = torch.tensor([[1.0, 1, 1, 1], [0, 0, 5, 1], [0.5, 0, 0, 1]]).view(3, 1, 2, 2)
    assert plane.values(maps).tolist() == [[2.5], [-0.5], [0.0]]
    turned = plane.facing(maps[1:2])
    assert turned.values(maps).tolist() == [[-2.5], [0.5], [0.0]]
    assert turned.pairs.tolist() == [[0, 2]]
    # Nothing is turned for an image on the boundary, or on the positive side.
    assert plane.facing(maps[2:]).pairs.tolist() == [[2, 0]]
    assert plane.facing(maps[:1]).values(maps).tolist() == [[2.5], [-0.5], [0.0]]


def test_rounding_errors_are_zero():
    normals = torch.full((1, 1, 1, 3), 0.1, dtype=torch.float64)
    plane = Boundaries(
        normals, torch.tensor([-0.3], dtype=torch.float64), np.array([[0, 1]]), np.array([0])
    )
    ones = torch.ones(1, 1, 1, 3, dtype=torch.float64)
    assert 0.1 + 0.1 + 0.1 - 0.3 != 0
    assert plane.values(ones)[0, 0] == 0
    # What is small but larger than rounding can make it counts, also where the offset is all.
    assert plane.values((1 + 1e-9) * ones)[0, 0] == pytest.approx(3e-10, rel=1e-3)
    assert plane.values(0 * ones)[0, 0] == -0.3


def test_choosing_keeps_rows_together(references):
    found = sample_at_references(references, 20, np.random.default_rng(0))
    some = found[[5, 2]]
    assert len(some) == 2 and len(found[[]]) == 0
    np.testing.assert_array_equal(some.sources, found.sources[[5, 2]])
    np.testing.assert_array_equal(some.pairs, found.pairs[[5, 2]])
    maps = references.maps([0, 1])
    np.testing.assert_array_equal(some.values(maps), found.values(maps)[:, [5, 2]])


def test_reference_sampling_draws_images_without_replacement(references):
    found = sample_at_references(references, 40, np.random.default_rng(1))
    assert len(found) == len(set(found.sources.tolist())) == 40
    again = sample_at_references(references, 40, np.random.default_rng(1))
    np.testing.assert_array_equal(found.sources, again.sources)
    other = sample_at_references(references, 40, np.random.default_rng(2))
    assert found.sources.tolist() != other.sources.tolist()
    assert len(sample_at_references(references, 1000, np.random.default_rng(1))) == 90
    value = found.values(references.maps(found.sources[:1]))[0, 0]
    expected, _ = margins(references.split, references.maps(found.sources[:1]))
    assert value == pytest.approx(expected[0])


@pytest.mark.parametrize("i", [0, 3, 11])
def test_segments_end_on_the_decision_boundary(references, i):
    """Every hyperplane has, between x and its source, a point where two scores agree."""
    point = references.maps([i])
    c = references.predicted[i]
    found, report = sample_on_segments(references, point, 12, np.random.default_rng(i))
    assert report.n_asked == 12 == report.n_found and report.n_failed == 0
    assert (references.predicted[found.sources] != c).all()
    assert len(set(found.sources.tolist())) == 12
    assert (found.pairs[:, 0] == c).all() and (found.pairs[:, 1] != c).all()
    check_cuts(references, point, found)


def check_cuts(references, point, found):
    """Every plane cuts the segment to its source where the two largest scores agree."""
    at_x, _ = margins(references.split, point)
    for h in range(len(found)):
        direction = references.maps([found.sources[h]]) - point
        # Where the plane cuts the line, found from the plane alone.
        slope = float((found.normals[h] * direction[0]).sum())
        cut = -float(found.values(point)[0, h]) / slope
        margin, pair = margins(references.split, point + cut * direction)
        assert -1e-9 <= cut <= 1 + 1e-9
        assert margin[0] <= 2e-6 * at_x[0]
        assert set(pair[0]) == set(found.pairs[h])


def on_a_line(boundary, scale=1.0):
    """Images of one pixel t; class 0 leads until ``boundary``, by 1 - 5 t as long as t < 0.19.

    The scores are multiplied by ``scale``.
    """
    lead = 1 - 5 * 0.19
    slope = lead / (boundary - 0.19)
    model = nn.Sequential(
        nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2)
    ).double()
    with torch.no_grad():
        model[0].weight.fill_(1)
        model[0].bias.zero_()
        for values, parameter in (
            ([[1.0], [1.0]], model[3].weight),
            ([0.0, -0.19], model[3].bias),
            ([[-5.0, 5 - slope], [0.0, 0.0]], model[5].weight),
            ([1.0, 0.0], model[5].bias),
        ):
            parameter.copy_(torch.tensor(values, dtype=torch.float64))
        model[5].weight *= scale
        model[5].bias *= scale
    return mapped(model, torch.tensor([0.0, 1.0], dtype=torch.float64).view(2, 1, 1, 1))


def test_the_search_stops_on_the_own_side():
    """The first point that is tried is the rival's by less than the tolerance: it is passed by.

    Stopping there would take the boundary of the piece around x, which goes on to 0.2 only.
    """
    references = on_a_line(0.5 - 1e-7)
    assert references.predicted.tolist() == [0, 1]
    rng = np.random.default_rng(0)
    found, report = sample_on_segments(references, references.maps([0]), 1, rng)
    cut = -float(found.offsets[0]) / float(found.normals.flatten())
    assert cut == pytest.approx(0.5, abs=1e-6) and report.n_steps > 1
    assert found.pairs.tolist() == [[0, 1]] and found.sources.tolist() == [1]
    # The tolerance is met from the own side at once where the boundary lies beyond the middle.
    references = on_a_line(0.5 + 1e-7)
    _, report = sample_on_segments(references, references.maps([0]), 1, rng)
    assert report.n_steps == 1


@pytest.mark.parametrize("scale", [1e-5, 1e5])
def test_the_tolerance_is_a_part_of_the_lead_at_the_image(scale):
    steps = []
    for one in (1.0, scale):
        references = on_a_line(0.4321, one)
        _, report = sample_on_segments(
            references, references.maps([0]), 1, np.random.default_rng(0)
        )
        steps.append(report.n_steps)
    assert steps[0] == steps[1] > 10


def test_cap_on_the_steps_reports_failures(references):
    point = references.maps([0])
    found, report = sample_on_segments(references, point, 10, np.random.default_rng(0), max_steps=3)
    assert report.n_steps == 3
    assert report.n_asked == 10 == report.n_found + report.n_failed
    assert report.n_failed > 0 and len(found) == report.n_found
    for max_steps in range(4, 25):  # of some segments, and not of the first ones
        found, report = sample_on_segments(
            references, point, 10, np.random.default_rng(0), max_steps=max_steps
        )
        check_cuts(references, point, found)
    _, whole = sample_on_segments(references, point, 10, np.random.default_rng(0))
    assert whole.n_failed == 0 and 3 < whole.n_steps <= 60


def test_a_search_without_success_gives_no_boundaries(references):
    found, report = sample_on_segments(
        references, references.maps([0]), 4, np.random.default_rng(0), max_steps=1
    )
    assert len(found) == report.n_found == 0
    assert found.values(references.maps([1, 2])).shape == (2, 0)


def test_no_more_segments_than_images_of_other_classes(references):
    n_others = int((references.predicted != references.predicted[0]).sum())
    _, report = sample_on_segments(references, references.maps([0]), 1000, np.random.default_rng(0))
    assert report.n_asked == n_others


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 89), st.integers(0, 10**6))
def test_scaling_and_turning_boundaries_changes_no_side(i, seed):
    references = mapped(network(), random_images(90))
    rng = np.random.default_rng(seed)
    found = sample_at_references(references, 15, rng)
    factors = torch.from_numpy(rng.uniform(0.1, 10, 15) * rng.choice([-1, 1], 15))
    scaled = Boundaries(
        found.normals * factors[:, None, None, None],
        found.offsets * factors,
        found.pairs,
        found.sources,
    )
    point, c = references.maps([i]), int(references.predicted[i])
    first, second = (cover_problem(one, references, point, c) for one in (found, scaled))
    np.testing.assert_array_equal(first.separated, second.separated)
    np.testing.assert_array_equal(
        cover_problem(found.facing(point), references, point, c).separated, first.separated
    )


@pytest.mark.parametrize("sampling", ["segment", "reference"])
def test_one_class_is_refused(sampling):
    model = network()
    with torch.no_grad():
        model[-1].bias[2] += 1e4
    references = mapped(model, random_images(10))
    with pytest.raises(InvalidInputError, match="class 2 for all reference images"):
        interpret(references, references.maps([0]), sampling=sampling)
    with pytest.raises(InvalidInputError, match="class 2 for all reference images"):
        sample_on_segments(references, references.maps([0]), 3, np.random.default_rng(0))


@pytest.mark.parametrize("n_boundaries", [0, -1])
def test_count_is_refused(references, n_boundaries):
    rng = np.random.default_rng(0)
    with pytest.raises(InvalidInputError, match=f"n_boundaries is {n_boundaries}"):
        sample_at_references(references, n_boundaries, rng)
    with pytest.raises(InvalidInputError, match=f"n_boundaries is {n_boundaries}"):
        sample_on_segments(references, references.maps([0]), n_boundaries, rng)


def test_steps_are_refused(references):
    with pytest.raises(InvalidInputError, match="max_steps is 0"):
        sample_on_segments(
            references, references.maps([0]), 3, np.random.default_rng(0), max_steps=0
        )


def test_maps_do_not_depend_on_batches_and_on_what_is_kept(monkeypatch):
    model, pixels = network(), random_images(23)
    split = split_network(model, pixels)
    with torch.no_grad():
        expected = model[:5](pixels)
    for n_bytes in (0, 2**30):
        monkeypatch.setattr(images_module, "KEPT_BYTES", n_bytes)
        monkeypatch.setattr(images_module, "BATCH_SIZE", 7)
        images = MappedImages(split, pixels)
        torch.testing.assert_close(images.maps([22, 3, 3]), expected[[22, 3, 3]])
        for _ in range(2):
            together = torch.cat(list(images.batches()))
            torch.testing.assert_close(together, expected)
        torch.testing.assert_close(images.maps([22, 3, 3]), expected[[22, 3, 3]])
        assert images.maps([]).shape == (0, 3, 4, 4)
        np.testing.assert_allclose(images.scores, model(pixels).detach(), rtol=1e-9)
        found = sample_at_references(images, 5, np.random.default_rng(0))
        np.testing.assert_allclose(
            found.values_of(images), found.values(expected), rtol=1e-9, atol=1e-12
        )


def test_raw_images_are_scaled_and_normalised():
    raw = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8), np.uint8)
    model = network().float()
    preprocessing = Preprocessing((0.4,), (0.2,))
    inputs = (torch.from_numpy(raw).float() / 255 - 0.4) / 0.2
    split = split_network(model, inputs)
    images = MappedImages(split, LabelledImages(raw, np.zeros(6, int)), preprocessing)
    torch.testing.assert_close(images.pixels([4]), torch.from_numpy(raw[4:5]).float() / 255)
    with torch.no_grad():
        expected = model(inputs)
    np.testing.assert_allclose(images.scores, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(images.predicted, expected.argmax(1))


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (torch.zeros(0, 1, 8, 8), "no images"),
        (torch.zeros(3, 8, 8), r"shape \(3, 8, 8\)"),
        (torch.zeros(3, 1, 8, 8, dtype=torch.uint8), "uint8"),
        (torch.full((3, 1, 8, 8), float("nan")), "NaN"),
        (torch.full((3, 1, 8, 8), 255.0), "0 to 1"),
    ],
)
def test_bad_images_are_refused(pixels, expected):
    split = split_network(network(), random_images(8))
    with pytest.raises(InvalidInputError, match=expected):
        MappedImages(split, pixels)


def test_scores_that_are_not_finite_are_refused():
    model = network()
    images = mapped(model, random_images(8))
    images.split.score_part.get_parameter("8.bias").data[0] = float("inf")
    with pytest.raises(InvalidInputError, match="NaN or infinite"):
        _ = images.predicted
