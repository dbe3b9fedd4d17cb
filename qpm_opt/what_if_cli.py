"""The command ``qpm what-if``: a solved problem again under demands, what they cost in words."""

from __future__ import annotations

import json
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qpm_opt.cli import (
    EXIT_FAILURE,
    EXIT_NO_SOLUTION,
    SEED,
    FiniteRange,
    check_writable,
    save_or_fall_back,
    stderr,
    stdout,
    undisturbed,
)
from qpm_opt.errors import InvalidInputError
from qpm_opt.files import replace_on_success
from qpm_opt.locking import locked_if_run
from qpm_opt.shortening import shortened

if TYPE_CHECKING:
    from qpm_opt.steering_result import WhatIf

#: Classes and features that are listed before the rest is only counted.
_LISTED_CLASSES, _LISTED_FEATURES = 10, 30


@click.command("what-if")
@click.argument("source", metavar="RUN|PROBLEM", type=click.Path(path_type=Path))
@click.argument("solution", required=False, type=click.Path(path_type=Path))
@click.option("--require", multiple=True, type=int, metavar="F", help="Feature F is selected.")
@click.option("--forbid", multiple=True, type=int, metavar="F", help="Feature F is not selected.")
@click.option("--require-for", multiple=True, metavar="CLASS:F", help="The class has feature F.")
@click.option("--forbid-for", multiple=True, metavar="CLASS:F", help="The class does not.")
@click.option(
    "--differ", multiple=True, metavar="CLASS,CLASS:F", help="Exactly one of two classes has it."
)
@click.option(
    "--time-limit",
    type=FiniteRange(),
    default=7.0,
    show_default=True,
    metavar="SECONDS",
    help="For reading and solving.",
)
@click.option(
    "--method", default="heuristic", show_default=True, help="heuristic, exact, compact, paper."
)
@click.option("--threads", type=click.IntRange(1, 1024), help="All usable processors by default.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="[what-if.json beside the solution]",
)
def what_if(
    source: Path,
    solution: Path | None,
    require: tuple[int, ...],
    forbid: tuple[int, ...],
    require_for: tuple[str, ...],
    forbid_for: tuple[str, ...],
    differ: tuple[str, ...],
    time_limit: float,
    out: Path | None,
    **options: Any,
) -> None:
    """Solve a run again under demands, from its solution, and say what they cost.

    Give the directory of a RUN, or a PROBLEM (.npz) and its SOLUTION (.json). Features are named by
    their index in the backbone, as in figures; classes by name (of a run) or label. Every option
    may be given several times.

    OUT gets all that is said here; the solution goes beside it, to OUT's stem and .solution.json.
    """
    began = time.perf_counter()
    from qpm_opt import steering
    from qpm_opt.demands import Demands
    from qpm_opt.problem import Problem

    folder = source if solution is None else solution.parent
    folders = [folder] if out is None else [folder, out.parent]
    click.get_current_context().with_resource(locked_if_run(*folders))
    problem_file, solution, names = _input(source, solution)
    out = solution.with_name("what-if.json") if out is None else out
    beside = out.with_name(f"{out.stem}.solution.json")
    for path in (out, beside):
        for given in (problem_file, solution):
            check_writable(path, given)
    problem = Problem.load(problem_file)
    if names is not None and len(names) != problem.n_classes:
        raise InvalidInputError(
            f"{source} names {len(names)} classes, but its problem has {problem.n_classes}; finish "
            "the run, or give its problem.npz and solution.json."
        )
    classes = _Classes(names, problem.n_classes)
    demands = Demands(
        required=require,
        forbidden=forbid,
        required_for=tuple(classes.with_feature("--require-for", text) for text in require_for),
        forbidden_for=tuple(classes.with_feature("--forbid-for", text) for text in forbid_for),
        different=tuple(classes.pair_with_feature(text) for text in differ),
    )
    # Reading takes part of the time: a person waits for all of it.
    left = max(0.0, time_limit - (time.perf_counter() - began))
    found = steering.what_if(
        problem, demands, solution, time_limit=left, class_name=classes.name, **options
    )
    if found.after is None:
        known = found.termination_condition == "infeasible"
        stderr.print(
            "No solution meets the demands."
            if known
            else "No solution that meets the demands was found; raise --time-limit, or try "
            "--method exact, which may prove that there is none.",
            style="bold red",
        )
        sys.exit(EXIT_NO_SOLUTION)
    _print(found, problem.n_classes, classes.name)
    if found.rejections:
        for sentence in found.rejections:
            stdout.print(f"wrong: {sentence}")
        sys.exit(EXIT_FAILURE)
    text = json.dumps(found.to_dict(names), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    with undisturbed():
        written = save_or_fall_back(lambda path: _write(path, text), out)
        kept = save_or_fall_back(lambda path: found.save_solution(path, problem), beside)
    stdout.print(f"what-if    {written}")
    stdout.print(f"solution   {kept}")
    if written != out or kept != beside:
        sys.exit(EXIT_FAILURE)


def _input(source: Path, solution: Path | None) -> tuple[Path, Path, list[str] | None]:
    """Problem file, solution file and names of the classes, as far as they are known."""
    if not source.is_dir():
        if solution is None:
            raise InvalidInputError(
                f"{source} is no directory of a run; give one, or a problem file and a solution."
            )
        return source, solution, None
    if solution is not None:
        raise InvalidInputError(
            f"{source} is a directory, which has its own solution; leave {solution} out, or give a "
            "problem file in the place of the directory."
        )
    for name in ("problem.npz", "solution.json"):
        if not (source / name).is_file():
            raise InvalidInputError(
                f"{source} has no {name}; give the directory of a run of qpm or chiqpm that has "
                "come that far."
            )
    path = source / "config.toml"
    if path.is_file():
        try:
            settings = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as failure:
            raise InvalidInputError(
                f"{path} cannot be read ({failure}); give the run's problem.npz and solution.json."
            ) from None
        if settings.get("problem", {}).get("sparsity") == "average":
            raise InvalidInputError(
                f"{source} is a run with sparsity 'average', whose classes have not equally many "
                "features; give a run with equal classes."
            )
    return source / "problem.npz", source / "solution.json", _class_names(source)


def _class_names(run: Path) -> list[str] | None:
    """Names of the classes of a run; None if it has no model yet."""
    path = run / "model.json"
    if not path.exists():
        return None
    try:
        return list(map(str, json.loads(path.read_text(encoding="utf-8"))["class_names"]))
    except (OSError, ValueError, KeyError, TypeError) as failure:
        raise InvalidInputError(
            f"{path} cannot be read ({failure}); give the run's problem.npz and solution.json."
        ) from None


class _Classes:
    """Classes as users name them: by name, or by label where no class has that name."""

    def __init__(self, names: Sequence[str] | None, n_classes: int) -> None:
        self._names, self._n = names, n_classes

    def name(self, c: int) -> str:
        """What a class is called in a sentence."""
        return f"class {c}" if self._names is None else shortened(self._names[c])

    def find(self, text: str) -> int | None:
        """Label of the class that the text names; None if there is none."""
        labels = [c for c, name in enumerate(self._names or ()) if name == text]
        if len(labels) > 1:
            raise InvalidInputError(
                f"{len(labels)} classes are called {text!r}; name it by its label, one of "
                f"{', '.join(map(str, labels))}."
            )
        if labels:
            return labels[0]
        return int(text) if text.isdecimal() and int(text) < self._n else None

    def with_feature(self, option: str, text: str) -> tuple[int, int]:
        """Class and feature of CLASS:F; the class may have colons in its name."""
        given, feature = _split(option, text, "CLASS:F")
        label = self.find(given)
        if label is None:
            raise self._unknown(option, given)
        return label, feature

    def pair_with_feature(self, text: str) -> tuple[int, int, int]:
        """Classes and feature of CLASS,CLASS:F; classes may have commas in their names."""
        given, feature = _split("--differ", text, "CLASS,CLASS:F")
        parts = given.split(",")
        pairs = {
            (first, second)
            for i in range(1, len(parts))
            if (first := self.find(",".join(parts[:i]))) is not None
            and (second := self.find(",".join(parts[i:]))) is not None
        }
        if len(pairs) > 1:
            raise InvalidInputError(
                f"--differ {text!r} can be read in {len(pairs)} ways, as commas are in the names; "
                "name the classes by their labels."
            )
        if not pairs:
            if len(parts) == 2:
                unknown = next(part for part in parts if self.find(part) is None)
                raise self._unknown("--differ", unknown)
            raise InvalidInputError(
                f"--differ {text!r} does not hold two classes, CLASS,CLASS:F; name them by name or "
                f"by label, from 0 to {self._n - 1}."
            )
        return (*pairs.pop(), feature)

    def _unknown(self, option: str, given: str) -> InvalidInputError:
        import difflib

        near = difflib.get_close_matches(given, self._names or (), n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        by = "by label" if self._names is None else "by name, or by label"
        return InvalidInputError(
            f"{option}: there is no class {given!r}; name it {by}, from 0 to {self._n - 1}.{hint}"
        )


def _split(option: str, text: str, form: str) -> tuple[str, int]:
    """What stands before the last colon, and the feature behind it."""
    given, colon, feature = text.rpartition(":")
    if not colon or not feature.strip().isdecimal():
        raise InvalidInputError(
            f"{option} {text!r} is not of the form {form}, with F the index of a feature."
        )
    return given, int(feature)


def _write(path: Path, text: str) -> None:
    with replace_on_success(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _print(found: WhatIf, n_classes: int, name: Callable[[int], str]) -> None:
    """What the demands cost, what is different, and whether that was checked."""
    cost, share = found.cost, found.relative_cost
    assert cost is not None and share is not None
    stdout.print(f"objective  {found.objective_after:.9g}, before {found.objective_before:.9g}")
    relative = f" ({abs(100 * share):.3g} %)"
    if cost > 0:
        stdout.print(f"cost       {cost:.6g}{relative}")
    elif cost < 0:
        stdout.print(
            f"cost       none: {-cost:.6g}{relative} better, the solution before was not the best"
        )
    else:
        stdout.print("cost       none")
    if found.bound is not None:
        gap = found.relative_gap
        assert gap is not None
        status = "optimal" if found.solution_status == "optimal" else f"gap {100 * gap:.3g} %"
        stdout.print(f"bound      {found.bound:.9g} ({found.bound_kind}): {status}")
    stdout.print(
        f"features   {_listed(found.features_lost)} out, {_listed(found.features_gained)} in"
    )
    changes = found.class_changes
    stdout.print(f"classes    {len(changes)} of {n_classes} have other features")
    for change in changes[:_LISTED_CLASSES]:
        stdout.print(
            f"           {name(change.label)}: {_listed(change.lost)} out, "
            f"{_listed(change.gained)} in"
        )
    if len(changes) > _LISTED_CLASSES:
        stdout.print(f"           and {len(changes) - _LISTED_CLASSES} more")
    if not found.rejections:
        stdout.print("verified   every constraint, every demand and the objective")
    stdout.print(f"time       {found.wall_time:.1f} s")


def _listed(features: Iterable[int]) -> str:
    shown = [str(d) for d in features]
    if len(shown) > _LISTED_FEATURES:
        shown[_LISTED_FEATURES:] = [f"and {len(shown) - _LISTED_FEATURES} more"]
    return ", ".join(shown) or "none"
