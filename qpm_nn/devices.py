"""Jobs on one device or on several, of this machine or of many.

Several devices of one machine are processes of our own, for each job anew. Processes that torchrun
has started, here or on other machines, stay: the first one, which runs everything else, hands jobs
to the others, which :func:`follow` it.
"""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache, partial
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from numpy.typing import NDArray
from torch.multiprocessing.spawn import ProcessRaisedException

from qpm_nn.config import RuntimeConfig
from qpm_opt import InvalidInputError, QPMError

T = TypeVar("T")

#: Longer than anything that the first process does between two jobs.
PATIENCE = timedelta(days=30)


class _Lead:
    """What the first process knows about the others."""

    in_job = False


def n_started() -> int:
    """Processes that torchrun has started, on all machines; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if dist.is_torchelastic_launched() else 1


def is_follower() -> bool:
    """Whether torchrun has started this process, and it is not the first one."""
    return n_started() > 1 and int(os.environ["RANK"]) > 0


def make_fabric(runtime: RuntimeConfig) -> Fabric:
    """Fabric for the device, number of devices and precision asked for.

    Raises
    ------
    InvalidInputError
        If Fabric refuses them, or machines have different numbers of processes.
    """
    if runtime.deterministic:
        # Read when the first GPU is first used, so before anything is computed.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    started, wanted, n_nodes = n_started(), runtime.n_devices, 1
    strategy = "ddp_spawn" if wanted > 1 else "auto"
    if started > 1:
        strategy, wanted = "ddp", int(os.environ["LOCAL_WORLD_SIZE"])
        n_nodes, rest = divmod(started, wanted)
        if rest:
            raise InvalidInputError(
                f"{started} processes were started, {wanted} of them on this machine; equally many "
                "on every machine were expected."
            )
    try:
        return Fabric(
            accelerator=runtime.device,
            devices=wanted,
            num_nodes=n_nodes,
            strategy=strategy,
            precision=runtime.precision,
        )
    except (RuntimeError, ValueError, AssertionError, MisconfigurationException) as failure:
        reason = " ".join(str(failure).split()).removesuffix(".")
        raise InvalidInputError(
            f"device {runtime.device} x {wanted} with precision {runtime.precision} cannot be used "
            f"here: {reason}. Use device=cpu or auto, or fewer devices."
        ) from None


def launch(
    fabric: Fabric,
    job: Callable[..., T],
    *modules: Any,
    tell: Callable[[Any], None] | None = None,
) -> T:
    """Run ``job(fabric, *modules, tell=...)`` on all devices; return what the first one returns.

    Parameters
    ----------
    fabric : Fabric
        Of :func:`make_fabric`.
    job : callable
        Picklable, and what it returns, too.
    *modules
        Trained in place where there is one device; on several, the caller's may stay as they are.
    tell : callable, optional
        Called in this process with what the job tells on the first device, which waits for it; what
        it raises ends the job.
    """
    tell = tell or _tell_nobody
    if n_started() > 1:
        fabric.launch()
        _Lead.in_job = True  # and remains so if it fails
        dist.broadcast_object_list([(job, modules)], group=_patient_group())
        value = job(fabric, *modules, tell=tell)
        _Lead.in_job = False
        return value
    if fabric.strategy.launcher is None:
        return fabric.launch(partial(job, tell=tell), *modules)
    # By way of a file: Fabric's own way blocks as soon as a result does not fit into a pipe.
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result"
        with _Listener(tell) as listener:
            try:
                fabric.launch(partial(_keep_result, job, result, listener.line), *modules)
            except ProcessRaisedException:
                if listener.failure is not None:
                    raise listener.failure from None
                if result.exists():
                    raise _read(result) from None
                raise
        return _read(result)


def _keep_result(
    job: Callable[..., Any], path: Path, line: Connection, fabric: Fabric, *modules: Any
) -> None:
    """Write what a job returns, or what went wrong for a reason that is one sentence."""
    try:
        value = job(fabric, *modules, tell=partial(_tell, line))
    except (QPMError, OSError) as failure:
        _write(path, failure)
        raise
    if fabric.is_global_zero:
        _write(path, value)
    fabric.barrier()  # nobody has anything left to receive
    _part()


def _write(path: Path, value: Any) -> None:
    with path.open("wb") as file:
        pickle.dump(value, file, protocol=5)  # writes and reads arrays without a copy


def _read(path: Path) -> Any:
    with path.open("rb") as file:
        return pickle.load(file)


@contextmanager
def algorithms(runtime: RuntimeConfig, device: torch.device) -> Iterator[None]:
    """On a GPU deterministic algorithms of torch, or the fastest, within; then those of before.

    Sums of gradients come in any order otherwise. Without a deterministic algorithm torch warns.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    torch.set_deterministic_debug_mode("warn" if runtime.deterministic else "default")
    torch.backends.cudnn.benchmark = not runtime.deterministic
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before[0])
        torch.backends.cudnn.benchmark = before[1]


