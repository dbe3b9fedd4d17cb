"""The scikit-learn classifier: the conventions, the optimum, the logits and what it says."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from qpm_nn import AssignmentHead, QPMClassifier, estimator
from qpm_nn.class_sets import SimilarClass
from qpm_opt import (
    Assignment,
    InvalidInputError,
    Problem,
    SolverError,
    TerminationCondition,
    solve,
)
from tests.oracle import optimum

README = Path(__file__).parents[2] / "README.md"


def samples(n_classes=4, n_samples=60, n_features=7, seed=0):
    """Features of which the first are high for a class each, and labels; every class occurs."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n_samples) % n_classes)
    X = rng.normal(size=(n_samples, n_features)) + 2 * np.eye(n_classes, n_features)[y]
    return X * rng.uniform(0.1, 10, n_features) + rng.normal(size=n_features), y


def fitted(n_selected=4, n_per_class=2, **options):
    X, y = samples()
    return QPMClassifier(n_selected, n_per_class, **options).fit(X, y), X, y


# Most checks have fewer than 50 features.
@pytest.mark.filterwarnings("ignore:n_selected=50 is more than")
@parametrize_with_checks([QPMClassifier()])
def test_conventions(estimator, check):
    check(estimator)


@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_objective_is_that_of_brute_force(n_classes, seed):
    X, y = samples(n_classes, seed=seed)
    locality = np.random.default_rng(seed).random(7) if seed else None
    problem = Problem.from_features(X, y, n_selected=4, n_per_class=2, locality=locality)
    classifier = QPMClassifier(4, 2, locality=locality, time_limit=None).fit(X, y)
    held = Assignment(classifier.selection_, classifier.assignment_)
    assert not problem.violations(held)
    assert problem.objective(held) == classifier.objective_
    assert classifier.objective_ == pytest.approx(optimum(problem), rel=1e-6)
    assert classifier.bound_ >= optimum(problem) - 1e-9
    assert classifier.solution_status_ == "optimal"
    assert classifier.relative_gap_ < 1e-6


def test_heuristic_has_no_bound():
    classifier, _, _ = fitted(method="heuristic", time_limit=0.1)
    assert classifier.bound_ is None
    assert classifier.relative_gap_ is None
    assert classifier.solution_status_ == "feasible"


def test_logits_are_sums_of_standardised_features():
    classifier, X, _ = fitted()
    Z = StandardScaler().fit_transform(X)
    logits = np.array(
        [[sum(row[d] for d in np.flatnonzero(own)) for own in classifier.assignment_] for row in Z]
    )
    np.testing.assert_allclose(classifier.decision_function(X), logits, atol=1e-12)
    np.testing.assert_array_equal(classifier.predict(X), logits.argmax(axis=1))
    exponents = np.exp(logits)
    expected = exponents / exponents.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(classifier.predict_proba(X), expected, atol=1e-12)


def test_logits_are_those_of_the_assignment_head():
    classifier, X, _ = fitted()
    assignment = Assignment(classifier.selection_, classifier.assignment_)
    head = AssignmentHead.from_assignment(assignment, classifier.mean_, classifier.scale_).eval()
    logits = head(torch.tensor(X, dtype=torch.float32)[:, :, None, None]).logits
    np.testing.assert_allclose(classifier.decision_function(X), logits, atol=1e-4)


def test_log_probabilities_stay_finite():
    classifier, X, _ = fitted()
    far = 1e4 * X
    assert (classifier.predict_proba(far) == 0).any()
    assert np.isfinite(classifier.predict_log_proba(far)).all()


def test_class_means_are_those_of_the_standardised_features():
    X, y = samples(3, 50)  # classes of 17, 17 and 16
    classifier = QPMClassifier(4, 2).fit(X, y)
    Z = StandardScaler().fit_transform(X)
    expected = [Z[y == c].mean(axis=0) for c in range(3)]
    np.testing.assert_allclose(classifier.class_means_, expected, atol=1e-12)


