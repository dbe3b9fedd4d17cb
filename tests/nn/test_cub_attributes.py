"""The class attributes of CUB-2011, from a generated file in the real layout."""

from __future__ import annotations

import numpy as np
import pytest

from qpm_nn.data import load_data
from qpm_nn.data.cub_attributes import (
    CLASS_ATTRIBUTES,
    IMAGE_ATTRIBUTES,
    read_class_attributes,
    read_image_attributes,
)
from qpm_nn.metrics import feature_alignment, structural_grounding
from qpm_opt import InvalidInputError
from tests.nn import trees


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


@pytest.mark.parametrize("name", ["cub2011", "traveling_birds"])
def test_attributes_come_with_the_birds(tmp_path, name, caplog):
    trees.write_traveling_birds(tmp_path)
    assert load_data(name, root=str(tmp_path), image_size=16).class_attributes is None
    write(tmp_path / "CUB_200_2011", "0 50 100\n10 20 30\n1 1 1\n")
    found = load_data(name, root=str(tmp_path), image_size=16).class_attributes
    np.testing.assert_allclose(found, [[0, 0.5, 1], [0.1, 0.2, 0.3], [0.01, 0.01, 0.01]])
    # Of the whole data set the lines of the classes 1, 7 and 200.
    text = "".join(f"{number} {number / 2}\n" for number in np.arange(1, 201) / 2)
    write(tmp_path / "CUB_200_2011", text)
    found = load_data(name, root=str(tmp_path), image_size=16).class_attributes
    np.testing.assert_allclose(found, [[0.005, 0.0025], [0.035, 0.0175], [1.0, 0.5]])
    write(tmp_path / "CUB_200_2011", "0 50 100\n")
    assert load_data(name, root=str(tmp_path), image_size=16).class_attributes is None
    assert "has 1 lines, which are not those of the 3 classes" in caplog.text


def write_image_attributes(root, change=lambda lines: lines):
    """Three attributes of the images of :func:`trees.write_cub`: 9 images, 6 for training."""
    folder = trees.write_cub(root)
    n_images = len((folder / "images.txt").read_text().splitlines())
    rng = np.random.default_rng(0)
    seen = rng.integers(0, 2, (n_images, 3))
    certainty = rng.integers(1, 5, (n_images, 3))
    lines = [
        f"{image + 1} {attribute + 1} {seen[image, attribute]} {certainty[image, attribute]} 7.5"
        for image in range(n_images)
        for attribute in range(3)
    ]
    (folder / IMAGE_ATTRIBUTES).parent.mkdir(exist_ok=True)
    (folder / IMAGE_ATTRIBUTES).write_text("".join(f"{line}\n" for line in change(lines)))
    is_train = [row.split()[1] == "1" for row in open(folder / "train_test_split.txt")]
    return folder, seen == 1, certainty, np.array(is_train)


@pytest.mark.parametrize("train", [True, False])
def test_images_have_attributes_that_people_were_certain_of(tmp_path, train):
    # Some lines of the published file have one column more.
    folder, seen, certainty, is_train = write_image_attributes(
        tmp_path, lambda lines: [lines[0] + " 0", *lines[1:]]
    )
    part = is_train == train
    found = read_image_attributes(folder, train=train)
    np.testing.assert_array_equal(found.present, (seen & (certainty >= 3))[part])
    np.testing.assert_array_equal(found.absent, (~seen & (certainty >= 3))[part])
    every = read_image_attributes(folder, train=train, least_certainty=1)
    np.testing.assert_array_equal(every.present, ~every.absent)
    data = load_data("cub2011", root=str(tmp_path), image_size=16)
    n_images = len(data.train if train else data.test)
    features = np.random.default_rng(1).random((n_images, 4))
    assert np.isfinite(feature_alignment(features, *every))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[1:], "17 labels for 6 images and 3 attributes"),
        (lambda lines: [*lines, lines[0]], "labels for 6 images and 3 attributes"),
        (lambda lines: ["1 2", *lines], "line 1: image, attribute, 0 or 1, and certainty"),
        (lambda lines: ["1 99999999999 0 1", *lines], "line 1: image, attribute"),
        (lambda lines: ["1 x 0 1", *lines], "line 1: image, attribute"),
        (lambda lines: [], "0 labels for 6 images"),
    ],
)
def test_damaged_attributes_of_images_are_refused(tmp_path, change, message):
    folder, *_ = write_image_attributes(tmp_path, change)
    with pytest.raises(InvalidInputError, match=message):
        read_image_attributes(folder)
    (folder / IMAGE_ATTRIBUTES).unlink()
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_image_attributes(folder)
