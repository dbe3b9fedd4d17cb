"""Demands on a solved problem: against brute force, and what the outcome says."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qpm_opt import (
    Assignment,
    ContradictionError,
    Demands,
    InvalidInputError,
    InvalidSolutionError,
    Problem,
    SolutionStatus,
    TerminationCondition,
    solve,
    verify,
    what_if,
)
from qpm_opt.assign import assign_within
from qpm_opt.demand_weights import objective_range, weighted
from qpm_opt.heuristics import greedy
from tests.conftest import DEGENERATE, degenerate, random_problem
from tests.oracle import optimum


def accepts(demands: Demands):
    """Whether a solution meets demands, written out again for the oracle."""

    def check(selected, rows) -> bool:
        return (
            all(d in selected for d in demands.required)
            and not any(d in selected for d in demands.forbidden)
            and all(d in rows[c] for c, d in demands.required_for)
            and not any(d in rows[c] for c, d in demands.forbidden_for)
            and all((d in rows[c]) + (d in rows[e]) == 1 for c, e, d in demands.different)
        )

    return check


def some_solution(problem: Problem) -> Assignment | None:
    """Any feasible assignment."""
    held = assign_within(problem, greedy(problem), 5.0)
    return solve(problem, time_limit=20, threads=1).assignment if held is None else held


def random_demands(rng: np.random.Generator, problem: Problem, n: int) -> Demands:
    """So many demands of any kind; nothing keeps them from contradicting each other."""
    found: dict[str, list] = {}
    kinds = ["required", "forbidden"]
    if problem.n_classes:
        kinds += ["required_for", "forbidden_for"]
    if problem.n_classes > 1:
        kinds += ["different", "different"]
    for kind in rng.choice(kinds, n):
        d = int(rng.integers(problem.n_features))
        n_classes = {"required_for": 1, "forbidden_for": 1, "different": 2}.get(kind, 0)
        c = [int(c) for c in rng.choice(problem.n_classes, n_classes, replace=False)] \
            if n_classes else []  # fmt: skip
        found.setdefault(kind, []).append((*c, d) if c else d)
    return Demands(**{kind: tuple(entries) for kind, entries in found.items()})


def compare_with_oracle(problem: Problem, demands: Demands) -> str:
    held = some_solution(problem)
    if held is None:
        return "no solution at all"
    best = optimum(problem, accepts(demands))
    try:
        found = what_if(problem, demands, held, method="exact", time_limit=60, threads=1)
    except ContradictionError:
        assert best is None
        return "contradiction"
    assert found.objective_before == problem.objective(held)
    if best is None:
        assert found.after is None
        assert found.termination_condition is TerminationCondition.INFEASIBLE
        return "infeasible"
    tolerance = 2e-6 * max(problem.scale, abs(best))
    assert found.after is not None
    assert not problem.violations(found.after)
    rows = [found.after.class_features(c).tolist() for c in range(problem.n_classes)]
    assert accepts(demands)(found.after.selected.tolist(), rows)
    assert found.objective_after == pytest.approx(problem.objective(found.after))
    assert abs(found.objective_after - best) <= tolerance
    assert found.solution_status is SolutionStatus.OPTIMAL
    assert found.termination_condition is TerminationCondition.OPTIMAL
    assert best - tolerance <= found.bound <= best + tolerance
    assert found.cost == problem.objective(held) - found.objective_after
    return "optimal"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 4))
def test_exact_agrees_with_brute_force(seed, n):
    problem = random_problem(seed)
    compare_with_oracle(problem, random_demands(np.random.default_rng(seed), problem, n))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 3),
    side=st.sampled_from(["uses", "pair", "pairs"]),
)
def test_exact_agrees_with_brute_force_under_side_constraints(seed, n, side):
    rng = np.random.default_rng(seed)
    more = {
        "uses": {"min_classes_per_feature": 1},
        "pair": {"contrastive_pairs": np.array([[0, 1]])},
        "pairs": {"min_contrastive_pairs": 2},
    }[side]
    A, R = rng.normal(size=(3, 6)), np.triu(rng.random((6, 6)), 1)
    problem = Problem(
        A, R + R.T, n_selected=4, n_per_class=2, distinct=bool(rng.integers(2)), **more
    )
    compare_with_oracle(problem, random_demands(rng, problem, n))


def small() -> tuple[Problem, Assignment]:
    """Three classes, five features, p = 3, k = 2, R = 0, and its optimum, worked out by hand.

    The best features of the classes are 0, 1 and 2 with pairs {0, 1}, {1, 2}, {0, 2}: 9 + 8, 9 + 8
    and 9 + 8. Features 3 and 4 are worth 3 and 1 to every class.
    """
    A = np.array([[9.0, 8, 0, 3, 1], [0, 9, 8, 3, 1], [8, 0, 9, 3, 1]])
    problem = Problem(A, np.zeros((5, 5)), n_selected=3, n_per_class=2)
    held = Assignment.from_indices([0, 1, 2], [[0, 1], [1, 2], [0, 2]], n_features=5)
    return problem, held


@pytest.mark.parametrize("method", ["heuristic", "exact"])
@pytest.mark.parametrize(
    ("demands", "objective"),
    [
        # {1, 2} and 3: class 0 has {1, 3}, 11; class 1 {1, 2}, 17; class 2 {2, 3}, 12.
        (Demands(forbidden=(0,)), 40.0),
        # The same: 3 comes for a feature that costs the least, and all are alike.
        (Demands(required=(3,)), 40.0),
        # Classes 0, 1 and 2 lose nothing, but two of the three are then {0, 1}, so it is 3 or 4.
        (Demands(forbidden_for=((0, 0),)), None),
        (Demands(required_for=((1, 0),)), None),
        # They differ in 0 and 2 as it is.
        (Demands(different=((0, 1, 0),)), 51.0),
        (Demands(required_for=((0, 0),), forbidden=(4,)), 51.0),
    ],
)
def test_worked_out_by_hand(method, demands, objective):
    problem, held = small()
    assert problem.objective(held) == 51.0
    best = optimum(problem, accepts(demands))
    assert objective is None or best == objective
    seconds = 1 if method == "heuristic" else 60
    found = what_if(problem, demands, held, method=method, time_limit=seconds, threads=1)
    assert found.objective_after == pytest.approx(best)
    assert found.cost == pytest.approx(51.0 - best)
    assert found.relative_cost == pytest.approx((51.0 - best) / 51.0)
    assert found.solution_status is (
        SolutionStatus.OPTIMAL if method == "exact" else SolutionStatus.FEASIBLE
    )


def test_what_has_changed():
    problem, held = small()
    found = what_if(problem, Demands(forbidden=(0,), required=(3,)), held, time_limit=2)
    assert (found.features_lost, found.features_gained) == ((0,), (3,))
    changes = {change.label: (change.lost, change.gained) for change in found.class_changes}
    assert changes == {0: ((0,), (3,)), 2: ((0,), (3,))}
    record = found.to_dict(["a", "b", "c"])
    assert json.loads(json.dumps(record, allow_nan=False)) == record | {
        "class_changes": [
            {"class": 0, "lost": [0], "gained": [3], "name": "a"},
            {"class": 2, "lost": [0], "gained": [3], "name": "c"},
        ]
    }
    assert record["selection"] == [1, 2, 3]
    assert record["demands"]["forbidden"] == [0]
    assert record["cost"] == 11.0
    again = pickle.loads(pickle.dumps(found))
    assert again.cost == found.cost


def test_a_better_solution_than_before_costs_less_than_nothing():
    problem, _ = small()
    poor = Assignment.from_indices([0, 3, 4], [[0, 3], [0, 4], [3, 4]], n_features=5)
    found = what_if(problem, Demands(required_for=((1, 1),)), poor, time_limit=2)
    assert found.objective_after == 51.0
    assert found.cost == problem.objective(poor) - 51.0 < 0


def test_a_solution_that_meets_the_demands_is_never_left_for_a_worse_one():
    for seed in range(20):
        problem = random_problem(seed, distinct=False)
        held = solve(problem, method="heuristic", time_limit=0.2).assignment
        demands = Demands(required=(int(held.selected[0]),))
        found = what_if(problem, demands, held, time_limit=0.0)
        assert found.objective_after >= problem.objective(held)


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_coefficients(name):
    problem = degenerate(name)
    held = solve(problem, method="heuristic", time_limit=0.3).assignment
    demands = Demands(
        required=(6,), forbidden=(int(held.selected[0]),), different=((0, 2, 5),)
    ) if held.selected[0] < 5 else Demands(required=(6,))  # fmt: skip
    best = optimum(problem, accepts(demands))
    found = what_if(problem, demands, held, method="exact", threads=1, time_limit=30)
    assert accepts(demands)(
        found.after.selected.tolist(), [found.after.class_features(c).tolist() for c in range(3)]
    )
    assert abs(found.objective_after - best) <= 1e-6 * max(abs(best), problem.scale)


def test_without_a_time_limit_the_search_ends_and_repeats_itself():
    problem, held = small()
    demands = Demands(different=((0, 1, 3),), forbidden_for=((2, 2),))
    one, two = (what_if(problem, demands, held, time_limit=None) for _ in range(2))
    assert one.objective_after == two.objective_after == optimum(problem, accepts(demands))
    assert one.after.matrix.tolist() == two.after.matrix.tolist()
    assert one.termination_condition is TerminationCondition.COMPLETED


def test_an_interrupt_keeps_what_is_there(monkeypatch):
    problem, held = small()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("qpm_opt.steering.search", interrupted)
    for demands in (Demands(forbidden=(0,)), Demands(different=((0, 1, 1),))):
        found = what_if(problem, demands, held, time_limit=5)
        assert found.termination_condition is TerminationCondition.INTERRUPTED
        assert found.after is not None and not found.rejections


def test_the_range_holds_every_objective():
    for seed in range(30):
        problem = random_problem(seed, distinct=False)
        negative = replace(
            problem,
            class_similarity=-problem.class_similarity,
            feature_similarity=-problem.feature_similarity,
            feature_bias=-problem.bias,
        )
        lower, upper = objective_range(problem)
        room = 1e-9 * problem.scale
        assert optimum(problem) <= upper + room
        assert -optimum(negative) >= lower - room


def test_weights_leave_solutions_that_meet_the_demands_at_their_worth():
    rng = np.random.default_rng(0)
    C, F, p, k = 3, 6, 4, 2
    A, R = rng.normal(size=(C, F)), np.triu(rng.random((F, F)), 1)
    problem = Problem(A, R + R.T, rng.normal(size=F), n_selected=p, n_per_class=k)
    demands = Demands(
        required=(1, 2), forbidden=(0,), required_for=((0, 1),), forbidden_for=((0, 3), (C - 1, 2))
    )
    changed = weighted(problem, demands, 100.0)
    seen = set()
    for _ in range(300):
        chosen = rng.choice(F, p, replace=False)
        rows = [rng.choice(chosen, k, replace=False).tolist() for _ in range(C)]
        held = Assignment.from_indices(chosen.tolist(), rows, n_features=F)
        if 0 in chosen:
            assert any(v.name == "candidate" for v in changed.violations(held))
        n = len([s for s in demands.unmet(chosen.tolist(), rows) if "feature 0 " not in s])
        seen.add(n)
        assert changed.objective(held) == pytest.approx(problem.objective(held) - 100.0 * n)
    assert {0, 1} <= seen


def test_unmet_names_every_demand():
    demands = Demands(
        required=(0, 1),
        forbidden=(2, 3),
        required_for=((0, 1), (1, 1)),
        forbidden_for=((0, 2), (1, 2)),
        different=((0, 1, 4), (0, 1, 5), (0, 1, 2)),
    )
    assert demands.unmet([0, 2, 4], [[2, 4], [0, 4]], "class {}".format) == (
        "feature 1 is required but not selected.",
        "feature 2 is forbidden but selected.",
        "feature 1 is required for class 0, which does not have it.",
        "feature 1 is required for class 1, which does not have it.",
        "feature 2 is forbidden for class 0, which has it.",
        "class 0 and class 1 are to differ in feature 4, which both have.",
        "class 0 and class 1 are to differ in feature 5, which neither has.",
    )
    assert demands.unmet([0, 1, 5], [[1, 5], [1, 0]])[-1].startswith("class 0 and class 1 are to")


@pytest.mark.parametrize(
    ("demands", "sentence"),
    [
        ({"required": (5,)}, "There is no feature 5; there are from 0 to 4."),
        ({"forbidden": (-1,)}, "There is no feature -1"),
        ({"required_for": ((3, 0),)}, "There is no class 3; there are from 0 to 2."),
        ({"different": ((0, 3, 0),)}, "There is no class 3"),
        ({"forbidden_for": ((0, 9),)}, "There is no feature 9"),
        ({"required": (0,), "forbidden": (0,)}, "Feature 0 is both required and forbidden"),
        ({"required_for": ((1, 0),), "forbidden": (0,)}, "Feature 0 is required for kind 1 and"),
        (
            {"required_for": ((1, 0),), "forbidden_for": ((1, 0),)},
            "Feature 0 is both required and forbidden for kind 1",
        ),
        ({"required": (0, 1, 2, 3)}, "4 features are required, but n_selected is 3"),
        ({"required": (0, 1), "required_for": ((0, 2), (1, 3))}, "4 features are required"),
        ({"required_for": ((0, 0), (0, 1), (0, 2))}, "3 features are required for kind 0, but"),
        ({"forbidden": (0, 1, 2)}, "there are 2 candidates left, but n_selected is 3"),
        (
            {"forbidden_for": ((0, 0), (0, 1)), "forbidden": (2, 3), "required": (4,)},
            "there are 3 candidates left",
        ),
        (
            {"forbidden_for": ((0, 0), (0, 1), (0, 2), (0, 3))},
            "kind 0 may have 1 of the candidate features, but n_per_class is 2",
        ),
        ({"different": ((1, 1, 0),)}, "kind 1 is to differ from itself in feature 0"),
        (
            {"different": ((1, 0, 0),), "required_for": ((0, 0), (1, 0))},
            "kind 0 and kind 1 are to differ in feature 0, but both are to have it",
        ),
        ({"different": ((1, 0, 0),), "forbidden": (0,)}, "but neither may have it"),
        (
            {"different": ((1, 0, 0),), "forbidden_for": ((0, 0), (1, 0))},
            "but neither may have it",
        ),
        ({"different": tuple((0, 1, d) for d in range(5))}, "at most 4 such demands"),
        ({"different": ((0, 1, 0), (0, 2, 0), (1, 2, 0))}, "not in all pairs at once"),
        ({}, "There are no demands"),
    ],
)
def test_demands_that_cannot_be(demands, sentence):
    problem, held = small()
    if "3 candidates" in sentence:
        problem = replace(problem, n_selected=3, candidate=np.array([1, 1, 1, 1, 0], bool))
        sentence = "Feature 4 is required, but it is no candidate"
    with pytest.raises(InvalidInputError) as failure:
        what_if(problem, Demands(**demands), held, class_name="kind {}".format)
    assert sentence in str(failure.value)
    assert len(str(failure.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("demands", "sentence"),
    [
        ({"required": 3}, "required is 3; a sequence was expected"),
        ({"required": (1.5,)}, "required holds 1.5; a feature by whole numbers"),
        ({"forbidden": ("a",)}, "forbidden holds 'a'"),
        ({"forbidden": (True,)}, "forbidden holds True"),
        ({"required_for": (3,)}, "required_for holds 3; (class, feature)"),
        ({"required_for": ((1, 2, 3),)}, "required_for holds (1, 2, 3)"),
        ({"different": ((1, 2),)}, "different holds (1, 2); (class, class, feature)"),
        ({"different": ((1, math.nan, 2),)}, "different holds (1, nan, 2)"),
    ],
)
def test_demands_of_the_wrong_form(demands, sentence):
    with pytest.raises(InvalidInputError) as failure:
        Demands(**demands)
    assert sentence in str(failure.value)


def test_demands_are_a_set():
    one = Demands(required=[3, 1, 3], different=[(2, 1, 0), (1, 2, 0)])
    assert one == Demands(required=(1, 3), different=((1, 2, 0),))
    assert hash(one) == hash(Demands(required=(1, 3), different=((1, 2, 0),)))
    assert one.required == (1, 3)
    assert Demands(required=np.array([2])).required == (2,)
    assert not Demands() and one


def test_cases_are_every_way_to_differ_and_no_other():
    problem = Problem(np.ones((3, 4)), np.zeros((4, 4)), n_selected=3, n_per_class=2,
                      distinct=False)  # fmt: skip
    demands = Demands(different=((0, 1, 0), (1, 2, 3)), forbidden_for=((0, 2),))
    cases = list(demands.cases(problem))
    assert not any(case.different for case in cases)
    subsets = list(combinations(range(4), 2))
    for rows in product(subsets, repeat=3):
        met = [not case.unmet(range(4), rows) for case in cases]
        assert sum(met) == (not demands.unmet(range(4), rows))


def test_infeasible_beyond_contradictions():
    problem, held = small()
    # Two classes with the same two features; that they may not is not seen in the demands alone.
    demands = Demands(required_for=((0, 0), (0, 1), (1, 0), (1, 1)))
    found = what_if(problem, demands, held, method="exact", threads=1, time_limit=30)
    assert found.termination_condition is TerminationCondition.INFEASIBLE
    assert found.solution_status is SolutionStatus.NO_SOLUTION
    assert found.after is None and found.cost is None and found.bound is None
    assert found.features_lost == found.class_changes == ()
    record = found.to_dict()
    assert record["selection"] is record["assignment"] is record["cost"] is None
    weak = what_if(problem, demands, held, time_limit=0.5)
    assert weak.after is None
    assert weak.termination_condition is not TerminationCondition.INFEASIBLE


def test_warm_start_must_be_a_solution():
    problem, _ = small()
    broken = Assignment.from_indices([0, 1, 3], [[0, 1], [0, 1], [0, 3]], n_features=5)
    with pytest.raises(InvalidSolutionError, match="solution is infeasible: classes 0, 1"):
        what_if(problem, Demands(required=(1,)), broken)
    with pytest.raises(InvalidInputError, match="no method 'magic'"):
        what_if(problem, Demands(required=(1,)), small()[1], method="magic")


def test_bound_and_certificate_of_the_solution_before(tmp_path):
    problem = random_problem(11)
    result = solve(problem, threads=1, time_limit=30)
    assert result.proof is not None
    path = tmp_path / "solution.json"
    result.save(path, problem)
    d = int(result.assignment.selected[0])
    found = what_if(problem, Demands(forbidden=(d,)), path, time_limit=1)
    assert found.bound == found.bound_before == result.bound
    assert found.bound_kind.endswith("without the demands")
    assert found.objective_after <= found.bound
    beside = tmp_path / "other" / "what-if.json"
    found.save_solution(beside, problem)
    outcome = verify(problem, beside)
    assert outcome.accepted, outcome.rejections
    assert outcome.bound_status == "proved"
    assert outcome.objective == pytest.approx(found.objective_after)
    record = json.loads(beside.read_text())
    assert record["options"]["demands"]["forbidden"] == [d]
    tight = what_if(problem, Demands(forbidden=(d,)), path, method="exact", threads=1)
    assert tight.bound <= found.bound
    assert tight.bound == pytest.approx(tight.objective_after, rel=1e-5)
    # The bound of another problem, or one that was changed by hand, is not taken.
    other = replace(problem, feature_bias=problem.bias + 1.0)
    assert what_if(other, Demands(forbidden=(d,)), path, time_limit=0.2).bound is None
    record = json.loads(path.read_text())
    for changed in (result.objective - 1.0, 10**400):
        path.write_text(json.dumps(record | {"bound": changed}))
        assert what_if(problem, Demands(forbidden=(d,)), path, time_limit=0.2).bound is None


def test_a_bound_that_the_new_solution_refutes_goes(tmp_path):
    problem, _ = small()
    poor = Assignment.from_indices([0, 3, 4], [[0, 3], [0, 4], [3, 4]], n_features=5)
    result = solve(problem, method="heuristic", time_limit=0.2)
    false = replace(result, assignment=poor, objective=problem.objective(poor), bound=30.0,
                    bound_kind="made up")  # fmt: skip
    false.save(tmp_path / "solution.json", problem)
    demands = Demands(required=(1,))
    found = what_if(problem, demands, tmp_path / "solution.json", time_limit=1)
    assert found.objective_after == 51.0
    assert found.bound is found.bound_before is None
    found.save_solution(tmp_path / "after.json", problem)
    assert verify(problem, tmp_path / "after.json").accepted
