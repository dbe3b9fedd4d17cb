"""Own arrays and own torch data sets."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from qpm_nn.data import AUGMENTATIONS, DataModule, Framing, LabelledImages, Preprocessing
from qpm_nn.data.datasets import WrappedDataset
from qpm_nn.data.reading import as_rgb
from qpm_nn.explanations.maps import as_picture
from qpm_nn.pipelines.run import calibrate, report, run
from qpm_nn.saving import load_classifier
from qpm_opt import InvalidInputError
from tests.nn.conftest import Recorder, tiny_config

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (30, 3, 8, 10), dtype=np.uint8)
LABELS = np.repeat([2, 5, 11], 10)
HIERARCHY = (("even",), ("odd",), ("odd",))


def test_every_fifth_array_of_a_class_is_a_test_image():
    data = DataModule.from_arrays(PIXELS, LABELS)
    assert data.class_names == ("2", "5", "11")  # numbers with gaps, in their order
    assert np.bincount(data.train.labels).tolist() == [8, 8, 8]
    assert np.array_equal(data.test.images, PIXELS[4::5])


def test_arrays_with_test_images_and_names():
    data = DataModule.from_arrays(
        PIXELS[:20], LABELS[:20], test=(PIXELS[5:15], LABELS[5:15]), class_names=["x", "y"]
    )
    assert data.class_names == ("x", "y")
    assert np.array_equal(data.test.images, PIXELS[5:15])
    assert data.test.labels.tolist() == [0] * 5 + [1] * 5


@pytest.mark.parametrize(
    "images",
    [PIXELS / 255, PIXELS.transpose(0, 2, 3, 1), torch.from_numpy(PIXELS)],
    ids=["floating point", "channels last", "tensor"],
)
def test_kinds_of_arrays(images):
    assert np.array_equal(DataModule.from_arrays(images, LABELS).test.images, PIXELS[4::5])


def test_grey_arrays():
    assert DataModule.from_arrays(PIXELS[:, 0], LABELS).image_shape == (1, 8, 10)


def arrays_in_an_array():
    labels = np.empty(30, object)
    labels[:] = [np.arange(2) for _ in range(30)]
    return labels


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((PIXELS, LABELS[:5]), r"30 images and labels of shape \(5,\)"),
        ((PIXELS[0, 0], LABELS), r"images have shape \(8, 10\)"),
        ((PIXELS * 1.0, LABELS), "values from 0 to 255"),
        ((PIXELS.astype(int), LABELS), "has type int64"),
        ((PIXELS, np.zeros(30)), "has 1 class"),
        ((PIXELS[8:], LABELS[8:]), "Class '2' of arrays has no test image"),
        (([*PIXELS[:29], PIXELS[29][:, :7]], LABELS), "The images are no array: .*inhomogeneous"),
        ((PIXELS, [[0], [0, 1]] * 15), "The labels are no array: .*inhomogeneous"),
        ((PIXELS, np.where(LABELS == 11, np.nan, LABELS)), "label of image 20 is nan; leave out"),
        ((PIXELS, np.array([*map(str, LABELS[:29]), np.nan], object)), "label of image 29 is nan"),
        ((PIXELS, [None, *LABELS[1:]]), "labels cannot be ordered: .*NoneType"),
        ((PIXELS, arrays_in_an_array()), "labels cannot be ordered: .*ambiguous"),
    ],
)
def test_unusable_arrays(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        DataModule.from_arrays(*arguments)


def test_arrays_that_do_not_go_with_their_names_or_their_test_images():
    with pytest.raises(InvalidInputError, match="2 class names and 3 different labels"):
        DataModule.from_arrays(PIXELS, LABELS, class_names=["a", "b"])
    with pytest.raises(InvalidInputError, match="test images of shape"):
        DataModule.from_arrays(PIXELS, LABELS, test=(PIXELS[:, 0], LABELS))
    with pytest.raises(InvalidInputError, match="the mean of ImageNet is of 3"):
        DataModule.from_arrays(PIXELS[:, 0], LABELS, normalisation="imagenet")
    with pytest.raises(InvalidInputError, match="2 classes named 'a'; every class needs"):
        DataModule.from_arrays(PIXELS, LABELS, class_names=["a", "b", "a"])
    with pytest.raises(InvalidInputError, match="3 classes, but a hierarchy of 2"):
        DataModule.from_arrays(PIXELS, LABELS, hierarchy=HIERARCHY[:2])
    for test, what in ((PIXELS, "ndarray"), (5, "int"), ((PIXELS,), "tuple of 1")):
        with pytest.raises(InvalidInputError, match=f"test is a {what}; a pair"):
            DataModule.from_arrays(PIXELS, LABELS, test=test)
    for name in ("photographs", "imagenet"):
        with pytest.raises(InvalidInputError, match="2 channels, and photographs have 1 or 3"):
            DataModule.from_arrays(PIXELS[:, :2], LABELS, augmentation=AUGMENTATIONS[name])


def test_names_of_classes_are_text():
    data = DataModule.from_arrays(PIXELS, LABELS, class_names=np.array([7, 8, 9]))
    assert data.class_names == ("7", "8", "9") and type(data.class_names[0]) is str


class Pictures(Dataset):
    """PIL images with labels that only asking tells."""

    def __init__(self, pixels, labels):
        self.pixels, self.answers = pixels, labels

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        return Image.fromarray(self.pixels[index].transpose(1, 2, 0)), int(self.answers[index])


class Targets(Pictures):
    """Tells its labels as data sets of torchvision do; asking would raise."""

    def __init__(self, pixels, labels):
        super().__init__(pixels, [None] * len(labels))
        self.targets = list(labels)

    def __getitem__(self, index):
        return self.pixels[index], self.targets[index]


CLASSES = LABELS // 5
NAMES = ("a", "b", "c")


@pytest.mark.parametrize(
    "dataset",
    [
        Pictures(PIXELS, CLASSES),
        Targets(PIXELS, CLASSES.tolist()),
        TensorDataset(torch.from_numpy(PIXELS) / 255, torch.from_numpy(CLASSES)),
    ],
    ids=["PIL", "arrays", "tensors"],
)
def test_any_torch_data_set(dataset):
    data = DataModule.from_datasets(dataset, dataset, NAMES)
    held = LabelledImages(PIXELS, CLASSES)
    assert torch.equal(data.train[:][0], held.images) and torch.equal(data.train[:][1], held.labels)
    assert torch.equal(data.train.subset([7, 2])[:][0], held.images[[7, 2]])
    assert data.preprocessing == Preprocessing.of(held)
    assert data.sha256 == DataModule.from_datasets(dataset, dataset, NAMES).sha256
    changed = PIXELS.copy()
    changed[3, 0, 0, 0] ^= 1
    other = DataModule.from_datasets(Pictures(changed, CLASSES), dataset, NAMES)
    assert other.sha256 != data.sha256


@pytest.mark.parametrize("mode", ["P", "PA", "RGBA", "CMYK", "LA", "1", "I;16", "L", "YCbCr"])
def test_pil_images_of_any_mode_are_read_like_files(mode):
    rgb = Image.fromarray(PIXELS[0].transpose(1, 2, 0))
    if mode == "I;16":
        image = Image.fromarray(PIXELS[0, 0].astype(np.uint16) * 257)
    else:
        image = rgb.convert("P").convert("PA") if mode == "PA" else rgb.convert(mode)
    is_grey = mode in ("LA", "1", "I;16", "L")
    expected = np.asarray(as_rgb(image, "white")).transpose(2, 0, 1)
    items = Items([(image, 0)])
    (pixels,) = WrappedDataset(items)[:][0].numpy()
    np.testing.assert_array_equal(pixels, expected[:1] if is_grey else expected)


def test_pil_images_without_a_fixed_range():
    with pytest.raises(InvalidInputError, match="image 0 cannot be read: pixels of mode I have no"):
        WrappedDataset(Items([(Image.new("I", (8, 8)), 0)]))


def test_labels_of_the_items_count_where_a_list_says_otherwise():
    dataset = Targets(PIXELS, CLASSES.tolist())
    dataset.targets = [0, *CLASSES[1:].tolist()]
    assert WrappedDataset(dataset).labels.tolist() == dataset.targets
    items = Items([(PIXELS[i], 2 - CLASSES[i]) for i in range(30)])
    items.targets = CLASSES.tolist()
    assert WrappedDataset(items).labels.tolist() == (2 - CLASSES).tolist()


def test_unusable_torch_data_sets():
    with pytest.raises(InvalidInputError, match="is empty"):
        DataModule.from_datasets(Pictures(PIXELS[:0], []), Pictures(PIXELS, CLASSES), NAMES)
    mixed = Pictures([*PIXELS[:29], PIXELS[29][:, :7]], CLASSES)
    with pytest.raises(InvalidInputError, match=r"image 29 has shape \(3, 7, 10\)"):
        DataModule.from_datasets(mixed, mixed, NAMES).train[:]
    with pytest.raises(InvalidInputError, match="labels from 0 to 2, but 2 class names"):
        DataModule.from_datasets(Pictures(PIXELS, CLASSES), Pictures(PIXELS, CLASSES), NAMES[:2])


def test_statistics_are_exact_and_of_a_sample_where_images_are_not_in_memory(monkeypatch):
    found = Preprocessing.of(LabelledImages(PIXELS, CLASSES))
    np.testing.assert_allclose(found.mean, (PIXELS / 255).mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(found.std, (PIXELS / 255).std((0, 2, 3)), rtol=1e-12)
    constant = LabelledImages(np.full((3, 1, 8, 8), 77, dtype=np.uint8), np.arange(3))
    assert Preprocessing.of(constant).std == (1e-6,)
    monkeypatch.setattr("qpm_nn.data.base.STATISTICS_SAMPLE", 10)
    data = DataModule.from_datasets(Pictures(PIXELS, CLASSES), Pictures(PIXELS, CLASSES), NAMES)
    assert data.preprocessing == Preprocessing.of(LabelledImages(PIXELS[::3], CLASSES[::3]))


class Items(Dataset):
    """Yields what it was given."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Stream(IterableDataset):
    """Has a length, but no access by index."""

    def __iter__(self):
        return iter(zip(PIXELS, CLASSES, strict=True))

    def __len__(self):
        return 30


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Stream(), "A Stream is no map-style data set"),
        (iter(zip(PIXELS, CLASSES, strict=True)), "A zip is no map-style data set"),
        (Items([(PIXELS[0],)]), "Item 0 of the data set is a tuple of 1; a pair"),
        (Items([torch.from_numpy(PIXELS[0])]), "Item 0 of the data set is a Tensor; a pair"),
        (Items([{"image": PIXELS[0], "label": 0}]), "is a dict; a pair of an image"),
        (Items([(PIXELS[0], 0), (PIXELS[1], "cat")]), "label of image 1 is 'cat'; the index"),
        (Items([(PIXELS[0], 1.5)]), r"label of image 0 is 1\.5; the index of its class"),
        (Items([(PIXELS[0], float("nan"))]), "label of image 0 is nan; the index"),
        (Items([(PIXELS[0], np.eye(3)[0])]), "label of image 0 is array.*; the index"),
        (Items([(PIXELS[0], [[1], [1, 2]])]), "labels of item 0 are no array"),
        (Targets(PIXELS[:2], ["cat", "dog"]), "label of image 0 is 'cat'"),
        (Targets(PIXELS[:2], [[1], [1, 2]]), r"label of image 1 is \[1, 2\]; the index"),
    ],
)
def test_torch_data_sets_that_are_no_pairs_with_class_indices(dataset, message):
    with pytest.raises(InvalidInputError, match=message):
        DataModule.from_datasets(dataset, dataset, NAMES)


