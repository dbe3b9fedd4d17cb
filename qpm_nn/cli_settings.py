"""Any setting of a run on the command line, as ``SECTION.NAME=VALUE``."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import Any, get_type_hints

from qpm_nn.config import RunConfig
from qpm_opt import InvalidInputError


def read_setting(text: str) -> dict[str, Any]:
    """Layer for :func:`~qpm_nn.config_layers.make_config` of one setting.

    Parameters
    ----------
    text : str
        Like ``dense.epochs=3``; the value as in TOML. Strings need no quotes, and numbers may begin
        or end with their point.

    Raises
    ------
    InvalidInputError
        If there is no name or no value. Unknown names and wrong types are found when the layer is
        used, as those of files are.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (name and equals):
        raise InvalidInputError(
            f"--set {text!r} is no setting; SECTION.NAME=VALUE was expected, like dense.epochs=3."
        )
    keys = name.split(".")
    layer = _read_value(value, _type_of(keys))
    for key in reversed(keys):
        layer = {key: layer}
    return layer


def _read_value(text: str, wanted: object) -> Any:
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        found = {}
    if found.keys() == {"value"} and (wanted is not str or isinstance(found["value"], str)):
        return found["value"]
    if wanted is float:
        try:
            return float(text)
        except ValueError:
            pass
    return text


def _type_of(keys: Sequence[str]) -> object:
    """Type of a setting; None if there is no such setting."""
    return functools.reduce(lambda section, key: _hints(section).get(key), keys, RunConfig)


def _hints(section: object) -> dict[str, Any]:
    return get_type_hints(section) if is_dataclass(section) else {}
