"""Records of the experiments: one JSON file a data set, written after every part."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qpm_opt import InvalidInputError
from qpm_opt.files import replace_on_success

#: Settings of parts, with what they were when records did not hold them.
SETTINGS = {
    "choices": {"n_inputs": 100, "time_limit": 10.0, "seed": 16},
    "heat_maps": {"n_inputs": 20, "time_limit": 10.0},
}


#: What a part of a kind has measured, beside its sampling.
_MEASURED = {"choices": ("rows", list), "heat_maps": ("scores", dict)}


def read_record(path: Path) -> dict[str, Any]:
    """A record, every part with its settings.

    Raises
    ------
    InvalidInputError
        If the file is damaged, no record, or of several time limits.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        record = None
    if not _is_record(record):
        raise InvalidInputError(
            f"{path} is no record of these experiments, or damaged; remove it, or give another "
            "folder."
        )
    for kind, settings in SETTINGS.items():
        record[kind] = [settings | part for part in record[kind]]
    limits = sorted({part["time_limit"] for kind in SETTINGS for part in record[kind]})
    if len(limits) > 1:
        raise InvalidInputError(
            f"{path} is of several time limits, {' and '.join(map(str, limits))} seconds, which "
            "the tables would mix; measure each in a folder of its own."
        )
    result: dict[str, Any] = record
    return result


def _is_record(found: Any) -> bool:
    """Whether this holds what is read of a record."""
    return (
        isinstance(found, dict)
        and isinstance(found.get("dataset"), str)
        and all(
            isinstance(found.get(kind), list)
            and all(_is_part(part, *measured) for part in found[kind])
            for kind, measured in _MEASURED.items()
        )
    )


def _is_part(found: Any, name: str, kind: type) -> bool:
    return (
        isinstance(found, dict)
        and isinstance(found.get("sampling"), str)
        and isinstance(found.get("time_limit", 0.0), int | float)
        and isinstance(found.get(name), kind)
    )


class Record:
    """Parts that are measured once: those in the file are not measured again.

    Parameters
    ----------
    path : Path
    network : mapping
        What tells the network: data set, layer, accuracy, hash.

    Raises
    ------
    InvalidInputError
        If the file is of another network, or :func:`read_record` refuses it.
    """

    def __init__(self, path: Path, network: Mapping[str, Any]) -> None:
        self._path = path
        self._content: dict[str, Any] = {**network, "choices": [], "heat_maps": []}
        if not path.exists():
            return
        found = read_record(path)
        for name, value in network.items():
            if found.get(name, value) != value:
                raise InvalidInputError(
                    f"{path} is of another network: its {name} is {found[name]}, not {value}; give "
                    "another folder, or the seed and the threads of before."
                )
        self._content |= {kind: found[kind] for kind in SETTINGS}

    def measure(
        self, kind: str, settings: Mapping[str, Any], run: Callable[[], Mapping[str, Any]]
    ) -> bool:
        """Run and write down a part of a kind, ``choices`` or ``heat_maps``, unless it is there.

        Returns
        -------
        bool
            Whether it ran.

        Raises
        ------
        InvalidInputError
            If what is there has another time limit.
        """
        limits = {part["time_limit"] for each in SETTINGS for part in self._content[each]}
        if limits - {settings["time_limit"]}:
            raise InvalidInputError(
                f"{self._path} is of a time limit of {limits.pop()} seconds, not "
                f"{settings['time_limit']}; give another folder, or the time limit of before."
            )
        parts = self._content[kind]
        if any(settings.items() <= part.items() for part in parts):
            return False
        parts.append({**settings, **run()})
        with replace_on_success(self._path) as temporary:
            temporary.write_text(json.dumps(self._content, indent=1) + "\n", encoding="utf-8")
        return True
