"""The pipeline of the dense model alone: what the interpretable ones are compared with."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from qpm_nn.heads import Classifier
from qpm_nn.pipelines.base import DENSE, MODEL
from qpm_nn.pipelines.results import Pipeline
from qpm_opt.files import replace_on_success


class DensePipeline(Pipeline):
    """All features for all classes. The problem's n_per_class is still the k of SID@k."""

    def check(self) -> None:
        """Nothing beyond what all models check."""

    def run_stages(self) -> None:
        """Train and measure."""
        self.dense_stages()
        # Under its own name, too: other models in the same directory begin with it.
        self.stage("model", self._copy, settings={}, inputs=DENSE, outputs=MODEL)
        self.metrics_stage(MODEL)

    def classifiers(self) -> Mapping[str, Classifier]:
        """The dense one."""
        return {"dense": self.load("model")}

    def _copy(self, key: str) -> None:
        self.remove_results()
        for source, target in zip(DENSE, MODEL, strict=True):
            with replace_on_success(self.directory / target) as temporary:
                shutil.copyfile(self.directory / source, temporary)
