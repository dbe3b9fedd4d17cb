"""A solve that begins with a solution file: what it proves is kept, what it claims is nothing."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace

import pytest
from click.testing import CliRunner

import qpm_opt.optimize
import qpm_opt.result as result_module
from qpm_bench.instances import paper_like
from qpm_opt import Problem, solve, verify
from qpm_opt.bounds.proof import Proof
from qpm_opt.cli import qpm
from qpm_opt.proof_file import read_proof
from qpm_opt.result import SolutionStatus, TerminationCondition
from qpm_opt.verification import BoundStatus
from tests.conftest import scaled


def instance(factor: float = 1.0) -> Problem:
    problem = paper_like(n_classes=10, n_features=40, n_selected=8, n_per_class=3, seed=0)
    return scaled(problem, factor)


@pytest.fixture
def begun(tmp_path):
    """Write a solution whose bound is proved but not tight; its path and result."""

    def write(problem: Problem):
        result = solve(problem, threads=1, gap=0.02)
        assert 0.0 < result.relative_gap <= 0.02
        result.save(tmp_path / "begun.json", problem)
        return tmp_path / "begun.json", result

    return write


def change(path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("factor", [1e-9, 1.0, 1e9])
def test_a_proved_bound_and_its_certificate_go_over(begun, factor):
    problem = instance(factor)
    path, before = begun(problem)
    after = solve(problem, method="heuristic", time_limit=5, gap=0.1, warm_start=path)
    assert (after.bound, after.bound_kind) == (before.bound, before.bound_kind)
    assert after.objective >= before.objective
    after.save(path.with_name("after.json"), problem)
    assert verify(problem, path.with_name("after.json")).bound_status is BoundStatus.PROVED


def test_the_exact_method_goes_on_from_the_bound(begun, monkeypatch):
    problem = instance()
    path, before = begun(problem)
    after = solve(problem, threads=1, warm_start=path)
    assert after.termination_condition is TerminationCondition.OPTIMAL
    assert next(entry.bound for entry in after.progress if entry.bound) == before.bound
    after.save(path, problem)
    assert verify(problem, path).bound_status is BoundStatus.PROVED
    # Nothing is left to do, and nothing is done.
    monkeypatch.setattr(qpm_opt.optimize, "_run", None)
    again = solve(problem, threads=1, warm_start=path)
    assert again.solution_status is SolutionStatus.OPTIMAL
    assert again.bound == after.bound


def test_a_lower_bound_without_certificate_takes_the_place_of_the_proved_one(begun):
    problem = instance()
    path, before = begun(problem)
    after = solve(problem, method="compact", threads=1, warm_start=path)
    assert after.bound < before.bound
    assert after.proof is None


def test_a_bound_is_believed_as_far_as_its_certificate_goes(begun):
    problem = instance()
    path, before = begun(problem)
    change(path, bound=(before.bound + before.objective) / 2)
    after = solve(problem, method="heuristic", time_limit=1, gap=0.1, warm_start=path)
    assert after.bound == before.bound


def lose(path) -> None:
    path.with_name("begun.certificate.npz").unlink()


def tamper(path) -> None:
    with open(path.with_name("begun.certificate.npz"), "ab") as stream:
        stream.write(b"more")


def falsify(path) -> None:
    """The certificate claims a lower bound than it proves, and the solution has its hash."""
    certificate = path.with_name("begun.certificate.npz")
    content = read_proof(certificate)
    Proof.of(content).save(certificate, instance(), 0.99 * content.bound)
    digest = hashlib.sha256(certificate.read_bytes()).hexdigest()
    change(path, certificate={"file": certificate.name, "sha256": digest})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(lose, "cannot be read"), (tamper, "its hash differs"), (falsify, "is not closed")],
)
def test_a_bound_whose_certificate_does_not_hold_is_nothing(begun, damage, reason, caplog):
    problem = instance()
    path, before = begun(problem)
    damage(path)
    with caplog.at_level(logging.WARNING):
        after = solve(problem, method="heuristic", time_limit=0.2, warm_start=path)
    assert after.bound is None and after.proof is None
    assert after.objective >= before.objective
    assert "is not used" in caplog.text and reason in caplog.text


def test_a_bound_on_other_data_is_nothing(begun):
    problem = instance()
    path, _ = begun(problem)
    other = replace(problem, feature_bias=problem.bias + 1.0)
    assert solve(other, method="heuristic", time_limit=0.2, warm_start=path).bound is None


def test_a_bound_that_is_not_checked_in_time_is_nothing(begun, caplog):
    problem = instance()
    path, before = begun(problem)
    with caplog.at_level(logging.WARNING):
        after = solve(problem, time_limit=0, warm_start=path)
    assert (after.objective, after.bound) == (before.objective, None)
    assert after.termination_condition is TerminationCondition.TIME_LIMIT
    assert "time was up before the bound" in caplog.text


def test_no_interrupt_leaves_a_solution_without_its_proof(begun, monkeypatch):
    problem = instance()
    path, before = begun(problem)
    after = solve(problem, threads=1, warm_start=path)
    assert after.bound < before.bound

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(result_module, "replace_on_success", interrupted)
        with pytest.raises(KeyboardInterrupt):
            after.save(path, problem)
    assert verify(problem, path).bound == before.bound
    assert verify(problem, path).bound_status is BoundStatus.PROVED
    after.save(path, problem)
    assert verify(problem, path).bound == after.bound
    assert verify(problem, path).bound_status is BoundStatus.PROVED
    assert not path.with_name("begun.certificate.npz").exists()


def test_solutions_of_one_stem_do_not_share_a_certificate(begun):
    problem = instance()
    path, before = begun(problem)
    other = path.with_suffix(".sol")
    solve(problem, method="heuristic", time_limit=0.1).save(other, problem)
    assert verify(problem, path).bound_status is BoundStatus.PROVED
    before.save(other, problem)
    for solution in (path, other):
        assert verify(problem, solution).bound_status is BoundStatus.PROVED


def test_a_link_is_written_through(begun, tmp_path):
    problem = instance()
    path, before = begun(problem)
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "linked.json"
    link.symlink_to(path)
    before.save(link, problem)
    assert link.is_symlink()
    for solution in (path, link):
        assert verify(problem, solution).bound_status is BoundStatus.PROVED


def test_the_command_keeps_a_proof_that_it_cannot_match(begun, tmp_path):
    problem = instance()
    path, before = begun(problem)
    problem.save(tmp_path / "problem.npz")
    files = path, path.with_name("begun.certificate.npz")
    held = [file.read_bytes() for file in files]

    def run(*options):
        arguments = ["solve", tmp_path / "problem.npz", "--warm-start", path, *options]
        return CliRunner().invoke(qpm, list(map(str, arguments)))

    outcome = run("--out", path, "--time-limit", 0)
    assert outcome.exit_code == 0
    assert "kept: nothing better was found" in outcome.stdout
    assert "bound      none; that in the file that is kept stands as it was" in outcome.stdout
    assert [file.read_bytes() for file in files] == held
    # Elsewhere it is written, and with enough time to check it the bound is kept.
    assert run("--out", tmp_path / "other.json", "--time-limit", 0).exit_code == 0
    assert json.loads((tmp_path / "other.json").read_text())["bound"] is None
    outcome = run("--out", path, "--method", "heuristic", "--time-limit", 1)
    assert outcome.exit_code == 0
    assert "kept" not in outcome.stdout
    assert json.loads(path.read_text())["bound"] == before.bound
    assert verify(problem, path).bound_status is BoundStatus.PROVED
