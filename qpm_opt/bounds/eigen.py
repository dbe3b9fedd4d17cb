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
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cython_lapack, lapack

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
    half = vectors * np.sqrt(values)
    mapped: FloatArray = half @ half.T  # NumPy computes one triangle of such a product
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
    reflectors, inner = np.array(A, order="F"), np.empty((n, n), A.dtype, order="F")
    diagonal, beside, tau = (np.empty(size, A.dtype) for size in (n, n - 1, n - 1))
    info = _run("sytrd", A.dtype, b"L", n, reflectors, n, diagonal, beside, tau, *_work(64 * n, A))
    if info == 0:
        work = *_work(1 + 4 * n + n * n, A), *_work(3 + 5 * n, np.empty(0, np.intc))
        info = _run("stevd", A.dtype, b"V", n, diagonal, beside, inner, n, *work)
    if info != 0:
        raise np.linalg.LinAlgError(f"The eigenvalues of a matrix of order {n} did not converge.")
    values = _mapped(diagonal, rule)
    on = values > 0.0
    vectors = np.asfortranarray(inner[:, on])
    # The reflections leave the first coordinate alone.
    (ormqr,) = cast(Any, lapack.get_lapack_funcs(("ormqr",), (A,)))
    vectors[1:], _, info = ormqr(
        "L", "N", np.asfortranarray(reflectors[1:, :-1]), tau, vectors[1:], lwork=64 * n
    )
    if info != 0:
        raise np.linalg.LinAlgError(f"ormqr returned {info}.")
    return values[on], vectors


def _work(size: int, like: NDArray[Any]) -> tuple[NDArray[Any], int]:
    return np.empty(size, like.dtype), size


def _run(name: str, dtype: np.dtype[Any], *arguments: bytes | int | NDArray[Any]) -> int:
    """Run a routine of LAPACK, all of whose arguments are references; its info."""
    passed: list[Any] = [
        argument
        if isinstance(argument, bytes)
        else ctypes.byref(ctypes.c_int(argument))
        if isinstance(argument, int)
        else argument.ctypes.data_as(ctypes.c_void_p)
        for argument in arguments
    ]
    info = ctypes.c_int()
    _routine(("s" if dtype == np.float32 else "d") + name)(*passed, ctypes.byref(info))
    return info.value


@functools.cache
def _routine(name: str) -> Any:
    """A routine of SciPy's LAPACK that, unlike the wrapper, lets other threads run meanwhile."""
    capsule = cast(Any, cython_lapack.__pyx_capi__)[name]
    name_of, pointer_of = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return ctypes.CFUNCTYPE(None)(pointer_of(capsule, name_of(capsule)))


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
