"""Building models of the paper's size."""

from __future__ import annotations

import pytest

from qpm_opt.formulation import build_compact


@pytest.mark.parametrize("products", ["quadratic", "continuous"])
def test_build_compact(benchmark, large, products):
    benchmark.pedantic(build_compact, (large,), {"products": products})
    benchmark.extra_info["n_pairs"] = large.similar_pairs[0].size
