"""b, the value of selecting a feature: from locality, centre, class independence or the user.

References
----------
Norrenbrock et al., QPM: Discrete Optimization for Globally Interpretable Image Classification,
ICLR 2025: sections 3.4 and 4.1.1, eq. 8 (locality); appendix D, eqs. 26 and 27 (centre); eq. 14
(class independence).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from qpm_opt.errors import InvalidFeaturesError, InvalidInputError, unknown_name
from qpm_opt.features import FeatureStatistics
from qpm_opt.files import BIAS, read_array
from qpm_opt.validation import FloatArray

BIAS_SCALE = 10**-0.5
"""lambda, the largest absolute feature bias (section 4.1.1)."""

BiasSource = Literal["locality", "centre", "class_independence"]

_OUTLIER_PERCENTILES = (2, 98)


def feature_bias(values: ArrayLike, scale: float = BIAS_SCALE, *, clip: bool = True) -> FloatArray:
    """b from what features are worth: outliers clipped, centred, largest absolute value ``scale``.

    Values are clipped to their 2nd and 98th percentiles (winsorised; Tukey, The Future of Data
    Analysis, 1962). The paper only says "clipped outliers" (section 4.1.1), and this rule needs no
    parameter tied to the shape of the distribution.

    Parameters
    ----------
    values : array of shape (n_features,)
        Higher is better, on any scale. NaN where nothing is known: such a feature is neutral, its
        bias is 0.
    scale : float
        lambda, >= 0.
    clip : bool
        Whether outliers are clipped. Where a few features are marked on purpose, they must not be:
        they are the outliers.

    Returns
    -------
    ndarray of shape (n_features,)
        Zeros if all known values are equal.
    """
    array = np.asarray(values, dtype=np.float64)
    bias = np.zeros_like(array)
    known = ~np.isnan(array)
    if not known.any():
        return bias
    kept = array[known]
    if clip:
        kept = np.clip(kept, *np.percentile(kept, _OUTLIER_PERCENTILES))
    # Differences at the level of rounding are none, and must not be blown up to ``scale``.
    if np.ptp(kept) > 1e-12 * np.abs(kept).max():
        centred = kept - kept.mean()
        bias[known] = scale * (centred / np.abs(centred).max())
    return bias


def bias_from(
    bias: BiasSource | ArrayLike,
    statistics: FeatureStatistics,
    *,
    locality: ArrayLike | None = None,
    centre: ArrayLike | None = None,
    scale: float = BIAS_SCALE,
) -> FloatArray:
    """b of a problem from any source; features that do not vary take no part.

    Parameters
    ----------
    bias : {"locality", "centre", "class_independence"} or array of shape (n_features,)
        ``locality`` prefers features whose maps are peaked where they are active, ``centre`` those
        that are active far from the edges of the image, ``class_independence`` those that many
        classes share. An array says what each feature is worth (NaN: neutral). All are centred and
        scaled; those with a name are clipped before, an array is not.
    statistics : FeatureStatistics
        Of all training images.
    locality, centre : array of shape (n_features,), optional
        Take the place of those in the statistics. Without any locality, b = 0.
    scale : float
        lambda, the largest absolute value; 0 switches b off.

    Raises
    ------
    InvalidInputError
        If the source is unknown, its values are missing, or an option is unusable.
    """
    if not (np.isfinite(scale) and scale >= 0.0):
        raise InvalidInputError(f"bias_scale is {scale}; a number >= 0 was expected.")
    n_features = statistics.n_features
    if not isinstance(bias, str):
        values = _as_worth("bias", bias, n_features)
    elif bias == "locality":
        known = statistics.locality if locality is None else locality
        if known is None:
            return np.zeros(n_features)
        values = _as_worth("locality", known, n_features)
    elif bias == "centre":
        known = statistics.centre if centre is None else centre
        if known is None:
            raise InvalidFeaturesError(
                'bias is "centre", but nothing says where features are active; give centre with '
                "the features, or another bias."
            )
        values = _as_worth("centre", known, n_features)
    elif bias == "class_independence":
        values = statistics.class_independence
    else:
        raise unknown_name("bias", bias, get_args(BiasSource))
    worth = np.where(statistics.varies, values, np.nan)
    return feature_bias(worth, scale, clip=isinstance(bias, str))


def load_bias(source: str | os.PathLike[str]) -> BiasSource | FloatArray:
    """Bias that a name or the path of a ``.npy`` file stands for.

    Returns
    -------
    str or ndarray of shape (n_features,)
        The name as it is, or the array of the file, for :func:`bias_from`.

    Raises
    ------
    InvalidInputError
        If it is no known name and no file with one finite number, or NaN, for each feature.
    """
    for name in get_args(BiasSource):
        if source == name:
            return name  # type: ignore[no-any-return]
    if not Path(source).exists():
        raise InvalidInputError(
            f"{unknown_name('bias', str(source), get_args(BiasSource))} It is no file either."
        )
    values = read_array(source, BIAS)
    if values.ndim != 1:
        raise InvalidFeaturesError(
            f"{source} has shape {values.shape}; one number for each feature was expected."
        )
    return _as_worth(str(source), values, len(values))


def _as_worth(name: str, given: ArrayLike, n_features: int) -> FloatArray:
    try:
        values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidFeaturesError(
            f"{name} is no array of numbers; one for each feature was expected."
        ) from None
    if values.shape != (n_features,) or np.isinf(values).any():
        raise InvalidFeaturesError(
            f"{name} has shape {values.shape} and {np.isinf(values).sum()} infinite entries; "
            f"({n_features},) and none were expected."
        )
    return values
