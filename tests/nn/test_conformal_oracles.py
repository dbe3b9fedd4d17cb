"""LAC and APS sets against those of MAPIE and crepes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qpm_nn.conformal import aps, calibrate, conformal_quantile, lac, predict_set

ALPHAS = (0.3, 0.2, 0.1, 0.05)
#: crepes keeps classes whose p-value equals alpha, which happens where (n + 1) alpha is a whole
#: number, as here, and covers more than 1 - alpha; a little less confidence excludes them.
LESS = 1 - 1e-9
MISSING = "NOT CHECKED against {}: it is missing (extra dev)"


def make_data(n_images, seed, n_classes=6):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n_images, n_classes)) * 2
    noise = rng.gumbel(size=logits.shape)
    return torch.from_numpy(logits), torch.from_numpy((logits + noise).argmax(1))


LOGITS, LABELS = make_data(199, 0)
NEW, _ = make_data(500, 1)


def mapie_sets(score, random_state=None, **options):
    """Sets for NEW, (n_images, n_classes, n_alphas); the classifier only takes the softmax."""
    mapie = pytest.importorskip(
        "mapie.classification", reason=MISSING.format("MAPIE"), exc_type=ImportError
    )
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Softmax(ClassifierMixin, BaseEstimator):
        def fit(self, X, y):
            self.classes_ = np.arange(X.shape[1])
            return self

        def predict_proba(self, X):
            return torch.from_numpy(X).softmax(1).numpy()

        def predict(self, X):
            return X.argmax(1)

    classifier = mapie.SplitConformalClassifier(
        Softmax().fit(LOGITS.numpy(), None),
        confidence_level=[1 - alpha for alpha in ALPHAS],
        conformity_score=score,
        prefit=True,
        random_state=random_state,
    )
    classifier.conformalize(LOGITS.numpy(), LABELS.numpy())
    return classifier.predict_set(NEW.numpy(), conformity_score_params=options)[1]


def test_lac_sets_are_those_of_mapie():
    expected = mapie_sets("lac")
    for i, alpha in enumerate(ALPHAS):
        calibration = calibrate(LOGITS, LABELS, alpha, method="lac", include_top_1="never")
        assert np.array_equal(predict_set(calibration, NEW).numpy(), expected[:, :, i])


def test_aps_sets_are_those_of_mapie_with_a_randomised_last_label():
    # MAPIE always randomises its scores at calibration: they leave out a share u of the class's own
    # probability, so our share is 1 - u. include_last_label="randomized" does the same with new
    # images and is the rule that we have; True and False decide by the cumulative mass alone, with
    # thresholds that are meant for randomised scores. As its random_state is a number, it draws the
    # same u for calibration points and new images, and we have to follow.
    expected = mapie_sets("aps", random_state=5, include_last_label="randomized")
    shares = [
        torch.from_numpy(1 - np.random.RandomState(5).uniform(size=len(logits)))
        for logits in (LOGITS, NEW)
    ]
    true_class = aps(LOGITS, shares[0]).gather(1, LABELS[:, None])[:, 0]
    for i, alpha in enumerate(ALPHAS):
        sets = aps(NEW, shares[1]) <= conformal_quantile(true_class, alpha)
        assert np.array_equal(sets.numpy(), expected[:, :, i])


@pytest.mark.parametrize("method", ["lac", "aps"])
def test_sets_are_those_of_crepes(method):
    # It takes scores, and so checks order statistic and inequality.
    crepes = pytest.importorskip("crepes", reason=MISSING.format("crepes"), exc_type=ImportError)
    score = {"lac": lac, "aps": aps}[method]
    true_class = score(LOGITS).gather(1, LABELS[:, None])[:, 0]
    classifier = crepes.ConformalClassifier().fit(true_class.numpy())
    for alpha in ALPHAS:
        calibration = calibrate(LOGITS, LABELS, alpha, method=method, include_top_1="never")
        expected = classifier.predict_set(
            score(NEW).numpy(), confidence=LESS - alpha, smoothing=False
        )
        assert np.array_equal(predict_set(calibration, NEW).numpy(), expected == 1)


def test_class_conditional_sets_are_those_of_crepes():
    crepes = pytest.importorskip("crepes", reason=MISSING.format("crepes"), exc_type=ImportError)
    true_class = lac(LOGITS).gather(1, LABELS[:, None])[:, 0]
    classifier = crepes.ConformalClassifier().fit(true_class.numpy(), bins=LABELS.numpy())
    for alpha in ALPHAS:
        calibration = calibrate(
            LOGITS, LABELS, alpha, method="lac", class_conditional=True, include_top_1="never"
        )
        sets = predict_set(calibration, NEW).numpy()
        for c in range(LOGITS.shape[1]):
            expected = classifier.predict_set(
                lac(NEW)[:, [c]].numpy(),
                np.full(len(NEW), c),
                confidence=LESS - alpha,
                smoothing=False,
            )
            assert np.array_equal(sets[:, c], expected[:, 0] == 1)
