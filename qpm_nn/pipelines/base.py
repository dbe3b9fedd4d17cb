"""What the pipelines of all models share: a run directory, the dense model, features, metrics."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property, partial
from importlib import metadata
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from qpm_nn.backbones import (
    Backbone,
    classification_layer,
    create_backbone,
    map_shape,
    weights_key,
)
from qpm_nn.backbones.weights import IMAGENET
from qpm_nn.config import RunConfig, TrainingConfig
from qpm_nn.data import DataModule, load_data
from qpm_nn.devices import make_fabric
from qpm_nn.embedding import EmbeddedData, trained_part, write_embeddings
from qpm_nn.evaluation import evaluate
from qpm_nn.explanations.canvas import any_letters
from qpm_nn.extraction import extract_features
from qpm_nn.heads import Classifier, DenseHead
from qpm_nn.pipelines.observer import ImageCounter, Observer, OnEpoch
from qpm_nn.pipelines.stages import RunDirectory
from qpm_nn.pretrained import CALIBRATION
from qpm_nn.saving import ClassifierSpec, load_classifier, save_classifier
from qpm_nn.training import train
from qpm_nn.training_log import TensorBoardLog, summary_writer
from qpm_opt import InvalidInputError
from qpm_opt.files import replace_on_success
from qpm_opt.result import package_versions

logger = logging.getLogger(__name__)

#: Files of the dense model, and of the one that a run is for.
DENSE = ["dense.safetensors", "dense.json"]
MODEL = ["model.safetensors", "model.json"]
#: What ``qpm report`` writes beside figures.
REPORT = ["report.html", "report.json"]
#: Where ``qpm export`` writes if it is not told otherwise.
EXPORTED = "model.onnx"
#: What is made of a model, beside its report and figures.
RESULTS = [
    *("metrics.json", "predictions.npz", "training_features.npz"),
    *(CALIBRATION, "sets.json", EXPORTED),
]


class BasePipeline(ABC):
    """Stages of a run. A subclass says which, and makes what is special about its model.

    Parameters
    ----------
    config, out, resume, observer, data
        As for :func:`~qpm_nn.pipelines.run.run`.
    finished : bool
        Whether all stages of a run are done, so that what they were made from may be gone.

    Raises
    ------
    InvalidInputError
        If the settings or the data are unusable.
    """

    def __init__(
        self,
        config: RunConfig,
        out: str | os.PathLike[str],
        resume: bool,
        observer: Observer,
        data: DataModule | None,
        *,
        finished: bool = False,
    ) -> None:
        self.device = make_fabric(config.runtime).device
        if not finished:
            settings_text(config)  # refuses what cannot be written, before any work
        self.config = config
        self.observer = observer
        self.data = load_data(**asdict(config.data)) if data is None else data
        self.weights_key = "" if finished else weights_key(config.weights)
        is_coloured = self.data.image_shape[0] == 3
        if config.weights == IMAGENET and is_coloured and self.data.normalisation != "imagenet":
            logger.warning(
                "Published weights expect the normalisation of ImageNet, and the images have their "
                "own; give --normalisation imagenet (normalisation in the section data)."
            )
        self.adapter = config.adapter.widths if config.frozen else ()
        if config.frozen and not config.weights:
            raise InvalidInputError(
                "A frozen backbone with random weights sees nothing; give weights: imagenet, or a "
                "file."
            )
        if not config.dense.epochs and config.frozen:
            raise InvalidInputError(
                "dense.epochs is 0, but the adapter behind a frozen backbone has to be trained; "
                "take at least 1."
            )
        if not config.dense.epochs and not config.weights:
            raise InvalidInputError(
                "dense.epochs is 0, which takes the dense model from the weights, but there are "
                "none; give weights: imagenet, or a file, or take at least 1."
            )
        self.n_features, _, _ = map_shape(
            config.arch,
            self.data.image_shape,
            reduced_strides=config.reduced_strides,
            adapter=self.adapter,
        )
        self.check()
        if not finished:
            self.check_inputs()
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

    @abstractmethod
    def check(self) -> None:
        """Refuse before any training what would be refused after it."""

    def check_inputs(self) -> None:  # noqa: B027 - most models need no other files
        """Refuse unusable files that only a run needs, not what is done with its results."""

    @abstractmethod
    def run_stages(self) -> None:
        """Run the stages in their order."""

    @abstractmethod
    def classifiers(self) -> Mapping[str, Classifier]:
        """The classifiers to measure, by their names in ``metrics.json``."""

    def __call__(self) -> RunDirectory:
        """Run, and return the run directory."""
        config = self.config
        with self.directory.locked():
            if config.runtime.threads:
                torch.set_num_threads(config.runtime.threads)
            settings = self.directory / "config.toml"
            if settings.exists() and settings.read_text(encoding="utf-8") != config.to_toml():
                self.directory.settings_changed = True
            if self.directory.settings_changed and self.directory.has_stages:
                # Later: if it is killed before, the next one must still see other settings.
                self.directory.on_change = self._describe
            else:
                self._describe()
            self.run_stages()
            self._describe()  # if every stage was reused, nothing has called it
        return self.directory

    def _describe(self) -> None:
        """Write what the run is made with."""
        self.write_text("config.toml", settings_text(self.config))
        self.write_text("versions.json", json.dumps(versions(), indent=1) + "\n")

    @cached_property
    def images(self) -> dict[str, Any]:
        """Settings of every stage that sees images."""
        return {"data": self.data.sha256}

    def stage(self, name: str, run: Callable[[str], None], **dependencies: Any) -> None:
        """Run a stage or reuse its outputs, and tell the observer; see ``RunDirectory``."""
        self.observer.stage(name)
        if not self.directory.run_stage(name, run, **dependencies):
            self.observer.reused(name)

    def dense_stages(self) -> None:
        """The dense model; its embeddings before, if the backbone is frozen."""
        config = self.config
        backbone = {
            "arch": config.arch,
            "weights": self.weights_key,
            "reduced_strides": config.reduced_strides,
        }
        if config.frozen:
            self.stage(
                "embeddings",
                self._embed,
                settings=self.images | backbone,
                outputs=[f"embeddings/{part}.npy" for part in ("train", "test")],
            )
        # The embeddings follow from the images and the backbone.
        self.stage(
            "dense",
            self._train_dense,
            settings=self._training(config.dense) | backbone | {"adapter": self.adapter},
            outputs=DENSE,
        )

    def features_stage(self) -> None:
        """Features of the dense model on the training images."""
        self.stage(
            "features",
            self._extract,
            settings=self.images | {"of_features": ["locality", "centre"]},
            inputs=DENSE,
            outputs=["features.npz"],
        )

    def finetune_stage(
        self,
        name: str,
        training: TrainingConfig,
        start: Callable[[], Classifier],
        *,
        inputs: list[str],
        outputs: list[str],
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Training of what ``start`` makes of the inputs; the first output is the classifier."""
        self.stage(
            name,
            lambda key: self._train(name, training, start(), key, outputs[0]),
            settings=self._training(training) | dict(settings or {}),
            inputs=inputs,
            outputs=outputs,
        )

    def metrics_stage(self, inputs: list[str]) -> None:
        """Metrics of :meth:`classifiers`, which follow from the inputs."""
        self.stage(
            "metrics",
            self._measure,
            settings=self.images
            | {
                "n_per_class": self.config.problem.n_per_class,
                "model": self.config.model,
            }
            | self._truth(),
            inputs=inputs,
            outputs=["metrics.json"],
        )

    def _truth(self) -> dict[str, str]:
        """Hashes of what people say about the images, as far as metrics depend on it."""
        attributes, masks = self.data.class_attributes, self.data.test_masks
        held = {"attributes": ""}
        if attributes is not None:
            held["attributes"] = hashlib.sha256(attributes.tobytes()).hexdigest()
        if masks is not None:
            digest = hashlib.sha256()
            masks.update_digest(digest)
            held["masks"] = digest.hexdigest()
        return held

    def load(self, name: str) -> Classifier:
        """A classifier of the run: ``dense``, ``model``."""
        return load_classifier(self.directory / f"{name}.safetensors")[0]

    def save(self, classifier: Classifier, file: str) -> None:
        """Write a classifier of the run, with the file that describes it."""
        if file == MODEL[0]:
            self.remove_results()
        save_classifier(self.directory / file, classifier, self.spec)

    def remove_results(self) -> None:
        """Remove what was made of the model before, which another one replaces."""
        for name in (*RESULTS, *REPORT):
            (self.directory / name).unlink(missing_ok=True)
        for kind in ("png", "svg", "json"):
            for drawn in (self.directory / "figures").glob(f"*.{kind}"):
                drawn.unlink()

    def trainable(self, classifier: Classifier) -> tuple[Classifier, DataModule]:
        """The part of a classifier that is trained, and what that part sees."""
        if not self.config.frozen:
            return classifier, self.data
        paths = (self.directory / f"embeddings/{part}.npy" for part in ("train", "test"))
        return trained_part(classifier), EmbeddedData.of(self.data, *paths)

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the run."""
        with replace_on_success(self.directory / name) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def write_arrays(self, name: str, **arrays: Any) -> None:
        """Write an ``.npz`` file of the run."""
        with replace_on_success(self.directory / name) as temporary:
            with temporary.open("wb") as file:
                np.savez(file, **arrays)

    def write_figure(self, name: str, figure: Figure) -> None:
        """Write ``figures/<name>.png``."""
        with replace_on_success(self.directory / "figures" / f"{name}.png") as temporary:
            with any_letters():
                figure.savefig(temporary, format="png")

    def _training(self, training: TrainingConfig) -> dict[str, Any]:
        """Settings of a stage that trains."""
        if not training.epochs:
            return self.images | {"training": training.key()}
        return self.images | {
            "seed": self.config.seed,
            "n_devices": self.config.runtime.n_devices,
            "precision": self.config.runtime.precision,
            "training": training.key(),
        }

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
        counter = ImageCounter(self.observer, len(self.data.train) + len(self.data.test))
        for name, images in (("train", self.data.train), ("test", self.data.test)):
            path = self.directory / f"embeddings/{name}.npy"
            write_embeddings(path, backbone, images, self.spec.preprocessing, self.device, counter)

    def _train_dense(self, key: str) -> None:
        backbone = self._create_backbone()
        head = DenseHead(backbone.n_features, self.data.n_classes, self.config.dense.dropout)
        classifier = Classifier(backbone, head)
        if self.config.dense.epochs:
            self._train("dense", self.config.dense, classifier, key, DENSE[0])
        else:
            self._take_layer(classifier)
            self.save(classifier, DENSE[0])

    @torch.no_grad()
    def _take_layer(self, classifier: Classifier) -> None:
        """Make the classification layer of the weights the head; warn if it saw other features."""
        config, backbone, linear = self.config, classifier.backbone, classifier.head.linear
        found = classification_layer(backbone, config.weights, config.arch, self.data.n_classes)
        for own, given in zip((linear.weight, linear.bias), found, strict=True):
            own.copy_(given)
        images = torch.randn(2, *self.data.image_shape)
        backbone.eval()
        features, expected = backbone(images).mean((2, 3)), backbone.classified(images)
        if not torch.allclose(features, expected, rtol=1e-3, atol=1e-3 * float(expected.std())):
            logger.warning(
                "The classification layer of %s sees other features in its network than the means "
                "of maps without negative values, which it has here; see what its accuracy is.",
                config.arch,
            )

    def _train(
        self, stage: str, training: TrainingConfig, classifier: Classifier, key: str, output: str
    ) -> None:
        runtime = self.config.runtime
        checkpoint = self.directory / f"{stage}.checkpoint"
        if not self.directory.resume:
            checkpoint.unlink(missing_ok=True)
        trainable, data = self.trainable(classifier)
        train(
            trainable,
            data,
            training,
            seed=self.config.seed,
            runtime=runtime,
            checkpoint=checkpoint,
            key=key,
            on_epoch=OnEpoch(self.directory, stage, self.observer, self._tensorboard(stage)),
            on_batch=partial(self.observer.batch, stage),
        )
        self.save(classifier, output)
        checkpoint.unlink()

    def _tensorboard(self, stage: str) -> TensorBoardLog | None:
        if not self.config.runtime.tensorboard:
            return None
        return TensorBoardLog(self.directory / "tensorboard" / stage)

    def _extract(self, key: str) -> None:
        classifier, data = self.trainable(self.load("dense"))
        found = extract_features(
            classifier,
            data.train,
            data.preprocessing,
            n_classes=self.data.n_classes,
            runtime=self.config.runtime,
            on_images=ImageCounter(self.observer, len(data.train)),
        )
        self.write_arrays(
            "features.npz",
            features=found.features,
            labels=found.labels,
            locality=found.statistics.locality,
            centre=found.statistics.centre,
        )

    def _measure(self, key: str) -> None:
        found = {}
        classifiers = self.classifiers()
        n_images = len(self.data.train) + len(self.data.test)
        counter = ImageCounter(self.observer, len(classifiers) * n_images)
        for name, classifier in classifiers.items():
            part, data = self.trainable(classifier)
            found[name] = evaluate(
                part,
                data,
                n_per_class=self.config.problem.n_per_class,
                device=self.device,
                on_images=counter,
            )
        self.write_text("metrics.json", json.dumps(found, indent=1) + "\n")


def settings_text(config: RunConfig) -> str:
    """Content of ``config.toml``.

    Raises
    ------
    InvalidInputError
        If it holds a path that is no text.
    """
    text = config.to_toml()
    try:
        text.encode()
    except UnicodeEncodeError as failure:
        name = text[: failure.start].rpartition("\n")[2].partition(" = ")[0]
        raise InvalidInputError(
            f"{name} is a path that is not valid UTF-8, which config.toml cannot hold; rename the "
            "folder or file."
        ) from None
    return text


def versions() -> dict[str, str]:
    """Versions of everything that a run depends on."""
    packages = ["torch", "torchvision", "lightning-fabric", "safetensors", "scikit-learn"]
    if "timm" in sys.modules:  # there, and used
        packages.append("timm")
    return package_versions() | {name: metadata.version(name) for name in packages}
