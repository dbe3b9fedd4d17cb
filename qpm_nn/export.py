"""A classifier as an ONNX file that takes raw images, for programs without PyTorch."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from qpm_nn.heads import AssignmentHead, SparseHead
from qpm_nn.pretrained import QPMModel
from qpm_opt import InvalidInputError
from qpm_opt.files import replace_on_success

ENDING = ".onnx"
#: Of the batch that is traced; sizes 0 and 1 would be taken for constants.
TRACED_BATCH = 2


class _WithFeatures(nn.Module):
    """Logits and features of uint8 images."""

    def __init__(self, model: QPMModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        inputs = self.model.spec.preprocessing(images)
        found = self.model.classifier.activations(inputs)
        return found.logits, found.features


def export_onnx(model: QPMModel, path: str | os.PathLike[str]) -> None:
    """Write a model with its preprocessing as an ONNX file.

    The input ``images`` (n_images, channels, height, width) is uint8, as ``spec.read`` returns it;
    n_images is free. The outputs are ``logits`` (n_images, n_classes) and ``features`` (n_images,
    n_features), normalised ones if the model selects features. The metadata hold, as JSON,
    ``class_names`` and, if it selects, ``selected``: the index in the backbone of each feature.

    Parameters
    ----------
    model : QPMModel
        On the CPU; put into evaluation mode.
    path : path
        Ends in ``.onnx``.

    Raises
    ------
    InvalidInputError
        If a package is missing, the path ends otherwise, or ONNX has no word for a part of the
        backbone.
    OSError
        If the file cannot be written.
    """
    check_packages()
    path = Path(path)
    if path.suffix != ENDING:
        raise InvalidInputError(f"{path} does not end in {ENDING}; give a name that does.")
    spec = model.spec
    images = torch.zeros(TRACED_BATCH, *spec.image_shape, dtype=torch.uint8)
    try:
        program = torch.onnx.export(
            _WithFeatures(model).eval(),
            (images,),
            dynamo=True,
            input_names=["images"],
            output_names=["logits", "features"],
            dynamic_shapes={"images": {0: torch.export.Dim("n_images")}},
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as failure:
        reason = str(failure).strip().splitlines()[0]
        raise InvalidInputError(f"{spec.arch} cannot be written as ONNX: {reason}") from failure
    metadata = program.model.metadata_props
    metadata["class_names"] = json.dumps(spec.class_names)
    head = model.classifier.head
    if isinstance(head, AssignmentHead | SparseHead):
        metadata["selected"] = json.dumps(head.selected.tolist())
    with replace_on_success(path) as temporary:
        program.save(temporary, external_data=False)


def check_packages() -> None:
    """Refuse if a package is missing that writes ONNX files.

    Raises
    ------
    InvalidInputError
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as missing:
        raise InvalidInputError(
            f"ONNX files need the package {missing.name}; install the extra: pip install '.[onnx]'."
        ) from None
