"""Images read from their files: lazily, in other processes, damaged, and in all modes."""

from __future__ import annotations

import logging
import os
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from qpm_nn.backbones import create_backbone
from qpm_nn.cli import run as run_command
from qpm_nn.config import RuntimeConfig, TrainingConfig
from qpm_nn.data import BatchLoader, Framing, LabelledFiles, LabelledImages, load_data, read_image
from qpm_nn.data import files as files_module
from qpm_nn.heads import Classifier, DenseHead
from qpm_nn.saving import load_classifier
from qpm_nn.training import train
from qpm_opt import InvalidInputError
from tests.nn import trees
from tests.nn.conftest import write_tree


def load(root, **options):
    settings = {"image_size": 12, "memory": 0.0, "workers": 0} | options
    return load_data("cub2011", root=root, **settings)


@pytest.fixture(scope="module")
def cub(tmp_path_factory):
    root = tmp_path_factory.mktemp("birds")
    trees.write_cub(root, n_train=3, n_test=2)
    return root


def test_files_and_memory_hold_the_same(cub):
    lazy, held = load(cub), load(cub, memory=1.0)
    assert isinstance(lazy.train, LabelledFiles) and isinstance(held.train, LabelledImages)
    for index in (slice(None), slice(1, 5, 2), 3, -1):
        for mine, other in zip(lazy.train[index], held.train[index], strict=True):
            assert torch.equal(mine, other)
    chosen = [4, 0, 4]
    for part in (lazy.train.subset(chosen), lazy.train.subset(torch.tensor(chosen))):
        assert torch.equal(part[:][0], held.train.subset(chosen)[:][0])
        assert part.labels.tolist() == [1, 0, 1]
    assert lazy.preprocessing == held.preprocessing


def test_memory_is_a_limit(cub):
    n_bytes = 15 * 3 * 12 * 12
    assert isinstance(load(cub, memory=n_bytes / 2**30).train, LabelledImages)
    assert isinstance(load(cub, memory=(n_bytes - 1) / 2**30).train, LabelledFiles)


def test_workers_read_the_same_batches_in_order(cub):
    data = load(cub, workers=2)
    batches = list(BatchLoader(data.train, 4))
    assert [len(labels) for _, labels in batches] == [4, 4, 1]
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert torch.equal(images, data.train[:][0]) and torch.equal(labels, data.train.labels)


def test_training_on_files_ends_as_in_memory(cub, tmp_path):
    config = TrainingConfig(epochs=2, batch_size=4, learning_rate=0.05)
    ends = []
    for i, data in enumerate((load(cub, memory=1.0), load(cub), load(cub, workers=1))):
        torch.manual_seed(0)
        classifier = Classifier(create_backbone("convnet_tiny", 3), DenseHead(128, 3))
        runtime = RuntimeConfig(device="cpu")
        path = tmp_path / str(i)
        ends.append(train(classifier, data, config, seed=1, runtime=runtime, checkpoint=path))
    states = [end.state_dict() for end in ends]
    assert all(torch.equal(value, states[0][n]) for s in states[1:] for n, value in s.items())


@pytest.fixture
def corrupt(cub, tmp_path):
    """A copy with a damaged training image, and its name."""
    shutil.copytree(cub, tmp_path, dirs_exist_ok=True)
    path = sorted((tmp_path / "CUB_200_2011" / "images").rglob("*.jpg"))[1]
    path.write_bytes(path.read_bytes()[:200])
    return tmp_path, path


@pytest.mark.parametrize("memory", [0.0, 1.0])
def test_a_corrupt_image_is_named(corrupt, memory):
    root, path = corrupt
    with pytest.raises(InvalidInputError, match=f"{path.name} cannot be read as an image"):
        load(root, memory=memory).train[:]


def test_what_a_worker_raises_arrives_as_one_sentence(corrupt):
    root, path = corrupt
    with pytest.raises(InvalidInputError, match=f"^[^\n]*{path.name}[^\n]*$"):
        list(BatchLoader(load(root, workers=1).train, 4))


@pytest.mark.parametrize("memory", [0.0, 1.0])
def test_corrupt_images_are_skipped_if_asked_for(corrupt, memory, caplog):
    root, path = corrupt
    with caplog.at_level(logging.WARNING):
        data = load(root, memory=memory, on_corrupt="skip", workers=2)
    assert path.name in caplog.text and caplog.text.count("Skipped") == 1
    assert np.bincount(data.train.labels).tolist() == [2, 3, 3]
    assert len(data.train[:][0]) == 8


def test_a_class_that_loses_all_images_is_named(tmp_path):
    folder = trees.write_cub(tmp_path, n_train=1)
    next((folder / "images" / trees.BIRDS[1]).glob("*_0000_1.jpg")).unlink()
    with pytest.raises(InvalidInputError, match="'Parakeet Auklet' of cub2011 has no training"):
        load(tmp_path, on_corrupt="skip")


def test_one_image_in_a_class_is_enough(tmp_path):
    trees.write_cub(tmp_path, n_train=1)
    data = load(tmp_path)
    assert np.bincount(data.train.labels).tolist() == [1, 1, 1]


def test_the_hash_is_that_of_the_content(cub, tmp_path):
    found = load(cub).sha256
    shutil.copytree(cub, tmp_path, dirs_exist_ok=True)
    path = sorted((tmp_path / "CUB_200_2011" / "images").rglob("*.jpg"))[0]
    os.utime(path, (1, 1))
    assert load(tmp_path, workers=2).sha256 == found
    others = {load(tmp_path, crop=True).sha256, load(tmp_path, image_size=13).sha256}
    others.add(load(tmp_path, normalisation="imagenet").sha256)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    others.add(load(tmp_path).sha256)
    path.write_bytes(content + b"\0")
    others.add(load(tmp_path).sha256)
    assert found not in others and len(others) == 5
    path.unlink()
    with pytest.raises(InvalidInputError, match=f"{path.name} is listed but cannot be read"):
        load(tmp_path).sha256  # noqa: B018


