"""Tiny images on disk and in memory."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qpm_nn.config import RunConfig
from qpm_nn.config_layers import make_config
from qpm_nn.pipelines.observer import Observer


@pytest.fixture(autouse=True)
def one_thread():
    """Sums must not depend on how many processors the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_tree(root: Path, n_classes: int = 4, n_images: int = 10, seed: int = 0) -> Path:
    """Folder root/<class>/*.png of noisy images with a bright bar at a place of the class."""
    rng = np.random.default_rng(seed)
    for c in range(n_classes):
        folder = root / f"class{c}"
        folder.mkdir(parents=True)
        for i in range(n_images):
            image = rng.integers(0, 80, (16, 20, 3), dtype=np.uint8)
            bar = slice(4 * (c // 2), 4 * (c // 2) + 4)
            if c % 2:
                image[bar] += 150
            else:
                image[:, bar] += 150
            Image.fromarray(image).save(folder / f"{i:02d}.png")
    return root


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """Four classes of ten images."""
    return write_tree(tmp_path_factory.mktemp("images"))


def tiny_config(tree: Path, **changes) -> RunConfig:
    """Settings with which the whole pipeline takes a second or two."""
    settings = {
        "arch": "convnet_tiny",
        "seed": 3,
        "data": {"name": str(tree), "image_size": 8},
        "dense": {"epochs": 3, "batch_size": 8},
        "finetune": {"epochs": 2, "batch_size": 8},
        "problem": {"n_selected": 4, "n_per_class": 2},
        "solve": {"time_limit": 60.0},
        "runtime": {"device": "cpu", "threads": 1},
    }
    return make_config(settings, changes)


@contextlib.contextmanager
def full_disk(n_bytes: int):
    """No file can grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Recorder(Observer):
    """Which stages ran, and how many images each went through."""

    def __init__(self):
        self.ran = []
        self.fits = []
        self.n_images = {}

    def stage(self, name):
        self.ran.append(name)

    def fitting(self, detail):
        self.fits.append(detail)

    def images(self, report):
        if report.n_done == report.n_images:
            self.n_images[self.ran[-1]] = report.n_images

    def reused(self, name):
        self.ran.remove(name)
