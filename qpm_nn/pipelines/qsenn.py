"""The pipeline of Q-SENN: a quantised sparse layer, fitted and fine-tuned behind, four times.

Features are selected once. Every iteration fits a layer on the selected features of the model so
far, reduces its weights to -scale, 0 and scale, and fine-tunes the backbone behind it.

References
----------
Norrenbrock, Rudolph, Rosenhahn: Q-SENN: Quantized Self-Explaining Neural Networks (2024).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from numpy.typing import ArrayLike

from qpm_nn.config import TrainingConfig
from qpm_nn.extraction import pooled_features
from qpm_nn.heads import Classifier
from qpm_nn.pipelines.base import DENSE, MODEL
from qpm_nn.pipelines.observer import ImageCounter
from qpm_nn.pipelines.sparse import SelectingPipeline
from qpm_nn.sparse import SparseLayer, qsenn_layer
from qpm_opt.constants import load_features

N_ITERATIONS = 4
#: Epochs of the iterations before the last, as a share of the last one's: published 10 and 40.
SHORT = 0.25
#: Factor of the learning rate from one iteration to the next.
DECAY = 0.9


def iterations(last: TrainingConfig) -> tuple[TrainingConfig, ...]:
    """Fine-tuning of every iteration: the published schedule, scaled to the settings.

    Parameters
    ----------
    last : TrainingConfig
        Of the last iteration, but for its learning rate, which is that of the first. With 40 epochs
        the iterations have 10, 10, 10 and 40, with learning rates times 1, 0.9, 0.81 and 0.729.
    """
    short = max(1, round(SHORT * last.epochs))
    epochs = [short] * (N_ITERATIONS - 1) + [last.epochs]
    return tuple(
        replace(last, epochs=n, learning_rate=last.learning_rate * DECAY**i)
        for i, n in enumerate(epochs)
    )


class QSENNPipeline(SelectingPipeline):
    """Iterations of fit, quantise and fine-tune.

    The public code of QPM normalises the features of later iterations twice; here mean and standard
    deviation are those of the features that the head sees.
    """

    def run_stages(self) -> None:
        """Select, then iterate."""
        self.dense_stages()
        self.features_stage()
        self.selection_stage()
        start, start_files = "dense", DENSE
        for i, training in enumerate(iterations(self.config.finetune), 1):
            if i > 1:
                self.stage(
                    f"features_{i}",
                    partial(self._extract_selected, start, f"features_{i}.npz"),
                    settings=self.images,
                    inputs=start_files,
                    outputs=[f"features_{i}.npz"],
                )
            features = "features.npz" if i == 1 else f"features_{i}.npz"
            self.stage(
                f"layer_{i}",
                partial(self._fit_layer, features, f"layer_{i}.npz"),
                settings={"model": "qsenn", "n_per_class": self.config.problem.n_per_class},
                inputs=[features, "selection.npz"],
                outputs=[f"layer_{i}.npz"],
            )
            name = "model" if i == N_ITERATIONS else f"iteration_{i}"
            files = [f"{name}.safetensors", f"{name}.json"]
            self.finetune_stage(
                f"finetune_{i}",
                training,
                partial(self.classifier, start, f"layer_{i}.npz", training.dropout),
                inputs=[*start_files, f"layer_{i}.npz"],
                outputs=files,
            )
            start, start_files = name, files
        self.metrics_stage([*DENSE, *MODEL, "layer_1.npz"])
        self.figures_stage()
        self.report_stages()

    def classifiers(self) -> Mapping[str, Classifier]:
        """Dense, behind the first layer, and after the last fine-tuning."""
        dropout = self.config.finetune.dropout
        return {
            "dense": self.load("dense"),
            "before_finetuning": self.classifier("dense", "layer_1.npz", dropout),
            "qsenn": self.load("model"),
        }

    def fit(self, features: ArrayLike, labels: ArrayLike) -> SparseLayer:
        """The quantised layer of the end of the path."""
        path = self.path(features, labels)
        layer = qsenn_layer(path[-1], self.config.problem.n_per_class)
        return SparseLayer(layer.scale * layer.sign, layer.bias)

    def _extract_selected(self, model: str, output: str, key: str) -> None:
        classifier, data = self.trainable(self.load(model))
        counter = ImageCounter(self.observer, len(data.train))
        features = pooled_features(classifier, data.train, data.preprocessing, self.device, counter)
        self.write_arrays(output, features=features, labels=data.train.labels.numpy())

    def _fit_layer(self, source: str, output: str, key: str) -> None:
        found = load_features(self.directory / source)
        # The dense model's features are all of its channels, later ones the selected alone.
        is_dense = source == "features.npz"
        features = found.features[:, self.selected()] if is_dense else found.features
        self.write_layer(output, features, found.labels)
