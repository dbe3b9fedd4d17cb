"""Which interpretation serves an unseen image, and what is left of scores behind a mask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from qpm_nn.explanations.representative import (
    CentralImages,
    MappedImages,
    agreement,
    average_drop,
    average_increase,
    central_images,
    channel_map,
    grad_cam_weights,
    interpret,
    most_important,
    reused_heat_maps,
    score_heat_maps,
    serve,
    served_heat_maps,
)
from qpm_nn.explanations.representative import evaluation as evaluation_module
from qpm_nn.explanations.representative import images as images_module
from qpm_nn.explanations.representative.boundaries import Boundaries
from qpm_opt import InvalidInputError
from tests.nn.representative_networks import mapped, network, random_images


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def references():
    return mapped(network(), random_images(90))


@pytest.fixture(scope="module")
def unseen(references):
    return MappedImages(references.split, random_images(30, seed=1))


@pytest.fixture(scope="module")
def inputs(references):
    return central_images(references, 6)


@pytest.fixture(scope="module")
def interpretations(references, inputs):
    return [
        interpret(references, references.maps([i]), n_boundaries=15, seed=int(i))
        for i in inputs.indices
    ]


def test_measures_by_hand():
    before, after = [0.8, 0.5, 1.0, 0.25], [0.4, 0.6, 1.0, 0.0]
    # Drops: half, none as it rises, none, everything. One of four rises.
    assert average_drop(before, after) == pytest.approx((0.5 + 0 + 0 + 1) / 4)
    assert average_increase(before, after) == 0.25
    assert average_drop([0.5], [0.5]) == 0 == average_increase([0.5], [0.5])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], []),
        ([0.5], [0.5, 0.5]),
        ([0.5, 0.0], [0.5, 0.5]),
        ([0.5, -1.0], [0.5, 0.5]),
        ([0.5, float("nan")], [0.5, 0.5]),
        ([0.5, 0.5], [0.5, float("nan")]),
        ([[0.5]], [[0.5]]),
    ],
)
def test_bad_scores(before, after):
    for measure in (average_drop, average_increase):
        with pytest.raises(InvalidInputError, match="positive scores before masking"):
            measure(before, after)


def test_most_important_by_hand():
    heat = np.array([[[0.1, 0.9, 0.3, 0.2, 0.0], [0.8, 0.4, 0.5, 0.6, 0.7]]])
    kept = most_important(heat, rng())
    assert kept.tolist() == [[[False, True, False, False, False], [True, *[False] * 4]]]
    half = most_important(heat, rng(), 0.5)
    assert sorted(heat[half].tolist()) == [0.5, 0.6, 0.7, 0.8, 0.9]
    assert most_important(heat, rng(), 1.0).all()


def test_twenty_per_cent_of_each_image():
    kept = most_important(rng(1).random((7, 8, 8)), rng())
    assert kept.dtype == bool and kept.shape == (7, 8, 8)
    assert (kept.sum((1, 2)) == 13).all()  # 12.8


def test_ties_are_broken_at_random_and_by_seed():
    heat = np.zeros((400, 5, 4))
    heat[:, 2, 1] = 1
    kept = most_important(heat, rng(3))
    assert (kept.sum((1, 2)) == 4).all()
    assert kept[:, 2, 1].all()
    # The other three are spread evenly: 400 * 3 / 19 is 63, with a deviation of 7.
    counts = np.delete(kept.reshape(400, -1).sum(0), 9)
    assert counts.min() > 30 and counts.max() < 100
    np.testing.assert_array_equal(kept, most_important(heat, rng(3)))
    assert (kept != most_important(heat, rng(4))).any()


@pytest.mark.parametrize(
    ("heat", "share", "expected"),
    [
        (np.zeros((1, 4, 4)), 0.0, "share is 0.0 of 16 pixels"),
        (np.zeros((1, 4, 4)), 1.5, "share is 1.5"),
        (np.zeros((1, 4, 4)), 0.01, "keeps one or more"),
        (np.zeros((1, 4, 4)), float("nan"), "share is nan"),
        (np.full((1, 4, 4), np.nan), 0.2, "NaN"),
        (np.zeros((4, 4)), 0.2, r"heat has shape \(4, 4\)"),
    ],
)
def test_bad_heat(heat, share, expected):
    with pytest.raises(InvalidInputError, match=expected):
        most_important(heat, rng(), share)


def test_scores_behind_masks_by_hand(references, monkeypatch):
    for module in (images_module, evaluation_module):
        monkeypatch.setattr(module, "BATCH_SIZE", 7)
    unseen = MappedImages(references.split, random_images(30, seed=1))
    heat = rng(5).random((30, 8, 8))
    found = score_heat_maps(unseen, heat, rng())
    model = network()
    drops, rises = [], []
    for i in range(30):
        pixels = unseen.pixels([i])
        # No ties: the 13 largest of 64.
        least = np.sort(heat[i].ravel())[-13]
        with torch.no_grad():
            before = model(pixels).softmax(1)[0]
            after = model(pixels * torch.from_numpy(heat[i] >= least)).softmax(1)[0]
        c = int(before.argmax())
        drops.append(max(0.0, float(before[c] - after[c])) / float(before[c]))
        rises.append(float(after[c]) > float(before[c]))
    assert found.average_drop == pytest.approx(np.mean(drops))
    assert found.average_increase == pytest.approx(np.mean(rises))
    assert 0 < found.average_drop < 1 and any(rises)
    assert found.to_dict() == {
        "average_drop": found.average_drop,
        "average_increase": found.average_increase,
    }


def test_black_is_zero_before_normalisation(references):
    """What is masked is black, not grey: pixels are masked before mean and deviation come out."""

    class Shifted:
        def normalise(self, pixels):
            return (pixels - 0.5) / 0.5

    pixels = random_images(6, seed=2)
    images = MappedImages(references.split, pixels, Shifted())
    heat = np.zeros((6, 8, 8))
    heat[:, :2, :6] = 1
    heat[:, 2, 0] = 1
    found = score_heat_maps(images, heat, rng())
    model = network()
    with torch.no_grad():
        before = model((pixels - 0.5) / 0.5).softmax(1).numpy()
        after = model((pixels * torch.from_numpy(heat)[:, None] - 0.5) / 0.5).softmax(1).numpy()
    rows, c = np.arange(6), before.argmax(1)
    assert found.average_drop == pytest.approx(average_drop(before[rows, c], after[rows, c]))


def test_whole_images_drop_nothing(unseen):
    found = score_heat_maps(unseen, np.zeros((30, 8, 8)), rng(), share=1.0)
    assert found.average_drop == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("shape", [(29, 8, 8), (30, 4, 4), (30, 8), (1, 8, 8)])
def test_heat_maps_of_other_images_are_refused(unseen, shape):
    with pytest.raises(InvalidInputError, match=r"heat has shape .*\(30, 8, 8\)"):
        score_heat_maps(unseen, np.zeros(shape), rng())


def test_agreement_by_loop(interpretations, unseen):
    total = 0
    for one in interpretations:
        inside = [bool(one.contains(unseen.maps([i]))[0]) for i in range(30)]
        own = [int(unseen.predicted[i]) == one.c for i in range(30)]
        found = agreement(one, unseen)
        assert found.n_covered == sum(inside)
        assert found.n_agreeing == sum(a and b for a, b in zip(inside, own, strict=True))
        assert found.n_class == sum(own)
        assert found.to_dict() == {
            "n_covered": found.n_covered,
            "n_agreeing": found.n_agreeing,
            "n_class": found.n_class,
        }
        total += found.n_covered
    assert total > 0
    # Without boundaries all images are in the region, those of other classes, too.
    everything = replace(interpretations[0], boundaries=interpretations[0].boundaries[[]])
    found = agreement(everything, unseen)
    n_class = int((unseen.predicted == everything.c).sum())
    assert (found.n_covered, found.n_agreeing, found.n_class) == (30, n_class, n_class)
    assert 0 < n_class < 30


def test_central_images_are_nearest_to_their_centres(references, inputs):
    psi = references.maps(range(90)).flatten(1).numpy()
    assert inputs.centres.shape == (6, 48)
    for i, centre in zip(inputs.indices, inputs.centres, strict=True):
        assert i == np.argmin(((psi - centre) ** 2).sum(1))
    far = inputs.distances(references)
    expected = np.sqrt(((psi[:, None] - inputs.centres) ** 2).sum(2))
    np.testing.assert_allclose(far, expected, atol=1e-4)
    again = central_images(references, 6)
    np.testing.assert_array_equal(again.indices, inputs.indices)


def test_as_many_centres_as_images(references):
    few = MappedImages(references.split, random_images(4))
    assert sorted(central_images(few, 4).indices.tolist()) == [0, 1, 2, 3]
    one = central_images(few, 1)
    np.testing.assert_allclose(one.centres[0], few.maps(range(4)).flatten(1).mean(0), atol=1e-5)


@pytest.mark.parametrize("n_inputs", [0, 91, -1])
def test_bad_number_of_inputs(references, n_inputs):
    with pytest.raises(InvalidInputError, match=rf"n_inputs is {n_inputs}; 1 to 90"):
        central_images(references, n_inputs)


def plane(value):
    """A boundary whose side depends on the first value of the maps alone."""
    normals = torch.zeros(1, 3, 4, 4, dtype=torch.float64)
    normals[0, 0, 0, 0] = 1
    return Boundaries(
        normals,
        torch.tensor([-value], dtype=torch.float64),
        np.array([[0, 1]]),
        np.array([0]),
    )


class Drawn:
    """Images whose maps and predictions are given."""

    def __init__(self, firsts, predicted):
        self.psi = torch.zeros(len(firsts), 3, 4, 4, dtype=torch.float64)
        self.psi[:, 0, 0, 0] = torch.tensor(firsts)
        self.predicted = np.array(predicted)
        self.device = torch.device("cpu")

    def __len__(self):
        return len(self.predicted)

    def batches(self):
        yield self.psi


def centres(*firsts):
    found = np.zeros((len(firsts), 48), np.float32)
    found[:, 0] = firsts
    return CentralImages(np.zeros(len(firsts), int), found)


def test_who_serves_whom_by_hand(interpretations):
    """Class first, then the nearest centre; without a region the nearest centre of all."""
    point = torch.zeros(1, 3, 4, 4, dtype=torch.float64)
    point[0, 0, 0, 0] = 10
    above = [
        replace(interpretations[0], c=c, point=point, boundaries=plane(value))
        for c, value in [(0, 1.0), (1, 1.0), (1, 5.0)]
    ]
    unseen = Drawn([2.0, 2.0, 8.0, 8.0, 0.5, 2.0], [0, 1, 1, 0, 1, 3])
    found = serve(above, centres(0.0, 3.0, 9.0), unseen)
    # 1: its class covers it. 2: likewise. 3: two of its class cover it, the third is nearer.
    # 4: all cover it, one of its class. 5: nobody covers it, the first is nearest, of another
    # class though. 6: two of other classes cover it, the second is nearer.
    assert found.interpretation.tolist() == [0, 1, 2, 0, 0, 1]
    assert found.is_covered.tolist() == [True, True, True, True, False, True]


def test_served_images_by_loop(interpretations, inputs, unseen):
    found = serve(interpretations, inputs, unseen)
    psi = unseen.maps(range(30))
    far = np.sqrt(((psi.flatten(1).numpy()[:, None] - inputs.centres) ** 2).sum(2))
    for e in range(30):
        inside = [bool(one.contains(psi[e : e + 1])[0]) for one in interpretations]
        own = [one.c == unseen.predicted[e] for one in interpretations]
        both = [a and b for a, b in zip(inside, own, strict=True)]
        pool = both if any(both) else inside if any(inside) else [True] * 6
        expected = min((j for j in range(6) if pool[j]), key=lambda j: far[e, j])
        assert found.interpretation[e] == expected
        assert found.is_covered[e] == inside[expected]
    assert found.is_covered.any()


def test_served_heat_maps_are_those_of_the_interpretation(interpretations, inputs, unseen):
    served = serve(interpretations, inputs, unseen)
    heat = served_heat_maps(interpretations, served, unseen)
    assert heat.shape == (30, 8, 8)
    for e in (0, 13, 29):
        one = interpretations[served.interpretation[e]]
        np.testing.assert_allclose(heat[e], one.heat_maps(unseen.maps([e]), (8, 8))[0])
    assert heat.max() > 0


def test_reused_weights_are_those_of_the_nearest_input(references, inputs, unseen):
    weights = grad_cam_weights(references, inputs.indices)
    nearest = inputs.distances(unseen).argmin(1)
    heat = reused_heat_maps(weights, nearest, unseen)
    assert heat.shape == (30, 8, 8)
    for e in (0, 7, 29):
        expected = channel_map(weights[nearest[e]], unseen.maps([e]), (8, 8))[0]
        np.testing.assert_allclose(heat[e], expected)


def test_results_do_not_depend_on_batches(references, inputs, unseen, monkeypatch):
    weights = grad_cam_weights(references, inputs.indices)
    nearest = inputs.distances(unseen).argmin(1)
    whole = reused_heat_maps(weights, nearest, unseen)
    scores = score_heat_maps(unseen, whole, rng())
    monkeypatch.setattr(images_module, "BATCH_SIZE", 7)
    monkeypatch.setattr(evaluation_module, "BATCH_SIZE", 7)
    parted = MappedImages(unseen.split, unseen.images)
    assert [len(maps) for maps in parted.batches()] == [7, 7, 7, 7, 2]
    np.testing.assert_allclose(reused_heat_maps(weights, nearest, parted), whole, atol=1e-12)
    again = score_heat_maps(parted, whole, rng())
    assert again.average_drop == pytest.approx(scores.average_drop)
    assert again.average_increase == scores.average_increase


def test_mismatched_interpretations_are_refused(interpretations, inputs, unseen):
    with pytest.raises(InvalidInputError, match=r"5 interpretations and 6"):
        serve(interpretations[:5], inputs, unseen)
    with pytest.raises(InvalidInputError, match="0 interpretations"):
        serve([], inputs, unseen)


@pytest.mark.parametrize("nearest", [np.zeros(29, int), np.full(30, 6)])
def test_mismatched_weights_are_refused(references, inputs, unseen, nearest):
    weights = grad_cam_weights(references, inputs.indices)
    with pytest.raises(InvalidInputError, match="nearest"):
        reused_heat_maps(weights, nearest, unseen)
