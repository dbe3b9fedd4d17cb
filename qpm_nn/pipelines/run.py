"""A run by its settings: the pipeline of the model that they name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from qpm_nn.config import DataConfig, RunConfig, RuntimeConfig
from qpm_nn.config_layers import make_config, read_config
from qpm_nn.data import DATA_SETS, DataModule, data_root
from qpm_nn.devices import follow, is_follower, leading, make_fabric, n_started
from qpm_nn.pipelines.chiqpm import ChiQPMPipeline
from qpm_nn.pipelines.dense import DensePipeline
from qpm_nn.pipelines.observer import Observer
from qpm_nn.pipelines.qpm import QPMPipeline
from qpm_nn.pipelines.qsenn import QSENNPipeline
from qpm_nn.pipelines.results import Pipeline
from qpm_nn.pipelines.sparse import GlmSagaPipeline, SLDDPipeline
from qpm_nn.pipelines.stages import RunDirectory
from qpm_opt import InvalidInputError

#: One for every model of the settings.
PIPELINES: dict[str, type[Pipeline]] = {
    "qpm": QPMPipeline,
    "dense": DensePipeline,
    "glm_saga": GlmSagaPipeline,
    "sldd": SLDDPipeline,
    "qsenn": QSENNPipeline,
    "chiqpm": ChiQPMPipeline,
}


def finished_pipeline(
    out: str | os.PathLike[str],
    observer: Observer | None,
    data: DataModule | None,
    root: str | os.PathLike[str] | None,
    **settings: Any,
) -> Pipeline:
    """The pipeline of a run that has ended, by the settings that it wrote and those that change.

    ``root`` takes the place of the folder of images, or of the one with the files of a named data
    set.

    Raises
    ------
    InvalidInputError
        If there are no settings, or the images are not there.
    """
    config = make_config(read_config(Path(out) / "config.toml"), settings)
    is_named = config.data.name in DATA_SETS
    if root is not None:
        moved = {"root" if is_named else "name": os.path.abspath(root)}
        config = replace(config, data=replace(config.data, **moved))
    if data is None and not is_named and not Path(config.data.name).is_dir():
        raise InvalidInputError(
            f"The images of {out} are not in {config.data.name}; give the folder that they are in "
            "by now (--root)."
        )
    here = replace(config, runtime=_on_one_device(config.runtime))
    pipeline = PIPELINES[config.model](here, out, True, observer or Observer(), data, finished=True)
    pipeline.config = config  # which is written again: the run goes on where it was
    return pipeline


def _on_one_device(runtime: RuntimeConfig) -> RuntimeConfig:
    """One device of the kind that a run was trained on, or any, if this machine has none."""
    one = replace(runtime, n_devices=1)
    try:
        make_fabric(one)
    except InvalidInputError:
        return replace(one, device="auto")
    return one


def calibrate(
    out: str | os.PathLike[str],
    *,
    observer: Observer | None = None,
    data: DataModule | None = None,
    root: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> RunDirectory:
    """Calibrate the prediction sets of a run anew; what else it has made stays.

    Parameters
    ----------
    out : path
        The run directory.
    observer, data
        As for :func:`run`.
    root : path, optional
        Where the images are, if no longer where the run had them: their folder, or the one that
        holds the files of a named data set.
    **settings
        What changes in the section ``conformal`` of the settings, such as ``alpha``.

    Raises
    ------
    InvalidInputError
        If there is no finished run, or the settings are unusable.
    """
    return finished_pipeline(out, observer, data, root, conformal=settings).calibrate()


def report(
    out: str | os.PathLike[str],
    *,
    observer: Observer | None = None,
    data: DataModule | None = None,
    root: str | os.PathLike[str] | None = None,
) -> RunDirectory:
    """Write the report of a finished run: ``report.html``, ``report.json`` and ``figures/``.

    Parameters
    ----------
    out : path
        The run directory.
    observer, data
        As for :func:`run`.
    root
        As for :func:`calibrate`.

    Raises
    ------
    InvalidInputError
        If there is no finished run, or its model uses all features for all classes.
    """
    return finished_pipeline(out, observer, data, root).report()


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
    config = replace(config, data=_from_anywhere(config.data))
    if n_started() > 1:
        config = replace(config, runtime=replace(config.runtime, n_devices=n_started()))
    if is_follower():
        follow(config.runtime)
        return RunDirectory(out)
    with leading(config.runtime):
        return PIPELINES[config.model](config, out, resume, observer or Observer(), data)()


def _from_anywhere(data: DataConfig) -> DataConfig:
    """The same images by absolute paths: what is done with a run may start in another folder."""
    if data.name in DATA_SETS and data.name != "digits":  # which are in a package
        return replace(data, root=os.path.abspath(data_root(data.root)))
    if Path(data.name).is_dir():
        return replace(data, name=os.path.abspath(data.name))
    return data
