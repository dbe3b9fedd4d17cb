"""Named sets of instances of the registry."""

from __future__ import annotations

from pathlib import Path

from qpm_bench.instances import instance
from qpm_bench.names import check_name
from qpm_bench.registry import registry
from qpm_opt import Problem

#: Names of instances by suite. "scaling" grows the features at 20 classes, then the classes at 128
#: features; all of it has p = 12 and k = 3.
SUITES: dict[str, tuple[str, ...]] = {
    "tiny": (
        *(name for name, row in registry().items() if row.family == "tiny"),
        "planted_3x10_s0",
        "planted_3x10_s1",
    ),
    "small": (
        "paper_like_10x40_s0",
        "paper_like_10x40_s1",
        "paper_like_20x100_s0",
        "paper_like_50x256_s0",
        "planted_10x40_s0",
        "planted_20x100_s0",
        "planted_30x200_s0",
        "digits_10x64",
        "digits_10x128",
        "digits_10x256",
    ),
    "scaling": (
        *(f"paper_like_20x{n_features}_s0" for n_features in (32, 64, 128, 256, 512, 1024)),
        *(f"paper_like_{n_classes}x128_s0" for n_classes in (5, 10, 40, 80, 160)),
    ),
    "paper": tuple(f"paper_like_200x2048_s{seed}" for seed in range(5)),
    "large": ("paper_like_1000x2048_s0",),
}


def suite_names(name: str) -> tuple[str, ...]:
    """Names of the instances of a suite.

    Raises
    ------
    InvalidInputError
        If there is no such suite.
    """
    check_name("suite", name, SUITES)
    return SUITES[name]


def suite(name: str, folder: Path | None = None) -> dict[str, Problem]:
    """Instances of a suite, by name, made now.

    Parameters
    ----------
    name : str
    folder : Path, optional
        With files of instances that were made before, see :func:`qpm_bench.instances.instance`.

    Raises
    ------
    InvalidInputError
        If there is no such suite, or one of its instances cannot be made.
    """
    return {one: instance(one, folder) for one in suite_names(name)}
