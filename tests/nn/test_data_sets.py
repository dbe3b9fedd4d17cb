"""Readers of public data sets, each on a small tree in the real layout."""

from __future__ import annotations

import json
import logging
import shutil
import zipfile

import numpy as np
import pytest
import torch

from qpm_nn.config_layers import make_config
from qpm_nn.data import DATA_SETS, Framing, LabelledFiles, LabelledImages, load_data
from qpm_nn.pipelines.run import run
from qpm_nn.presets import PRESETS
from qpm_nn.saving import load_classifier
from qpm_opt import InvalidInputError
from tests.nn import trees
from tests.nn.conftest import tiny_config

WRITERS = {
    "aircraft": trees.write_aircraft,
    "cub2011": trees.write_cub,
    "grocery": trees.write_grocery,
    "imagenet": trees.write_imagenet,
    "omniglot": trees.write_omniglot,
    "omniglot_full": trees.write_omniglot,
    "stanford_cars": trees.write_stanford_cars,
    "traveling_birds": trees.write_traveling_birds,
}
BOXED = ("aircraft", "cub2011", "stanford_cars", "traveling_birds")
NAMES = {
    "aircraft": trees.VARIANTS,
    "cub2011": ("Black footed Albatross", "Parakeet Auklet", "Common Yellowthroat"),
    "grocery": ("Golden-Delicious", "Pink-Lady", "Leek"),
    "imagenet": ("tench", "crane (n02012849)", "crane (n03126707)"),
    "omniglot": trees.CHARACTERS[:8],
    "omniglot_full": tuple(sorted(trees.CHARACTERS)),
    "stanford_cars": trees.CAR_NAMES,
    "traveling_birds": ("Black footed Albatross", "Parakeet Auklet", "Common Yellowthroat"),
}


def load(name, root, **options):
    return load_data(name, root=root, image_size=12, workers=0, **options)


