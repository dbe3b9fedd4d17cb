"""The sources of b against their equations, and what steering with them does."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest

from qpm_opt import Problem, solve
from qpm_opt.constants import (
    BIAS_SCALE,
    FeatureStatistics,
    compute_constants,
    feature_bias,
    load_bias,
    load_features,
    statistics_from_features,
)
from qpm_opt.errors import InvalidFeaturesError, InvalidInputError

SIZES = {"n_selected": 5, "n_per_class": 2}


def data_with_maps(seed: int = 0, n_images: int = 60, n_features: int = 12):
    """Features, labels, and locality and centre of every image and feature."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n_images) % 4)
    features = np.maximum(
        rng.normal(size=(4, n_features))[labels] + rng.normal(size=(n_images, n_features)), 0
    )
    locality = rng.uniform(0.05, 1, features.shape)
    centre = -1 / (1.0 + rng.integers(0, 4, features.shape))
    return features, labels, locality, centre


def class_independence(features, labels) -> np.ndarray:
    """Summands of eq. 14."""
    above = features - features.min(axis=0)
    by_class = np.array([above[labels == c].sum(axis=0) for c in range(labels.max() + 1)])
    return 1 - by_class.max(axis=0) / above.sum(axis=0)


def test_centre_is_equation_26():
    features, labels, _, centre = data_with_maps()
    features[:, 3] = 0.0
    statistics = statistics_from_features(features, labels, centre=centre)
    n = len(features)
    for d in range(12):
        if d == 3:
            assert np.isnan(statistics.centre[d])
            continue
        b_d = sum(centre[j, d] * features[j, d] for j in range(n)) / (n * features[:, d].sum())
        assert statistics.centre[d] == pytest.approx(n * b_d, rel=1e-12)
    assert statistics.locality is None
    problem = Problem.from_features(features, labels, centre=centre, bias="centre", **SIZES)
    expected = feature_bias(np.where(statistics.varies, statistics.centre, np.nan))
    np.testing.assert_array_equal(problem.bias, expected)
    assert problem.bias[3] == 0.0 and np.abs(problem.bias).max() == pytest.approx(10**-0.5)


def test_the_central_feature_is_preferred():
    features, labels, _, centre = data_with_maps()
    centre[:, 7] = -0.1  # ten pixels from the closest edge
    centre[:, 2] = -1.0  # on the edge
    problem = Problem.from_features(
        features, labels, centre=centre, bias="centre", bias_scale=10**1.5, **SIZES
    )
    assert problem.bias.argmax() == 7 and problem.bias.argmin() == 2
    assert np.abs(problem.bias).max() == pytest.approx(10**1.5)


def test_class_independence_is_that_of_equation_14():
    features, labels, *_ = data_with_maps()
    features = features * 10.0 ** np.arange(-6, 6) - 1e3  # zero-based by its minimum
    features[:, 5] = 4.0
    statistics = statistics_from_features(features, labels)
    varies = np.arange(12) != 5
    np.testing.assert_allclose(
        statistics.class_independence[varies],
        class_independence(features[:, varies], labels),
        rtol=1e-6,
    )
    assert np.isnan(statistics.class_independence[5])
    assert np.isnan(FeatureStatistics(4, 12).class_independence).all()
    problem = Problem.from_features(features, labels, bias="class_independence", **SIZES)
    np.testing.assert_array_equal(problem.bias, feature_bias(statistics.class_independence))


def test_class_independence_of_a_class_detector_is_zero():
    labels = np.repeat([0, 1, 2], 4)
    features = np.stack([labels == 1, labels != 1, np.arange(12) % 4 == 0], axis=1) * 2.5 + 1
    independence = statistics_from_features(features, labels).class_independence
    np.testing.assert_allclose(independence, [0, 1 / 2, 2 / 3], atol=1e-15)


