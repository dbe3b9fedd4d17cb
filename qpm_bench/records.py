"""What one run of a solver left, and the file that holds all runs of a campaign."""

from __future__ import annotations

import contextlib
import enum
import json
import logging
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from filelock import FileLock

logger = logging.getLogger(__name__)

FORMAT = "qpm-record/1"


class Status(enum.StrEnum):
    """How a run ended."""

    OK = "OK"
    """It came to its own end."""
    TIME = "TIME"
    """The time limit ended it, or it was killed for overrunning."""
    MEMORY = "MEMORY"
    """It ran out of memory, or was killed at the limit."""
    LICENCE = "LICENCE"
    """The solver's licence does not admit the model."""
    MISSING = "MISSING"
    """The solver, or the library of a peer, is not installed."""
    UNSUPPORTED = "UNSUPPORTED"
    """The method does not take such instances: unsolved, but no failure."""
    ERROR = "ERROR"
    """It failed; the reason says how."""
    WRONG = "WRONG"
    """Its solution breaks a constraint, or a verified solution refutes its bound or objective."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run. Times are seconds, memory is bytes; what is not known is None.

    Attributes
    ----------
    key : str
        Hash of all that defines the run; a campaign holds every key once.
    instance, instance_sha256 : str
    method, solver : str
        Of :mod:`qpm_bench.entrants`; ``solver`` is empty for methods without one.
    seed, permutation, threads : int
        ``permutation`` is 0 if classes and features had the order of the instance's file.
    time_limit : float
    start_sha256 : str
        Hash of the start's file; empty if the run had no start.
    status : Status
    reason : str
        Why it is not OK.
    objective, bound : float or None
        As stated by the run; :mod:`qpm_bench.judge` recomputes the first and tests the second.
    bound_kind : str
        Where the bound comes from.
    certified : bool
        Whether the bound came with a certificate, which was checked when the run had ended.
    selection, assignment : list
        Selected features; those of every class. Indices are those of the instance's file.
    progress : list of (time, incumbent, bound)
    n_cuts, node_count : int or None
    build_time, solve_time : float or None
    wall_time, cpu_time : float
        Of the whole process from its start, with its children.
    peak_memory : int
        Largest sum of the resident memory of the process and its children; shared pages count for
        each.
    termination_condition : str
    versions, machine : dict
    date : str
        UTC, ISO 8601.
    """

    key: str
    instance: str
    instance_sha256: str
    method: str
    solver: str
    seed: int
    permutation: int
    threads: int
    time_limit: float
    start_sha256: str
    status: Status
    reason: str = ""
    objective: float | None = None
    bound: float | None = None
    bound_kind: str = ""
    certified: bool = False
    selection: list[int] = field(default_factory=list)
    assignment: list[list[int]] = field(default_factory=list)
    progress: list[list[float | None]] = field(default_factory=list)
    n_cuts: int | None = None
    node_count: int | None = None
    build_time: float | None = None
    solve_time: float | None = None
    wall_time: float = 0.0
    cpu_time: float = 0.0
    peak_memory: int = 0
    termination_condition: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    date: str = ""

    @property
    def entrant(self) -> str:
        """Method with its solver, such as ``compact-highs``."""
        return f"{self.method}-{self.solver}" if self.solver else self.method

    @classmethod
    def from_json(cls, line: str) -> Record:
        """The record that a line of a file holds.

        Raises
        ------
        ValueError
            If the line is damaged or of another format; the message says how.
        """
        held = json.loads(line)
        if not isinstance(held, dict) or held.pop("format", None) != FORMAT:
            raise ValueError(f"it is no record of the format {FORMAT}")
        missing = [f.name for f in fields(cls) if f.name not in held]
        if missing or len(held) != len(fields(cls)):
            raise ValueError(f"it lacks {', '.join(missing)}" if missing else "it has other fields")
        for f in fields(cls):
            if not _fits(held[f.name], str(f.type)):
                raise ValueError(f"its {f.name} is no {f.type}: {held[f.name]!r:.50}")
        if held["time_limit"] <= 0 or held["threads"] < 1:
            raise ValueError("its time limit or its number of threads is not positive")
        for name in ("seed", "permutation", "wall_time", "cpu_time", "peak_memory"):
            if held[name] < 0:
                raise ValueError(f"its {name} is negative")
        check_instance_name(held["instance"])
        for name, value in held.items():
            if isinstance(value, str):
                held[name] = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", value)
        return cls(**held | {"status": Status(held["status"])})

    def to_json(self) -> str:
        """One line, without its end."""
        return json.dumps({"format": FORMAT, **asdict(self)}, allow_nan=False)


