"""Jobs on one device or on several, of this machine or of many.

Several devices of one machine are processes of our own, for each job anew. Processes that torchrun
has started, here or on other machines, stay: the first one, which runs everything else, hands jobs
to the others, which :func:`follow` it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric import Fabric

from qpm_nn.config import RuntimeConfig
from qpm_opt import InvalidInputError

T = TypeVar("T")

#: Longer than any solve between two jobs.
PATIENCE = timedelta(days=30)


def n_started() -> int:
    """Processes that torchrun has started, on all machines; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if dist.is_torchelastic_launched() else 1


def is_follower() -> bool:
    """Whether this process was started from outside and is not the first one."""
    return n_started() > 1 and int(os.environ["RANK"]) > 0


def make_fabric(runtime: RuntimeConfig) -> Fabric:
    """Fabric for the device, number of devices and precision asked for.

    Raises
    ------
    InvalidInputError
        If Fabric refuses them.
    """
    started, wanted = n_started(), runtime.n_devices
    n_nodes = 1
    if started > 1:
        wanted = int(os.environ["LOCAL_WORLD_SIZE"])
        n_nodes = started // wanted
    strategy = "ddp" if started > 1 else "ddp_spawn" if wanted > 1 else "auto"
    try:
        return Fabric(
            accelerator=runtime.device,
            devices=wanted,
            num_nodes=n_nodes,
            strategy=strategy,
            precision=runtime.precision,
        )
    except (RuntimeError, ValueError, AssertionError) as failure:
        raise InvalidInputError(
            f"device {runtime.device} x {wanted} with precision {runtime.precision} cannot be used "
            f"here: {failure} Use device=cpu or auto."
        ) from None


def launch(fabric: Fabric, job: Callable[..., T], *modules: Any) -> T:
    """Run ``job(fabric, *modules)`` on all devices; return what the first one returns.

    Parameters
    ----------
    fabric : Fabric
        Of :func:`make_fabric`.
    job : callable
        Picklable, and what it returns, too.
    *modules
        Trained in place where there is one device; on several, the caller's may stay as they are.
    """
    if n_started() == 1:
        return fabric.launch(job, *modules)
    fabric.launch()
    dist.broadcast_object_list([(job, modules)], group=_patient_group())
    return job(fabric, *modules)


def follow(runtime: RuntimeConfig) -> None:
    """Do the jobs of the first process until it dismisses this one."""
    fabric = make_fabric(runtime)
    fabric.launch()
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    while True:
        received: list[Any] = [None]
        dist.broadcast_object_list(received, group=_patient_group())
        if received[0] is None:
            return
        job, modules = received[0]
        job(fabric, *modules)


def dismiss(runtime: RuntimeConfig) -> None:
    """Let all followers end; of the first process."""
    if n_started() > 1:
        make_fabric(runtime).launch()
        dist.broadcast_object_list([None], group=_patient_group())


def gather(fabric: Fabric, value: T) -> list[T]:
    """The values of all devices in their order, on the first one; nothing on the others."""
    if fabric.world_size == 1:
        return [value]
    gathered: list[Any] | None = [None] * fabric.world_size if fabric.is_global_zero else None
    dist.gather_object(value, gathered, group=_patient_group())
    return gathered or []


@cache
def _patient_group() -> dist.ProcessGroup:
    """All processes, by way of the CPU, whatever their devices; made once, by all at a time."""
    return dist.new_group(backend="gloo", timeout=PATIENCE)