def test_order_of_the_samples_does_not_matter():
    classifier, X, y = fitted()
    order = np.random.default_rng(1).permutation(len(y))
    other = clone(classifier).fit(X[order], y[order])
    np.testing.assert_array_equal(other.assignment_, classifier.assignment_)
    assert other.objective_ == pytest.approx(classifier.objective_)


@pytest.mark.parametrize("labels", [list("dabc"), [0.0, 3.0, 1.0, 2.0], [10, -3, 7, 0]])
def test_labels_of_any_kind(labels):
    X, y = samples()
    names = np.array(labels)[y]
    classifier = QPMClassifier(4, 2).fit(X, names)
    assert classifier.classes_.tolist() == sorted(labels)
    numbered = QPMClassifier(4, 2).fit(X, np.searchsorted(sorted(labels), names))
    np.testing.assert_array_equal(
        classifier.predict(X), np.array(sorted(labels))[numbered.predict(X)]
    )
    explanation = classifier.explain(labels[0])
    assert explanation.label == labels[0]
    own = classifier.assignment_[sorted(labels).index(labels[0])]
    assert [f.index for f in explanation.features] == np.flatnonzero(own).tolist()


# What the parameters ask for and what the data have.


def test_too_few_features_are_all_selected_with_a_warning():
    X, y = samples()
    with pytest.warns(UserWarning, match="7 are selected and 5 assigned to each class"):
        classifier = QPMClassifier().fit(X, y)
    assert classifier.selection_.all()
    assert (classifier.assignment_.sum(axis=1) == 5).all()


def test_sets_shrink_until_there_are_enough_of_them():
    X, y = samples(4, n_features=5)
    with pytest.warns(UserWarning, match="5 are selected and 4 assigned"):
        classifier = QPMClassifier(50, 5).fit(X, y)  # one set of five, five of four
    assert (classifier.assignment_.sum(axis=1) == 4).all()
    assert len(np.unique(classifier.assignment_, axis=0)) == 4


def test_classes_share_a_set_if_there_are_too_few_of_any_size():
    X, y = samples(4, n_features=2)
    with pytest.warns(UserWarning, match="some of the 4 classes have the same"):
        classifier = QPMClassifier().fit(X, y)
    assert (classifier.assignment_.sum(axis=1) == 1).all()
    assert len(np.unique(classifier.assignment_, axis=0)) == 2


def test_enough_features_give_no_warning():
    X, y = samples()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        QPMClassifier(7, 3).fit(X, y)


def test_constant_features_are_never_selected():
    X, y = samples()
    X = np.insert(X, [0, 3, 7], 0.3, axis=1)
    with pytest.warns(UserWarning, match="the 7 of 10 features that vary"):
        classifier = QPMClassifier(10, 2).fit(X, y)
    assert np.flatnonzero(~classifier.selection_).tolist() == [0, 4, 9]
    assert np.isfinite(classifier.predict_log_proba(X + 1)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_selected": 3}, "n_per_class is 5; it must lie between 1 and n_selected = 3"),
        ({"n_selected": 5}, "only 1 sets of n_per_class=5 out of n_selected=5.*raise n_selected"),
        ({"n_selected": 0}, "n_selected is 0"),
        ({"n_per_class": 2.5}, "n_per_class is 2.5"),
        ({"n_per_class": True}, "n_per_class is True"),
        ({"n_selected": 6, "method": "exakt"}, "did you mean exact"),
        ({"n_selected": 6, "solver": "gurobi"}, "the method exact needs none"),
        ({"n_selected": 6, "time_limit": -1}, "time_limit is -1"),
        ({"n_selected": 6, "random_state": -1}, "seed is -1"),
        ({"n_selected": 6, "locality": [1.0, 2.0]}, r"locality has shape \(2,\)"),
    ],
)
def test_unusable_parameters(options, message):
    X, y = samples()
    with pytest.raises(InvalidInputError, match=message):
        QPMClassifier(**options).fit(X, y)


