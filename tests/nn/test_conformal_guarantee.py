"""The guarantee: in every pool of n + 1 points at least m are covered by the n others.

That is the deterministic core of the theorem, and it must fail for rules without guarantee.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from qpm_nn.conformal import (
    DepthRule,
    aps,
    calibrate,
    conformal_quantile,
    hierarchical_threshold,
    lac,
    order_statistic,
    predict_set,
    raps,
    saps,
)
from qpm_nn.conformal.calibration import LEVEL_SHARE
from qpm_nn.conformal.scores import HIERARCHIES
from tests.nn.feature_tables import ASSIGNMENT

ALPHAS = st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9])
METHODS = ("hierarchical", "chiqpm", "lac", "aps", "raps", "saps")


@st.composite
def pools(draw):
    """Features on a coarse grid, so that scores tie, logits and labels of 2 to 12 points."""
    n_points = draw(st.integers(2, 12))
    grid = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0, 2.0])
    features = torch.from_numpy(draw(hnp.arrays(float, (n_points, 5), elements=grid)))
    logits = features.clamp_min(0) @ ASSIGNMENT.double().T
    labels = draw(hnp.arrays(np.int64, n_points, elements=st.integers(0, 3)))
    if draw(st.booleans()):
        # Mostly right, so that levels above 0 are chosen.
        right = draw(hnp.arrays(bool, n_points, elements=st.sampled_from([True, True, False])))
        labels = np.where(right, logits.argmax(1), labels)
    return features, logits, torch.from_numpy(labels)


def covered_by_the_others(pool, alpha, method, changed=lambda calibration: calibration, **options):
    """Which points are in their set if all others are the calibration points."""
    features, logits, labels = pool
    n_points = len(labels)
    found = []
    for i in range(n_points):
        rest = torch.arange(n_points) != i
        calibration = calibrate(
            logits[rest],
            labels[rest],
            alpha,
            method=method,
            features=features[rest],
            assignment=ASSIGNMENT,
            include_top_1="never",
            **options,
        )
        sets = predict_set(
            changed(calibration), logits[[i]], features=features[[i]], assignment=ASSIGNMENT
        )
        found.append(bool(sets[0, labels[i]]))
    return torch.tensor(found)


@pytest.mark.parametrize("method", METHODS)
@given(pools(), ALPHAS)
@settings(max_examples=50, deadline=None)
def test_every_pool_covers_at_least_m_of_its_points(method, pool, alpha):
    covered = covered_by_the_others(pool, alpha, method)
    assert covered.sum() >= order_statistic(len(covered) - 1, alpha)


@pytest.mark.parametrize("method", METHODS)
@given(pools(), ALPHAS)
@settings(max_examples=25, deadline=None)
def test_every_class_of_a_pool_has_its_share_covered(method, pool, alpha):
    covered = covered_by_the_others(pool, alpha, method, class_conditional=True)
    for c in range(4):
        own = covered[pool[2] == c]
        if len(own):
            assert own.sum() >= order_statistic(len(own) - 1, alpha)


@given(pools(), ALPHAS, st.data())
@settings(max_examples=50, deadline=None)
def test_randomised_scores_cover_as_many(pool, alpha, data):
    _, logits, labels = pool
    n_points = len(labels)
    uniforms = torch.from_numpy(data.draw(hnp.arrays(float, n_points, elements=st.floats(0, 1))))
    for score in (aps, raps, saps):
        true_class = score(logits, uniforms)[torch.arange(n_points), labels]
        covered = sum(
            float(true_class[i])
            <= conformal_quantile(true_class[torch.arange(n_points) != i], alpha)
            for i in range(n_points)
        )
        assert covered >= order_statistic(n_points - 1, alpha)


# Rules on depths and scores of the true class: from the calibration points to "is it covered".


def proven(depth, scores, alpha):
    levels, thresholds = hierarchical_threshold(depth, scores, alpha)
    return lambda d, s: s[levels[d]] <= thresholds[d]


def with_a_share(depth, scores, alpha):
    levels, thresholds = hierarchical_threshold(depth, scores, alpha, 0.5)
    return lambda d, s: s[levels[d]] <= thresholds[d]


def one_level(depth, scores, alpha):
    """Without counting for one point more."""
    levels, thresholds = hierarchical_threshold(depth, scores, alpha)
    return lambda d, s: s[levels[0]] <= thresholds[0]


def one_level_with_a_share(depth, scores, alpha):
    levels, thresholds = hierarchical_threshold(depth, scores, alpha, 0.5)
    return lambda d, s: s[levels[0]] <= thresholds[0]


def strict_inequality(depth, scores, alpha):
    levels, thresholds = hierarchical_threshold(depth, scores, alpha)
    return lambda d, s: s[levels[d]] < thresholds[d]


def level_by_fraction(depth, scores, alpha):
    """The published choice of the level, and 0 for the score of classes outside of it."""
    share = (depth[:, None] >= torch.arange(scores.shape[1])).double().mean(0)
    level = int((share >= 1 - alpha).sum()) - 1
    threshold = conformal_quantile(scores[:, level].clamp_max(0), alpha)
    return lambda d, s: s[level] <= threshold


def published(depth, scores, alpha):
    """That, an interpolated quantile and a strict inequality."""
    share = (depth[:, None] >= torch.arange(scores.shape[1])).double().mean(0)
    level = int((share >= 1 - alpha).sum()) - 1
    rank = min(1.0, (len(depth) + 1) * (1 - alpha) / len(depth))
    threshold = scores[:, level].clamp_max(0).quantile(rank)
    return lambda d, s: s[level].clamp_max(0) < threshold


def random_pool(seed, n_points=12, n_levels=4):
    """Depths and scores of the true classes, all finite scores of a level different."""
    rng = np.random.default_rng(seed)
    depth = torch.from_numpy(rng.choice(n_levels, n_points, p=[0.1, 0.1, 0.2, 0.6]))
    scores = -torch.from_numpy(rng.random((n_points, n_levels)))
    levels = torch.arange(n_levels)
    return depth, scores.masked_fill(depth[:, None] < levels, torch.inf)


def pool_with_ties(seed):
    """At the last level there is only the prediction, whose score is 0."""
    depth, scores = random_pool(seed)
    scores[depth == 3, 3] = 0
    return depth, scores


def surplus(rule, depth, scores, alpha):
    """Points that are covered by the others, less m."""
    n_points = len(depth)
    covered = 0
    for i in range(n_points):
        rest = torch.arange(n_points) != i
        covered += bool(rule(depth[rest], scores[rest], alpha)(depth[i], scores[i]))
    return covered - order_statistic(n_points - 1, alpha)


@pytest.mark.parametrize("rule", [proven, with_a_share])
@pytest.mark.parametrize("alpha", [0.2, 0.3, 0.5])
def test_without_ties_exactly_m_are_covered(rule, alpha):
    for seed in range(60):
        assert surplus(rule, *random_pool(seed), alpha) == 0


@pytest.mark.parametrize(
    "rule", [one_level, one_level_with_a_share, strict_inequality, level_by_fraction, published]
)
def test_other_rules_break_the_guarantee(rule):
    assert min(surplus(rule, *pool_with_ties(seed), 0.3) for seed in range(60)) < 0


@pytest.mark.parametrize("rule", [proven, with_a_share])
@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.5, 0.7])
def test_the_rule_keeps_the_guarantee(rule, alpha):
    assert min(surplus(rule, *pool_with_ties(seed), alpha) for seed in range(60)) >= 0


def only_level_of_most(calibration):
    (rule,) = calibration.rules
    constant = DepthRule(rule.levels[:1] * 4, rule.thresholds[:1] * 4)
    return replace(calibration, rules=(constant,))


def lower_threshold(calibration):
    (rule,) = calibration.rules
    lower = rule._replace(thresholds=tuple(t - 1e-12 for t in rule.thresholds))
    return replace(calibration, rules=(lower,))


@pytest.mark.parametrize("changed", [only_level_of_most, lower_threshold])
@pytest.mark.parametrize("method", ["hierarchical", "chiqpm"])
def test_changed_rules_break_the_guarantee_end_to_end(method, changed):
    generator = torch.Generator().manual_seed(1)
    shortfall = 0
    for _ in range(15):
        features = torch.randn(10, 5, generator=generator, dtype=torch.double)
        logits = features.clamp_min(0) @ ASSIGNMENT.double().T
        labels = (logits + torch.randn(10, 4, generator=generator)).argmax(1)
        covered = covered_by_the_others((features, logits, labels), 0.3, method, changed).sum()
        shortfall = min(shortfall, int(covered) - order_statistic(9, 0.3))
    assert shortfall < 0


# Simulation: images whose class has higher features.

N_CLASSES, N_SELECTED, N_PER_CLASS, N_IMAGES, N_SPLITS = 30, 16, 5, 20_000, 200


class Simulation:
    """Scores of true classes; the features of a class are ``signal`` higher in its images."""

    def __init__(self, signal: float) -> None:
        rng = np.random.default_rng(0)
        possible = np.array(list(combinations(range(N_SELECTED), N_PER_CLASS)))
        own = rng.choice(possible, N_CLASSES, replace=False)
        self.assignment = torch.zeros(N_CLASSES, N_SELECTED, dtype=torch.bool)
        self.assignment.scatter_(1, torch.from_numpy(own), True)
        self.labels = torch.from_numpy(rng.integers(N_CLASSES, size=N_IMAGES))
        noise = torch.from_numpy(rng.normal(size=(N_IMAGES, N_SELECTED)))
        self.features = (noise + signal * self.assignment[self.labels]).clamp_min(0)
        self.logits = self.features @ self.assignment.double().T
        self.correct = self.logits.argmax(1) == self.labels
        self.hierarchies = {
            name: terms(self.features, self.assignment, self.logits.argmax(1)).scores_at_all_levels(
                self.labels
            )
            for name, terms in HIERARCHIES.items()
        }

    def coverages(self, method, n_calibration, alpha):
        """Coverage of all other images, for many random choices of the calibration points."""
        rng = np.random.default_rng(n_calibration)
        found = []
        for _ in range(N_SPLITS):
            chosen = torch.from_numpy(rng.choice(N_IMAGES, n_calibration, replace=False))
            if method in self.hierarchies:
                depth, scores = self.hierarchies[method]
                rule = hierarchical_threshold(
                    depth[chosen], scores[chosen], alpha, LEVEL_SHARE[method]
                )
                level = torch.tensor(rule.levels)[depth]
                score = scores.gather(1, level[:, None]).squeeze(1)
                covered = score <= torch.tensor(rule.thresholds, dtype=score.dtype)[depth]
            else:
                covered = self.true_class(method)
                covered = covered <= conformal_quantile(covered[chosen], alpha)
            covered[chosen] = False
            found.append(int(covered.sum()) / (N_IMAGES - n_calibration))
        return np.array(found)

    @cache  # noqa: B019  the two simulations live as long as the tests
    def true_class(self, method):
        part = torch.from_numpy(np.random.default_rng(1).random(N_IMAGES))
        scores = lac(self.logits) if method == "lac" else aps(self.logits, part)
        return scores[torch.arange(N_IMAGES), self.labels]


@pytest.fixture(scope="module")
def simulation():
    return Simulation(2.0)


@pytest.fixture(scope="module")
def easy():
    return Simulation(3.5)


@pytest.mark.parametrize("target", [0.88, 0.9, 0.925, 0.95])
@pytest.mark.parametrize("n_calibration", [50, 100, 400])
@pytest.mark.parametrize("method", ["hierarchical", "chiqpm", "lac", "aps"])
def test_coverage_over_many_splits(simulation, method, n_calibration, target):
    found = simulation.coverages(method, n_calibration, 1 - target)
    assert found.mean() >= target - 3 * found.std() / np.sqrt(N_SPLITS)
    m = order_statistic(n_calibration, 1 - target)
    beta = stats.beta(m, n_calibration + 1 - m)
    if method in HIERARCHIES:
        # A choice of one of six such values, see hierarchical_threshold.
        for share in (0.01, 0.05, 0.1):
            bound = (N_PER_CLASS + 1) * share
            allowed = bound + 3 * np.sqrt(bound * (1 - min(bound, 1.0)) / N_SPLITS)
            assert (found < beta.ppf(share)).mean() <= allowed
    else:
        # One-sided Kolmogorov-Smirnov test; coverage may be above that distribution, not below.
        assert stats.kstest(found, beta.cdf, alternative="greater").pvalue > 1e-3


def test_images_that_are_easier_than_the_target_have_sets_of_one_class(easy):
    assert easy.correct.double().mean() > 0.99
    data = {"features": easy.features[:400], "assignment": easy.assignment}
    new = {"features": easy.features[400:2000], "assignment": easy.assignment}
    for alpha in (0.12, 0.1, 0.05):
        calibration = calibrate(
            easy.logits[:400], easy.labels[:400], alpha, include_top_1="never", **data
        )
        sets = predict_set(calibration, easy.logits[400:2000], **new)
        n_depths = N_PER_CLASS + 1
        assert calibration.rules == (DepthRule((N_PER_CLASS,) * n_depths, (0.0,) * n_depths),)
        assert (sets.sum(1) == 1).all()
        assert torch.equal(sets[torch.arange(1600), easy.labels[400:2000]], easy.correct[400:2000])
