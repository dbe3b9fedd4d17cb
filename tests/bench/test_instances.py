"""The generated family of problems and folders of problem files."""

from __future__ import annotations

import numpy as np
import pytest

from qpm_bench.instances import paper_like, read_folder
from qpm_opt import InvalidInputError, InvalidProblemError


@pytest.mark.parametrize("shape", [(1, 5, 2, 1), (10, 40, 8, 3), (60, 120, 20, 4)])
def test_constants_have_the_papers_scale(shape):
    n_classes, n_features, n_selected, n_per_class = shape
    problem = paper_like(n_classes, n_features, n_selected=n_selected, n_per_class=n_per_class)
    assert problem.class_similarity.shape == (n_classes, n_features)
    assert (problem.n_selected, problem.n_per_class) == (n_selected, n_per_class)
    assert problem.distinct
    if n_classes > 1:
        largest = np.abs(problem.class_similarity).max()
        assert largest == pytest.approx(1000 / (n_per_class * n_classes))
        assert problem.feature_similarity.max() == 1.0
    assert problem.feature_similarity.min() == 0.0
    assert np.abs(problem.bias).max() == pytest.approx(10**-0.5)


def test_structure_is_that_of_real_data():
    problem = paper_like(100, 400, n_selected=30)
    pairs = np.count_nonzero(problem.feature_similarity) / (400 * 399)
    assert 0.05 < pairs < 0.5  # real instances: 0.11 and 0.29
    A = problem.class_similarity / problem.class_similarity.max()
    assert A.max(axis=1).min() > 0.25  # every class has a feature of its own kind
    assert (A > 0.3).sum(axis=0).mean() > 2  # and features serve several classes


def test_seed_decides():
    first, again, other = (paper_like(10, 40, n_selected=8, seed=s) for s in (1, 1, 2))
    assert first.sha256 == again.sha256 != other.sha256
    assert first.name != other.name


def test_classes_may_be_generated_in_parts(monkeypatch):
    monkeypatch.setattr("qpm_bench.generators._CLASSES_AT_ONCE", 7)
    assert paper_like(20, 30, n_selected=6, n_per_class=3).n_classes == 20


def test_impossible_sizes_are_refused():
    with pytest.raises(InvalidInputError, match="n_classes is 0"):
        paper_like(0, 10)
    with pytest.raises(InvalidInputError, match="n_selected is 50"):
        paper_like(10, 40)
    with pytest.raises(InvalidProblemError, match="cannot all differ"):
        paper_like(10, 40, n_selected=4, n_per_class=2)


def test_folder_is_read_in_order(tmp_path):
    for name, seed in (("b", 1), ("a", 2)):
        paper_like(5, 12, n_selected=5, n_per_class=2, seed=seed).save(tmp_path / f"{name}.npz")
    (tmp_path / "notes.txt").write_text("not an instance")
    problems = read_folder(tmp_path)
    assert list(problems) == ["a", "b"]
    assert problems["b"].sha256 == paper_like(5, 12, n_selected=5, n_per_class=2, seed=1).sha256


def test_folder_without_problems_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InvalidInputError, match="no folder with instances"):
            read_folder(folder)
    np.savez(tmp_path / "graph.npz", edges=[0])
    with pytest.raises(InvalidProblemError, match="graph"):
        read_folder(tmp_path)


def test_shared_instances_bring_what_is_known(data_dir):
    problems = read_folder(data_dir / "instances")
    assert problems["pmed1"].best_known == -5819.0 and problems["pmed1"].proved
    assert problems["grocery_81x1024"].best_known is None
