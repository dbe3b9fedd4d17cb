"""Pipelines of the models with a sparse linear layer: glm-saga and the SLDD-Model.

Their layers are points of the elastic net's path on standardised features
(:mod:`qpm_nn.sparse`). The file ``layer.npz`` holds one: ``selected`` (n_selected,), ``weight``
(n_classes, n_selected), ``bias`` (n_classes,), ``mean`` and ``std`` (n_selected,), as in
:class:`~qpm_nn.heads.SparseHead`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from qpm_nn.explanations import (
    LastLayer,
    assignment_matrix,
    draw_assignment,
    feature_colours,
)
from qpm_nn.heads import Classifier, SparseHead
from qpm_nn.pipelines.base import DENSE, MODEL
from qpm_nn.pipelines.results import Pipeline
from qpm_nn.sparse import (
    EXCESS,
    ElasticNetFit,
    SparseLayer,
    densest_within,
    elastic_net_path,
    select_forward,
    sldd_layer,
    standardise,
)
from qpm_opt import InvalidInputError
from qpm_opt.constants import load_features


class SparsePipeline(Pipeline):
    """Stages and files of all models with a sparse layer."""

    def classifier(self, backbone: str, layer: str, dropout: float) -> Classifier:
        """The backbone of a model of the run behind the layer in a file of it."""
        with np.load(self.directory / layer) as arrays:
            head = SparseHead(**arrays, dropout=dropout)
        return Classifier(self.load(backbone).backbone, head)

    def path(
        self, features: ArrayLike, labels: ArrayLike, max_per_class: float = np.inf
    ) -> tuple[ElasticNetFit, ...]:
        """The elastic net's path, up to a number of features a class."""
        end = "" if np.isinf(max_per_class) else f" of at most {max_per_class:g}"
        return elastic_net_path(
            features,
            labels,
            max_per_class=max_per_class,
            on_fit=lambda fit: self.observer.fitting(
                f"{fit.n_per_class:.2f}{end} features a class"
            ),
        )

    def figures_stage(self) -> None:
        """The figure of the weights' signs."""
        self.stage(
            "figures", self._draw, settings={}, inputs=MODEL, outputs=["figures/assignment.png"]
        )

    def _draw(self, key: str) -> None:
        layer = LastLayer.of(self.load("model").head, self.spec.class_names)
        colours = feature_colours(layer.selected.tolist())
        figure = draw_assignment(assignment_matrix(layer), colours)
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
        self.report_stages()

    def classifiers(self) -> Mapping[str, Classifier]:
        """Dense and sparse."""
        return {"dense": self.load("dense"), "glm_saga": self.load("model")}

    def _fit(self, key: str) -> None:
        found = load_features(self.directory / "features.npz")
        n_per_class = self.config.problem.n_per_class
        standardised, mean, std = standardise(found.features)
        path = self.path(standardised, found.labels, n_per_class)
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


class SelectingPipeline(SparsePipeline):
    """Features selected first, then a sparse layer on these; a subclass says which, and trains."""

    def check(self) -> None:
        """Refuse more features than there are, in all or a class."""
        sizes = self.config.problem
        if not sizes.n_per_class <= sizes.n_selected <= self.n_features:
            raise InvalidInputError(
                f"n_per_class is {sizes.n_per_class} and n_selected {sizes.n_selected}; "
                f"n_per_class can be n_selected at most, and n_selected {self.n_features}, the "
                f"features of {self.config.arch}."
            )

    def selection_stage(self) -> None:
        """``selection.npz`` with ``selected`` (n_selected,)."""
        self.stage(
            "selection",
            self._select,
            settings={"method": "forward", "n_selected": self.config.problem.n_selected},
            inputs=["features.npz"],
            outputs=["selection.npz"],
        )

    def selected(self) -> np.ndarray:
        """Channels that were selected, ascending."""
        with np.load(self.directory / "selection.npz") as arrays:
            return arrays["selected"]

    def write_layer(self, name: str, features: ArrayLike, labels: ArrayLike) -> None:
        """Fit and write a layer on the selected features (n_images, n_selected)."""
        standardised, mean, std = standardise(features)
        layer = self.fit(standardised, labels)
        self.write_arrays(name, selected=self.selected(), **layer._asdict(), mean=mean, std=std)

    @abstractmethod
    def fit(self, features: ArrayLike, labels: ArrayLike) -> SparseLayer:
        """The model's layer on standardised features (n_images, n_selected)."""

    def _select(self, key: str) -> None:
        found = load_features(self.directory / "features.npz")
        standardised, _, _ = standardise(found.features)
        n_selected = self.config.problem.n_selected
        selection = select_forward(
            standardised,
            found.labels,
            n_selected,
            on_feature=lambda n: self.observer.fitting(f"{n} of {n_selected} features"),
        )
        self.write_arrays("selection.npz", selected=selection.features)


class SLDDPipeline(SelectingPipeline):
    """The SLDD-Model: a pruned sparse layer on selected features, fine-tuned behind it.

    The fixed layer keeps n_per_class features a class on average, whatever that number is; the
    public code keeps 5.

    References
    ----------
    Norrenbrock, Rudolph, Rosenhahn: Take 5: Interpretable Image Classification with a Handful of
    Features (2022).
    """

    def run_stages(self) -> None:
        """Select, fit, and fine-tune behind the layer."""
        self.dense_stages()
        self.features_stage()
        self.selection_stage()
        self.stage(
            "layer",
            self._fit_layer,
            settings={"model": "sldd", "n_per_class": self.config.problem.n_per_class},
            inputs=["features.npz", "selection.npz"],
            outputs=["layer.npz"],
        )
        self.finetune_stage(
            "finetune",
            self.config.finetune,
            self._before,
            inputs=[*DENSE, "layer.npz"],
            outputs=MODEL,
        )
        self.metrics_stage([*DENSE, *MODEL, "layer.npz"])
        self.figures_stage()
        self.report_stages()

    def classifiers(self) -> Mapping[str, Classifier]:
        """Dense, before and after fine-tuning."""
        return {
            "dense": self.load("dense"),
            "before_finetuning": self._before(),
            "sldd": self.load("model"),
        }

    def fit(self, features: ArrayLike, labels: ArrayLike) -> SparseLayer:
        """The layer of the SLDD-Model."""
        n_per_class = self.config.problem.n_per_class
        path = self.path(features, labels, EXCESS * n_per_class)
        return sldd_layer(path, n_per_class)

    def _fit_layer(self, key: str) -> None:
        found = load_features(self.directory / "features.npz")
        self.write_layer("layer.npz", found.features[:, self.selected()], found.labels)

    def _before(self) -> Classifier:
        return self.classifier("dense", "layer.npz", self.config.finetune.dropout)
