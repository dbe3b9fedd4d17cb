"""A classifier on disk: tensors, and beside them all that is needed to rebuild and feed it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from qpm_nn.backbones import create_backbone
from qpm_nn.data import Framing, Preprocessing, read_image
from qpm_nn.data.reading import Box
from qpm_nn.heads import AssignmentHead, Classifier, DenseHead, Head, SparseHead
from qpm_opt import InvalidInputError
from qpm_opt.files import replace_on_success

FORMAT = "qpm-model/2"
#: Format 1 does not say how images were framed, and has no hierarchy.
READABLE = ("qpm-model/1", FORMAT)
#: Names of the heads in the file.
HEADS: dict[type[Head], str] = {
    DenseHead: "dense",
    AssignmentHead: "assignment",
    SparseHead: "sparse",
}


@dataclass(frozen=True)
class ClassifierSpec:
    """What a classifier is made of and made for.

    Attributes
    ----------
    arch : str
        Name of the backbone.
    image_shape : tuple of int
        Channels, height and width.
    class_names : tuple of str
    preprocessing : Preprocessing
    hierarchy : tuple of tuples of str
        Names of the parents of each class, the nearest first; empty if there are none.
    reduced_strides : bool
        Of the backbone.
    weights : str
        What the backbone was trained from: nothing, ``imagenet`` or a file.
    adapter : tuple of int
        Widths of the adapter behind a frozen backbone; empty if the backbone itself was trained.
    """

    arch: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    hierarchy: tuple[tuple[str, ...], ...] = ()
    reduced_strides: bool = False
    weights: str = ""
    adapter: tuple[int, ...] = ()

    def read(self, path: str | os.PathLike[str], box: Box | None = None) -> Tensor:
        """An image file as the classifier was trained to see it.

        Parameters
        ----------
        path : path
        box : tuple of float, optional
            Left, upper, right and lower edge of the object in pixels, the last two exclusive; for a
            classifier of crops.

        Returns
        -------
        Tensor of shape (1, channels, height, width), uint8
            For ``preprocessing``, then the classifier.

        Raises
        ------
        InvalidInputError
            If the file cannot be read, or the box is missing.
        """
        framing = self.preprocessing.framing
        if framing.crop and box is None:
            raise InvalidInputError(
                f"The classifier was trained on crops; give the box around the object in {path}."
            )
        return torch.from_numpy(read_image(path, self.image_shape, framing, box).copy())[None]


def save_classifier(
    path: str | os.PathLike[str], classifier: Classifier, spec: ClassifierSpec
) -> None:
    """Write ``path`` (``.safetensors``) and the same name with ``.json``, which has its hash.

    If one of them cannot be written, what was there before stays.
    """
    path = Path(path)
    head = classifier.head
    _check_class_names(spec, head)
    with (
        replace_on_success(path.with_suffix(".json")) as description,
        replace_on_success(path) as tensors,
    ):
        # As bytes, since the library reports a full disk by an error of its own.
        tensors.write_bytes(save(classifier.state_dict()))
        record = {
            "format": FORMAT,
            **asdict(spec),
            "head": HEADS[type(head)],
            "dropout": head.dropout.p,
            "relu": isinstance(head, AssignmentHead) and head.relu,
            "weights_sha256": file_sha256(tensors),
        }
        description.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def load_classifier(path: str | os.PathLike[str]) -> tuple[Classifier, ClassifierSpec]:
    """Classifier, in evaluation mode on the CPU, written by :func:`save_classifier`.

    Raises
    ------
    InvalidInputError
        If one of the two files is missing or damaged, or they do not belong together.
    """
    path = Path(path)
    description = path.with_suffix(".json")
    try:
        record = json.loads(description.read_text(encoding="utf-8"))
        tensors, digest = load_file(path), file_sha256(path)
    except FileNotFoundError as failure:
        raise InvalidInputError(f"{failure.filename or path} does not exist.") from None
    except (OSError, ValueError, SafetensorError) as failure:
        raise InvalidInputError(f"{path} cannot be read as a classifier: {failure}") from None
    if not isinstance(record, dict) or record.get("format") not in READABLE:
        raise InvalidInputError(
            f'{description} is no model: "format" is not "{FORMAT}" or an older one.'
        )
    # Files of older versions have no hash.
    if record.get("weights_sha256", digest) != digest:
        raise InvalidInputError(
            f"{path} is damaged, or belongs to another model: its hash is not the one in "
            f"{description}; copy the two files together."
        )
    try:
        preprocessing = record["preprocessing"]
        spec = ClassifierSpec(
            arch=record["arch"],
            image_shape=tuple(record["image_shape"]),
            class_names=tuple(record["class_names"]),
            preprocessing=Preprocessing(
                tuple(preprocessing["mean"]),
                tuple(preprocessing["std"]),
                Framing(**preprocessing.get("framing", {})),
            ),
            hierarchy=tuple(map(tuple, record.get("hierarchy", ()))),
            reduced_strides=record.get("reduced_strides", False),
            weights=record.get("weights", ""),
            adapter=tuple(record.get("adapter", ())),
        )
        backbone = create_backbone(
            spec.arch,
            spec.image_shape[0],
            reduced_strides=spec.reduced_strides,
            adapter=spec.adapter,
        )
        classifier = Classifier(backbone, _make_head(record, tensors))
        classifier.load_state_dict(tensors)
        spec.preprocessing(torch.zeros(1, spec.image_shape[0], 1, 1, dtype=torch.uint8))
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as failure:
        raise InvalidInputError(
            f"{path} and {description} do not describe a classifier together: {failure}"
        ) from None
    _check_class_names(spec, classifier.head)
    return classifier.eval(), spec


def _check_class_names(spec: ClassifierSpec, head: Head) -> None:
    if len(spec.class_names) != len(head.weight):
        raise InvalidInputError(
            f"There are {len(spec.class_names)} class names, but the head has {len(head.weight)} "
            "classes; a name for each was expected."
        )


def file_sha256(path: Path) -> str:
    """Hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _make_head(record: dict[str, Any], tensors: dict[str, Tensor]) -> Head:
    (kind,) = (kind for kind, name in HEADS.items() if name == record["head"])
    if kind is DenseHead:
        n_classes, n_features = tensors["head.linear.weight"].shape
        return DenseHead(n_features, n_classes, record["dropout"])
    prefix = "head."
    arrays: dict[str, Any] = {
        name.removeprefix(prefix): tensor.numpy()
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
    if kind is AssignmentHead:
        arrays["relu"] = record.get("relu", False)  # older files have no such head
    return kind(**arrays, dropout=record["dropout"])