class _Listener:
    """A thread that hears what another process tells while this one waits for its end.

    Attributes
    ----------
    line
        The other process's end of the connection.
    failure : BaseException, optional
        What went wrong while something that was told was dealt with.
    """

    def __init__(self, hear: Callable[[Any], None]) -> None:
        self._hear = hear
        self._own, self.line = Pipe()
        self.failure: BaseException | None = None

    def __enter__(self) -> _Listener:
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.line.close()  # the thread ends as soon as the other process has none, either

    def _listen(self) -> None:
        with self._own, suppress(EOFError):
            while True:
                report = self._own.recv()
                try:
                    self._hear(report)
                except BaseException as failure:
                    self.failure = failure
                    return  # the other process, left without an answer, fails
                self._own.send(None)


def _tell(line: Connection, report: Any) -> None:
    line.send(report)
    line.recv()


def _tell_nobody(report: Any) -> None:
    pass


@contextmanager
def leading(runtime: RuntimeConfig) -> Iterator[None]:
    """What the first process does; when it has ended well, so do the followers.

    If it fails in a job, or is interrupted, they are left to torchrun, which ends them: they may be
    waiting for it in the middle of something.
    """
    _meet(runtime)
    try:
        yield
    except Exception:
        if not _Lead.in_job:
            _dismiss()
        raise
    _dismiss()


def follow(runtime: RuntimeConfig) -> None:
    """Do the jobs of the first process until it dismisses this one."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # a handler would wait for the end of a collective
    fabric = _meet(runtime)
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    while True:
        received: list[Any] = [None]
        dist.broadcast_object_list(received, group=_patient_group())
        if received[0] is None:
            return
        job, modules = received[0]
        job(fabric, *modules, tell=_tell_nobody)


def gather(fabric: Fabric, value: T) -> list[T]:
    """The values of all devices in their order, on the first one; nothing on the others."""
    if fabric.world_size == 1:
        return [value]
    gathered: list[Any] | None = [None] * fabric.world_size if fabric.is_global_zero else None
    dist.gather_object(value, gathered, group=_patient_group())
    return gathered or []


def gather_rows(fabric: Fabric, rows: NDArray[Any] | None, n_own: int) -> None:
    """Put the rows of the other devices behind those of the first one, in its array.

    Parameters
    ----------
    fabric : Fabric
    rows : array of shape (n_rows, ...)
        On the first device with room for the rows of all; None where there are none.
    n_own : int
        Rows of this device.
    """
    counts = gather(fabric, n_own)
    if not fabric.is_global_zero:
        if rows is not None:
            dist.send(torch.from_numpy(rows), 0, group=_patient_group())
        return
    ends = np.cumsum(counts)
    for rank in range(1, fabric.world_size):
        if counts[rank]:
            place = rows[ends[rank - 1] : ends[rank]]
            dist.recv(torch.from_numpy(place), rank, group=_patient_group())


def _meet(runtime: RuntimeConfig) -> Fabric:
    """Connect the processes of torchrun, which must happen within minutes of their start."""
    fabric = make_fabric(runtime)
    if n_started() > 1:
        fabric.launch()
        _patient_group()
        atexit.unregister(_part)
        atexit.register(_part)
    return fabric


def _part() -> None:
    """Leave the group: its threads abort a process whose interpreter ends before they do."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _dismiss() -> None:
    if n_started() > 1:
        dist.broadcast_object_list([None], group=_patient_group())


@cache
def _patient_group() -> dist.ProcessGroup:
    """All processes, by way of the CPU, whatever their devices; made once, by all at a time."""
    return dist.new_group(backend="gloo", timeout=PATIENCE)
