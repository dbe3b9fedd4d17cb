"""The whole pipeline, tiny: what it writes, what it reuses, and what a kill costs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from qpm_nn.config import SolveConfig
from qpm_nn.data import load_data
from qpm_nn.metrics import accuracy
from qpm_nn.pipelines.observer import Observer
from qpm_nn.pipelines.qpm import class_bias
from qpm_nn.pipelines.run import run
from qpm_nn.saving import load_classifier
from qpm_opt import Assignment, Demands, InvalidInputError, Problem, verify, what_if
from qpm_opt.average import average_violations
from qpm_opt.constants import auroc, load_features, statistics_from_features
from tests.nn.conftest import Recorder, tiny_config, write_tree

FILES = [
    "config.toml",
    "versions.json",
    "dense.safetensors",
    "features.npz",
    "problem.npz",
    "solution.json",
    "model.safetensors",
    "model.json",
    "metrics.json",
    "log.jsonl",
    "training.csv",
    "figures/assignment.png",
    "figures/comparison.png",
    "predictions.npz",
    "training_features.npz",
    "report.html",
    "report.json",
]
STAGES = [
    *("dense", "features", "problem", "solution", "finetune", "metrics", "figures"),
    *("predictions", "activations", "report"),
]


@pytest.fixture(scope="module")
def finished(tree, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "run"
    torch.set_num_threads(1)
    run(tiny_config(tree), out)
    return out


def results(out: Path):
    """What two runs with the same settings must agree on."""
    solution = json.loads((out / "solution.json").read_text())
    return (
        (out / "dense.safetensors").read_bytes(),
        solution["assignment"],
        (out / "model.safetensors").read_bytes(),
        (out / "metrics.json").read_text(),
    )


def test_all_files_are_there_and_no_others(finished):
    found = {str(p.relative_to(finished)) for p in finished.rglob("*") if p.is_file()}
    assert found == {*FILES, ".lock", "dense.json", "stages.json", "solution.certificate.npz"}


def test_the_model_is_the_solution(finished, tree):
    problem = Problem.load(finished / "problem.npz")
    assignment = Assignment.load(finished / "solution.json", problem)
    assert problem.violations(assignment) == ()
    tensors = load_file(finished / "model.safetensors")
    chosen = assignment.selected
    assert np.array_equal(tensors["head.selected"], chosen)
    assert np.array_equal(tensors["head.assignment"], assignment.matrix[:, chosen])
    with np.load(finished / "features.npz") as arrays:
        features = arrays["features"].astype(float)[:, chosen]
    np.testing.assert_allclose(tensors["head.mean"], features.mean(0), rtol=1e-5)
    np.testing.assert_allclose(tensors["head.std"], features.std(0), rtol=1e-5)


def test_the_metrics_are_those_of_the_saved_model(finished, tree):
    metrics = json.loads((finished / "metrics.json").read_text())
    assert set(metrics) == {"dense", "before_finetuning", "qpm"}
    data = load_data(str(tree), image_size=8)
    for name, file in (("dense", "dense"), ("qpm", "model")):
        classifier, spec = load_classifier(finished / f"{file}.safetensors")
        logits = classifier(spec.preprocessing(data.test.images))
        assert metrics[name]["accuracy"] == pytest.approx(accuracy(logits, data.test.labels))
    for values in metrics.values():
        assert set(values) == {
            "accuracy",
            "n_features",
            "features_per_class",
            "contrastive_pair_share",
            "sid@2",
            "diversity@2",
            "class_independence",
            "contrastiveness",
            "correlation",
            "dependence",
        }
        assert 0.5 <= values["sid@2"] <= 1
        assert 0.5 <= values["diversity@2"] <= 1
    assert metrics["qpm"]["n_features"] <= 4
    assert metrics["qpm"]["features_per_class"] == 2


def test_a_second_run_reuses_everything(finished, tree):
    before = results(finished)
    recorder = Recorder()
    run(tiny_config(tree), finished, observer=recorder)
    assert recorder.ran == []
    assert results(finished) == before


def kill_at(where: str):
    """Observer that kills at a stage, or after an epoch of one ('dense 2')."""
    stage, _, epoch = where.partition(" ")

    class Killer(Observer):
        def stage(self, name):
            if name == stage and not epoch:
                self.kill()

        def epoch(self, name, report):
            if name == stage and str(report.epoch) == epoch:
                self.kill()

        def kill(self):
            raise Killed

    return Killer()


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def test_a_run_killed_at_every_stage_ends_like_an_uninterrupted_one(finished, tree, tmp_path):
    places = ["dense 1", *STAGES, "finetune 1"]
    for where in sorted(places, key=lambda place: STAGES.index(place.split()[0])):
        with pytest.raises(Killed):
            run(tiny_config(tree), tmp_path / "run", observer=kill_at(where))
    run(tiny_config(tree), tmp_path / "run")
    assert results(tmp_path / "run") == results(finished)
    log = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    epochs = [
        (line["stage"], line["epoch"]) for line in map(json.loads, log) if line["event"] == "epoch"
    ]
    assert epochs == [("dense", e) for e in (1, 2, 3)] + [("finetune", e) for e in (1, 2)]


def test_an_interrupted_solve_ends_the_run_and_is_not_kept(tree, tmp_path):
    class Interrupter(Observer):
        def solving(self, progress):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny_config(tree), tmp_path / "run", observer=Interrupter())
    assert not (tmp_path / "run" / "solution.json").exists()


SCRIPT = """
import os, signal, sys
import torch
from qpm_nn.pipelines.observer import Observer
from qpm_nn.pipelines.run import run
from tests.nn.conftest import tiny_config

