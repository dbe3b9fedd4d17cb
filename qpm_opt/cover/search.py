"""Branch and bound on the rows of a cover: the tree, the order in which it is searched, the bound.

A node branches on a row that is not hit yet: one child for each boundary that would hit it, in
which the boundaries before are forbidden, and one in which all of them are (the row stays unhit).
So every choice of boundaries lies in exactly one child, that of its first boundary. A node may be
left out if some forbidden boundary could be added to any choice in it, or could replace one there,
at no cost: the choice that this gives lies in an earlier child of the same ancestor. Earlier means
before it in one fixed order of the whole tree, so the argument cannot run in a circle.
"""

from __future__ import annotations

import abc
import heapq
import math
import time
from dataclasses import dataclass
from typing import NamedTuple

from qpm_opt.cover.bitsets import rarest
from qpm_opt.cover.reduction import Instance
from qpm_opt.result import TerminationCondition

#: Nodes of a dive; then the search goes on from the open node with the lowest bound.
DIVE = 256
#: Open nodes from which on dives go on to their end, so that memory stays bounded.
MOST_OPEN = 100_000
#: Nodes between two looks at the clock.
_CLOCK = 32


@dataclass(frozen=True, slots=True)
class Branching:
    """A node that has children.

    Attributes
    ----------
    lost, rows : int
        Images lost by the choice so far; rows not hit by it that can still be.
    allowed : list of int
        Boundaries that may be added.
    forbidden : tuple of int
        Boundaries that must not be, other than those ruled out by the incumbent.
    hitters : tuple of int
        The children's boundaries in their order.
    spare : int
        Rows that may stay unhit.
    chosen : tuple of int
    """

    lost: int
    rows: int
    allowed: list[int]
    forbidden: tuple[int, ...]
    hitters: tuple[int, ...]
    spare: int
    chosen: tuple[int, ...]


class Node(NamedTuple):
    """An open node: its lower bound, a number of its own, and which child it is of which parent.

    The child after the last hitter is the one in which the row stays unhit.
    """

    bound: int
    number: int
    parent: Branching
    child: int


class RowSearch(abc.ABC):
    """Minimise a cost over the choices that hit all rows but the spare ones.

    Parameters
    ----------
    instance : Instance
    value : int
        Cost of a choice that is known.
    chosen : tuple of int
        That choice.
    """

    def __init__(self, instance: Instance, value: int, chosen: tuple[int, ...]) -> None:
        self.losses, self.hits = instance.losses, instance.hits
        self.value, self.chosen = value, chosen
        self.n_nodes = 0
        root = Branching(
            lost=instance.lost,
            rows=instance.rows,
            allowed=list(range(len(instance.hits))),
            forbidden=(),
            hitters=(),
            spare=instance.spare,
            chosen=(),
        )
        self._heap: list[Node] = [Node(0, 0, root, 0)]
        self._stack: list[Node] = []
        self._number = 0

    @property
    def bound(self) -> int:
        """Lower bound on the cost of every choice; holds at any moment, also after an exception."""
        open_nodes = (node.bound for node in (*self._heap, *self._stack))
        return min(self.value, min(open_nodes, default=self.value))

    def run(
        self, deadline: float = math.inf, node_limit: int | None = None
    ) -> TerminationCondition:
        """Search until the optimum is proved or a limit is reached.

        Parameters
        ----------
        deadline : float
            Of ``time.perf_counter()``.
        node_limit : int, optional
            Most nodes to look at in all.
        """
        # Nodes are taken off only when their children are on: Ctrl-C may come between any two
        # steps, and a node that is there twice does no harm.
        while self._heap or self._stack:
            if not self._stack:
                self._stack = [self._heap[0]]
                heapq.heappop(self._heap)
            for _ in range(DIVE):
                if node_limit is not None and self.n_nodes >= node_limit:
                    return TerminationCondition.NODE_LIMIT
                if self.n_nodes % _CLOCK == 0 and time.perf_counter() >= deadline:
                    return TerminationCondition.TIME_LIMIT
                node = self._stack[-1]
                self.n_nodes += 1
                self._stack[-1:] = self._children(node) if node.bound < self.value else []
                if not self._stack:
                    break
            if len(self._heap) < MOST_OPEN:
                for node in self._stack:
                    heapq.heappush(self._heap, node)
                self._stack = []
        return TerminationCondition.OPTIMAL

    def _children(self, node: Node) -> list[Node]:
        """Children of a node, the first one last; the incumbent is replaced on the way."""
        parent, child = node.parent, node.child
        lost, rows, chosen = parent.lost, parent.rows, parent.chosen
        if child < len(parent.hitters):
            h = parent.hitters[child]
            lost |= self.losses[h]
            rows &= ~self.hits[h]
            chosen = (*chosen, h)
        gone = parent.hitters[: child + 1]
        branching, bounds = self._expand(
            lost,
            rows,
            [h for h in parent.allowed if h not in gone] if gone else parent.allowed,
            parent.forbidden + parent.hitters[:child],
            parent.spare,
            chosen,
        )
        if branching is None:
            return []
        children = []
        for i in reversed(range(len(bounds))):
            bound = max(node.bound, bounds[i])
            if bound < self.value:
                self._number += 1
                children.append(Node(bound, self._number, branching, i))
        return children

    @abc.abstractmethod
    def _expand(
        self,
        lost: int,
        rows: int,
        allowed: list[int],
        forbidden: tuple[int, ...],
        spare: int,
        chosen: tuple[int, ...],
    ) -> tuple[Branching | None, list[int]]:
        """Bound a node and branch; None if nothing in it beats the incumbent.

        Returns
        -------
        branching : Branching or None
        bounds : list of int
            A lower bound for every child; the last one may be that of the row that stays unhit.
        """


