"""What the instances of a campaign are, so that a record can be cited."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from qpm_bench.instances import find
from qpm_opt import Problem
from qpm_opt.files import replace_on_success

FORMAT = "qpm-instances/1"

logger = logging.getLogger(__name__)


def add_to_manifest(folder: Path, problems: Mapping[str, Problem]) -> None:
    """Describe problems in the manifest of a campaign's folder; what it describes already stays.

    Of each: ``sha256``, ``family`` and ``citation`` (from the registry by that hash, else empty and
    the problem's own source), sizes, ``best_known`` and ``proved``.
    """
    path = manifest_path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        held = read_manifest(folder)
        described = held | {name: _described(problem) for name, problem in problems.items()}
        if described != held:
            text = json.dumps({"format": FORMAT, "instances": described}, indent=1)
            with replace_on_success(path) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Descriptions by instance name; empty, with a warning, if the file is damaged."""
    path = manifest_path(folder)
    if not path.exists():
        return {}
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["format"] != FORMAT:
            raise ValueError(f"it is not of the format {FORMAT}")
        return dict(held["instances"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as damage:
        logger.warning("%s is damaged and counts as empty: %s", path, damage)
        return {}


def manifest_path(folder: Path) -> Path:
    """``instances/manifest.json`` of a campaign's folder."""
    return folder / "instances" / "manifest.json"


def _described(problem: Problem) -> dict[str, Any]:
    row = find(problem)
    return {
        "sha256": problem.sha256,
        "family": "" if row is None else row.family,
        "citation": problem.source if row is None else row.citation,
        "n_classes": problem.n_classes,
        "n_features": problem.n_features,
        "n_selected": problem.n_selected,
        "n_per_class": problem.n_per_class,
        "best_known": problem.best_known,
        "proved": problem.proved,
    }
