"""A calibration on disk, beside the model that it is of."""

from __future__ import annotations

import json
import os
from pathlib import Path

from qpm_nn.conformal.calibration import Calibration
from qpm_opt import InvalidInputError
from qpm_opt.files import replace_on_success

CALIBRATION_FORMAT = "qpm-calibration/2"


def save_calibration(
    path: str | os.PathLike[str], calibration: Calibration, model_sha256: str
) -> None:
    """Write a calibration, and the hash of the description of the model that it is of, as JSON.

    The description, ``model.json``, has the hash of the weights.
    """
    record = {
        "format": CALIBRATION_FORMAT,
        "model_sha256": model_sha256,
        "calibration": calibration.to_dict(),
    }
    with replace_on_success(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def load_calibration(path: str | os.PathLike[str], model_sha256: str) -> Calibration:
    """Calibration written by :func:`save_calibration`.

    Raises
    ------
    InvalidInputError
        If the file is damaged, or of another model, whose sets would promise nothing.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        if record["format"] != CALIBRATION_FORMAT:
            raise InvalidInputError(
                f"{path} is no calibration of the format {CALIBRATION_FORMAT}; calibrate the model "
                "again."
            )
        if record["model_sha256"] != model_sha256:
            raise InvalidInputError(
                f"{path} is of another model, or of other weights; calibrate this one, or remove "
                "the file."
            )
        return Calibration.from_dict(record["calibration"])
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as failure:
        if isinstance(failure, InvalidInputError):
            raise
        raise InvalidInputError(f"{path} cannot be read as a calibration: {failure}") from None
