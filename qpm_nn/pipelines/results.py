"""What is done with a finished model: predictions, calibrated prediction sets, the report."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib import metadata
from typing import Any

import numpy as np
import torch

from qpm_nn.conformal import CALIBRATION_FORMAT, LEVEL_SHARE, HeldOut, save_calibration
from qpm_nn.explanations import as_svg
from qpm_nn.explanations.lettering import printable
from qpm_nn.metrics import attribute_similarity
from qpm_nn.pipelines.base import MODEL, REPORT, BasePipeline, settings_text
from qpm_nn.pipelines.calibration import (
    calibrate_and_measure,
    class_similarity,
    predictions,
    training_features,
)
from qpm_nn.pipelines.observer import ImageCounter
from qpm_nn.pipelines.stages import RunDirectory
from qpm_nn.pretrained import CALIBRATION
from qpm_nn.report import (
    DrawnFigure,
    ReportSource,
    html_page,
    read_studies,
    report_data,
    report_figures,
    study_files,
)
from qpm_nn.saving import ClassifierSpec, file_sha256, load_classifier
from qpm_opt import InvalidInputError, Problem


class Pipeline(BasePipeline):
    """A pipeline whose model predicts, is calibrated and reported on; see :class:`BasePipeline`."""

    def calibrate(self) -> RunDirectory:
        """Only calibrate what a run has made, and return the run directory."""
        settings = settings_text(self.config)
        with self.finished():
            self.calibration_stages()
            if (self.directory / REPORT[0]).exists():
                self.report_stages()
            self.write_text("config.toml", settings)
        return self.directory

    def report(self) -> RunDirectory:
        """Only report on what a run has made, always anew and with all figures."""
        with self.finished():
            self.directory.forget("report")
            self.report_stages()
            for found in report_figures(self.report_source(), self.device):
                self.write_drawn(found)
        return self.directory

    def write_drawn(self, found: DrawnFigure) -> None:
        """Write a figure as PNG and SVG, and what it shows as JSON."""
        figure, name = found.draw(), f"figures/{found.name}"
        self.write_figure(found.name, figure)
        self.write_text(f"{name}.svg", as_svg(figure, found.name))
        self.write_text(f"{name}.json", json.dumps(found.data.to_dict(), indent=1) + "\n")

    @contextlib.contextmanager
    def finished(self) -> Iterator[None]:
        """Keep others out of the directory of a run that has ended, with these very images."""
        with self.directory.locked():
            needed = [*MODEL, "metrics.json"]
            lacking = [name for name in needed if not (self.directory / name).exists()]
            if lacking:
                raise InvalidInputError(
                    f"{self.directory.path} has no {lacking[0]}; finish the run first: qpm run."
                )
            _, spec = load_classifier(self.directory / MODEL[0])
            if _of_images(spec) != _of_images(self.spec):
                raise InvalidInputError(
                    f"{self.directory.path} is of other images than {self.data.name}, or of other "
                    "class names; give those that it was trained with."
                )
            if self.config.runtime.threads:
                torch.set_num_threads(self.config.runtime.threads)
            yield

    def predictions_stage(self) -> None:
        """What the model says of the test images."""
        self.stage(
            "predictions",
            self._predict,
            settings=self.images | {"of_features": ["locality"]},
            inputs=MODEL,
            outputs=["predictions.npz"],
        )

    def calibration_stages(self) -> None:
        """Calibrated prediction sets, and their metrics."""
        self.predictions_stage()
        self.stage(
            "calibration",
            self._calibrate,
            settings=asdict(self.config.conformal)
            | {
                "seed": self.config.seed,
                "attributes": self._truth()["attributes"],
                "hierarchy": self.data.hierarchy,
                "format": CALIBRATION_FORMAT,
                "level_share": LEVEL_SHARE,
            },
            inputs=[*MODEL, "predictions.npz"],
            outputs=[CALIBRATION, "sets.json"],
        )

    def seen_stages(self) -> None:
        """What the model says of the test images, and its features of the training images."""
        self.predictions_stage()
        self.stage(
            "activations",
            self._see_training,
            settings=self.images,
            inputs=MODEL,
            outputs=["training_features.npz"],
        )

    def report_stages(self) -> None:
        """The report: a page, and all that it says as data."""
        self.seen_stages()
        solution = ["solution.json"] if (self.directory / "solution.json").exists() else []
        studies = [f"figures/{path.name}" for path in study_files(self.directory / "figures")]
        self.stage(
            "report",
            self._write_report,
            settings=self.images
            | asdict(self.config.conformal)
            | {
                "seed": self.config.seed,
                "model": self.config.model,
                "hierarchy": self.data.hierarchy,
                "qpm": metadata.version("qpm"),
                "level_share": LEVEL_SHARE,
            },
            inputs=[
                *MODEL,
                "predictions.npz",
                "training_features.npz",
                "metrics.json",
                *solution,
                *studies,
            ],
            outputs=REPORT,
        )

    def held_out(self) -> HeldOut:
        """What the model says of the test images."""
        arrays = self._arrays("predictions.npz")
        logits, labels, features = (
            torch.from_numpy(arrays[name]) for name in ("logits", "labels", "features")
        )
        return HeldOut.of(self.load("model").head, logits, labels, features)

    def _predict(self, key: str) -> None:
        part, data = self.trainable(self.load("model"))
        counter = ImageCounter(self.observer, len(data.test))
        self.write_arrays("predictions.npz", **predictions(part, data, self.device, counter))

    def _calibrate(self, key: str) -> None:
        chosen, measures = calibrate_and_measure(
            self.held_out(), self.config.conformal, self.data, seed=self.config.seed
        )
        model = file_sha256(self.directory / MODEL[1])
        save_calibration(self.directory / CALIBRATION, chosen, model)
        self.write_text("sets.json", json.dumps(measures, indent=1) + "\n")

    def _see_training(self, key: str) -> None:
        part, data = self.trainable(self.load("model"))
        counter = ImageCounter(self.observer, len(data.train))
        features = training_features(part, data, self.device, counter)
        self.write_arrays("training_features.npz", **features)

    def report_source(self) -> ReportSource:
        """What reports and figures are made of, once the model has seen the images."""
        solution = self.directory / "solution.json"
        hierarchy = tuple(tuple(map(printable, parents)) for parents in self.spec.hierarchy)
        return ReportSource(
            self.load("model"),
            replace(self.spec, hierarchy=hierarchy),
            self.data,
            self.config,
            test=self._arrays("predictions.npz"),
            training=self._arrays("training_features.npz"),
            metrics=self._json("metrics.json"),
            solution=self._json("solution.json") if solution.exists() else None,
            versions=self._json("versions.json"),
            similarity=self._class_similarity(),
        )

    def _write_report(self, key: str) -> None:
        source = self.report_source()
        studies = read_studies(
            self.directory / "figures",
            n_test=len(source.test["labels"]),
            n_train=len(source.data.train),
            n_classes=len(source.spec.class_names),
        )
        report, media = report_data(source, self.device, studies)
        text = json.dumps(report, ensure_ascii=False, allow_nan=False) + "\n"
        page = html_page(report, media)
        self.write_text("report.json", text)
        self.write_text("report.html", page)

    def _class_similarity(self) -> tuple[str, Any] | None:
        """What classes are alike by: attributes, a hierarchy, or rows of A."""
        known = class_similarity(self.data)
        if known is not None:
            return known
        if (self.directory / "problem.npz").exists():
            A = Problem.load(self.directory / "problem.npz").class_similarity
            return "features of the dense model", attribute_similarity(A)
        return None

    def _arrays(self, name: str) -> dict[str, Any]:
        with np.load(self.directory / name) as arrays:
            return dict(arrays)

    def _json(self, name: str) -> Any:
        return json.loads((self.directory / name).read_text(encoding="utf-8"))


def _of_images(spec: ClassifierSpec) -> ClassifierSpec:
    """Without what older models of the same images do not say: parents, and that ink is bright."""
    framing = replace(spec.preprocessing.framing, invert=False)
    return replace(spec, hierarchy=(), preprocessing=replace(spec.preprocessing, framing=framing))
