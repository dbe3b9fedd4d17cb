"""The trunk of MobileNetV1 with weights in the layout of Keras."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qpm_nn.backbones import create_backbone
from qpm_nn.backbones.mobilenet import BLOCKS
from qpm_nn.data import Preprocessing, load_data
from qpm_nn.data.base import IMAGENET_MEAN, IMAGENET_STD
from qpm_opt import InvalidInputError

IMAGENET = Preprocessing(IMAGENET_MEAN, IMAGENET_STD)


def random_arrays() -> dict[str, np.ndarray]:
    """Arrays of the right names and shapes, drawn so that activations stay of one size."""
    rng = np.random.default_rng(0)
    arrays = {}

    def add(layer: str, parameter: str, *shape: int, fan_in: int) -> None:
        kernel = rng.normal(size=shape) * np.sqrt(2 / fan_in)
        width = shape[2] if parameter == "depthwise_kernel" else shape[3]
        arrays[f"{layer}/{parameter}"] = kernel
        arrays[f"{layer}_bn/gamma"] = rng.uniform(0.5, 1.5, width)
        arrays[f"{layer}_bn/beta"] = rng.normal(size=width) * 0.3
        arrays[f"{layer}_bn/moving_mean"] = rng.normal(size=width) * 0.1
        arrays[f"{layer}_bn/moving_variance"] = rng.uniform(0.5, 1.5, width)

    width = 32
    add("conv1", "kernel", 3, 3, 3, width, fan_in=27)
    for i, (wider, _) in enumerate(BLOCKS, start=1):
        add(f"conv_dw_{i}", "depthwise_kernel", 3, 3, width, 1, fan_in=9)
        add(f"conv_pw_{i}", "kernel", 1, 1, width, wider, fan_in=width)
        width = wider
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def by_numpy(arrays: dict[str, np.ndarray], image: np.ndarray) -> np.ndarray:
    """Maps (h, w, 1024) of an image (H, W, 3) in [-1, 1], from the definition."""

    def normalised(layer: str, x: np.ndarray) -> np.ndarray:
        gamma, beta, mean, variance = (
            arrays[f"{layer}_bn/{name}"]
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return np.clip((x - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 0, 6)

    def windows(x: np.ndarray, stride: int) -> np.ndarray:
        before = 1 if stride == 1 else 0
        x = np.pad(x, ((before, 1), (before, 1), (0, 0)))
        found = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(0, 1))
        return found[::stride, ::stride]  # (h, w, channels, 3, 3)

    x = np.einsum("hwcij,ijco->hwo", windows(image, 2), arrays["conv1/kernel"])
    x = normalised("conv1", x)
    for i, (_, stride) in enumerate(BLOCKS, start=1):
        depthwise = arrays[f"conv_dw_{i}/depthwise_kernel"][..., 0]
        x = np.einsum("hwcij,ijc->hwc", windows(x, stride), depthwise)
        x = normalised(f"conv_dw_{i}", x)
        x = normalised(f"conv_pw_{i}", x @ arrays[f"conv_pw_{i}/kernel"][0, 0])
    return x


def test_it_computes_what_keras_does(tmp_path):
    arrays = random_arrays()
    np.savez(tmp_path / "trunk.npz", **arrays)
    backbone = create_backbone("mobilenet_v1", 3, weights=tmp_path / "trunk.npz").eval()
    image = np.random.default_rng(1).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    expected = by_numpy(arrays, image / 127.5 - 1)
    with torch.no_grad():
        maps = backbone(IMAGENET(torch.from_numpy(image).permute(2, 0, 1)[None]))
    assert maps.shape == (1, 1024, 2, 1) and 0 < (maps > 0).float().mean() < 1
    np.testing.assert_allclose(maps[0].permute(1, 2, 0), expected, atol=1e-3)


def test_reduced_strides_take_the_same_file(tmp_path):
    np.savez(tmp_path / "trunk.npz", **random_arrays())
    images = torch.randn(1, 3, 64, 64)
    shapes = []
    for reduced in (False, True):
        backbone = create_backbone(
            "mobilenet_v1", 3, weights=tmp_path / "trunk.npz", reduced_strides=reduced
        )
        shapes.append(tuple(backbone(images).shape[2:]))
    assert shapes == [(2, 2), (8, 8)]


def test_arrays_that_do_not_fit_are_named(tmp_path):
    path, arrays = tmp_path / "trunk.npz", random_arrays()
    np.savez(path, **arrays, **{"conv_pw_13/kernel": np.zeros((1, 1, 2, 2)), "n": np.zeros(())})
    with pytest.raises(InvalidInputError, match=r"unknown conv_pw_13\.weight, n; take"):
        create_backbone("mobilenet_v1", 3, weights=path)
    del arrays["conv_dw_3_bn/gamma"]
    np.savez(path, **arrays)
    with pytest.raises(InvalidInputError, match=r"it lacks conv_dw_3_bn\.weight; take"):
        create_backbone("mobilenet_v1", 3, weights=path)
    for content in ("text", None):
        np.savez(path, **{"conv1/kernel": np.array(content)})
        with pytest.raises(InvalidInputError, match=r"trunk\.npz cannot be read as weights"):
            create_backbone("mobilenet_v1", 3, weights=path)
    path.write_bytes(b"nothing")
    with pytest.raises(InvalidInputError, match=r"trunk\.npz cannot be read as weights"):
        create_backbone("mobilenet_v1", 3, weights=path)


def test_published_weights_give_the_published_features_of_groceries(data_dir):
    weights = data_dir / "mobilenet_v1_trunk" / "mobilenet_v1_1.0_224_to_pw12.npz"
    features = data_dir / "grocery" / "features_mobilenetv1_pw12_128px.npz"
    if not (weights.is_file() and features.is_file()):
        pytest.skip(f"the weights or features of groceries are not in {data_dir}")
    backbone = create_backbone("mobilenet_v1", 3, weights=weights).eval()
    # Not held in memory, so that only the images that are asked for are read.
    data = load_data("grocery", root=data_dir, image_size=128, memory=0, workers=0)
    chosen = list(range(0, len(data.test), 250))
    with np.load(features) as arrays:
        published = torch.from_numpy(arrays["Xtest"][chosen].astype(np.float32))
    with torch.no_grad():
        found = backbone(IMAGENET(data.test.subset(chosen)[:][0])).mean((2, 3))
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(found, published, strict=True)]
    # The photos were compressed again since. Without normalisation it is 0.954, with blue first
    # 0.935.
    assert min(correlations) > 0.985
