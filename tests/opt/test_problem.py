"""Problem and Assignment: validation, objective, violations, files, hash."""

from __future__ import annotations

import copy
import math
import pickle
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qpm_opt.assignment import Assignment, equal_classes
from qpm_opt.errors import InvalidProblemError, InvalidSolutionError
from qpm_opt.problem import Problem
from tests.conftest import random_problem


def small_problem(**changes) -> Problem:
    arguments = {
        "class_similarity": np.arange(12.0).reshape(3, 4),
        "feature_similarity": np.ones((4, 4)) - np.eye(4),
        "feature_bias": np.array([0.1, 0.2, 0.3, 0.4]),
        "n_selected": 3,
        "n_per_class": 2,
    } | changes
    return Problem(**arguments)


def with_entry(array, index, value):
    array = np.array(array, dtype=float)
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_similarity": with_entry(np.zeros((3, 4)), (1, 2), np.nan)}, r"at \(1, 2\): nan"),
        ({"class_similarity": with_entry(np.zeros((3, 4)), (0, 3), np.inf)}, r"at \(0, 3\): inf"),
        ({"class_similarity": np.zeros(4)}, "1 dimensions"),
        ({"class_similarity": np.zeros((3, 0)), "feature_similarity": np.zeros((0, 0))}, "no feat"),
        ({"class_similarity": [["x"] * 4] * 3}, "not an array of numbers"),
        ({"class_similarity": [["1"] * 4] * 3}, "not an array of numbers"),
        ({"class_similarity": np.ones((3, 4), complex)}, "complex128"),
        ({"class_similarity": np.ones((3, 4), "M8[s]")}, "datetime64"),
        ({"class_similarity": [[None] * 4] * 3}, "not an array of numbers"),
        ({"class_similarity": [[1, 2, 3, 4], [1, 2]]}, "not an array of numbers"),
        ({"class_similarity": np.full((3, 4), 1e100)}, r"not below 1e\+100.* \(0, 0\)"),
        (
            {
                "class_similarity": np.full((3, 4), -1e-251),
                "feature_similarity": np.zeros((4, 4)),
                "feature_bias": np.zeros(4),
            },
            "largest magnitude in A, R and b is 1e-251; 1e-250 or more",
        ),
        ({"feature_similarity": np.zeros((3, 3))}, r"shape \(3, 3\).*\(4, 4\) was expected"),
        ({"feature_similarity": with_entry(np.zeros((4, 4)), (0, 1), 1)}, "not symmetric"),
        ({"feature_similarity": np.eye(4)}, "diagonal"),
        ({"feature_bias": np.zeros(3)}, "feature_bias"),
        ({"feature_bias": [0, 0, np.nan, 0]}, "feature_bias"),
        ({"n_selected": 5}, "only 4 features"),
        ({"n_selected": 0}, "at least one feature"),
        ({"n_selected": -1}, "negative"),
        ({"n_selected": 2.5}, "whole number"),
        ({"n_selected": True}, "whole number"),
        ({"n_selected": None}, "whole number"),
        ({"n_per_class": 4}, "between 1 and n_selected = 3"),
        ({"n_per_class": 0}, "between 1 and n_selected = 3"),
        ({"n_per_class": 3}, "only 1 sets of 3 out of 3"),
        ({"candidate": [True, True, False, False]}, "only 2 candidate features"),
        ({"candidate": [1, 1, 1, 1]}, "bool"),
        ({"min_classes_per_feature": 3}, "would need 9 assignments"),
        ({"contrastive_pairs": [[0, 3]]}, "class 3"),
        ({"contrastive_pairs": [[1, 1]]}, "with itself"),
        (
            {"contrastive_pairs": np.array([[0, 2**64 - 1]], np.uint64)},
            "class 18446744073709551615",
        ),
        ({"distinct": "False"}, "distinct is 'False'"),
        ({"distinct": math.nan}, "distinct is nan"),
        ({"distinct": 2}, "distinct is 2"),
        ({"proved": "no"}, "proved is 'no'"),
        ({"best_known": "abc"}, "best_known is 'abc'"),
        ({"best_known": 10**400}, "best_known is too large"),
        ({"contrastive_pairs": [[0.5, 1]]}, "whole numbers"),
        ({"contrastive_pairs": [[0, 1]], "n_per_class": 3, "distinct": False}, "n_per_class <"),
        ({"min_contrastive_pairs": 4}, "at most 3 such pairs"),
        ({"min_contrastive_pairs": -1}, "min_contrastive_pairs"),
        ({"min_contrastive_pairs": 1, "n_per_class": 3, "distinct": False}, "same features"),
        ({"class_similarity": np.zeros((0, 4))}, "give n_per_class=0"),
    ],
)
def test_defect_is_named_in_one_sentence(changes, message):
    with pytest.raises(InvalidProblemError, match=message) as caught:
        small_problem(**changes)
    assert "\n" not in str(caught.value)


