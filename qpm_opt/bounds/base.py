"""What every bound returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qpm_opt.bounds.proof import Certificate
from qpm_opt.validation import FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Bound:
    """An upper bound on the objective over a region, or on objective and reward.

    Attributes
    ----------
    value : float
        The value of the certificate, rounded up.
    certificate : Certificate
    price_in, price_out : ndarray, (n_free,)
        What the bound falls by, at least, where a free feature is (not) selected.
    s : ndarray, (n_free,)
        Fractional selection behind the bound, for heuristics and branching.
    state : object
        Where the same bound starts from on a part of the region.
    """

    value: float
    certificate: Certificate
    price_in: FloatArray
    price_out: FloatArray
    s: FloatArray
    state: Any = None
