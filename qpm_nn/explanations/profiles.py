"""All about one feature: its classes, its images, its two states, what it resembles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qpm_nn.explanations.last_layer import LastLayer
from qpm_nn.explanations.plain import PlainData
from qpm_nn.metrics.alignment import FeatureAlignment
from qpm_nn.metrics.checks import FloatArray, as_mask
from qpm_nn.metrics.contrastiveness import TwoModes, two_modes
from qpm_nn.metrics.grounding import cosines
from qpm_opt import InvalidInputError

N_BINS, N_TOP = 40, 12
N_NEAREST, N_ATTRIBUTES = 5, 5


@dataclass(frozen=True)
class Mode(PlainData):
    """One of the two normals fitted to a feature: its weight, mean and standard deviation."""

    weight: float
    mean: float
    std: float


@dataclass(frozen=True)
class ProfileClass(PlainData):
    """A class that a feature is assigned to.

    Attributes
    ----------
    class_index : int
    class_name : str
    weight : float
        Negative if the feature counts against the class.
    mean : float or None
        Of the feature over the images of the class; None if there are none.
    """

    class_index: int
    class_name: str
    weight: float
    mean: float | None


@dataclass(frozen=True)
class TopImage(PlainData):
    """An image in which a feature is strong: its index, label and normalised feature."""

    index: int
    label: int
    value: float


@dataclass(frozen=True)
class NearFeature(PlainData):
    """A feature by its index in the backbone, and the cosine of the two over the images."""

    feature: int
    cosine: float


@dataclass(frozen=True)
class AlignedAttribute(PlainData):
    """An attribute and the alignment of a feature with it; see :class:`FeatureAlignment`."""

    attribute: int
    name: str
    alignment: float


@dataclass(frozen=True)
class FeatureProfile(PlainData):
    """A feature over some images.

    Attributes
    ----------
    feature : int
        By its index in the backbone.
    position : int
        Its column among the selected ones.
    classes : tuple of ProfileClass
        That have it, ascending.
    top_images : tuple of TopImage
        The strongest first.
    n_images : int
    mean, share_active : float
        Over the images; active is above 0.
    counts, edges : tuple
        Histogram: ``counts[i]`` images are from ``edges[i]`` to ``edges[i + 1]``.
    modes : tuple of Mode
        Off and on, the lower mean first; empty for a constant feature.
    contrastiveness : float
        Of this feature: 1 minus the overlap of the modes.
    nearest : tuple of NearFeature
        The most similar first.
    attributes : tuple of AlignedAttribute
        The best aligned first; empty if no attributes are given.
    """

    feature: int
    position: int
    classes: tuple[ProfileClass, ...]
    top_images: tuple[TopImage, ...]
    n_images: int
    mean: float
    share_active: float
    counts: tuple[int, ...]
    edges: tuple[float, ...]
    modes: tuple[Mode, ...]
    contrastiveness: float
    nearest: tuple[NearFeature, ...]
    attributes: tuple[AlignedAttribute, ...]


def feature_profiles(
    layer: LastLayer,
    features: ArrayLike,
    labels: ArrayLike,
    *,
    positions: Iterable[int] | None = None,
    present: ArrayLike | None = None,
    attribute_names: Sequence[str] | None = None,
    n_top: int = N_TOP,
) -> tuple[FeatureProfile, ...]:
    """Profiles of the selected features over images.

    Parameters
    ----------
    layer : LastLayer
    features : array of shape (n_images, n_selected)
        As the head normalises them.
    labels : array of shape (n_images,), int
    positions : iterable of int, optional
        Columns to describe; all by default.
    present : array of shape (n_images, n_attributes), bool, optional
        Which attributes each image has. Of attributes of classes give the rows of the labels.
    attribute_names : sequence of str, optional
        ``attribute 0``, ``attribute 1``, ... by default.
    n_top : int
        Images of each feature.

    Raises
    ------
    InvalidInputError
        If there are no images, shapes do not fit, a value is NaN or infinite, or there is no such
        column.
    """
    matrix = layer.images(features)
    classes = layer.labels(labels, len(matrix))
    modes = two_modes(matrix)
    n_images, n_selected = matrix.shape
    chosen = range(n_selected) if positions is None else list(positions)
    if any(not 0 <= j < n_selected for j in chosen):
        raise InvalidInputError(
            f"positions are {list(chosen)}; 0 to {n_selected - 1} were expected."
        )
    counts = np.bincount(classes, minlength=layer.n_classes)
    sums = np.zeros(layer.weight.shape)
    np.add.at(sums, classes, matrix)
    class_means = np.divide(
        sums, counts[:, None], out=np.full_like(sums, np.nan), where=counts[:, None] > 0
    )
    alike = cosines(matrix.T)
    alignment, names = _alignment(matrix, present, attribute_names)
    return tuple(
        FeatureProfile(
            feature=int(layer.selected[j]),
            position=j,
            classes=_classes(layer, j, class_means),
            top_images=_top(matrix[:, j], classes, n_top),
            n_images=n_images,
            mean=float(matrix[:, j].mean()),
            share_active=float((matrix[:, j] > 0).mean()),
            **_histogram(matrix[:, j]),
            modes=_modes(modes, j),
            contrastiveness=float(modes.separation[j]),
            nearest=_nearest(layer, alike[j], j),
            attributes=() if alignment is None else _attributes(alignment[:, j], names),
        )
        for j in chosen
    )


def _alignment(
    matrix: FloatArray, present: ArrayLike | None, names: Sequence[str] | None
) -> tuple[FloatArray | None, tuple[str, ...]]:
    if present is None:
        return None, ()
    n_attributes = np.shape(present)[-1]
    mask = as_mask("present", present, (len(matrix), n_attributes))
    known = [f"attribute {i}" for i in range(n_attributes)] if names is None else names
    if len(known) != n_attributes:
        raise InvalidInputError(
            f"There are {len(known)} attribute names; {n_attributes} were expected, one for each "
            "column of present."
        )
    alignment = FeatureAlignment(matrix.shape[1], n_attributes)
    alignment.update(matrix, mask)
    return alignment.matrix(), tuple(known)


def _classes(layer: LastLayer, j: int, means: FloatArray) -> tuple[ProfileClass, ...]:
    return tuple(
        ProfileClass(
            class_index=c,
            class_name=layer.class_names[c],
            weight=float(layer.weight[c, j]),
            mean=None if np.isnan(means[c, j]) else float(means[c, j]),
        )
        for c in np.flatnonzero(layer.weight[:, j]).tolist()
    )


def _top(values: FloatArray, labels: NDArray[np.intp], n: int) -> tuple[TopImage, ...]:
    order = np.argsort(-values, kind="stable")[:n].tolist()
    return tuple(TopImage(i, int(labels[i]), float(values[i])) for i in order)


def _histogram(values: FloatArray) -> dict[str, tuple[float, ...]]:
    n_bins = N_BINS if np.ptp(values) > 0 else 1
    counts, edges = np.histogram(values, n_bins)
    return {"counts": tuple(counts.tolist()), "edges": tuple(edges.tolist())}


def _modes(found: TwoModes, j: int) -> tuple[Mode, ...]:
    if np.isnan(found.means[j]).any():
        return ()
    order = np.argsort(found.means[j], kind="stable")
    columns = (part[j, order].tolist() for part in (found.weights, found.means, found.stds))
    return tuple(Mode(*values) for values in zip(*columns, strict=True))


def _nearest(layer: LastLayer, cosine: FloatArray, j: int) -> tuple[NearFeature, ...]:
    order = [i for i in np.argsort(-cosine, kind="stable").tolist() if i != j][:N_NEAREST]
    return tuple(NearFeature(int(layer.selected[i]), float(cosine[i])) for i in order)


def _attributes(alignment: FloatArray, names: Sequence[str]) -> tuple[AlignedAttribute, ...]:
    known = np.flatnonzero(~np.isnan(alignment))
    order = known[np.argsort(-alignment[known], kind="stable")][:N_ATTRIBUTES].tolist()
    return tuple(AlignedAttribute(i, str(names[i]), float(alignment[i])) for i in order)
