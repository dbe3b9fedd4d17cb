"""The relaxed iteration of the QPM paper (section 4.1.1 and appendix C.C): a heuristic.

The first model asks only for the right total number of assignments. After every solve the
constraints that its solution violates are added, but only over Gamma, the features selected in any
solve so far: eq. 9 (at least k features) for every class ever short of features, C_sparse, and
eq. 10 (at most k - 1 shared features) for every pair ever equal, C_duplicates, the latter once no
class is short any more. The iteration ends when nothing is violated.

A sum over Gamma in eq. 9 forbids assignments outside Gamma, so what the iteration converges to need
not be optimal and its solvers' bounds bound another problem: nothing here reports a bound.

Deviations from the paper
-------------------------
- ``W <= s`` is linear, where the paper multiplies W and s; the feasible points are the same.
- Eq. 10 is linearised: a product variable for each pair and feature of Gamma.
- The added constraints are stated anew in each round over the current Gamma, as in the public code.
- The start of the next solve swaps within one class at a time. Eqs. 22 and 24 choose the removal
  and the addition independently, which may change the number of features of two classes. Where no
  such swap parts two classes, the exact assignment of the selection is the start.
- Every selection that a solve comes across is completed by its exact assignment and offered as an
  incumbent, so that the iteration may be stopped at any time.
- The first start is the incumbent held, not the features of a clique.
- ``min_classes_per_feature`` and ``contrastive_pairs`` are rows of the model from the start.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from scipy import sparse

from qpm_opt.assign import assign_within, top_k_assignment
from qpm_opt.assignment import Assignment, equal_classes
from qpm_opt.formulation import build_relaxed
from qpm_opt.methods.base import MethodOptions, MethodOutcome
from qpm_opt.problem import Problem
from qpm_opt.result import TerminationCondition
from qpm_opt.solvers import get_solver, solve_in_child
from qpm_opt.solvers.base import Event, MatrixModel, RawSolve, Row, SolveOptions
from qpm_opt.solvers.compile import Columns, matrix_and_columns, products_for
from qpm_opt.tracking import Tracker
from qpm_opt.validation import BoolArray, FloatArray, IntArray

logger = logging.getLogger(__name__)

#: Relative gap and seconds at which the paper stops a single solve.
SOLVE_GAP = 1e-4
SOLVE_TIME_LIMIT = 3 * 3600.0
#: The iteration is finite, but it may be long; this ends it.
MAX_ROUNDS = 200
#: Equal pairs taken up in one round; each costs a variable per feature of Gamma.
MAX_PAIRS_PER_ROUND = 500

_GOES_ON = (
    TerminationCondition.OPTIMAL,
    TerminationCondition.GAP_LIMIT,
    TerminationCondition.TIME_LIMIT,
)


def run(problem: Problem, tracker: Tracker, options: MethodOptions) -> MethodOutcome:
    """Iterate until nothing is violated or the time is up; proves nothing and sets no bound.

    Returns
    -------
    MethodOutcome
        COMPLETED if the iteration came to its end. ``reported_objective`` is the last solve's,
        ``n_cuts`` counts the constraints of eqs. 9 and 10 in the last model.
    """
    if tracker.expired:
        return MethodOutcome(
            termination_condition=TerminationCondition.TIME_LIMIT, n_rounds=0, n_cuts=0
        )
    before = tracker.elapsed
    products = products_for(get_solver(options.solver).capabilities)
    matrix, columns = matrix_and_columns(build_relaxed(problem, products=products))
    outcome = MethodOutcome(build_time=tracker.elapsed - before, n_rounds=0, n_cuts=0)
    constraints = RelaxedConstraints(problem, columns)
    incumbents = _Incumbents(problem, tracker, columns)
    start = tracker.assignment
    for n_rounds in range(1, MAX_ROUNDS + 1):
        if tracker.expired:
            outcome.termination_condition = TerminationCondition.TIME_LIMIT
            break
        raw = solve_in_child(
            options.solver,
            constraints.extend(matrix),
            _solve_options(tracker, options),
            start=None if start is None else constraints.to_point(start),
            on_event=incumbents.take,
        )
        outcome.n_rounds, outcome.n_cuts = n_rounds, constraints.count
        outcome.solve_time += raw.solve_time
        outcome.solver_version = raw.solver_version or outcome.solver_version
        outcome.raw_status = raw.raw_status
        if raw.node_count is not None:
            outcome.node_count = (outcome.node_count or 0) + raw.node_count
        if raw.point is not None:
            outcome.reported_objective = raw.reported_objective
            incumbents.complete(raw.point)
        if raw.point is None or raw.termination_condition not in _GOES_ON:
            outcome.termination_condition = _reason(raw, constraints)
            break
        relaxed = columns.to_assignment(raw.point)
        assert relaxed is not None  # the model has W
        violated = constraints.add_violated(relaxed)
        logger.debug(
            "round %d: %d constraints, %d features in Gamma",
            n_rounds,
            constraints.count,
            constraints.gamma.sum(),
        )
        if not violated:
            expired = raw.termination_condition is TerminationCondition.TIME_LIMIT
            outcome.termination_condition = (
                TerminationCondition.TIME_LIMIT if expired else TerminationCondition.COMPLETED
            )
            break
        start = constraints.start(relaxed.selected, tracker.remaining)
    else:
        outcome.termination_condition = TerminationCondition.COMPLETED
        outcome.raw_status = f"stopped after {MAX_ROUNDS} rounds with constraints still violated"
    return outcome


class RelaxedConstraints:
    """Gamma, C_sparse and C_duplicates of the paper, and the constraints they stand for.

    Attributes
    ----------
    gamma : ndarray of shape (n_features,), bool
        Features selected in any solve so far.
    sparse_classes : set of int
        C_sparse, classes that ever had fewer than k features.
    duplicates : dict of (c, c')
        C_duplicates, pairs that were ever equal, in the order in which they were met.
    """

    def __init__(self, problem: Problem, columns: Columns) -> None:
        assert columns.assignment is not None
        self.problem = problem
        self.columns = columns
        self.assignment: IntArray = columns.assignment
        self.gamma: BoolArray = np.zeros(problem.n_features, dtype=bool)
        self.sparse_classes: set[int] = set()
        self.duplicates: dict[tuple[int, int], None] = {}

    @property
    def count(self) -> int:
        """Number of constraints of eqs. 9 and 10."""
        return len(self.sparse_classes) + len(self.duplicates)

    def add_violated(self, relaxed: Assignment) -> bool:
        """Take in a solution; return whether it violates anything.

        Duplicates are looked at only if no class is short of features (appendix C.C).
        """
        self.gamma |= relaxed.selection
        short = np.flatnonzero(relaxed.matrix.sum(axis=1) < self.problem.n_per_class)
        if short.size:
            self.sparse_classes.update(short.tolist())
            return True
        if not self.problem.distinct:
            return False
        pairs = [
            (c, other)
            for group in equal_classes(relaxed.matrix)
            for i, c in enumerate(group)
            for other in group[i + 1 :]
        ]
        self.duplicates.update(dict.fromkeys(pairs[:MAX_PAIRS_PER_ROUND]))
        return bool(pairs)

    def extend(self, root: MatrixModel) -> MatrixModel:
        """The root model with the constraints over the current Gamma and their products."""
        features = np.flatnonzero(self.gamma)
        k = self.problem.n_per_class
        rows = [
            Row(self.assignment[c, features], -np.ones(features.size), -float(k))
            for c in sorted(self.sparse_classes)
        ]
        first_product = root.n_columns
        one_product = np.array([1.0, 1.0, -1.0])
        for i, (c, other) in enumerate(self.duplicates):
            shared = first_product + i * features.size + np.arange(features.size)
            rows += [
                Row(
                    np.array([self.assignment[c, d], self.assignment[other, d], v]),
                    one_product,
                    1.0,
                )
                for d, v in zip(features, shared, strict=True)
            ]
            rows.append(Row(shared, np.ones(features.size), k - 1.0))
        n_products = len(self.duplicates) * features.size
        return _with_binaries(root, n_products).with_rows(rows)

    def to_point(self, assignment: Assignment) -> FloatArray:
        """Point of an assignment in the extended model."""
        pairs = np.array(list(self.duplicates), dtype=np.intp).reshape(-1, 2)
        W = assignment.matrix[:, self.gamma]
        products = W[pairs[:, 0]] & W[pairs[:, 1]]
        return np.concatenate([self.columns.to_point(assignment), products.ravel()])

    def start(self, selected: IntArray, time_limit: float | None = None) -> Assignment | None:
        """A good assignment of these features that keeps all constraints (appendix C.C)."""
        if not self.duplicates:
            return top_k_assignment(self.problem, selected)  # W^{n_wc}
        found = deduplicated(self.problem, selected)
        return found or assign_within(self.problem, selected, time_limit)


def deduplicated(problem: Problem, selected: IntArray) -> Assignment | None:
    """W^{n_wc} with equal classes parted by the cheapest swaps (eqs. 19 to 25).

    Each swap takes a class out of a group of equal ones: it gives up one of its features for one
    it does not have, at the least loss of similarity among the swaps that create no duplicate.
    None if a pair has no such swap.
    """
    A = problem.class_similarity[:, selected]
    most = top_k_assignment(problem, selected)
    W = most.matrix[:, selected]
    while groups := equal_classes(W):
        taken = {row.tobytes() for row in np.packbits(W, axis=1)}
        swaps = [swap for c in groups[0][:2] if (swap := _cheapest_swap(A[c], W[c], taken, c))]
        if not swaps:
            return None
        _, c, removed, added = min(swaps)
        W[c, removed], W[c, added] = False, True
    matrix = np.zeros_like(most.matrix)
    matrix[:, selected] = W
    return Assignment(most.selection, matrix)


def _cheapest_swap(
    similarity: FloatArray, own: BoolArray, taken: set[bytes], c: int
) -> tuple[float, int, int, int] | None:
    """Loss, class, removed and added feature of the cheapest swap to a set that is not taken."""
    inside, outside = np.flatnonzero(own), np.flatnonzero(~own)
    loss = similarity[inside][:, None] - similarity[outside]
    for flat in np.argsort(loss, axis=None, kind="stable"):
        i, j = np.unravel_index(flat, loss.shape)
        changed = own.copy()
        changed[inside[i]], changed[outside[j]] = False, True
        if np.packbits(changed).tobytes() not in taken:
            return float(loss[i, j]), c, int(inside[i]), int(outside[j])
    return None


class _Incumbents:
    """Completes the selections of solvers' points and offers them, each once."""

    def __init__(self, problem: Problem, tracker: Tracker, columns: Columns) -> None:
        self.problem = problem
        self.tracker = tracker
        self.columns = columns
        self.seen: set[bytes] = set()

    def take(self, event: Event) -> None:
        """Complete the point of an event, if it has one."""
        if event.point is not None:
            self.complete(event.point)

    def complete(self, x: FloatArray) -> None:
        """Offer the exact assignment of the features selected at a point."""
        relaxed = self.columns.to_assignment(x)
        if relaxed is None or relaxed.selection.sum() != self.problem.n_selected:
            return
        key = np.packbits(relaxed.selection).tobytes()
        if key in self.seen:
            return
        self.seen.add(key)
        found = assign_within(self.problem, relaxed.selected, self.tracker.remaining)
        if found is not None:
            self.tracker.offer(found, "paper")


def _solve_options(tracker: Tracker, options: MethodOptions) -> SolveOptions:
    remaining = tracker.remaining
    return SolveOptions(
        time_limit=SOLVE_TIME_LIMIT if remaining is None else min(SOLVE_TIME_LIMIT, remaining),
        gap=max(SOLVE_GAP, tracker.gap),
        threads=options.threads,
        seed=options.seed,
        solver_options=options.solver_options,
    )


def _reason(raw: RawSolve, constraints: RelaxedConstraints) -> TerminationCondition:
    """Why the iteration stops at a solve that gave no point or did not end as it should."""
    if raw.termination_condition is TerminationCondition.INFEASIBLE and constraints.count:
        # Only the restriction to Gamma is infeasible.
        return TerminationCondition.COMPLETED
    if raw.termination_condition is TerminationCondition.OPTIMAL:
        return TerminationCondition.ERROR  # a solution was claimed but not delivered
    return raw.termination_condition


def _with_binaries(model: MatrixModel, n_extra: int) -> MatrixModel:
    """The model with further binary columns that no row uses yet."""
    matrix = model.matrix
    return replace(
        model,
        cost=np.concatenate([model.cost, np.zeros(n_extra)]),
        matrix=sparse.csr_array(
            (matrix.data, matrix.indices, matrix.indptr),
            shape=(matrix.shape[0], model.n_columns + n_extra),
        ),
        lower=np.concatenate([model.lower, np.zeros(n_extra)]),
        upper=np.concatenate([model.upper, np.ones(n_extra)]),
        integer=np.concatenate([model.integer, np.ones(n_extra, dtype=bool)]),
    )