def test_of_many_files_the_sizes_are_hashed(cub, tmp_path, monkeypatch):
    monkeypatch.setattr(files_module, "HASHED_FILES", 2)
    monkeypatch.setattr(files_module, "BLOCK", 2)
    shutil.copytree(cub, tmp_path, dirs_exist_ok=True)
    found = load(tmp_path).sha256
    path = sorted((tmp_path / "CUB_200_2011" / "images").rglob("*.jpg"))[1]  # not looked into
    path.write_bytes(path.read_bytes() + b"\0")
    assert load(tmp_path).sha256 != found


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "I;16", "1"])
def test_all_modes_become_rgb(mode, tmp_path):
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    if mode == "I;16":
        image = Image.fromarray(np.full((9, 9), 65535, dtype=np.uint16))
    else:
        image = Image.new("RGB", (9, 9), "white").convert(mode)
    assert image.mode == mode
    image.save(path)
    assert (read_image(path, (3, 8, 8)) == 255).all()
    assert (read_image(path, (1, 8, 8)) == 255).all()


def test_boxes_count_the_pixels_of_the_file_whatever_exif_says(tmp_path):
    pixels = np.zeros((20, 30, 3), dtype=np.uint8)
    pixels[2:10, 16:28] = 255  # wide, in the upper right
    pixels[2:10, 16:18, 0] = 128  # its left edge
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    Image.fromarray(pixels).save(tmp_path / "lying.png", exif=exif)
    found = read_image(
        tmp_path / "lying.png", (3, 12, 8), Framing("squash", crop=True), (16, 2, 28, 10)
    )
    np.testing.assert_array_equal(found.transpose(1, 2, 0), np.rot90(pixels[2:10, 16:28], -1))


def test_framings(tmp_path):
    pixels = np.zeros((10, 20, 3), dtype=np.uint8)
    pixels[:, 5:15] = 200
    pixels[8:] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    filled = read_image(tmp_path / "wide.png", (3, 8, 8), Framing(trim_bottom=2))
    assert (filled[:, :, 2:6] == 200).all() and filled.max() < 240
    squashed = read_image(tmp_path / "wide.png", (3, 10, 10), Framing("squash"))
    # The filter rings a little beside edges.
    shown = squashed[0, [3, 3, 9], [0, 5, 0]].astype(int)
    assert np.abs(shown - [0, 200, 255]).max() < 15
    for framing, box in (
        (Framing(trim_bottom=10), None),
        (Framing(crop=True), (20, 0, 25, 5)),
        (Framing(crop=True), (0, 0, float("inf"), 5)),
    ):
        with pytest.raises(InvalidInputError, match=r"wide\.png cannot be read as an image"):
            read_image(tmp_path / "wide.png", (3, 8, 8), framing, box)
    with pytest.raises(InvalidInputError, match="no way to resize 'fit'"):
        Framing("fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 7}, "at least 8 pixels"),
        ({"on_corrupt": "ignore"}, "no value of on_corrupt 'ignore'"),
        ({"normalisation": "imagnet"}, "did you mean imagenet"),
        ({"memory": -1.0}, "memory is -1.0"),
        ({"workers": -1}, "workers is -1"),
    ],
)
def test_options_out_of_range(cub, options, message):
    with pytest.raises(InvalidInputError, match=message):
        load(cub, **options)


def test_sets_that_are_no_photographs_take_no_options_of_these():
    with pytest.raises(InvalidInputError, match="digits is no set of photographs"):
        load_data("digits", crop=True)


def test_a_folder_may_be_read_lazily(tmp_path):
    write_tree(tmp_path / "images", n_images=5)
    lazy, held = (
        load_data(str(tmp_path / "images"), image_size=8, memory=memory, workers=0)
        for memory in (0.0, 1.0)
    )
    assert torch.equal(lazy.test[:][0], held.test[:][0])


def test_a_run_on_files_and_the_model_it_leaves(cub, tmp_path):
    settings = tmp_path / "settings.toml"
    settings.write_text(
        'arch = "convnet_tiny"\n[data]\nmemory = 0.0\n[dense]\nepochs = 1\nbatch_size = 4\n'
        "[finetune]\nepochs = 1\nbatch_size = 4\n"
        '[problem]\nn_selected = 4\nn_per_class = 2\n[solve]\nmethod = "heuristic"\n'
    )
    options = ["--dataset", "cub2011", "--root", str(cub), "--config", str(settings), "--crop"]
    options += ["--image-size", "8", "--normalisation", "imagenet", "--workers", "0"]
    options += ["--time-limit", "0.5", "--device", "cpu", "--threads", "1"]
    out = tmp_path / "run"
    result = CliRunner().invoke(run_command, [*options, "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    classifier, spec = load_classifier(out / "model.safetensors")
    assert spec.preprocessing.mean == (0.485, 0.456, 0.406) and spec.preprocessing.framing.crop
    data = load(cub, image_size=8, crop=True)
    path = data.test.path(0)
    image = spec.read(path, trees.BOX)
    assert torch.equal(image[0], data.test[0][0])
    assert classifier(spec.preprocessing(image)).shape == (1, 3)
    with pytest.raises(InvalidInputError, match="trained on crops; give the box"):
        spec.read(path)
