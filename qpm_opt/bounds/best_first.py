"""Best-first search: the open nodes of a tree, worked on by one or several threads."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar


class Comparable(Protocol):
    """What has an order."""

    def __lt__(self, other: Any, /) -> bool:
        """Whether this comes first."""
        ...


Node = TypeVar("Node", bound=Comparable)
Outcome = TypeVar("Outcome")
Item = TypeVar("Item")


class BestFirst(Generic[Node, Outcome, Item]):
    """A heap of open nodes.

    Parameters
    ----------
    work : callable
        From a node to what becomes of it; runs on any thread.
    take : callable
        Called with node and outcome, always on the thread of :meth:`run`; may push nodes.
    receive : callable
        Called with what the work hands over, on the same thread as ``take`` and before it.
    threads : int
        Nodes worked on at a time. With 1 everything runs on the caller's thread, in one order.
    """

    def __init__(
        self,
        work: Callable[[Node], Outcome],
        take: Callable[[Node, Outcome], object],
        receive: Callable[[Item], object],
        threads: int,
    ) -> None:
        self._work, self._take, self._receive, self._threads = work, take, receive, threads
        self._handed_over: SimpleQueue[Item] = SimpleQueue()
        self._heap: list[Node] = []
        self._running: dict[Future[Outcome], Node] = {}

    def push(self, node: Node) -> None:
        """Open a node."""
        heapq.heappush(self._heap, node)

    @property
    def first(self) -> Node | None:
        """The first of the open nodes, None if there is none; as seen from ``goes_on``.

        Those that other threads work on are included, a node on the way to ``take`` is not.
        """
        return min([*self._heap[:1], *self._running.values()], default=None)

    @property
    def unfinished(self) -> list[Node]:
        """All open nodes, in no order, with those that threads work on."""
        return [*self._heap, *self._running.values()]

    def reorder(self) -> None:
        """Take notice of a new order of the nodes."""
        heapq.heapify(self._heap)

    def hand_over(self, item: Item) -> None:
        """From any thread: let ``receive`` have this soon, even if the work ends in an error."""
        self._handed_over.put(item)

    def deliver(self) -> None:
        """Call ``receive`` with everything handed over."""
        while not self._handed_over.empty():
            self._receive(self._handed_over.get())

    def run(self, goes_on: Callable[[], bool], stop: Callable[[], object]) -> None:
        """Work until no node is open.

        Parameters
        ----------
        goes_on : callable
            Asked before another node is begun; if not, those begun are ended and taken.
        stop : callable
            Called when an exception leaves nodes half done, to make their work return soon.
        """
        try:
            if self._threads == 1:
                self._one_by_one(goes_on)
                return
            with ThreadPoolExecutor(self._threads) as pool:
                try:
                    self._share_out(pool, goes_on)
                except BaseException:
                    stop()
                    raise
        finally:
            self.deliver()

    def _one_by_one(self, goes_on: Callable[[], bool]) -> None:
        while self._heap and goes_on():
            node = heapq.heappop(self._heap)
            try:
                outcome = self._work(node)
            except BaseException:
                heapq.heappush(self._heap, node)
                raise
            self.deliver()
            self._take(node, outcome)

    def _share_out(self, pool: ThreadPoolExecutor, goes_on: Callable[[], bool]) -> None:
        while True:
            while self._heap and len(self._running) < self._threads and goes_on():
                node = heapq.heappop(self._heap)
                self._running[pool.submit(self._work, node)] = node
            if not self._running:
                return
            done, _ = wait(self._running, return_when=FIRST_COMPLETED)
            for future in done:
                outcome = future.result()
                self.deliver()
                self._take(self._running.pop(future), outcome)
