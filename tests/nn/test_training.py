"""The training loop: reproducible, resumable, and it leaves alone what is fixed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from qpm_nn import training
from qpm_nn.backbones import create_backbone
from qpm_nn.config import RuntimeConfig, TrainingConfig
from qpm_nn.data import Augmentation, Preprocessing, load_data
from qpm_nn.devices import make_fabric
from qpm_nn.heads import AssignmentHead, Classifier, DenseHead
from qpm_nn.training import _make_optimizer, _schedule, train
from qpm_opt import InvalidInputError
from tests.nn.conftest import full_disk

RUNTIME = RuntimeConfig(device="cpu")
CONFIG = TrainingConfig(epochs=4, batch_size=8, learning_rate=0.05, dropout=0.3)


@pytest.fixture(scope="module")
def data(tree):
    return load_data(str(tree), image_size=8)


def new_classifier(seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(create_backbone("convnet_tiny", 3), DenseHead(128, 4, dropout=0.3))


def run(
    classifier, data, checkpoint, *, config=CONFIG, seed=1, key="key", on_epoch=None, on_batch=None
):
    return train(
        classifier,
        data,
        config,
        seed=seed,
        runtime=RUNTIME,
        checkpoint=checkpoint,
        key=key,
        on_epoch=on_epoch,
        on_batch=on_batch,
    ).state_dict()


def equal(first, second) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def kill_after(epoch):
    def on_epoch(report):
        if report.epoch == epoch:
            raise Killed

    return on_epoch


@pytest.mark.parametrize("epoch", [1, 3, 4])
def test_resuming_at_an_epoch_ends_where_an_uninterrupted_run_does(data, tmp_path, epoch):
    whole = run(new_classifier(), data, tmp_path / "whole")
    with pytest.raises(Killed):
        run(new_classifier(), data, tmp_path / "cut", on_epoch=kill_after(epoch))
    epochs = []
    torch.manual_seed(99)  # what the global generator was at must not matter
    cut = run(
        new_classifier(seed=5), data, tmp_path / "cut", on_epoch=lambda r: epochs.append(r.epoch)
    )
    assert epochs == list(range(epoch + 1, 5))
    assert equal(whole, cut)


@pytest.mark.parametrize(
    "changes", [{"optimizer": "adamw", "learning_rate": 1e-3}, {"momentum": 0.0}]
)
def test_other_optimizers_learn_and_resume(data, tmp_path, changes):
    config = replace(CONFIG, **changes)
    reports = []
    whole = run(new_classifier(), data, tmp_path / "whole", config=config, on_epoch=reports.append)
    assert reports[-1].loss < reports[0].loss
    with pytest.raises(Killed):
        run(new_classifier(), data, tmp_path / "cut", config=config, on_epoch=kill_after(2))
    assert equal(whole, run(new_classifier(), data, tmp_path / "cut", config=config))


def test_momentum_is_plain_where_it_is_asked_for():
    classifier, steps = new_classifier(), []
    config = replace(CONFIG, nesterov=False, momentum=0.5, weight_decay=0.0, warmup=0.0)
    optimizer = _make_optimizer(classifier, config)
    weight = classifier.head.linear.weight
    for _ in range(3):
        before = weight.detach().clone()
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        steps.append(float((before - weight.detach()).mean()))
    # v = 1, 1 + 1/2, 1 + 1/2 + 1/4; with Nesterov each would be a step ahead.
    assert steps == pytest.approx([0.05 * v for v in (1, 1.5, 1.75)], rel=1e-4)


def test_checkpoint_of_other_settings_is_ignored(data, tmp_path):
    run(new_classifier(), data, tmp_path / "checkpoint", key="other")
    epochs = []
    found = run(
        new_classifier(), data, tmp_path / "checkpoint", on_epoch=lambda r: epochs.append(r.epoch)
    )
    assert epochs == [1, 2, 3, 4]
    assert equal(found, run(new_classifier(), data, tmp_path / "fresh"))


def empty(path):
    path.write_bytes(b"")


def overwritten(path):
    path.write_text("x\n")


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-1000])


def with_other_bits(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255  # a weight, or the momentum of one
    path.write_bytes(content)


def with_an_entry_that_looks_like_a_folder(path):
    """Torch leaves its memory as it was; a checksum of the entry's content does not tell."""
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 38] ^= 16
    path.write_bytes(content)


def of_another_program(path):
    training._write_state(path, {"a": 1})


def without_the_optimizer(path):
    state = training._read_state(path)
    del state["optimizer"]
    training._write_state(path, state)


def of_fewer_classes(path):
    state = training._read_state(path)
    state["classifier"]["head.linear.weight"] = torch.zeros(3, 128)
    training._write_state(path, state)


