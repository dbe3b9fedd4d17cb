"""What a training run left: one line of JSON, with all settings that it depends on."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qpm_nn.config import RunConfig
from qpm_nn.pipelines.base import versions
from qpm_nn.pipelines.run import run

#: What a record keeps of a solution.
SOLUTION = ("objective", "bound", "relative_gap", "termination_condition", "solve_time")


@dataclass(frozen=True)
class TrainedModel:
    """One run.

    Attributes
    ----------
    variant : str
    config : mapping
        All settings.
    metrics : mapping
        Content of ``metrics.json``: metrics by classifier.
    solution : mapping
        What the solution says about itself; empty without one.
    seconds : float
        Of the run; what it took over from an earlier one is not in it.
    ended : str
    versions : mapping
    """

    variant: str
    config: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, float | None]]
    solution: Mapping[str, Any]
    seconds: float
    ended: str
    versions: Mapping[str, str]

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self.config["data"]["name"]

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.config["seed"]

    @property
    def final(self) -> Mapping[str, float | None]:
        """Metrics of the classifier that the run was for, the last one."""
        return list(self.metrics.values())[-1]

    @property
    def settings(self) -> dict[str, Any]:
        """What the results depend on beside the seed and the machine."""
        config = {key: value for key, value in self.config.items() if key != "seed"}
        data = {key: value for key, value in config["data"].items() if key != "root"}
        return config | {"data": data, "weights": Path(config["weights"]).name}


def train(variant: str, config: RunConfig, folder: Path) -> TrainedModel:
    """Run a variant in a folder, taking over what runs there have left that it shares with them."""
    begun = time.perf_counter()
    directory = run(config, folder)
    solution = {}
    if (directory / "solution.json").exists():
        whole = json.loads((directory / "solution.json").read_text(encoding="utf-8"))
        solution = {key: whole[key] for key in SOLUTION}
    return TrainedModel(
        variant,
        asdict(config),
        json.loads((directory / "metrics.json").read_text(encoding="utf-8")),
        solution,
        time.perf_counter() - begun,
        datetime.now(UTC).isoformat(timespec="seconds"),
        versions(),
    )


def append(path: Path, record: TrainedModel) -> None:
    """Add a line to a file of records."""
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps(asdict(record)) + "\n")  # a line cut by a kill stays alone


def read(paths: list[Path]) -> list[TrainedModel]:
    """Records in files; the last one of equal settings counts, lines cut by a kill do not.

    A setting that is missing in a record, which is older than it, has its default there.
    """
    found: dict[str, TrainedModel] = {}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                record = TrainedModel(**json.loads(line))
                record = replace(record, config=_completed(record.config))
            except (ValueError, TypeError):
                continue
            found[json.dumps([record.variant, record.config], sort_keys=True)] = record
    return list(found.values())


def _completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, with defaults of those that the run could not have yet.

    Not with presets: the run did not have these either.
    """
    defaults = asdict(RunConfig())
    return defaults | {
        key: defaults.get(key, {}) | value if isinstance(value, Mapping) else value
        for key, value in config.items()
    }
