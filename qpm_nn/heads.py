"""Heads: feature maps to logits; a classifier is a backbone with a head."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from qpm_opt import Assignment, InvalidInputError, Result
from qpm_opt.signs import signed_matrix


class Activations(NamedTuple):
    """What a classifier computes for a batch of images.

    Attributes
    ----------
    logits : Tensor of shape (n_images, n_classes)
    features : Tensor of shape (n_images, n_features)
        What the head's linear map sees, before dropout: pooled maps in a dense head, normalised
        pooled maps of the selected channels in the other heads, rectified if the head does that.
    maps : Tensor of shape (n_images, n_features, height, width)
        The feature maps, not normalised; of the selected channels if the head selects.
    """

    logits: Tensor
    features: Tensor
    maps: Tensor


class DenseHead(nn.Module):
    """Global average pooling, dropout and a linear map of all features."""

    def __init__(self, n_features: int, n_classes: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(n_features, n_classes)

    @property
    def weight(self) -> Tensor:
        """Weights of shape (n_classes, n_features)."""
        return self.linear.weight

    def forward(self, maps: Tensor) -> Activations:
        """Activations of maps (n_images, n_features, height, width), or vectors, without sides."""
        maps = _as_maps(maps)
        features = maps.mean((2, 3))
        return Activations(self.linear(self.dropout(features)), features, maps)


class _SelectedHead(nn.Module):
    """Few channels, pooled and normalised by fixed numbers; a subclass makes logits of them.

    Raises
    ------
    InvalidInputError
        If the shapes do not fit or a standard deviation is not positive.
    """

    selected: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self, selected: ArrayLike, mean: ArrayLike, std: ArrayLike, dropout: float
    ) -> None:
        super().__init__()
        selected = np.asarray(selected, np.int64)
        mean, std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
        n_selected = selected.size
        if mean.shape != (n_selected,) or std.shape != (n_selected,) or not (std > 0).all():
            raise InvalidInputError(
                f"mean and std have shapes {mean.shape} and {std.shape}; both must be "
                f"({n_selected},) with every std positive: a constant feature cannot be selected."
            )
        if not (np.isfinite(mean).all() and np.isfinite(std).all()):
            raise InvalidInputError(
                "mean and std hold numbers that are not finite; was a feature NaN or infinite?"
            )
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("selected", torch.from_numpy(selected))
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("std", torch.from_numpy(std))

    def normalise(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised features (n_images, n_selected), and the maps of the selected channels."""
        maps = _as_maps(maps)[:, self.selected]
        return (maps.mean((2, 3)) - self.mean) / self.std, maps


class AssignmentHead(_SelectedHead):
    """Every logit is the sum of the few normalised features assigned to its class.

    Features that are assigned negatively are subtracted. Nothing in it is trained: the selected
    channels, the mean and standard deviation that normalise them and the assignment are fixed, and
    there is no bias. Dropout acts on the normalised features, so a dropped feature counts as an
    average one.

    Parameters
    ----------
    selected : array of shape (n_selected,), int
        Channels of the backbone, ascending.
    assignment : array of shape (n_classes, n_selected), bool
        W restricted to the selected features; with negative assignments, its absolute value.
    mean, std : array of shape (n_selected,)
        Of the selected features of the dense model on the training images, without augmentation.
    dropout : float
    negative : array of shape (n_classes, n_selected), bool, optional
        Which of the assigned features are subtracted; none by default.
    relu : bool
        Whether features below their mean count as 0 (CHiQPM): they are inactive.

    Raises
    ------
    InvalidInputError
        If the shapes do not fit, a standard deviation is not positive or a feature is negative for
        a class that does not have it.
    """

    assignment: Tensor
    negative: Tensor | None

    def __init__(
        self,
        selected: ArrayLike,
        assignment: ArrayLike,
        mean: ArrayLike,
        std: ArrayLike,
        dropout: float = 0.1,
        negative: ArrayLike | None = None,
        *,
        relu: bool = False,
    ) -> None:
        assignment = np.ascontiguousarray(assignment, bool)
        n_selected = np.size(selected)
        if assignment.ndim != 2 or assignment.shape[1] != n_selected:
            raise InvalidInputError(
                f"assignment has shape {assignment.shape}; (n_classes, {n_selected}) was expected."
            )
        super().__init__(selected, mean, std, dropout)
        self.relu = relu
        self.register_buffer("assignment", torch.from_numpy(assignment))
        if negative is not None:
            negative = np.ascontiguousarray(negative, bool)
            if negative.shape != assignment.shape or (negative & ~assignment).any():
                raise InvalidInputError(
                    f"negative has shape {negative.shape}; {assignment.shape} was expected, True "
                    "for assigned features only."
                )
            negative = torch.from_numpy(negative)
        # None, as in every model without negative assignments, is not stored.
        self.register_buffer("negative", negative)

    @classmethod
    def from_assignment(
        cls,
        assignment: Assignment,
        mean: ArrayLike,
        std: ArrayLike,
        dropout: float = 0.1,
        sign: ArrayLike | None = None,
        *,
        relu: bool = False,
    ) -> AssignmentHead:
        """Head for an assignment.

        ``mean`` and ``std`` are of all features, (n_features,), ``sign`` of all classes and
        features, (n_classes, n_features): that of the similarities, if the problem has their
        absolute values (``negative``).
        """
        if np.shape(mean) != np.shape(std):
            raise InvalidInputError(
                f"mean and std have shapes {np.shape(mean)} and {np.shape(std)}; both must be of "
                "all features, (n_features,)."
            )
        chosen = assignment.selected
        negative = None if sign is None else signed_matrix(assignment, sign)[:, chosen] < 0
        return cls(
            chosen,
            assignment.matrix[:, chosen],
            np.asarray(mean)[chosen],
            np.asarray(std)[chosen],
            dropout,
            negative,
            relu=relu,
        )

    @classmethod
    def from_solution(
        cls,
        solution: Result | str | os.PathLike[str],
        mean: ArrayLike,
        std: ArrayLike,
        dropout: float = 0.1,
        sign: ArrayLike | None = None,
        *,
        relu: bool = False,
    ) -> AssignmentHead:
        """Head for what a solver found; ``mean`` and ``std`` are of all features, (n_features,).

        Parameters
        ----------
        solution : Result or path
            Of :func:`qpm_opt.solve`, or a solution file of ``qpm solve``, by whatever solver.
        mean, std : array of shape (n_features,)
            Of the features from which the problem was made.
        dropout : float
        sign : array of shape (n_classes, n_features), optional
            Of the similarities, if the problem has their absolute values (``negative``): solutions
            do not know it. A run keeps it in ``signs.npz``.
        relu : bool
            As in CHiQPM.

        Raises
        ------
        InvalidInputError
            If there is no assignment in it, or one of other features.
        """
        if not isinstance(solution, Result):
            assignment = Assignment.load(solution, np.asarray(mean).size)
        elif solution.assignment is None:
            raise InvalidInputError(
                f"The result holds no assignment ({solution.termination_condition}); raise the "
                "time limit."
            )
        else:
            assignment = solution.assignment
        if assignment.selection.shape != np.asarray(mean).shape:
            raise InvalidInputError(
                f"mean has shape {np.asarray(mean).shape}, but the assignment is of "
                f"{assignment.selection.size} features; give mean and std of all of them."
            )
        return cls.from_assignment(assignment, mean, std, dropout, sign, relu=relu)

    @property
    def weight(self) -> Tensor:
        """Weights of shape (n_classes, n_selected): 0 or 1, and -1 if assigned negatively."""
        weight = self.assignment.to(self.mean.dtype)
        return weight if self.negative is None else weight - 2 * self.negative

    @property
    def signed_assignment(self) -> NDArray[np.bool_]:
        """Assignment of the selected features and of their opposites, (n_classes, 2 n_selected)."""
        return _by_sign(self.weight)

    def forward(self, maps: Tensor) -> Activations:
        """Activations of maps (n_images, n_features, height, width), or vectors, without sides."""
        features, maps = self.normalise(maps)
        if self.relu:
            features = features.relu()
        return Activations(
            nn.functional.linear(self.dropout(features), self.weight), features, maps
        )


