"""Settings of a run from layers: command line, configuration file, presets.

A setting is looked for on the command line, then in the configuration file, then in a preset that
was asked for by name, then in those of the model and of the data set, then in the defaults of
:mod:`qpm_nn.config`.
"""

from __future__ import annotations

import functools
import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from qpm_nn.config import RunConfig
from qpm_nn.presets import (
    MODEL_OF_DATA_PRESETS,
    MODEL_PRESETS,
    PRESETS,
    SCHEDULE_OF_ARCH_PRESETS,
    SCHEDULE_OF_DATA_PRESETS,
    SCHEDULE_PRESETS,
)
from qpm_opt import InvalidInputError
from qpm_opt.errors import unknown_name


def make_config(*layers: Mapping[str, Any], preset: str = "") -> RunConfig:
    """Settings from nested mappings; later layers win over earlier ones and over the presets.

    Parameters
    ----------
    layers : mapping
    preset : str
        One of ``SCHEDULE_PRESETS``, which wins over the preset of the data set.

    Raises
    ------
    InvalidInputError
        If a setting is unknown, of the wrong type or out of range.
    """
    if preset and preset not in SCHEDULE_PRESETS:
        raise unknown_name("preset", preset, SCHEDULE_PRESETS)
    schedule = SCHEDULE_PRESETS.get(preset, {})
    given = _make(schedule, *layers)
    data = given.data.name
    presets = (
        PRESETS.get(data, {}),
        MODEL_PRESETS.get(given.model, {}),
        MODEL_OF_DATA_PRESETS.get((data, given.model), {}),
        schedule,
    )
    arch = _make(*presets, *layers).arch
    published = (
        SCHEDULE_OF_ARCH_PRESETS.get((preset, arch), {}),
        SCHEDULE_OF_DATA_PRESETS.get((preset, data), {}),
    )
    return _make(*presets, *published, *layers)


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Content of a TOML file, a layer for :func:`make_config`.

    Raises
    ------
    InvalidInputError
        If the file is missing or no TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInputError(f"{path} does not exist.") from None
    except (OSError, ValueError) as failure:
        raise InvalidInputError(f"{path} cannot be read as TOML: {failure}") from None


def _make(*layers: Mapping[str, Any]) -> RunConfig:
    """Defaults with the layers on them; names and types are those of each, ranges of the whole."""
    checked = (_checked(RunConfig, layer, "") for layer in layers)
    return _changed(RunConfig(), functools.reduce(_overlaid, checked, {}))


def _checked(section: type, layer: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    types = get_type_hints(section)
    checked = {}
    for key, value in layer.items():
        if key not in types:
            raise unknown_name("setting", prefix + key, [prefix + name for name in types])
        wanted = types[key]
        if is_dataclass(wanted):
            if not isinstance(value, Mapping):
                raise InvalidInputError(f"{prefix}{key} is {value!r}; a section was expected.")
            value = _checked(wanted, value, f"{prefix}{key}.")
        else:
            if wanted is float and type(value) is int and abs(value) < sys.float_info.max:
                value = float(value)
            if type(value) is not wanted:
                raise InvalidInputError(
                    f"{prefix}{key} is {value!r}; a value of type {wanted.__name__} was expected."
                )
        checked[key] = value
    return checked


def _overlaid(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    changes = {
        key: _overlaid(lower.get(key, {}), value) if isinstance(value, dict) else value
        for key, value in upper.items()
    }
    return {**lower, **changes}


def _changed(config: Any, changes: Mapping[str, Any]) -> Any:
    values = {
        key: _changed(getattr(config, key), value) if isinstance(value, dict) else value
        for key, value in changes.items()
    }
    return replace(config, **values)
