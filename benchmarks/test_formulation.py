"""Building models."""

from __future__ import annotations

import pytest

from benchmarks.sizes import LARGE
from qpm_opt.formulation import build_compact

SIZES = LARGE


@pytest.mark.parametrize("products", ["quadratic", "continuous"])
def test_build_compact(benchmark, problem, products):
    benchmark.pedantic(build_compact, (problem,), {"products": products})
    benchmark.extra_info["n_pairs"] = problem.similar_pairs[0].size
