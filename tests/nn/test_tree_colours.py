"""Colours of features."""

from __future__ import annotations

import numpy as np
import pytest

from qpm_nn.explanations import feature_colours
from qpm_nn.explanations.colours import _EYES, _lab


def distances(colours):
    """In OKLab, to the eyes that tell the two apart the worst of (3, n, n)."""
    rgb = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colours]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = [_lab((linear @ eyes.T).clip(0, 1)) for eyes in _EYES]
    return np.stack([np.linalg.norm(lab[:, None] - lab, axis=2) for lab in seen])


def test_lightness_of_white_and_grey():
    np.testing.assert_allclose(
        _lab(np.array([[1.0, 1, 1], [0, 0, 0]])), [[1, 0, 0], [0, 0, 0]], atol=1e-6
    )


@pytest.mark.parametrize(("n_features", "usual", "blind"), [(10, 0.15, 0.07), (50, 0.06, 0.03)])
def test_colours_differ_to_all_eyes(n_features, usual, blind):
    found = distances(list(feature_colours(range(n_features)).values()))
    pairs = found[:, *np.triu_indices(n_features, 1)]
    assert pairs[0].min() > usual and pairs[1:].min() > blind


def test_colours_depend_on_the_position_only():
    colours = feature_colours([7, 3, 90])
    assert list(colours) == [7, 3, 90]
    assert list(colours.values()) == list(feature_colours(range(200)).values())[:3]
    assert len(set(feature_colours(range(200)).values())) == 200
    assert feature_colours([]) == {}


def test_more_features_than_colours():
    assert len(feature_colours(range(3000))) == 3000