def check_instance_name(name: str) -> None:
    """Raise ValueError unless a name is that of a file in the folder of instances."""
    if not name or name.startswith(".") or any(sign in name for sign in "/\\\0"):
        raise ValueError(f"the instance name {name!r:.60} is no name of a file")


#: Lone surrogates, which no file can hold, and control characters but for ends of lines.
_UNPRINTABLE = re.compile("[\ud800-\udfff\x00-\x08\x0b-\x1f\x7f]")

_KINDS = {"str": str, "int": int, "float": (int, float), "bool": bool, "Status": str}
_KINDS |= {"list": list, "dict": dict}


def _fits(value: Any, annotation: str) -> bool:
    """Whether a value from a file is what the annotation of its field says."""
    if value is None:
        return annotation.endswith(" | None")
    kind = annotation.removesuffix(" | None").split("[")[0]
    if not isinstance(value, _KINDS[kind]):
        return False
    # Numbers that no float holds, such as 1e999, and NaN.
    return kind not in ("int", "float") or abs(value) < 1e300


class RecordFile:
    """Records of a campaign, one a line; only ever appended to, by any number of processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path.with_suffix(".lock"))

    def read(self) -> list[Record]:
        """All records, the last of every key; damaged lines are reported and passed over."""
        records, damages = self.scan()
        for damage in damages:
            logger.warning("%s, %s", self.path, damage)
        return records

    def scan(self) -> tuple[list[Record], list[str]]:
        """All records, the last of every key, and a sentence for each damaged line."""
        records: dict[str, Record] = {}
        damages = []
        for number, line in enumerate(self._lines(), 1):
            if not line.strip():
                continue
            try:
                record = Record.from_json(line)
            except (ValueError, TypeError, RecursionError) as damage:
                damages.append(f"line {number} is passed over: {damage}")
                continue
            records[record.key] = record
        return list(records.values()), damages

    def find(self, key: str) -> Record | None:
        """The record of a key, if there is one; waits for whoever is writing."""
        with self._lock:
            return self._last(key)

    def append(self, record: Record, *, in_place_of: Record | None = None) -> bool:
        """Add a record; False if there is one with its key, other than that which it replaces.

        What it replaces stays in the file; the last record of a key counts.
        """
        with self._lock:
            held = self._last(record.key)
            if held is not None and held != in_place_of:
                return False
            with open(self.path, "a+b") as stream:
                line = record.to_json().encode() + b"\n"
                if stream.tell() and not self._ends_with_a_line(stream):
                    line = b"\n" + line  # a writer was killed in the middle of a line
                stream.write(line)
            return True

    def _lines(self) -> list[str]:
        if not self.path.exists():
            return []
        return self.path.read_text(encoding="utf-8", errors="replace").splitlines()

    def _last(self, key: str) -> Record | None:
        """The last record of a key; of thousands of lines, only those that name it are parsed."""
        for line in reversed(self._lines()):
            if key in line:
                with contextlib.suppress(ValueError, TypeError, RecursionError):
                    record = Record.from_json(line)
                    if record.key == key:
                        return record
        return None

    @staticmethod
    def _ends_with_a_line(stream: Any) -> bool:
        stream.seek(-1, 2)
        return bool(stream.read(1) == b"\n")