@pytest.mark.parametrize(
    "spoil",
    [
        empty,
        overwritten,
        cut_off,
        with_other_bits,
        with_an_entry_that_looks_like_a_folder,
        of_another_program,
        without_the_optimizer,
        of_fewer_classes,
    ],
)
def test_a_damaged_checkpoint_is_ignored(data, tmp_path, caplog, spoil):
    config = replace(CONFIG, epochs=2)
    with pytest.raises(Killed):
        run(new_classifier(), data, tmp_path / "cut", config=config, on_epoch=kill_after(1))
    spoil(tmp_path / "cut")
    epochs = []
    cut = run(
        new_classifier(),
        data,
        tmp_path / "cut",
        config=config,
        on_epoch=lambda r: epochs.append(r.epoch),
    )
    assert epochs == [1, 2]
    assert [r.levelname for r in caplog.records if "cut is damaged, or of" in r.message] == [
        "WARNING"
    ]
    assert equal(cut, run(new_classifier(), data, tmp_path / "whole", config=config))


def test_a_full_disk_leaves_the_old_checkpoint(data, tmp_path):
    path = tmp_path / "checkpoint"
    run(new_classifier(), data, path, config=replace(CONFIG, epochs=1))
    before = path.read_bytes()
    with full_disk(len(before) // 2), pytest.raises(OSError, match=r"too large: .*checkpoint"):
        run(new_classifier(), data, path, config=replace(CONFIG, epochs=2))
    assert [one.name for one in tmp_path.iterdir()] == ["checkpoint"]
    assert path.read_bytes() == before


def test_every_epoch_has_its_own_order(data, tmp_path, monkeypatch):
    seen = []

    def scale(preprocessing, images):
        seen.extend(images.flatten(1).long().sum(1).tolist())
        return images / 255

    monkeypatch.setattr(Preprocessing, "scale", scale)
    run(new_classifier(), data, tmp_path / "checkpoint", config=replace(CONFIG, epochs=2))
    first, second = seen[:32], seen[32:]
    assert first != second and sorted(first) == sorted(second)
    assert sorted(first) == sorted(data.train.images.flatten(1).long().sum(1).tolist())


def test_seed_decides(data, tmp_path):
    first = run(new_classifier(), data, tmp_path / "first")
    assert not equal(first, run(new_classifier(), data, tmp_path / "second", seed=2))


def test_it_learns(data, tmp_path):
    reports = []
    config = replace(CONFIG, epochs=12)
    run(new_classifier(), data, tmp_path / "checkpoint", config=config, on_epoch=reports.append)
    assert reports[-1].accuracy > 0.9 and reports[-1].loss < reports[0].loss
    assert all(report.n_epochs == 12 for report in reports)


def test_reports_within_epochs(data, tmp_path, monkeypatch):
    reports, epochs = [], []
    monkeypatch.setattr(training, "REPORT_INTERVAL", 0.0)
    config = replace(CONFIG, epochs=2)
    told = run(
        new_classifier(),
        data,
        tmp_path / "told",
        config=config,
        on_epoch=epochs.append,
        on_batch=reports.append,
    )
    places = [(report.epoch, report.n_done) for report in reports]
    assert places == [(epoch, n_done) for epoch in (1, 2) for n_done in (8, 16, 24)]
    assert all((report.n_epochs, report.n_images) == (2, 32) for report in reports)
    # A correct image more or less in the last batch.
    assert abs(32 * epochs[0].accuracy - 24 * reports[2].accuracy - 4) <= 4
    assert 0 < reports[2].loss < 10
    pace = [report.images_per_second * report.seconds_left for report in reports]
    assert pace == pytest.approx([56, 48, 40, 24, 16, 8])

    monkeypatch.setattr(training, "REPORT_INTERVAL", 1e9)
    seldom = []
    alike = run(new_classifier(), data, tmp_path / "seldom", config=config, on_batch=seldom.append)
    assert [(report.epoch, report.n_done) for report in seldom] == [(1, 8)]
    assert equal(told, alike)


def test_fine_tuning_leaves_the_head_alone(data, tmp_path):
    W = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=bool)
    head = AssignmentHead([3, 50, 127], W, [0.1, 0.2, 0.3], [1, 2, 3])
    classifier = Classifier(create_backbone("convnet_tiny", 3), head)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    after = run(classifier, data, tmp_path / "checkpoint")
    for name, value in after.items():
        if name.startswith("head."):
            assert torch.equal(value, before[name]), name
        elif value.ndim > 1:
            assert not torch.equal(value, before[name]), name


def test_learning_rate_rises_and_falls():
    config = TrainingConfig(epochs=100, warmup=0.1)
    rates = [_schedule(float(epoch), config) for epoch in range(100)]
    assert rates[0] == 0 and rates[10] == 1 and rates[-1] < 0.001
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)


def test_learning_rate_falls_by_steps():
    config = TrainingConfig(epochs=70, warmup=0.0, schedule="rounds", step_epochs=10)
    rates = [_schedule(float(epoch), config) for epoch in range(0, 70, 10)]
    last = [0.729 * 0.4**n for n in range(4)]
    np.testing.assert_allclose(rates, [1.0, 0.9, 0.81, *last])
    config = TrainingConfig(epochs=7, warmup=0.0, schedule="step", step_epochs=3, step_factor=0.5)
    rates = [_schedule(epoch + 0.9, config) for epoch in range(7)]
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]


