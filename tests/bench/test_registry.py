"""The registry: its data, what it knows, its suites, and what a machine that differs is told."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from qpm_bench import registry as table
from qpm_bench.digits import digits
from qpm_bench.generators import GRID, on_grid, paper_like
from qpm_bench.instances import find, instance, read_instance
from qpm_bench.manifest import add_to_manifest, manifest_path, read_manifest
from qpm_bench.planted import planted
from qpm_bench.registry import FAMILIES, registry
from qpm_bench.runner import add_instances
from qpm_bench.suites import SUITES, suite
from qpm_bench.tiny import KINDS, tiny
from qpm_opt import InvalidInputError, Problem, solve
from tests import oracle
from tests.conftest import random_problem

ROWS = registry().values()
TINY = [row.name for row in ROWS if row.family == "tiny"]
#: All that is generated within seconds.
QUICK = [row.name for row in ROWS if row.seed is not None and row.n_features <= 256]


def test_the_table_is_sound():
    assert len({row.sha256 for row in ROWS}) == len(ROWS) >= 100
    for row in ROWS:
        assert (row.seed is None) == (FAMILIES[row.family].make is None)
        assert (row.best_known is None) == (not row.evidence)
        assert row.citation and not (row.proved and row.best_known is None)
    assert {row.name.removeprefix("tiny_") for row in ROWS if row.family == "tiny"} == set(KINDS)


@pytest.mark.parametrize("name", QUICK)
def test_instances_have_their_hash_and_sizes(name):
    row, problem = registry()[name], instance(name)
    assert problem.sha256 == row.sha256 and find(problem) is row
    assert problem.name == name and problem.source
    for size in ("n_classes", "n_features", "n_selected", "n_per_class"):
        assert getattr(problem, size) == getattr(row, size)
    assert (problem.best_known, problem.proved) == (row.best_known, row.proved)


@pytest.mark.parametrize("name", TINY)
def test_tiny_optima_are_those_of_brute_force(name):
    problem = instance(name)
    assert oracle.optimum(problem) == registry()[name].best_known
    result = solve(problem, time_limit=5.0, threads=1)
    assert result.objective == problem.best_known
    assert result.bound is None or result.bound >= problem.best_known


def test_tiny_instances_are_of_their_kind():
    problems = {kind: instance(f"tiny_{kind}") for kind in KINDS}
    relaxed = replace(problems["distinct"], distinct=False)
    assert oracle.optimum(relaxed) > problems["distinct"].best_known
    free = replace(problems["candidates"], candidate=None)
    assert oracle.optimum(free) > problems["candidates"].best_known
    idle = replace(problems["use"], min_classes_per_feature=0)
    assert oracle.optimum(idle) > problems["use"].best_known
    apart = replace(problems["pairs"], contrastive_pairs=None)
    assert oracle.optimum(apart) > problems["pairs"].best_known
    signs = np.sign(problems["negative"].feature_similarity)
    assert {-1.0, 1.0} <= set(signs.ravel()) and not problems["selection"].n_classes
    with pytest.raises(InvalidInputError, match="did you mean plain"):
        tiny("plan", n_classes=2, n_features=5, n_selected=3, n_per_class=1)


@pytest.mark.parametrize(
    "name", [row.name for row in ROWS if row.family == "planted" and row.n_features <= 300]
)
def test_planted_values_are_those_of_the_construction(name):
    row = registry()[name]
    made = planted(
        row.n_classes, row.n_features, n_selected=row.n_selected, n_per_class=row.n_per_class,
        seed=row.seed,
    )  # fmt: skip
    assert made.problem.objective(made.assignment) == row.best_known


@pytest.mark.parametrize("name", ["digits_10x64"])
def test_values_that_exact_proved_are_proved_again(name):
    result = solve(instance(name), time_limit=120.0, threads=1)
    assert result.objective == pytest.approx(registry()[name].best_known, rel=1e-9)
    assert result.bound == pytest.approx(result.objective, rel=1e-5)


def test_digits_are_real_features():
    problem = digits(40, n_selected=8, n_per_class=3, seed=1)
    assert problem.class_similarity.shape == (10, 40)
    assert np.abs(problem.class_similarity).max() == pytest.approx(1000 / 30)
    assert problem.feature_similarity.max() == 1.0
    assert np.abs(problem.bias).max() == pytest.approx(10**-0.5)
    with pytest.raises(InvalidInputError, match="n_features is 0"):
        digits(0, n_selected=8, n_per_class=3)


def test_digits_without_scikit_learn_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(InvalidInputError, match=r"scikit-learn, which is not .*\.\[bench\]"):
        instance("digits_10x64")


def test_on_the_grid_the_last_digits_do_not_matter():
    problem = paper_like(10, 40, n_selected=8, n_per_class=3)
    rounded = on_grid(problem)
    noise = 1.0 + 4e-15 * np.random.default_rng(0).choice([-1, 1], (40, 40))
    R = problem.feature_similarity * np.triu(noise, 1)
    other = replace(
        problem,
        class_similarity=problem.class_similarity * noise[:10],
        feature_similarity=R + R.T,
        feature_bias=problem.bias * noise[0],
    )
    assert other.sha256 != problem.sha256
    assert on_grid(other).sha256 == rounded.sha256
    np.testing.assert_allclose(
        rounded.class_similarity, problem.class_similarity, rtol=0.0, atol=GRID / 2
    )


def test_other_data_are_refused_until_there_is_a_file(tmp_path, monkeypatch):
    plain, ties = instance("tiny_plain"), instance("tiny_ties")
    # A machine on which everything comes out otherwise.
    monkeypatch.setattr(table.Instance, "make", lambda row: ties)
    with pytest.raises(InvalidInputError, match=r"tiny_plain generated here .* into the folder"):
        instance("tiny_plain")
    plain.save(tmp_path / "tiny_plain.npz")
    assert instance("tiny_plain", tmp_path).sha256 == plain.sha256
    plain.save(tmp_path / "tiny_use.npz")  # another instance in the place of this one
    with pytest.raises(InvalidInputError, match="tiny_use generated here"):
        instance("tiny_use", tmp_path)


def test_names_that_are_none_and_names_of_files():
    with pytest.raises(
        InvalidInputError, match=r"no instance 'tiny_plan'; did you mean tiny_plain"
    ):
        instance("tiny_plan")
    with pytest.raises(InvalidInputError, match=r"pmed1 is a public .* Beasley.* --instances"):
        instance("pmed1")


def test_suites_name_generated_instances():
    for names in SUITES.values():
        assert len(set(names)) == len(names)
        assert all(registry()[name].seed is not None for name in names)
    assert {registry()[name].family for name in SUITES["small"]} == {
        "paper_like", "planted", "digits",
    }  # fmt: skip
    by_features, by_classes = {}, {}
    for row in (registry()[name] for name in SUITES["scaling"]):
        assert (row.n_selected, row.n_per_class) == (12, 3)
        by_features[row.n_features] = by_features.get(row.n_features, 0) + (row.n_classes == 20)
        by_classes[row.n_classes] = by_classes.get(row.n_classes, 0) + (row.n_features == 128)
    assert sum(map(bool, by_features.values())) >= 5 and sum(map(bool, by_classes.values())) >= 5


def test_a_suite_is_taken_from_the_campaign_where_it_is(tmp_path, monkeypatch):
    problems = suite("tiny")
    assert set(problems) == set(SUITES["tiny"])
    add_instances(tmp_path, problems)
    monkeypatch.setattr(table.Instance, "make", lambda row: pytest.fail("it was there"))
    again = suite("tiny", tmp_path / "instances")
    assert {p.sha256 for p in again.values()} == {p.sha256 for p in problems.values()}


def test_public_instances_have_the_published_values(data_dir):
    with open(data_dir / "instances" / "optima.csv", newline="") as stream:
        published = {row["name"]: row for row in csv.DictReader(stream) if row["best_known"]}
    public = {row.name: row for row in ROWS if row.seed is None}
    assert set(public) == set(published)
    for name, row in public.items():
        assert row.best_known == float(published[name]["best_known"])
        assert row.proved == (published[name]["proved"] == "1")
        assert Problem.load(data_dir / "instances" / f"{name}.npz").sha256 == row.sha256


def test_raw_text_brings_the_published_value(data_dir):
    files = [
        *(data_dir / "raw" / "pmed").glob("*.txt"), *(data_dir / "raw" / "qplib").glob("*.opb"),
    ]  # fmt: skip
    assert len(files) == 9
    for file in files:
        row, problem = registry()[file.stem], read_instance(file)
        assert problem.sha256 == row.sha256
        assert (problem.best_known, problem.proved) == (row.best_known, True)


def test_other_data_under_a_published_name_get_no_value(tmp_path, caplog):
    path = tmp_path / "pmed1.txt"
    path.write_text("3 2 1\n1 2 4\n2 3 5\n")
    problem = read_instance(path)
    assert problem.best_known is None and not problem.proved
    assert "pmed1.txt has other data than the instance pmed1" in caplog.text


def test_what_a_file_knows_stays(tmp_path):
    problem = instance("tiny_plain")
    path = tmp_path / "mine.npz"
    replace(problem, best_known=1.5, proved=False).save(path)
    assert (read_instance(path).best_known, read_instance(path).proved) == (1.5, False)
    replace(problem, best_known=None, proved=False).save(path)
    assert (read_instance(path).best_known, read_instance(path).proved) == (
        problem.best_known, True,
    )  # fmt: skip


def test_the_manifest_describes_the_instances_of_a_campaign(tmp_path, caplog):
    own = replace(random_problem(3), source="my own")
    add_instances(tmp_path, {"first": instance("tiny_median"), "own": own})
    add_to_manifest(tmp_path, {"later": instance("planted_3x10_s0")})
    held = read_manifest(tmp_path)
    assert list(held) == ["first", "own", "later"]
    row = registry()["tiny_median"]
    assert held["first"] == {
        "sha256": row.sha256, "family": "tiny", "citation": row.citation, "n_classes": 8,
        "n_features": 12, "n_selected": 4, "n_per_class": 1, "best_known": row.best_known,
        "proved": True,
    }  # fmt: skip
    assert (held["own"]["family"], held["own"]["citation"]) == ("", "my own")
    before = manifest_path(tmp_path).stat().st_mtime_ns
    add_to_manifest(tmp_path, {"own": own})
    assert manifest_path(tmp_path).stat().st_mtime_ns == before
    for damage in ("{", "[1]", json.dumps({"format": "other", "instances": {}})):
        manifest_path(tmp_path).write_text(damage)
        assert read_manifest(tmp_path) == {}
        assert "is damaged" in caplog.text
        caplog.clear()
    add_to_manifest(tmp_path, {"own": own})
    assert list(read_manifest(tmp_path)) == ["own"]
