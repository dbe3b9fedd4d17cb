"""The QPM pipeline: dense model, features, problem, solution, fine-tuning, metrics, figures.

References
----------
Norrenbrock et al., QPM: Discrete Optimization for Globally Interpretable Image Classification,
ICLR 2025, section 3.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import numpy as np
import torch

from qpm_nn.backbones import Backbone, create_backbone, map_shape, weights_key
from qpm_nn.backbones.weights import IMAGENET
from qpm_nn.config import RunConfig
from qpm_nn.data import DataModule, load_data
from qpm_nn.embedding import EmbeddedData, trained_part, write_embeddings
from qpm_nn.evaluation import evaluate
from qpm_nn.explanations import draw_assignment, draw_comparison
from qpm_nn.extraction import extract_features
from qpm_nn.heads import AssignmentHead, Classifier, DenseHead
from qpm_nn.pipelines.stages import RunDirectory
from qpm_nn.saving import ClassifierSpec, load_classifier, save_classifier
from qpm_nn.training import EpochReport, make_fabric, train
from qpm_nn.training_log import TensorBoardLog, summary_writer, write_epoch
from qpm_opt import (
    Assignment,
    InvalidInputError,
    Problem,
    Progress,
    QPMError,
    TerminationCondition,
    solve,
)
from qpm_opt.constants import load_bias, load_features, statistics_from_features
from qpm_opt.files import replace_on_success
from qpm_opt.optimize import check_method
from qpm_opt.result import package_versions

logger = logging.getLogger(__name__)


class NoAssignmentError(QPMError, RuntimeError):
    """The solver ended without any assignment to train with."""


class Observer:
    """Told how a run goes; does nothing itself."""

    def stage(self, name: str) -> None:
        """A stage begins (to run, or to be checked and reused)."""

    def epoch(self, name: str, report: EpochReport) -> None:
        """An epoch of training ended. Not told when several devices train."""

    def solving(self, progress: Progress) -> None:
        """Incumbent, bound or the number of free features changed."""

    def reused(self, name: str) -> None:
        """The outputs of an earlier run of the stage were valid."""


@dataclass(frozen=True)
class _OnEpoch:
    """Logs every epoch; a class, because it must be picklable when several devices train."""

    directory: RunDirectory
    stage: str
    observer: Observer | None
    tensorboard: TensorBoardLog | None

    def __call__(self, report: EpochReport) -> None:
        self.directory.log(self.stage, "epoch", **report._asdict())
        write_epoch(self.directory / "training.csv", self.stage, report)
        if self.tensorboard is not None:
            self.tensorboard.write(report)
        if self.observer is not None:
            self.observer.epoch(self.stage, report)


def run(
    config: RunConfig,
    out: str | os.PathLike[str],
    *,
    resume: bool = True,
    observer: Observer | None = None,
    data: DataModule | None = None,
) -> RunDirectory:
    """Run the pipeline in a directory, reusing what an earlier run with equal settings made.

    Parameters
    ----------
    config : RunConfig
    out : path
        The run directory.
    resume : bool
        Whether to reuse finished stages and epochs; otherwise all is made again.
    observer : Observer, optional
    data : DataModule, optional
        Own images; by default those that the settings name.

    Raises
    ------
    InvalidInputError
        If the settings or the data are unusable, or another run is in the directory.
    NoAssignmentError
        If the solver finds no assignment within its limits.
    """
    return _Run(config, out, resume, observer or Observer(), data)()


class _Run:
    def __init__(
        self,
        config: RunConfig,
        out: str | os.PathLike[str],
        resume: bool,
        observer: Observer,
        data: DataModule | None,
    ) -> None:
        self.device = make_fabric(config.runtime).device
        self.config = config
        self.observer = observer
        self.data = load_data(**asdict(config.data)) if data is None else data
        self.bias = load_bias(config.problem.bias)
        self.weights_key = weights_key(config.weights)
        is_coloured = self.data.image_shape[0] == 3
        if config.weights == IMAGENET and is_coloured and self.data.normalisation != "imagenet":
            logger.warning(
                "Published weights expect the normalisation of ImageNet, and the images have their "
                "own; give --normalisation imagenet (normalisation in the section data)."
            )
        self.adapter = config.adapter.widths if config.frozen else ()
        self._check_solve()
        if config.runtime.tensorboard:
            summary_writer()
        self.directory = RunDirectory(out, resume=resume)
        self.spec = ClassifierSpec(
            config.arch,
            self.data.image_shape,
            self.data.class_names,
            self.data.preprocessing,
            self.data.hierarchy,
            config.reduced_strides,
            config.weights,
            self.adapter,
        )

    def _check_solve(self) -> None:
        """Refuse before any training what the problem or the solver would refuse after it."""
        options, sizes = self.config.solve, self.config.problem
        check_method(options.method, options.solver)
        if self.config.frozen and not self.config.weights:
            raise InvalidInputError(
                "A frozen backbone with random weights sees nothing; give weights: imagenet, or a "
                "file."
            )
        n_features, _, _ = map_shape(
            self.config.arch,
            self.data.image_shape,
            reduced_strides=self.config.reduced_strides,
            adapter=self.adapter,
        )
        Problem(
            np.zeros((self.data.n_classes, n_features)),
            np.zeros((n_features, n_features)),
            n_selected=sizes.n_selected,
            n_per_class=sizes.n_per_class,
        )
        if not isinstance(self.bias, str) and len(self.bias) != n_features:
            raise InvalidInputError(
                f"{sizes.bias} holds {len(self.bias)} numbers, but {self.config.arch} has "
                f"{n_features} features; one for each was expected."
            )

    def __call__(self) -> RunDirectory:
        with self.directory.locked():
            self._run_stages()
        return self.directory

    def _run_stages(self) -> None:
        config = self.config
        if config.runtime.threads:
            torch.set_num_threads(config.runtime.threads)
        settings = self.directory / "config.toml"
        if settings.exists() and settings.read_text(encoding="utf-8") != config.to_toml():
            self.directory.settings_changed = True
        self._write_text("config.toml", config.to_toml())
        self._write_text("versions.json", json.dumps(versions(), indent=1) + "\n")
        images = {"data": self.data.sha256}
        common = images | {
            "seed": config.seed,
            "n_devices": config.runtime.n_devices,
            "precision": config.runtime.precision,
        }
        backbone = {
            "arch": config.arch,
            "weights": self.weights_key,
            "reduced_strides": config.reduced_strides,
        }
        if config.frozen:
            self._stage(
                "embeddings",
                self._embed,
                settings=images | backbone,
                outputs=[f"embeddings/{part}.npy" for part in ("train", "test")],
            )
        # The embeddings follow from the images and the backbone.
        self._stage(
            "dense",
            self._train_dense,
            settings=common
            | backbone
            | {"adapter": self.adapter, "training": asdict(config.dense)},
            outputs=["dense.safetensors", "dense.json"],
        )
        self._stage(
            "features",
            self._extract,
            settings=images | {"of_features": ["locality", "centre"]},
            inputs=["dense.safetensors", "dense.json"],
            outputs=["features.npz"],
        )
        self._stage(
            "problem",
            self._build_problem,
            settings=asdict(config.problem) | {"seed": config.seed, "bias": self._bias_key()},
            inputs=["features.npz"],
            outputs=["problem.npz"],
        )
        self._stage(
            "solution",
            self._solve,
            settings=asdict(config.solve)
            | {"seed": config.seed, "threads": config.runtime.threads},
            inputs=["problem.npz"],
            outputs=["solution.json"],
        )
        self._stage(
            "finetune",
            self._finetune,
            settings=common | {"training": asdict(config.finetune)},
            inputs=["dense.safetensors", "dense.json", "features.npz", "solution.json"],
            outputs=["model.safetensors", "model.json"],
        )
        models = ["dense.safetensors", "dense.json", "model.safetensors", "model.json"]
        self._stage(
            "metrics",
            self._measure,
            settings=images | {"n_per_class": config.problem.n_per_class},
            inputs=[*models, "features.npz", "solution.json"],
            outputs=["metrics.json"],
        )
        self._stage(
            "figures",
            self._draw,
            settings=images,
            inputs=models[2:],
            outputs=["figures/assignment.png", "figures/comparison.png"],
        )

    def _stage(self, name: str, run: Callable[[str], None], **dependencies: Any) -> None:
        self.observer.stage(name)
        if not self.directory.run_stage(name, run, **dependencies):
            self.observer.reused(name)

    def _create_backbone(self) -> Backbone:
        torch.manual_seed(self.config.seed)
        return create_backbone(
            self.config.arch,
            self.data.image_shape[0],
            reduced_strides=self.config.reduced_strides,
            weights=self.config.weights,
            adapter=self.adapter,
        )

    def _embed(self, key: str) -> None:
        backbone = self._create_backbone()
        for name, images in (("train", self.data.train), ("test", self.data.test)):
            path = self.directory / f"embeddings/{name}.npy"
            write_embeddings(path, backbone, images, self.spec.preprocessing, self.device)

    def _trainable(self, classifier: Classifier) -> tuple[Classifier, DataModule]:
        """The part of a classifier that is trained, and what that part sees."""
        if not self.config.frozen:
            return classifier, self.data
        paths = (self.directory / f"embeddings/{part}.npy" for part in ("train", "test"))
        return trained_part(classifier), EmbeddedData.of(self.data, *paths)

    def _train_dense(self, key: str) -> None:
        backbone = self._create_backbone()
        head = DenseHead(backbone.n_features, self.data.n_classes, self.config.dense.dropout)
        self._train("dense", Classifier(backbone, head), key, "dense.safetensors")

    def _finetune(self, key: str) -> None:
        classifier = self._assigned_classifier()
        self._train("finetune", classifier, key, "model.safetensors")

    def _train(self, stage: str, classifier: Classifier, key: str, output: str) -> None:
        config = self.config
        checkpoint = self.directory / f"{stage}.checkpoint"
        if not self.directory.resume:
            checkpoint.unlink(missing_ok=True)
        alone = config.runtime.n_devices == 1
        trainable, data = self._trainable(classifier)
        train(
            trainable,
            data,
            getattr(config, stage),
            seed=config.seed,
            runtime=config.runtime,
            checkpoint=checkpoint,
            key=key,
            on_epoch=_OnEpoch(
                self.directory, stage, self.observer if alone else None, self._tensorboard(stage)
            ),
        )
        save_classifier(self.directory / output, classifier, self.spec)
        checkpoint.unlink()

    def _tensorboard(self, stage: str) -> TensorBoardLog | None:
        if not self.config.runtime.tensorboard:
            return None
        return TensorBoardLog(self.directory / "tensorboard" / stage)

    def _extract(self, key: str) -> None:
        dense, _ = load_classifier(self.directory / "dense.safetensors")
        classifier, data = self._trainable(dense)
        found = extract_features(
            classifier,
            data.train,
            data.preprocessing,
            n_classes=self.data.n_classes,
            device=self.device,
        )
        with replace_on_success(self.directory / "features.npz") as temporary:
            with temporary.open("wb") as file:
                np.savez(
                    file,
                    features=found.features,
                    labels=found.labels,
                    locality=found.statistics.locality,
                    centre=found.statistics.centre,
                )

    def _build_problem(self, key: str) -> None:
        found = load_features(self.directory / "features.npz")
        sizes = self.config.problem
        problem = Problem.from_features(
            found.features,
            found.labels,
            class_similarity=sizes.class_similarity,
            bias=self.bias,
            bias_scale=sizes.bias_scale,
            locality=found.locality,
            centre=found.centre,
            n_classes=self.data.n_classes,
            n_selected=sizes.n_selected,
            n_per_class=sizes.n_per_class,
            seed=self.config.seed,
            name=self.data.name,
        )
        problem.save(self.directory / "problem.npz")

    def _bias_key(self) -> str | list[float]:
        """The bias by name or by its values: a file may change under its name."""
        return self.bias if isinstance(self.bias, str) else self.bias.tolist()

    def _solve(self, key: str) -> None:
        options = self.config.solve
        problem = Problem.load(self.directory / "problem.npz")
        result = solve(
            problem,
            method=options.method,
            solver=options.solver,
            time_limit=options.time_limit,
            threads=self.config.runtime.threads or None,
            seed=self.config.seed,
            on_progress=self.observer.solving,
        )
        if result.termination_condition is TerminationCondition.INTERRUPTED:
            raise KeyboardInterrupt  # of the run: what is started again solves again
        if result.assignment is None:
            raise NoAssignmentError(
                f"No assignment was found ({result.termination_condition}); raise the time limit "
                f"of {options.time_limit:g} s, n_selected, or lower n_per_class."
            )
        result.save(self.directory / "solution.json", problem)

    def _assigned_classifier(self) -> Classifier:
        """The dense model behind its assignment, before fine-tuning."""
        dense, _ = load_classifier(self.directory / "dense.safetensors")
        found = load_features(self.directory / "features.npz")
        statistics = statistics_from_features(found.features, found.labels)
        problem = Problem.load(self.directory / "problem.npz")
        assignment = Assignment.load(self.directory / "solution.json", problem)
        head = AssignmentHead.from_assignment(
            assignment, statistics.mean, statistics.std, self.config.finetune.dropout
        )
        return Classifier(dense.backbone, head)

    def _measure(self, key: str) -> None:
        dense, _ = load_classifier(self.directory / "dense.safetensors")
        model, _ = load_classifier(self.directory / "model.safetensors")
        k = self.config.problem.n_per_class
        metrics = {}
        for name, classifier in (
            ("dense", dense),
            ("before_finetuning", self._assigned_classifier()),
            (self.config.model, model),
        ):
            part, data = self._trainable(classifier)
            metrics[name] = evaluate(part, data, n_per_class=k, device=self.device)
        self._write_text("metrics.json", json.dumps(metrics, indent=1) + "\n")

    def _draw(self, key: str) -> None:
        model, spec = load_classifier(self.directory / "model.safetensors")
        figures = {
            "assignment": draw_assignment(model.head, spec.class_names),
            "comparison": draw_comparison(model, self.data.test, spec, device=self.device),
        }
        for name, figure in figures.items():
            with replace_on_success(self.directory / "figures" / f"{name}.png") as temporary:
                figure.savefig(temporary, format="png")

    def _write_text(self, name: str, text: str) -> None:
        with replace_on_success(self.directory / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def versions() -> dict[str, str]:
    """Versions of everything that a run depends on."""
    packages = ["torch", "torchvision", "lightning-fabric", "safetensors", "scikit-learn"]
    if "timm" in sys.modules:  # there, and used
        packages.append("timm")
    return package_versions() | {name: metadata.version(name) for name in packages}