def test_unusable_data():
    X, y = samples()
    with pytest.raises(InvalidInputError, match="only one class, 0;"):
        QPMClassifier().fit(X, 0 * y)
    with pytest.raises(InvalidInputError, match="None of the n_features=7"):
        QPMClassifier().fit(np.ones_like(X), y)
    with pytest.raises(ValueError, match="continuous"):
        QPMClassifier().fit(X, y + 0.5)


def test_locality_steers_the_selection():
    plain, X, y = fitted()
    disliked = np.flatnonzero(plain.selection_)[0]
    locality = np.where(np.arange(7) == disliked, 0.0, 1.0)
    steered = QPMClassifier(4, 2, locality=locality, bias_scale=1e4).fit(X, y)
    assert not steered.selection_[disliked]
    switched_off = QPMClassifier(4, 2, locality=locality, bias_scale=0.0).fit(X, y)
    np.testing.assert_array_equal(switched_off.selection_, plain.selection_)


def test_seed_and_options_go_to_the_solve(monkeypatch):
    seen = []
    monkeypatch.setattr(estimator, "solve", lambda p, **kw: seen.append(kw) or solve(p, **kw))
    fitted(random_state=12, time_limit=7.0, threads=2)
    assert seen[0]["seed"] == 12
    assert (seen[0]["time_limit"], seen[0]["threads"]) == (7.0, 2)
    state = np.random.RandomState(3)
    fitted(random_state=state)
    fitted(random_state=state)
    assert seen[1]["seed"] != seen[2]["seed"]


