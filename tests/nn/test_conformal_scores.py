"""Nonconformity scores against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qpm_nn.conformal import aps, chiqpm, hierarchical, lac, raps, saps, scores
from qpm_opt import InvalidInputError
from tests.nn.feature_tables import ASSIGNMENT

#: Probabilities 0.2, 0.5 and 0.3.
LOGITS = torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.double).log()


def close(found, expected):
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.double))


def test_scores_by_hand():
    half = torch.tensor([0.5])
    close(lac(LOGITS), [[0.8, 0.5, 0.7]])
    close(aps(LOGITS), [[1.0, 0.5, 0.8]])
    close(aps(LOGITS, half), [[0.9, 0.25, 0.65]])
    close(raps(LOGITS, half, penalty=0.1, k_reg=1), [[1.1, 0.25, 0.75]])
    close(raps(LOGITS, penalty=0.1, k_reg=0), [[1.3, 0.6, 1.0]])
    close(saps(LOGITS, half, weight=0.1), [[0.65, 0.25, 0.55]])
    close(saps(LOGITS, weight=0.1), [[0.7, 0.5, 0.6]])


def test_of_equally_probable_classes_the_first_has_the_first_rank():
    logits = torch.zeros(1, 4)
    close(aps(logits), [[0.25, 0.5, 0.75, 1.0]])
    close(saps(logits, weight=1.0), [[0.25, 1.25, 2.25, 3.25]])


def test_any_array_is_taken_and_scores_are_float64():
    found = lac([[0.0, 0.0]])
    assert found.dtype == torch.double
    assert found.tolist() == lac(torch.zeros(1, 2, dtype=torch.half)).tolist() == [[0.5, 0.5]]
    learnt = torch.zeros(1, 2, requires_grad=True)
    assert not lac(learnt).requires_grad


def test_one_class():
    logits = torch.tensor([[3.0], [-1.0]])
    for score in (lac, aps, raps, saps):
        assert score(logits).tolist() == [[float(score is not lac)]] * 2


@given(
    hnp.arrays(float, (5, 4), elements=st.sampled_from([-30.0, -1.0, 0.0, 1.0, 40.0])),
    st.floats(0, 1),
)
def test_no_class_conforms_better_than_the_most_probable(logits, part):
    uniforms = torch.full((5,), part)
    top = torch.as_tensor(logits).argmax(1, keepdim=True)
    for found in (
        lac(logits),
        aps(logits, uniforms),
        raps(logits, uniforms),
        saps(logits, uniforms),
    ):
        assert (found >= found.gather(1, top)).all()


def literal_hierarchy(row, predicted, level, method):
    """Scores of an image, word for word."""
    ordered = [
        sorted(torch.nonzero(own).flatten().tolist(), key=lambda f: (-row[f], f))
        for own in ASSIGNMENT
    ]
    activations = [[max(0.0, row[f]) for f in mine] for mine in ordered]
    found = []
    for c, mine in enumerate(ordered):
        depth = 0
        while depth < 3 and mine[depth] == ordered[predicted][depth] and row[mine[depth]] > 0:
            depth += 1
        if c == predicted:
            depth = 3
        own = activations[c][depth] if depth < 3 else 0.0
        score = {
            "hierarchical": sum(activations[predicted]) - sum(activations[c]),
            "chiqpm": -(own + sum(activations[c][level:depth])),
        }[method]
        found.append(score if depth >= level else math.inf)
    return found


@pytest.mark.parametrize("score", [hierarchical, chiqpm])
@given(
    hnp.arrays(float, (6, 5), elements=st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0])),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_hierarchical_scores_by_definition(score, features, predicted, level):
    found = score(features, ASSIGNMENT, [predicted] * 6, level)
    method = score.__name__
    assert found.tolist() == [literal_hierarchy(row, predicted, level, method) for row in features]
    # Of one class at all levels, as calibration needs it.
    terms = scores.HIERARCHIES[method](
        torch.from_numpy(features), ASSIGNMENT, torch.full((6,), predicted)
    )
    depth, everywhere = terms.scores_at_all_levels(torch.tensor([0, 1, 2, 3, 0, 1]))
    assert everywhere[:, level].tolist() == [found[i, i % 4] for i in range(6)]
    assert torch.equal(depth >= level, everywhere[:, level] < torch.inf)


def test_every_class_may_have_its_own_level():
    features = torch.tensor([[2.0, 3.0, 1.0, 0.5, 0.1]])
    # By activation 0: 1 0 2; 1: 1 0 3; 2: 2 3 4; 3: 0 2 4.
    levels = torch.tensor([3, 1, 0, 1])
    assert chiqpm(features, ASSIGNMENT, [0], levels).tolist() == [[0.0, -2.5, -1.0, math.inf]]
    close(hierarchical(features, ASSIGNMENT, [0], levels), [[0.0, 0.5, 4.4, math.inf]])


@pytest.mark.parametrize("score", [hierarchical, chiqpm])
def test_the_predicted_class_scores_lowest_where_logits_are_sums_of_active_features(score):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(500, 5, generator=generator)
    predicted = (features.clamp_min(0) @ ASSIGNMENT.float().T).argmax(1)
    for level in range(4):
        found = score(features, ASSIGNMENT, predicted, level)
        assert (found >= found.gather(1, predicted[:, None]) - 1e-9).all()


def test_hierarchical_scores_are_distances_of_logits_that_are_sums_of_active_features():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(500, 5, generator=generator, dtype=torch.double)
    logits = features.clamp_min(0) @ ASSIGNMENT.double().T
    found = hierarchical(features, ASSIGNMENT, logits.argmax(1), 0)
    torch.testing.assert_close(found, logits.amax(1, keepdim=True) - logits)


@pytest.mark.parametrize("score", [lac, aps, raps, saps])
@pytest.mark.parametrize(
    "logits",
    [
        torch.tensor([[0.0, torch.nan]]),
        torch.tensor([[0.0, torch.inf]]),
        torch.zeros(3),
        torch.zeros(2, 0),
        torch.zeros(1, 2, 2),
    ],
)
def test_unusable_logits(score, logits):
    with pytest.raises(InvalidInputError):
        score(logits)


@pytest.mark.parametrize("uniforms", [[0.5], [0.5, 1.5], [-0.1, 0.5], [0.5, math.nan]])
def test_unusable_random_numbers(uniforms):
    with pytest.raises(InvalidInputError, match="uniforms"):
        aps(torch.zeros(2, 3), torch.tensor(uniforms))


@pytest.mark.parametrize(
    ("features", "assignment", "predicted", "level"),
    [
        (torch.zeros(2, 4), ASSIGNMENT, [0, 0], 0),
        (torch.zeros(5), ASSIGNMENT, [0], 0),
        (torch.full((1, 5), torch.nan), ASSIGNMENT, [0], 0),
        (torch.zeros(1, 5), ASSIGNMENT.int(), [0], 0),
        (torch.zeros(1, 5), ASSIGNMENT[0], [0], 0),
        (torch.zeros(1, 5), ASSIGNMENT[:0], [0], 0),
        (torch.zeros(1, 5), ASSIGNMENT, [4], 0),
        (torch.zeros(1, 5), ASSIGNMENT, [0, 0], 0),
        (torch.zeros(1, 5), ASSIGNMENT, [0], -1),
        (torch.zeros(1, 5), ASSIGNMENT, [0], 4),
        (torch.zeros(1, 5), None, [0], 0),
    ],
)
def test_unusable_hierarchy(features, assignment, predicted, level):
    for score in (hierarchical, chiqpm):
        with pytest.raises(InvalidInputError):
            score(features, assignment, predicted, level)
