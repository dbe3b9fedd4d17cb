"""Handwritten digits that ship with scikit-learn: nothing to download."""

from __future__ import annotations

import numpy as np

from qpm_nn.data.augmentation import Augmentation
from qpm_nn.data.base import TEST_EVERY, DataModule, rank_in_class
from qpm_nn.data.images import LabelledImages


def load_digits() -> DataModule:
    """The 1,797 digits of 8 x 8 pixels, 10 classes.

    The split is fixed and stratified: of each class, in the order of the file, every fifth image is
    a test image (1,442 for training, 355 for testing).

    References
    ----------
    Alpaydin, Kaynak, Optical Recognition of Handwritten Digits, UCI repository (1998); the part
    distributed as :func:`sklearn.datasets.load_digits`.
    """
    from sklearn import datasets

    digits = datasets.load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = digits.target
    is_test = rank_in_class(labels) % TEST_EVERY == TEST_EVERY - 1
    return DataModule(
        name="digits",
        train=LabelledImages(images[~is_test], labels[~is_test]),
        test=LabelledImages(images[is_test], labels[is_test]),
        class_names=tuple(map(str, range(10))),
        augmentation=Augmentation(degrees=10, scale=0.1, shear=0.1, translate=0.08),
    )