def shows(data) -> bool:
    """Whether every image has the colour of its label in its middle, or bright ink in its cell."""
    for part in (data.train, data.test):
        images, labels = part[:]
        if len(images[0]) == 1:
            n = trees.CELLS
            ink = images.float().reshape(-1, n, 12 // n, n, 12 // n).mean((2, 4)).flatten(1)
            cells = [trees.CHARACTERS.index(data.class_names[c]) for c in labels]
            if np.abs(ink.numpy() / 255 - np.eye(n * n)[cells]).max() > 0.15:
                return False
            continue
        middle = images[:, :, 4:7, 4:7].float().mean((2, 3)).numpy()
        colours = trees.COLOURS[labels.numpy()].astype(float)
        if np.abs(middle - colours).max() > 25:
            return False
    return True


def test_every_data_set_of_files_is_tested():
    assert WRITERS.keys() == set(DATA_SETS) - {"digits"}


def test_presets_are_those_of_data_sets():
    assert set(PRESETS) == set(DATA_SETS)
    for name in PRESETS:
        assert make_config({"data": {"name": name}}).data.name == name


@pytest.mark.parametrize("name", WRITERS)
def test_labels_names_and_parts(name, tmp_path):
    WRITERS[name](tmp_path)
    data = load(name, tmp_path)
    assert data.class_names == NAMES[name]
    assert np.bincount(data.train.labels).tolist() == [2] * data.n_classes
    assert np.bincount(data.test.labels).tolist() == [1] * data.n_classes
    n_channels = 1 if name.startswith("omniglot") else 3
    assert data.image_shape == (n_channels, 12, 12) and shows(data)


@pytest.mark.parametrize("name", WRITERS)
def test_a_run_on_every_data_set(name, tmp_path):
    WRITERS[name](tmp_path / "data")
    changes = {"name": name, "root": str(tmp_path / "data"), "workers": 0}
    training = {"epochs": 1, "batch_size": 4}
    config = tiny_config(
        tmp_path,
        data=changes | {"crop": name in BOXED},
        dense=training,
        finetune=training,
        problem={"n_selected": 6},
        solve={"method": "heuristic", "time_limit": 0.5},
    )
    directory = run(config, tmp_path / "run")
    metrics = json.loads((directory / "metrics.json").read_text())
    assert metrics.keys() == {"dense", "before_finetuning", "qpm"}
    assert metrics["qpm"]["features_per_class"] == 2
    _, spec = load_classifier(directory / "model.safetensors")
    assert spec.class_names == NAMES[name]
    assert spec.preprocessing.framing.crop is (name in BOXED)
    assert spec.preprocessing.framing.invert is name.startswith("omniglot")


@pytest.mark.parametrize("name", WRITERS)
def test_the_folder_itself_may_be_the_root(name, tmp_path):
    folder = WRITERS[name](tmp_path)
    assert load(name, folder).sha256 == load(name, tmp_path).sha256


@pytest.mark.parametrize("name", BOXED)
def test_crops_hold_the_object_and_nothing_else(name, tmp_path):
    WRITERS[name](tmp_path)
    data = load(name, tmp_path, crop=True)
    assert data.framing.crop and data.framing.resize == "squash"
    for part in (data.train, data.test):
        images, labels = part[:]
        colours = trees.COLOURS[labels.numpy()][:, :, None, None]
        assert np.abs(images.numpy().astype(float) - colours).max() < 30


@pytest.mark.parametrize("name", sorted(WRITERS.keys() - set(BOXED)))
def test_no_crops_without_boxes(name, tmp_path):
    WRITERS[name](tmp_path)
    with pytest.raises(InvalidInputError, match="leave out crop"):
        load(name, tmp_path, crop=True)


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_folder_shows_the_tree_and_its_source(name, tmp_path, monkeypatch):
    monkeypatch.setenv("QPM_DATA", str(tmp_path))
    with pytest.raises(InvalidInputError, match=r"QPM_DATA\) a folder with\n.*\n[^$]*https://"):
        load_data(name)


def test_hierarchies(tmp_path):
    trees.write_aircraft(tmp_path)
    trees.write_grocery(tmp_path)
    expected = tuple(zip(trees.FAMILIES, trees.MAKERS, strict=True))
    assert load("aircraft", tmp_path).hierarchy == expected
    assert load("grocery", tmp_path).hierarchy == (("Apple",), ("Apple",), ("Leek",))
    trees.write_omniglot(tmp_path)
    alphabets = [alphabet for (alphabet,) in load("omniglot", tmp_path).hierarchy]
    assert alphabets[1:5] == ["Early_Aramaic", "Greek", "Greek", "Korean"]


def test_the_banner_of_aircraft_is_cut_off(tmp_path):
    trees.write_aircraft(tmp_path)
    images, _ = load("aircraft", tmp_path).train[:]
    assert images[:, 1].max() < 240  # the banner is white, no class is


@pytest.mark.parametrize("kind", ["nested", "whole"])
def test_other_layouts_of_stanford_cars(kind, tmp_path):
    trees.write_stanford_cars(tmp_path, kind)
    data = load("stanford_cars", tmp_path, crop=True)
    assert (len(data.train), len(data.test)) == (6, 3) and shows(data)


def test_stanford_cars_without_test_labels(tmp_path):
    folder = trees.write_stanford_cars(tmp_path)
    (folder / "cars_test_annos_withlabels.mat").rename(folder / "devkit" / "cars_test_annos.mat")
    with pytest.raises(InvalidInputError, match="lacks cars_test_annos_withlabels"):
        load("stanford_cars", tmp_path)
    (folder / "cars_test_annos_withlabels.mat").write_bytes(b"no matrices")
    with pytest.raises(InvalidInputError, match="cannot be read as a Matlab file"):
        load("stanford_cars", tmp_path)


@pytest.mark.parametrize("kind", ["kaggle", "meta.bin", "devkit"])
def test_flat_validation_images_of_imagenet(kind, tmp_path):
    trees.write_imagenet(tmp_path, kind)
    data = load("imagenet", tmp_path)
    assert data.class_names == NAMES["imagenet"] and shows(data)


def test_flat_validation_images_without_labels(tmp_path):
    folder = trees.write_imagenet(tmp_path, "meta.bin")
    (folder / "meta.bin").unlink()
    with pytest.raises(InvalidInputError, match=r"have no labels; give .*(?s:.*)meta\.bin"):
        load("imagenet", tmp_path)


def drop_label(folder):
    path = folder / "image_class_labels.txt"
    path.write_text("\n".join(path.read_text().splitlines()[1:]))


def unknown_class(folder):
    path = folder / "image_class_labels.txt"
    path.write_text(path.read_text().replace("1 1\n", "1 999\n", 1))


def odd_split(folder):
    path = folder / "train_test_split.txt"
    path.write_text(path.read_text().replace("1 1\n", "1 2\n", 1))


def short_line(folder):
    path = folder / "images.txt"
    path.write_text("1\n" + path.read_text())


def class_without_images(folder):
    with (folder / "classes.txt").open("a") as file:
        file.write("201 201.Dodo\n")


def no_number(folder):
    path = folder / "bounding_boxes.txt"
    path.write_text(path.read_text().replace("1 8.0", "1 eight", 1))


def infinite(folder):
    path = folder / "bounding_boxes.txt"
    path.write_text(path.read_text().replace("1 8.0", "1 inf", 1))


def far_box(folder):
    path = folder / "bounding_boxes.txt"
    path.write_text(path.read_text().replace("1 8.0", "1 80.0", 1))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop_label, r"image_class_labels\.txt has no image '1'"),
        (unknown_class, r"classes\.txt has no class '999'"),
        (odd_split, "image 1 has '2'; 0 or 1 expected"),
        (short_line, r"images\.txt, line 1 is '1'; 2 columns were expected"),
        (class_without_images, "Class 'Dodo' of cub2011 has no training image"),
        (no_number, r"bounding_boxes\.txt: 'eight 4.0 12.0 12.0' are no numbers"),
        (infinite, r"bounding_boxes\.txt: 'inf 4.0 12.0 12.0' are no finite numbers"),
        (far_box, r"0000_0\.jpg cannot be read as an image: its box .* is outside the 32 x 24"),
    ],
)
def test_contradictions_in_the_lists(spoil, message, tmp_path):
    spoil(trees.write_cub(tmp_path))
    with pytest.raises(InvalidInputError, match=message):
        load("cub2011", tmp_path, crop=True)


