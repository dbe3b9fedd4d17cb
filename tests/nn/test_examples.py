"""The examples run as they stand, and learn something."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "package"),
    [("plain_pytorch", "torch"), ("lightning_module", "lightning"), ("timm_model", "timm")],
)
def test_example(name, package, tmp_path):
    pytest.importorskip(package, reason=f"the package {package} is not installed")
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(EXAMPLES.parent)},
    )
    assert done.returncode == 0, done.stderr
    (accuracy,) = re.findall(r"accuracy (0\.\d+|1\.0+)", done.stdout)
    assert float(accuracy) > 0.9
    assert not list(tmp_path.iterdir())


def test_every_example_is_tried():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        "plain_pytorch",
        "lightning_module",
        "timm_model",
    }
