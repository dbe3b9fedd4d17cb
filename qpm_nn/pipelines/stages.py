"""A run directory whose stages are reused exactly as long as nothing they depend on has changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeGuard

from qpm_opt import InvalidInputError
from qpm_opt.files import remove_unfinished, replace_on_success
from qpm_opt.locking import locked

logger = logging.getLogger(__name__)

RECORD = "stages.json"
LOG = "log.jsonl"


class RunDirectory:
    """Files of one run, with a record of what each was made from.

    A stage is a function from settings and input files to output files. Its key is a hash of the
    settings and of the *contents* of the inputs. Outputs count as valid while the key is the same
    and their contents are those that the stage wrote; everything else is made again.

    Parameters
    ----------
    path : path
        Created if missing.
    resume : bool
        Whether to reuse what is valid; otherwise every stage runs again, and what is there goes.

    Attributes
    ----------
    settings_changed : bool
        Whether what is there was made under other settings.
    on_change : callable
        Called before any stage that runs, when what was made under other settings has gone.

    Raises
    ------
    InvalidInputError
        If the path is a file, or a folder with other things in it.
    """

    def __init__(self, path: str | os.PathLike[str], *, resume: bool = True) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise InvalidInputError(f"{self.path} is a file; give the name of a folder.")
        if self.path.is_dir() and any(self.path.iterdir()) and not (self / LOG).exists():
            raise InvalidInputError(
                f"{self.path} is not empty and holds no run; give a new or empty folder."
            )
        self.path.mkdir(parents=True, exist_ok=True)
        (self / LOG).touch()  # marks the folder as a run from the first moment on
        self.resume = resume
        self.settings_changed = False
        self.on_change: Callable[[], None] = lambda: None
        self._records: dict[str, Any] = {}
        self._up_to_date: set[str] = set()

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands out while stages run; the lock of a run that was killed is free.

        The files that such a run was writing are deleted.

        Raises
        ------
        InvalidInputError
            If another command is in it.
        """
        with locked(self.path):
            remove_unfinished(self.path)
            self._records = self._read_records()
            self._up_to_date = set()
            yield

    def run_stage(
        self,
        name: str,
        run: Callable[[str], None],
        *,
        settings: Mapping[str, Any],
        inputs: Sequence[str] = (),
        outputs: Sequence[str],
        extras: Sequence[str] = (),
        check: Callable[[], None] | None = None,
    ) -> bool:
        """Run a stage unless its outputs are valid; within :meth:`locked`.

        Parameters
        ----------
        name : str
        run : callable
            Writes the outputs; takes the stage's key.
        settings : mapping
            All settings that the outputs depend on; JSON.
        inputs, outputs : sequence of str
            File names below the run directory.
        extras : sequence of str
            Files that it may write besides; they go when the outputs go.
        check : callable, optional
            Raises if the stage cannot run; called before it would, with nothing removed yet for it.

        Returns
        -------
        bool
            Whether it ran.
        """
        sources = {source: _sha256(self / source) for source in inputs}
        text = json.dumps([name, settings, sources], sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()
        if self._is_valid(name, key, outputs):
            self._up_to_date.add(name)
            self.log(name, "reused")
            return False
        if check is not None:
            check()
        if self.settings_changed or not self.resume:
            self._forget_the_rest()
        # A kill may come between the outputs and their record; without a key they are not valid.
        self._write_record(name, "", dict.fromkeys(outputs, ""), extras)
        self.on_change()
        self.log(name, "started")
        run(key)
        made = {output: _sha256(self / output) for output in outputs}
        self._write_record(name, key, made, extras)
        self._up_to_date.add(name)
        self.log(name, "finished")
        return True

    @property
    def has_stages(self) -> bool:
        """Whether there is anything on record; within :meth:`locked`."""
        return bool(self._records)

    def forget(self, name: str) -> None:
        """Let a stage run again, its outputs being there until it has made new ones."""
        self._records.pop(name, None)

    def _forget_the_rest(self) -> None:
        """Remove what stages have made that were not reused until now.

        A kill must not leave files of two runs, or of two models, side by side. Under the same
        settings, and if the run is to resume, they stay: a stage that makes the same again spares
        those after it.
        """
        for stale in self._records.keys() - self._up_to_date:
            record = self._records.pop(stale)
            for name in [*record["outputs"], *record.get("extras", ())]:
                (self / name).unlink(missing_ok=True)

    def _write_record(
        self, stage: str, key: str, outputs: Mapping[str, str], extras: Sequence[str]
    ) -> None:
        self._records[stage] = {"key": key, "outputs": outputs, "extras": list(extras)}
        with replace_on_success(self / RECORD) as temporary:
            temporary.write_text(json.dumps(self._records, indent=1) + "\n", encoding="utf-8")

    def log(self, stage: str, event: str, **values: Any) -> None:
        """Append a line to the log."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "stage": stage, "event": event, **values})
        with (self / LOG).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _is_valid(self, name: str, key: str, outputs: Sequence[str]) -> bool:
        record = self._records.get(name)
        return (
            (self.resume or name in self._up_to_date)
            and record is not None
            and record["key"] == key
            and record["outputs"].keys() == set(outputs)
            and all(
                (self / output).is_file() and _sha256(self / output) == digest
                for output, digest in record["outputs"].items()
            )
        )

    def _read_records(self) -> dict[str, Any]:
        try:
            records = json.loads((self / RECORD).read_text(encoding="utf-8"))
            if not _are_records(records):
                raise ValueError("it is no record of stages")
            return records
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as failure:
            logger.warning(
                "%s cannot be read (%s); every stage runs again, and files that none makes stay.",
                RECORD,
                failure,
            )
            return {}


def _are_records(found: object) -> TypeGuard[dict[str, Any]]:
    """Whether all is there that :meth:`RunDirectory.run_stage` writes."""
    return isinstance(found, dict) and all(
        isinstance(record, dict)
        and isinstance(record.get("key"), str)
        and isinstance(outputs := record.get("outputs"), dict)
        and isinstance(extras := record.get("extras", []), list)
        and all(isinstance(name, str) for name in [*outputs.values(), *extras])
        for record in found.values()
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
