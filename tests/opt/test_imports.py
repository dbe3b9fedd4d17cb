"""Imports run one way, cost little and load neither torch nor a solver."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import qpm_opt

ROOT = Path(qpm_opt.__file__).parent
HEAVY = ("torch", "highspy", "ortools", "gurobipy", "pyscipopt", "pyomo", "matplotlib", "sklearn")

#: Every module may import those of earlier layers only; within a layer nobody imports anybody.
LAYERS = [
    {"errors"},
    {"child", "files", "locking", "shortening", "validation"},
    {"assign_distinct", "assignment", "pair_sets", "pairs", "problem_file"},
    {"problem"},
    {"assign_program", "demands", "proof_file", "signs"},
    {
        "assign_pairs",
        "certificate_check",
        "demand_weights",
        "epsilon",
        "features",
        "result",
        "separation",
        "swaps",
    },
    {"assign"},
    {"auroc", "bias", "proof_check"},
    {"constants", "heuristics", "tracking", "formulation", "progress"},
    {"steering_result", "verification"},
    {"bounds"},
    {"solvers"},
    {"methods", "warm_start"},
    {"optimize"},
    {"average", "cover", "steering"},
    {"cli"},
    {"what_if_cli"},
    {"__main__"},
]


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(run.stdout.splitlines()[-1])}


@pytest.mark.parametrize(
    "statement",
    ["import qpm_opt", "import qpm_opt.cli", "import qpm_nn.cli", "import qpm_opt.methods.exact"],
)
def test_import_loads_nothing_heavy(statement):
    assert not loaded_after(statement) & set(HEAVY)


def imported(path: Path) -> set[str]:
    """Top modules of qpm_opt that a file imports at module level."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "qpm_opt":
                names = [f"qpm_opt.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("qpm_opt.")}
    return found


def test_every_module_has_its_layer():
    modules = {path.stem for path in ROOT.glob("*.py")} | {"bounds", "cover", "methods", "solvers"}
    assert modules - {"__init__"} == set().union(*LAYERS)


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path):
    name = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if name == "__init__":
        return
    layer = next(i for i, names in enumerate(LAYERS) if name in names)
    allowed = set().union(*LAYERS[:layer])
    if path.parent != ROOT:
        allowed.add(name)  # a package's modules may import each other
    assert imported(path) <= allowed


def test_public_names_are_those_documented():
    assert sorted(qpm_opt.__all__, key=str.lower) == sorted(set(qpm_opt.__all__), key=str.lower)
    for name in qpm_opt.__all__:
        value = getattr(qpm_opt, name)
        assert isinstance(value, tuple | dict) or value.__doc__, f"{name} has no docstring"
