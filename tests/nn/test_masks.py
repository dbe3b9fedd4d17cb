"""Masks of the birds of CUB-2011, from generated trees in the real layout."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from qpm_nn import run
from qpm_nn.backbones import create_backbone
from qpm_nn.data import load_data
from qpm_nn.data.files import LabelledFiles
from qpm_nn.data.listing import FileList
from qpm_nn.data.reading import Framing
from qpm_opt import InvalidInputError
from tests.nn import trees
from tests.nn.conftest import tiny_config

NAMES = ["cub2011", "traveling_birds"]


@pytest.fixture
def birds(tmp_path):
    """The folder CUB_200_2011, beside CUB_fixed."""
    trees.write_traveling_birds(tmp_path)
    return tmp_path / "CUB_200_2011"


def load(birds, name="cub2011", **options):
    return load_data(name, root=str(birds.parent), image_size=32, **options)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", [".", ".."])
@pytest.mark.parametrize("memory", [0.0, 1.0])
def test_masks_come_with_the_birds_in_the_frame_of_their_images(birds, name, place, memory):
    assert load(birds, name, memory=memory).test_masks is None
    trees.write_segmentations(birds / place / "segmentations", birds)
    data = load(birds, name, memory=memory)
    assert len(data.test_masks) == len(data.test) == 3
    images, labels = data.test[:]
    masks, labels_of_masks = data.test_masks[:]
    assert torch.equal(labels, labels_of_masks)
    # Pixels in the colour of the class, away from edges that resizing blurs.
    colours = torch.from_numpy(trees.COLOURS.astype(int))[labels][:, :, None, None]
    is_bird = (images.int() - colours).abs().amax(1) < 12
    is_outside = (images.int() - trees.OUTSIDE).abs().amax(1) < 12
    assert is_bird.sum() > 300 and is_outside.sum() > 300
    assert (masks[:, 0][is_bird] > 0).all() and (masks[:, 0][is_outside] == 0).all()


def test_where_images_are_cropped_masks_are_too(birds):
    trees.write_segmentations(birds / "segmentations", birds)
    assert (load(birds, crop=True).test_masks[:][0] > 0).all()


def test_a_mask_is_0_exactly_where_there_is_nothing(tmp_path):
    pixels = np.zeros((64, 64), np.uint8)
    pixels[:20, 40:] = 255
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    files = FileList(["mask.png"], [0])
    masks = LabelledFiles(tmp_path, files, 16, Framing(), channels=1, are_masks=True)
    found = masks[0][0][0].numpy()
    expected = np.zeros((16, 16), bool)
    expected[:5, 10:] = True
    assert ((found > 0) == expected).all()


def test_a_mask_may_be_of_ones_or_transparent(tmp_path):
    seen = np.zeros((375, 500), np.uint8)
    seen[100:104, 50:150] = 1
    clear = np.zeros((375, 500, 4), np.uint8)
    clear[100:104, 50:150] = 255
    files = FileList(["mask.png"], [0])
    found = []
    for pixels in (seen, clear):
        Image.fromarray(pixels).save(tmp_path / "mask.png")
        masks = LabelledFiles(tmp_path, files, 32, Framing("squash"), channels=1, are_masks=True)
        found.append(masks[0][0][0].numpy())
    assert (found[0] == found[1]).all()
    expected = np.zeros((32, 32), bool)
    expected[8, 3:10] = True
    assert ((found[0] > 0) == expected).all()


def test_without_the_masks_of_all_images_there_are_none(birds, caplog):
    folder = birds / "segmentations"
    trees.write_segmentations(folder, birds)
    next(folder.rglob("*_0002_1.png")).unlink()
    assert load(birds).test_masks is None
    assert "no masks for 1 of 3 test images (007.Parakeet_Auklet/" in caplog.text
    shutil.rmtree(folder)
    caplog.clear()
    assert load(birds).test_masks is None and not caplog.records


def test_images_that_are_skipped_take_their_masks_along(birds, caplog):
    trees.write_cub(birds.parent, n_train=2, n_test=2)
    trees.write_segmentations(birds / "segmentations", birds)
    for image in sorted((birds / "images").rglob("*_0002_*.jpg")):
        image.write_bytes(b"no image")
    data = load(birds, on_corrupt="skip", memory=0)
    assert len(data.test) == len(data.test_masks) == 3
    kept = [data.test_masks.path(i).name for i in range(3)]
    assert all("_0003_" in name for name in kept)


def test_a_corrupt_mask_is_named_or_all_are_left_out(birds, caplog):
    trees.write_segmentations(birds / "segmentations", birds)
    damaged = next((birds / "segmentations").rglob("*_0002_2.png"))
    damaged.write_bytes(b"no image")
    assert load(birds, on_corrupt="skip").test_masks is None
    assert damaged.name in caplog.text
    with pytest.raises(InvalidInputError, match=damaged.name):
        load(birds)
    with pytest.raises(InvalidInputError, match=damaged.name):
        load(birds, memory=0).test_masks[:]


@pytest.mark.parametrize("frozen", [False, True])
def test_a_run_measures_plausibility_once_the_masks_are_there(birds, tmp_path, frozen):
    data = {"name": "cub2011", "root": str(birds.parent), "image_size": 16}
    changes = {}
    if frozen:
        weights = tmp_path / "weights.safetensors"
        save_file(create_backbone("convnet_tiny", 3).state_dict(), weights)
        adapter = {"depth": 1, "n_features": 8}
        changes = {"frozen": True, "weights": str(weights), "adapter": adapter}
    config = tiny_config(birds, data=data, **changes)
    run(config, tmp_path / "run")
    before = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "plausibility" not in before["qpm"]
    trees.write_segmentations(birds / "segmentations", birds)
    run(config, tmp_path / "run", resume=True)
    after = json.loads((tmp_path / "run" / "metrics.json").read_text())
    for name, values in after.items():
        assert 0 <= values.pop("plausibility") <= 1
        assert 0 < values.pop("plausibility_by_chance") < 1
        assert values == before[name]
