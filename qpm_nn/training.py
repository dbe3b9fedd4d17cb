"""Training of a classifier: dense, or fine-tuning behind a fixed assignment.

The same loop serves both. The randomness of an epoch (order, augmentation, dropout) follows from
the seed and the number of the epoch alone, so a run that resumes at an epoch ends where an
uninterrupted one would.
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DistributedSampler

from qpm_nn.config import RuntimeConfig, TrainingConfig
from qpm_nn.data import AugmentedImages, BatchLoader, DataModule
from qpm_nn.devices import algorithms, launch, make_fabric
from qpm_nn.heads import Classifier
from qpm_nn.losses import feature_diversity_loss, feature_grounding_loss
from qpm_opt import InvalidInputError
from qpm_opt.files import replace_on_success

logger = logging.getLogger(__name__)


#: Rounds of Q-SENN and CHiQPM before the last, and what the rate falls to from one to the next.
N_ROUNDS, ROUND_FACTOR = 3, 0.9
#: Batches after which the loss is looked at: a loss that is no number does not recover.
CHECK_EVERY = 50
#: Seconds between two reports within an epoch.
REPORT_INTERVAL = 0.3
#: Bytes of the digest at the beginning of a checkpoint.
DIGEST_SIZE = hashlib.sha256().digest_size


class BatchReport(NamedTuple):
    """An epoch until now: averages over what the first device has seen of it, in training mode."""

    epoch: int
    n_epochs: int
    n_done: int
    n_images: int
    loss: float
    accuracy: float
    images_per_second: float

    @property
    def seconds_left(self) -> float:
        """Until the last epoch ends, at the pace of this one."""
        n_left = (self.n_epochs - self.epoch + 1) * self.n_images - self.n_done
        return n_left / self.images_per_second


class EpochReport(NamedTuple):
    """One epoch: averages over its training images, in training mode; duration in seconds."""

    epoch: int
    n_epochs: int
    loss: float
    accuracy: float
    learning_rate: float
    duration: float
    images_per_second: float


def train(
    classifier: Classifier,
    data: DataModule,
    config: TrainingConfig,
    *,
    seed: int,
    runtime: RuntimeConfig,
    checkpoint: Path,
    key: str = "",
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_batch: Callable[[BatchReport], None] | None = None,
) -> Classifier:
    """Train with cross entropy, feature diversity loss and sparsity, resuming from a checkpoint.

    Stochastic gradient descent with momentum, or AdamW; the learning rate rises linearly
    over the warm-up and then falls by the schedule. Weight decay spares normalisations and biases.

    Parameters
    ----------
    classifier : Classifier
        Trained in place.
    data : DataModule
    config : TrainingConfig
    seed : int
    runtime : RuntimeConfig
        Device, number of devices, precision, algorithms, and whether to compile.
    checkpoint : Path
        Written after every epoch, atomically; read back if it carries the same ``key``, ignored
        otherwise, with a warning if it is damaged or of another classifier.
    key : str
        Identifies the settings and inputs.
    on_epoch : callable, optional
        Called with an :class:`EpochReport` after every epoch, when its checkpoint is written.
    on_batch : callable, optional
        Called with a :class:`BatchReport` within epochs, a few times a second at most.

    Returns
    -------
    Classifier
        The same object, in evaluation mode, on the CPU.

    Raises
    ------
    InvalidInputError
        If there are no epochs, the device asked for is not there, or the loss is no longer a
        number.

    References
    ----------
    Norrenbrock et al., QPM, ICLR 2025, appendix C and eq. 33.
    """
    if not config.epochs:
        raise InvalidInputError("epochs is 0; training takes at least 1.")

    def hear(report: EpochReport | BatchReport) -> None:
        if isinstance(report, BatchReport):
            if on_batch is not None:
                on_batch(report)
        elif on_epoch is not None:
            on_epoch(report)

    fabric = make_fabric(runtime)
    # Fabric searches the arguments for modules to unshare, and stumbles over frozen dataclasses.
    job = partial(
        _train_or_say_why_not,
        data=data,
        config=config,
        runtime=runtime,
        seed=seed,
        checkpoint=checkpoint,
        key=key,
    )
    launch(fabric, job, classifier, tell=hear)
    state = _read_state(checkpoint)
    classifier.load_state_dict(state["classifier"])
    return classifier.cpu().to(memory_format=torch.contiguous_format).eval()


def _train_or_say_why_not(
    fabric: Fabric, classifier: Classifier, *, runtime: RuntimeConfig, **options: Any
) -> None:
    try:
        with algorithms(runtime, fabric.device):
            _run(fabric, classifier, runtime=runtime, **options)
    except RuntimeError as failure:
        compilers = "torch._dynamo", "torch._inductor"
        if not runtime.compile or not type(failure).__module__.startswith(compilers):
            raise
        raise InvalidInputError(
            f"The backbone cannot be compiled here ({str(failure).splitlines()[0]}); leave out "
            "compile."
        ) from None


def _run(
    fabric: Fabric,
    classifier: Classifier,
    *,
    data: DataModule,
    config: TrainingConfig,
    runtime: RuntimeConfig,
    seed: int,
    checkpoint: Path,
    key: str,
    tell: Callable[[EpochReport | BatchReport], None],
) -> None:
    sampler = DistributedSampler(
        data.train, fabric.world_size, fabric.global_rank, shuffle=True, seed=seed
    )
    augmented = AugmentedImages(data, seed) if data.augments_while_reading else None
    # Not set up by Fabric, whose loaders count epochs from 0 again after a resumption.
    loader = BatchLoader(
        data.train if augmented is None else augmented,
        min(config.batch_size, len(sampler)),
        sampler=sampler,
        drop_last=True,  # batch normalisation cannot do with a last batch of one image
    )
    # Convolutions are faster on images whose channels lie side by side.
    classifier.to(memory_format=torch.channels_last)
    if runtime.compile:
        classifier.backbone.compile()
    optimizer = _make_optimizer(classifier, config)
    model, optimizer = fabric.setup(classifier, optimizer)
    model.mark_forward_method("activations")
    preprocessing = data.preprocessing
    n_batches, accumulate = len(loader), config.accumulate
    n_images = n_batches * loader.batch_size * fabric.world_size
    last_report = -math.inf
    for epoch in range(_resume(checkpoint, key, classifier, optimizer), config.epochs):
        start = time.perf_counter()
        sampler.set_epoch(epoch)
        if augmented is not None:
            augmented.epoch = epoch
        torch.manual_seed(_epoch_seed(seed, epoch, fabric.global_rank))
        model.train()
        total_loss = torch.zeros((), device=fabric.device)
        n_correct = torch.zeros((), device=fabric.device)
        for i, batch in enumerate(loader):
            images, labels = fabric.to_device(batch)
            first = i - i % accumulate  # of the batches that make a step
            n_together = min(accumulate, n_batches - first)
            is_last = i - first == n_together - 1
            if augmented is None:
                images = data.augmentation(preprocessing.scale(images))
            inputs = preprocessing.normalise(images).to(memory_format=torch.channels_last)
            # Fabric's own autocast covers forward() only.
            with fabric.no_backward_sync(model, enabled=not is_last):
                with fabric.autocast():
                    logits, features, maps = model.activations(inputs)
                    predicted = logits.argmax(1)
                    loss = functional.cross_entropy(logits, labels)
                    if config.diversity_weight:
                        weights = classifier.head.weight[predicted]
                        diversity = feature_diversity_loss(maps, weights)
                        loss = loss + config.diversity_weight * diversity
                    if config.activation_weight:
                        loss = loss + config.activation_weight * maps.mean()
                    if config.grounding_weight and epoch < config.grounding_epochs:
                        grounding = feature_grounding_loss(
                            features, classifier.head.weight[labels], config.grounding_factor
                        )
                        loss = loss + config.grounding_weight * grounding
                fabric.backward(loss / n_together)
            if is_last:
                factor = _schedule(epoch + first / n_batches, config)
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * factor * group["factor"]
                optimizer.step()
                optimizer.zero_grad()
            total_loss += loss.detach() * len(labels)
            n_correct += (predicted == labels).sum()
            if (i + 1) % CHECK_EVERY == 0 or i + 1 == n_batches:
                _check_loss(float(total_loss), epoch + 1)
            now, n_seen = time.perf_counter(), (i + 1) * loader.batch_size
            is_time = fabric.is_global_zero and now - last_report >= REPORT_INTERVAL
            if is_time and i + 1 < n_batches:
                last_report = now
                n_done = n_seen * fabric.world_size
                tell(
                    BatchReport(
                        epoch + 1,
                        config.epochs,
                        n_done,
                        n_images,
                        float(total_loss) / n_seen,
                        float(n_correct) / n_seen,
                        n_done / (now - start),
                    )
                )
        total_loss, n_correct = fabric.all_reduce((total_loss, n_correct), reduce_op="sum")
        duration = time.perf_counter() - start
        report = EpochReport(
            epoch + 1,
            config.epochs,
            float(total_loss) / n_images,
            float(n_correct) / n_images,
            config.learning_rate * factor,
            duration,
            n_images / duration,
        )
        if fabric.is_global_zero:
            _save(checkpoint, key, epoch + 1, classifier, optimizer)
            tell(report)
        fabric.barrier()


def _check_loss(total: float, epoch: int) -> None:
    if not math.isfinite(total):
        raise InvalidInputError(
            f"The loss is {total} in epoch {epoch}: training diverged; lower learning_rate."
        )


def _make_optimizer(classifier: Classifier, config: TrainingConfig) -> torch.optim.Optimizer:
    groups = _parameter_groups(classifier, config)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, config.learning_rate, betas=(config.momentum, 0.999))
    return torch.optim.SGD(
        groups,
        config.learning_rate,
        momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0,
        foreach=True,  # the same numbers as a loop in Python, which is the default on a CPU
    )


def _parameter_groups(classifier: Classifier, config: TrainingConfig) -> list[dict[str, Any]]:
    """Parameters by weight decay and by the factor of their learning rate, ``factor``."""
    groups = []
    for module, factor in ((classifier.backbone, 1.0), (classifier.head, config.head_factor)):
        parameters = list(module.parameters())
        for chosen, decay in (
            ([p for p in parameters if p.ndim > 1], config.weight_decay),
            ([p for p in parameters if p.ndim <= 1], 0.0),
        ):
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "factor": factor})
    return groups


def _schedule(epochs_done: float, config: TrainingConfig) -> float:
    """Factor of the learning rate after so many epochs; it rises during the warm-up."""
    progress, warmup = epochs_done / config.epochs, config.warmup
    if progress < warmup:
        return progress / warmup
    step = int(epochs_done) // config.step_epochs
    if config.schedule == "step":
        return config.step_factor**step
    if config.schedule == "rounds":
        return ROUND_FACTOR ** min(step, N_ROUNDS) * config.step_factor ** max(step - N_ROUNDS, 0)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def _epoch_seed(seed: int, epoch: int, rank: int) -> int:
    return int(np.random.SeedSequence((seed, epoch, rank)).generate_state(1)[0])


def _save(
    path: Path,
    key: str,
    n_epochs_done: int,
    classifier: Classifier,
    optimizer: torch.optim.Optimizer,
) -> None:
    state = {
        "key": key,
        "n_epochs_done": n_epochs_done,
        "classifier": classifier.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    _write_state(path, state)


def _write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a file of torch behind its SHA-256, without which torch takes damaged ones, too."""
    buffer = io.BytesIO()  # torch reports a full disk by an error of its own
    torch.save(state, buffer)
    content = buffer.getbuffer()
    with replace_on_success(path) as temporary, temporary.open("wb") as file:
        file.write(hashlib.sha256(content).digest())
        file.write(content)


def _read_state(path: Path) -> dict[str, Any]:
    content = memoryview(path.read_bytes())
    digest, content = content[:DIGEST_SIZE], content[DIGEST_SIZE:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError(path)
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _resume(path: Path, key: str, classifier: Classifier, optimizer: torch.optim.Optimizer) -> int:
    """Load a checkpoint that belongs to ``key``; return the number of epochs done."""
    if not path.exists():
        return 0
    try:
        state = _read_state(path)
        if state["key"] != key:
            return 0
        n_epochs_done = int(state["n_epochs_done"])
        # Before anything is loaded: a classifier that does not fit would be so in part.
        if _shapes(state["classifier"]) != _shapes(classifier.state_dict()):
            raise ValueError
        optimizer.load_state_dict(state["optimizer"])
    except Exception:  # damaged and foreign files come as errors of any kind
        logger.warning(
            "%s is damaged, or of another training; this one begins with its first epoch.", path
        )
        return 0
    classifier.load_state_dict(state["classifier"])
    logger.info("Resuming after epoch %d of %s.", n_epochs_done, path.name)
    return n_epochs_done


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