class Killer(Observer):
    def epoch(self, name, report):
        if report.epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)

run(tiny_config(sys.argv[1]), sys.argv[2], observer=Killer())
"""


def test_a_killed_process_resumes_at_its_epoch(finished, tree, tmp_path):
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tree), str(tmp_path / "run")],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    run(tiny_config(tree), tmp_path / "run")
    assert results(tmp_path / "run") == results(finished)


@pytest.fixture
def copy(finished, tmp_path):
    import shutil

    return Path(shutil.copytree(finished, tmp_path / "copy"))


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"problem": {"n_per_class": 1}}, "problem"),
        ({"problem": {"class_similarity": "auroc"}}, "problem"),
        ({"solve": {"time_limit": 0.4}}, "solution"),
        ({"finetune": {"epochs": 1}}, "finetune"),
        ({"dense": {"epochs": 1}}, "dense"),
        ({"seed": 4}, "dense"),
        ({"arch": "resnet_small", "reduced_strides": True}, "dense"),
    ],
)
def test_other_settings_reuse_only_what_does_not_depend_on_them(copy, tree, changes, first):
    recorder = Recorder()

    class Stop(Recorder):
        def stage(self, name):
            recorder.ran.append(name)

        def reused(self, name):
            recorder.ran.remove(name)

        def epoch(self, name, report):
            raise Killed

    # The rest of the chain follows from the contents of the inputs (test_stages).
    with pytest.raises(Killed):
        run(tiny_config(tree, **changes), copy, observer=Stop())
    assert recorder.ran[0] == first


def test_a_run_goes_on_from_what_if(copy, tree):
    problem = Problem.load(copy / "problem.npz")
    held = Assignment.load(copy / "solution.json", problem)
    gone = int(held.selected[0])
    found = what_if(problem, Demands(forbidden=(gone,)), copy / "solution.json", time_limit=1)
    beside = copy / "what-if.solution.json"
    found.save_solution(beside, problem)
    before = (copy / "model.safetensors").read_bytes()
    recorder = Recorder()
    run(tiny_config(tree, solve={"assignment": str(beside)}), copy, observer=recorder)
    assert recorder.ran[:3] == ["solution", "finetune", "metrics"]
    outcome = verify(problem, copy / "solution.json")
    assert outcome.accepted and outcome.bound_status == "proved"
    tensors = load_file(copy / "model.safetensors")
    assert gone not in tensors["head.selected"]
    assert np.array_equal(tensors["head.selected"], found.after.selected)
    assert np.array_equal(tensors["head.assignment"], found.after.matrix[:, found.after.selected])
    assert (copy / "model.safetensors").read_bytes() != before
    assert beside.exists()
    again = Recorder()
    run(tiny_config(tree, solve={"assignment": str(beside)}), copy, observer=again)
    assert again.ran == []


def test_only_a_solution_of_the_problem_is_taken(copy, tree):
    def refused(path, **changes):
        with pytest.raises(InvalidInputError) as failure:
            run(tiny_config(tree, solve={"assignment": str(path)}, **changes), copy)
        return str(failure.value)

    solution = copy / "solution.json"
    assert "is what the run itself writes" in refused(solution)
    assert solution.exists()
    assert "does not exist" in refused(copy / "none.json")
    assert "not a solution file" in refused(copy / "problem.npz")
    assert "sparsity 'average'" in refused(solution, problem={"sparsity": "average"})
    other = copy / "other.json"
    record = json.loads(solution.read_text())
    record["problem_sha256"] = "0" * 64
    other.write_text(json.dumps(record))
    made = {path.name for path in copy.rglob("*")}
    assert "is no solution of the problem of this run: problem_sha256" in refused(other)
    assert {path.name for path in copy.rglob("*")} == made  # nothing is lost by asking
    recorder = Recorder()
    run(tiny_config(tree), copy, observer=recorder)
    assert recorder.ran == []


def test_settings_without_an_assignment_keep_their_key():
    assert SolveConfig().key() == {"method": "exact", "solver": "highs", "time_limit": 60.0}


class Unsolved(Observer):
    """Ends a run when its problem is there."""

    def stage(self, name):
        if name == "solution":
            raise Killed


def test_the_problem_is_made_of_what_the_settings_name(copy, tree):
    options = {"bias": "centre", "bias_scale": 2.0, "similarity_scale": 0.5}
    options |= {"class_similarity": "auroc"}
    with pytest.raises(Killed):
        run(tiny_config(tree, problem=options), copy, observer=Unsolved())
    found = load_features(copy / "features.npz")
    expected = Problem.from_features(
        found.features, found.labels, centre=found.centre, n_selected=4, n_per_class=2, **options
    )
    problem = Problem.load(copy / "problem.npz")
    np.testing.assert_array_equal(problem.bias, expected.bias)
    np.testing.assert_array_equal(problem.class_similarity, expected.class_similarity)
    np.testing.assert_array_equal(problem.feature_similarity, expected.feature_similarity)


@pytest.mark.parametrize("class_similarity", ["correlation", "auroc"])
def test_negative_assignments(copy, tree, class_similarity):
    options = {"negative": True, "class_similarity": class_similarity}
    config = tiny_config(tree, problem=options | {"n_per_class": 3}, finetune={"epochs": 1})
    run(config, copy)
    found = load_features(copy / "features.npz")
    A = statistics_from_features(found.features, found.labels).class_similarity
    if class_similarity == "auroc":
        A = auroc(found.features, found.labels) - 0.5
    problem = Problem.load(copy / "problem.npz")
    scale = 1000 / (3 * 4) / np.abs(A).max()
    np.testing.assert_allclose(problem.class_similarity, np.abs(A) * scale, atol=1e-9)
    assignment = Assignment.load(copy / "solution.json", problem)
    assert problem.violations(assignment) == ()
    head = load_classifier(copy / "model.safetensors")[0].head
    W = (assignment.matrix * np.where(A < 0, -1, 1))[:, assignment.selected]
    assert (W < 0).any()  # else this test shows nothing
    assert np.array_equal(head.weight, W)
    assert (copy / "figures" / "comparison.png").is_file()
    recorder = Recorder()
    run(config, copy, observer=recorder)
    assert recorder.ran == []


@pytest.mark.parametrize("negative", [False, True])
def test_average_sparsity(copy, tree, negative):
    sizes = {"n_selected": 6, "sparsity": "average", "negative": negative}
    config = tiny_config(tree, problem=sizes, finetune={"epochs": 1})
    for stage in ("solution", "finetune"):
        with pytest.raises(Killed):
            run(config, copy, observer=kill_at(stage))
    run(config, copy)
    problem = Problem.load(copy / "problem.npz")
    assignment = Assignment.load(copy / "solution.json", problem)
    assert average_violations(problem, assignment) == ()
    head = load_classifier(copy / "model.safetensors")[0].head
    chosen = assignment.selected
    assert np.array_equal(head.weight != 0, assignment.matrix[:, chosen])
    found = load_features(copy / "features.npz")
    z = (found.features[:, chosen] - head.mean.numpy()) / head.std.numpy()
    expected = class_bias(head.weight.numpy(), z, found.labels)
    np.testing.assert_allclose(head.bias, expected, rtol=1e-4, atol=1e-5)
    assert not (copy / "figures" / "comparison.png").exists()
    metrics = json.loads((copy / "metrics.json").read_text())
    assert metrics["qpm"]["features_per_class"] == 2
    recorder = Recorder()
    run(config, copy, observer=recorder)
    assert recorder.ran == []


def test_biases_make_the_classes_equal_on_their_images():
    weight = np.array([[1, 1, 1], [1, 0, 0], [0, -1, 1]])
    labels = np.arange(6) % 3
    features = np.array([[2, 2, 2], [2, 0, 0], [0, -2, 2]])[labels]  # 2 from every feature
    logits = features @ weight.T + class_bias(weight, features, labels)
    np.testing.assert_allclose(logits[np.arange(6), labels], 4)


def test_average_sparsity_is_known_to_exact_alone(tree, tmp_path):
    config = tiny_config(tree, problem={"sparsity": "average"}, solve={"method": "heuristic"})
    with pytest.raises(InvalidInputError, match="known to 'exact' alone"):
        run(config, tmp_path / "run")


def test_a_bias_file_counts_by_its_content(copy, tree, tmp_path):
    path = tmp_path / "bias.npy"
    varies = Problem.load(copy / "problem.npz").candidates
    for liked in np.flatnonzero(varies)[:2]:
        np.save(path, np.arange(varies.size) == liked)
        with pytest.raises(Killed):
            run(tiny_config(tree, problem={"bias": str(path)}), copy, observer=Unsolved())
        assert Problem.load(copy / "problem.npz").bias.argmax() == liked


def test_weights_are_where_training_begins_and_count_by_their_content(copy, tree, tmp_path):
    path = tmp_path / "weights.safetensors"
    config = tiny_config(tree, weights=str(path), dense={"epochs": 1, "learning_rate": 1e-9})
    for value in (0.25, 0.5):
        tensors = load_file(copy / "dense.safetensors")
        tensors["backbone.layers.0.weight"][:] = value
        save_file(tensors, path)
        with pytest.raises(Killed):
            run(config, copy, observer=kill_at("features"))
        found = load_file(copy / "dense.safetensors")["backbone.layers.0.weight"]
        np.testing.assert_allclose(found, value, rtol=1e-6)
    assert json.loads((copy / "dense.json").read_text())["weights"] == str(path)


def test_other_images_reuse_nothing(copy, tree, tmp_path):
    other = write_tree(tmp_path / "images", seed=1)
    recorder = Recorder()
    run(tiny_config(other), copy, observer=recorder)
    assert recorder.ran == STAGES


def test_without_resume_everything_runs(copy, tree, finished):
    recorder = Recorder()
    run(tiny_config(tree), copy, resume=False, observer=recorder)
    assert recorder.ran == STAGES
    assert results(copy) == results(finished)