class FewestLost(RowSearch):
    """Lose as few images as possible.

    The bound: let boundaries hit rows in the order of what they would lose in addition. Before no
    more rows than the spare ones are left one of those tried last, or one that loses more, has to
    be chosen, because those before leave too many rows unhit.
    """

    def _expand(
        self,
        lost: int,
        rows: int,
        allowed: list[int],
        forbidden: tuple[int, ...],
        spare: int,
        chosen: tuple[int, ...],
    ) -> tuple[Branching | None, list[int]]:
        losses, hits = self.losses, self.hits
        kept = ~lost
        for h in forbidden:
            if not losses[h] & kept:
                return None, []
        cost = lost.bit_count()
        room = self.value - cost
        items: list[tuple[int, int]] = []
        for h in allowed:
            if hits[h] & rows:
                more = (losses[h] & kept).bit_count()
                if not more:
                    rows &= ~hits[h]
                    chosen = (*chosen, h)
                elif more < room:
                    items.append((more, h))
        if rows.bit_count() <= spare:
            if cost < self.value:
                self.chosen = chosen
                self.value = cost
            return None, []
        items.sort()
        left, least = rows, 0
        for more, h in items:
            left &= ~hits[h]
            if left.bit_count() <= spare:
                least = more
                break
        else:
            return None, []
        usable = [h for more, h in items if hits[h] & rows]
        reachable = 0
        for h in usable:
            reachable |= hits[h]
        spare -= (rows & ~reachable).bit_count()
        rows &= reachable
        # A row that only dear boundaries hit, and few of them: its children are few and worse.
        dear = rows
        for more, h in items:
            if 2 * more > least:
                break
            dear &= ~hits[h]
        row = rarest([hits[h] for h in usable], dear)
        children = [(more, h) for more, h in items if hits[h] >> row & 1]
        branching = Branching(
            lost, rows, usable, forbidden, tuple(h for _, h in children), spare, chosen
        )
        bounds = [cost + max(more, least) for more, _ in children]
        if spare:
            bounds.append(cost + least)
        return branching, bounds


class FewestBoundaries(RowSearch):
    """Choose as few boundaries as possible that lose no more than a number of images.

    The bound is a feasible dual solution of the linear relaxation: every row is worth one over the
    largest number of rows that a boundary that hits it would hit.

    Parameters
    ----------
    instance, value, chosen
        See :class:`RowSearch`; the cost is the number of boundaries.
    most_lost : int
        Images that may be lost, no fewer than the instance says are lost in any case.
    """

    def __init__(
        self, instance: Instance, value: int, chosen: tuple[int, ...], most_lost: int
    ) -> None:
        super().__init__(instance, value, chosen)
        self.most_lost = most_lost

    def _expand(
        self,
        lost: int,
        rows: int,
        allowed: list[int],
        forbidden: tuple[int, ...],
        spare: int,
        chosen: tuple[int, ...],
    ) -> tuple[Branching | None, list[int]]:
        losses, hits = self.losses, self.hits
        if rows.bit_count() <= spare:
            if len(chosen) < self.value:
                self.chosen = chosen
                self.value = len(chosen)
            return None, []
        items: list[tuple[int, int]] = []
        for h in allowed:
            fresh = (hits[h] & rows).bit_count()
            if fresh and (lost | losses[h]).bit_count() <= self.most_lost:
                items.append((-fresh, h))
        items.sort()
        # Of the rows that may stay unhit the worth does not count: those worth most come last.
        needed = rows.bit_count() - spare
        left, worth = rows, 0.0
        for less, h in items:
            first_hit = min((left & hits[h]).bit_count(), needed)
            worth -= first_hit / less
            needed -= first_hit
            left &= ~hits[h]
        if needed > 0:
            return None, []
        bound = len(chosen) + math.ceil(worth - 1e-9)
        if bound >= self.value:
            return None, []
        usable = [h for _, h in items]
        spare -= left.bit_count()
        rows &= ~left
        row = rarest([hits[h] for h in usable], rows)
        hitters: list[int] = []
        replaced: set[int] = set()
        for h in usable:
            if not hits[h] >> row & 1:
                continue
            fresh_hits, after = hits[h] & rows, lost | losses[h]
            if any(fresh_hits & ~hits[g] == 0 and losses[g] & ~after == 0 for g in hitters):
                replaced.add(h)
            else:
                hitters.append(h)
        if replaced:
            usable = [h for h in usable if h not in replaced]
        branching = Branching(lost, rows, usable, forbidden, tuple(hitters), spare, chosen)
        return branching, [bound] * (len(hitters) + (spare > 0))
