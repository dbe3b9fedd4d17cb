"""A run by its settings: the pipeline of the model that they name."""

from __future__ import annotations

import os
from dataclasses import replace

from qpm_nn.config import RunConfig
from qpm_nn.data import DataModule
from qpm_nn.devices import follow, is_follower, leading, n_started
from qpm_nn.pipelines.base import Observer, Pipeline
from qpm_nn.pipelines.dense import DensePipeline
from qpm_nn.pipelines.qpm import QPMPipeline
from qpm_nn.pipelines.qsenn import QSENNPipeline
from qpm_nn.pipelines.sparse import GlmSagaPipeline, SLDDPipeline
from qpm_nn.pipelines.stages import RunDirectory

#: One for every model of the settings.
PIPELINES: dict[str, type[Pipeline]] = {
    "qpm": QPMPipeline,
    "dense": DensePipeline,
    "glm_saga": GlmSagaPipeline,
    "sldd": SLDDPipeline,
    "qsenn": QSENNPipeline,
}


def run(
    config: RunConfig,
    out: str | os.PathLike[str],
    *,
    resume: bool = True,
    observer: Observer | None = None,
    data: DataModule | None = None,
) -> RunDirectory:
    """Run a model's pipeline in a directory, reusing what an earlier run with equal settings made.

    In processes that torchrun has started, the first one runs it, and the others take their parts
    in training and extraction; all must see the directory.

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
        If the solver finds no assignment within its limits (QPM only).
    """
    if n_started() > 1:
        config = replace(config, runtime=replace(config.runtime, n_devices=n_started()))
    if is_follower():
        follow(config.runtime)
        return RunDirectory(out)
    with leading(config.runtime):
        return PIPELINES[config.model](config, out, resume, observer or Observer(), data)()
