"""Data behind figures, as plain values that JSON can hold."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

#: Metadata of a dataclass's field with pixels, which pictures have and JSON does not.
PIXELS = {"is_pixels": True}


class PlainData:
    """Base of frozen dataclasses with what a figure shows."""

    def to_dict(self) -> dict[str, Any]:
        """All of it but pixels in lists, dictionaries and plain numbers, for JSON.

        A number that is NaN or infinite becomes None: JSON has no such numbers.
        """
        assert is_dataclass(self)
        return {
            field.name: _plain(getattr(self, field.name))
            for field in fields(self)
            if not field.metadata.get("is_pixels")
        }


def _plain(value: Any) -> Any:
    if isinstance(value, PlainData):
        return value.to_dict()
    if isinstance(value, dict):
        return {str(key): _plain(held) for key, held in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(held) for held in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
