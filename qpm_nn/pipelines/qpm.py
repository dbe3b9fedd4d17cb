"""The pipeline of QPM: dense model, features, problem, solution, fine-tuning, metrics, figures.

References
----------
Norrenbrock et al., QPM: Discrete Optimization for Globally Interpretable Image Classification,
ICLR 2025, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from qpm_nn.explanations import (
    LastLayer,
    assignment_matrix,
    closest_pair,
    compare_classes,
    draw_assignment,
    draw_comparison,
    example_images,
    feature_colours,
)
from qpm_nn.heads import AssignmentHead, Classifier, SparseHead
from qpm_nn.pipelines.base import DENSE, MODEL
from qpm_nn.pipelines.results import Pipeline
from qpm_opt import (
    Assignment,
    InvalidInputError,
    Problem,
    QPMError,
    TerminationCondition,
    solve,
    verify,
)
from qpm_opt.average import solve_average
from qpm_opt.constants import auroc, load_bias, load_features, statistics_from_features
from qpm_opt.files import read_solution
from qpm_opt.optimize import check_method
from qpm_opt.pairs import n_pairs_of_density
from qpm_opt.result import copy_solution


class NoAssignmentError(QPMError, RuntimeError):
    """The solver ended without any assignment to train with."""


#: Of classes with equally many features.
FIGURES = ["assignment", "comparison"]


class QPMPipeline(Pipeline):
    """Features selected and assigned by the binary quadratic program.

    With negative assignments the file ``signs.npz`` holds the ``sign`` of A, (n_classes,
    n_features), which the problem no longer has. With average sparsity the head is a sparse one,
    because every class has a bias (:func:`class_bias`).
    """

    #: Whether features are rectified behind their normalisation.
    relu = False

    def check(self) -> None:
        """Refuse what the problem or the solver would refuse."""
        options, sizes = self.config.solve, self.config.problem
        check_method(options.method, options.solver)
        if sizes.sparsity == "average" and options.method != "exact":
            raise InvalidInputError(
                f"method is {options.method!r}, but sparsity 'average' is known to 'exact' alone; "
                "leave one of the two out."
            )
        if options.assignment and sizes.sparsity == "average":
            raise InvalidInputError(
                f"assignment is {options.assignment!r}, but with sparsity 'average' no file is "
                "taken for a solution; leave one of the two out."
            )
        n_pairs = n_pairs_of_density(
            sizes.pair_density, self.data.n_classes, disjoint=sizes.pairs == "disjoint"
        )
        if n_pairs and (sizes.negative or sizes.sparsity == "average"):
            raise InvalidInputError(
                f"pair_density is {sizes.pair_density}, but contrastive pairs are of classes with "
                "equally many features that speak for them; leave it, or negative and sparsity, "
                "out."
            )
        Problem(
            np.zeros((self.data.n_classes, self.n_features)),
            np.zeros((self.n_features, self.n_features)),
            n_selected=sizes.n_selected,
            n_per_class=sizes.n_per_class,
            min_contrastive_pairs=n_pairs,
        )

    def check_inputs(self) -> None:
        """Refuse a bias or an assignment that does not fit."""
        if self.config.solve.assignment:
            read_solution(self.config.solve.assignment)
        if not isinstance(self.bias, str) and len(self.bias) != self.n_features:
            raise InvalidInputError(
                f"{self.config.problem.bias} holds {len(self.bias)} numbers, but "
                f"{self.config.arch} has {self.n_features} features; one for each was expected."
            )

    @cached_property
    def bias(self) -> str | np.ndarray:
        """Name of the bias, or its values."""
        return load_bias(self.config.problem.bias)

    def run_stages(self) -> None:
        """Solve, and fine-tune behind the assignment."""
        config = self.config
        figures = ["assignment"] if config.problem.sparsity == "average" else FIGURES
        signs = ["signs.npz"] if config.problem.negative else []
        given, own = Path(config.solve.assignment), self.directory / "solution.json"
        if config.solve.assignment and own.exists() and given.samefile(own):
            raise InvalidInputError(
                f"{given} is what the run itself writes; leave the assignment out to keep it."
            )
        self.dense_stages()
        self.features_stage()
        self.stage(
            "problem",
            self._build_problem,
            settings=config.problem.key() | {"seed": config.seed, "bias": self._bias_key()},
            inputs=["features.npz"],
            outputs=["problem.npz", *signs],
        )
        self.stage(
            "solution",
            self._solve,
            settings=config.solve.key()
            | {
                "seed": config.seed,
                "threads": config.runtime.threads,
                "sparsity": config.problem.sparsity,
            },
            inputs=["problem.npz"],
            outputs=["solution.json"],
            extras=["solution.certificate.npz"],  # the method exact writes it
            check=self._check_assignment,
        )
        self.finetune_stage(
            "finetune",
            config.finetune,
            self._assigned,
            inputs=[*DENSE, "features.npz", "solution.json", *signs],
            outputs=MODEL,
            settings={"relu": True} if self.relu else {},
        )
        self.metrics_stage([*DENSE, *MODEL, "features.npz", "solution.json", *signs])
        self.stage(
            "figures",
            self._draw,
            settings=self.images,
            inputs=MODEL,
            outputs=[f"figures/{name}.png" for name in figures],
        )
        self.last_stages()

    def last_stages(self) -> None:
        """What comes after the figures."""
        self.report_stages()

    def classifiers(self) -> Mapping[str, Classifier]:
        """Dense, before and after fine-tuning."""
        return {
            "dense": self.load("dense"),
            "before_finetuning": self._assigned(),
            self.config.model: self.load("model"),
        }

    def _build_problem(self, key: str) -> None:
        found = load_features(self.directory / "features.npz")
        sizes = self.config.problem
        A: str | np.ndarray = sizes.class_similarity
        if sizes.negative:
            if A == "auroc":
                A = auroc(found.features, found.labels) - 0.5
            else:
                A = statistics_from_features(found.features, found.labels).class_similarity
            self.write_arrays("signs.npz", sign=np.sign(A).astype(np.int8))
        problem = Problem.from_features(
            found.features,
            found.labels,
            class_similarity=A,
            negative=sizes.negative,
            bias=self.bias,
            bias_scale=sizes.bias_scale,
            similarity_scale=sizes.similarity_scale,
            pair_density=sizes.pair_density,
            pairs=sizes.pairs,
            locality=found.locality,
            centre=found.centre,
            n_classes=self.data.n_classes,
            n_selected=sizes.n_selected,
            n_per_class=sizes.n_per_class,
            seed=self.config.seed,
            name=self.data.name,
        )
        problem.save(self.directory / "problem.npz")

    def _bias_key(self) -> str | list[float]:
        """The bias by name or by its values: a file may change under its name."""
        return self.bias if isinstance(self.bias, str) else self.bias.tolist()

    def _check_assignment(self) -> None:
        """Refuse an assignment that is no solution of the run's problem."""
        given = self.config.solve.assignment
        if not given:
            return
        outcome = verify(Problem.load(self.directory / "problem.npz"), given)
        if not outcome.accepted:
            raise InvalidInputError(
                f"{given} is no solution of the problem of this run: {outcome.rejections[0]}"
            )

    def _solve(self, key: str) -> None:
        options = self.config.solve
        problem = Problem.load(self.directory / "problem.npz")
        if options.assignment:
            copy_solution(options.assignment, self.directory / "solution.json")
            return
        limits: dict[str, Any] = {
            "time_limit": options.time_limit,
            "threads": self.config.runtime.threads or None,
            "seed": self.config.seed,
            "on_progress": self.observer.solving,
        }
        if self.config.problem.sparsity == "average":
            result = solve_average(problem, **limits)
        else:
            result = solve(problem, method=options.method, solver=options.solver, **limits)
        if result.termination_condition is TerminationCondition.INTERRUPTED:
            raise KeyboardInterrupt  # of the run: what is started again solves again
        if result.assignment is None:
            raise NoAssignmentError(
                f"No assignment was found ({result.termination_condition}); raise the time limit "
                f"of {options.time_limit:g} s or n_selected, or lower n_per_class or pair_density."
            )
        result.save(self.directory / "solution.json", problem)

    def _assigned(self) -> Classifier:
        """The dense model behind its assignment, before fine-tuning."""
        found = load_features(self.directory / "features.npz")
        statistics = statistics_from_features(found.features, found.labels)
        problem = Problem.load(self.directory / "problem.npz")
        assignment = Assignment.load(self.directory / "solution.json", problem)
        sign = None
        if self.config.problem.negative:
            with np.load(self.directory / "signs.npz") as arrays:
                sign = arrays["sign"]
        mean, std = statistics.mean, statistics.std
        dropout = self.config.finetune.dropout
        head: AssignmentHead | SparseHead
        head = AssignmentHead.from_assignment(assignment, mean, std, dropout, sign, relu=self.relu)
        if self.config.problem.sparsity == "average":
            chosen = assignment.selected
            W = head.weight.numpy()
            z = (found.features[:, chosen] - mean[chosen]) / std[chosen]
            bias = class_bias(W, z, found.labels)
            head = SparseHead(chosen, W, bias, mean[chosen], std[chosen], dropout)
        return Classifier(self.load("dense").backbone, head)

    def _draw(self, key: str) -> None:
        model, spec = self.load("model"), self.spec
        layer = LastLayer.of(model.head, spec.class_names)
        colours = feature_colours(layer.selected.tolist())
        self.write_figure("assignment", draw_assignment(assignment_matrix(layer), colours))
        if self.config.problem.sparsity == "average":
            reason = "it contrasts classes with equally many features"
            self.directory.log("figures", "left out", figure="comparison", reason=reason)
            return
        pair = closest_pair(model.head)
        examples = example_images(model, self.data.test, pair, spec, self.device)
        comparison = compare_classes(layer, pair, examples)
        self.write_figure("comparison", draw_comparison(comparison, colours))


def class_bias(weight: np.ndarray, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Biases that counteract different numbers of features, with average sparsity.

    The QPM paper (appendix G) makes the bias of a class linear in the number of features that it is
    below the average, and leaves the slope open: here it is what an assigned feature adds to the
    logit of an image of its class, on average, so that all classes reach equal logits on theirs.

    Parameters
    ----------
    weight : array of shape (n_classes, n_selected)
        W, its entries -1, 0 or 1.
    features : array of shape (n_images, n_selected)
        Normalised features of the training images.
    labels : array of shape (n_images,), int

    Returns
    -------
    array of shape (n_classes,)
    """
    member = labels == np.arange(len(weight))[:, None]
    class_mean = member @ features / member.sum(axis=1, keepdims=True)
    n_features = np.abs(weight).sum(axis=1)
    slope = (class_mean * weight).sum() / n_features.sum()
    return slope * (n_features.mean() - n_features)
