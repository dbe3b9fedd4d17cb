"""The exact method: certified bounds, fixing, branch and bound.

1.  Search for a good assignment, bound the whole problem by the projected linear bound, search on.
2.  Bound it by the semidefinite one, first on a core of promising features, then on all. Each bound
    is offered as soon as it is there.
3.  In stages, prove a target between incumbent and bound: fix what the target allows, branch on the
    rest. A stage that ends lowers the bound to its target; easy problems need one stage, with the
    incumbent as its target. Features fixed for a target leave the problem for that stage only.

Without similarities (R = 0) the linear bound is nearly tight; its tree takes the place of 2 and 3.
Of distinctness and contrastive pairs, bounds know what each pair of classes demands by itself;
other side constraints they ignore. Incumbents ignore nothing.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from threadpoolctl import threadpool_limits

from qpm_opt.assignment import Assignment
from qpm_opt.bounds.acceleration import begin_compilation, compiled_loops
from qpm_opt.bounds.base import Bound
from qpm_opt.bounds.incumbents import offer_selection
from qpm_opt.bounds.linear import has_similarities, linear_bound
from qpm_opt.bounds.linear_tree import branch_linear
from qpm_opt.bounds.proof import Proof
from qpm_opt.bounds.pseudocosts import PseudoCosts
from qpm_opt.bounds.region import Region
from qpm_opt.bounds.semidefinite import (
    CORE_VALUE,
    Effort,
    State,
    bound_of_core,
    semidefinite_bound,
)
from qpm_opt.bounds.semidefinite_tree import COST_EXPONENT, branch_semidefinite
from qpm_opt.bounds.shrinking import SURE, UNWANTED, shrink
from qpm_opt.heuristics import search
from qpm_opt.methods.base import MethodOptions, MethodOutcome
from qpm_opt.pairs import can_choose_pairs
from qpm_opt.problem import Problem
from qpm_opt.result import OPTIMALITY_TOLERANCE, ROUNDING_TOLERANCE, TerminationCondition
from qpm_opt.tracking import Tracker

if TYPE_CHECKING:
    from qpm_opt.bounds.compilation import Compilation

logger = logging.getLogger(__name__)

#: Regions with more free features are bounded from a core: iterations before it is chosen, and its
#: least size, also as a multiple of the selection.
CORE_FROM, CORE_STEPS, CORE_LEAST, CORE_SIZE = 400, 100, 200, 2
#: Code of large problems is compiled if there are more seconds, where it is not kept.
COMPILATION = 60.0
#: What the least bound of a whole large problem takes, and that of a node, as multiples of the time
#: of these iterations.
LEAST_SHARE, NODE_COST = 0.1, 2.0
#: When the bounds of core and root end, and that of a root of few features, whose nodes are cheap.
CORE_EFFORT, ROOT_EFFORT, SMALL_EFFORT = (
    Effort(share=0.0005), Effort(share=0.01), Effort(window=60, share=0.1),
)  # fmt: skip
#: The first two where compiled loops take as much from the bound in a third of the iterations.
QUICK_CORE_EFFORT, QUICK_ROOT_EFFORT = Effort(window=60, share=0.003), Effort(window=60, share=0.02)
#: Share of the time for searching, and its most seconds: before any bound, after the linear one,
#: and after the linear one if it is nearly tight.
FIRST_SEARCH, SEARCH, SHORT_SEARCH = (0.01, 2.0), (0.05, 60.0), (0.02, 20.0)
#: The same under side constraints, which take seconds to meet for a single selection.
FIRST_SIDE_SEARCH, SIDE_SEARCH = (0.1, 10.0), (0.3, 120.0)
#: Restarts of either search: a feature of the problem is worth so many, within limits.
RESTARTS, LEAST_RESTARTS, MOST_RESTARTS = 0.25, 10, 400
#: Share of the time left, or seconds if that is unlimited, for linear bound, core and root.
LINEAR_TIME, CORE_TIME, ROOT_TIME = (0.02, 10.0), (0.3, 300.0), (0.5, 600.0)
#: A target is at most this share of the gap above the incumbent: so much is the first. The tree of
#: the next is to take so much of the time left, if that is no more than so many times what the last
#: one took, whose time then tells enough. Else a tree comes before it that takes the square root of
#: that ratio times the last, and no more than so many times.
TIMID, AIM, PATIENCE = 0.9, 0.92, 32.0
#: Nodes get a linear bound if its gap at the root is smaller than this multiple of the other.
LINEAR_WORTH = 2.0
#: What a claimed bound leaves to the rounding of those who check it, relatively.
SLACK = 1e-9
#: Bits of the largest coefficient beyond which it is of no use that objectives are whole multiples.
UNIT_BITS = 20
#: A gap smaller than this share of the first one is closed in one go. A late stage gets a target
#: that still lowers the bound by such a share of what its own would, or keeps that.
LAST = 0.1
#: Few features, or a bound this near to the incumbent, and the first target is the incumbent.
SMALL, NEAR = 150, 2e-3
#: Reward of unwanted and sure features beyond the gap to the target, as a share of that gap.
SPARE = 0.3
#: Matrices of order n + 1 in double precision that the semidefinite bound holds at a time, those
#: that an open node may hold, and the share of the memory for them. In a tree either gets half.
N_MATRICES, STATE_MATRICES, MEMORY_SHARE = 17, 8, 0.6


def physical_memory() -> float | None:
    """Memory of the machine in bytes, if the system tells."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _matrix_size(n: int) -> float:
    """Bytes of a matrix of order n + 1 in double precision."""
    return 8.0 * (n + 1.0) ** 2


