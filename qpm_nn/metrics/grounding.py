"""Whether classes that are similar in reality have similar weights."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from qpm_nn.metrics.checks import FloatArray, as_matrix
from qpm_opt import InvalidInputError


def structural_grounding(
    weights: ArrayLike | Tensor, attributes: ArrayLike | Tensor, *, n_pairs: int = 25
) -> float:
    """Similarity by weights of the classes that are most similar by attributes, relative to it.

    Needs no images: it is of the weights alone.

    Parameters
    ----------
    weights : array of shape (n_classes, n_features)
        Similarities are cosines of its rows. A class without features is similar to none (0).
    attributes : array of shape (n_classes, n_attributes)
        How much each attribute belongs to each class, on any scale; for CUB-2011 see
        :func:`~qpm_nn.data.cub_attributes.read_class_attributes`. A class without attributes is
        similar to none.
    n_pairs : int
        Number of most similar pairs of classes by attributes; all pairs if there are fewer. Of
        equally similar pairs those of the first classes count.

    Returns
    -------
    float
        At most 1 / the mean similarity by attributes; negative if the weights make the pairs
        opposites; NaN if the similarities by attributes do not sum to more than 0.

    Raises
    ------
    InvalidInputError
        If a value is NaN or infinite, or the numbers of classes differ.

    References
    ----------
    QPM paper, eq. 12.
    """
    model = as_matrix("weights", weights)
    truth = as_matrix("attributes", attributes)
    if len(truth) != len(model):
        raise InvalidInputError(
            f"attributes has {len(truth)} rows, but weights has {len(model)}; one row for each "
            "class was expected."
        )
    return most_similar_share(cosines(model), cosines(truth), n_pairs)


def text_grounding(
    weights: ArrayLike | Tensor, text_embeddings: ArrayLike | Tensor, *, n_pairs: int = 1250
) -> float:
    """:func:`structural_grounding` by embeddings of the class names instead of attributes.

    Parameters
    ----------
    weights : array of shape (n_classes, n_features)
    text_embeddings : array of shape (n_classes, n_dimensions)
        One for the name of each class. In the paper: the first name of each class of ImageNet-1K,
        by the text encoder of CLIP ViT-L/14. Similar words make similar embeddings, whatever they
        mean, so this is a weaker ground truth than attributes.
    n_pairs : int
        1250 in the paper, for 1000 classes.

    References
    ----------
    QPM paper, appendix I.
    """
    return structural_grounding(
        weights, as_matrix("text_embeddings", text_embeddings), n_pairs=n_pairs
    )


def cosines(rows: FloatArray) -> FloatArray:
    """Cosine similarities of all pairs of rows; one of zeros is similar to none."""
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, norm, out=np.zeros_like(rows), where=norm > 0)
    return unit @ unit.T


def most_similar_share(model: FloatArray, truth: FloatArray, n_pairs: int) -> float:
    """:func:`structural_grounding` of two matrices of similarities (n_classes, n_classes)."""
    if n_pairs < 1:
        raise InvalidInputError(f"n_pairs is {n_pairs}; a whole number from 1 on was expected.")
    pairs = np.triu_indices(len(model), 1)
    similarity = truth[pairs]
    most = np.argsort(-similarity, kind="stable")[:n_pairs]
    total = similarity[most].sum()
    return float(model[pairs][most].sum() / total) if total > 0 else math.nan
