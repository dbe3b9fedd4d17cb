"""Streamed statistics against a direct computation."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from qpm_nn import extraction
from qpm_nn.backbones import create_backbone
from qpm_nn.data import LabelledImages, Preprocessing, load_data
from qpm_nn.extraction import centre, extract_features, spatial_maximum
from qpm_nn.heads import Classifier, DenseHead
from qpm_nn.metrics import class_independence


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    backbone = create_backbone("convnet_tiny", 3)
    return Classifier(backbone, DenseHead(backbone.n_features, 4, dropout=0.5)).train()


def test_statistics_equal_a_direct_computation(classifier, tree, monkeypatch):
    data = load_data(str(tree), image_size=8)
    monkeypatch.setattr(extraction, "BATCH_SIZE", 7)  # 32 images: a smaller last batch
    found = extract_features(classifier, data.train, data.preprocessing, n_classes=4)
    with torch.no_grad():
        maps = classifier.eval().backbone(data.preprocessing(data.train.images))
    features = maps.mean((2, 3)).double().numpy()
    np.testing.assert_allclose(found.features, features, rtol=1e-5, atol=1e-6)
    assert np.array_equal(found.labels, data.train.labels)
    statistics = found.statistics
    np.testing.assert_allclose(statistics.mean, features.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(statistics.std, features.std(0), rtol=1e-4, atol=1e-6)
    softmax = maps.flatten(2).softmax(2).amax(2).double().numpy()
    expected = (softmax * features).sum(0) / features.sum(0)
    np.testing.assert_allclose(statistics.locality, expected, rtol=1e-4)
    central = np.array([[equation_27(m) for m in image] for image in maps.numpy()])
    expected = -(features / (1 + central)).sum(0) / features.sum(0)
    np.testing.assert_allclose(statistics.centre, expected, rtol=1e-4)
    independence = class_independence(features[:, features.std(0) > 0], found.labels)
    assert 1 - np.nanmean(1 - statistics.class_independence) == pytest.approx(
        independence, rel=1e-3
    )
    indicator = np.eye(4)[found.labels]
    varies = features.std(0) > 0
    correlation = np.corrcoef(indicator.T, features[:, varies].T)[:4, 4:]
    np.testing.assert_allclose(statistics.class_similarity[:, varies], correlation, atol=1e-4)


def test_every_feature_is_held_once():
    # Of a convolution of one pixel: NumPy holds the features, and torch nothing that is large.
    n_images, n_features = 4000, 500
    images = LabelledImages(np.ones((n_images, 1, 1, 1), np.uint8), np.arange(n_images) % 4)
    backbone = torch.nn.Sequential(torch.nn.Conv2d(1, n_features, 1), torch.nn.ReLU())
    classifier = Classifier(backbone, DenseHead(n_features, 4))
    tracemalloc.start()
    try:
        found = extract_features(classifier, images, Preprocessing((0.5,), (0.5,)), n_classes=4)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.features.shape == (n_images, n_features)
    assert peak < 1.5 * found.features.nbytes


def equation_27(feature_map: np.ndarray) -> int:
    height, width = feature_map.shape
    y, x = (i + 1 for i in np.unravel_index(feature_map.argmax(), feature_map.shape))
    return min(abs(x - width), x - 1, abs(y - height), y - 1)


def test_centre_is_equation_27():
    maps = torch.randn(40, 5, 7, 10)
    expected = [[-1 / (1 + equation_27(m)) for m in image] for image in maps.numpy()]
    torch.testing.assert_close(centre(maps), torch.tensor(expected, dtype=torch.float32))
    assert torch.unique(centre(maps)).numel() == 4  # 0 to 3 pixels from the edge
    single = torch.zeros(1, 1, 5, 9)
    single[0, 0, 2, 4] = 1.0
    assert centre(single).item() == pytest.approx(-1 / 3)
    assert centre(torch.ones(1, 1, 1, 1)).item() == -1.0


def test_spatial_maximum_is_the_largest_softmax_value():
    maps = 50 * torch.randn(3, 4, 5, 6)
    torch.testing.assert_close(spatial_maximum(maps), maps.flatten(2).softmax(2).amax(2))
