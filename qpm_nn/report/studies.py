"""Case studies that ``qpm explain --representative`` has left in a run, read and checked."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from pathlib import Path
from typing import Any

from qpm_nn.explanations.representative.figure import HEAT_SHAPE, STUDY_FORMAT

logger = logging.getLogger(__name__)

_FILE = re.compile(r"image_([0-9]+)_representative\.json")
_HEAT = re.compile(rf"[0-9a-f]{{{2 * math.prod(HEAT_SHAPE)}}}")


def study_files(folder: Path) -> list[Path]:
    """Files of case studies in a folder of figures, in the order of the test images."""
    found = [
        (int(match[1]), path.name, path)
        for path in folder.glob("*.json")
        if (match := _FILE.fullmatch(path.name))
    ]
    return [path for _, _, path in sorted(found)]


def read_studies(
    folder: Path, *, n_test: int, n_train: int, n_classes: int
) -> list[dict[str, Any]]:
    """The case studies in a folder of figures, each of another test image.

    Those that are damaged, of another version or not of these data are left out, and named.

    Parameters
    ----------
    folder : Path
    n_test, n_train : int
        Test images that may have been explained, and training images that may be covered.
    n_classes : int
    """
    studies = []
    for path in study_files(folder):
        try:
            study = json.loads(path.read_text(encoding="utf-8"))
            _check(study, n_test, n_train, n_classes)
            if path.name != f"image_{study['input']['index']}_representative.json":
                raise _UnknownStudyError
        except (OSError, ValueError, LookupError, TypeError, RecursionError, _UnknownStudyError):
            logger.warning(
                "%s is damaged, of another version or of other data; explain the image again.",
                path,
            )
        else:
            studies.append(study)
    return studies


class _UnknownStudyError(Exception):
    """What a file holds is not what a report shows."""


def _check(study: Any, n_test: int, n_train: int, n_classes: int) -> None:
    """Everything that a report shows of a case study is there, and of its type and range.

    What is no mapping or list, or lacks an entry, raises ``TypeError`` or ``LookupError``.
    """
    _expect(study["format"] == STUDY_FORMAT and study["heat_shape"] == list(HEAT_SHAPE))
    found, greedy, similar = study["interpretation"], study["greedy"], study["similar"]
    _check_image(study["input"], n_test)
    _expect(isinstance(similar, list))
    for image in similar:
        _check_image(image, n_train)
    boundaries = found["boundaries"]
    _expect(isinstance(boundaries, list))
    classes = [found["class"]]
    for boundary in boundaries:
        _expect(isinstance(boundary["classes"], list) and len(boundary["classes"]) == 2)
        classes += boundary["classes"]
    _expect(all(_is_count(c, n_classes - 1) for c in classes))
    words = [found[name] for name in ("layer", "sampling", "method")]
    _expect(all(isinstance(word, str) and word.isprintable() for word in words))
    _expect(_is_count(found["n_sampled"]) and len(boundaries) <= found["n_sampled"])
    _expect(_is_count(found["n_same"], n_train))
    _expect(_is_count(found["n_covered_same"], found["n_same"]))
    _expect(_is_count(found["n_covered_other"], n_train))
    _expect(_is_count(found["bound"], n_train))
    gap = found["relative_gap"]
    _expect(gap is None or _is_number(gap))
    _expect(isinstance(found["has_fewest"], bool))
    _expect(set(greedy) == {"n_covered_same", "n_boundaries"})
    _expect(_is_count(greedy["n_covered_same"], found["n_same"]))
    _expect(_is_count(greedy["n_boundaries"], found["n_sampled"]))


def _check_image(image: Any, n_images: int) -> None:
    _expect(_is_count(image["index"], n_images - 1))
    _expect(_is_number(image["distance"]))
    _expect(_is_number(image["probability"]) and image["probability"] <= 1)
    _expect(isinstance(image["heat"], str) and _HEAT.fullmatch(image["heat"]) is not None)


def _expect(is_so: bool) -> None:
    if not is_so:
        raise _UnknownStudyError


def _is_count(value: Any, most: int = sys.maxsize) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _is_number(value: Any) -> bool:
    """Whether it is finite, and 0 or more."""
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and 0 <= value <= sys.float_info.max
