"""How much the machine itself adds to a time: one run, made several times."""

from __future__ import annotations

import datetime
import json
import tempfile
from pathlib import Path
from typing import Any

from qpm_bench.instances import instance
from qpm_bench.measures import relative_noise
from qpm_bench.records import Status
from qpm_bench.runner import Run, add_instances, execute
from qpm_opt import InvalidInputError
from qpm_opt.files import replace_on_success

#: Proved within seconds, by arithmetic that does not depend on the clock.
INSTANCE = "paper_like_10x40_s0"


def measure_noise(folder: Path, n_runs: int, *, threads: int = 1) -> dict[str, Any]:
    """Make the same run of the method exact several times; what they took goes to ``noise.json``.

    Parameters
    ----------
    folder : Path
        Of a campaign.
    n_runs : int
        At least 2.
    threads : int
        As in the campaign.

    Returns
    -------
    dict
        What the file holds: ``instance``, ``times`` (seconds of the whole process),
        ``relative_noise`` (:func:`qpm_bench.measures.relative_noise`), ``threads``, ``machine``,
        ``date``.

    Raises
    ------
    InvalidInputError
        If there are fewer than two runs, or one of them proves no optimum.
    """
    if n_runs < 2:
        raise InvalidInputError(f"{n_runs} runs show no noise; at least 2 are needed.")
    times, machine = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        hashes = add_instances(Path(temporary), {INSTANCE: instance(INSTANCE)})
        run = Run(
            instance=INSTANCE, instance_sha256=hashes[INSTANCE], method="exact", threads=threads
        )
        for _ in range(n_runs):
            record = execute(Path(temporary), run)
            if record.status is not Status.OK:
                raise InvalidInputError(
                    f"The run that measures the noise ended with {record.status} "
                    f"{record.reason}; free the machine and measure again."
                )
            (Path(temporary) / "records.jsonl").unlink()  # or the next would not be run
            times.append(record.wall_time)
            machine = record.machine
    held = {
        "instance": INSTANCE,
        "times": times,
        "relative_noise": relative_noise(times),
        "threads": threads,
        "machine": machine,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with replace_on_success(folder / "noise.json") as path:
        path.write_text(json.dumps(held, indent=1) + "\n", encoding="utf-8")
    return held
