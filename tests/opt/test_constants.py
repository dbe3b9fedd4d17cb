"""The constants against numpy's corrcoef and literal transcriptions of the paper's equations."""

from __future__ import annotations

import pickle
from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qpm_opt import Problem
from qpm_opt.constants import (
    BIAS_SCALE,
    FeatureStatistics,
    compute_constants,
    feature_bias,
    feature_similarity,
    load_features,
    problem_from_features,
    problem_from_statistics,
    statistics_from_features,
)
from qpm_opt.errors import InvalidFeaturesError, InvalidInputError, InvalidProblemError


def random_data(seed: int, n_images: int = 60, n_features: int = 7, n_classes: int = 4):
    """Features that depend on the class, at very different scales and offsets; all classes."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n_images) % n_classes)
    signal = rng.normal(size=(n_classes, n_features))[labels]
    scale = 10.0 ** rng.integers(-6, 6, n_features)
    offset = scale * 10.0 ** rng.integers(0, 5, n_features) * rng.integers(-1, 2, n_features)
    return (signal + rng.normal(size=(n_images, n_features))) * scale + offset, labels


def corrcoef(features, labels, n_classes: int) -> np.ndarray:
    indicators = (labels == np.arange(n_classes)[:, None]).astype(float)
    features = np.asarray(features, dtype=np.float64)
    return np.corrcoef(indicators, features.T)[:n_classes, n_classes:]


def simple_data():
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 4
    features = np.maximum(rng.normal(size=(4, 12))[labels] + rng.normal(size=(80, 12)), 0)
    return features, labels


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 10**6),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    n_workers=st.integers(1, 3),
    order=st.integers(0, 10**6),
)
# Here one mean is 1e-5 of the spread of its feature.
@example(seed=2413, cuts=[], n_workers=1, order=0)
def test_any_split_and_merge_order_equals_corrcoef(seed, cuts, n_workers, order):
    features, labels = random_data(seed)
    cuts = sorted(cuts)
    batches = [slice(a, b) for a, b in zip([0, *cuts], [*cuts, 60], strict=True)]
    workers = [FeatureStatistics(4, 7) for _ in range(n_workers)]
    rng = np.random.default_rng(order)
    for i in rng.permutation(len(batches)):
        worker = workers[rng.integers(n_workers)]
        worker.update(features[batches[i]], labels[batches[i]])
    total = FeatureStatistics(4, 7)
    for i in rng.permutation(n_workers):
        total.merge(pickle.loads(pickle.dumps(workers[i])))
    np.testing.assert_allclose(
        total.class_similarity, corrcoef(features, labels, 4), atol=1e-10, rtol=0
    )
    # Exact for the size of the values; where they cancel, the mean may be much smaller.
    off = np.abs(total.mean - features.mean(axis=0))
    assert (off <= 1e-13 * np.abs(features).mean(axis=0)).all()
    np.testing.assert_allclose(total.std, features.std(axis=0), rtol=1e-9)
    assert total.n_images == 60
    assert np.array_equal(total.class_counts, np.bincount(labels))


@pytest.mark.parametrize("offset", [1e3, 1e8, 1e12])
def test_huge_offset_costs_no_digits(offset):
    rng = np.random.default_rng(1)
    labels = np.arange(300) % 3
    deviations = np.round(rng.normal(size=(300, 5)) + labels[:, None], 2)
    features = offset + deviations
    statistics = FeatureStatistics(3, 5)
    for rows in np.array_split(rng.permutation(300), 7):
        statistics.update(features[rows], labels[rows])
    # The offset rounds the features; what is left must be as good as without it.
    expected = corrcoef(features - offset, labels, 3)
    np.testing.assert_allclose(statistics.class_similarity, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint8])
def test_input_types(dtype):
    features, labels = simple_data()
    features = (20 * features).astype(dtype)
    statistics = statistics_from_features(features, labels.astype(np.int16))
    expected = corrcoef(features, labels, 4)
    np.testing.assert_allclose(statistics.class_similarity, expected, atol=1e-12)


def test_input_is_left_as_it_was():
    features, labels = simple_data()
    before = features.copy()
    FeatureStatistics(4, 12).update(features, labels, np.full(features.shape, 0.5))
    assert np.array_equal(features, before)


def test_batches_of_statistics_from_features(monkeypatch):
    features, labels = random_data(3)
    whole = statistics_from_features(features, labels).class_similarity
    monkeypatch.setattr("qpm_opt.features._BATCH_BYTES", 8 * 7 * 9)  # nine images
    batched = statistics_from_features(features, labels).class_similarity
    np.testing.assert_allclose(batched, whole, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e8 + 0.3, -7.7])
def test_constant_feature_is_zero_and_no_candidate(value):
    features, labels = simple_data()
    features = np.insert(features, 3, value, axis=1)
    parts = [FeatureStatistics(4, 13) for _ in range(3)]
    for i, rows in enumerate(np.array_split(np.arange(80), 7)):
        parts[i % 3].update(features[rows], labels[rows])
    for part in parts[1:]:
        parts[0].merge(part)
    problem = problem_from_statistics(parts[0], n_selected=6, n_per_class=2)
    assert np.array_equal(np.flatnonzero(~problem.candidates), [3])
    assert not problem.class_similarity[:, 3].any()
    assert not problem.feature_similarity[3].any()


def test_constant_within_batches_only_is_not_constant():
    statistics = FeatureStatistics(2, 1)
    statistics.update([[1.0], [1.0]], [0, 1])
    other = FeatureStatistics(2, 1)
    other.update([[2.0], [2.0]], [0, 0])
    statistics.merge(other)
    assert statistics.varies.all()
    expected = corrcoef([[1], [1], [2], [2]], np.array([0, 1, 0, 0]), 2)
    np.testing.assert_allclose(statistics.class_similarity, expected, atol=1e-12)


def test_one_class_has_no_correlation():
    features, _ = simple_data()
    problem = problem_from_features(features, np.zeros(80, int), n_selected=3, n_per_class=2)
    assert problem.n_classes == 1
    assert not problem.class_similarity.any()
    assert not problem.feature_similarity.any()
    assert problem.candidates.all()


def test_feature_similarity_is_relu_of_cosine():
    A = np.random.default_rng(0).normal(size=(5, 20))
    A[:, 4] = 0.0
    A[:, 7] = 3.0 * A[:, 6]  # the same direction
    R = feature_similarity(A)
    assert np.array_equal(R, R.T)
    assert not np.diagonal(R).any()
    assert not R[4].any()
    assert R.min() == 0.0 and R.max() <= 1.0
    assert R[6, 7] == pytest.approx(1.0, abs=1e-15)
    for d, e in combinations(range(20), 2):
        if 4 not in (d, e):
            cosine = A[:, d] @ A[:, e] / np.linalg.norm(A[:, d]) / np.linalg.norm(A[:, e])
            assert R[d, e] == pytest.approx(max(cosine, 0.0), abs=1e-14)


def test_locality_is_equation_8():
    rng = np.random.default_rng(5)
    n_images, n_features = 30, 6
    maps = rng.normal(scale=3, size=(n_images, n_features, 4, 4))
    features = np.maximum(maps, 0).mean(axis=(2, 3))
    features[:, 2] = 0.0
    labels = np.arange(n_images) % 3
    exponentials = np.exp(maps)
    largest = exponentials.max(axis=(2, 3)) / exponentials.sum(axis=(2, 3))
    statistics = FeatureStatistics(3, n_features)
    worker = FeatureStatistics(3, n_features)
    statistics.update(features[:10], labels[:10], largest[:10])
    worker.update(features[10:25], labels[10:25], largest[10:25].astype(np.float32))
    worker.update(features[25:], labels[25:], largest[25:])
    statistics.merge(worker)
    for d in range(n_features):
        if d == 2:
            assert np.isnan(statistics.locality[d])
            continue
        b_d = sum(largest[j, d] * features[j, d] for j in range(n_images))
        b_d /= n_images * sum(features[j, d] for j in range(n_images))
        assert statistics.locality[d] == pytest.approx(n_images * b_d, rel=1e-6)
    problem = problem_from_statistics(statistics, n_selected=3, n_per_class=1)
    assert problem.bias[2] == 0.0
    assert np.abs(problem.bias).max() == pytest.approx(10**-0.5, rel=1e-12)
    kept = np.arange(n_features) != 2
    np.testing.assert_allclose(problem.bias[kept], feature_bias(statistics.locality[kept]))


def test_bias_is_clipped_centred_and_scaled():
    locality = np.random.default_rng(0).normal(0.3, 0.01, 500)
    outliers = locality.copy()
    outliers[0], outliers[1] = 50.0, -50.0
    bias = feature_bias(outliers)
    assert np.abs(bias).max() == pytest.approx(BIAS_SCALE, rel=1e-12)
    assert bias.mean() == pytest.approx(0.0, abs=1e-15)
    assert bias[0] == bias.max() and bias[1] == bias.min()
    assert bias[2:].std() > 0.05  # the outliers do not squeeze the others together
    order = np.argsort(locality[2:])
    assert (np.diff(bias[2:][order]) >= 0).all()
    low, high = np.percentile(outliers, (2, 98))
    clipped = np.clip(outliers, low, high)
    expected = clipped - clipped.mean()
    np.testing.assert_allclose(bias, BIAS_SCALE * expected / np.abs(expected).max())


@pytest.mark.parametrize(
    "locality", [np.full(9, 0.1), np.full(3, np.nan), np.zeros(4), 0.3 + 1e-16 * np.arange(5)]
)
def test_bias_of_equal_or_unknown_localities_is_zero(locality):
    assert not feature_bias(locality).any()


def test_features_that_are_no_candidates_take_no_part():
    features, labels = simple_data()
    with_constant = np.insert(features, 0, 3.0, axis=1)
    locality = np.random.default_rng(0).uniform(0.1, 0.5, 12)
    options = {"n_selected": 6, "n_per_class": 2}
    plain = compute_constants(
        statistics_from_features(features, labels), locality=locality, **options
    )
    constants = compute_constants(
        statistics_from_features(with_constant, labels),
        locality=np.insert(locality, 0, 1.0),  # would be the best, and similar to none
        **options,
    )
    assert constants.feature_bias[0] == 0.0
    np.testing.assert_array_equal(constants.feature_bias[1:], plain.feature_bias)
    assert constants.epsilon == pytest.approx(plain.epsilon, rel=1e-12)
    assert constants.candidate[constants.clique].all()


def test_unknown_locality_is_neutral():
    bias = feature_bias([0.1, np.nan, 0.5, 0.2], scale=2.0)
    assert bias[1] == 0.0
    np.testing.assert_array_equal(bias[[0, 2, 3]], feature_bias([0.1, 0.5, 0.2], scale=2.0))
    assert not feature_bias([0.1, 0.5], scale=0.0).any()


def test_scaling():
    features, labels = simple_data()
    statistics = statistics_from_features(features, labels)
    A, n_per_class = statistics.class_similarity, 3
    constants = compute_constants(statistics, n_selected=6, n_per_class=n_per_class)
    np.testing.assert_allclose(
        constants.class_similarity, A / np.abs(A).max() * 1000 / (n_per_class * 4), rtol=1e-14
    )
    raw = feature_similarity(A)
    R = constants.feature_similarity
    assert R.max() == 1.0
    assert np.array_equal(R > 0, (raw >= constants.epsilon) & (raw > 0))
    np.testing.assert_allclose(R, np.where(raw >= constants.epsilon, raw, 0) / raw.max())
    chosen = constants.clique
    assert chosen.size == 6
    assert not R[np.ix_(chosen, chosen)].any()
    assert not constants.feature_bias.any()


def test_similarity_scalings():
    features, labels = simple_data()
    statistics = statistics_from_features(features, labels)

    def similarity(scaling: str) -> np.ndarray:
        return compute_constants(
            statistics, n_selected=6, n_per_class=2, epsilon=0.3, similarity_scaling=scaling
        ).feature_similarity

    raw = feature_similarity(statistics.class_similarity)
    unit = similarity("unit")
    np.testing.assert_allclose(similarity("paper"), 2 * unit)
    smallest, largest = raw[raw > 0].min(), raw.max()
    expected = np.where(raw >= 0.3, (raw - smallest) / (largest - smallest), 0.0)
    np.testing.assert_allclose(similarity("code"), expected, atol=1e-15)
    with pytest.raises(InvalidInputError, match="similarity_scaling"):
        similarity("twice")


def test_epsilon_can_be_given():
    features, labels = simple_data()
    statistics = statistics_from_features(features, labels)
    raw = feature_similarity(statistics.class_similarity)
    keep_all = compute_constants(statistics, n_selected=6, n_per_class=2, epsilon=0.0)
    assert keep_all.clique is None
    np.testing.assert_allclose(keep_all.feature_similarity, raw / raw.max())
    none = compute_constants(statistics, n_selected=6, n_per_class=2, epsilon=np.inf)
    assert not none.feature_similarity.any()
    everything = compute_constants(statistics, n_selected=12, n_per_class=2)
    assert everything.epsilon == np.inf and not everything.feature_similarity.any()
    for wrong in ("tuned", float("nan"), -0.1):
        with pytest.raises(InvalidInputError, match="epsilon"):
            compute_constants(statistics, n_selected=6, n_per_class=2, epsilon=wrong)


def test_problem_from_features_passes_everything_on():
    features, labels = simple_data()
    largest = np.random.default_rng(0).uniform(0.1, 0.9, features.shape)
    statistics = statistics_from_features(features, labels, locality=largest)
    options = {"n_selected": 6, "n_per_class": 2, "bias_scale": 0.5, "seed": 3}
    problem = Problem.from_features(
        features, labels, locality=largest, distinct=False, name="here", **options
    )
    assert problem.name == "here" and not problem.distinct
    constants = compute_constants(statistics, **options)
    np.testing.assert_array_equal(problem.class_similarity, constants.class_similarity)
    np.testing.assert_array_equal(problem.feature_similarity, constants.feature_similarity)
    np.testing.assert_array_equal(problem.bias, constants.feature_bias)
    assert np.abs(problem.bias).max() == pytest.approx(0.5)
    per_feature = problem_from_features(
        features, labels, locality=statistics.locality, distinct=False, **options
    )
    assert per_feature.sha256 == problem.sha256


GOOD = np.array([[0.0, 1.0], [2.0, 1.0], [1.0, 3.0]])


@pytest.mark.parametrize(
    ("features", "labels", "match"),
    [
        (np.where(GOOD == 3.0, np.nan, GOOD), [0, 1, 1], "Feature 1 of image 2 is nan"),
        (np.where(GOOD == 2.0, -np.inf, GOOD), [0, 1, 1], "Feature 0 of image 1 is -inf"),
        (GOOD * 1e200, [0, 1, 1], "finite numbers below"),
        (GOOD, [0, -1, 1], "labels holds -1; classes 0 onwards"),
        (GOOD, [0, 1.0, 1], "labels is float64; whole numbers"),
        (GOOD, [0, 1], "labels has shape"),
        (GOOD, [0, 2, 2], "Class 1 has no images"),
        (GOOD, [0, 10**15, 0], "Class 1 has no images"),
        (GOOD[0], [0, 1], r"\(n_images, n_features\) was expected"),
        (GOOD[:1], [0], "There are 1 images"),
        (GOOD[:0], [], "There are 0 images"),
        (GOOD[:, :0], [0, 1, 1], "at least one of each"),
        (GOOD + 1j, [0, 1, 1], "features is complex128"),
        (GOOD.astype(str), [0, 1, 1], "real numbers"),
        (np.ones((3, 2)), [0, 1, 1], "0 of the 2 features vary"),
    ],
)
def test_unusable_features_are_refused(features, labels, match):
    with pytest.raises(InvalidFeaturesError, match=match):
        problem_from_features(features, labels, n_selected=1, n_per_class=1)


def test_unusable_options_are_refused():
    labels = [0, 1, 1]
    with pytest.raises(InvalidFeaturesError, match="labels holds 1; classes 0 to 0"):
        problem_from_features(GOOD, labels, n_classes=1, n_selected=1, n_per_class=1)
    with pytest.raises(InvalidFeaturesError, match="Class 2 has no images"):
        problem_from_features(GOOD, labels, n_classes=3, n_selected=1, n_per_class=1)
    for n_selected in (0, 3):
        with pytest.raises(InvalidFeaturesError, match=f"n_selected is {n_selected}"):
            problem_from_features(GOOD, labels, n_selected=n_selected, n_per_class=1)
    with pytest.raises(InvalidInputError, match="n_per_class is 0"):
        problem_from_features(GOOD, labels, n_selected=1, n_per_class=0)
    with pytest.raises(InvalidProblemError):
        problem_from_features(GOOD, labels, n_selected=1, n_per_class=2)
    with pytest.raises(InvalidInputError, match="bias_scale"):
        problem_from_features(GOOD, labels, n_selected=1, n_per_class=1, bias_scale=-1.0)
    for unusable in (-1.0, np.nan, np.inf):
        with pytest.raises(InvalidInputError, match=f"similarity_scale is {unusable}"):
            problem_from_features(
                GOOD, labels, n_selected=1, n_per_class=1, similarity_scale=unusable
            )


def test_the_similarity_scale_is_the_largest_penalty():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 10)
    features = rng.random((40, 12)) + (labels[:, None] == np.arange(12) % 4)
    sizes = {"n_selected": 5, "n_per_class": 2}
    once, thrice, never = (
        problem_from_features(features, labels, similarity_scale=scale, **sizes)
        for scale in (1.0, 3.0, 0.0)
    )
    assert thrice.feature_similarity.max() == 3.0
    np.testing.assert_allclose(thrice.feature_similarity, 3.0 * once.feature_similarity)
    assert not never.feature_similarity.any()
    for problem in (thrice, never):
        np.testing.assert_array_equal(problem.class_similarity, once.class_similarity)
    statistics = statistics_from_features(features, labels)
    constants = compute_constants(statistics, similarity_scale=0.0, **sizes)
    assert constants.epsilon == np.inf and constants.clique is None


@pytest.mark.parametrize(
    ("locality", "match"),
    [
        ([0.5], "has shape"),
        ([0.5, np.inf], "1 infinite"),
        (np.full((2, 2), 0.5), "locality has shape"),
        (np.full((3, 2), 1.5), "outside"),
        (np.full((3, 2), np.nan), "outside"),
    ],
)
def test_unusable_locality_is_refused(locality, match):
    with pytest.raises(InvalidFeaturesError, match=match):
        problem_from_features(GOOD, [0, 1, 1], locality=locality, n_selected=1, n_per_class=1)


def test_locality_needs_activations():
    with pytest.raises(InvalidFeaturesError, match="apply a ReLU"):
        FeatureStatistics(2, 2).update(-GOOD, [0, 1, 1], np.full((3, 2), 0.5))


def test_failed_calls_leave_the_statistics_unchanged():
    statistics = FeatureStatistics(2, 2)
    statistics.update(GOOD, [0, 1, 1])
    before = pickle.dumps(statistics)
    other = FeatureStatistics(2, 2)
    other.update(GOOD, [0, 1, 1], np.full((3, 2), 0.5))
    with pytest.raises(InvalidFeaturesError, match="some without"):
        statistics.update(GOOD, [0, 1, 1], np.full((3, 2), 0.5))
    with pytest.raises(InvalidFeaturesError, match="some without"):
        statistics.merge(other)
    with pytest.raises(InvalidFeaturesError, match="cannot be merged"):
        statistics.merge(FeatureStatistics(3, 2))
    with pytest.raises(InvalidFeaturesError, match="labels holds 2"):
        statistics.update(GOOD, [0, 1, 2])
    with pytest.raises(InvalidFeaturesError, match="image 4"):  # counted over all batches
        statistics.update([[0.0, 1.0], [np.nan, 0.0]], [0, 1])
    statistics.update(np.empty((0, 2)), [])
    statistics.merge(FeatureStatistics(2, 2))
    assert pickle.dumps(statistics) == before


def test_features_file_round_trip(tmp_path):
    path = tmp_path / "features.npz"
    features, labels = simple_data()
    np.savez(path, features=features.astype(np.float16), labels=labels)
    table = load_features(path)
    assert table.features.dtype == np.float16
    assert np.array_equal(table.labels, labels) and table.locality is None
    np.savez(path, features=features, labels=labels, locality=np.full(12, 0.5))
    assert load_features(path).locality.shape == (12,)


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"features": GOOD}, "lacks labels"),
        ({"X": GOOD}, "lacks features, labels"),
        ({"features": GOOD[0], "labels": [0, 1]}, "do not fit"),
        ({"features": GOOD, "labels": [0, 1]}, "do not fit"),
        ({"features": GOOD, "labels": [0, 1, 1], "locality": [0.5]}, "locality has shape"),
    ],
)
def test_unusable_features_file_is_refused(tmp_path, arrays, match):
    path = tmp_path / "features.npz"
    np.savez(path, **arrays)
    with pytest.raises(InvalidFeaturesError, match=match):
        load_features(path)


def test_missing_or_damaged_features_file_is_refused(tmp_path):
    with pytest.raises(InvalidFeaturesError, match="does not exist"):
        load_features(tmp_path / "none.npz")
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(InvalidFeaturesError, match="is a damaged"):
        load_features(tmp_path / "damaged.npz")


def test_real_features_give_the_shared_instance(data_dir):
    with np.load(data_dir / "grocery" / "features_mobilenetv1_pw12_128px.npz") as archive:
        features, labels = archive["Xtrain"], archive["ytrain"]
    statistics = statistics_from_features(features, labels)
    A = statistics.class_similarity
    varies = statistics.varies
    assert (~varies).sum() == 4
    expected = corrcoef(features[:, varies], labels, 81)
    np.testing.assert_allclose(A[:, varies], expected, atol=1e-12)
    # The instance was made from the features before they were rounded to float16.
    instance = Problem.load(data_dir / "instances" / "grocery_81x1024_raw.npz")
    np.testing.assert_allclose(A / np.abs(A).max(), instance.class_similarity, atol=4e-4)
    np.testing.assert_allclose(feature_similarity(A), instance.feature_similarity, atol=4e-4)


def test_a_feature_that_differs_by_rounding_only_is_constant():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20)
    features = rng.random((40, 3))
    features[:, 1] = 0.1 + 1e-17 * rng.random(40)
    features[::2, 2] = np.nextafter(0.1, 1)
    features[1::2, 2] = 0.1
    features[:, 0] += 1e8  # a large offset is no rounding
    statistics = statistics_from_features(features, labels)
    assert statistics.varies.tolist() == [True, False, False]
