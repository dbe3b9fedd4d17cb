"""Data sets: fixed splits, own folders, and one sentence for what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from qpm_nn.data import (
    AUGMENTATIONS,
    Augmentation,
    LabelledImages,
    PhotographAugmentation,
    Preprocessing,
    load_data,
)
from qpm_opt import InvalidInputError
from tests.nn.conftest import write_tree


def test_digits_split_is_stratified_and_complete():
    from sklearn.datasets import load_digits

    data = load_data("digits")
    assert data.image_shape == (1, 8, 8) and data.n_classes == 10
    assert (len(data.train), len(data.test)) == (1442, 355)
    counts = np.bincount(load_digits().target)
    assert np.bincount(data.test.labels).tolist() == (counts // 5).tolist()
    pixels = torch.cat([data.train.images, data.test.images]).double().sum() / 255 * 16
    assert pixels.item() == pytest.approx(load_digits().images.sum(), rel=1e-3)
    assert data.sha256 == load_data("digits").sha256


def test_omniglot_is_split_by_drawers(data_dir):
    data = load_data("omniglot", root=data_dir)
    assert data.image_shape == (1, 28, 28) and data.n_classes == 195
    assert np.bincount(data.train.labels).tolist() == [14] * 195
    assert np.bincount(data.test.labels).tolist() == [6] * 195
    assert load_data("omniglot", root=data_dir / "omniglot").sha256 == data.sha256


def test_another_file_is_not_omniglot(tmp_path):
    path = tmp_path / "omniglot195_28px.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(InvalidInputError, match="is a text file, not the Omniglot file"):
        load_data("omniglot", root=tmp_path)
    np.savez(path, X=np.zeros((2, 3, 3)), y=np.zeros(2), drawer=np.zeros(2))
    with pytest.raises(InvalidInputError, match="lacks class_names"):
        load_data("omniglot", root=tmp_path)


def test_folder_of_classes_is_split(tree):
    data = load_data(str(tree), image_size=12)
    assert data.class_names == ("class0", "class1", "class2", "class3")
    assert data.image_shape == (3, 12, 12)
    assert np.bincount(data.train.labels).tolist() == [8] * 4
    assert np.bincount(data.test.labels).tolist() == [2] * 4


@pytest.mark.parametrize("name", ["test", "val"])
def test_folder_with_its_own_split(tmp_path, name):
    write_tree(tmp_path / "train", n_images=3)
    write_tree(tmp_path / name, n_images=1)
    data = load_data(str(tmp_path))
    assert (len(data.train), len(data.test)) == (12, 4)


def test_images_are_read_as_they_are(tmp_path):
    for c in range(2):
        for i in range(5):
            folder = tmp_path / str(c)
            folder.mkdir(exist_ok=True)
            Image.new("L", (30, 9), 100 * c + i).save(folder / f"{i}.png")
    data = load_data(str(tmp_path), image_size=8)
    assert data.train.images[4].unique().tolist() == [100]
    assert data.test.images[1].unique().tolist() == [104]


def corrupt(root):
    (root / "class1" / "03.png").write_bytes(b"\x89PNG no image")


def empty_class(root):
    (root / "empty").mkdir()


def one_class(root):
    for path in sorted(root.iterdir())[1:]:
        for file in path.iterdir():
            file.unlink()
        path.rmdir()


def few_images(root):
    for file in sorted((root / "class2").iterdir())[4:]:
        file.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (corrupt, r"03\.png cannot be read as an image"),
        (empty_class, "empty holds no image"),
        (one_class, "has 1 class; at least two"),
        (few_images, "'class2' in .* has 4 images; at least 5"),
    ],
)
def test_unusable_folders(tmp_path, spoil, message):
    spoil(write_tree(tmp_path / "images"))
    with pytest.raises(InvalidInputError, match=message):
        load_data(str(tmp_path / "images"))


def test_class_in_one_part_only(tmp_path):
    write_tree(tmp_path / "train", n_images=2)
    write_tree(tmp_path / "test", n_classes=3, n_images=2)
    with pytest.raises(InvalidInputError, match="'class3' is in only one of"):
        load_data(str(tmp_path))


@pytest.fixture
def nested(tmp_path):
    """Two parts of classes below one or two parents; two of them have one name."""
    for part, n_images in (("train", 2), ("test", 1)):
        write_tree(tmp_path / "flat", n_images=n_images)
        places = ("sky/bird/class0", "sky/class3", "water/class0", "water/fish/class1")
        for c, place in enumerate(places):
            (tmp_path / part / place).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "flat" / f"class{c}").rename(tmp_path / part / place)
        (tmp_path / "flat").rmdir()
    return tmp_path


def test_nested_folders_are_parents_only_if_asked_for(nested):
    flat = load_data(str(nested), image_size=8)
    assert flat.class_names == ("sky", "water") and flat.hierarchy == ()
    assert np.bincount(flat.train.labels).tolist() == [4, 4]
    data = load_data(str(nested), image_size=8, nested=True)
    assert data.class_names == ("sky/bird/class0", "class3", "water/class0", "class1")
    assert data.hierarchy == (("bird", "sky"), ("sky",), ("water",), ("fish", "water"))
    assert data.train.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert data.test.labels.tolist() == [0, 1, 2, 3]
    assert torch.equal(data.train.images, flat.train.images)


def test_nested_folders_without_parts_are_split(tmp_path):
    write_tree(tmp_path / "all" / "first", n_classes=2)
    write_tree(tmp_path / "all" / "second", n_classes=1)
    data = load_data(str(tmp_path / "all"), nested=True)
    assert data.class_names == ("first/class0", "class1", "second/class0")
    assert data.hierarchy == (("first",), ("first",), ("second",))
    assert np.bincount(data.test.labels).tolist() == [2, 2, 2]


def without_an_image(root):
    (root / "train" / "sky" / "empty").mkdir()


def images_beside_folders(root):
    Image.new("L", (8, 8)).save(root / "train" / "sky" / "cloud.png")


def other_parent(root):
    (root / "test" / "sky" / "class3").rename(root / "test" / "water" / "class3")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_an_image, "empty holds no image; in nested folders"),
        (images_beside_folders, "sky holds both images and folders; in nested"),
        (other_parent, "Class 'sky/class3' is in only one of"),
    ],
)
def test_unusable_nested_folders(nested, spoil, message):
    spoil(nested)
    with pytest.raises(InvalidInputError, match=message):
        load_data(str(nested), nested=True)


def test_nested_is_for_own_folders_that_are_nested(tree, tmp_path):
    with pytest.raises(InvalidInputError, match="has no nested folders"):
        load_data(str(tree), nested=True)
    with pytest.raises(InvalidInputError, match="digits has a layout of its own"):
        load_data("digits", nested=True)
    with pytest.raises(InvalidInputError, match=r"no class folders; expected .*<parent>/<class>"):
        load_data(str(tmp_path), nested=True)


def test_unknown_names_and_missing_files(tmp_path, monkeypatch):
    with pytest.raises(InvalidInputError, match="did you mean digits"):
        load_data("digit")
    with pytest.raises(InvalidInputError, match="is not a folder"):
        load_data(str(tmp_path / "nowhere"))
    monkeypatch.setenv("QPM_DATA", str(tmp_path))
    with pytest.raises(InvalidInputError, match="Omniglot is not in"):
        load_data("omniglot")


def test_preprocessing_gives_mean_0_and_std_1():
    rng = np.random.default_rng(0)
    images = LabelledImages(rng.integers(0, 256, (20, 3, 5, 5), dtype=np.uint8), np.zeros(20))
    normalised = Preprocessing.of(images)(images.images)
    torch.testing.assert_close(normalised.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        normalised.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0
    )


def test_augmentation_without_change_is_the_identity():
    images = torch.rand(4, 1, 8, 8)
    torch.testing.assert_close(Augmentation()(images), images)


def test_augmentation_moves_each_image_its_own_way():
    images = torch.zeros(50, 1, 9, 9)
    images[:, :, 4, 4] = 1.0
    torch.manual_seed(0)
    moved = Augmentation(translate=0.25)(images)
    centre = (moved * torch.arange(9.0)).sum((1, 2, 3)) / moved.sum((1, 2, 3))
    assert centre.std() > 0.5 and (centre - 4).abs().max() <= 0.25 * 9 + 1e-3
    torch.manual_seed(0)
    assert torch.equal(Augmentation(translate=0.25)(images), moved)


def test_images_that_are_not_square_are_rotated_and_not_sheared(monkeypatch):
    images = torch.zeros(1, 1, 32, 128)
    images[:, :, 15:17] = 1.0  # a horizontal line
    monkeypatch.setattr(torch, "rand", lambda *shape: torch.ones(shape))  # the largest angle
    turned = Augmentation(degrees=10)(images)[0, 0]
    heights = (turned * torch.arange(32.0)[:, None]).sum(0) / turned.sum(0)
    slope = (heights[84] - heights[44]) / 40
    assert abs(slope) == pytest.approx(np.tan(np.radians(10)), rel=0.02)


def test_flip_mirrors_about_half_of_the_images():
    images = torch.rand(1, 1, 4, 4).expand(100, -1, -1, -1)
    torch.manual_seed(1)
    flipped = Augmentation(flip=True)(images)
    is_same = (flipped - images).abs().amax((1, 2, 3)) < 1e-5
    is_mirrored = (flipped - images.flip(3)).abs().amax((1, 2, 3)) < 1e-5
    assert (is_same ^ is_mirrored).all() and 30 < is_mirrored.sum() < 70


def test_deep_pixels_are_scaled_and_transparency_is_white(tmp_path):
    grey = np.linspace(0, 255, 16 * 16).astype(np.uint8).reshape(16, 16)
    ink = np.zeros((16, 16, 4), np.uint8)  # black, and nothing of it visible
    for name, pixels in (
        ("bits8", grey),
        ("bits16", grey.astype(np.uint16) * 257),
        ("alpha", ink),
    ):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        for i in range(5):
            Image.fromarray(pixels).save(folder / f"{i}.png")
    images = load_data(str(tmp_path / "images"), image_size=16).train
    alpha, bits16, bits8 = (images.images[images.labels == c][0] for c in range(3))
    np.testing.assert_array_equal(bits16, bits8)
    assert (alpha == 255).all()


def test_hidden_files_are_no_images_and_capitals_no_classes(tmp_path):
    write_tree(tmp_path / "Train", n_images=2)
    write_tree(tmp_path / "Test", n_images=1)
    hidden = next((tmp_path / "Train").iterdir()) / ".ipynb_checkpoints"
    hidden.mkdir()
    (hidden / "copy.png").write_bytes(b"no image")
    data = load_data(str(tmp_path))
    assert data.n_classes == len(list((tmp_path / "Test").iterdir()))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_named_augmentations_keep_shape_and_change_each_image_its_own_way(name):
    augmentation = AUGMENTATIONS[name]
    one = torch.rand(3, 40, 48, generator=torch.Generator().manual_seed(0))
    images = one.repeat(12, 1, 1, 1)
    torch.manual_seed(3)
    first = augmentation(images)
    assert first.shape == images.shape and first.dtype == images.dtype
    assert torch.equal(images, one.repeat(12, 1, 1, 1))  # in place would change the data set
    torch.manual_seed(3)
    assert torch.equal(augmentation(images), first)
    distinct = {image.numpy().tobytes() for image in first}
    assert len(distinct) == (1 if name == "none" else 12)
    assert torch.isfinite(first).all()


def test_photograph_augmentation_without_change_is_the_identity():
    images = torch.rand(4, 1, 8, 8)
    still = PhotographAugmentation(flip=False, jitter=0.0, trivial=False)
    assert torch.equal(still(images), images)
    assert still(images[:0]).shape == (0, 1, 8, 8)


def test_lighting_shifts_whole_channels_along_the_colours_of_imagenet():
    images = torch.full((2000, 3, 2, 2), 0.5)
    noise = PhotographAugmentation(flip=False, jitter=0.0, trivial=False, lighting=0.1)
    shift = noise(images) - images
    assert torch.allclose(shift, shift[:, :, :1, :1].expand_as(shift))
    # The first direction, nearly grey, carries most of it: 0.1 * 0.2175 * 0.57.
    assert shift[:, 0, 0, 0].std() == pytest.approx(0.0125, rel=0.1)
    grey = noise(images[:, :1])
    assert torch.equal(grey, images[:, :1])


def test_an_augmentation_by_name_takes_the_place_of_the_data_sets():
    first, second = load_data("digits"), load_data("digits", augmentation="none")
    assert second.augmentation == AUGMENTATIONS["none"] != first.augmentation
    assert first.sha256 != second.sha256
    with pytest.raises(InvalidInputError, match="did you mean none"):
        load_data("digits", augmentation="nonne")
