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


def read_record(path: Path) -> dict[str, Any]:
    """A record, every part with its settings."""
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for kind, settings in SETTINGS.items():
        record[kind] = [settings | part for part in record[kind]]
    return record


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
        If the file is of another network.
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
        """
        parts = self._content[kind]
        if any(settings.items() <= part.items() for part in parts):
            return False
        parts.append({**settings, **run()})
        with replace_on_success(self._path) as temporary:
            temporary.write_text(json.dumps(self._content, indent=1) + "\n", encoding="utf-8")
        return True