def test_shards_in_any_order_are_the_single_pass():
    features, labels, locality, centre = data_with_maps(1)
    features += 1e5  # a minimum far from 0, and a different first image in every shard
    whole = statistics_from_features(features, labels, locality=locality, centre=centre)
    rng = np.random.default_rng(0)
    for n_shards in (2, 3, 7):
        shards = []
        for rows in np.array_split(rng.permutation(60), n_shards):
            shard = FeatureStatistics(4, 12)
            for batch in np.array_split(rows, 3):
                shard.update(features[batch], labels[batch], locality[batch], centre[batch])
            shards.append(pickle.dumps(shard))
        total = FeatureStatistics(4, 12)
        for i in rng.permutation(n_shards):
            total.merge(pickle.loads(shards[i]))
        assert total.n_images == 60 and np.array_equal(total.class_counts, whole.class_counts)
        for name in ("mean", "std", "locality", "centre", "class_similarity"):
            np.testing.assert_allclose(getattr(total, name), getattr(whole, name), atol=1e-11)
        np.testing.assert_allclose(
            total.class_independence, class_independence(features, labels), rtol=1e-9
        )


def test_merging_leaves_the_other_as_it_was():
    features, labels, locality, centre = data_with_maps()
    other = statistics_from_features(features, labels, locality=locality, centre=centre)
    before = pickle.dumps(other)
    total = FeatureStatistics(4, 12)
    total.merge(other)
    total.update(features, labels, locality, centre)
    assert pickle.dumps(other) == before


def test_a_vector_of_the_user_is_centred_and_scaled_but_never_clipped():
    features, labels, *_ = data_with_maps(n_features=200)
    liked = np.zeros(200)
    liked[17] = 3.0  # one percent of the features or less: the percentiles are all 0
    problem = Problem.from_features(features, labels, bias=liked, bias_scale=2.0, **SIZES)
    assert problem.bias[17] == pytest.approx(2.0)
    assert problem.bias.mean() == pytest.approx(0.0, abs=1e-15)
    assert np.unique(problem.bias).size == 2
    unknown = np.where(np.arange(200) == 3, np.nan, liked)
    assert Problem.from_features(features, labels, bias=unknown, **SIZES).bias[3] == 0.0
    off = Problem.from_features(features, labels, bias=liked, bias_scale=0.0, **SIZES)
    assert not off.bias.any()


def test_steering_changes_the_selection():
    features, labels, *_ = data_with_maps()
    plain = Problem.from_features(features, labels, **SIZES)

    def selected(problem: Problem) -> np.ndarray:
        return solve(problem, threads=1).assignment.selection

    disliked = selected(plain)
    steered = Problem.from_features(
        features, labels, bias=-disliked.astype(float), bias_scale=1e4, **SIZES
    )
    assert not (selected(steered) & disliked).any()


def test_the_bias_says_which_values_count():
    features, labels, locality, centre = data_with_maps()
    both = {"locality": locality, "centre": centre}
    statistics = statistics_from_features(features, labels, **both)
    default = Problem.from_features(features, labels, **both, **SIZES)
    named = Problem.from_features(features, labels, bias="locality", **both, **SIZES)
    assert default.sha256 == named.sha256
    np.testing.assert_array_equal(default.bias, feature_bias(statistics.locality))
    other = compute_constants(statistics, bias="centre", centre=statistics.locality, **SIZES)
    np.testing.assert_array_equal(other.feature_bias, default.bias)


