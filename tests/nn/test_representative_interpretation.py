"""Regions around images: what they cover, how far images are apart, what heat maps show."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qpm_nn.explanations.representative import (
    boundaries_at,
    cover_problem,
    interpret,
    sample_at_references,
)
from qpm_nn.explanations.representative.boundaries import Boundaries
from qpm_opt import InvalidInputError
from tests.cover_oracle import optimum
from tests.nn.representative_networks import (
    N_CLASSES,
    affine_network,
    mapped,
    network,
    random_images,
)

SAMPLINGS = ["segment", "reference"]


@pytest.fixture(scope="module")
def references():
    return mapped(network(), random_images(90))


@pytest.fixture(scope="module")
def unseen(references):
    return mapped(network(), random_images(40, seed=1))


def sides(found, maps):
    """Sign of <W, t> + b for every boundary that was sampled, by plain loops."""
    normals = found.sampled.normals.numpy().reshape(len(found.sampled), -1)
    points = maps.numpy().reshape(len(maps), -1)
    return [
        [
            float(np.dot(w, t)) + float(b)
            for w, b in zip(normals, found.sampled.offsets, strict=True)
        ]
        for t in points
    ]


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("i", [0, 4, 17])
def test_covering_by_a_literal_loop(references, sampling, i):
    found = interpret(references, references.maps([i]), sampling=sampling, n_boundaries=12, seed=i)
    own, *_ = sides(found, references.maps([i]))
    n_same = n_other = tau = 0
    for r, values in enumerate(sides(found, references.maps(range(90)))):
        # Nothing here lies on a boundary, so that signs are enough.
        apart = [(mine > 0) != (its > 0) for mine, its in zip(own, values, strict=True)]
        np.testing.assert_array_equal(found.problem.separated[r], apart)
        is_covered = not any(apart[h] for h in found.cover.boundaries)
        is_own = references.predicted[r] == references.predicted[i]
        assert found.covered[r] == is_covered
        n_same += is_covered and is_own
        n_other += is_covered and not is_own
        tau += not any(apart) and not is_own
    assert found.c == references.predicted[i]
    assert (found.cover.n_covered_same, found.cover.n_covered_other) == (n_same, n_other)
    assert found.problem.least_exceptions == tau == n_other
    assert min(own) > 0  # facing x


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 89), st.integers(0, 10**6), st.sampled_from(SAMPLINGS))
def test_x_is_covered_and_exact_is_the_optimum(i, seed, sampling):
    references = mapped(network(), random_images(90))
    point = references.maps([i])
    options = {"sampling": sampling, "n_boundaries": 8, "seed": seed}
    exact = interpret(references, point, **options)
    greedy = interpret(references, point, method="greedy", **options)
    for found in (exact, greedy):
        assert found.covered[i]
        assert found.contains(point).all()
        assert found.cover.n_covered_other == found.problem.least_exceptions
    np.testing.assert_array_equal(exact.problem.separated, greedy.problem.separated)
    assert greedy.cover.objective <= exact.cover.objective == exact.cover.bound
    assert (exact.cover.objective, len(exact.boundaries)) == optimum(exact.problem)


def test_a_new_image_is_covered_too(references, unseen):
    """x need not be among the reference images."""
    point = unseen.maps([3])
    found = interpret(references, point, n_boundaries=10)
    assert found.c == unseen.predicted[3]
    assert found.contains(point).all()


def test_coverage_falls_as_boundaries_are_added(references):
    point, c = references.maps([2]), int(references.predicted[2])
    sampled = sample_at_references(references, 20, np.random.default_rng(0))
    problem = cover_problem(sampled, references, point, c)
    before = np.ones(90, bool)
    shrinks = 0
    for n in range(21):
        covered = problem.covered(range(n))
        assert covered[2] and not (covered & ~before).any()
        shrinks += covered.sum() < before.sum()
        before = covered
    assert shrinks > 2


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_membership_of_new_images(references, unseen, sampling):
    found = interpret(references, references.maps([0]), sampling=sampling, n_boundaries=15)
    maps = unseen.maps(range(40))
    expected = [
        all(values[h] >= 0 for h in found.cover.boundaries) for values in sides(found, maps)
    ]
    np.testing.assert_array_equal(found.contains(maps), expected)
    assert 0 < sum(expected) < 40
    # Of the reference images it says the same as the matrix that was solved.
    np.testing.assert_array_equal(found.contains(references.maps(range(90))), found.covered)


def test_image_on_a_boundary_is_on_both_sides(references):
    """A boundary through x separates nothing from it, among references and new images alike."""
    point = references.maps([0])
    found = interpret(references, point, n_boundaries=10)
    normals = found.sampled.normals[:1]
    through = Boundaries(
        normals,
        -(normals[0] * point[0]).sum()[None],
        np.array([[found.c, (found.c + 1) % N_CLASSES]]),
        np.array([0]),
    )
    one = interpret(references, point, boundaries=through)
    assert not one.problem.separated.any()
    both = replace(one, boundaries=through)
    assert both.contains(references.maps(range(90))).all()


def test_sampled_boundaries_can_be_given(references):
    sampled = sample_at_references(references, 9, np.random.default_rng(3))
    given_ = interpret(references, references.maps([5]), boundaries=sampled)
    drawn = interpret(
        references, references.maps([5]), sampling="reference", n_boundaries=9, seed=3
    )
    np.testing.assert_array_equal(given_.cover.boundaries, drawn.cover.boundaries)
    np.testing.assert_array_equal(given_.covered, drawn.covered)
    assert given_.segments is None


def test_distances_by_hand(references):
    """Eq. 6: sum over the boundaries of |<W, psi(x)> - <W, psi(x')>|."""
    found = interpret(references, references.maps([0]), n_boundaries=10)
    planes = Boundaries(
        torch.zeros(2, 3, 4, 4, dtype=torch.float64),
        torch.tensor([5.0, -7.0], dtype=torch.float64),
        np.array([[0, 1], [0, 2]]),
        np.array([0, 0]),
    )
    planes.normals[0, 0, 0, 0] = 2
    planes.normals[1, 2, 3, 3] = -3
    point, other = torch.zeros(2, 1, 3, 4, 4, dtype=torch.float64)
    point[0, 0, 0, 0], point[0, 2, 3, 3] = 1, 1
    other[0, 0, 0, 0], other[0, 2, 3, 3] = 4, -1
    by_hand = replace(found, shown=planes, point=point)
    # |2 * 1 - 2 * 4| + |-3 * 1 + 3 * -1|
    np.testing.assert_allclose(by_hand.distances(torch.cat([point, other])), [0, 12])


def test_nearest_images(references):
    found = interpret(references, references.maps([0]), n_boundaries=20)
    nearest, distances = found.nearest(references, 5)
    assert nearest[0] == 0 and distances[0] == 0
    w = found.boundaries.normals.numpy()
    psi = references.maps(range(90)).numpy()
    members = [r for r in range(90) if found.covered[r]]
    by_loop = {
        r: sum(abs(float((one * psi[0]).sum() - (one * psi[r]).sum())) for one in w)
        for r in members
    }
    expected = sorted(members, key=by_loop.__getitem__)[:5]
    assert nearest == expected
    np.testing.assert_allclose(distances, [by_loop[r] for r in expected], atol=1e-9)
    assert len(found.nearest(references, 1000)[0]) == len(members)
    nobody = replace(found, covered=np.zeros(90, bool))
    assert nobody.nearest(references, 5) == ([], [])


def plain_heat(weights, maps):
    """Grad-CAM's map at the size of the feature maps, by loops."""
    found = []
    for one in maps.numpy():
        raw = np.maximum(sum(w * channel for w, channel in zip(weights, one, strict=True)), 0)
        raw = raw - raw.min()
        found.append(raw / raw.max() if raw.max() > 0 else raw)
    return np.array(found)


def test_heat_map_of_one_boundary_at_x_is_grad_cam_of_the_difference(references):
    """Sampled at x itself, the normal is the gradient of the difference of two scores."""
    model = network()
    n_seen = 0
    for i in range(40):
        point = references.maps([i])
        found = interpret(references, point, boundaries=boundaries_at(references.split, point))
        one = replace(found, boundaries=found.sampled, shown=found.sampled)
        activations = model[:5](references.pixels([i])).detach().requires_grad_()
        scores = model[5:](activations)[0].sort(descending=True).values
        (gradient,) = torch.autograd.grad(scores[0] - scores[1], activations)
        weights = gradient[0].mean((1, 2)).numpy()
        np.testing.assert_allclose(one.channel_weights[0], weights, rtol=1e-7)
        expected = plain_heat(weights, activations.detach())
        n_seen += expected.max() == 1  # others have no positive evidence
        np.testing.assert_allclose(one.heat_maps(point, (4, 4)), expected, atol=1e-9)
    assert n_seen >= 4


def test_heat_map_is_the_mean_over_boundaries_with_the_weights_of_x(references, unseen):
    found = interpret(references, references.maps([0]), n_boundaries=20)
    assert len(found.boundaries) > 1
    maps = unseen.maps(range(4))
    each = [plain_heat(w.mean((1, 2)).numpy(), maps) for w in found.boundaries.normals]
    np.testing.assert_allclose(found.heat_maps(maps, (4, 4)), np.mean(each, axis=0), atol=1e-9)
    large = found.heat_maps(maps, (12, 20))
    assert large.shape == (4, 12, 20)
    assert large.min() >= 0 and large.max() <= 1
    # Scales of the normals play no part.
    scale = torch.linspace(0.1, 9, len(found.shown), dtype=torch.float64)[:, None, None, None]
    scaled = replace(found, shown=replace(found.shown, normals=found.shown.normals * scale))
    np.testing.assert_allclose(scaled.heat_maps(maps, (4, 4)), found.heat_maps(maps, (4, 4)))


def test_nothing_can_be_ruled_out(references):
    """Without boundaries that help, x's own linear piece makes heat maps and distances."""
    point = references.maps([0])
    far = Boundaries(
        torch.ones(1, 3, 4, 4, dtype=torch.float64),
        torch.tensor([1e6], dtype=torch.float64),
        np.array([[0, 1]]),
        np.array([0]),
    )
    found = interpret(references, point, boundaries=far)
    assert len(found.boundaries) == 0 and found.covered.all()
    assert found.problem.least_exceptions == int((references.predicted != found.c).sum())
    own = boundaries_at(references.split, point)
    torch.testing.assert_close(found.shown.normals, own.normals)
    assert found.heat_maps(point, (8, 8)).shape == (1, 8, 8)
    assert found.distances(point) == [0]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_affine_head_covers_the_whole_class(sampling):
    """Only boundaries of pairs of classes remain, and none cuts the class (fact 1.1)."""
    references = mapped(affine_network(), random_images(90), layer="4")
    assert references.split.is_affine
    assert len(np.unique(references.predicted)) > 2
    for i in (0, 1, 2):
        found = interpret(references, references.maps([i]), sampling=sampling)
        own = references.predicted == found.c
        assert found.cover.n_covered_same == own.sum()
        pairs = {tuple(sorted(pair)) for pair in found.sampled.pairs.tolist()}
        planes = {tuple(np.round(w.numpy().ravel(), 9)) for w in found.sampled.normals}
        assert len(planes) <= 2 * len(pairs) <= N_CLASSES * (N_CLASSES - 1)
        if sampling == "segment":
            assert all(found.c in pair for pair in pairs)
            # A true boundary of the class lies between it and every other image drawn.
            assert found.cover.n_covered_other <= (~own).sum() - len(found.boundaries)


def test_data_for_json(references):
    found = interpret(references, references.maps([0]), n_boundaries=10, seed=4)
    data = json.loads(json.dumps(found.to_dict()))
    assert data["class"] == references.predicted[0]
    assert data["n_sampled"] == 10 == data["segments"]["n_asked"]
    assert [one["index"] for one in data["boundaries"]] == found.cover.boundaries.tolist()
    for one in data["boundaries"]:
        assert references.predicted[one["source"]] != data["class"]
        assert one["classes"][0] == data["class"]
    assert data["n_covered_same"] == int((found.covered & found.problem.same).sum())
    assert data["relative_gap"] == 0
    at = interpret(references, references.maps([0]), sampling="reference", n_boundaries=10)
    assert at.to_dict()["segments"] is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"sampling": "nowhere"}, "nowhere"),
        ({"method": "best"}, "best"),
        ({"n_boundaries": 0}, "n_boundaries is 0"),
        ({"sampling": "reference", "n_boundaries": -2}, "n_boundaries is -2"),
        ({"time_limit": -1.0}, "time_limit"),
    ],
)
def test_bad_options(references, options, expected):
    with pytest.raises(InvalidInputError, match=expected):
        interpret(references, references.maps([0]), **options)


def test_bad_points(references):
    point = references.maps([0])
    for shape in (references.maps([0, 1]), point[:, :2], point[0], point[:0]):
        with pytest.raises(InvalidInputError, match="point has shape"):
            interpret(references, shape)
    with pytest.raises(InvalidInputError, match="point holds NaN"):
        interpret(references, point * float("nan"))


def test_bad_maps(references):
    found = interpret(references, references.maps([0]), n_boundaries=10)
    for call in (found.contains, found.distances, lambda maps: found.heat_maps(maps, (8, 8))):
        with pytest.raises(InvalidInputError, match=r"\(n_images, 3, 4, 4\) was expected"):
            call(torch.zeros(2, 3, 5, 4))
        with pytest.raises(InvalidInputError, match=r"\(n_images, 3, 4, 4\) was expected"):
            call(torch.zeros(3, 4, 4))
        with pytest.raises(InvalidInputError, match="maps holds NaN"):
            call(torch.full((1, 3, 4, 4), float("nan")))
    empty = torch.zeros(0, 3, 4, 4)
    assert found.contains(empty).shape == found.distances(empty).shape == (0,)
    assert found.heat_maps(empty, (8, 8)).shape == (0, 8, 8)
