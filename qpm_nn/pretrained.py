"""A saved classifier with all that is needed to use it: names, preprocessing, explanations."""

from __future__ import annotations

import operator
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from qpm_nn.conformal import Calibration, HeldOut, load_calibration, save_calibration
from qpm_nn.explanations.tree import ClassTrees
from qpm_nn.explanations.words import explain_class
from qpm_nn.extraction import BATCH_SIZE
from qpm_nn.heads import AssignmentHead, Classifier, DenseHead, SparseHead
from qpm_nn.saving import ClassifierSpec, file_sha256, load_classifier, save_classifier
from qpm_opt import InvalidInputError
from qpm_opt.errors import unknown_name

FILE, DESCRIPTION, CALIBRATION = "model.safetensors", "model.json", "calibration.json"


class ClassComparison(NamedTuple):
    """Two classes as sets of features, which are counted as in the backbone.

    Attributes
    ----------
    first, second : str
        Names of the classes.
    shared, only_first, only_second : list of int
        Features of both, and of one of them. One that counts for one class and against the other
        is in both of the last.
    """

    first: str
    second: str
    shared: list[int]
    only_first: list[int]
    only_second: list[int]

    def __str__(self) -> str:
        """For example ``3 and 8 share features 12, 40; 3 alone has 7, 8 alone has 21``."""

        def listed(features: list[int]) -> str:
            return ", ".join(map(str, features)) or "none"

        return (
            f"{self.first} and {self.second} share features {listed(self.shared)}; {self.first} "
            f"alone has {listed(self.only_first)}, {self.second} alone has "
            f"{listed(self.only_second)}"
        )


