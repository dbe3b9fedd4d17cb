"""The class attributes of CUB-2011, from a generated file in the real layout."""

from __future__ import annotations

import numpy as np
import pytest

from qpm_nn.data.cub_attributes import CLASS_ATTRIBUTES, read_class_attributes
from qpm_nn.metrics import structural_grounding
from qpm_opt import InvalidInputError


def write(root, text):
    path = root / CLASS_ATTRIBUTES
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return root


def test_reads_percentages(tmp_path):
    percentages = np.random.default_rng(0).uniform(0, 100, (200, 312))
    percentages[:, 0] = 0
    text = "".join(" ".join(f"{value:.12g}" for value in row) + "\n" for row in percentages)
    found = read_class_attributes(write(tmp_path / "CUB_200_2011", text))
    np.testing.assert_allclose(found, percentages / 100, rtol=1e-10)
    assert structural_grounding(found, found) == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2\n3\n", r"lines of \[1, 2\] numbers"),
        ("", r"lines of \[\] numbers"),
        ("1 2\n3 x\n", "line 2: could not convert"),
        ("1 101\n", "line 1: percentages from 0 to 100"),
        ("1 nan\n", "line 1: percentages from 0 to 100"),
        ("1 2\n-1 0\n", "line 2: percentages from 0 to 100"),
    ],
)
def test_damaged_files_are_named_with_the_line(tmp_path, text, message):
    with pytest.raises(InvalidInputError, match=message):
        read_class_attributes(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_class_attributes(tmp_path)
    (tmp_path / CLASS_ATTRIBUTES).parent.mkdir()
    (tmp_path / CLASS_ATTRIBUTES).write_bytes(b"\x80\x81")
    with pytest.raises(InvalidInputError, match="no text file"):
        read_class_attributes(tmp_path)
