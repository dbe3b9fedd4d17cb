"""The table of all instances that have a name: what they are, whence they come, what is known.

The table is ``registry.csv``. Its hash is that of the problem (:attr:`qpm_opt.Problem.sha256`) and
decides what a published figure belongs to; a name or a seed alone never does.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from qpm_bench.digits import digits
from qpm_bench.generators import on_grid, paper_like
from qpm_bench.planted import planted
from qpm_bench.tiny import tiny
from qpm_opt import Problem


@dataclass(frozen=True)
class Instance:
    """A row of the table.

    Attributes
    ----------
    name, family : str
    n_classes, n_features, n_selected, n_per_class : int
    seed : int or None
        Of the generator; None if the instance is read from a public file.
    best_known : float or None
        Best objective known, in the sense of :class:`qpm_opt.Problem` (maximised).
    proved : bool
        Whether that is the optimum; ``evidence`` says by what, or who published the value.
    evidence : str
    sha256 : str
        Hash of the problem.
    """

    name: str
    family: str
    n_classes: int
    n_features: int
    n_selected: int
    n_per_class: int
    seed: int | None
    best_known: float | None
    proved: bool
    evidence: str
    sha256: str

    @property
    def citation(self) -> str:
        """Source with its paper."""
        return FAMILIES[self.family].citation

    def make(self) -> Problem:
        """The problem as this machine generates it, its hash not checked."""
        maker = FAMILIES[self.family].make
        assert maker is not None, "public instances are read from files"
        known = {"name": self.name, "best_known": self.best_known, "proved": self.proved}
        return replace(maker(self), **known)


@dataclass(frozen=True)
class Family:
    """Where instances come from; ``make`` is None for those that are read from public files."""

    citation: str
    make: Callable[[Instance], Problem] | None = None


def _tiny(row: Instance) -> Problem:
    return tiny(
        row.name.removeprefix("tiny_"),
        n_classes=row.n_classes,
        n_features=row.n_features,
        n_selected=row.n_selected,
        n_per_class=row.n_per_class,
        seed=row.seed or 0,
    )


def _planted(row: Instance) -> Problem:
    return planted(
        row.n_classes,
        row.n_features,
        n_selected=row.n_selected,
        n_per_class=row.n_per_class,
        seed=row.seed or 0,
    ).problem


def _paper_like(row: Instance) -> Problem:
    return on_grid(
        paper_like(
            row.n_classes,
            row.n_features,
            n_selected=row.n_selected,
            n_per_class=row.n_per_class,
            seed=row.seed or 0,
        )
    )


def _digits(row: Instance) -> Problem:
    return on_grid(
        digits(
            row.n_features,
            n_selected=row.n_selected,
            n_per_class=row.n_per_class,
            seed=row.seed or 0,
        )
    )


_QPM = "constants as in Norrenbrock et al., QPM, ICLR 2025"
FAMILIES = {
    "tiny": Family("qpm_bench.tiny", _tiny),
    "planted": Family("qpm_bench.planted", _planted),
    "digits": Family(
        "Alpaydin, Kaynak, Optical Recognition of Handwritten Digits, UCI ML Repository 1998 "
        f"(qpm_bench.digits); {_QPM}",
        _digits,
    ),
    "paper_like": Family(f"qpm_bench.generators; {_QPM}", _paper_like),
    "p-median": Family("OR-Library; Beasley, EJOR 21 (1985) 270-273"),
    "k-cluster": Family("k-cluster library, CEDRIC/CNAM; Lambert"),
    "max-diversity": Family(
        "MDPLIB; Marti, Gallego, Duarte, EJOR 200 (2010) 36-44; values of GKD-c: Spiers, Bui, "
        "Loxton, EJOR 311 (2023) 444-454"
    ),
    "QPLIB": Family("QPLIB; Furini et al., Math. Prog. Comp. 11 (2019) 237-265"),
}


@cache
def registry() -> dict[str, Instance]:
    """All instances by name, in the order of the table."""
    text = resources.files("qpm_bench").joinpath("registry.csv").read_text(encoding="utf-8")
    rows = [_instance(row) for row in csv.DictReader(text.splitlines())]
    return {row.name: row for row in rows}


def _instance(row: dict[str, str]) -> Instance:
    return Instance(
        name=row["name"],
        family=row["family"],
        n_classes=int(row["n_classes"]),
        n_features=int(row["n_features"]),
        n_selected=int(row["n_selected"]),
        n_per_class=int(row["n_per_class"]),
        seed=int(row["seed"]) if row["seed"] else None,
        best_known=float(row["best_known"]) if row["best_known"] else None,
        proved=row["proved"] == "1",
        evidence=row["evidence"],
        sha256=row["sha256"],
    )