def test_head_has_a_rate_of_its_own(data, tmp_path):
    slow = replace(CONFIG, epochs=1, warmup=0.0, head_factor=1e-12, weight_decay=0.0)
    classifier = new_classifier()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    after = run(classifier, data, tmp_path / "checkpoint", config=slow)
    assert torch.allclose(after["head.linear.weight"], before["head.linear.weight"], atol=1e-9)
    name = "backbone.layers.0.weight"
    assert not torch.allclose(after[name], before[name], atol=1e-4)


def without_batch_statistics() -> Classifier:
    torch.manual_seed(0)
    backbone = create_backbone("convnet_tiny", 3)
    for i, layer in enumerate(backbone.layers):
        if isinstance(layer, torch.nn.BatchNorm2d):
            backbone.layers[i] = torch.nn.Identity()
    return Classifier(backbone, DenseHead(128, 4, dropout=0.0))


def test_activations_have_their_part_in_the_loss(data, tmp_path):
    still = replace(data, augmentation=Augmentation())
    losses, classifier = [], without_batch_statistics()
    for weight in (0.0, 3.0):
        config = replace(CONFIG, epochs=1, learning_rate=1e-12, activation_weight=weight)
        run(classifier, still, tmp_path / f"{weight}", config=config, on_epoch=losses.append)
    with torch.no_grad():
        expected = 3 * classifier.backbone(data.preprocessing(data.train.images)).mean()
    assert losses[1].loss - losses[0].loss == pytest.approx(float(expected), rel=1e-3)


def test_accumulated_batches_step_like_one_large_batch(data, tmp_path):
    # Without batch statistics and dropout, gradients of batches average to that of all images.
    config = replace(CONFIG, epochs=2, warmup=0.0, dropout=0.0, diversity_weight=0.0)

    still = replace(data, augmentation=Augmentation())
    large = run(
        without_batch_statistics(), still, tmp_path / "1", config=replace(config, batch_size=32)
    )
    several = run(
        without_batch_statistics(),
        still,
        tmp_path / "2",
        config=replace(config, batch_size=8, accumulate=4),
    )
    rest = run(
        without_batch_statistics(),
        still,
        tmp_path / "3",
        config=replace(config, batch_size=8, accumulate=100),
    )
    for name, value in large.items():
        assert torch.allclose(value, several[name], atol=1e-5), name
        assert torch.allclose(value, rest[name], atol=1e-5), name


def test_no_epochs_are_no_training(data, tmp_path):
    with pytest.raises(InvalidInputError, match="epochs is 0; training takes at least 1"):
        run(new_classifier(), data, tmp_path / "checkpoint", config=replace(CONFIG, epochs=0))


def test_divergence_is_one_sentence(data, tmp_path):
    config = replace(CONFIG, learning_rate=1e30)
    with pytest.raises(InvalidInputError, match="training diverged; lower learning_rate"):
        run(new_classifier(), data, tmp_path / "checkpoint", config=config)


def test_missing_device_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(InvalidInputError, match="cannot be used here"):
        make_fabric(RuntimeConfig(device="cuda"))
    with pytest.raises(InvalidInputError, match="cannot be used here"):
        make_fabric(RuntimeConfig(device="abacus"))


def test_a_compiled_step_is_the_same(data, tmp_path, monkeypatch):
    compiled = []

    def compile_eagerly(module):
        compiled.append(module)
        compile_module(module, backend="eager")  # no compiler of C++, and the same arithmetic

    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", compile_eagerly)
    config = replace(CONFIG, epochs=1)
    plain = run(new_classifier(), data, tmp_path / "plain", config=config)
    classifier = new_classifier()
    runtime = replace(RUNTIME, compile=True)
    train(classifier, data, config, seed=1, runtime=runtime, checkpoint=tmp_path / "compiled")
    assert compiled == [classifier.backbone]
    assert equal(plain, classifier.state_dict())


def test_a_compiler_that_fails_is_one_sentence(data, tmp_path, monkeypatch):
    def broken(graph, inputs):
        raise OSError("no compiler")

    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda module: compile_module(module, backend=broken)
    )
    with pytest.raises(InvalidInputError, match=r"cannot be compiled here .*leave out compile"):
        train(
            new_classifier(),
            data,
            CONFIG,
            seed=1,
            runtime=replace(RUNTIME, compile=True),
            checkpoint=tmp_path / "checkpoint",
        )


def test_mixed_precision_is_mixed(data, tmp_path):
    trained = []
    for precision in ("32-true", "bf16-mixed"):
        runtime = RuntimeConfig(device="cpu", precision=precision)
        checkpoint = tmp_path / precision
        classifier = train(
            new_classifier(), data, CONFIG, seed=1, runtime=runtime, checkpoint=checkpoint
        )
        trained.append(classifier.state_dict())
    assert not equal(*trained)


def test_a_loss_that_is_no_number_ends_the_training(data, tmp_path):
    with pytest.raises(InvalidInputError, match="lower learning_rate"):
        run(new_classifier(), data, tmp_path / "c", config=replace(CONFIG, learning_rate=1e30))
