"""Files of cover problems: what is written is read again, and anything else is one sentence."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qpm_opt import CoverProblem, InvalidInputError, InvalidProblemError, Problem, solve_cover
from tests.cover_oracle import random_cover


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1))
def test_what_is_written_is_read_again(tmp_path, seed):
    problem = random_cover(seed)
    problem.save(tmp_path / "cover.npz")
    again = CoverProblem.load(tmp_path / "cover.npz")
    np.testing.assert_array_equal(again.separated, problem.separated)
    np.testing.assert_array_equal(again.same, problem.same)
    assert again.separated.shape == problem.separated.shape
    assert again.n_exceptions == problem.n_exceptions
    assert again.count_exceptions is problem.count_exceptions
    assert solve_cover(again).objective == solve_cover(problem).objective


def test_a_problem_that_is_infeasible_is_kept_as_it_is(tmp_path):
    CoverProblem([[False], [False], [True]], [True, False, False], 0).save(tmp_path / "a.npz")
    assert not CoverProblem.load(tmp_path / "a.npz").is_feasible


@pytest.fixture
def arrays(tmp_path):
    rng = np.random.default_rng(0)
    CoverProblem(rng.random((30, 9)) < 0.4, rng.random(30) < 0.5, 20).save(tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz", allow_pickle=False) as archive:
        return dict(archive)


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("format", "qpm-cover/2", "'qpm-cover/2'; 'qpm-cover/1' was expected"),
        ("format", ["qpm-cover/1"], "was expected: save the problem again"),
        ("separated", np.full((2, 2), 0.5), "separated must be boolean"),
        ("separated", np.zeros(4, bool), r"separated has shape \(4,\)"),
        ("same", np.zeros(1000, bool), "one entry for every image"),
        ("same", ["yes"], "same must be boolean"),
        ("same", np.zeros(30, [("a", "f8"), ("b", "f8")]), "same must be boolean .*, not of type"),
        ("separated", np.zeros((30, 9), [("a", "i8")]), "separated must be boolean .*, not of"),
        ("same", np.zeros(30, "datetime64[s]"), "same must be boolean .*, not of type datetime64"),
        ("n_exceptions", -1, "n_exceptions is -1"),
        ("n_exceptions", [3], r"n_exceptions is \[3\]"),
        ("n_exceptions", np.nan, "n_exceptions is nan"),
        ("count_exceptions", 2, "count_exceptions is 2"),
        ("count_exceptions", [True], r"count_exceptions is \[True\]"),
    ],
)
def test_bad_content_is_refused(tmp_path, arrays, name, value, match):
    path = tmp_path / "bad.npz"
    np.savez(path, **(arrays | {name: np.asarray(value)}))
    with pytest.raises(InvalidProblemError, match=match) as caught:
        CoverProblem.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "lacking", ["format", "separated", "same", "n_exceptions", "count_exceptions"]
)
def test_lacking_arrays_are_named(tmp_path, arrays, lacking):
    del arrays[lacking]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InvalidProblemError, match=f"lacks {lacking}; give an .npz file that Cover"):
        CoverProblem.load(tmp_path / "a.npz")


def test_other_files_are_refused(tmp_path, arrays):
    with pytest.raises(InvalidProblemError, match="does not exist"):
        CoverProblem.load(tmp_path / "missing.npz")
    with pytest.raises(InvalidProblemError, match="is a folder, not a file of a cover problem"):
        CoverProblem.load(tmp_path)
    Problem(np.eye(2), np.zeros((2, 2)), n_selected=2, n_per_class=1).save(tmp_path / "p.npz")
    with pytest.raises(InvalidProblemError, match="is a problem file, not a file of a cover"):
        CoverProblem.load(tmp_path / "p.npz")
    with pytest.raises(InvalidProblemError, match="is a file of a cover problem, not a problem"):
        Problem.load(tmp_path / "good.npz")


class Trap:
    """Would write a file if it were read back as a Python object."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_objects_are_never_read(tmp_path, arrays):
    sprung = tmp_path / "sprung"
    trap = np.empty((), object)
    trap[()] = Trap(str(sprung))
    np.savez(tmp_path / "a.npz", **(arrays | {"same": trap}))
    with pytest.raises(InvalidProblemError, match="holds Python objects"):
        CoverProblem.load(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Trap(str(sprung))))
    with pytest.raises(InvalidProblemError, match="not a file of a cover problem"):
        CoverProblem.load(tmp_path / "b.npz")
    assert not sprung.exists()


def test_damaged_files_are_one_sentence(tmp_path, arrays):
    whole = (tmp_path / "good.npz").read_bytes()
    generator = random.Random(0)
    path = tmp_path / "damaged.npz"
    n_refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(generator.randint(1, 5)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        path.write_bytes(damaged[: generator.choice([None, generator.randrange(len(damaged))])])
        try:
            CoverProblem.load(path)
        except InvalidInputError as failure:
            n_refused += 1
            assert "\n" not in str(failure) and str(path) in str(failure)
    assert n_refused > 100


def test_a_failed_write_leaves_the_old_file(tmp_path, arrays, monkeypatch):
    def fail(*_, **__):
        raise OSError("no space")

    before = (tmp_path / "good.npz").read_bytes()
    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="no space"):
        random_cover(4).save(tmp_path / "good.npz")
    assert (tmp_path / "good.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["good.npz"]