class SparseHead(_SelectedHead):
    """Every logit is a bias and a weighted sum of a few normalised features.

    Nothing in it is trained. (The published SLDD-Model and Q-SENN go on training mean and standard
    deviation.) Dropout acts as in :class:`AssignmentHead`.

    Parameters
    ----------
    selected : array of shape (n_selected,), int
        Channels of the backbone, ascending.
    weight : array of shape (n_classes, n_selected)
        Of the normalised features, most of them 0.
    bias : array of shape (n_classes,)
    mean, std : array of shape (n_selected,)
        Of the selected features on the training images, without augmentation.

    Raises
    ------
    InvalidInputError
        If the shapes do not fit or a standard deviation is not positive.

    References
    ----------
    Norrenbrock, Rudolph, Rosenhahn: Take 5: Interpretable Image Classification with a Handful of
    Features (2022).
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        selected: ArrayLike,
        weight: ArrayLike,
        bias: ArrayLike,
        mean: ArrayLike,
        std: ArrayLike,
        dropout: float = 0.1,
    ) -> None:
        weight = np.ascontiguousarray(weight, np.float32)
        bias = np.asarray(bias, np.float32)
        n_selected = np.size(selected)
        if weight.ndim != 2 or weight.shape[1] != n_selected or bias.shape != weight.shape[:1]:
            raise InvalidInputError(
                f"weight and bias have shapes {weight.shape} and {bias.shape}; "
                f"(n_classes, {n_selected}) and (n_classes,) were expected."
            )
        super().__init__(selected, mean, std, dropout)
        self.register_buffer("weight", torch.from_numpy(weight))
        self.register_buffer("bias", torch.from_numpy(bias))

    @property
    def signed_assignment(self) -> NDArray[np.bool_]:
        """Which features have a positive weight, which a negative: (n_classes, 2 n_selected)."""
        return _by_sign(self.weight)

    def forward(self, maps: Tensor) -> Activations:
        """Activations of maps (n_images, n_features, height, width), or vectors, without sides."""
        features, maps = self.normalise(maps)
        logits = nn.functional.linear(self.dropout(features), self.weight, self.bias)
        return Activations(logits, features, maps)


#: What a classifier can end in.
Head = DenseHead | AssignmentHead | SparseHead


def _by_sign(weight: Tensor) -> NDArray[np.bool_]:
    """Where weights are above 0, and beside it where they are below."""
    array = weight.cpu().numpy()
    return np.concatenate([array > 0, array < 0], axis=1)


def _as_maps(features: Tensor) -> Tensor:
    """Maps as they are; vectors as maps of one pixel."""
    return features[:, :, None, None] if features.ndim == 2 else features


class Classifier(nn.Module):
    """Backbone and head: normalised images to logits."""

    def __init__(self, backbone: nn.Module, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n_images, n_classes) of normalised images (n_images, channels, height, width)."""
        return self.activations(images).logits

    def activations(self, images: Tensor) -> Activations:
        """Logits, features and maps of normalised images."""
        return self.head(self.backbone(images))
