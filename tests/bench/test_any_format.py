"""Folders with files of any format, and single files of which the format is not obvious."""

from __future__ import annotations

import numpy as np
import pytest

from qpm_bench.formats import write_qplib
from qpm_bench.formats.any_format import NotAnInstance
from qpm_bench.instances import instance, read_folder, read_instance
from qpm_opt import InvalidFeaturesError, InvalidInputError, InvalidProblemError
from tests import oracle

# Three vertices in a row, p = 1: the median is the middle one, the cost 4 + 5.
P_MEDIAN = "3 2 1\n1 2 4\n2 3 5\n"
# A triangle with a pendant vertex; k = 3.
K_CLUSTER = "4 3 4\n1 2 0.5\n2 3 0.5\n1 3 0.5\n3 4 0.5\n"
DIVERSITY = "3 2\n0 1 1.5\n0 2 2\n1 2 0.5\n"
OPB = "* #variable= 2 #constraint= 1\nmin: +1 x1 +3 x2 ;\n+1 x1 +1 x2 = 1 ;\n"


@pytest.fixture
def mixed(tmp_path):
    """A folder with one instance of every format and what may lie beside them."""
    instance("tiny_plain").save(tmp_path / "a.npz")
    rng = np.random.default_rng(0)
    features = {"features": rng.random((30, 9)), "labels": np.arange(30) % 3}
    np.savez(tmp_path / "b.npz", **features)
    np.savez(tmp_path / "c.npz", **features, locality=rng.random(9))
    (tmp_path / "d.txt").write_text("\n" + P_MEDIAN)
    (tmp_path / "e.dat").write_text(K_CLUSTER)
    (tmp_path / "f").write_text(DIVERSITY)
    write_qplib(instance("tiny_selection"), tmp_path / "g.qplib")
    (tmp_path / "h.opb").write_text(OPB)
    (tmp_path / "README.md").write_text("about these files\n")
    (tmp_path / "LICENSE").write_text("3 may do\n")
    (tmp_path / "graph.clq").write_text("p edge 2 1\ne 1 2\n")
    (tmp_path / "picture").write_bytes(b"\x89PNG\x00\xff")
    (tmp_path / "inner").mkdir()
    return tmp_path


def test_formats_may_be_mixed(mixed, caplog):
    problems = read_folder(mixed, n_selected=4, n_per_class=2)
    assert list(problems) == list("abcdefgh")
    assert problems["a"].best_known == instance("tiny_plain").best_known
    for name in "bc":
        assert (problems[name].n_selected, problems[name].n_per_class) == (4, 2)
        assert problems[name].class_similarity.shape == (3, 9)
    assert problems["c"].bias.any() and not problems["b"].bias.any()
    found = [oracle.optimum(problems[name]) for name in "defh"]
    assert found == [-9.0, 3.0, 2.0, -1.0]
    selection = instance("tiny_selection")
    assert problems["g"].sha256 == selection.sha256
    assert (problems["g"].best_known, problems["g"].proved) == (selection.best_known, True)
    for name in ("README.md", "LICENSE", "graph.clq", "picture"):
        assert name in caplog.text
    assert "inner" not in caplog.text


def test_features_need_sizes_that_they_allow(mixed):
    with pytest.raises(InvalidFeaturesError, match="n_selected is 50, but 9 of the 9 features"):
        read_instance(mixed / "b.npz")


def test_three_sizes_are_told_apart_by_the_lines(tmp_path):
    path = tmp_path / "one.txt"
    path.write_text(P_MEDIAN)
    assert read_instance(path).n_classes == 3
    path.write_text(K_CLUSTER)
    assert read_instance(path).n_classes == 0
    path.write_text("3 2 2\n1 2 0.5\n2 3 0.5\n")
    with pytest.raises(InvalidInputError, match=r"could be a p-median or a k-cluster instance"):
        read_instance(path)
    path.write_text(P_MEDIAN + "1 3 2\n3 1 2\n")
    with pytest.raises(InvalidInputError, match=r"one\.txt, line 4: .* 2 edges"):
        read_instance(path)


@pytest.mark.parametrize(
    "text", ["notes", "1 2 3 4\n", "-3 2\n", "5\n", "2.5 3\n", "", "\xb2 \xb3"]
)
def test_other_text_is_no_instance(tmp_path, text):
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(NotAnInstance, match=r"notes\.txt"):
        read_instance(path)
    with pytest.raises(InvalidInputError, match="no folder with instances"):
        read_folder(tmp_path)


def test_damaged_instances_are_not_passed_over(tmp_path):
    (tmp_path / "one.txt").write_text(DIVERSITY[:-8])
    with pytest.raises(InvalidInputError, match=r"one\.txt ends after line 3"):
        read_folder(tmp_path)
    (tmp_path / "one.txt").unlink()
    (tmp_path / "two.npz").write_bytes(b"PK damaged")
    with pytest.raises(InvalidProblemError, match=r"two\.npz is a damaged"):
        read_folder(tmp_path)
    with pytest.raises(InvalidInputError, match=r"missing\.txt cannot be read"):
        read_instance(tmp_path / "missing.txt")


def test_two_files_of_one_name_are_refused(tmp_path):
    (tmp_path / "one.txt").write_text(P_MEDIAN)
    (tmp_path / "one.dat").write_text(K_CLUSTER)
    with pytest.raises(InvalidInputError, match=r"two instances named one, one\.txt is the second"):
        read_folder(tmp_path)