def test_problem_is_immutable_and_does_not_alias_its_input():
    A = np.zeros((3, 4))
    problem = small_problem(class_similarity=A)
    A[0, 0] = 7
    assert problem.class_similarity[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        problem.class_similarity[0, 0] = 1


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_are_immutable_too(again):
    problem = again(small_problem(candidate=[True, True, True, False], contrastive_pairs=[[0, 1]]))
    assignment = again(Assignment.from_indices([0, 1, 2], [[0, 1]] * 3, n_features=4))
    arrays = [problem.class_similarity, problem.feature_similarity, problem.bias]
    arrays += [problem.candidates, problem.pairs, assignment.selection, assignment.matrix]
    for array in arrays:
        assert not array.flags.writeable
    assert problem.sha256 == again(problem).sha256


def test_repr_is_short():
    assert repr(small_problem(name="toy")) == (
        "<Problem 'toy': 3 classes, 4 features, n_selected=3, n_per_class=2>"
    )


def test_flags_are_booleans_or_bits():
    assert small_problem(distinct=np.False_).distinct is False
    assert small_problem(proved=np.int64(1)).proved is True


def test_scale_is_the_largest_coefficient():
    zero = {"class_similarity": np.zeros((3, 4)), "feature_similarity": np.zeros((4, 4))}
    assert small_problem().scale == 11.0
    assert small_problem(class_similarity=-np.arange(12.0).reshape(3, 4)).scale == 11.0
    assert small_problem(feature_similarity=20 * (np.eye(4) - 1)).scale == 20.0
    assert small_problem(**zero).scale == 0.4
    assert small_problem(**zero, feature_bias=np.zeros(4)).scale == 1.0
    assert Problem(np.zeros((0, 2)), np.zeros((2, 2)), n_selected=1, n_per_class=0).scale == 1.0


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_objective_is_the_definition(seed):
    problem = random_problem(seed)
    rng = np.random.default_rng(seed)
    s = rng.random(problem.n_features) < 0.5
    W = rng.random((problem.n_classes, problem.n_features)) < 0.5
    parts = problem.objective_parts(Assignment(s, W))
    chosen = np.flatnonzero(s)
    assert parts.assignment == pytest.approx((problem.class_similarity * W).sum(), abs=1e-12)
    penalty = sum(problem.feature_similarity[d, e] for d, e in combinations(chosen, 2))
    assert parts.similarity == pytest.approx(-penalty, abs=1e-12)
    # The full quadratic form counts every pair twice.
    assert parts.similarity == pytest.approx(-(s @ problem.feature_similarity @ s) / 2, abs=1e-12)
    assert parts.bias == pytest.approx(problem.bias @ s, abs=1e-12)
    assert problem.objective(Assignment(s, W)) == pytest.approx(sum(parts), abs=1e-12)


def test_violations_are_named():
    problem = small_problem(candidate=[True, True, True, False], min_classes_per_feature=1)
    good = Assignment.from_indices([0, 1, 2], [[0, 1], [0, 2], [1, 2]], n_features=4)
    assert problem.violations(good) == ()

    def names(selected, classes, which=problem):
        assignment = Assignment.from_indices(selected, classes, n_features=4)
        return [violation.name for violation in which.violations(assignment)]

    assert names([0, 1], [[0, 1], [0], [1]]) == ["selection_size", "class_size", "class_size"]
    assert names([0, 1, 3], [[0, 1], [0, 3], [1, 3]]) == ["candidate"]
    assert names([0, 1, 2], [[0, 1], [0, 1], [1, 2]]) == ["distinct"]
    assert names([0, 1, 2], [[0, 3], [0, 2], [1, 2]]) == ["unselected"]
    loose = small_problem(distinct=False, min_classes_per_feature=1)
    assert names([0, 1, 2], [[0, 1]] * 3, loose) == ["feature_use"]
    paired = small_problem(distinct=False, contrastive_pairs=[[2, 0]])
    assert names([0, 1, 2], [[0, 1], [0, 2], [0, 1]], paired) == ["contrastive_pair"]
    assert names([0, 1, 2], [[0, 1], [0, 2], [1, 2]], paired) == []


def test_unused_features_are_reported():
    problem = small_problem(distinct=False)
    assignment = Assignment.from_indices([0, 1, 3], [[0, 1]] * 3, n_features=4)
    assert problem.unused_features(assignment).tolist() == [3]


def test_assignment_rejects_what_is_no_assignment():
    with pytest.raises(InvalidSolutionError, match="do not fit"):
        Assignment(np.zeros(3, bool), np.zeros((2, 4), bool))
    with pytest.raises(InvalidSolutionError, match="boolean"):
        Assignment(np.array([0.5, 1.0]), np.zeros((1, 2)))
    for indices, message in (
        ([4], "outside"),
        ([-1], "outside"),
        ([1, 1], "twice"),
        ([0.5], "whol"),
    ):
        with pytest.raises(InvalidSolutionError, match=message):
            Assignment.from_indices(indices, [], n_features=4)
    with pytest.raises(InvalidSolutionError, match=r"\(2, 4\)"):
        small_problem().objective(Assignment(np.zeros(4, bool), np.zeros((2, 4), bool)))


def test_equal_classes():
    matrix = np.array([[1, 0], [0, 1], [1, 0], [1, 1], [0, 1], [1, 0]], bool)
    assert equal_classes(matrix) == [[0, 2, 5], [1, 4]]
    assert equal_classes(np.zeros((0, 5), bool)) == []


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_file_round_trip(seed, tmp_path_factory):
    problem = random_problem(seed, name="round trip", best_known=1.25, proved=True)
    path = tmp_path_factory.mktemp("problem") / "p.npz"
    problem.save(path)
    again = Problem.load(path)
    for name in Problem.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again, name), getattr(problem, name))
    assert again.sha256 == problem.sha256


