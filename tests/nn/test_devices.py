"""Several devices do together what one does."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from qpm_nn import training
from qpm_nn.backbones import create_backbone
from qpm_nn.config import RuntimeConfig, TrainingConfig
from qpm_nn.data import load_data
from qpm_nn.devices import algorithms, launch, make_fabric
from qpm_nn.extraction import extract_features
from qpm_nn.heads import Classifier, DenseHead
from qpm_nn.pipelines import base
from qpm_nn.pipelines.run import calibrate, run
from qpm_nn.training import BatchReport, EpochReport, train
from qpm_opt import InvalidInputError
from tests.nn.conftest import tiny_config

TWO = RuntimeConfig(device="cpu", n_devices=2, threads=1)


@pytest.fixture(scope="module")
def data(tree):
    return load_data(str(tree), image_size=8)


def new_classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier(create_backbone("convnet_tiny", 3), DenseHead(128, 4, dropout=0.0))


def test_devices_see_each_image_once(data):
    n_done: list[int] = []
    alone, together = (
        extract_features(
            new_classifier(),
            data.train,
            data.preprocessing,
            n_classes=4,
            runtime=runtime,
            on_images=n_done.append,
        )
        for runtime in (None, TWO)
    )
    assert n_done == [32, 2 * 16]
    np.testing.assert_array_equal(together.labels, alone.labels)
    np.testing.assert_allclose(together.features, alone.features, atol=1e-6)
    assert together.statistics.n_images == len(data.train)
    for name in ("mean", "std", "locality", "centre", "class_similarity"):
        np.testing.assert_allclose(
            getattr(together.statistics, name), getattr(alone.statistics, name), atol=1e-6
        )


def test_there_may_be_fewer_images_than_devices(data):
    few = data.train.subset([5])
    found = extract_features(new_classifier(), few, data.preprocessing, n_classes=4, runtime=TWO)
    assert found.features.shape == (1, 128) and found.labels == few.labels
    assert found.statistics.n_images == 1


def large_result(fabric: Fabric, tell) -> np.ndarray | None:
    if fabric.is_global_zero:
        tell("one")
        tell("two")
    return np.arange(10**6) if fabric.is_global_zero else None


def refused(fabric: Fabric, tell) -> None:
    raise InvalidInputError("one sentence")


def test_results_may_be_larger_than_a_pipe_and_errors_stay_what_they_are():
    told: list[str] = []
    result = launch(make_fabric(TWO), large_result, tell=told.append)
    np.testing.assert_array_equal(result, np.arange(10**6))
    assert told == ["one", "two"]
    with pytest.raises(InvalidInputError, match="one sentence"):
        launch(make_fabric(TWO), refused)


def test_more_gpus_than_there_are_is_one_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr("lightning_fabric.accelerators.cuda.num_cuda_devices", lambda: 1)
    with pytest.raises(
        InvalidInputError, match=r"cuda x 8 .* only has: \[0\]\. Use .* fewer devices"
    ):
        make_fabric(RuntimeConfig("cuda", n_devices=8))


def test_a_finished_run_needs_no_device_of_its_training(tree, tmp_path, monkeypatch):
    config = tiny_config(tree, dense={"epochs": 1}, finetune={"epochs": 1})
    out = run(config, tmp_path / "run").path
    trained = replace(config, runtime=replace(config.runtime, device="abacus", n_devices=8))
    (out / "config.toml").write_text(trained.to_toml(), encoding="utf-8")
    built = []
    monkeypatch.setattr(base, "make_fabric", lambda one: built.append(one) or make_fabric(one))
    calibrate(out)
    assert [(one.device, one.n_devices) for one in built] == [("auto", 1)]
    # What the weights follow from stays.
    assert (out / "config.toml").read_text(encoding="utf-8") == trained.to_toml()


@pytest.fixture
def kernels(monkeypatch):
    """What torch is set to, now; as before afterwards."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # so that it is undone
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)

    def now() -> tuple[bool, bool, bool]:
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.benchmark,
        )

    yield now
    torch.use_deterministic_algorithms(False)