class QPMModel(nn.Module):
    """Images as they are read to logits, and classes in words.

    Parameters
    ----------
    classifier : Classifier
    spec : ClassifierSpec
    calibration : Calibration, optional
        Of prediction sets.
    """

    def __init__(
        self, classifier: Classifier, spec: ClassifierSpec, calibration: Calibration | None = None
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.spec = spec
        self.calibration = calibration

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str]) -> QPMModel:
        """Model of a folder, such as that of a run, in evaluation mode on the CPU.

        If prediction sets were calibrated, the model has their calibration.

        Raises
        ------
        InvalidInputError
            If the folder holds no model, a damaged one, or the calibration of another.
        """
        path = Path(path)
        classifier, spec = load_classifier(path / FILE)
        calibration = None
        if (path / CALIBRATION).exists():
            calibration = load_calibration(path / CALIBRATION, file_sha256(path / DESCRIPTION))
        return cls(classifier, spec, calibration).eval()

    def save_pretrained(self, path: str | os.PathLike[str]) -> None:
        """Write ``model.safetensors`` and ``model.json`` into a folder, made if it is missing.

        And ``calibration.json``, if the model is calibrated; otherwise one that is there goes.
        """
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        (path / CALIBRATION).unlink(missing_ok=True)
        save_classifier(path / FILE, self.classifier, self.spec)
        if self.calibration is not None:
            save_calibration(path / CALIBRATION, self.calibration, file_sha256(path / DESCRIPTION))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n_images, n_classes) of uint8 images (n_images, channels, height, width).

        ``spec.read`` makes such images of files.
        """
        return self.classifier(self.spec.preprocessing(images))

    def features(self, images: Tensor) -> Tensor:
        """What the logits are sums of, (n_images, n_selected), for uint8 images."""
        return self.classifier.activations(self.spec.preprocessing(images)).features

    @torch.no_grad()
    def calibrate(
        self, images: Tensor, labels: Tensor, alpha: float = 0.1, **options: Any
    ) -> Calibration:
        """Calibrate prediction sets on images that the model was not trained on.

        Parameters
        ----------
        images : Tensor of shape (n_images, channels, height, width), uint8
        labels : Tensor of shape (n_images,), int
        alpha : float
            Miscoverage: the class of a new image is in its set with a probability of at least
            1 - alpha.
        **options
            ``method`` and others of :func:`qpm_nn.conformal.calibrate`.

        Returns
        -------
        Calibration
            The model keeps it, also when it is saved. It is of the weights as they are now.
        """
        (self.calibration,) = self._says(images, labels).calibrate_each((alpha,), **options)
        return self.calibration

    @torch.no_grad()
    def predict_set(self, images: Tensor) -> Tensor:
        """Prediction sets of uint8 images, bool of shape (n_images, n_classes).

        Raises
        ------
        InvalidInputError
            If the model is not calibrated.
        """
        if self.calibration is None:
            raise InvalidInputError(
                "The model is not calibrated; call calibrate, or run qpm calibrate on its folder."
            )
        return self._says(images).predict_set(self.calibration)

    @torch.no_grad()
    def explain(self, images: Tensor) -> ClassTrees:
        """Hierarchical explanations of uint8 images (n_images, channels, height, width).

        ``explain(images).tree(i)`` has the classes that share the strongest feature with the
        prediction for image i, ``tree(i, "global")`` all. If the model is calibrated, the
        prediction set is marked.

        Raises
        ------
        InvalidInputError
            If the classes are not sets of equally many features that speak for them.
        """
        said = self._says(images)
        if said.features is None or said.assignment is None:
            raise InvalidInputError(
                "The model has no hierarchy: its classes are not sets of equally many features "
                "that speak for them."
            )
        calibration = self.calibration
        return ClassTrees(
            said.features,
            said.logits.argmax(1),
            said.assignment,
            self._head.selected,
            self.spec.class_names,
            None if calibration is None else said.predict_set(calibration),
        )

    def _says(self, images: Tensor, labels: Tensor | None = None) -> HeldOut:
        was_training = self.training
        self.eval()
        parts = []
        for batch in images.split(BATCH_SIZE):
            activations = self.classifier.activations(self.spec.preprocessing(batch))
            parts.append((activations.logits, activations.features))
        self.train(was_training)
        logits, features = map(torch.cat, zip(*parts, strict=True))
        if labels is None:
            labels = logits.argmax(1)
        return HeldOut.of(self.classifier.head, logits, labels, features)

    def explain_class(self, c: int | str) -> str:
        """A class, by label or name, as a set of features, beside the class most like it.

        Of an SLDD-Model, Q-SENN, glm-saga_5 or a QPM of average sparsity: as a sum of weighted
        features (:func:`qpm_nn.explanations.explain_class`).

        Raises
        ------
        InvalidInputError
            If there is no such class, or the model is dense.
        """
        return explain_class(self._head, self._label(c), self.spec.class_names)

    def compare(self, first: int | str, second: int | str) -> ClassComparison:
        """What two classes, by label or name, share, and what each has alone.

        If features have weights, those are shared that have the same sign.

        Raises
        ------
        InvalidInputError
            If there is no such class, or the model is dense.
        """
        labels = self._label(first), self._label(second)
        one, other = (self._head.signed_assignment[label] for label in labels)
        selected = np.tile(self._head.selected.cpu().numpy(), 2)
        parts = (one & other, one & ~other, other & ~one)
        return ClassComparison(
            *(self.spec.class_names[label] for label in labels),
            *(sorted(selected[part].tolist()) for part in parts),
        )

    @property
    def _head(self) -> AssignmentHead | SparseHead:
        head = self.classifier.head
        if isinstance(head, DenseHead):
            raise InvalidInputError(
                "The model has no assignment: it is dense, all classes use all features."
            )
        return head

    def _label(self, c: int | str) -> int:
        names = self.spec.class_names
        if isinstance(c, str):
            if c not in names:
                raise unknown_name("class", c, names)
            return names.index(c)
        try:
            if isinstance(c, bool):
                raise TypeError
            label = operator.index(c)
        except TypeError:
            raise InvalidInputError(
                f"The class is {c!r}; a label, which is a whole number, or a name was expected."
            ) from None
        if not 0 <= label < len(names):
            raise InvalidInputError(
                f"There is no class {label}; labels from 0 to {len(names) - 1} were expected."
            )
        return label