def test_interrupted_fit_ends_the_search_it_is_part_of(monkeypatch):
    def interrupted(problem, **options):
        result = solve(problem, **options)
        return replace(result, termination_condition=TerminationCondition.INTERRUPTED)

    monkeypatch.setattr(estimator, "solve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fitted()


def test_no_assignment_is_an_error(monkeypatch):
    monkeypatch.setattr(
        estimator, "solve", lambda p, **kw: replace(solve(p, **kw), assignment=None)
    )
    with pytest.raises(SolverError, match="raise time_limit, which is 60"):
        fitted()


# What it says.


def by_hand():
    """A classifier of three classes whose sets are known: features 0 1, 0 2 and 3 4."""
    sets = [[0, 1], [0, 2], [3, 4]]
    y = np.arange(30) % 3
    X = np.random.default_rng(0).normal(size=(30, 6))
    for c, features in enumerate(sets):
        X[np.ix_(y == c, features)] += 9
    return X, np.array(["cat", "dog", "owl"])[y]


def test_explanation():
    classifier = QPMClassifier(5, 2).fit(*by_hand())
    cat = classifier.explain("cat")
    assert cat.label == "cat"
    assert [(f.index, f.name, f.also_of) for f in cat.features] == [
        (0, "x0", ("dog",)),
        (1, "x1", ()),
    ]
    assert [f.mean for f in cat.features] == classifier.class_means_[0, :2].tolist()
    assert cat.similar == (SimilarClass("dog", own="x1", theirs="x2"),)
    assert classifier.explain("owl").similar == ()
    assert str(cat).splitlines() == [
        "class cat = features x0, x1; class dog has x2 instead of x1",
        "  feature  class mean  also of classes",
        f"  x0       {cat.features[0].mean:+10.2f}  dog",
        f"  x1       {cat.features[1].mean:+10.2f}",
        "  class dog has x2 instead of x1",
    ]


def test_similar_classes_are_all_that_differ_in_one_feature():
    classifier, _, _ = fitted(5, 3)
    W = [set(np.flatnonzero(row)) for row in classifier.assignment_]
    expected = {(c, e) for c, e in combinations(range(4), 2) if len(W[c] & W[e]) == 2}
    found = {(c, o.label) for c in range(4) for o in classifier.explain(c).similar if c < o.label}
    assert found == expected
    assert expected


@pytest.mark.parametrize("label", ["kat", 7, ["cat"]])
def test_explanation_of_an_unknown_class(label):
    classifier = QPMClassifier(5, 2).fit(*by_hand())
    with pytest.raises(InvalidInputError, match=r"There is no class.*known are cat, dog, owl"):
        classifier.explain(label)


def test_names_of_columns():
    pandas = pytest.importorskip("pandas")
    X, y = by_hand()
    names = ["tail", "fur", "bark", "wings", "beak", "noise"]
    table = pandas.DataFrame(X, columns=names)
    classifier = QPMClassifier(5, 2).fit(table, y)
    assert classifier.feature_names_in_.tolist() == names
    assert classifier.get_feature_names_out().tolist() == names[:5]
    assert [f.name for f in classifier.explain("owl").features] == ["wings", "beak"]
    selected = classifier.set_output(transform="pandas").transform(table)
    assert selected.columns.tolist() == names[:5]
    with pytest.raises(ValueError, match="feature names should match"):
        classifier.predict(table[names[::-1]])


# What scikit-learn does with it.


def test_selector_in_a_pipeline():
    X, y = samples()
    pipeline = make_pipeline(StandardScaler(), QPMClassifier(4, 2), LogisticRegression())
    assert pipeline.fit(X, y).score(X, y) > 0.7
    support = pipeline[1].get_support(indices=True)
    np.testing.assert_array_equal(support, np.flatnonzero(pipeline[1].selection_))
    np.testing.assert_array_equal(pipeline[:2].transform(X), pipeline[0].transform(X)[:, support])


def test_grid_search_over_a_pipeline():
    X, y = samples()
    pipeline = make_pipeline(StandardScaler(), QPMClassifier(4))
    grid = {"qpmclassifier__n_selected": [4, 5], "qpmclassifier__n_per_class": [2, 3]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_[-1]
    assert best.selection_.sum() == search.best_params_["qpmclassifier__n_selected"]


@pytest.mark.parametrize("method", ["exact", "compact"])  # compact starts processes of its own
def test_cross_validation_in_two_processes(method):
    X, y = samples()
    classifier = QPMClassifier(4, 2, method=method, time_limit=None)
    alone = cross_val_score(classifier, X, y, cv=2, error_score="raise")
    both = cross_val_score(classifier, X, y, cv=2, n_jobs=2, error_score="raise")
    np.testing.assert_array_equal(alone, both)


def test_pickle_keeps_everything():
    classifier, X, _ = fitted()
    restored = pickle.loads(pickle.dumps(classifier))
    assert vars(restored).keys() == vars(classifier).keys()
    np.testing.assert_array_equal(restored.predict_proba(X), classifier.predict_proba(X))
    assert str(restored.explain(2)) == str(classifier.explain(2))
    assert restored.bound_ == classifier.bound_


def test_readme_example():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = (block for block in blocks if "import QPMClassifier" in block)
    names: dict = {}
    exec(example, names)
    classifier = names["classifier"]
    assert classifier.selection_.sum() == 8
    # Ten classes by the sums of three raw pixels each; guessing gives 0.1.
    assert classifier.score(names["X_test"], names["y_test"]) > 0.5


# What it needs.


def output_of(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_it_needs_no_torch():
    code = (
        "import sys\n"
        "from qpm_nn import QPMClassifier\n"
        "from sklearn.datasets import load_iris\n"
        "X, y = load_iris(return_X_y=True)\n"
        "classifier = QPMClassifier(3, 1).fit(X, y)\n"
        "classifier.predict_proba(X), str(classifier.explain(0))\n"
        "print({'torch', 'matplotlib'} & set(sys.modules))"
    )
    assert output_of(code) == "set()"


def test_without_scikit_learn_a_sentence_names_the_extra():
    code = (
        "import sys\n"
        "sys.modules['sklearn'] = None\n"
        "import qpm_nn, qpm_opt\n"
        "try:\n"
        "    qpm_nn.QPMClassifier\n"
        "except qpm_opt.InvalidInputError as error:\n"
        "    print(error)"
    )
    assert "install the extra: pip install '.[nn]'" in output_of(code)
