"""Mapped eigenvalues against the definition, on every way to them; when PyTorch is imported."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from qpm_opt.bounds import eigen
from qpm_opt.bounds.eigen import LARGE, spectral_map


def positive_part(values):
    return np.maximum(values, 0.0)


RULES = {
    "all": np.exp,
    "none": np.zeros_like,
    "some": positive_part,
    "the largest": lambda values: np.arange(len(values)) == len(values) - 1.0,
    "the smallest": lambda values: np.arange(len(values)) == 0.0,
    "in between": lambda values: np.where(abs(values) < 0.5, 2.0, 0.0),
}


class Tensor:
    """As much of a PyTorch tensor as is used, on the CPU."""

    def __init__(self, array):
        self.array = array

    def cuda(self):
        return Tensor(self.array)

    cpu = cuda

    def numpy(self):
        return self.array

    @property
    def T(self):
        return Tensor(self.array.T)

    def __gt__(self, other):
        return Tensor(self.array > other)

    def __getitem__(self, key):
        key = key if isinstance(key, tuple) else (key,)
        return Tensor(self.array[tuple(k.array if isinstance(k, Tensor) else k for k in key)])

    def __mul__(self, other):
        return Tensor(self.array * other.array)

    def __matmul__(self, other):
        return Tensor(self.array @ other.array)


def torch_of_tensors():
    """PyTorch with a GPU, made of numpy."""

    def eigh(tensor):
        return map(Tensor, np.linalg.eigh(tensor.array))

    return SimpleNamespace(from_numpy=Tensor, linalg=SimpleNamespace(eigh=eigh))


def torch_without_gpu():
    """PyTorch as installed, its CPU in the place of a GPU."""
    torch = pytest.importorskip("torch")
    shim = SimpleNamespace(linalg=torch.linalg)

    class OnCpu(torch.Tensor):
        def cuda(self):
            return self

    shim.from_numpy = lambda array: torch.from_numpy(array).as_subclass(OnCpu)
    return shim


@pytest.fixture(params=["numpy", "lapack", "gpu of numpy", "gpu of torch"])
def way(request, monkeypatch):
    """One of the ways to the decomposition, for matrices of any order (LAPACK's has from 2 on)."""
    monkeypatch.setattr(eigen, "LARGE", 2 if request.param == "lapack" else 10**9)
    monkeypatch.setattr(eigen, "WORTH_GPU", 1 if request.param.startswith("gpu") else 10**9)
    make = {"gpu of numpy": torch_of_tensors, "gpu of torch": torch_without_gpu}
    found = make[request.param]() if request.param in make else None
    monkeypatch.setattr(eigen, "_torch_with_gpu", lambda: found)
    return request.param


def symmetric(n, dtype, seed=0):
    A = np.random.default_rng(seed).normal(size=(n, n)) / np.sqrt(n)
    return (A + A.T).astype(dtype)


def from_spectrum(values, dtype):
    n = len(values)
    Q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(n, n)))
    return ((Q * values) @ Q.T).astype(dtype)


def expected(A, rule):
    """The definition, in double precision."""
    values, vectors = np.linalg.eigh(A.astype(np.float64))
    return sum(y * np.outer(v, v) for y, v in zip(rule(values), vectors.T, strict=True))


def assert_is_mapped(A, rule, tolerance=50.0):
    before = A.copy()
    mapped = spectral_map(A, rule)
    right = expected(A, rule)
    assert mapped.dtype == A.dtype
    assert mapped.shape == A.shape
    size = max(1.0, np.linalg.norm(right), np.linalg.norm(A))
    assert np.linalg.norm(mapped - right) <= tolerance * np.finfo(A.dtype).eps * size
    np.testing.assert_array_equal(A, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 3, 30, 200])
@pytest.mark.parametrize("rule", ["all", "none", "some", "the largest", "the smallest"])
def test_equals_the_definition(way, dtype, n, rule):
    assert_is_mapped(symmetric(n, dtype), RULES[rule])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [LARGE - 1, LARGE, 450])
def test_equals_the_definition_at_the_orders_that_decide(monkeypatch, dtype, n):
    taken = []
    for name in ("_whole", "_tridiagonal"):
        real = getattr(eigen, name)
        monkeypatch.setattr(
            eigen, name, lambda A, rule, name=name, real=real: taken.append(name) or real(A, rule)
        )
    assert_is_mapped(symmetric(n, dtype), positive_part)
    assert taken == ["_whole" if n < LARGE else "_tridiagonal"]


def test_a_rule_sees_the_eigenvalues_ascending(way):
    A = symmetric(40, np.float64)
    seen = []
    spectral_map(A, lambda values: seen.append(np.array(values)) or np.ones_like(values))
    assert (np.diff(seen[0]) >= 0.0).all()
    np.testing.assert_allclose(seen[0], np.linalg.eigvalsh(A), atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [4, 60])