def test_crops_of_traveling_birds_need_the_boxes_of_cub(tmp_path):
    trees.write_traveling_birds(tmp_path)
    (tmp_path / "CUB_200_2011").rename(tmp_path / "elsewhere")
    assert shows(load("traveling_birds", tmp_path))
    with pytest.raises(InvalidInputError, match="boxes of TravelingBirds are not beside"):
        load("traveling_birds", tmp_path, crop=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Class Name (str),\xff", "cannot be read as a table: 'utf-8' codec"),
        (b"", "lacks rows with Class Name"),
        (
            b"Class Name (str),Class ID (int),Coarse Class Name (str)\nLeek,0,Leek\nPear,1\n",
            "lacks rows with Class Name",
        ),
    ],
)
def test_damaged_classes_of_grocery_store(content, message, tmp_path):
    (trees.write_grocery(tmp_path) / "classes.csv").write_bytes(content)
    with pytest.raises(InvalidInputError, match=message):
        load("grocery", tmp_path)


@pytest.mark.parametrize(
    "content",
    [([1], 3), ({"n01440764": ("tench",)}, 3), ({"n01440764": 3}, ["n01440764"]), ({}, [1]), 7],
)
def test_another_meta_bin_of_imagenet(content, tmp_path):
    torch.save(content, trees.write_imagenet(tmp_path, "meta.bin") / "meta.bin")
    with pytest.raises(InvalidInputError, match=r"meta\.bin is not the file that torchvision"):
        load("imagenet", tmp_path)


def test_the_real_grocery_store(data_dir):
    if not (data_dir / "grocery").is_dir():
        pytest.skip(f"Grocery Store is not in {data_dir}")
    data = load("grocery", data_dir, memory=0.0)
    assert (len(data.train), len(data.test), data.n_classes) == (2640, 2485, 81)
    assert data.class_names[0] == "Golden-Delicious" and data.hierarchy[0] == ("Apple",)
    images, labels = data.train[:3]
    assert images.shape == (3, 3, 12, 12) and labels.tolist() == [0, 0, 0]


def write_omniglot_file(path, **changes):
    """A file of three characters, three drawings of each, with bright ink."""
    arrays = {
        "X": np.full((9, 28, 28), 200, dtype=np.uint8),
        "y": np.repeat(np.arange(3), 3),
        "drawer": np.tile([1, 14, 15], 3),
        "class_names": np.array(["Greek/character01", "Greek/character02", "Latin/character01"]),
    }
    np.savez(path, **arrays | changes)


OMNIGLOT_FILE = "omniglot195_28px.npz"


def test_the_file_of_omniglot_goes_before_the_drawings(tmp_path, caplog):
    trees.write_omniglot(tmp_path)
    write_omniglot_file(tmp_path / OMNIGLOT_FILE)
    with caplog.at_level(logging.WARNING):
        data = load_data("omniglot", root=tmp_path)
        assert not caplog.text
        load("omniglot", tmp_path)
    assert "has images of 28 x 28 pixels; image_size 12 is" in caplog.text
    assert data.image_shape == (1, 28, 28) and data.n_classes == 3
    assert data.hierarchy == (("Greek",), ("Greek",), ("Latin",))
    assert data.framing == Framing(invert=True)
    write_omniglot_file(tmp_path / OMNIGLOT_FILE, class_names=np.array(["a", "b", "c"]))
    assert load_data("omniglot", root=tmp_path).hierarchy == ()


