"""Pipelines of the models with a sparse linear layer: glm-saga.

Their layers are points of the elastic net's path on standardised features
(:mod:`qpm_nn.sparse`). The file ``layer.npz`` holds one: ``selected`` (n_selected,), ``weight``
(n_classes, n_selected), ``bias`` (n_classes,), ``mean`` and ``std`` (n_selected,), as in
:class:`~qpm_nn.heads.SparseHead`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qpm_nn.explanations import draw_assignment
from qpm_nn.heads import Classifier, SparseHead
from qpm_nn.pipelines.base import DENSE, MODEL, Pipeline
from qpm_nn.sparse import densest_within, elastic_net_path, standardise
from qpm_opt import InvalidInputError
from qpm_opt.constants import load_features


class SparsePipeline(Pipeline):
    """Stages and files of all models with a sparse layer."""

    def classifier(self, backbone: str, layer: str, dropout: float) -> Classifier:
        """The backbone of a model of the run behind the layer in a file of it."""
        with np.load(self.directory / layer) as arrays:
            head = SparseHead(**arrays, dropout=dropout)
        return Classifier(self.load(backbone).backbone, head)

    def figures_stage(self) -> None:
        """The figure of the weights' signs."""
        self.stage(
            "figures", self._draw, settings={}, inputs=MODEL, outputs=["figures/assignment.png"]
        )

    def _draw(self, key: str) -> None:
        figure = draw_assignment(self.load("model").head, self.spec.class_names)
        self.write_figure("assignment", figure)
        self.directory.log(
            "figures",
            "left out",
            figure="comparison",
            reason="it contrasts classes as sets of features; weights with signs are no sets",
        )


class GlmSagaPipeline(SparsePipeline):
    """The densest sparse layer with n_per_class features a class on average, nothing fine-tuned.

    All features of the dense model may be used. It is the baseline glm-saga_5 of the QPM paper
    (table 2), by our own solver.
    """

    def check(self) -> None:
        """Refuse more features a class than there are."""
        n_per_class = self.config.problem.n_per_class
        if n_per_class > self.n_features:
            raise InvalidInputError(
                f"n_per_class is {n_per_class}, but {self.config.arch} has {self.n_features} "
                "features; take fewer."
            )

    def run_stages(self) -> None:
        """Fit the layer."""
        self.dense_stages()
        self.features_stage()
        self.stage(
            "layer",
            self._fit,
            settings={"model": "glm_saga", "n_per_class": self.config.problem.n_per_class},
            inputs=["features.npz"],
            outputs=["layer.npz"],
        )
        self.stage(
            "model", self._assemble, settings={}, inputs=[*DENSE, "layer.npz"], outputs=MODEL
        )
        self.metrics_stage([*DENSE, *MODEL])
        self.figures_stage()

    def classifiers(self) -> Mapping[str, Classifier]:
        """Dense and sparse."""
        return {"dense": self.load("dense"), "glm_saga": self.load("model")}

    def _fit(self, key: str) -> None:
        found = load_features(self.directory / "features.npz")
        n_per_class = self.config.problem.n_per_class
        standardised, mean, std = standardise(found.features)
        path = elastic_net_path(standardised, found.labels, max_per_class=n_per_class)
        fit = densest_within(path, n_per_class)
        selected = fit.features
        if not len(selected):
            raise InvalidInputError(
                f"The path has no layer between none and {n_per_class} features a class; raise "
                "n_per_class."
            )
        self.write_arrays(
            "layer.npz",
            selected=selected,
            weight=fit.weight[:, selected].toarray(),
            bias=fit.bias,
            mean=mean[selected],
            std=std[selected],
        )

    def _assemble(self, key: str) -> None:
        self.save(self.classifier("dense", "layer.npz", dropout=0.0), MODEL[0])
