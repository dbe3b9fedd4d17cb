"""The independent checker: accepts what is right, rejects every kind of wrong with its reason."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from qpm_opt.assignment import Assignment
from qpm_opt.bounds.proof import Certificate, Proof
from qpm_opt.cli import qpm
from qpm_opt.errors import InvalidSolutionError
from qpm_opt.problem import Problem
from qpm_opt.result import Result, SolutionStatus, TerminationCondition
from qpm_opt.verification import BoundStatus, verify
from tests.conftest import scaled

OPTIMUM = 19.4  # of the problem below
NO_BOUND = {"bound": None, "absolute_gap": None, "relative_gap": None}


@pytest.fixture
def problem() -> Problem:
    A = np.array([[4.0, 3, 2, 1], [4, 3, 1, 2], [1, 2, 3, 4]])
    R = np.zeros((4, 4))
    R[0, 1] = R[1, 0] = 0.5
    return Problem(A, R, np.array([0.1, 0, 0, 0.3]), n_selected=3, n_per_class=2)


@pytest.fixture
def record(problem, tmp_path):
    """Write a correct solution, changed by the arguments, and return its path."""
    assignment = Assignment.from_indices([0, 1, 3], [[0, 1], [0, 3], [1, 3]], n_features=4)
    result = Result(
        method="compact",
        solver="highs",
        assignment=assignment,
        objective=problem.objective(assignment),
        bound=20.0,
        bound_kind="test",
        solution_status=SolutionStatus.FEASIBLE,
        termination_condition=TerminationCondition.TIME_LIMIT,
    )

    def write(**changes):
        path = tmp_path / "solution.json"
        result.save(path, problem)
        content = json.loads(path.read_text()) | changes
        path.write_text(json.dumps(content))
        return path

    return write


def find_nothing(problem, given):
    """A challenge that leaves every bound as it is."""


def test_a_right_solution_is_accepted(problem, record):
    outcome = verify(problem, record())
    assert outcome.accepted
    assert outcome.objective == pytest.approx(7 + 6 + 6 - 0.5 + 0.4)
    assert outcome.bound_status is BoundStatus.UNPROVED
    assert outcome.remarks == (
        "the bound 20 is unproved: it carries no certificate, the gap rests on the word of its "
        "maker (test).",
    )


def test_the_word_optimal_is_no_better_than_its_bound(problem, record):
    claims = {"bound": 18.9, "absolute_gap": 0.0, "relative_gap": 0.0}
    path = record(**claims, solution_status="optimal")
    assert verify(problem, path).bound_status is BoundStatus.FALSE
    outcome = verify(problem, path, challenge=find_nothing)
    assert outcome.accepted
    assert outcome.bound_status is BoundStatus.UNPROVED
    assert "the gap and the word optimal rest on the word of its maker" in outcome.remarks[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"assignment": [[0, 1], [0, 1], [1, 3]]}, "classes 0 and 1 have the same features"),
        ({"assignment": [[0, 1], [0, 2], [1, 3]]}, "class 1 has feature 2, which is not selected"),
        ({"assignment": [[0, 1], [0], [1, 3]]}, "class 1 has 1 different features, not 2"),
        ({"assignment": [[0, 1], [0, 0], [1, 3]]}, "class 1 has 1 different features, not 2"),
        ({"selection": [0, 1]}, "selection has 2 different features, not 3"),
        ({"selection": [0, 1, 2, 3]}, "selection has 4 different features, not 3"),
        ({"selection": [1, 0, 3]}, "ascending"),
        ({"objective": 19.0}, "recomputed it is 18.9"),
        ({"objective": None}, "objective is None"),
        ({"objective": float("nan")}, "objective is nan"),
        ({"objective_parts": {"assignment": 19, "similarity": 0.5, "bias": 0.4}}, "similarity"),
        ({"objective_parts": None}, "objective_parts.assignment is None"),
        ({"bound": 18.0}, "below the objective"),
        ({"bound": 18.95}, "absolute_gap"),
        ({"bound": "20"}, "finite number or null"),
        ({"bound": 10**400}, "finite number or null"),
        ({"bound_kind": None}, "bound_kind"),
        ({"relative_gap": 0.0}, "relative_gap"),
        ({"termination_condition": "optimal"}, "called optimal"),
        ({"solution_status": "optimal"}, "called optimal"),
        ({**NO_BOUND, "termination_condition": "optimal"}, "termination_condition is optimal, but"),
        ({**NO_BOUND, "solution_status": "optimal"}, "solution_status is optimal, but"),
        ({**NO_BOUND, "relative_gap": 0.0}, "relative_gap is 0.0, but there is no bound"),
        ({**NO_BOUND, "absolute_gap": 0.0}, "absolute_gap is 0.0, but there is no bound"),
        ({"solution_status": "no_solution"}, "solution_status is 'no_solution'"),
        ({"solution_status": "infeasible"}, "solution_status is 'infeasible'"),
        ({"solution_status": ["feasible"]}, "solution_status is ['feasible']"),
        ({"termination_condition": "tired"}, "termination_condition is 'tired'"),
        ({"termination_condition": "infeasible"}, "termination_condition is 'infeasible'"),
        ({"termination_condition": None}, "termination_condition is None"),
        ({"bound_kind": 3}, "bound_kind"),
        ({"assignment": [[1, 0], [0, 3], [1, 3]]}, "features of class 0 are not in ascending"),
        ({"absolute_gap": 1.2}, "absolute_gap is 1.2"),
        ({"objective": -1.7e308, "bound": 1.7e308}, "objective is -1.7e+308"),
        ({"problem_sha256": "0" * 64}, "other data"),
    ],
)
def test_a_wrong_solution_is_rejected_with_the_reason(problem, record, changes, reason):
    outcome = verify(problem, record(**changes))
    assert not outcome.accepted
    assert any(reason in rejection for rejection in outcome.rejections), outcome.rejections


def test_a_solution_without_bound_is_accepted(problem, record):
    outcome = verify(problem, record(**NO_BOUND, bound_kind=None))
    assert outcome.accepted
    assert outcome.bound_status is BoundStatus.NONE
    assert "there is no bound" in outcome.remarks[0]


def test_the_bound_must_be_stated(problem, record):
    path = record(**NO_BOUND)
    content = json.loads(path.read_text())
    del content["bound"]
    path.write_text(json.dumps(content))
    assert verify(problem, path).rejections == (
        "bound is missing; expected a finite number or null.",
    )


def solution(problem, path, *, gap=1.0, **changes):
    """Write an assignment of ``problem`` with the bound ``gap`` above; changes on top."""
    assignment = Assignment.from_indices([0, 1, 3], [[0, 1], [0, 3], [1, 3]], n_features=4)
    Result(
        method="compact",
        assignment=assignment,
        objective=problem.objective(assignment),
        bound=problem.objective(assignment) + gap,
        bound_kind="test",
        solution_status=SolutionStatus.FEASIBLE,
        termination_condition=TerminationCondition.TIME_LIMIT,
    ).save(path, problem)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


@pytest.mark.parametrize("factor", [1e-9, 1e-6, 1.0, 1e6])
def test_tolerances_know_the_scale_of_the_problem(problem, tmp_path, factor):
    small = scaled(problem, factor)
    value = 18.9 * factor
    path = tmp_path / "s.json"

    def accepted(**options):
        written = solution(small, path, **options)
        return verify(small, written, challenge=find_nothing).accepted

    assert accepted(gap=factor)
    assert not accepted(gap=factor, objective=1.01 * value)
    assert not accepted(gap=factor, objective=value * (1 + 1e-8))
    assert not accepted(gap=factor, absolute_gap=1.01 * factor)
    assert not accepted(gap=factor, relative_gap=1.01 / 18.9)
    assert not accepted(gap=-1e-6 * value)
    # Optimal is a bound within 1e-6 of the objective, no more.
    for key in ("solution_status", "termination_condition"):
        assert accepted(gap=0.9e-6 * value, **{key: "optimal"})
        assert not accepted(gap=1.2e-6 * value, **{key: "optimal"})
    known = replace(small, best_known=20.0 * factor)
    assert verify(known, solution(known, path, gap=1.1 * factor)).accepted
    assert verify(known, solution(known, path, gap=(1.1 - 1e-5) * factor)).accepted
    assert not verify(known, solution(known, path, gap=(1.1 - 4e-5) * factor)).accepted


@pytest.mark.parametrize("factor", [1e-9, 1.0, 1e6])
def test_an_objective_that_cancels_is_judged_by_its_coefficients(problem, tmp_path, factor):
    free = Problem(
        np.zeros((0, 3)), factor * (1 - np.eye(3)), factor * np.array([0.5, 0.5, 0.0]),
        n_selected=2, n_per_class=0,
    )  # fmt: skip
    assignment = Assignment.from_indices([0, 1], [], n_features=3)
    for gap, accepted in ((0.9e-7, True), (1.2e-7, False)):
        path = tmp_path / "s.json"
        Result(
            method="compact",
            assignment=assignment,
            objective=free.objective(assignment),
            bound=gap * factor,
            bound_kind="test",
            solution_status=SolutionStatus.OPTIMAL,
            termination_condition=TerminationCondition.OPTIMAL,
        ).save(path, free)
        assert verify(free, path).accepted is accepted


def test_a_bound_is_refuted_beyond_the_tolerance_only(problem, record):
    given = {
        "assignment": [[0, 3], [0, 1], [1, 3]],
        "objective": 17.9,
        "objective_parts": {"assignment": 18.0, "similarity": -0.5, "bias": 0.4},
    }
    better = Assignment.from_indices([0, 1, 3], [[0, 1], [0, 3], [1, 3]], n_features=4)
    for bound, accepted in ((18.9 * (1 - 0.9e-6), True), (18.9 * (1 - 1.2e-6), False)):
        gaps = {"absolute_gap": bound - 17.9, "relative_gap": (bound - 17.9) / 17.9}
        path = record(**given, bound=bound, **gaps)
        assert verify(problem, path, challenge=lambda *_: better).accepted is accepted


def test_a_bound_that_an_assignment_beats_is_rejected(problem, record):
    better = Assignment.from_indices([0, 1, 3], [[0, 1], [0, 3], [1, 3]], n_features=4)
    worse = {
        "assignment": [[0, 3], [0, 1], [1, 3]],
        "objective": 5 + 7 + 6 - 0.5 + 0.4,
        "objective_parts": {"assignment": 18.0, "similarity": -0.5, "bias": 0.4},
        "bound": 18.4,
        "absolute_gap": 0.5,
        "relative_gap": 0.5 / 17.9,
    }
    unrefuted = verify(problem, record(**worse), challenge=find_nothing)
    assert unrefuted.accepted
    assert unrefuted.bound_status is BoundStatus.UNPROVED
    for value, refuted in (
        (18.9, verify(problem, record(**worse), challenge=lambda *_: better)),
        (OPTIMUM, verify(problem, record(**worse))),
    ):
        assert f"there is an assignment with objective {value}" in refuted.rejections[0]
        assert refuted.bound_status is BoundStatus.FALSE
        assert not any("unproved" in remark for remark in refuted.remarks)


def test_an_infeasible_solution_refutes_nothing(problem, record):
    infeasible = {"assignment": [[0, 1], [0, 1], [1, 3]], "bound": 18.95}
    gaps = {"absolute_gap": 18.95 - 19.9, "objective": 19.9}
    outcome = verify(problem, record(**infeasible, **gaps))
    assert outcome.bound_status is BoundStatus.UNPROVED
    assert not any("it is false" in rejection for rejection in outcome.rejections)


def test_a_challenge_that_breaks_a_constraint_refutes_nothing(problem, record):
    equal = Assignment.from_indices([0, 1, 3], [[0, 1], [0, 1], [1, 3]], n_features=4)
    path = record(bound=18.9, absolute_gap=0.0, relative_gap=0.0)
    assert verify(problem, path, challenge=lambda *_: equal).accepted


def test_a_bound_below_the_best_known_value_is_rejected(problem, record):
    known = Problem(
        problem.class_similarity,
        problem.feature_similarity,
        problem.bias,
        n_selected=3,
        n_per_class=2,
        best_known=20.5,
    )
    outcome = verify(known, record())
    assert "best known" in outcome.rejections[0]
    assert outcome.bound_status is BoundStatus.FALSE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "JSON"),
        ("[]", "format"),
        ('{"format": "qpm-solution/2"}', "format"),
        ('{"format": "qpm-solution/1"}', "no assignment"),
        ('{"format": "qpm-solution/1", "selection": [9], "assignment": [[], [], []]}', "holds 9"),
        ('{"format": "qpm-solution/1", "selection": [true], "assignment": [[]]}', "holds True"),
        ('{"format": "qpm-solution/1", "selection": [0], "assignment": [3]}', "list of indices"),
        ('{"format": "qpm-solution/1", "selection": [0], "assignment": [[0]]}', "1 classes"),
        ("[" * 100_000, "nested too deeply"),
        (
            '{"format": "qpm-solution/1", "selection": [%s], "assignment": []}'
            % (50 * "[" + 50 * "]"),
            r"selection holds \[\[\[\[\[\[\[\.\.\.",
        ),
    ],
)
def test_an_unreadable_file_is_named(problem, tmp_path, text, message):
    path = tmp_path / "solution.json"
    path.write_text(text)
    with pytest.raises(InvalidSolutionError, match=message):
        verify(problem, path)


def test_a_missing_file_is_named(problem, tmp_path):
    with pytest.raises(InvalidSolutionError, match="does not exist"):
        verify(problem, tmp_path / "none.json")


# --- Certificates ---


@pytest.fixture
def proved(problem, tmp_path):
    """Write a solution with a certificate worth 21.4 and return its path."""

    def write(bound):
        proof = Proof()
        proof.nodes[0].certificates.append(
            Certificate(
                threshold_class=np.arange(3),
                threshold=np.full(3, 3.0),
                threshold_weight=np.ones(3),
                reward=np.zeros(4),
            )
        )  # 3 * 2 * 3, and of s_0, s_1, s_2, s_3 the best three of 2.1, 0, 0, 1.3
        assignment = Assignment.from_indices([0, 1, 3], [[0, 1], [0, 3], [1, 3]], n_features=4)
        Result(
            method="exact",
            assignment=assignment,
            objective=problem.objective(assignment),
            bound=bound,
            bound_kind="test",
            solution_status=SolutionStatus.FEASIBLE,
            termination_condition=TerminationCondition.COMPLETED,
            proof=proof,
        ).save(tmp_path / "solution.json", problem)
        return tmp_path / "solution.json"

    return write


def changed(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


def test_a_certificate_is_written_beside_the_solution_and_proves_the_bound(problem, proved):
    outcome = verify(problem, proved(bound=21.5))
    assert outcome.accepted, outcome.rejections
    assert outcome.remarks[0] == (
        "the bound 21.5 is proved by a certificate: 1 nodes, 1 certificates."
    )
    assert outcome.proof.bound == 21.5
    assert outcome.bound_status is BoundStatus.PROVED


def test_a_certificate_that_proves_less_is_refused_with_figures(problem, proved):
    outcome = verify(problem, proved(bound=21.3))
    assert outcome.proof is None
    assert outcome.bound_status is BoundStatus.UNPROVED
    assert outcome.rejections == (
        "the certificate is refused: Node 0 of the proof is not closed: the value of its last "
        "certificate (1) is 21.4, the bound claimed 21.3.",
    )
    assert not any("word of its maker" in remark for remark in outcome.remarks)


def test_a_bound_changed_by_hand_is_caught(problem, proved):
    for bound in (21.0, 21.5 - 1e-6):
        gap = bound - 18.9
        path = changed(proved(bound=21.5), bound=bound, absolute_gap=gap, relative_gap=gap / 18.9)
        outcome = verify(problem, path)
        assert len(outcome.rejections) == 1
        assert "the certificate proves the bound 21.5, not the lower" in outcome.rejections[0]


def test_a_certificate_changed_by_hand_is_caught(problem, proved):
    path = proved(bound=21.5)
    certificate = path.with_name("solution.certificate.npz")
    with np.load(certificate) as archive:
        held = dict(archive)
    np.savez(certificate, **(held | {"bound": np.array(21.0)}))
    assert "its hash differs" in verify(problem, path).rejections[0]
    # With the hash mended as well, the proof itself does not hold.
    digest = hashlib.sha256(certificate.read_bytes()).hexdigest()
    content = {"certificate": {"file": certificate.name, "sha256": digest}}
    gap = {"absolute_gap": 2.1, "relative_gap": 2.1 / 18.9}
    path = changed(path, **content, **gap, bound=21.0)
    assert "is 21.4, the bound claimed 21" in verify(problem, path).rejections[0]


def test_a_certificate_that_is_named_must_be_there(problem, proved):
    path = proved(bound=21.5)
    path.with_name("solution.certificate.npz").unlink()
    assert "cannot be read" in verify(problem, path).rejections[0]


@pytest.mark.parametrize(
    ("certificate", "message"),
    [
        ("solution.certificate.npz", "plain name"),
        ({}, "plain name"),
        ({"file": 3}, "plain name"),
        ({"file": ""}, "cannot be read"),
        ({"file": "../solution.certificate.npz"}, "plain name"),
        ({"file": "/solution.certificate.npz"}, "plain name"),
        ({"file": "..\\solution.certificate.npz"}, "plain name"),
        ({"file": ".."}, "cannot be read"),
        ({"file": "a\0b"}, "cannot be read"),
        ({"file": "\ud800"}, "cannot be read"),
        ({"file": "a" * 5000}, "cannot be read"),
        ({"file": "solution.certificate.npz"}, "hash"),
        ({"file": "solution.certificate.npz", "sha256": "0" * 64}, "hash"),
    ],
)
def test_a_certificate_is_named_by_file_and_hash(problem, proved, certificate, message):
    outcome = verify(problem, changed(proved(bound=21.5), certificate=certificate))
    assert len(outcome.rejections) == 1
    assert message in outcome.rejections[0]


def test_a_certificate_without_bound_is_refused(problem, proved):
    path = changed(proved(bound=21.5), **NO_BOUND)
    assert "no bound for it to prove" in verify(problem, path).rejections[0]


def test_a_certificate_for_other_data_is_refused(problem, proved):
    path = proved(bound=21.5)
    other = Problem(
        problem.class_similarity,
        problem.feature_similarity,
        problem.bias + 1,
        n_selected=3,
        n_per_class=2,
    )
    rejections = verify(other, path).rejections
    assert any("certificate is refused" in r and "other data" in r for r in rejections)


def test_saving_without_proof_removes_the_old_certificate_only(problem, proved, record):
    path = proved(bound=21.5)
    certificate = path.with_name("solution.certificate.npz")
    assert record() == path
    assert not certificate.exists()
    assert "certificate" not in json.loads(path.read_text())
    problem.save(certificate)  # a file of the user's
    record()
    assert certificate.exists()


def test_the_command_says_that_a_bound_is_unproved(problem, record, tmp_path):
    problem.save(tmp_path / "problem.npz")
    for changes, said in (({}, "bound 20 (unproved)"), (NO_BOUND, "no bound")):
        arguments = ["verify", tmp_path / "problem.npz", record(**changes), "--search-time", "0"]
        outcome = CliRunner().invoke(qpm, list(map(str, arguments)))
        assert outcome.exit_code == 0
        assert said in outcome.output.splitlines()[-1]


def test_the_command_says_that_the_bound_is_proved(problem, proved, tmp_path):
    problem.save(tmp_path / "problem.npz")
    for bound, code, said in ((21.5, 0, "bound 21.5 (proved)"), (21.3, 2, "is not closed")):
        arguments = ["verify", tmp_path / "problem.npz", proved(bound), "--search-time", "0"]
        outcome = CliRunner().invoke(qpm, list(map(str, arguments)))
        assert outcome.exit_code == code
        assert said in outcome.output
