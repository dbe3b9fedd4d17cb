"""Orders of classes and features change no value and are undone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qpm_bench.instances import paper_like
from qpm_bench.permutation import Permutation
from qpm_bench.records import Status
from qpm_bench.runner import add_instances, campaign, plan
from qpm_opt.heuristics import search
from tests.conftest import random_problem
from tests.oracle import optimum


@pytest.mark.parametrize("seed", [1, 2])
def test_an_assignment_keeps_its_value_and_comes_back(seed):
    problem = paper_like(6, 20, n_selected=6, n_per_class=3)
    some = np.ones(problem.n_features, bool)
    some[0] = False
    problem = replace(problem, candidate=some, contrastive_pairs=np.array([[0, 1]]))
    order = Permutation.of(problem, seed)
    permuted = order.problem(problem)
    assert permuted.sha256 != problem.sha256
    found = search(permuted, time_limit=0.2)
    back = order.restored(found)
    assert not problem.violations(back)
    assert problem.objective(back) == pytest.approx(permuted.objective(found))
    again = order.assignment(back)
    assert np.array_equal(again.selection, found.selection)
    assert np.array_equal(again.matrix, found.matrix)


def test_no_seed_changes_nothing():
    problem = random_problem(3)
    assert Permutation.of(problem, 0).problem(problem).sha256 == problem.sha256


def test_runs_in_another_order_answer_for_the_instance(tmp_path):
    problem = random_problem(3)
    hashes = add_instances(tmp_path, {"one": problem})
    runs = plan(
        hashes, [("exact", ""), ("projected", "highs")], permutations=(0, 7), time_limit=60.0
    )
    assert [run.permutation for run in runs] == [0, 7, 0, 7]
    for record in campaign(tmp_path, runs):
        assert record.status is Status.OK
        assert record.objective == pytest.approx(optimum(problem))
        assert record.selection == sorted(record.selection)