def test_gpus_compute_deterministically_unless_asked_for_speed(kernels):
    gpu, before = torch.device("cuda", 0), kernels()
    make_fabric(RuntimeConfig("cpu", deterministic=False))
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    make_fabric(RuntimeConfig("cpu"))
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    with algorithms(RuntimeConfig(deterministic=False), gpu):
        assert kernels() == (False, False, True)
    with pytest.raises(InvalidInputError), algorithms(RuntimeConfig(), gpu):
        assert kernels() == (True, True, False)
        raise InvalidInputError("one sentence")
    assert kernels() == before
    with algorithms(RuntimeConfig(), torch.device("cpu")):
        assert kernels() == before


def test_training_uses_these_algorithms(data, tmp_path, kernels, monkeypatch):
    def as_on_a_gpu(runtime, device):
        assert device.type == "cpu"
        return algorithms(runtime, torch.device("cuda"))

    seen, config = [], TrainingConfig(epochs=1, batch_size=8)
    runtime = RuntimeConfig(device="cpu")
    plain = train(
        new_classifier(), data, config, seed=1, runtime=runtime, checkpoint=tmp_path / "plain"
    )
    monkeypatch.setattr(training, "algorithms", as_on_a_gpu)
    found = train(
        new_classifier(),
        data,
        config,
        seed=1,
        runtime=runtime,
        checkpoint=tmp_path / "found",
        on_epoch=lambda report: seen.append(kernels()),
    )
    assert seen == [(True, True, False)] and kernels() == (False, False, False)
    for first, second in zip(plain.parameters(), found.parameters(), strict=True):
        assert torch.equal(first, second)


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def test_what_is_raised_here_ends_the_job_there():
    told = []

    def kill(report):
        told.append(report)
        raise Killed

    with pytest.raises(Killed):
        launch(make_fabric(TWO), large_result, tell=kill)
    assert told == ["one"]


def test_training_on_two_devices_resumes_and_reports_here(data, tmp_path):
    def trained(n_epochs, name, on_epoch=None, on_batch=None):
        return train(
            new_classifier(),
            data,
            TrainingConfig(epochs=n_epochs, batch_size=8, schedule="step", warmup=0.0),
            seed=1,
            runtime=TWO,
            checkpoint=tmp_path / name,
            on_epoch=on_epoch,
            on_batch=on_batch,
        ).state_dict()

    epochs: list[EpochReport] = []
    batches: list[BatchReport] = []
    whole = trained(2, "whole")
    trained(1, "parts", epochs.append, batches.append)
    resumed = trained(2, "parts", epochs.append)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    first, second = epochs
    assert (first.epoch, second.epoch) == (1, 2)
    assert second.loss < first.loss
    # The first batch of each device; averages are those of the first device.
    assert (batches[0].epoch, batches[0].n_done, batches[0].n_images) == (1, 16, 32)


def test_torchrun_makes_the_same_as_devices_of_our_own(tree, tmp_path):
    settings = {"runtime": {"device": "cpu", "n_devices": 2, "threads": 1}}
    expected = run(tiny_config(tree, **settings), tmp_path / "own")
    settings = tiny_config(tree, runtime={"device": "cpu", "threads": 1}).to_toml()
    (tmp_path / "settings.toml").write_text(settings)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "qpm_opt", "run", "--config", "settings.toml", "--out", "torchrun",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("on test images") == 1, done.stdout  # the first process alone reports
    for name in ("config.toml", "metrics.json", "problem.npz", "model.safetensors"):
        assert (tmp_path / "torchrun" / name).read_bytes() == (expected / name).read_bytes(), name


def nothing_done(tmp_path):
    return ["--dataset", "nowhere"], "nowhere"


def failing_in_a_job(tmp_path):
    (tmp_path / "run" / "training.csv").mkdir(parents=True)
    (tmp_path / "run" / "log.jsonl").touch()
    return ["--dataset", "digits", "--dense-epochs", "1"], "training.csv"


@pytest.mark.parametrize("prepare", [nothing_done, failing_in_a_job])
def test_a_run_that_fails_ends_all_its_processes(tmp_path, prepare):
    arguments, sentence = prepare(tmp_path)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "qpm_opt", "run", *arguments, "--device", "cpu", "--threads", "1", "--out", "run",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode != 0
    assert sentence in done.stderr