def test_labels_are_whole_numbers_of_any_type():
    types = (int, np.int16, torch.tensor, float, bool)
    items = Items([(PIXELS[i], types[i % 5](i // 5 % 2)) for i in range(10)])
    data = DataModule.from_datasets(items, items, ["a", "b"])
    assert data.train.labels.tolist() == [0] * 5 + [1] * 5


def short_config(tmp_path, **changes):
    return tiny_config(
        tmp_path,
        dense={"epochs": 1},
        finetune={"epochs": 1},
        solve={"method": "heuristic", "time_limit": 0.5},
        **changes,
    )


def test_a_run_on_own_arrays(tmp_path):
    data = DataModule.from_arrays(PIXELS[:, :, :, :8], LABELS, hierarchy=HIERARCHY)
    directory = run(short_config(tmp_path), tmp_path / "run", data=data)
    _, spec = load_classifier(directory / "model.safetensors")
    assert spec.class_names == ("2", "5", "11") and spec.hierarchy == HIERARCHY


def test_a_hierarchy_that_comes_later_changes_only_what_needs_it(tmp_path):
    data = DataModule.from_arrays(PIXELS[:, :, :, :8], LABELS)
    config = short_config(tmp_path)
    directory = run(config, tmp_path / "run", data=data)
    calibrate(directory.path, data=data)
    assert all(s["coherence"] is None for s in json.loads((directory / "sets.json").read_text()))
    before = {f: (directory / f).read_bytes() for f in ("model.safetensors", "metrics.json")}
    later = replace(data, hierarchy=HIERARCHY, framing=Framing(invert=True))
    recorder = Recorder()
    run(config, directory.path, data=later, observer=recorder)
    assert recorder.ran == ["report"]
    calibrate(directory.path, data=later)
    report(directory.path, data=later)
    assert {file: (directory / file).read_bytes() for file in before} == before
    assert all(s["coherence"] for s in json.loads((directory / "sets.json").read_text()))
    classes = json.loads((directory / "report.json").read_text())["classes"]
    assert [c["parents"] for c in classes] == [["even"], ["odd"], ["odd"]]
    with pytest.raises(InvalidInputError, match="is of other images"):
        report(directory.path, data=replace(data, class_names=("a", "b", "c")))


@pytest.mark.parametrize("n_channels", [2, 4])
def test_other_numbers_of_channels_are_drawn_as_their_mean(n_channels, tmp_path):
    pixels = RNG.integers(0, 256, (30, n_channels, 8, 8), dtype=np.uint8)
    data = DataModule.from_arrays(pixels, LABELS)
    directory = report(run(short_config(tmp_path), tmp_path / "run", data=data).path, data=data)
    assert (directory / "figures/comparison.png").exists()
    shown = as_picture(torch.from_numpy(pixels[0]))
    np.testing.assert_allclose(shown, pixels[0].mean(0), rtol=1e-6)
    _, spec = load_classifier(directory / "model.safetensors")
    with pytest.raises(InvalidInputError, match=f"asked for with {n_channels} channels"):
        spec.read(tmp_path / "any.png")