def test_repeated_eigenvalues(way, dtype, n):
    A = from_spectrum(np.repeat([-1.0, 2.0], n // 2), dtype)
    assert_is_mapped(A, positive_part)
    # Half of the eigenspace would be another matrix with every basis; all of it is not.
    assert_is_mapped(np.eye(n, dtype=dtype), RULES["all"])
    assert_is_mapped(np.zeros((n, n), dtype), RULES["all"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [2, 5, 80])
def test_rank_one(way, dtype, n):
    v = np.random.default_rng(2).normal(size=n)
    A = np.outer(v, v).astype(dtype)
    np.testing.assert_allclose(
        spectral_map(A, lambda values: np.where(values > 0.1, values, 0.0)),
        A, rtol=0, atol=50 * np.finfo(dtype).eps * np.linalg.norm(A),
    )  # fmt: skip
    assert not spectral_map(-A, lambda values: np.where(values > 0.1, values, 0.0)).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("power", [-90, 60])
def test_scales(way, dtype, power):
    factor = 2.0 ** (power / 2)
    A = symmetric(30, dtype)
    mapped = spectral_map(dtype(factor) * A, positive_part)
    tolerance = 50 * np.finfo(dtype).eps * np.linalg.norm(A)
    np.testing.assert_allclose(mapped / factor, expected(A, positive_part), rtol=0, atol=tolerance)


def test_any_order_in_memory(way):
    A = symmetric(30, np.float64)
    wide = np.zeros((60, 60))
    wide[::2, 1::2] = A
    for same in (np.asfortranarray(A), wide[::2, 1::2], A[::-1, ::-1]):
        assert_is_mapped(same, positive_part)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [1, 2, 30, 200])
@pytest.mark.parametrize("place", [(-1, 0), (0, 0), "all"])
def test_what_is_not_finite_is_an_error(way, dtype, bad, n, place):
    A = symmetric(n, dtype)
    if place == "all":
        A[:] = bad
    else:
        A[place] = A[place[::-1]] = bad
    with pytest.raises(np.linalg.LinAlgError):
        spectral_map(A, positive_part)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [30, 200])
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_eigenvalues_that_overflow_are_an_error(way, dtype, n):
    A = np.full((n, n), 0.9 * np.finfo(dtype).max, dtype)
    with pytest.raises(np.linalg.LinAlgError):
        spectral_map(A, positive_part)


def test_a_gpu_gets_large_matrices_only(monkeypatch):
    asked = []
    monkeypatch.setattr(eigen, "_torch_with_gpu", lambda: asked.append(1))
    monkeypatch.setattr(eigen, "WORTH_GPU", 20)
    assert_is_mapped(symmetric(19, np.float64), positive_part)
    assert not asked
    assert_is_mapped(symmetric(20, np.float64), positive_part)
    assert asked


def test_what_a_gpu_cannot_do_is_done_without(monkeypatch):
    full = torch_of_tensors()
    tried = []

    def eigh(tensor):
        tried.append(tensor)
        raise RuntimeError("CUDA out of memory")

    full.linalg.eigh = eigh
    monkeypatch.setattr(eigen, "_torch_with_gpu", lambda: full)
    monkeypatch.setattr(eigen, "WORTH_GPU", 1)
    for n in (30, 200):
        assert_is_mapped(symmetric(n, np.float64), positive_part)
    assert len(tried) == 2


class TestSearchForAGpu:
    """Whether PyTorch is asked, and what for."""

    @pytest.fixture(autouse=True)
    def _forgetful(self):
        eigen._torch_with_gpu.cache_clear()
        yield
        eigen._torch_with_gpu.cache_clear()

    @pytest.fixture
    def torch(self, monkeypatch):
        """PyTorch is installed; whether it sees a GPU is for the test to say."""
        fake = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True))
        monkeypatch.setitem(sys.modules, "torch", fake)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: fake)
        return fake

    @pytest.fixture
    def driver(self, monkeypatch):
        """A driver is installed; what it answers is for the test to say."""
        answers = SimpleNamespace(cuInit=lambda flags: 0)
        monkeypatch.setattr(eigen.ctypes, "CDLL", lambda name: answers)
        return answers

    def test_found(self, torch, driver):
        assert eigen._torch_with_gpu() is torch

    def test_no_torch(self, driver, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        monkeypatch.setitem(sys.modules, "torch", None)  # an import of it would fail
        assert eigen._torch_with_gpu() is None

    def test_no_driver(self, torch, monkeypatch):
        def missing(name):
            raise OSError(name)

        monkeypatch.setattr(eigen.ctypes, "CDLL", missing)
        monkeypatch.setitem(sys.modules, "torch", None)  # an import of it would fail
        assert eigen._torch_with_gpu() is None

    def test_a_driver_without_a_device(self, torch, driver, monkeypatch):
        driver.cuInit = lambda flags: 100
        monkeypatch.setitem(sys.modules, "torch", None)  # an import of it would fail
        assert eigen._torch_with_gpu() is None

    def test_a_torch_without_cuda(self, torch, driver):
        torch.cuda.is_available = lambda: False
        assert eigen._torch_with_gpu() is None


def test_neither_the_import_nor_small_matrices_load_torch():
    code = (
        "import sys; import numpy as np; from qpm_opt.bounds.eigen import spectral_map\n"
        "for n in (10, 200): spectral_map(np.eye(n), np.exp)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
