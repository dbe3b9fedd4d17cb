"""Campaigns on the workers of a Dask scheduler; ``distributed`` is imported when it is needed."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from qpm_opt import InvalidInputError

#: Seconds until a scheduler must have answered.
TIMEOUT = 10.0


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """A ``distributed.Client`` of the scheduler at an address, closed at the end.

    Closing it waits for no run: those under way go on and leave their records.

    Raises
    ------
    InvalidInputError
        If the package is missing or no scheduler answers.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError as missing:
        raise InvalidInputError(
            f"Clusters need the package {missing.name}; install the extra: pip install "
            "'.[cluster]'."
        ) from None
    try:
        # The client's own timeout does not end its wait for a service that accepts and is silent.
        asyncio.run(asyncio.wait_for(_check_scheduler(address), TIMEOUT))
        client = Client(address, timeout=TIMEOUT, set_as_default=False)
    except (OSError, ValueError, TypeError, RuntimeError, ImportError) as failure:
        reason = " ".join(str(failure).split()).rstrip(".") or f"nothing in {TIMEOUT:g} s"
        raise InvalidInputError(
            f"No Dask scheduler answers at {address!r} ({reason}); give the address that it "
            "prints when it starts, such as tcp://host:8786."
        ) from None
    with client:
        yield client


async def _check_scheduler(address: str) -> None:
    from distributed import Security, rpc

    connection = Security().get_connection_args("client")
    async with rpc(address, timeout=TIMEOUT, connection_args=connection) as remote:
        kind = (await remote.identity())["type"]
    if kind != "Scheduler":
        raise ValueError(f"it is a {kind}")


def concerns(n_threads: Mapping[str, int]) -> list[str]:
    """What about a cluster makes times incomparable, or keeps runs waiting; a sentence each.

    Parameters
    ----------
    n_threads : mapping
        Threads of every worker, by address (``client.nthreads()``).
    """
    if not n_threads:
        return ["The scheduler has no workers yet; the runs wait for them."]
    sentences = []
    n_several = sum(count > 1 for count in n_threads.values())
    if n_several:
        sentences.append(
            f"{n_several} of {len(n_threads)} workers do several runs at a time, which disturb "
            "each other; start workers with --nthreads 1 if times matter."
        )
    hosts = Counter(urlsplit(address).hostname or address for address in n_threads)
    n_shared = sum(count > 1 for count in hosts.values())
    if n_shared:
        sentences.append(
            f"{n_shared} of {len(hosts)} machines have several workers, whose runs share caches "
            "and memory; start one on each if times matter."
        )
    return sentences


def n_workers_killed(failure: BaseException) -> int:
    """How many workers died before a Dask scheduler gave a run up; 0 for any other failure."""
    distributed = sys.modules.get("distributed")  # whoever handed on its error has loaded it
    if distributed is None or not isinstance(failure, distributed.KilledWorker):
        return 0
    return int(failure.allowed_failures) + 1
