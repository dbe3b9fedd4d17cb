"""Settings of a run, their defaults and their ranges."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from qpm_opt import InvalidInputError
from qpm_opt.constants import BIAS_SCALE, ClassSimilarity, PairSource
from qpm_opt.errors import unknown_name
from qpm_opt.files import read_solution

#: Kinds of models, and what they are called.
MODELS = {
    "qpm": "QPM",
    "dense": "dense",
    "glm_saga": "glm-saga",
    "sldd": "SLDD-Model",
    "qsenn": "Q-SENN",
    "chiqpm": "CHiQPM",
}
PRECISIONS = ("32-true", "bf16-mixed")
SCHEDULES = ("cosine", "step", "rounds")
OPTIMIZERS = ("sgd", "adamw")
SPARSITIES = ("equal", "average")
PAIR_SOURCES = get_args(PairSource)
ConformalMethod = Literal["hierarchical", "chiqpm", "lac", "aps", "raps", "saps"]
IncludeTop1 = Literal["always", "if_empty", "never"]


@dataclass(frozen=True)
class DataConfig:
    """Which images.

    Attributes
    ----------
    name : str
        A known data set, or the path of a folder of images.
    root : str
        Folder with the files of a known data set; empty: ``QPM_DATA``, else the current folder.
    image_size, crop, on_corrupt, normalisation, memory, workers
        Of image files; see :func:`~qpm_nn.data.load_data`.
    augmentation : str
        What training images go through: ``dataset``, or one of
        :data:`~qpm_nn.data.augmentation.AUGMENTATIONS`.
    nested : bool
        Whether a folder of images has class folders below folders of their parents.
    """

    name: str = "digits"
    root: str = ""
    image_size: int = 64
    crop: bool = False
    on_corrupt: str = "fail"
    normalisation: str = "dataset"
    memory: float = 1.0
    workers: int = 4
    augmentation: str = "dataset"
    nested: bool = False


@dataclass(frozen=True)
class AdapterConfig:
    """Layers that are trained behind a frozen backbone.

    Attributes
    ----------
    depth : int
        Layers.
    width : int
        Outputs of each layer but the last.
    n_features : int
        Outputs of the last: the features to select from.
    """

    depth: int = 4
    width: int = 2048
    n_features: int = 512

    def __post_init__(self) -> None:
        for name in ("depth", "width", "n_features"):
            value = getattr(self, name)
            _require(value >= 1, name, value, "at least 1")

    @property
    def widths(self) -> tuple[int, ...]:
        """Outputs of each layer."""
        return (self.width,) * (self.depth - 1) + (self.n_features,)


@dataclass(frozen=True)
class TrainingConfig:
    """Gradient descent on cross entropy, feature diversity loss and sparsity of maps.

    Attributes
    ----------
    optimizer : str
        ``sgd`` or ``adamw``.
    epochs : int
        Of the dense model 0, too: its head is then the classification layer of the weights.
    batch_size : int
    accumulate : int
        Batches whose gradients make one step; the steps at the end of an epoch may have fewer.
    learning_rate : float
        At the end of the warm-up.
    head_factor : float
        Learning rate of the head's weights as a multiple of that of the backbone.
    schedule : str
        After the warm-up: along a ``cosine`` to zero, by ``step_factor`` every ``step_epochs``
        (``step``), or as in the public code of Q-SENN and CHiQPM (``rounds``): to 0.9, 0.81 and
        0.729 in the first three steps, then by ``step_factor``.
    step_epochs : int
    step_factor : float
    momentum : float
        Of ``sgd``, or the first beta of AdamW, whose second is 0.999.
    nesterov : bool
        Whether the momentum of ``sgd`` is that of Nesterov.
    weight_decay : float
        Of weights; normalisations and biases have none.
    warmup : float
        Part of all steps during which the learning rate rises, in [0, 1).
    diversity_weight : float
        beta of eq. 33.
    activation_weight : float
        Of the mean of all maps in the loss, which makes them sparse (the L1 losses of DINO-QPM).
    grounding_weight : float
        Of the feature grounding loss of CHiQPM, for fine-tuning behind an assignment.
    grounding_share : float
        Part of the epochs, the first ones, with that loss, in [0, 1].
    grounding_factor : float
        ``outside_factor`` of :func:`~qpm_nn.losses.feature_grounding_loss`.
    dropout : float
        Of the features, in [0, 1).
    """

    optimizer: str = "sgd"
    epochs: int = 40
    batch_size: int = 64
    accumulate: int = 1
    learning_rate: float = 0.1
    head_factor: float = 1.0
    schedule: str = "cosine"
    step_epochs: int = 30
    step_factor: float = 0.4
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    warmup: float = 0.1
    diversity_weight: float = 0.1
    activation_weight: float = 0.0
    grounding_weight: float = 0.0
    grounding_share: float = 1.0
    grounding_factor: float = 1.0
    dropout: float = 0.2

    def key(self) -> dict[str, Any]:
        """What training depends on, by name; what later versions have added, if it counts."""
        if not self.epochs:
            return {"epochs": 0, "dropout": self.dropout}
        settings = asdict(self)
        if not self.grounding_weight:
            for name in ("grounding_weight", "grounding_share", "grounding_factor"):
                del settings[name]
        if self.nesterov or self.optimizer != "sgd":
            del settings["nesterov"]
        return settings

    @property
    def grounding_epochs(self) -> int:
        """Epochs with the feature grounding loss, the first ones."""
        return round(self.grounding_share * self.epochs)

    def __post_init__(self) -> None:
        _require(self.epochs >= 0, "epochs", self.epochs, "at least 0")
        _require(self.batch_size >= 2, "batch_size", self.batch_size, "at least 2")
        _require(self.accumulate >= 1, "accumulate", self.accumulate, "at least 1")
        for name in ("learning_rate", "head_factor"):
            value = getattr(self, name)
            _require(0 < value < math.inf, name, value, "above 0 and finite")
        if self.optimizer not in OPTIMIZERS:
            raise unknown_name("optimizer", self.optimizer, OPTIMIZERS)
        if self.schedule not in SCHEDULES:
            raise unknown_name("schedule", self.schedule, SCHEDULES)
        _require(self.step_epochs >= 1, "step_epochs", self.step_epochs, "at least 1")
        _require(0 < self.step_factor <= 1, "step_factor", self.step_factor, "in (0, 1]")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "at least 0")
        for name in (
            "diversity_weight", "activation_weight", "grounding_weight", "grounding_factor",
        ):  # fmt: skip
            value = getattr(self, name)
            _require(0 <= value < math.inf, name, value, "at least 0 and finite")
        share = self.grounding_share
        _require(0 <= share <= 1, "grounding_share", share, "in [0, 1]")
        for name in ("momentum", "warmup", "dropout"):
            value = getattr(self, name)
            _require(0 <= value < 1, name, value, "in [0, 1)")


@dataclass(frozen=True)
class ProblemConfig:
    """Size of the explanation, and what the constants are made of.

    Attributes
    ----------
    n_selected, n_per_class : int
        Features in all, and features of every class (sparse models: on average). ``dense`` and
        ``glm_saga`` do not select; for ``dense`` n_per_class is just the k of SID@k.
    class_similarity : str
        ``correlation`` or ``auroc``, for A.
    bias : str
        ``locality``, ``centre``, ``class_independence``, or the path of a ``.npy`` file with what
        each feature is worth, for b.
    bias_scale : float
        lambda, the largest absolute value in b; 0: none.
    similarity_scale : float
        Largest penalty in R; 0: none.
    negative : bool
        Whether features may count against a class (:mod:`qpm_opt.signs`).
    sparsity : str
        Of ``qpm``: whether every class has n_per_class features (``equal``) or the mean class
        (``average``, :mod:`qpm_opt.average`).
    pair_density : float
        Contrastive pairs for each class, that is pairs of classes that differ in one feature.
    pairs : str
        Whether these are the pairs of most similar classes (``closest``), the same with each class
        in one of them at most (``disjoint``), or those of least cost (``any``); see
        :func:`qpm_opt.constants.problem_from_statistics`.
    """

    n_selected: int = 20
    n_per_class: int = 4
    class_similarity: str = "correlation"
    bias: str = "locality"
    bias_scale: float = BIAS_SCALE
    similarity_scale: float = 1.0
    negative: bool = False
    sparsity: str = "equal"
    pair_density: float = 0.0
    pairs: str = "closest"

    def key(self) -> dict[str, Any]:
        """What the problem depends on, by name; which pairs there are if there are any."""
        settings = asdict(self)
        if not self.pair_density:
            del settings["pair_density"], settings["pairs"]
        return settings

    def __post_init__(self) -> None:
        for name in ("n_selected", "n_per_class"):
            value = getattr(self, name)
            _require(value >= 1, name, value, "at least 1")
        if self.class_similarity not in get_args(ClassSimilarity):
            raise unknown_name("class_similarity", self.class_similarity, get_args(ClassSimilarity))
        if self.sparsity not in SPARSITIES:
            raise unknown_name("sparsity", self.sparsity, SPARSITIES)
        if self.pairs not in PAIR_SOURCES:
            raise unknown_name("source of pairs", self.pairs, PAIR_SOURCES)
        for name in ("bias_scale", "similarity_scale", "pair_density"):
            value = getattr(self, name)
            _require(0 <= value < math.inf, name, value, "at least 0 and finite")


@dataclass(frozen=True)
class SolveConfig:
    """Options of :func:`qpm_opt.solve`; the time limit is in seconds.

    Attributes
    ----------
    method, solver, time_limit
    assignment : str
        A solution file of the run's problem, such as of ``qpm what-if``, that is taken in the
        place of solving; empty: none.
    """

    method: str = "exact"
    solver: str = "highs"
    time_limit: float = 60.0
    assignment: str = ""

    def key(self) -> dict[str, Any]:
        """What the solution depends on, by name; of a solution that is given, what it holds."""
        if self.assignment:
            return {"assignment": read_solution(self.assignment)}
        return {name: value for name, value in asdict(self).items() if name != "assignment"}

    def __post_init__(self) -> None:
        _require(self.time_limit > 0, "time_limit", self.time_limit, "above 0")


@dataclass(frozen=True)
class ConformalConfig:
    """Prediction sets that are calibrated at the end of a run of CHiQPM.

    Attributes
    ----------
    method : str
        ``hierarchical``, ``chiqpm``, ``lac``, ``aps``, ``raps`` or ``saps``.
    alpha : float
        Miscoverage, between 0 and 1.
    share : float
        Part of the test images, chosen at random, that calibrate; the others measure the sets.
    class_conditional, include_top_1
        See :func:`qpm_nn.conformal.calibrate`.
    """

    method: str = "hierarchical"
    alpha: float = 0.1
    share: float = 0.5
    class_conditional: bool = False
    include_top_1: str = "always"

    def __post_init__(self) -> None:
        if self.method not in get_args(ConformalMethod):
            raise unknown_name("method of prediction sets", self.method, get_args(ConformalMethod))
        if self.include_top_1 not in get_args(IncludeTop1):
            raise unknown_name("include_top_1", self.include_top_1, get_args(IncludeTop1))
        for name in ("alpha", "share"):
            value = getattr(self, name)
            _require(0 < value < 1, name, value, "between 0 and 1")


@dataclass(frozen=True)
class RuntimeConfig:
    """Where to compute.

    Attributes
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda`` or another accelerator of Lightning Fabric.
    n_devices : int
        Devices that share every training step; the batch size is of each. Processes that torchrun
        has started count instead.
    precision : str
        One of ``PRECISIONS``.
    threads : int
        Of torch on the CPU and of the solver; 0: all.
    compile : bool
        Whether torch compiles the backbone for training, which takes minutes at its start; for
        GPUs, since CPUs gain nothing. As with threads, a model that is there is not made again for
        it, though its rounding may differ.
    tensorboard : bool
        Whether the epochs are written for TensorBoard, too.
    deterministic : bool
        Whether training on a GPU uses deterministic algorithms, as far as torch has them, so that a
        seed makes the same weights each time; otherwise the fastest. CPUs always do.
    """

    device: str = "auto"
    n_devices: int = 1
    precision: str = "32-true"
    threads: int = 0
    compile: bool = False
    tensorboard: bool = False
    deterministic: bool = True

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)
        _require(self.n_devices >= 1, "n_devices", self.n_devices, "at least 1")
        _require(0 <= self.threads <= 1024, "threads", self.threads, "from 0 to 1024")


@dataclass(frozen=True)
class RunConfig:
    """All settings of a run.

    Attributes
    ----------
    model : str
        One of ``MODELS``.
    arch, weights, reduced_strides
        Backbone, what it is trained from and its strides; see
        :func:`~qpm_nn.backbones.create_backbone`.
    frozen : bool
        Whether the backbone stays as its weights are and an adapter is trained behind it.
    seed : int
    adapter, data, dense, problem, solve, finetune, conformal, runtime
        Sections.
    """

    model: str = "qpm"
    arch: str = "convnet_small"
    weights: str = ""
    reduced_strides: bool = False
    frozen: bool = False
    seed: int = 16
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    data: DataConfig = field(default_factory=DataConfig)
    dense: TrainingConfig = field(default_factory=TrainingConfig)
    problem: ProblemConfig = field(default_factory=ProblemConfig)
    solve: SolveConfig = field(default_factory=SolveConfig)
    finetune: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(
            epochs=20, learning_rate=0.05, diversity_weight=0.3, dropout=0.05
        )
    )
    conformal: ConformalConfig = field(default_factory=ConformalConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise unknown_name("model", self.model, MODELS)
        _require(0 <= self.seed < 2**31, "seed", self.seed, "from 0 to 2147483647")
        epochs = self.finetune.epochs
        _require(epochs >= 1, "finetune.epochs", epochs, "at least 1")
        grounded = self.finetune.grounding_weight, self.dense.grounding_weight
        if grounded[1] or (grounded[0] and self.model != "chiqpm"):
            raise InvalidInputError(
                f"grounding_weight is {max(grounded)}, but the feature grounding loss is for the "
                "fine-tuning of chiqpm, whose features are rectified; leave it out, or give model "
                "chiqpm."
            )

    def to_toml(self) -> str:
        """TOML text that ``read_config`` turns into these settings again."""
        settings = asdict(self)
        lines = [f"{k} = {_toml(v)}" for k, v in settings.items() if not isinstance(v, dict)]
        for section, values in settings.items():
            if isinstance(values, dict):
                lines += ["", f"[{section}]"]
                lines += [f"{key} = {_toml(value)}" for key, value in values.items()]
        return "\n".join(lines) + "\n"


def _toml(value: str | int | float) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON's Infinity is no TOML
    return json.dumps(value, ensure_ascii=False)


def _require(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise InvalidInputError(f"{name} is {value}; it must be {expected}.")
