"""Contrastiveness of a dense ResNet-50 on CUB-200: a mixture for each of 2048 features."""

from __future__ import annotations

import numpy as np
import pytest


def test_contrastiveness(benchmark):
    pytest.importorskip("torch", reason="the metrics need the extra nn")
    from qpm_nn.metrics import contrastiveness

    rng = np.random.default_rng(0)
    features = rng.exponential(size=(6000, 2048)).astype(np.float32)
    on = rng.random(features.shape, dtype=np.float32) < rng.random(2048) / 2
    features += on * rng.uniform(0, 5, 2048).astype(np.float32)
    benchmark.pedantic(contrastiveness, (features,), rounds=1)
