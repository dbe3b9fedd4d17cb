"""Growing series: classes and features double from one size to the next, for growth to be seen."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from qpm_bench.instances import paper_like
from qpm_opt import Problem


class Size(NamedTuple):
    n_classes: int
    n_features: int
    n_selected: int = 50
    n_per_class: int = 5

    def __str__(self) -> str:
        return f"{self.n_classes}x{self.n_features}"

    def problem(self) -> Problem:
        return _problem(self)


@cache
def _problem(size: Size) -> Problem:
    n_classes, n_features, n_selected, n_per_class = size
    return paper_like(n_classes, n_features, n_selected=n_selected, n_per_class=n_per_class)


#: Up to CUB-200 on a ResNet50, p and k as in the QPM paper: parts that a solve goes through once.
LARGE = [Size(25, 256), Size(50, 512), Size(100, 1024), Size(200, 2048)]
#: Bounds.
MEDIUM = [Size(10, 60, 8, 3), Size(20, 120, 12, 4), Size(40, 240, 20, 4)]
#: Whole solves; the last ones are beyond the solvers within a few seconds.
SMALL = [Size(6, 24, 6, 2), Size(12, 48, 8, 3), Size(24, 96, 12, 4), Size(48, 192, 16, 4)]