def _unit(problem: Problem) -> float:
    """A power of two of which all objectives are multiples, 0 if that is of no use."""

    def divides(unit: float) -> bool:
        return all(
            np.array_equal(array / unit, np.rint(array / unit))
            for array in (problem.class_similarity, problem.feature_similarity, problem.bias)
        )

    unit = math.ldexp(1.0, math.floor(math.log2(problem.scale)) - UNIT_BITS)
    if not divides(unit):
        return 0.0
    while 2.0 * unit <= problem.scale and divides(2.0 * unit):
        unit *= 2.0
    return unit


def run(problem: Problem, tracker: Tracker, options: MethodOptions) -> MethodOutcome:
    """Prove as much as the time allows, from the tracker's incumbent."""
    # Two threads of BLAS are hardly faster than one at order 2000, and slower below.
    with threadpool_limits(limits=1):
        return _Exact(problem, tracker, options).run()


class _Exact:
    def __init__(self, problem: Problem, tracker: Tracker, options: MethodOptions) -> None:
        self.problem = problem
        self.tracker = tracker
        self.options = options
        self.whole = Region.whole(problem)
        self.outcome = MethodOutcome(n_rounds=0, node_count=0)
        left = tracker.remaining
        self._began = time.perf_counter()
        self._deadline = math.inf if left is None else self._began + left
        self._side_constraints = problem.has_side_constraints
        self._linear: Bound | None = None
        self._least = 0.0  # seconds for a bound on the whole problem, at least
        self._costs = PseudoCosts(problem.n_features)
        self._compilation: Compilation | None = None
        self._pace = self._tree_time = 0.0
        self._n_leaves = 1
        self._unit = _unit(problem)

    def run(self) -> MethodOutcome:
        """All phases; an interruption keeps what is proved."""
        outcome = self.outcome
        large = len(self.whole.free) > CORE_FROM and has_similarities(self.whole)
        try:
            if large and self._left() > COMPILATION:
                self._compilation = begin_compilation()  # while the search goes on
            first = FIRST_SIDE_SEARCH if self._side_constraints else FIRST_SEARCH
            self._search(*first, self.options.seed)
            n_features = len(self.whole.free)
            has_model = not self.problem.min_contrastive_pairs or can_choose_pairs(
                self.problem.n_classes, n_features
            )
            if self.tracker.assignment is None and has_model:
                # Side constraints are hard to meet, or nothing meets them: the model decides.
                return self._whole_model()
            self._prove()
            undecided = self._side_constraints and not self._done and not self.tracker.expired
            if undecided and has_model:
                # The bounds ignore them, so what is left is for the whole model.
                return self._whole_model()
            outcome.termination_condition = (
                TerminationCondition.TIME_LIMIT
                if self._too_late and not self._done
                else TerminationCondition.COMPLETED
            )
        except KeyboardInterrupt:
            outcome.termination_condition = TerminationCondition.INTERRUPTED
        except MemoryError as error:
            logger.warning("Out of memory: %s The bound stays as it is.", error)
            outcome.termination_condition = TerminationCondition.MEMORY_LIMIT
        except np.linalg.LinAlgError as error:
            logger.warning("An eigenvalue computation failed: %s The bound stays as it is.", error)
            outcome.termination_condition = TerminationCondition.ERROR
        finally:
            if self._compilation is not None:
                self._compilation.close()
        outcome.solve_time = time.perf_counter() - self._began
        return outcome

    def _whole_model(self) -> MethodOutcome:
        """Leave the rest of the time to the method compact."""
        if self.tracker.expired:
            return MethodOutcome(termination_condition=TerminationCondition.TIME_LIMIT)
        from qpm_opt.methods import compact  # with Pyomo, which takes a second to load

        return compact.run(self.problem, self.tracker, self.options)

    def _search(self, share: float, most: float, seed: int) -> None:
        left = self.tracker.remaining
        search(
            self.problem,
            start=self.tracker.assignment,
            time_limit=most if left is None else min(most, share * left),
            max_restarts=min(
                max(int(RESTARTS * self.problem.n_features), LEAST_RESTARTS), MOST_RESTARTS
            ),
            seed=seed,
            on_assignment=self._offer,
            should_stop=lambda: self._done,
        )

    def _prove(self) -> None:
        if self.whole.is_empty:
            return
        only = self.whole.single
        if only is not None:
            value = offer_selection(self.problem, only, self._offer, self._deadline)
            if math.isfinite(value):
                self._tighten(value, f"value of the only selection{self._ignored()}", Proof())
            return
        self._linear = self._linear_root()
        if self._done or self._too_late:
            return
        if self._linear is not None and not has_similarities(self.whole):
            self._prove_linear(self._linear)
            return
        root = self._root()
        logger.info("root: %.9g", root.value)
        held = self.tracker.objective
        if self._done or held is None:
            return
        if self._linear is not None and self._linear.value - held > LINEAR_WORTH * (
            root.value - held
        ):
            self._linear = None
        value = root.value if self._linear is None else min(root.value, self._linear.value)
        known = value if self.tracker.bound is None else min(value, self.tracker.bound)
        near = known - held < NEAR * abs(held)
        share = 0.0 if near or len(self.whole.free) <= SMALL else TIMID
        state = root.state
        while not self._done and not self._too_late:
            target, state = self._stage(root, state, self._target(share, known))
            if target is None or target <= self._target():
                break
            known = self._claimed(target)
            share = self._next_share(value, target)

    @property
    def _done(self) -> bool:
        return self.tracker.closed

    def _next_share(self, root: float, target: float) -> float:
        """Share of the gap at which the next target lies, by what the tree of the last one took.

        The leaves, of which each takes its time, grow exponentially with the distance from the
        root.
        """
        goal = self._target()
        allowed = AIM * self._left() / max(self._tree_time, 1e-3)
        if allowed > PATIENCE:
            allowed = min(math.sqrt(allowed), PATIENCE)
        growth = math.log(max(self._n_leaves, 2)) / (root - target)
        further = math.log(max(allowed, 1.0)) / growth
        share = min(max((target - further - goal) / (target - goal), 0.0), TIMID)
        return 0.0 if share * (target - goal) < LAST * (root - goal) else share

    def _target(self, share: float = 0.0, value: float = math.inf) -> float:
        """The goal, which ends the search, or a share of the way from it to ``value``."""
        held = self.tracker.objective
        if held is None:
            return -math.inf
        room = max(OPTIMALITY_TOLERANCE * abs(held), ROUNDING_TOLERANCE * self.problem.scale) / 2.0
        allowed = self.tracker.gap * abs(held)  # of which a claim takes a part
        goal = held + max(
            room, allowed - 2.0 * SLACK * max(abs(held) + allowed, self.problem.scale)
        )
        target = goal + share * max(0.0, value - goal) if share else goal
        return self._lifted(target)

    def _lifted(self, target: float) -> float:
        """The highest target with the same claim, which is rounded down to a multiple."""
        if not self._unit:
            return target
        following = (math.floor(target / self._unit) + 1.0) * self._unit
        return max(target, following - 2.0 * SLACK * max(abs(following), self.problem.scale))

    def _offer(self, assignment: Assignment) -> None:
        self.tracker.offer(assignment, "exact")

    def _tighten(self, bound: float, kind: str, proof: Proof) -> None:
        self.tracker.tighten(self._claimed(bound), kind, proof)

    def _claimed(self, bound: float) -> float:
        """The bound with room for the rounding of a check."""
        claimed = bound + SLACK * max(abs(bound), self.problem.scale)
        return math.floor(claimed / self._unit) * self._unit if self._unit else claimed

    def _root_proof(self, bound: Bound, kind: str) -> None:
        proof = Proof()
        proof.nodes[0].certificates.append(bound.certificate)
        self._tighten(bound.value, kind, proof)

    def _linear_root(self) -> Bound | None:
        """The linear bound on the whole problem, where it holds, and another search."""
        bound = linear_bound(
            self.whole, target=self._target(), deadline=self._share_of(*LINEAR_TIME)
        )
        if bound is not None:
            self._root_proof(bound, f"projected linear bound{self._ignored()}")
        search_time = SEARCH if has_similarities(self.whole) else SHORT_SEARCH
        if self._side_constraints:
            search_time = SIDE_SEARCH
        self._search(*search_time, self.options.seed + 1)
        return bound

    def _root(self) -> Bound:
        """The semidefinite bound on the whole problem."""
        self._check_memory()
        if len(self.whole.free) <= CORE_FROM:
            state, start = None, None if self._linear is None else self._linear.certificate
        else:
            began = time.perf_counter()
            plain = self._semidefinite(self.whole, max_steps=CORE_STEPS, deadline=self._deadline)
            elapsed = time.perf_counter() - began
            self._least = LEAST_SHARE * elapsed
            self._pace = NODE_COST * elapsed / len(self.whole.free) ** COST_EXPONENT
            if self._done or self._too_late:
                return plain
            if self._compilation is not None:
                self._compilation.wait(min(COMPILATION, max(0.0, self._left())))
            state, start = self._core(plain), None
            if self._too_late:
                return plain
        effort = SMALL_EFFORT
        if len(self.whole.free) > SMALL:
            effort = ROOT_EFFORT if compiled_loops() is None else QUICK_ROOT_EFFORT
        return self._semidefinite(
            self.whole,
            state=state,
            start=start,
            effort=effort,
            deadline=self._share_of(*ROOT_TIME),
        )

    def _semidefinite(self, region: Region, **limits: Any) -> Bound:
        """The semidefinite bound; what it gets to for the whole region is offered as it falls."""
        kind = f"semidefinite bound{self._ignored()}"
        target = self._target()
        offer = (lambda bound: self._root_proof(bound, kind)) if region is self.whole else None
        bound = semidefinite_bound(region, cutoff=target, on_bound=offer, **limits)
        if offer is not None:
            offer(bound)
        return bound

    def _core(self, plain: Bound) -> State:
        """State of the whole region that comes of the bound on its most promising features."""
        wanted = int((plain.s > CORE_VALUE).sum())
        size = max(CORE_LEAST, CORE_SIZE * self.problem.n_selected, wanted)
        if size >= len(plain.s):
            return cast(State, plain.state)
        places = np.sort(np.argsort(-plain.s, kind="stable")[:size])
        value, state = bound_of_core(
            self.whole,
            plain.state,
            places,
            cutoff=self._target(),
            effort=CORE_EFFORT if compiled_loops() is None else QUICK_CORE_EFFORT,
            deadline=self._share_of(*CORE_TIME),
        )
        logger.info("core of %d features: %.9g", size, value)
        return state

    def _check_memory(self) -> None:
        """Raise MemoryError if the semidefinite bound would not fit."""
        n = len(self.whole.free)
        if self._n_fitting(N_MATRICES, n) < 1.0:
            raise MemoryError(
                f"the semidefinite bound of {n} features would take "
                f"{N_MATRICES * _matrix_size(n) / 2**30:.1f} of the "
                f"{(physical_memory() or math.inf) / 2**30:.1f} GiB there are."
            )

    def _n_fitting(self, n_matrices: int, n: int) -> float:
        """How many sets of so many matrices fit, of order n + 1; inf if that is not known."""
        there = physical_memory()
        if there is None:
            return math.inf
        return MEMORY_SHARE * there / (n_matrices * _matrix_size(n))

    def _stage(self, root: Bound, state: State, target: float) -> tuple[float | None, State]:
        """Try to prove a target, or the goal where a better assignment raises that above it.

        What is open when it is late may be proved for a higher target, if that says much.

        Returns what is proved, None if nothing, and the state for the next stage.
        """
        self.outcome.n_rounds = (self.outcome.n_rounds or 0) + 1
        kind = f"semidefinite branch and bound{self._ignored()}"
        proof = Proof()
        proof.nodes[0].certificates.append(root.certificate)
        region, known = self.whole, root.value
        if self._linear is not None:
            proof.nodes[0].certificates.append(self._linear.certificate)
            known = min(known, self._linear.value)
        if len(region.free) > max(SMALL, 2 * self.problem.n_selected):
            unwanted, sure = root.s < UNWANTED, root.s > SURE
            if state.reward is not None and state.reward.any():
                unwanted, sure = state.reward > 0.0, state.reward < 0.0
            shrunk = None
            with contextlib.suppress(np.linalg.LinAlgError):  # it is worth a try, no more
                shrunk = shrink(
                    region,
                    state,
                    unwanted,
                    sure,
                    target=target,
                    reward=(1.0 + SPARE) * (root.value - target),
                    deadline=self._deadline - self._least,
                )
            if shrunk is not None:
                state = shrunk.state
                proof.nodes[0].certificates.append(shrunk.certificate)
                region = region.fixed(shrunk.certificate.out, shrunk.certificate.into)
                logger.info(
                    "target %.9g: %d features in, %d left",
                    target, len(region.ones), len(region.free),
                )  # fmt: skip
        self.tracker.report_free(len(region.free))
        if len(region.free) == len(self.whole.free) and self._too_late:
            return None, state
        workers = self._n_fitting(2 * N_MATRICES, len(region.free))
        began = time.perf_counter()

        def be_late(highest: float) -> None:
            nonlocal target
            bound = known if self.tracker.bound is None else self.tracker.bound
            within_reach = self._lifted(highest)
            if target < within_reach < bound - LAST * (bound - target):
                target = within_reach
                logger.info("late: target %.9g", target)

        reached = branch_semidefinite(
            proof,
            0,
            region,
            target=lambda: max(target, self._target()),
            offer=self._offer,
            on_bound=lambda bound: self._tighten(bound, kind, proof),
            state=state,
            linear=None if self._linear is None else self._linear.state,
            value=known,
            costs=self._costs,
            deadline=self._deadline,
            threads=max(1, int(min(self.options.threads, workers))),
            most_states=self._n_fitting(2 * STATE_MATRICES, len(region.free)),
            pace=self._pace,
            on_late=be_late,
        )
        self._tree_time = time.perf_counter() - began
        self._n_leaves = (len(proof.nodes) + 1) // 2
        self.outcome.node_count = (self.outcome.node_count or 0) + len(proof.nodes)
        logger.info("target %.9g: reached %.9g, %d nodes", target, reached, len(proof.nodes))
        target = max(target, self._target())
        return target if reached <= target else None, state

    def _prove_linear(self, root: Bound) -> None:
        kind = f"linear branch and bound{self._ignored()}"
        proof = Proof()
        reached = branch_linear(
            proof,
            0,
            self.whole,
            cutoff=self._target,
            offer=self._offer,
            on_bound=lambda bound: self._tighten(bound, kind, proof),
            state=root.state,
            deadline=self._deadline,
            threads=self.options.threads,
        )
        self._tighten(reached, kind, proof)
        self.outcome.node_count = len(proof.nodes)

    def _share_of(self, share: float, most: float) -> float:
        """A deadline after a share of the time left, or after so many seconds without a limit."""
        left = self._left()
        most = most if math.isinf(left) else max(1.0, share * left)
        return min(self._deadline, time.perf_counter() + most)

    def _left(self) -> float:
        """Seconds until the deadline."""
        return self._deadline - time.perf_counter()

    @property
    def _too_late(self) -> bool:
        """Whether no bound of the whole problem would end in time."""
        return self._left() <= self._least

    def _ignored(self) -> str:
        ignored = []
        if self.problem.distinct:
            ignored.append("distinctness of classes beyond pairs")
        if len(self.problem.pairs):
            ignored.append("contrastive pairs of a class beyond one")
        if self.problem.min_contrastive_pairs:
            ignored.append("least contrastive pairs")
        if self.problem.min_classes_per_feature:
            ignored.append("least uses of a feature")
        return f", ignoring {' and '.join(ignored)}" if ignored else ""
