"""Submodular-cost submodular cover of images by linear boundaries, greedily and to proof.

The problem of *Finding Representative Interpretations on Convolutional Neural Networks* (Lam et
al., ICCV 2021, eq. 3): of given linear boundaries choose some, so that the region they cut out
around an input holds as many images of the input's class as possible and hardly any other.
"""

from qpm_opt.cover.greedy import greedy_cover
from qpm_opt.cover.problem import CoverProblem
from qpm_opt.cover.result import CoverResult
from qpm_opt.cover.set_cover import SetCover, minimum_set_cover
from qpm_opt.cover.solve import COVER_METHODS, solve_cover

__all__ = [
    "COVER_METHODS",
    "CoverProblem",
    "CoverResult",
    "SetCover",
    "greedy_cover",
    "minimum_set_cover",
    "solve_cover",
]