def test_a_file_of_omniglot_in_floating_point_holds_the_same(tmp_path):
    write_omniglot_file(tmp_path / OMNIGLOT_FILE)
    expected = load_data("omniglot", root=tmp_path).sha256
    write_omniglot_file(tmp_path / OMNIGLOT_FILE, X=np.full((9, 28, 28), 200 / 255))
    assert load_data("omniglot", root=tmp_path).sha256 == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": np.zeros((9, 28))}, r"X has shape \(9, 28\), y \(9,\)"),
        ({"X": np.full((9, 28, 28), 200.0)}, r"npz: X has values from 200 to 200; \[0, 1\]"),
        ({"X": np.zeros((9, 28, 28), dtype=int)}, "npz: X has type int64"),
        ({"y": np.array(["a"] * 9)}, "y has type <U1; whole numbers"),
        ({"y": np.arange(9)}, "labels from 0 to 7, but 3 class names"),
        ({"drawer": np.tile([[1.0], [14.0], [15.0]], (3, 1))}, r"drawer \(9, 1\); .* expected"),
        ({"drawer": np.full(9, np.nan)}, "drawer has type float64; whole numbers"),
        ({"class_names": np.array("Greek")}, r"class_names has type <U5 and shape \(\); a list"),
        ({"class_names": np.arange(3)}, r"class_names has type int64 and shape \(3,\)"),
    ],
)
def test_odd_files_of_omniglot(changes, message, tmp_path):
    write_omniglot_file(tmp_path / OMNIGLOT_FILE, **changes)
    with pytest.raises(InvalidInputError, match=message):
        load_data("omniglot", root=tmp_path)


def test_omniglot_without_one_of_its_alphabets(tmp_path):
    folder = trees.write_omniglot(tmp_path) / "images_background"
    assert load("omniglot", folder).sha256 == load("omniglot", tmp_path).sha256
    shutil.rmtree(folder / "Korean")
    with pytest.raises(InvalidInputError, match=r"\(Korean not found in .*(?s:.)*omniglot195_28px"):
        load("omniglot", tmp_path)
    (folder / "Korean").mkdir()
    with pytest.raises(InvalidInputError, match="Korean holds no folders of characters"):
        load("omniglot", tmp_path)


def test_all_characters_of_omniglot_need_both_sets(tmp_path):
    folder = trees.write_omniglot(tmp_path)
    (folder / "images_evaluation").rename(tmp_path / "elsewhere")
    with pytest.raises(InvalidInputError, match=r"images_evaluation not found in .*omniglot-py"):
        load("omniglot_full", tmp_path)


def test_drawings_of_omniglot_with_other_names(tmp_path):
    folder = trees.write_omniglot(tmp_path) / "images_background" / trees.CHARACTERS[0]
    (folder / ".DS_Store").touch()
    load("omniglot", tmp_path)
    (folder / "0108_21.png").touch()
    with pytest.raises(InvalidInputError, match=r"0108_21\.png is no drawing .* from 1 to 20"):
        load("omniglot", tmp_path)
    (folder / "0108_21.png").rename(folder / "Thumbs.db")
    with pytest.raises(InvalidInputError, match=r"Thumbs\.db is no drawing of Omniglot; <number>"):
        load("omniglot", tmp_path)


def test_drawings_are_read_lazily_too(tmp_path, caplog):
    folder = trees.write_omniglot(tmp_path)
    held, lazy = (load("omniglot", tmp_path, memory=memory) for memory in (1.0, 0.0))
    assert isinstance(held.train, LabelledImages) and isinstance(lazy.train, LabelledFiles)
    assert np.array_equal(held.train[:][0], lazy.train[:][0]) and shows(lazy)
    assert len({held.sha256, lazy.sha256}) == 2
    (folder / "images_background" / trees.CHARACTERS[0] / "0001_14.png").write_bytes(b"no image")
    with caplog.at_level(logging.WARNING):
        data = load("omniglot", tmp_path, on_corrupt="skip")
    assert "0001_14.png" in caplog.text and len(data.train) == 15


def test_the_published_drawings_of_omniglot_are_the_images_of_the_file(data_dir, tmp_path):
    archives = sorted((data_dir / "omniglot").glob("images_background_small*.zip"))
    if not archives:
        pytest.skip(f"The drawings of Omniglot are not in {data_dir}")
    for archive in archives:
        with zipfile.ZipFile(archive) as content:
            for name in content.namelist():
                top, _, below = name.partition("/")
                if top == archive.stem and below.endswith(".png"):
                    path = tmp_path / "omniglot-py" / "images_background" / below
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content.read(name))
    drawn = load_data("omniglot", root=tmp_path, workers=0)
    known = load_data("omniglot", root=data_dir)
    assert np.array_equal(drawn.train.images, known.train.images)
    assert np.array_equal(drawn.test.images, known.test.images)
    assert drawn.sha256 == known.sha256 and drawn.hierarchy == known.hierarchy
    assert drawn.framing == known.framing and drawn.preprocessing == known.preprocessing
    assert {alphabet for (alphabet,) in known.hierarchy} == {
        name.partition("/")[0] for name in trees.CHARACTERS[:8]
    }
