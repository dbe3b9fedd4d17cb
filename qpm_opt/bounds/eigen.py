"""Matrices with their eigenvalues mapped, of which most become zero.

That is the costly part of the semidefinite bound. Only the eigenvectors that remain are transformed
back from the tridiagonal form (half the time of a full decomposition). A GPU does it faster still;
PyTorch is imported for it alone, if it is installed and the driver finds a device.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import logging
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import lapack

from qpm_opt.validation import FloatArray

logger = logging.getLogger(__name__)

#: From this order on the own assembly of LAPACK is faster than numpy, and a GPU than LAPACK.
LARGE, WORTH_GPU = 150, 600


def spectral_map(A: FloatArray, rule: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Sum of rule(eigenvalues)_i v_i v_i' over the eigenvectors v_i of a symmetric matrix.

    Parameters
    ----------
    A : ndarray, (n, n)
        In single or double precision, that of the result.
    rule : callable
        From eigenvalues (n,), ascending, to values at least zero.

    Raises
    ------
    numpy.linalg.LinAlgError
        If entries or eigenvalues are not finite, or the decomposition fails.
    """
    if not np.isfinite(A).all():  # numpy and LAPACK may return without a word
        raise np.linalg.LinAlgError(f"A matrix of order {len(A)} has entries that are not finite.")
    torch = _torch_with_gpu() if len(A) >= WORTH_GPU else None
    if torch is not None:
        try:
            return _on_gpu(torch, A, rule)
        except RuntimeError as failure:  # its memory is full, say
            logger.debug("The GPU fails at order %d: %s", len(A), failure)
    values, vectors = _tridiagonal(A, rule) if len(A) >= LARGE else _whole(A, rule)
    mapped: FloatArray = (vectors * values) @ vectors.T
    return mapped


def _whole(
    A: FloatArray, rule: Callable[[FloatArray], FloatArray]
) -> tuple[FloatArray, FloatArray]:
    values, vectors = np.linalg.eigh(A)
    values = _mapped(values, rule)
    on = values > 0.0
    return values[on], vectors[:, on]


def _tridiagonal(
    A: FloatArray, rule: Callable[[FloatArray], FloatArray]
) -> tuple[FloatArray, FloatArray]:
    n = len(A)
    functions: Any = lapack.get_lapack_funcs(("sytrd", "stevd", "ormqr"), (A,))
    sytrd, stevd, ormqr = functions
    reflectors, diagonal, beside, tau, info = sytrd(A, lower=1, lwork=64 * n)
    if info == 0:
        values, inner, info = stevd(diagonal, beside)
    if info != 0:
        raise np.linalg.LinAlgError(f"The eigenvalues of a matrix of order {n} did not converge.")
    values = _mapped(values, rule)
    on = values > 0.0
    vectors = np.asfortranarray(inner[:, on])
    # The reflections leave the first coordinate alone.
    vectors[1:], _, info = ormqr(
        "L", "N", np.asfortranarray(reflectors[1:, :-1]), tau, vectors[1:], lwork=64 * n
    )
    if info != 0:
        raise np.linalg.LinAlgError(f"ormqr returned {info}.")
    return values[on], vectors


def _on_gpu(torch: Any, A: FloatArray, rule: Callable[[FloatArray], FloatArray]) -> FloatArray:
    values, vectors = torch.linalg.eigh(torch.from_numpy(np.ascontiguousarray(A)).cuda())
    mapped = torch.from_numpy(_mapped(values.cpu().numpy(), rule)).cuda()
    vectors = vectors[:, mapped > 0.0]
    result: FloatArray = ((vectors * mapped[mapped > 0.0]) @ vectors.T).cpu().numpy()
    return result


def _mapped(values: FloatArray, rule: Callable[[FloatArray], FloatArray]) -> FloatArray:
    if not np.isfinite(values).all():
        raise np.linalg.LinAlgError(f"Not all of {len(values)} eigenvalues are finite.")
    mapped: FloatArray = rule(values).astype(values.dtype)
    return mapped


@functools.cache
def _torch_with_gpu() -> Any:
    """PyTorch, if it can use a GPU here. Without a driver it is not even imported."""
    if importlib.util.find_spec("torch") is None:
        return None
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    if driver.cuInit(0) != 0:
        return None
    import torch

    return torch if torch.cuda.is_available() else None