def test_load_accepts_the_three_forms_of_similarity(tmp_path):
    R = np.zeros((4, 4))
    R[1, 3] = R[3, 1] = 0.5
    base = {"A": np.ones((2, 4)), "b": np.zeros(4), "n_selected": 2, "n_per_class": 1}
    sparse = {"R_row": [1], "R_col": [3], "R_val": [0.5]}
    zero = {"R": np.zeros((0, 0)), "R_is_zero": True}
    for arrays, expected in (({"R": R}, R), (sparse, R), (zero, 0 * R)):
        np.savez(tmp_path / "p.npz", **base, **arrays)
        np.testing.assert_array_equal(Problem.load(tmp_path / "p.npz").feature_similarity, expected)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "lacks R"),
        ({"R": np.zeros((4, 4)), "A": None}, "lacks A"),
        ({"R_row": [3], "R_col": [1], "R_val": [0.5]}, "row < col"),
        ({"R_row": [1], "R_col": [9], "R_val": [0.5]}, "row < col"),
        ({"R_row": [1, 1], "R_col": [3, 3], "R_val": [0.5, 0.1]}, "twice"),
        ({"R_row": [1], "R_col": [3], "R_val": [0.5, 0.1]}, "one length"),
        ({"R": np.zeros((4, 4)), "n_selected": [2, 2]}, "not a single value"),
        ({"R": np.array([None] * 4)}, "holds Python objects"),
        ({"R_row": [1], "R_col": [3], "R_val": ["x"]}, "R_val is not an array of numbers"),
        ({"R": np.zeros((4, 4)), "R_is_zero": [True, False]}, "R_is_zero has shape"),
        ({"R": np.zeros((4, 4)), "R_is_zero": "no"}, "R_is_zero is"),
        ({"R": np.zeros((4, 4)), "best_known": "abc"}, "best_known is"),
        ({"R": np.zeros((4, 4)), "distinct": "False"}, "distinct is"),
        ({"R": np.zeros((4, 4)), "distinct": np.nan}, "distinct is"),
        ({"R": np.zeros((4, 4)), "proved": "no"}, "proved is"),
    ],
)
def test_load_names_the_defect(tmp_path, arrays, message):
    base = {"A": np.ones((2, 4)), "b": np.zeros(4), "n_selected": 2, "n_per_class": 1}
    kept = {key: value for key, value in (base | arrays).items() if value is not None}
    np.savez(tmp_path / "p.npz", **kept)
    with pytest.raises(InvalidProblemError, match=message):
        Problem.load(tmp_path / "p.npz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty, not a problem file"),
        (b"not a zip", "is a text file, not a problem file"),
        (b"PK\x03\x04 cut off", "is a damaged .npz file"),
        (None, "does not exist"),
    ],
)
def test_load_of_a_damaged_file(tmp_path, content, message):
    path = tmp_path / "p.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidProblemError, match=message):
        Problem.load(path)


def test_hash_sees_the_mathematics_and_nothing_else():
    problem = small_problem()
    assert small_problem(name="other", best_known=3.0).sha256 == problem.sha256
    assert (
        small_problem(feature_bias=-0.0 * np.ones(4)).sha256
        == small_problem(feature_bias=np.zeros(4)).sha256
    )
    for changes in (
        {"n_selected": 4},
        {"n_per_class": 1},
        {"distinct": False},
        {"candidate": [True, True, True, False]},
        {"min_classes_per_feature": 1},
        {"contrastive_pairs": [[0, 1]]},
        {"min_contrastive_pairs": 1},
        {"feature_bias": np.zeros(4)},
        {"class_similarity": np.zeros((3, 4))},
        {"feature_similarity": np.zeros((4, 4))},
    ):
        assert small_problem(**changes).sha256 != problem.sha256, changes


def test_names_are_text():
    for wrong in ({"name": None}, {"source": 3}):
        with pytest.raises(InvalidProblemError, match="text was expected"):
            small_problem(**wrong)