def test_the_defaults_make_the_problem_that_they_always_made():
    """Digest of a problem of before there was a choice; rounded, for other processors."""
    images = (np.arange(90 * 16).reshape(90, 16) * 7919 % 101) ** 2 % 37
    labels = np.arange(90) % 5
    features = np.maximum(images - 9 + 6 * (labels[:, None] == np.arange(16) % 5), 0)
    locality = (1 + images % 5) / 7
    problem = Problem.from_features(
        features, labels, locality=locality, n_selected=6, n_per_class=2
    )
    digest = hashlib.sha256()
    for array in (problem.class_similarity, problem.feature_similarity, problem.bias):
        digest.update(np.round(array * 2**20).astype("<i8").tobytes())
    assert digest.hexdigest() == (
        "141964fc55c67b0f14d85a88a1dbcc260b2528b858578006ea7799572f2cc54b"
    )


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"bias": "center"}, "no bias 'center' .did you mean centre"),
        ({"bias": "centre"}, 'bias is "centre", but nothing says where'),
        ({"bias": np.ones(3)}, r"bias has shape \(3,\)"),
        ({"bias": np.full(12, np.inf)}, "12 infinite"),
        ({"bias": ["a"] * 12}, "bias is no array of numbers"),
        ({"bias_scale": -1.0}, "bias_scale is -1.0"),
        ({"bias_scale": np.inf}, "bias_scale is inf"),
        ({"centre": np.full((60, 12), 0.5)}, r"centre holds values outside \[-1, 0\]"),
        ({"centre": np.full((60, 11), -0.5)}, r"centre has shape \(60, 11\)"),
        ({"bias": "centre", "centre": np.full(11, -0.5)}, r"centre has shape \(11,\)"),
    ],
)
def test_unusable_biases_are_refused(options, match):
    features, labels, *_ = data_with_maps()
    with pytest.raises(InvalidInputError, match=match):
        Problem.from_features(features, labels, **options, **SIZES)


def test_centre_is_of_all_images_or_of_none_and_needs_activations():
    features, labels, locality, centre = data_with_maps()
    statistics = statistics_from_features(features, labels, locality=locality, centre=centre)
    with pytest.raises(InvalidFeaturesError, match="with centre and some without"):
        statistics.update(features, labels, locality)
    with pytest.raises(InvalidFeaturesError, match="with locality and some without"):
        statistics.merge(statistics_from_features(features, labels, centre=centre))
    with pytest.raises(InvalidFeaturesError, match="or leave centre out"):
        FeatureStatistics(4, 12).update(-features, labels, centre=centre)


def test_bias_files(tmp_path):
    assert load_bias("centre") == "centre"
    path = tmp_path / "b.npy"
    np.save(path, np.arange(4))
    assert load_bias(path).tolist() == [0, 1, 2, 3]
    np.save(path, np.ones((2, 2)))
    with pytest.raises(InvalidFeaturesError, match="one number for each feature"):
        load_bias(path)
    np.save(path, np.array([1.0, np.inf]))
    with pytest.raises(InvalidFeaturesError, match="1 infinite"):
        load_bias(path)
    np.save(path, np.array(["a"]))
    with pytest.raises(InvalidFeaturesError, match="no array of numbers"):
        load_bias(path)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InvalidFeaturesError, match="is damaged"):
        load_bias(path)
    np.save(path, np.arange(4))
    path.write_bytes(path.read_bytes().replace(b"}", b" ", 1))
    with pytest.raises(InvalidFeaturesError, match="is damaged"):
        load_bias(path)
    np.save(path, np.array([None]), allow_pickle=True)
    with pytest.raises(InvalidFeaturesError, match="is damaged"):
        load_bias(path)
    np.savez(tmp_path / "f.npz", features=np.ones((2, 3)), labels=[0, 1])
    with pytest.raises(InvalidFeaturesError, match=r"is a features file, not a bias file"):
        load_bias(tmp_path / "f.npz")
    with pytest.raises(InvalidFeaturesError, match="is a folder"):
        load_bias(tmp_path)
    with pytest.raises(InvalidInputError, match=r"mean locality.*no file either"):
        load_bias("localty")


def test_features_file_with_centre(tmp_path):
    features, labels, _, centre = data_with_maps()
    path = tmp_path / "f.npz"
    np.savez(path, features=features, labels=labels, centre=centre.mean(axis=0))
    table = load_features(path)
    assert table.locality is None and np.array_equal(table.centre, centre.mean(axis=0))
    np.savez(path, features=features, labels=labels, centre=centre)
    with pytest.raises(InvalidFeaturesError, match="centre has shape"):
        load_features(path)


def test_scale_of_the_paper():
    assert BIAS_SCALE == pytest.approx(1 / np.sqrt(10), rel=1e-15)
