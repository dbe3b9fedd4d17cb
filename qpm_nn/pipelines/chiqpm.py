"""The pipeline of CHiQPM: that of QPM with contrastive pairs, rectified features and sets.

References
----------
CHiQPM: Calibrated Hierarchical Interpretable Image Classification, NeurIPS 2025.
"""

from __future__ import annotations

from qpm_nn.pipelines.qpm import QPMPipeline
from qpm_opt import InvalidInputError


class ChiQPMPipeline(QPMPipeline):
    """QPM whose classes have partners, with calibrated prediction sets of its hierarchy.

    What makes a run one of CHiQPM are the settings of its preset, the rectified features and the
    calibration at its end.
    """

    relu = True

    def check(self) -> None:
        """Refuse also what hierarchies do not have."""
        sizes = self.config.problem
        for name, wrong in (("negative", sizes.negative), ("sparsity", sizes.sparsity != "equal")):
            if wrong:
                raise InvalidInputError(
                    f"{name} is {getattr(sizes, name)}, but in the hierarchy of CHiQPM every class "
                    "has equally many features that speak for it; leave it out, or train a qpm."
                )
        super().check()

    def last_stages(self) -> None:
        """Also calibrate."""
        self.seen_stages()  # before: they stay when calibration changes
        self.calibration_stages()
        super().last_stages()
