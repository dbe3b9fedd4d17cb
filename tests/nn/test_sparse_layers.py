"""Selection of features, and the layers of SLDD-Model and Q-SENN, on cases done by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qpm_nn.sparse import (
    ElasticNet,
    balanced_bias,
    densest_within,
    elastic_net_path,
    keep_largest,
    qsenn_layer,
    quantise,
    select_by_path,
    select_forward,
    sldd_layer,
    standardise,
)
from qpm_opt import InvalidInputError
from tests.nn.feature_tables import data

SELECTIONS = [select_by_path, select_forward]


@pytest.mark.parametrize("select", SELECTIONS)
def test_selects_the_features_that_tell_classes_apart(select):
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 4
    features = rng.normal(size=(80, 10))
    features[:, [2, 5, 7]] += 4 * rng.normal(size=(4, 3))[labels]
    selection = select(features, labels, 3)
    np.testing.assert_array_equal(selection.features, [2, 5, 7])


@pytest.mark.parametrize("n_selected", [1, 5, 12])
@pytest.mark.parametrize("select", SELECTIONS)
def test_selects_as_many_as_asked_for(select, n_selected):
    features, labels = data(n_features=12)
    selection = select(features, labels, n_selected, tolerance=1e-8)
    assert len(selection.features) == n_selected
    assert (np.diff(selection.features) > 0).all()
    assert selection.fit.gap <= 1e-8 * np.log(4)


def test_the_path_is_refined_where_it_jumps():
    features, labels = data(n_features=30)
    coarse = select_by_path(features, labels, 7, n_lambdas=2)
    assert len(coarse.fit.features) == 7
    np.testing.assert_array_equal(coarse.features, coarse.fit.features)


def test_features_that_enter_together_are_counted_out():
    features, labels = data(n_features=5)
    twice = np.repeat(features, 2, axis=1)
    selection = select_by_path(twice, labels, 3)
    assert len(selection.fit.features) == 4
    assert len(selection.features) == 3
    assert set(selection.features) < set(selection.fit.features)


def test_forward_selection_takes_the_steepest_feature_at_every_step():
    features, labels = data(n_features=12)
    alpha = 0.8
    solver = ElasticNet(features, labels, alpha=alpha, grouped=True)
    sequence = 0.1 * solver.lambda_max * np.logspace(0, -3, 100)
    chosen: list[int] = []
    for n_selected in range(1, 9):
        selection = select_forward(features, labels, n_selected, alpha=alpha)
        (new,) = set(selection.features) - set(chosen)
        for lambda_ in sequence:
            columns = features[:, chosen]
            if chosen:
                fit = ElasticNet(columns, labels, alpha=alpha, grouped=True, tolerance=1e-9).fit(
                    float(lambda_)
                )
                logits = columns @ fit.weight.toarray().T + fit.bias
            else:
                logits = np.zeros((len(labels), 4))
            probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            slope = np.linalg.norm((probability - np.eye(4)[labels]).T @ features, axis=0) / len(
                labels
            )
            slope[chosen] = 0
            if slope.max() > alpha * lambda_:
                break
        assert new == np.argmax(slope)
        assert selection.fit.lambda_ == pytest.approx(lambda_)
        chosen.append(new)


@pytest.mark.parametrize("select", SELECTIONS)
def test_too_many_features_asked_for(select):
    features, labels = data("constant features")
    with pytest.raises(InvalidInputError, match="6 of 8"):
        select(features, labels, 8)
    for n_selected in (0, 9):
        with pytest.raises(InvalidInputError, match="8 features"):
            select(features, labels, n_selected)


def test_keep_largest_by_hand():
    weight = np.array([[3.0, -1.0, 0.5], [0.2, -4.0, 0.0]])
    np.testing.assert_array_equal(keep_largest(weight, 1), [[3, 0, 0], [0, -4, 0]])
    np.testing.assert_array_equal(keep_largest(weight, 2), [[3, -1, 0.5], [0, -4, 0]])


def test_keep_largest_is_a_mean_and_a_class_may_get_none():
    weight = np.array([[5.0, 6.0], [1.0, 1.0]])
    np.testing.assert_array_equal(keep_largest(weight, 1), [[5, 6], [0, 0]])


def test_equal_weights_are_kept_in_order():
    np.testing.assert_array_equal(
        keep_largest(np.array([[1.0, -1.0], [1.0, 1.0]]), 1), [[1, -1], [0, 0]]
    )


def test_quantise_by_hand():
    # The most negative weight keeps its sign and counts in the mean.
    weight = np.array([[3.0, -1.0, 0.5], [0.2, -6.0, 0.0]])
    sign, scale = quantise(weight, 1)
    np.testing.assert_array_equal(sign, [[1, 0, 0], [0, -1, 0]])
    assert scale == 4.5
    assert sign.dtype == np.int8


def test_quantise_where_few_weights_are_not_zero():
    sign, scale = quantise(np.array([[0.0, -2.0], [0.0, 0.0]]), 2)
    np.testing.assert_array_equal(sign, [[0, -1], [0, 0]])
    assert scale == 2.0
    sign, scale = quantise(np.zeros((2, 2)), 1)
    assert not sign.any()
    assert scale == 0.0


@settings(max_examples=50, deadline=None)
@given(arrays(float, (3, 5), elements=st.floats(-9, 9)), st.integers(1, 5))
def test_quantise_keeps_the_largest_with_their_signs(weight, n_per_class):
    sign, scale = quantise(weight, n_per_class)
    kept = sign != 0
    assert kept.sum() == min(3 * n_per_class, np.count_nonzero(weight))
    assert (np.sign(weight)[kept] == sign[kept]).all()
    if kept.any():
        assert scale == pytest.approx(np.abs(weight[kept]).mean())
        assert np.abs(weight[~kept]).max(initial=0) <= np.abs(weight[kept]).min()


def test_balanced_bias_by_hand():
    sign = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -1]])
    np.testing.assert_allclose(balanced_bias(sign, [0.5, -2.0, 1.0]), [-2, 2, 2 - 4 / 3])


def test_balanced_bias_of_equal_classes_is_zero():
    np.testing.assert_array_equal(balanced_bias([[1, 0], [0, 1]], [3.0, -1.0]), [0, 0])


def test_densest_within():
    path = elastic_net_path(*data(n_features=20), n_lambdas=30)
    fit = densest_within(path, 5)
    assert fit.n_per_class == max(p.n_per_class for p in path if p.n_per_class <= 5)
    assert densest_within(path, 0).weight.nnz == 0
    with pytest.raises(InvalidInputError, match="at most"):
        densest_within(path[-1:], 1)
    with pytest.raises(InvalidInputError, match="at most"):
        densest_within([], 1)


def test_layers_of_a_path():
    features, labels = data(n_images=200, n_features=20)
    features, _, _ = standardise(features)
    path = elastic_net_path(features, labels, n_lambdas=40)
    for n_per_class in (2, 3):
        sldd = sldd_layer(path, n_per_class)
        assert np.count_nonzero(sldd.weight) == 4 * n_per_class
        source = densest_within(path, 2 * n_per_class)
        full = source.weight.toarray()
        kept = sldd.weight != 0
        np.testing.assert_array_equal(sldd.weight[kept], full[kept])
        np.testing.assert_array_equal(sldd.bias, source.bias)
        qsenn = qsenn_layer(path[-1], n_per_class)
        assert np.count_nonzero(qsenn.sign) == 4 * n_per_class
        assert qsenn.scale > 0
        logits = features @ sldd.weight.T + sldd.bias
        assert (logits.argmax(axis=1) == labels).mean() > 0.5


@pytest.mark.parametrize("noise", [1e-2, 0.0])
def test_features_that_are_equally_good_enter_one_by_one_or_are_refused(noise):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    one = 2.0 * labels - 1 + 0.5 * rng.normal(size=60)
    features, _, _ = standardise(one[:, None] + noise * rng.normal(size=(60, 20)))
    path = elastic_net_path(features, labels, max_per_class=4)
    if noise:
        assert np.count_nonzero(sldd_layer(path, 2).weight) == 4
        assert all(a.lambda_ > b.lambda_ for a, b in itertools.pairwise(path))
        assert path[0].weight.nnz == 0 and path[-1].n_per_class <= 4
    else:
        with pytest.raises(InvalidInputError, match="no layer between none and 4 features a class"):
            sldd_layer(path, 2)


@pytest.mark.parametrize("n_per_class", [0, 4])
def test_unusable_number_per_class(n_per_class):
    with pytest.raises(InvalidInputError, match="n_per_class"):
        keep_largest(np.ones((2, 3)), n_per_class)


def test_unusable_weights():
    with pytest.raises(InvalidInputError, match="weight"):
        keep_largest([[np.nan, 1.0]], 1)
    with pytest.raises(InvalidInputError, match="weight"):
        keep_largest([1.0], 1)
